"""Is the lower face bare? A mask or a scarf has another colour than the skin beneath the eyes."""

from __future__ import annotations

import numpy as np

from headsplat.track import landmarks as lm
from headsplat.track.colours import to_lab

_BARE = (
    np.array([6, 197, 195, 122, 351, 196, 419, 117, 118, 119, 346, 347, 348, 101, 330]),
    np.array([6, 168, 8, 193, 417]),
    np.array([151, 9, 108, 337]),
)
"""Beneath the eyes, between them, and the forehead: no mask covers them all, nor do glasses or a fringe."""
_NOSE = np.array([1, 4, 5, 44, 274, 45, 275, 220, 440])
_LIP = np.array([164, 167, 393, 2])
_CHROMA, _LIGHTNESS = 12.0, 60.0
"""Differences in 8-bit Lab that bare skin shows within a face in one portrait of fifty."""


def cover(image: np.ndarray, landmarks: np.ndarray) -> float:
    """How foreign nose and upper lip look on this face; bare faces stay under 1, most masks reach 1.3 to 3.

    Both must look foreign: a moustache covers only the lip, a plaster or a highlight only the nose. A hand
    has the colour of skin and is not noticed.

    Args:
        image: (H, W, 3) float32 0..1.
        landmarks: (478, 2) pixels.
    """
    import cv2

    lab = cv2.GaussianBlur(to_lab(image), (0, 0), max(lm.face_height(landmarks) / 60, 0.5))
    height, width = lab.shape[:2]
    x = np.clip(landmarks[:, 0].astype(int), 0, width - 1)
    y = np.clip(landmarks[:, 1].astype(int), 0, height - 1)
    colours = lab[y, x]
    skins = [np.median(colours[group], 0) for group in _BARE]
    looks = [np.median(colours[group], 0) for group in (_NOSE, _LIP)]
    away = [np.abs(look - skin) for look in looks for skin in skins]
    return float(min(max(np.hypot(d[1], d[2]) / _CHROMA, d[0] / _LIGHTNESS) for d in away))
