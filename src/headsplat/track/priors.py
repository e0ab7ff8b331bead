"""What the fit believes before it sees a picture: weights, bounds and how sure each point is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from headsplat.track import landmarks as lm

POINT_SIGMA = 0.02
"""Standard deviation of a detected point, as a fraction of the distance between the outer eye corners."""
ROBUST = 3.0
"""The pseudo-Huber loss turns from quadratic to linear at so many sigmas."""
FOCAL_PER_FACE = 6.25
"""First guess of the focal length over the height of the face (points 10 to 152), both in pixels."""
PAIR_WEIGHT = 1.6
"""Weight of the gap between the two lids and the two lips, against 1 for a point."""

_STIFF = {
    "cheekPuff": 3.0,
    "jawForward": 2.0,
    "mouthClose": 1.2,
    "mouthShrugUpper": 1.0,
    "mouthShrugLower": 0.8,
    "noseSneerLeft": 0.8,
    "noseSneerRight": 0.8,
    "cheekSquintLeft": 0.8,
    "cheekSquintRight": 0.8,
    "mouthRollLower": 0.7,
    "mouthRollUpper": 0.7,
    "mouthPressLeft": 0.5,
    "mouthPressRight": 0.5,
    "mouthPucker": 0.2,
    "mouthFrownLeft": 0.2,
    "mouthFrownRight": 0.2,
    "mouthUpperUpLeft": 0.2,
    "mouthUpperUpRight": 0.2,
    "mouthSmileLeft": 0.1,
    "mouthSmileRight": 0.1,
    "browDownLeft": 0.15,
    "browDownRight": 0.15,
    "browInnerUp": 0.15,
    "browOuterUpLeft": 0.15,
    "browOuterUpRight": 0.15,
}
_WIDE = ("eyeBlink", "eyeWide", "mouthSmile", "mouthLowerDown", "mouthUpperUp", "browInnerUp", "browOuterUp")


@dataclass(frozen=True)
class Priors:
    """Weights of the prior terms, in units of a squared residual sigma.

    Chosen by the truth of synthetic heads and by how alike two photos of one person come out, not by the
    residual, which always asks for weaker ones.

    Attributes:
        shape: pull of identity coefficients to zero, per squared sigma.
        expression: pull of expression weights to zero, times each action's own stiffness squared.
        symmetry: pull of left and right actions together.
        focal: pull of the log focal length to its guess, per (0.25)^2.
    """

    shape: float = 10.0
    expression: float = 50.0
    symmetry: float = 1.5
    focal: float = 4.0


@cache
def point_weights() -> np.ndarray:
    """(468,) weight of each face point: lips and lids are sharp, the outline of the face is not."""
    weights = np.full(lm.MESH, 0.6)
    weights[lm.OVAL] = 0.15
    weights[np.r_[lm.BROW_LEFT, lm.BROW_RIGHT]] = 1.0
    weights[np.r_[lm.LIPS_OUTER, lm.LIPS_INNER, lm.EYE_LEFT, lm.EYE_RIGHT]] = 1.3
    return weights


def fitted(names: tuple[str, ...]) -> np.ndarray:
    """Indices of the actions that landmarks can tell: all but gaze (from the irises) and the tongue."""
    return np.array([i for i, n in enumerate(names) if not n.startswith("eyeLook") and n != "tongueOut"])


def stiffness(names: tuple[str, ...]) -> np.ndarray:
    """(E,) how reluctantly each action is used."""
    return np.array([_STIFF.get(name, 0.35) for name in names])


def upper_bounds(names: tuple[str, ...]) -> np.ndarray:
    """(E,) largest weight of each action; the lower bound is 0."""
    return np.array([1.5 if n == "jawOpen" else 1.25 if n.startswith(_WIDE) else 1.0 for n in names])


def twins(names: tuple[str, ...]) -> np.ndarray:
    """(P, 2) indices of the left and the right half of every fitted two-sided action."""
    index = {name: i for i, name in enumerate(names)}
    return np.array(
        [
            (i, index[n[:-4] + "Right"])
            for n, i in index.items()
            if n.endswith("Left") and n[:-4] + "Right" in index and not n.startswith("eyeLook")
        ]
    )
