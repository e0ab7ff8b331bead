"""Improve a person's identity by the outlines that a recording's mattes show: ears, jaw, neck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from headsplat.head.free import load_free_head
from headsplat.track.choose import calmness
from headsplat.track.contour import see_outline
from headsplat.track.fit import fit_pose
from headsplat.track.points import FacePoints
from headsplat.track.refine import refine_outline
from headsplat.track.solver import Fit

_FRAMES = 5


def calm_frames(landmarks: np.ndarray, present: np.ndarray) -> list[int]:
    """Numbers of the calmest frames (T, 478, 2) in equal parts of a film, of those that are present (T,)."""
    known = np.flatnonzero(present)
    parts = np.array_split(known, min(_FRAMES, len(known)))
    return [int(max(part, key=lambda t: calmness(landmarks[t]))) for part in parts]


def improve_by_outlines(
    points: FacePoints,
    found: Fit,
    landmarks: np.ndarray,
    numbers: list[int],
    load: Callable[[int], tuple[np.ndarray, np.ndarray]],
    valid: np.ndarray,
) -> Fit:
    """The identity moved by what the outlines in several frames say on average.

    Args:
        points: face points of the head model.
        found: identity, focal length and a pose to start from.
        landmarks: (T, 478, 2) pixels.
        numbers: of the frames to look at.
        load: gives the person's colours (H, W, 3) and matte (H, W) of a frame.
        valid: (H, W) bool, inside the source.
    """
    model, centre = load_free_head(), np.array(valid.shape[::-1]) / 2
    changes = []
    for number in numbers:
        x = landmarks[number]
        fit = fit_pose(points, x, centre, found, iterations=15)
        colours, alpha = load(number)
        refined = refine_outline(model, points, fit, x, see_outline(colours, alpha, x), valid)
        changes.append(refined.shape - found.shape)
    return replace(found, shape=found.shape + np.mean(changes, 0))
