"""The one place that names every method: photos, a clip or a recording in, an avatar out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError

Method = Literal["lift", "lam", "gagavatar"]
Size = Literal["5k", "20k", "80k"]
Source = str | os.PathLike[str] | np.ndarray | Frame
"""A photo, a clip or a recording: a path, a picture, or a frame that is tracked already."""
Restyle = str | Callable[[np.ndarray], np.ndarray]
"""The name of a style, or a function of the tracked crop, (H, W, 3) 0..1."""
_PICTURES = (".jpg", ".jpeg", ".png", ".heic", ".webp")


def reconstruct(
    photo: Source | Sequence[Source],
    method: Method = "lift",
    *,
    gaussians: Size = "80k",
    refine: int = 80,
    views: int = 8,
    tolerant: bool = False,
    face: int | None = None,
    restyle: Restyle | None = None,
    weights: str | os.PathLike[str] | None = None,
    flame: str | os.PathLike[str] | None = None,
    flame_shape: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Avatar:
    """Turn a photo of a person, several photos, a clip or a recording into an avatar.

    Args:
        photo: a file, an image (H, W, 3) in 0..1 or 8-bit, a frame already tracked, a video, or the folder of
            a tracked recording; or several of these of one person (lift).
        method: `lift` needs no training and no GPU; `lam` and `gagavatar` need a checkpoint.
        gaussians: about how many Gaussians (lift; elsewhere the checkpoint says).
        refine: refinement steps on what the photo shows; 0 for none (lift).
        views: how many frames of a clip or a recording to use (lift).
        tolerant: leave out those of several photos that cannot be used; `info` then names them in `left_out`.
        face: which face if the photo shows several, counted from the left, 1 is the first.
        restyle: draw, paint or grade the photo first: a key of `headsplat.data.restyle.STYLES`, or a function
            of the tracked crop, (H, W, 3) 0..1, such as `partial(headsplat.data.prompt.edit, ...)`; what it
            returns is tracked anew.
        weights: the checkpoint: .safetensors, or GAGAvatar.pt as released (lam, gagavatar).
        flame: the FLAME file, if the checkpoint is on FLAME and holds no copy (lam: flame2023.pkl,
            gagavatar: FLAME_with_eye.pt).
        flame_shape: canonical_flame_param.npz or its folder with this person's FLAME shape, if known (lam).
        device: "cpu" or "cuda", where the network runs (lam, gagavatar).
        progress: called with 0..1 as the work proceeds.

    Returns:
        The avatar. Its `info` holds `head` (name and shape of the head model), `landmark_error` (share of the
        distance of the outer eye corners), `confidence` 0..1, `seconds` spent without imports and, where the
        head is the free one, `source_psnr` in dB inside the matte and `matte_iou`. Of several photos they
        are those of the main one, which the avatar looks like; `photos` is their number and `photo_psnr`
        the dB of each.

    Raises:
        HeadsplatError: the photo cannot be read or shows no usable face, or a setting is out of range.
    """
    if refine < 0 or refine > 10_000:
        raise HeadsplatError(f"{refine} refinement steps make no sense; give 0 to 10000 (80 is usual).")
    tell = progress or (lambda _: None)
    start = perf_counter()
    match method:
        case "lift":
            options = {"views": views, "tolerant": tolerant, "face": face}
            avatar, frame = _by_lift(photo, gaussians, refine, restyle, tell, **options)
        case "lam":
            avatar, frame = _by_lam(photo, face, restyle, weights, flame, flame_shape, device, tell)
        case "gagavatar":
            avatar, frame = _by_gagavatar(photo, face, restyle, weights, flame, device, tell)
        case _:
            raise HeadsplatError(f"There is no method named {method!r}; there are lift, lam and gagavatar.")
    info = {
        # Which head lies under the Gaussians, so that exports can give it as a mesh.
        "head": {"model": "free", "shape": [round(float(beta), 5) for beta in frame.shape]},
        "landmark_error": float(frame.landmark_error),
        "confidence": float(frame.confidence),
        "seconds": perf_counter() - start,
    }
    return replace(avatar, info={**info, **avatar.info})


def refine(
    avatar: Avatar,
    photo: Source | Sequence[Source],
    *,
    steps: int = 80,
    views: int = 8,
    tolerant: bool = False,
    face: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Avatar:
    """Improve an avatar with further photos of the same person; its identity is kept.

    Args:
        avatar: a rig avatar that knows its head, as `reconstruct` with `lift` makes them.
        photo: see `reconstruct`.
        steps: refinement steps for one photo; more photos take more.
        views: how many frames of a clip or a recording to use.
        tolerant: leave out those of several photos that cannot be used; `info` then names them.
        face: which face if the photo shows several, counted from the left.
        progress: called with 0..1.

    Returns:
        The avatar; `info["refined"]` holds `photos`, and `psnr_before` and `psnr_after` of each, dB.

    Raises:
        HeadsplatError: an avatar without its head, or photos as with `reconstruct`.
    """
    from headsplat.methods import lift
    from headsplat.track.photometric import fit_frame

    if not 0 < steps <= 10_000:
        raise HeadsplatError(f"{steps} refinement steps make no sense; give 1 to 10000 (80 is usual).")
    avatar.need_rig("refinement")
    head = avatar.info.get("head")
    if not isinstance(head, dict) or head.get("model") != "free" or not isinstance(head.get("shape"), list):
        raise HeadsplatError(
            "This avatar does not know the head it was made on; only those of the method lift can be refined."
        )
    tell = progress or (lambda _: None)
    start = perf_counter()
    shape = np.array(head["shape"], np.float32)
    frames, left_out = track_all(
        photo,
        views=views,
        face=face,
        tolerant=tolerant,
        shape=shape,
        progress=lambda done: tell(0.3 * done),
    )
    for i, frame in enumerate(frames):  # to where the avatar itself looks most like the photo
        frames[i] = fit_frame(avatar, frame)
        tell(0.3 + 0.1 * (i + 1) / len(frames))
    better = lift.renew(avatar, frames, steps, progress=lambda done: tell(0.4 + 0.6 * done))
    refined = {**better.info["refined"], "seconds": perf_counter() - start}
    if left_out:
        refined["left_out"] = left_out
    return replace(better, info={**better.info, "refined": refined})


def track_all(
    sources: Source | Sequence[Source],
    *,
    views: int = 8,
    face: int | None = None,
    tolerant: bool = False,
    shape: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Frame], list[str]]:
    """Frames of one person out of photos, clips and recordings, around one identity, the main one first.

    Args:
        sources: see `reconstruct`; frames tracked already must share one identity.
        views: how many frames of a clip or a recording.
        face: which face if there are several, counted from the left.
        tolerant: leave out photos that cannot be used.
        shape: (S,) the person's identity where it is known; it is kept then.
        progress: called with 0..1.

    Returns:
        The frames, and a sentence about each photo left out.

    Raises:
        HeadsplatError: nothing usable, or something is not usable and not `tolerant`.
    """
    from headsplat.track import track_photo
    from headsplat.track.photos import share_identity, track_clip, track_photos, with_identity

    if not 1 <= views <= 64:
        raise HeadsplatError(f"{views} views make no sense; give 1 to 64 (8 is usual).")
    tell = progress or (lambda _: None)
    many = isinstance(sources, Sequence) and not isinstance(sources, str)
    parts: list[Source] = list(sources) if many else [sources]  # type: ignore[arg-type]
    if not parts:
        raise HeadsplatError("There is no photo to make an avatar of; give at least one.")
    photos = [part for part in parts if not isinstance(part, Frame) and _kind(part) == "photo"]
    if len(parts) == len(photos) == 1 and shape is None:
        return [track_photo(photos[0], face=face)], []
    tracked = [part for part in parts if isinstance(part, Frame)]
    groups = [tracked] if tracked else []
    for part in parts:
        if isinstance(part, Frame) or isinstance(part, np.ndarray):
            continue
        if _kind(part) == "clip":
            groups.append(track_clip(part, views, face=face, progress=tell))
        elif _kind(part) == "recording":
            groups.append(_frames_of_recording(Path(part), views))
    left_out: list[str] = []
    if photos:
        frames, missing = track_photos(photos, face=face, tolerant=tolerant, shape=shape, progress=tell)
        left_out = [f"{_name_of(photos[i], i)}: {reason}" for i, reason in missing]
        groups.append(frames)
    frames = [frame for group in groups for frame in group]
    if shape is not None:
        return with_identity(frames, shape), left_out
    # Each group has one identity already; several have to agree on one, unless they do.
    agree = all(np.array_equal(frame.shape, frames[0].shape) for frame in frames)
    return (frames if agree else share_identity(frames)), left_out


def _by_lift(
    photo: Source | Sequence[Source],
    gaussians: Size,
    steps: int,
    restyle: Restyle | None,
    tell: Callable[[float], None],
    **options: Any,
) -> tuple[Avatar, Frame]:
    """The avatar and the main frame; see `reconstruct`, and `track_all` for the options."""
    from headsplat.methods import lift

    sizes = {"5k": lift.lift_5k, "20k": lift.lift_20k, "80k": lift.lift_80k}
    if gaussians not in sizes:
        raise HeadsplatError(f"There is no size {gaussians!r}; choose one of {', '.join(sizes)}.")
    frames, left_out = track_all(photo, progress=lambda done: tell(0.3 * done), **options)
    frames = [_restyled(frame, restyle) for frame in frames]
    avatar = lift.reconstruct(frames, sizes[gaussians](steps), progress=lambda done: tell(0.3 + 0.7 * done))
    if left_out:
        avatar = replace(avatar, info={**avatar.info, "left_out": left_out})
    return avatar, frames[0]


def _by_lam(
    photo: Source | Sequence[Source],
    face: int | None,
    restyle: Restyle | None,
    weights: str | os.PathLike[str] | None,
    flame: str | os.PathLike[str] | None,
    flame_shape: str | os.PathLike[str] | None,
    device: str,
    tell: Callable[[float], None],
) -> tuple[Avatar, Frame]:
    """The avatar and its frame; see `reconstruct`."""
    if weights is None:
        raise HeadsplatError(
            "LAM needs a checkpoint; give --weights model.safetensors, or use --method lift."
        )
    one = _only_one(photo, "LAM")
    from headsplat.data.flame_folder import read_flame_shape
    from headsplat.head.flame import load_flame
    from headsplat.methods import lam
    from headsplat.nets.device import check_device

    check_device(device)
    head = None if flame is None else load_flame(flame)
    betas = None if flame_shape is None else read_flame_shape(flame_shape)
    frame = _tracked(one, face, restyle, 1024)
    tell(0.1)
    return lam.reconstruct(frame, weights, flame=head, betas=betas, device=device), frame


def _by_gagavatar(
    photo: Source | Sequence[Source],
    face: int | None,
    restyle: Restyle | None,
    weights: str | os.PathLike[str] | None,
    flame: str | os.PathLike[str] | None,
    device: str,
    tell: Callable[[float], None],
) -> tuple[Avatar, Frame]:
    """The avatar and its frame; see `reconstruct`."""
    if weights is None:
        raise HeadsplatError(
            "GAGAvatar needs a checkpoint; give --weights GAGAvatar.pt, or use --method lift."
        )
    one = _only_one(photo, "GAGAvatar")
    from headsplat.methods import gagavatar
    from headsplat.nets.device import check_device

    check_device(device)
    eyed = None if flame is None else gagavatar.load_flame_with_eye(flame)
    frame = _tracked(one, face, restyle)
    tell(0.1)
    return gagavatar.reconstruct(frame, weights, flame=eyed, device=device), frame


def _only_one(photo: Source | Sequence[Source], method: str) -> Source:
    if isinstance(photo, Sequence) and not isinstance(photo, str):
        raise HeadsplatError(f"{method} makes an avatar of one photo; give one, or use --method lift.")
    return photo


def _tracked(photo: Source, face: int | None, restyle: Restyle | None, size: int = 512) -> Frame:
    """The photo's frame, `size` pixels large unless it is tracked already."""
    from headsplat.track import track_photo

    frame = photo if isinstance(photo, Frame) else track_photo(photo, face=face, size=size)
    return _restyled(frame, restyle)


