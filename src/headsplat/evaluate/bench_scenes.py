"""Scenes for the benchmarks: an ellipsoid of splats the size of a head, as a cloud and as a rig."""

from __future__ import annotations

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.camera import Camera
from headsplat.gaussians import Gaussians

HEIGHT = 0.2  # metres from chin to crown; it fills 60 % of the picture's height
LAM_80K = 81_424  # the number of Gaussians of LAM-80K


def cloud(count: int, channels: int = 3, *, size: int = 512, seed: int = 0) -> Gaussians:
    """An ellipsoid shell of `count` Gaussians, seen from both sides: nothing at the back is left out.

    Standard deviations shrink with the number of Gaussians (0.8 px at 81,424 in 512 pixels, 3.2 px at 5,000),
    15 % anisotropic; opacity 0.9; random features.
    """
    r = np.random.default_rng(seed)
    i = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * i / count), np.pi * (1 + np.sqrt(5)) * i  # Fibonacci sphere
    sphere = np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], 1)
    means = sphere * [0.08, 0.1, 0.09] + r.normal(0, 2e-4, (count, 3))
    pixel = HEIGHT / (0.6 * 512)
    scales = 0.8 * np.sqrt(LAM_80K / count) * pixel * np.exp(r.normal(0, 0.15, (count, 3)))
    quats = r.normal(size=(count, 4))
    arrays = (
        means,
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        scales,
        np.full(count, 0.9),
        r.random((count, channels)),
    )
    order = r.permutation(count)  # neighbours in memory need not be neighbours in space
    return Gaussians(*(a[order].astype(np.float32) for a in arrays))


def cameras(size: int = 512, count: int = 8) -> list[Camera]:
    """Views from within 30 degrees of the front, 1 m away; benchmarks go round them."""
    yaws = np.radians(30) * np.sin(2 * np.pi * np.arange(count) / count)
    focal = 0.6 * size / HEIGHT
    return [Camera.orbit(yaw, distance=1.0, focal=focal, width=size, height=size) for yaw in yaws]


def rig(count: int, expressions: int = 52, *, seed: int = 0) -> Avatar:
    """The ellipsoid as an avatar: expressions that move 16 % of it each, and six joints whose motions blend.

    The nearer 40 % of what an expression moves also turns and changes size, as is usual on avatars of faces.
    """
    r = np.random.default_rng(seed)
    gaussians = cloud(count, seed=seed)
    means, frames = [], []
    for center in gaussians.means[r.integers(0, count, expressions)]:
        far = np.linalg.norm(gaussians.means - center, axis=1)
        means.append(_bump(far, int(0.16 * count), r.normal(0, 3e-3, 3)))
        frames.append(_bump(far, int(0.064 * count), r.normal(0, 0.05, 6)))

    joint_rest = np.array(
        [[0, -0.2, 0], [0, -0.1, 0], [0, 0, 0], [0, -0.03, 0.02], [0.03, 0.03, 0.07], [-0.03, 0.03, 0.07]]
    )
    distance = np.linalg.norm(gaussians.means[:, None] - joint_rest, axis=2)
    nearest = np.argsort(distance, 1)[:, :4]
    weights = np.exp(-30 * np.take_along_axis(distance, nearest, 1))
    return Avatar(
        gaussians=gaussians,
        skin_joints=nearest.astype(np.uint8),
        skin_weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        joints=("root", "neck", "head", "jaw", "left_eye", "right_eye"),
        parents=np.array([-1, 0, 1, 2, 2, 2]),
        joint_rest=joint_rest.astype(np.float32),
        expressions=tuple(f"expression_{e}" for e in range(expressions)),
        expression_means=_table(means),
        expression_frames=_table(frames),
        seen=np.ones(count, np.float32),
        view_target=np.zeros(3, np.float32),
        view_height=HEIGHT / 0.6,
        method="ellipsoid",
    )


def _bump(far: np.ndarray, count: int, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest Gaussians, and a change that falls off from the nearest to the farthest of them."""
    rows = np.sort(np.argpartition(far, count)[:count])
    return rows, (1 - far[rows] / far[rows].max())[:, None] * change


def _table(expressions: list[tuple[np.ndarray, np.ndarray]]) -> SparseOffsets:
    """(rows, values) of every expression as a table, in values that half floats hold exactly."""
    starts = np.cumsum([0, *(len(rows) for rows, _ in expressions)])
    index = np.concatenate([rows for rows, _ in expressions])
    values = np.concatenate([values for _, values in expressions])
    return SparseOffsets(
        starts.astype(np.int64), index.astype(np.int32), values.astype(np.float16).astype(np.float32)
    )


def poses(
    avatar: Avatar, active: int, count: int = 8, *, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` poses: (E,) weights, `active` of which are not zero, and (J, 4, 4) joint transforms."""
    r = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        weights = np.zeros(len(avatar.expressions), np.float32)
        chosen = r.permutation(len(weights))[:active]
        weights[chosen] = r.uniform(0.05, 0.6, len(chosen))
        turns = {name: r.normal(0, 0.1, 3) for name in avatar.joints if name in ("neck", "head", "jaw")}
        out.append((weights, avatar.joint_transforms(turns)))
    return out
