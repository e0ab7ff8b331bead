"""Separate the turn of the head from the stance of the torso, which landmarks do not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix, matrix_to_quat, quat_to_axis_angle
from headsplat.motion import split_head_turn

_LEVEL = np.diag([1.0, -1.0, -1.0])
"""Rotation from an upright head that faces the camera to OpenCV camera axes."""
FOLLOWS_YAW, FOLLOWS_PITCH, FOLLOWS_ROLL = 0.5, 0.3, 0.0
"""Share of the head's turn against the camera that the torso takes part in: people turn their shoulders half
way, are photographed a little from above or below, and hold their shoulders level."""


def split_turn(
    rotation: np.ndarray,
    translation: np.ndarray,
    joints: np.ndarray,
    names: Sequence[str],
    torso: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A still torso's camera and the neck's and head's rotations that together give the measured head pose.

    Args:
        rotation: (3, 3) measured head to camera.
        translation: (3,) measured position of head space's origin in the camera, metres.
        joints: (J, 3) joints of the person at rest, head space.
        names: J joint names.
        torso: (3, 3) torso to camera if known; None takes the prior.

    Returns:
        viewmat: (4, 4) world to camera, the world being the bust at rest.
        neck: (3,) rotation vector.
        head: (3,) rotation vector.
    """
    torso = torso_prior(rotation) if torso is None else torso
    neck, head = split_head_turn(rotation_vector(torso.T @ rotation))
    skin = about(neck, joints[names.index("neck")]) @ about(head, joints[names.index("head")])
    measured = np.eye(4)
    measured[:3, :3], measured[:3, 3] = rotation, translation
    return measured @ np.linalg.inv(skin), neck, head


def torso_prior(rotation: np.ndarray) -> np.ndarray:
    """(3, 3) likely torso to camera for a head to camera (3, 3): upright, half the head's yaw."""
    yaw, pitch, roll = head_angles(rotation)
    return _LEVEL @ _from_angles(FOLLOWS_YAW * yaw, FOLLOWS_PITCH * pitch, FOLLOWS_ROLL * roll)


def head_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in radians of a head to camera (3, 3) rotation against facing the camera upright.

    Yaw is positive towards the subject's left, pitch down, roll with the crown to the subject's right.
    """
    level = _LEVEL @ rotation
    yaw = float(np.arctan2(level[0, 2], level[2, 2]))
    pitch = float(-np.arcsin(np.clip(level[1, 2], -1, 1)))
    roll = float(np.arctan2(level[1, 0], level[1, 1]))
    return yaw, pitch, roll


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """(3,) rotation vector of a (3, 3) rotation matrix."""
    return quat_to_axis_angle(matrix_to_quat(np.asarray(matrix, np.float64)))


def mean_rotation(matrices: np.ndarray) -> np.ndarray:
    """(3, 3) rotation nearest to all of (T, 3, 3) in the sum of squared matrix differences."""
    u, _, v = np.linalg.svd(matrices.mean(0))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v


def about(vector: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(4, 4) rotation by a rotation vector about a point."""
    out = np.eye(4)
    out[:3, :3] = axis_angle_to_matrix(vector)
    out[:3, 3] = point - out[:3, :3] @ point
    return out


def _from_angles(yaw: float, pitch: float, roll: float) -> np.ndarray:
    turn = axis_angle_to_matrix(np.array([[0, yaw, 0], [pitch, 0, 0], [0, 0, roll]], np.float64))
    return turn[0] @ turn[1] @ turn[2]
