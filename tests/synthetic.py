"""Random avatars of the true layout, for tests that need one and do not care whose."""

from __future__ import annotations

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.gaussians import Gaussians

JOINTS = ("root", "neck", "head", "jaw", "left_eye", "right_eye")
PARENTS = np.array([-1, 0, 1, 2, 2, 2], np.int32)
JOINT_REST = np.array(
    [[0, -0.25, -0.02], [0, -0.1, -0.01], [0, 0, 0], [0, 0.0, 0.02], [0.03, 0.06, 0.08], [-0.03, 0.06, 0.08]],
    np.float32,
)


def make_avatar(
    count: int = 400,
    *,
    seed: int = 0,
    expressions: tuple[str, ...] | None = None,
    channels: int = 3,
    frames: bool = True,
    appearance: bool = True,
    moved: float = 0.3,
) -> Avatar:
    """An egg of `count` Gaussians the size of a head, skinned by height, with random smooth expressions."""
    from headsplat.head.arkit import ARKIT

    names = ARKIT if expressions is None else expressions
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True) + 1e-9
    means = (directions * [0.08, 0.12, 0.1] + [0, 0.05, 0.02]).astype(np.float32)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    scales = rng.uniform(0.002, 0.02, (count, 3)).astype(np.float32)
    features = rng.uniform(0, 1, (count, channels)).astype(np.float32)
    gaussians = Gaussians(
        means,
        quats.astype(np.float32),
        scales,
        rng.uniform(0.3, 1, count).astype(np.float32),
        features,
    )
    skin_joints = np.zeros((count, 4), np.uint8)
    skin_joints[:, 0] = 2
    skin_joints[:, 1] = rng.integers(0, len(JOINTS), count)
    weight = rng.uniform(0.5, 1, count).astype(np.float32)
    skin_weights = np.zeros((count, 4), np.float32)
    skin_weights[:, 0], skin_weights[:, 1] = weight, 1 - weight

    def offsets(k: int, size: float) -> SparseOffsets:
        dense = rng.normal(0, size, (len(names), count, k)).astype(np.float32)
        dense[rng.uniform(size=(len(names), count)) > moved] = 0
        return SparseOffsets.from_dense(dense, 0.0)

    return Avatar(
        gaussians=gaussians,
        skin_joints=skin_joints,
        skin_weights=skin_weights,
        joints=JOINTS,
        parents=PARENTS,
        joint_rest=JOINT_REST,
        expressions=tuple(names),
        expression_means=offsets(3, 0.003),
        seen=rng.uniform(0, 1, count).astype(np.float32),
        view_target=np.array([0, 0.04, 0.02], np.float32),
        view_height=0.42,
        method="synthetic",
        expression_frames=offsets(6, 0.05) if frames else None,
        expression_appearance=offsets(channels + 1, 0.05) if appearance else None,
        source="0" * 64,
        info={"note": "made by a test"},
    )
