"""Which way up a photo is, for those that lie on their side or stand on their head and do not say so."""

from __future__ import annotations

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.track import landmarks as lm
from headsplat.track.detect import choose_face, face_score

# Of 56 portraits the box detector gave upright faces .85 or more. On their heads, where the mesh model sees
# an upright face as well, it gave none more than .80, and none came nearer than .14 to what it gave upright.
_SURE = 0.85
_BETTER = 0.1
_LIES = np.radians(55)


def quarter_turns(pixels: np.ndarray, face: int | None = None) -> int:
    """How many quarter turns counter-clockwise (as `numpy.rot90` does them) bring the face upright.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        face: which face if there are several, counted from the left.

    Returns:
        0 to 3; 0 as well if there is no face, or several and none chosen.
    """
    standing = _stands(pixels, face)
    if standing >= _SURE:
        return 0
    turned = [_stands(np.ascontiguousarray(np.rot90(pixels, turns)), face) for turns in (1, 2, 3)]
    return int(np.argmax(turned)) + 1 if max(turned) >= max(standing + _BETTER, _SURE - _BETTER) else 0


def _stands(pixels: np.ndarray, face: int | None) -> float:
    """How sure it is that the picture's face is upright, 0..1; 1 where it is not for us to say."""
    try:
        points = choose_face(pixels, face)
    except HeadsplatError:  # several, or not so many
        return 1.0
    if points is None:
        return 0.0
    across, down = points[lm.CHIN] - points[lm.FOREHEAD]
    return 0.0 if abs(np.arctan2(across, down)) > _LIES else face_score(pixels, points)
