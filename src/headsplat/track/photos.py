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
from headsplat.track.fit import fit_frames, fit_pose, landmark_errors
from headsplat.track.photo import build_frame, track_photo
from headsplat.track.points import face_points
from headsplat.track.solver import Fit

Photo = str | os.PathLike[str] | np.ndarray

STRANGER = 1.22
"""A face whose error grows by more than this factor when it has to share the others' identity is another's.

Of pairs of one person's pictures none of 60 reached 1.15; of pairs of two people one in three exceeds it:
what passes is not proven to be the same person."""
_STEPS = 15


def track_photos(
    photos: Sequence[Photo],
    *,
    face: int | None = None,
    same_camera: bool = False,
    tolerant: bool = False,
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
        progress: called with 0..1.

    Returns:
        The frames in the order of the photos, and number and reason of each photo left out.

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
    if len(frames) > 1:
        frames, strangers = share_identity(frames, same_camera=same_camera)
        for i in sorted(strangers, reverse=True):
            reason = "it seems to show another person than the others."
            if not tolerant:
                raise HeadsplatError(f"{_name(photos, numbers[i])} cannot be used: {reason} Leave it out.")
            left_out.append((numbers[i], reason))
            del frames[i]
        if strangers:  # the others' identity without them
            frames, _ = share_identity(frames, same_camera=same_camera) if len(frames) > 1 else (frames, [])
    tell(1.0)
    return frames, sorted(left_out)


def share_identity(frames: Sequence[Frame], *, same_camera: bool = False) -> tuple[list[Frame], list[int]]:
    """Fit one identity to frames that were tracked one by one.

    Args:
        frames: at least two.
        same_camera: one focal length for all, in pixels of the original pictures.

    Returns:
        The frames around the common identity, and the numbers of those that fit it badly.
    """
    points, model = face_points(), load_free_head()
    focals = np.array([float(frame.camera.K[0, 0]) for frame in frames])
    scales = np.array([float(frame.crop[0, 0]) for frame in frames])
    if same_camera:
        focals = float(np.median(focals / scales)) * scales
    # A point's direction is all that counts: as if all crops had one focal length.
    focal, origin = float(np.median(focals)), np.zeros(2)
    centres = [np.array([frame.camera.width, frame.camera.height]) / 2 for frame in frames]
    rays = np.array(
        [(f.landmarks - c) * (focal / own) for f, c, own in zip(frames, centres, focals, strict=True)]
    ).astype(np.float64)
    alone = [fit_frames(points, x[None], origin, focal=focal) for x in rays]
    together = fit_frames(points, rays, origin, focal=focal)
    count = len(together.shape)
    outline = np.mean([f.shape[:count] - own.shape for f, own in zip(frames, alone, strict=True)], 0)
    shape = together.shape + outline
    out, errors = [], []
    for frame, x, own_focal, pose in zip(frames, rays, focals, together.poses, strict=True):
        start = Fit(shape, focal, (pose,))
        fit = fit_pose(points, x, origin, start, iterations=_STEPS)
        errors.append(float(landmark_errors(points, fit, x[None], origin).mean()))
        fit = replace(fit, focal=float(own_focal))
        out.append(
            build_frame(
                model, points, fit, frame.image, frame.alpha, frame.foreground, frame.valid,
                np.asarray(frame.landmarks, np.float64), frame.crop, frame.source,
            )
        )  # fmt: skip
    before = [
        float(landmark_errors(points, own, x[None], origin).mean())
        for own, x in zip(alone, rays, strict=True)
    ]
    growth = np.array(errors) / np.maximum(before, 0.004)
    if len(frames) == 2:  # neither can be told from the other: the first is who it is about
        growth = np.array([0.0, growth.mean()])
    return out, [int(i) for i in np.flatnonzero(growth > STRANGER)]


def _name(photos: Sequence[Photo], number: int) -> str:
    photo = photos[number]
    return f"Picture {number + 1}" if isinstance(photo, np.ndarray) else Path(photo).name
