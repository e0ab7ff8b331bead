"""An ellipsoid head with six joints, 52 expressions and every optional table: small, quick and repeatable."""

from __future__ import annotations

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.gaussians import Gaussians
from headsplat.head.arkit import ARKIT

JOINTS = ("root", "neck", "head", "jaw", "left_eye", "right_eye")


def synthetic_head(count: int = 3001, seed: int = 0) -> Avatar:
    """An avatar of `count` Gaussians; odd by default, so that no row of a texture is full."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    means = (direction * [0.075, 0.11, 0.095] + [0, 0.06, 0.02]).astype(np.float32)
    quats = rng.normal(size=(count, 4))
    quats = (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)
    size = 0.0035 * np.sqrt(3000 / count)
    scales = (size * rng.uniform(0.5, 1.5, (count, 3)) * [1, 1, 0.3]).astype(np.float32)
    eyes = np.array([[0.032, 0.07, 0.1], [-0.032, 0.07, 0.1]], np.float32)
    colours = 0.5 + 0.25 * direction + 0.15 * np.sin(60 * means)
    colours += np.exp(-(np.linalg.norm(means - [0, 0.015, 0.1], axis=1, keepdims=True) ** 2) / 3e-4) * [
        0.3,
        -0.2,
        -0.2,
    ]
    for eye in eyes:
        colours -= 0.6 * np.exp(-(np.linalg.norm(means - eye, axis=1, keepdims=True) ** 2) / 1e-4)
    gaussians = Gaussians(
        means,
        quats,
        scales,
        rng.uniform(0.3, 1, count).astype(np.float32),
        np.clip(colours, 0, 1).astype(np.float32),
    )
    jaw = np.clip((0.03 - means[:, 1]) / 0.05, 0, 1) * (means[:, 2] > 0)
    neck = np.clip((-0.01 - means[:, 1]) / 0.05, 0, 1) * (1 - jaw)
    skin = np.stack([1 - jaw - neck, jaw, neck, np.zeros(count)], 1).astype(np.float32)
    joints = np.tile(np.array([2, 3, 1, 0], np.uint8), (count, 1))
    for side, eye in enumerate(eyes):
        near = np.linalg.norm(means - eye, axis=1) < 0.012
        skin[near] = [1, 0, 0, 0]
        joints[near, 0] = 4 + side

    centres = rng.uniform([-0.07, -0.04, 0.02], [0.07, 0.16, 0.12], (52, 3))
    centres[ARKIT.index("jawOpen")] = [0, -0.02, 0.1]
    bump = np.exp(-(np.linalg.norm(means[None] - centres[:, None], axis=-1) ** 2) / 0.03**2)
    push = rng.normal(0, 0.008, (52, 1, 3))
    push[ARKIT.index("jawOpen")] = [0, -0.03, -0.005]
    frames = np.concatenate([rng.normal(0, 0.4, (52, 1, 3)), rng.normal(0, 0.15, (52, 1, 3))], -1)
    looks = rng.normal(0, 0.15, (52, 1, 4))
    return Avatar(
        gaussians=gaussians,
        skin_joints=joints,
        skin_weights=skin,
        joints=JOINTS,
        parents=np.array([-1, 0, 1, 2, 2, 2], np.int32),
        joint_rest=np.concatenate(
            [[[0, -0.12, -0.03], [0, -0.06, -0.02], [0, 0, 0], [0, 0.02, 0.03]], eyes]
        ).astype(np.float32),
        expressions=tuple(ARKIT),
        expression_means=SparseOffsets.from_dense(bump[..., None] * push, 1e-4),
        expression_frames=SparseOffsets.from_dense(bump[..., None] * frames, 0.02),
        expression_appearance=SparseOffsets.from_dense(bump[..., None] * looks, 0.03),
        seen=(means[:, 2] > 0.02).astype(np.float32),
        view_target=np.array([0, 0.05, 0.02], np.float32),
        view_height=0.32,
        method="synthetic",
        info={"title": "Synthetic head"},
    )
