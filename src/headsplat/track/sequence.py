"""Fit the head to the face points of a whole recording: one identity, then a pose per frame, smoothed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.track import landmarks as lm
from headsplat.track.points import FacePoints
from headsplat.track.solver import Fit, Pose

_KEYFRAMES = 8
_SMOOTH_POSE, _SMOOTH_FACE = 0.25, 0.17
"""Length of the smoothing windows in seconds (Savitzky-Golay, second order)."""


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
    normal = landmarks[:, : lm.MESH] - landmarks[:, : lm.MESH].mean(1, keepdims=True)
    normal = (normal / np.linalg.norm(normal, axis=(1, 2), keepdims=True)).reshape(len(landmarks), -1)
    chosen, distance = [0], np.linalg.norm(normal - normal[0], axis=1)
    while len(chosen) < min(_KEYFRAMES, len(landmarks)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(normal - normal[chosen[-1]], axis=1))
    return chosen


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


def smooth(
    names: tuple[str, ...], poses: tuple[Pose, ...], present: np.ndarray, fps: float
) -> tuple[Pose, ...]:
    """Zero-phase smoothing of pose and expression, outliers replaced first; lids and lips stay crisp.

    Args:
        names: of the expressions.
        poses: one per frame.
        present: (T,) bool, where the face was found.
        fps: frames per second.
    """
    from headsplat.track.torso import mean_rotation, rotation_vector

    rotations = np.array([pose.rotation for pose in poses])
    stance = mean_rotation(rotations[present])
    turns = np.array([rotation_vector(stance.T @ r) for r in rotations])
    places = np.array([pose.translation for pose in poses])
    gazes = np.array([pose.gaze.reshape(-1) for pose in poses])
    weights = np.array([pose.expression for pose in poses])
    turns, places = (
        _savgol(without_spikes(turns), _SMOOTH_POSE * fps),
        _savgol(without_spikes(places), _SMOOTH_POSE * fps),
    )
    gazes = _savgol(gazes, _SMOOTH_FACE * fps)
    crisp = np.array([name.startswith(("eyeBlink", "eyeSquint", "mouth", "jaw")) for name in names])
    weights = np.where(crisp, weights, np.clip(_savgol(weights, _SMOOTH_FACE * fps), 0, None))
    return tuple(
        replace(
            pose,
            rotation=stance @ axis_angle_to_matrix(turn),
            translation=place,
            expression=weight,
            gaze=gaze.reshape(2, 2),
        )
        for pose, turn, place, weight, gaze in zip(poses, turns, places, weights, gazes, strict=True)
    )


def without_spikes(values: np.ndarray) -> np.ndarray:
    """Replace frames much farther off the median of five neighbours than they usually move in one frame."""
    if len(values) < 5:
        return values
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0)
    median = np.median(windows, -1)
    away = np.abs(values - median)
    usual = np.median(np.abs(np.diff(values, axis=0)), 0) + 1e-9
    return np.where((away > 8 * usual).any(1, keepdims=True), median, values)


def _savgol(values: np.ndarray, length: float) -> np.ndarray:
    """Savitzky-Golay of second order over about `length` frames; unchanged if that is under five."""
    from scipy.signal import savgol_filter

    window = min(2 * round((length - 1) / 2) + 1, len(values) - 1 + len(values) % 2)
    return np.asarray(savgol_filter(values, window, 2, axis=0)) if window >= 5 else values
