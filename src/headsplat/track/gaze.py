"""Where the eyes look: viewing rays through the irises meet the eyeballs."""

from __future__ import annotations

import numpy as np

from headsplat.gaussians import axis_angle_to_quat, quat_multiply, quat_to_axis_angle
from headsplat.track import landmarks as lm

_LIMIT = np.array([0.7, 0.5])
"""Largest yaw and pitch, radians; eyes do not turn further."""
DIVERGENCE = 0.085
"""Radians by which an iris sits outwards of the free head's eye axis when a person looks straight ahead.

Measured as half the mean difference of the two eyes over portraits that look into the camera; without it
every gaze would come out wall-eyed, and an avatar at rest cross-eyed.
"""
_FULL_LOOK = 0.6
"""The eye turn, radians, at which an eyeLook action has weight 1."""


def measure_gaze(
    eyes: np.ndarray,
    radius: float,
    rotation: np.ndarray,
    landmarks: np.ndarray,
    focal: float,
    centre: np.ndarray,
) -> np.ndarray:
    """Yaw and pitch of both eyes against the head.

    A closing eye shows no iris that could be trusted: as its lids approach, it takes the other eye's
    direction, and with both closed the gaze is straight.

    Args:
        eyes: (2, 3) centres of the right and the left eyeball in the camera, metres.
        radius: of the eyeballs, metres.
        rotation: (3, 3) head to camera.
        landmarks: (478, 2) pixels.
        focal: pixels.
        centre: (2,) principal point, pixels.

    Returns:
        (2, 2) radians, right eye first: yaw positive to the subject's left, pitch positive down.
    """
    gaze = np.zeros((2, 2))
    for i, (eye, iris) in enumerate(zip(eyes, (lm.IRIS_RIGHT, lm.IRIS_LEFT), strict=True)):
        pixel = landmarks[iris].mean(0)
        ray = np.append((pixel - centre) / focal, 1.0)
        ray /= np.linalg.norm(ray)
        # Nearer intersection with the sphere; a ray that misses takes the sphere's nearest side.
        along = ray @ eye
        depth = along - np.sqrt(max(along**2 - (eye @ eye - radius**2), 0.0))
        look = (depth * ray - eye) @ rotation
        look /= np.linalg.norm(look)
        gaze[i] = np.arctan2(look[0], look[2]) + (DIVERGENCE, -DIVERGENCE)[i], -np.arcsin(look[1])
    gaze = np.clip(gaze, -_LIMIT, _LIMIT)
    openness = np.clip((lm.lid_openings(landmarks) - 0.12) / 0.1, 0, 1)[:, None]
    if openness.sum() < 1e-3:
        return np.zeros((2, 2))
    common = (gaze * openness).sum(0) / openness.sum()
    # A nearly closed pair of eyes is pulled to straight ahead as well.
    return (gaze * openness + common * (1 - openness)) * min(1.0, openness.max() * 2)


def gaze_actions(names: tuple[str, ...], expression: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """The expression (E,) with its eyeLook actions, which move the lids, set from the mean gaze (2, 2)."""
    yaw, pitch = gaze.mean(0) / _FULL_LOOK
    looks = {
        "eyeLookOutLeft": yaw,
        "eyeLookInRight": yaw,
        "eyeLookInLeft": -yaw,
        "eyeLookOutRight": -yaw,
        "eyeLookDownLeft": pitch,
        "eyeLookDownRight": pitch,
        "eyeLookUpLeft": -pitch,
        "eyeLookUpRight": -pitch,
    }
    out = expression.copy()
    for name, value in looks.items():
        if name in names:
            out[names.index(name)] = np.clip(value, 0, 1)
    return out


def eye_rotations(gaze: np.ndarray) -> np.ndarray:
    """(2, 3) rotation vectors of the right and the left eye joint for yaw and pitch (2, 2)."""
    zero = np.zeros(2)
    pitch = axis_angle_to_quat(np.stack([gaze[:, 1], zero, zero], 1))
    yaw = axis_angle_to_quat(np.stack([zero, gaze[:, 0], zero], 1))
    return quat_to_axis_angle(quat_multiply(yaw, pitch))
