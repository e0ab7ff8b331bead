"""Which frames of a clip to make an avatar from: sharp, calm, and from as many sides as there are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.track import landmarks as lm
from headsplat.track.solver import Fit

LOOKS = 40
"""Frames of a clip that are looked at."""
LONGEST = 3600
"""Frames from the beginning beyond which a clip is not read."""
_SHUT = 0.13
"""Lid gap over eye width under which an eye counts as closed."""
_FAR = np.radians(12.0)
"""Turn between two frames from which on the second is as good as new."""


def choose_views(turns: np.ndarray, quality: np.ndarray, count: int) -> list[int]:
    """Greedy choice: the best frontal frame first, then always the one that adds most.

    Args:
        turns: (T, 2) yaw and pitch of the head, radians.
        quality: (T,) 0..1; zeros are never chosen.
        count: at most so many.

    Returns:
        Frame numbers in the order of choice; a shorter choice is the beginning of a longer one.
    """
    frontal = np.exp(-((turns / np.radians([14.0, 12.0])) ** 2).sum(1))
    chosen: list[int] = []
    new = frontal
    while len(chosen) < count:
        worth = quality * new
        if chosen:
            worth[chosen] = 0
        if worth.max(initial=0) <= 0:
            break
        chosen.append(int(worth.argmax()))
        near = np.min([np.linalg.norm(turns - turns[i], axis=1) for i in chosen], 0)
        # A frame from a known side still says a little: its noise is another's.
        new = 0.1 + np.clip(near / _FAR, 0, 3)
    return chosen


def calmness(landmarks: np.ndarray) -> float:
    """0..1 for (478, 2) points: how open the eyes and how closed the mouth."""
    lids = lm.lid_openings(landmarks).min()
    lips = np.linalg.norm(landmarks[13] - landmarks[14]) / lm.face_height(landmarks)
    return float(np.clip((lids - _SHUT) / 0.10, 0.05, 1) * np.clip(1.2 - 6 * lips, 0.15, 1))


def plainness(expression: Mapping[str, float]) -> float:
    """0..1 for expression weights by name: how near to a face at rest; gaze and lids do not count."""
    size = sum(w * w for name, w in expression.items() if not name.startswith(("eyeLook", "eyeBlink")))
    return float(np.exp(-0.7 * size))


def sharpness(picture: np.ndarray, landmarks: np.ndarray) -> float:
    """Mean strength of the finest detail of a face, in a picture (H, W, 3) uint8 with points (478, 2).

    Comparable between frames of one clip: the face is brought to one size first.
    """
    import cv2

    low, high = landmarks[: lm.MESH].min(0), landmarks[: lm.MESH].max(0)
    x0, y0 = np.maximum(low.astype(int), 0)
    x1, y1 = np.maximum(high.astype(int), [x0 + 2, y0 + 2])
    face = cv2.cvtColor(np.ascontiguousarray(picture[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    face = cv2.resize(face, (192, 256), interpolation=cv2.INTER_AREA).astype(np.float32)
    return float(np.abs(cv2.Laplacian(face, cv2.CV_32F)).mean() / (face.mean() + 10))


def pick_frames(
    clip: str | os.PathLike[str],
    count: int,
    *,
    face: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[np.ndarray]:
    """The frames of a clip that say most about the person.

    Args:
        clip: video file.
        count: at most so many frames.
        face: which face if there are several, counted from the left.
        progress: called with 0..1.

    Returns:
        (H, W, 3) uint8 parts of frames around the face, all of one scale; the best frontal one first.

    Raises:
        HeadsplatError: unreadable, or no frame shows a usable face.
    """
    from headsplat.data.video import read_video
    from headsplat.track.detect import choose_face, refine_face
    from headsplat.track.fit import fit_frames, fit_pose
    from headsplat.track.points import face_points
    from headsplat.track.torso import head_angles

    video = read_video(clip)
    total = min(video.frames or LONGEST, LONGEST)
    wanted = {int(total * (i + 0.5) / LOOKS) for i in range(LOOKS)}
    pictures, found, sharp, last = [], [], [], None
    for i, image in enumerate(itertools.islice(video, total)):
        if i not in wanted:
            continue
        if progress:
            progress(0.9 * i / total)
        coarse = choose_face(image, face, near=last)
        if coarse is None:
            continue
        points = last = refine_face(image, coarse)
        part, corner = _around(image, points)
        pictures.append(part)
        found.append(points - corner)
        sharp.append(sharpness(image, points))
    if not found:
        raise HeadsplatError("No frame of the clip shows a face; use a clip of one person facing the camera.")
    points, landmarks, centre = face_points(), np.array(found, np.float64), np.zeros(2)
    middle = landmarks[:, : lm.MESH].mean(1, keepdims=True)
    keys = np.unique(np.linspace(0, len(landmarks) - 1, 5).astype(int))
    start = fit_frames(points, (landmarks - middle)[keys], centre)
    near = [int(np.abs(keys - i).argmin()) for i in range(len(landmarks))]
    turns = np.array(
        [
            head_angles(fit_pose(points, x, centre, _only(start, near[i]), iterations=6).poses[0].rotation)[
                :2
            ]
            for i, x in enumerate(landmarks - middle)
        ]
    )
    quality = np.array(sharp) / max(sharp) * np.array([calmness(x) for x in landmarks])
    quality = quality * (np.abs(turns[:, 0]) < np.radians(55))
    chosen = choose_views(turns, quality, count)
    if not chosen:
        raise HeadsplatError(
            "No frame of the clip shows the face well; use a clip of one person from in front."
        )
    return [pictures[i] for i in chosen]


def _only(fit: Fit, number: int) -> Fit:
    return replace(fit, poses=(fit.poses[number],))


def _around(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square around a face that a portrait is cut from, as a copy, and its upper left corner (2,)."""
    middle, reach = points[: lm.MESH].mean(0), 1.8 * lm.face_height(points)
    low = np.maximum(np.floor(middle - reach).astype(int), 0)
    high = np.minimum(np.ceil(middle + reach).astype(int), image.shape[1::-1])
    return image[low[1] : high[1], low[0] : high[0]].copy(), low.astype(np.float64)
