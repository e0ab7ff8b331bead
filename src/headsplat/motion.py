"""Motion: what drives an avatar over time, whatever it came from (ARKit, FLAME, a video, a webcam)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Motion:
    """T frames of expression weights and joint rotations.

    Attributes:
        weights: (T, E) expression weights, normally 0..1.
        expressions: E names, ARKit's for the free head.
        rotations: (T, J, 3) joint rotation vectors, radians, each relative to its parent joint.
        joints: J names, such as "neck", "head", "left_eye", "right_eye".
        fps: frames per second.
        root: (T, 4, 4) `T_world_root`, the pose of the whole bust; None = at rest.
    """

    weights: np.ndarray
    expressions: tuple[str, ...]
    rotations: np.ndarray
    joints: tuple[str, ...]
    fps: float
    root: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.weights)
