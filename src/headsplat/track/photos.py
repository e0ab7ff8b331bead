"""Several photos of one person into frames that share one identity."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.track.choose import calmness, choose_views, pick_frames, plainness
from headsplat.track.fit import fit_frames, fit_pose, landmark_errors
from headsplat.track.photo import build_frame, track_photo
from headsplat.track.points import face_points
from headsplat.track.solver import Fit, Pose
from headsplat.track.torso import head_angles, mean_rotation, split_turn, torso_prior

Photo = str | os.PathLike[str] | np.ndarray

STRANGER = 1.22
"""A face whose error grows by more than this factor when it has to share the others' identity is another's.

Of pairs of one person's pictures none of 60 reached 1.15; of pairs of two people one in three exceeds it:
what passes is not proven to be the same person."""
KNOWN_STRANGER = 1.75
"""The same for a face that has to take a known identity as it is."""
_STEPS = 15


def track_photos(
    photos: Sequence[Photo],
    *,
    face: int | None = None,
    same_camera: bool = False,
    tolerant: bool = False,
    shape: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Frame], list[tuple[int, str]]]:
    """Track photos of one person, and give her one shape that explains all of them.

    Each photo is tracked by itself first; then identity is fitted to the points of all together, with what
    the outlines of the single photos add on average, and pose and expression are fitted anew around it.

    Args:
        photos: files or images, at least one.
        face: which face where a photo shows several, counted from the left.
        same_camera: the photos are frames of one clip: one focal length, of pictures of one size.
        tolerant: leave out photos that cannot be used instead of refusing all.
        shape: (S,) the person's identity where it is known; it is kept then.
        progress: called with 0..1.

    Returns:
        The frames, the one that says most first, and number and reason of each photo left out.

    Raises:
        HeadsplatError: a photo cannot be used (`tolerant`: none can), saying which and why.
    """
    tell = progress or (lambda _: None)
    frames: list[Frame] = []
    numbers: list[int] = []
    left_out: list[tuple[int, str]] = []
    for i, photo in enumerate(photos):
        tell(0.9 * i / len(photos))
        try:
            frames.append(track_photo(photo, face=face))
            numbers.append(i)
        except HeadsplatError as error:
            if not tolerant and len(photos) > 1:
                raise HeadsplatError(f"{_name(photos, i)} cannot be used: {error}") from None
            if not tolerant:
                raise
            left_out.append((i, str(error)))
    if not frames:
        raise HeadsplatError(f"None of the {len(photos)} pictures can be used; the last: {left_out[-1][1]}")
    strangers = [] if same_camera else [i for i in range(len(frames)) if _is_other(frames, i, shape)]
    for i in reversed(strangers):
        whom = "the first picture" if shape is None else "the avatar"
        reason = f"it seems to show another person than {whom}."
        if not tolerant:
            raise HeadsplatError(f"{_name(photos, numbers[i])} cannot be used: {reason} Leave it out.")
        left_out.append((numbers[i], reason))
        del frames[i]
    if not frames:
        raise HeadsplatError("None of the pictures shows the avatar's person; use others.")
    if shape is not None:
        frames = with_identity(frames, shape)
    elif len(frames) > 1:
        frames = share_identity(frames, same_camera=same_camera)
    frames = [frames[i] for i in main_first(frames)]
    tell(1.0)
    return frames, sorted(left_out)


def track_clip(
    clip: str | os.PathLike[str],
    count: int,
    *,
    face: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Frame]:
    """The frames of a clip that say most about the person, tracked like photos of one camera, the best first.

    Args:
        clip: video file.
        count: at most so many frames.
        face: which face if there are several, counted from the left.
        progress: called with 0..1.

    Raises:
        HeadsplatError: unreadable, or no frame shows a usable face.
    """
    tell = progress or (lambda _: None)
    pictures = pick_frames(clip, count, face=face, progress=lambda done: tell(0.4 * done))
    # The parts around the face may hold a neighbour's too; hers is in the middle.
    frames, _ = track_photos(
        pictures, same_camera=True, tolerant=True, progress=lambda done: tell(0.4 + 0.6 * done)
    )
    return frames


def share_identity(frames: Sequence[Frame], *, same_camera: bool = False) -> list[Frame]:
    """Fit one identity to frames that were tracked one by one.

    Args:
        frames: at least two.
        same_camera: one focal length for all, in pixels of the original pictures, and a torso that keeps its
            stance; otherwise each photo keeps its own.
    """
    points = face_points()
    focals = np.array([float(frame.camera.K[0, 0]) for frame in frames])
    if same_camera:
        scales = np.array([float(frame.crop[0, 0]) for frame in frames])
        focals = float(np.median(focals / scales)) * scales
    focal, rays = _rays(frames, focals)
    origin = np.zeros(2)
    together = fit_frames(points, rays, origin, focal=focal)
    alone = [fit_frames(points, x[None], origin, focal=focal).shape for x in rays]
    # What each photo's outline had to say, on average.
    outline = np.mean([f.shape[: len(own)] - own for f, own in zip(frames, alone, strict=True)], 0)
    poses = together.poses
    return _around(frames, together.shape + outline, focal, rays, focals, poses, one_stance=same_camera)


def with_identity(frames: Sequence[Frame], shape: np.ndarray) -> list[Frame]:
    """The frames with pose and expression fitted anew around a known identity (S,)."""
    points, origin = face_points(), np.zeros(2)
    focals = np.array([float(frame.camera.K[0, 0]) for frame in frames])
    focal, rays = _rays(frames, focals)
    poses = [fit_frames(points, x[None], origin, focal=focal).poses[0] for x in rays]
    shape = np.asarray(shape[: len(points.shape)], np.float64)
    return _around(frames, shape, focal, rays, focals, poses, one_stance=False)


def _around(
    frames: Sequence[Frame],
    shape: np.ndarray,
    focal: float,
    rays: np.ndarray,
    focals: np.ndarray,
    poses: Sequence[Pose],
    *,
    one_stance: bool,
) -> list[Frame]:
    """The frames around one shape, from poses to start at; `rays` are as of `_rays`."""
    points, model, origin = face_points(), load_free_head(), np.zeros(2)
    fits = [
        replace(fit_pose(points, x, origin, Fit(shape, focal, (pose,)), iterations=_STEPS), focal=float(own))
        for x, own, pose in zip(rays, focals, poses, strict=True)
    ]
    out = [
        build_frame(
            model, points, fit, frame.image, frame.alpha, frame.foreground, frame.valid,
            np.asarray(frame.landmarks, np.float64), frame.crop, frame.source,
        )
        for frame, fit in zip(frames, fits, strict=True)
    ]  # fmt: skip
    return _one_stance(out, fits, model) if one_stance else out


def _is_other(frames: Sequence[Frame], number: int, shape: np.ndarray | None) -> bool:
    if shape is None:
        return number > 0 and is_stranger(frames[0], frames[number])
    return not fits_identity(frames[number], shape)


def fits_identity(frame: Frame, shape: np.ndarray) -> bool:
    """Whether a photo can be of a person of known identity (S,): see `KNOWN_STRANGER`."""
    points, origin = face_points(), np.zeros(2)
    focal, rays = _rays([frame], np.array([float(frame.camera.K[0, 0])]))
    own = fit_frames(points, rays, origin, focal=focal)
    start = replace(own, shape=np.asarray(shape[: len(own.shape)], np.float64))
    known = fit_pose(points, rays[0], origin, start, iterations=_STEPS)
    alone, held = (float(landmark_errors(points, f, rays, origin).mean()) for f in (own, known))
    return held < KNOWN_STRANGER * max(alone, 0.004)


def is_stranger(main: Frame, frame: Frame) -> bool:
    """Whether two photos are hardly of one person: together they fit the head much worse than each alone."""
    points, origin = face_points(), np.zeros(2)
    focal, rays = _rays([main, frame], np.array([float(f.camera.K[0, 0]) for f in (main, frame)]))
    together = landmark_errors(points, fit_frames(points, rays, origin, focal=focal), rays, origin).mean()
    alone = [
        landmark_errors(points, fit_frames(points, x[None], origin, focal=focal), x[None], origin).mean()
        for x in rays
    ]
    return bool(together > STRANGER * max(float(np.mean(alone)), 0.004))


def _rays(frames: Sequence[Frame], focals: np.ndarray) -> tuple[float, np.ndarray]:
    """A common focal length, and the points (F, 478, 2) about the principal point as if all had it.

    A point's direction is all that counts, so photos of different lenses can be fitted as of one.
    """
    focal = float(np.median(focals))
    rays = [
        (np.asarray(f.landmarks, np.float64) - f.camera.K[:2, 2]) * (focal / own)
        for f, own in zip(frames, focals, strict=True)
    ]
    return focal, np.array(rays, np.float64)


def _one_stance(frames: list[Frame], fits: list[Fit], model: HeadModel) -> list[Frame]:
    """The frames with the torso in the mean stance of all: it is the head that turns."""
    stance = mean_rotation(np.array([torso_prior(fit.poses[0].rotation) for fit in fits]))
    names, out = list(model.joint_names), []
    joints = model.with_shape(frames[0].shape).joints
    for frame, fit in zip(frames, fits, strict=True):
        pose = fit.poses[0]
        viewmat, neck, head = split_turn(pose.rotation, pose.translation, joints, names, torso=stance)
        rotations = frame.rotations.copy()
        rotations[names.index("neck")], rotations[names.index("head")] = neck, head
        camera = replace(frame.camera, viewmat=viewmat.astype(np.float32))
        out.append(replace(frame, rotations=rotations, camera=camera))
    return out


def main_first(frames: Sequence[Frame]) -> list[int]:
    """Numbers of the frames in the order of what they say: a frontal and calm one first, then new sides."""
    model = load_free_head()
    turns, quality = [], []
    for frame in frames:
        posed = model.with_shape(frame.shape).with_pose(None, frame.rotations)
        head = frame.camera.viewmat @ posed.transforms[model.joint_names.index("head")]
        turns.append(head_angles(head[:3, :3])[:2])
        plain = plainness(dict(zip(model.expression_names, frame.expression.tolist(), strict=True)))
        large = min(1.0, 1 / float(frame.crop[0, 0])) ** 0.5
        quality.append(frame.confidence * calmness(frame.landmarks) * plain * large)
    return choose_views(np.array(turns), np.maximum(quality, 1e-6), len(frames))


def _name(photos: Sequence[Photo], number: int) -> str:
    photo = photos[number]
    return f"Picture {number + 1}" if isinstance(photo, np.ndarray) else Path(photo).name
