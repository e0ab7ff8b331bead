"""Where the bust is while the head moves: the pose of the torso over time, apart from neck and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headsplat.track.solver import Pose
from headsplat.track.torso import mean_rotation, split_turn, torso_prior

_SLOW = 0.5
"""Standard deviation in seconds of the Gaussian in time that the torso's turn is smoothed by."""


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


def take_stance(poses: Sequence[Pose], joints: np.ndarray, names: Sequence[str], fps: float) -> Stance:
    """Part measured head poses into the torso's share and the joints'; together they are what was measured.

    Args:
        poses: one per frame.
        joints: (J, 3) joints of the person at rest.
        names: J joint names.
        fps: frames per second.
    """
    rotations = np.array([pose.rotation for pose in poses])
    torsos = _slow(np.array([torso_prior(rotation) for rotation in rotations]), _SLOW * fps)
    parts = [
        split_turn(pose.rotation, pose.translation, joints, names, torso)
        for pose, torso in zip(poses, torsos, strict=True)
    ]
    T_camera_root = np.array([viewmat for viewmat, _, _ in parts])
    viewmat = np.eye(4)
    viewmat[:3, :3] = mean_rotation(T_camera_root[:, :3, :3])
    viewmat[:3, 3] = np.median(T_camera_root[:, :3, 3], 0)
    return Stance(
        viewmat,
        np.linalg.inv(viewmat) @ T_camera_root,
        np.array([neck for _, neck, _ in parts]),
        np.array([head for _, _, head in parts]),
    )


def _slow(rotations: np.ndarray, sigma: float) -> np.ndarray:
    """(T, 3, 3) rotations, each the weighted mean of its neighbours in time."""
    radius = min(int(np.ceil(3 * sigma)), len(rotations) - 1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    out = np.empty_like(rotations)
    for t in range(len(rotations)):
        near = np.arange(max(0, t - radius), min(len(rotations), t + radius + 1))
        w = weights[near - t + radius]
        out[t] = mean_rotation((rotations[near] * (w / w.sum())[:, None, None]).sum(0)[None])
    return out