def _kind(source: str | os.PathLike[str] | np.ndarray) -> Literal["photo", "clip", "recording"]:
    if isinstance(source, np.ndarray):
        return "photo"
    from headsplat.data.video import is_video

    if Path(source).is_dir():
        return "recording"
    return "clip" if is_video(source) and Path(source).suffix.lower() != ".gif" else "photo"


def _name_of(source: str | os.PathLike[str] | np.ndarray, number: int) -> str:
    return f"Picture {number + 1}" if isinstance(source, np.ndarray) else Path(source).name


def _frames_of_recording(folder: Path, views: int) -> list[Frame]:
    from headsplat.data.datasets import layout_of, read_dataset

    if layout_of(folder) is None and any(path.suffix.lower() in _PICTURES for path in folder.iterdir()):
        raise HeadsplatError(
            f"{folder} is a folder of pictures; name those of one person ({folder}/*.jpg), or track them as "
            "a film with `headsplat track`."
        )
    from headsplat.track.frames import best_views, frames_of

    dataset = read_dataset(folder)
    return frames_of(dataset, best_views(dataset, views))


def _restyled(frame: Frame, style: Restyle | None) -> Frame:
    if style is None:
        return frame
    if isinstance(style, str):
        from headsplat.data.restyle import restyle_frame

        return restyle_frame(frame, style)
    from headsplat.track import track_photo

    edited = style(frame.image)
    try:
        found = track_photo(edited, size=frame.image.shape[0])
    except HeadsplatError:
        # Too odd a face to be found once more: it is where it was.
        return replace(frame, image=edited, foreground=edited)
    return replace(found, source=frame.source)
