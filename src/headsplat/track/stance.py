"""Where the bust is while the head moves: the pose of the torso over time, apart from neck and head.

Face points say nothing about the torso. The shoulders do, where they are seen: how they shift, tilt and turn
against their usual place is how the bust moves. That usual place, and everything where no shoulders are seen,
is a prior: upright, half turned with the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.motion import NECK_SHARE
from headsplat.track.shoulders import RATE
from headsplat.track.solver import Fit
from headsplat.track.torso import about, mean_rotation, rotation_vector, split_turn, torso_prior

_SLOW, _STEADY = 0.5, 0.2
"""Standard deviation in seconds of the Gaussian in time over the prior's turn, and over the shoulders."""
_ENOUGH = 0.3
"""Least share of the looks that must have found the shoulders."""
_BELOW_NECK = 0.06
"""The middle of the shoulders lies this far below the neck joint, metres."""
_REACH, _BEND = np.array([0.01, 0.01, 0.06]), 0.15
"""How far the head's joint may be off, metres in the camera, against how far the neck may leave its usual
share of the head's turn, radians: standard deviations. Depth is what landmarks know least about."""
_STEPS = 6


@dataclass(frozen=True)
class Stance:
    """The head's pose in every frame as a still camera, a moving bust and two joints.

    Attributes:
        viewmat: (4, 4) world to camera; the world is the bust at rest in its mean pose.
        T_world_root: (T, 4, 4) pose of the bust.
        neck: (T, 3) rotation vectors.
        head: (T, 3) rotation vectors.
    """

    viewmat: np.ndarray
    T_world_root: np.ndarray
    neck: np.ndarray
    head: np.ndarray


def take_stance(
    fit: Fit, joints: np.ndarray, names: Sequence[str], fps: float, shoulders: np.ndarray | None = None
) -> Stance:
    """Part measured head poses into the torso's share and the joints'; together they are what was measured.

    Args:
        fit: focal length and one pose per frame.
        joints: (J, 3) joints of the person at rest.
        names: J joint names.
        fps: frames per second.
        shoulders: (T, 5) from `headsplat.track.shoulders`, in the fit's pixels; NaN where none were found.
    """
    T_camera_head = np.array([_rigid(pose.rotation, pose.translation) for pose in fit.poses])
    turns = _slow(np.array([torso_prior(pose.rotation) for pose in fit.poses]), _SLOW * fps)
    T_camera_root = np.array(
        [
            split_turn(pose.rotation, pose.translation, joints, names, turn)[0]
            for pose, turn in zip(fit.poses, turns, strict=True)
        ]
    )
    looks = max(1, len(fit.poses) // max(1, round(fps / RATE)))
    if shoulders is not None and np.isfinite(shoulders).all(1).sum() >= _ENOUGH * looks:
        T_camera_root = _follow_shoulders(
            T_camera_root, joints[names.index("neck")], fit.focal, shoulders, fps
        )
    parts = [
        _bend(root, head, joints[names.index("neck")], joints[names.index("head")])
        for root, head in zip(T_camera_root, T_camera_head, strict=True)
    ]
    T_camera_root = np.array([root for root, _, _ in parts])
    viewmat = _rigid(mean_rotation(T_camera_root[:, :3, :3]), np.median(T_camera_root[:, :3, 3], 0))
    return Stance(
        viewmat,
        np.linalg.inv(viewmat) @ T_camera_root,
        np.array([neck for _, neck, _ in parts]),
        np.array([head for _, _, head in parts]),
    )


def _follow_shoulders(
    T_camera_root: np.ndarray, neck: np.ndarray, focal: float, shoulders: np.ndarray, fps: float
) -> np.ndarray:
    """(T, 4, 4) torso poses that shift, tilt and turn with the shoulders around the mean of those given."""
    shoulders = _gaussian(_interpolated(shoulders), _STEADY * fps)
    across = shoulders[:, :2] - shoulders[:, 2:4]
    tilt = -np.arctan2(across[:, 1], across[:, 0])
    tilt, turn = tilt - np.median(tilt), shoulders[:, 4] - np.median(shoulders[:, 4])
    middle = (shoulders[:, :2] + shoulders[:, 2:4]) / 2
    middle = middle - np.median(middle, 0)
    usual = mean_rotation(T_camera_root[:, :3, :3])
    anchor = neck - [0, _BELOW_NECK, 0]
    places = T_camera_root[:, :3, :3] @ anchor + T_camera_root[:, :3, 3]
    depths = _gaussian(places[:, 2:], _SLOW * fps)
    out = np.empty_like(T_camera_root)
    for t in range(len(out)):
        yaw = axis_angle_to_matrix(np.array([0.0, turn[t], 0.0]))
        rotation = usual @ yaw @ axis_angle_to_matrix(np.array([0.0, 0.0, tilt[t]]))
        place = np.append(np.median(places[:, :2], 0) + middle[t] * depths[t] / focal, depths[t])
        out[t] = _rigid(rotation, place - rotation @ anchor)
    return out


def _bend(
    T_camera_root: np.ndarray, T_camera_head: np.ndarray, neck: np.ndarray, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The torso, moved a little if it must be, and the neck's and head's rotation vectors that give the head.

    The neck bends so that the head's joint comes near its place (Gauss-Newton on its three angles); the rest
    of the way the torso moves along.
    """
    wanted = np.linalg.inv(T_camera_root) @ T_camera_head
    target = wanted[:3, :3] @ head + wanted[:3, 3]
    usual = NECK_SHARE * rotation_vector(wanted[:3, :3])
    bend, arm, view = usual.copy(), head - neck, T_camera_root[:3, :3] / _REACH[:, None]
    for _ in range(_STEPS):
        reach = axis_angle_to_matrix(bend) @ arm
        slopes = np.array([np.cross(axis, reach) for axis in np.eye(3)]).T
        J = np.concatenate([view @ slopes, np.eye(3) / _BEND])
        r = np.concatenate([view @ (neck + reach - target), (bend - usual) / _BEND])
        bend = bend - np.linalg.solve(J.T @ J, J.T @ r)
    turn = axis_angle_to_matrix(bend).T @ wanted[:3, :3]
    nod = rotation_vector(turn)
    return T_camera_head @ np.linalg.inv(about(bend, neck) @ about(nod, head)), bend, nod


def _interpolated(values: np.ndarray) -> np.ndarray:
    """(T, D) with rows that are not finite filled linearly in time."""
    known = np.flatnonzero(np.isfinite(values).all(1))
    times = np.arange(len(values))
    return np.stack([np.interp(times, known, column[known]) for column in values.T], 1)


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """(T, ...) each the weighted mean of its neighbours in time; near the ends, of those there are."""
    radius = min(int(np.ceil(3 * sigma)), len(values) - 1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    out = np.empty(values.shape)
    for t in range(len(values)):
        near = np.arange(max(0, t - radius), min(len(values), t + radius + 1))
        w = weights[near - t + radius]
        out[t] = np.tensordot(w / w.sum(), values[near], 1)
    return out


def _slow(rotations: np.ndarray, sigma: float) -> np.ndarray:
    """(T, 3, 3) rotations, each the weighted mean of its neighbours in time."""
    return np.array([mean_rotation(matrix[None]) for matrix in _gaussian(rotations, sigma)])


def _rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out
