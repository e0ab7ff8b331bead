"""The one place that names every method: a photo in, an avatar out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError

Method = Literal["lift", "lam"]
Size = Literal["5k", "20k", "80k"]


def reconstruct(
    photo: str | os.PathLike[str] | np.ndarray | Frame,
    method: Method = "lift",
    *,
    gaussians: Size = "80k",
    refine: int = 80,
    face: int | None = None,
    restyle: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    flame: str | os.PathLike[str] | None = None,
    flame_shape: str | os.PathLike[str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Avatar:
    """Turn a photo of a person into an avatar.

    Args:
        photo: a file, an image (H, W, 3) in 0..1 or 8-bit, or a frame already tracked.
        method: `lift` needs no training and no GPU; `lam` needs a checkpoint.
        gaussians: about how many Gaussians (lift; elsewhere the checkpoint says).
        refine: refinement steps on what the photo shows; 0 for none (lift).
        face: which face if the photo shows several, counted from the left, 1 is the first.
        restyle: draw, paint or grade the photo first: a key of `headsplat.data.restyle.STYLES`.
        weights: the .safetensors checkpoint (lam).
        flame: the FLAME file, if the checkpoint is on FLAME and holds no copy (lam).
        flame_shape: canonical_flame_param.npz or its folder with this person's FLAME shape, if known (lam).
        progress: called with 0..1 as the work proceeds.

    Returns:
        The avatar. Its `info` holds `head` (name and shape of the head model), `landmark_error` (share of the
        distance of the outer eye corners), `confidence` 0..1, `seconds` spent without imports and, where the
        head is the free one, `source_psnr` in dB inside the matte and `matte_iou`.

    Raises:
        HeadsplatError: the photo cannot be read or shows no usable face, or a setting is out of range.
    """
    if refine < 0 or refine > 10_000:
        raise HeadsplatError(f"{refine} refinement steps make no sense; give 0 to 10000 (80 is usual).")
    tell = progress or (lambda _: None)
    start = perf_counter()
    match method:
        case "lift":
            from headsplat.methods import lift
            from headsplat.track import track_photo

            sizes = {"5k": lift.lift_5k, "20k": lift.lift_20k, "80k": lift.lift_80k}
            if gaussians not in sizes:
                raise HeadsplatError(f"There is no size {gaussians!r}; choose one of {', '.join(sizes)}.")
            frame = photo if isinstance(photo, Frame) else track_photo(photo, face=face)
            frame = _restyled(frame, restyle)
            tell(0.3)
            avatar = lift.reconstruct(
                frame, sizes[gaussians](refine), progress=lambda done: tell(0.3 + 0.7 * done)
            )
        case "lam":
            if weights is None:
                raise HeadsplatError(
                    "LAM needs a checkpoint; give --weights model.safetensors, or use --method lift."
                )
            from headsplat.data.flame_folder import read_flame_shape
            from headsplat.methods import lam
            from headsplat.track import track_photo

            head = None
            if flame is not None:
                from headsplat.head.flame import load_flame

                head = load_flame(flame)
            betas = None if flame_shape is None else read_flame_shape(flame_shape)
            frame = photo if isinstance(photo, Frame) else track_photo(photo, face=face, size=1024)
            frame = _restyled(frame, restyle)
            tell(0.1)
            avatar = lam.reconstruct(frame, weights, flame=head, betas=betas)
        case _:
            raise HeadsplatError(f"There is no method named {method!r}; there are lift and lam.")
    info = {
        # Which head lies under the Gaussians, so that exports can give it as a mesh.
        "head": {"model": "free", "shape": [round(float(beta), 5) for beta in frame.shape]},
        "landmark_error": float(frame.landmark_error),
        "confidence": float(frame.confidence),
        "seconds": perf_counter() - start,
    }
    return replace(avatar, info={**info, **avatar.info})


def _restyled(frame: Frame, style: str | None) -> Frame:
    if style is None:
        return frame
    from headsplat.data.restyle import restyle_frame

    return restyle_frame(frame, style)
