"""Where a film is cut: the frames at which one shot ends and another begins."""

from __future__ import annotations

import numpy as np

_SIZE = 24
"""Side of the little picture by which frames are compared, pixels."""
_LEAST = 14.0
"""Mean change of the little picture, 8-bit, below which nothing is a cut; heads that shake reach 8."""
_ABOVE = 3.0
"""A cut changes this many times more than any frame nearby."""
_NEARBY = 4
_SHORTEST = 0.4
"""Seconds; what lies between cuts closer than that, a flash or a title, is no shot."""


def glimpse(pixels: np.ndarray) -> np.ndarray:
    """(24, 24, 3) uint8 little picture of a frame (H, W, 3) uint8."""
    import cv2

    every = max(1, min(pixels.shape[:2]) // (8 * _SIZE))  # a few hundred thousand pixels say enough
    return cv2.resize(pixels[::every, ::every], (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)


def change(glimpse: np.ndarray, before: np.ndarray) -> float:
    """Mean difference of two little pictures, 0..255."""
    return float(np.abs(glimpse.astype(np.int16) - before).mean())


def find_shots(changes: np.ndarray, fps: float) -> list[tuple[int, int]]:
    """First frame and frame after the last of each shot.

    Args:
        changes: (T,) `change` of each frame from the one before; the first is ignored.
        fps: frames per second.
    """
    cuts = [0]
    for t in range(1, len(changes)):
        near = np.r_[changes[max(1, t - _NEARBY) : t], changes[t + 1 : t + 1 + _NEARBY]]
        if changes[t] > max(_LEAST, _ABOVE * float(np.max(near, initial=0.0))):
            cuts.append(t)
    shots = list(zip(cuts, [*cuts[1:], len(changes)], strict=True))
    long = [shot for shot in shots if shot[1] - shot[0] >= _SHORTEST * fps]
    return long or [(0, len(changes))]
