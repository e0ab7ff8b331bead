"""Fit the head to the face points of a whole recording: one identity, then a pose per frame, smoothed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.track import landmarks as lm
from headsplat.track.points import FacePoints
from headsplat.track.smoothing import smooth_adaptively, spikes, without_spikes
from headsplat.track.solver import Fit, Pose, project

_KEYFRAMES, _CANDIDATES = 8, 2000
_SAMPLES = 24
"""Frames from which a person's own points are learned."""
_REGIONS = (("mouth", "jaw", "tongue"), ("eye",), ("brow",), ("cheek", "nose"))
"""How the names of expressions begin that move together."""
_NOISE = (0.003, 0.006)
"""Least noise of an expression weight (one that rests at its bound seems to have none), and the most."""
_POSE_NOISE = np.array([2e-3, 2e-3, 2e-3, 2e-4, 2e-4, 1.2e-3])
"""The most noise of a rotation vector, radians, and of a position in the camera, metres."""
_GLITCH = 0.08
"""A jump of the face by less than this share of its height is never called a glitch."""


def fill_gaps(landmarks: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The points (T, 478, 2) with those of absent frames set from their neighbours in time.

    Gaps are filled linearly, and by the nearest frame at the ends.

    Args:
        landmarks: (T, 478, 2); absent frames hold anything.
        present: (T,) bool, at least one of them.
    """
    known, missing = np.flatnonzero(present), np.flatnonzero(~present)
    out = np.array(landmarks)
    after = np.clip(np.searchsorted(known, missing), 0, len(known) - 1)
    before = np.clip(np.searchsorted(known, missing, side="right") - 1, 0, len(known) - 1)
    gap = np.maximum(known[after] - known[before], 1)
    share = np.clip((missing - known[before]) / gap, 0, 1)[:, None, None]
    out[missing] = landmarks[known[before]] * (1 - share) + landmarks[known[after]] * share
    return out


def keyframes(landmarks: np.ndarray) -> list[int]:
    """Numbers of a few frames (T, 478, 2) that differ most from each other (farthest-point choice)."""
    numbers = np.unique(np.linspace(0, len(landmarks) - 1, min(_CANDIDATES, len(landmarks))).astype(int))
    normal = landmarks[numbers, : lm.MESH]
    normal = normal - normal.mean(1, keepdims=True)
    normal = (normal / np.linalg.norm(normal, axis=(1, 2), keepdims=True)).reshape(len(numbers), -1)
    chosen, distance = [0], np.linalg.norm(normal - normal[0], axis=1)
    while len(chosen) < min(_KEYFRAMES, len(numbers)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(normal - normal[chosen[-1]], axis=1))
    return [int(numbers[i]) for i in chosen]


def meet(
    points: FacePoints,
    landmarks: np.ndarray,
    centre: np.ndarray,
    improve: Callable[[Fit], Fit] = lambda fit: fit,
) -> tuple[Fit, np.ndarray]:
    """Get to know a person: her identity, and where the detector puts the points on her face.

    What the model cannot explain in most frames, a brow that sits lower or a fuller lip, belongs to the face:
    left there it would be explained by an expression in every frame. See `moved`.

    Args:
        points: face points of the head model.
        landmarks: (T, 478, 2) pixels, of frames that show the face.
        centre: (2,) principal point, pixels.
        improve: what else is known about the identity.

    Returns:
        Identity and focal length with the pose of the first frame; (468, 3) offsets of the points, metres.
    """
    from headsplat.track.fit import fit_frames, fit_pose

    found = fit_frames(points, landmarks[keyframes(landmarks)], centre)
    start = improve(replace(found, poses=found.poses[:1]))
    numbers = np.unique(np.linspace(0, len(landmarks) - 1, _SAMPLES).astype(int))
    away, at = [], start
    for number in numbers:
        at = fit_pose(points, landmarks[number], centre, at, iterations=15)
        pose, view = at.poses[0], project(points, at.shape, at.focal, at.poses[0], centre)
        across = (landmarks[number, : lm.MESH] - view.pixels) * view.camera[:, 2:] / at.focal
        away.append(np.column_stack([across, np.zeros(lm.MESH)]) @ pose.rotation)
    # Few frames say less about the face and more about what it happens to do.
    return start, np.median(away, 0) * len(away) / (len(away) + 2)


def moved(points: FacePoints, offsets: np.ndarray) -> FacePoints:
    """The face points at rest moved by (468, 3) metres."""
    return replace(points, base=points.base + offsets)


def fit_each(
    points: FacePoints, landmarks: Iterable[np.ndarray], centre: np.ndarray, start: Fit
) -> Iterator[Pose]:
    """Pose and expression of frame after frame, each started from the one before.

    Args:
        points: face points of the head model.
        landmarks: (478, 2) pixels of each frame.
        centre: (2,) principal point, pixels.
        start: identity, focal length and the pose before the first frame.
    """
    from headsplat.track.fit import fit_pose

    current = start
    for number, x in enumerate(landmarks):
        current = fit_pose(points, x, centre, current, iterations=10 if number == 0 else 5)
        yield current.poses[0]


def smooth(names: tuple[str, ...], poses: tuple[Pose, ...], fps: float) -> tuple[Pose, ...]:
    """Zero-phase smoothing of pose, expression and gaze, single outliers of the pose replaced first.

    Args:
        names: of the expressions.
        poses: one per frame.
        fps: frames per second.
    """
    from headsplat.track.torso import mean_rotation, rotation_vector

    stance = mean_rotation(np.array([pose.rotation for pose in poses]))
    placed = [np.append(rotation_vector(stance.T @ pose.rotation), pose.translation) for pose in poses]
    placed = without_spikes(np.array(placed))
    placed = smooth_adaptively(
        placed, [np.arange(6)], fps, sigmas=3.0, first=3.5, ceiling=_POSE_NOISE, alone=1.3
    )
    weights = np.array([pose.expression for pose in poses])
    regions = [np.array([i for i, n in enumerate(names) if n.startswith(start)]) for start in _REGIONS]
    weights = smooth_adaptively(
        weights, regions, fps, floor=_NOISE[0], ceiling=_NOISE[1], longest=6, sigmas=2.3, first=4.5
    )
    gazes = np.array([pose.gaze.reshape(-1) for pose in poses])
    gazes = smooth_adaptively(gazes, [np.arange(4)], fps, floor=_NOISE[0], ceiling=2 * _NOISE[1], longest=4)
    return tuple(
        replace(
            pose,
            rotation=stance @ axis_angle_to_matrix(place[:3]),
            translation=place[3:],
            expression=np.clip(weight, 0, None),
            gaze=gaze.reshape(2, 2),
        )
        for pose, place, weight, gaze in zip(poses, placed, weights, gazes, strict=True)
    )


def glitches(landmarks: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(T,) bool: frames in which the face jumps away and back, which no head does.

    Args:
        landmarks: (T, 478, 2) pixels, gaps filled.
        present: (T,) bool, where the face was found.
    """
    heights = np.linalg.norm(landmarks[:, lm.FOREHEAD] - landmarks[:, lm.CHIN], axis=1)
    eyes = np.linalg.norm(landmarks[:, lm.OUTER_EYE_LEFT] - landmarks[:, lm.OUTER_EYE_RIGHT], axis=1)
    unit = np.median(heights)
    features = np.column_stack([landmarks[:, : lm.MESH].mean(1), heights, eyes]) / unit
    return spikes(features, least=_GLITCH) & present
