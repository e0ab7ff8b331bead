"""A cloud of 3D Gaussians and the pure functions that move, join and select them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError

Array = Any  # numpy.ndarray or torch.Tensor


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians; all arrays numpy or all torch, float32 unless a caller needs float64.

    Attributes:
        means: (N, 3) centres, metres.
        quats: (N, 4) rotations, unit quaternions wxyz.
        scales: (N, 3) standard deviations along the rotated axes, metres (linear, not log).
        opacities: (N,) 0..1 (after the sigmoid).
        features: (N, C) what is blended; RGB is display-referred sRGB 0..1.
    """

    means: Array
    quats: Array
    scales: Array
    opacities: Array
    features: Array

    def __len__(self) -> int:
        return len(self.means)

    def check(self, name: str = "The avatar") -> Gaussians:
        """Return self if shapes agree and every number is finite.

        Raises:
            HeadsplatError: naming the first attribute that is wrong.
        """
        n = len(self.means)
        wanted = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,)}
        for field in fields(self):
            value = getattr(self, field.name)
            shape = wanted.get(field.name, (n, *value.shape[1:]))
            if tuple(value.shape) != shape or (field.name == "features" and value.ndim != 2):
                raise HeadsplatError(
                    f"{name} has {field.name} of shape {tuple(value.shape)}, not {shape}; it is damaged."
                )
            if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                raise HeadsplatError(
                    f"{name} has {field.name} that are not finite numbers (NaN or infinity); it is damaged."
                )
        return self


def subset(gaussians: Gaussians, index: Array) -> Gaussians:
    """The Gaussians picked by a boolean mask (N,) or by integer indices (M,)."""
    return Gaussians(*(getattr(gaussians, f.name)[index] for f in fields(gaussians)))


def concat(clouds: Sequence[Gaussians]) -> Gaussians:
    """All Gaussians of several clouds, in order; the clouds must agree in array type and channels."""
    columns = [[getattr(c, f.name) for c in clouds] for f in fields(Gaussians)]
    if isinstance(columns[0][0], np.ndarray):
        return Gaussians(*(np.concatenate(column) for column in columns))
    import torch

    return Gaussians(*(torch.cat(column) for column in columns))


def transform(gaussians: Gaussians, T: np.ndarray) -> Gaussians:
    """Move a numpy cloud by the rigid (4, 4) transform `T_new_old`: means and quaternions turn together."""
    rotation = T[:3, :3].astype(gaussians.means.dtype)
    means = gaussians.means @ rotation.T + T[:3, 3].astype(gaussians.means.dtype)
    quats = quat_multiply(matrix_to_quat(rotation)[None], gaussians.quats)
    return Gaussians(means, quats, gaussians.scales, gaussians.opacities, gaussians.features)


def quat_multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of (..., 4) wxyz quaternions: first b, then a."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def quat_to_matrix(quats: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation matrices of (..., 4) wxyz quaternions (normalised here)."""
    w, x, y, z = np.moveaxis(quats / np.linalg.norm(quats, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def matrix_to_quat(matrices: np.ndarray) -> np.ndarray:
    """(..., 4) unit wxyz quaternions with w >= 0 of (..., 3, 3) rotation matrices."""
    m = matrices
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # The four candidates of Shepperd's method; the largest squared component is the safe divisor.
    squares = np.stack([1 + d0 + d1 + d2, 1 + d0 - d1 - d2, 1 - d0 + d1 - d2, 1 - d0 - d1 + d2], -1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    s0, s1, s2, s3 = np.moveaxis(squares, -1, 0)
    candidates = np.stack(
        [
            np.stack([s0, a, b, c], -1),
            np.stack([a, s1, d, e], -1),
            np.stack([b, d, s2, f], -1),
            np.stack([c, e, f, s3], -1),
        ],
        -2,
    )
    best = np.take_along_axis(candidates, squares.argmax(-1)[..., None, None], -2)[..., 0, :]
    best = best / np.linalg.norm(best, axis=-1, keepdims=True)
    return np.where(best[..., :1] < 0, -best, best)


def axis_angle_to_matrix(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation matrices of (..., 3) rotation vectors in radians (Rodrigues' formula)."""
    return quat_to_matrix(axis_angle_to_quat(vectors))


def axis_angle_to_quat(vectors: np.ndarray) -> np.ndarray:
    """(..., 4) unit wxyz quaternions of (..., 3) rotation vectors in radians."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    # sin(a/2)/a tends to 1/2 at zero; np.sinc keeps that limit exact.
    return np.concatenate([np.cos(angle / 2), vectors * 0.5 * np.sinc(angle / (2 * np.pi))], -1)


def quat_to_axis_angle(quats: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors in radians, at most pi long, of (..., 4) unit wxyz quaternions."""
    quats = np.where(quats[..., :1] < 0, -quats, quats)
    sine = np.linalg.norm(quats[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quats[..., :1])
    # angle / sine tends to 2 at zero.
    return quats[..., 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)
