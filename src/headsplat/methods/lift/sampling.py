"""Triangles cut into parts of even area, and the Gaussians that cover them."""

from __future__ import annotations

import numpy as np

SPREAD = 0.28
"""Covariance of a splat over that of its triangle's corners: smaller leaves a lattice, larger blurs."""


def sub_triangles(level: int) -> np.ndarray:
    """(4^level, 3) barycentrics of the centres of a triangle cut 2^level times along each edge."""
    n = 2**level
    out = []
    for i in range(n):
        out += [((i + 1 / 3) / n, (j + 1 / 3) / n) for j in range(n - i)]
        out += [((i + 2 / 3) / n, (j + 2 / 3) / n) for j in range(n - i - 1)]
    ab = np.array(out)
    return np.concatenate([1 - ab.sum(1, keepdims=True), ab], 1)


def sample_faces(
    vertices: np.ndarray, faces: np.ndarray, chosen: np.ndarray, area: float, lowest: int, highest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the chosen faces into parts of about `area` square metres, or thin them out where they are smaller.

    Returns:
        face (N,), barycentric (N, 3) of the parts' centres, split (N,) parts per edge; under 1 where one face
        stands for several.
    """
    corner = vertices[faces[chosen]]
    size = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    share = np.minimum(1.5 * size / area, 1.0)
    if lowest == 0 and share.mean() < 0.9:
        # Walk over the surface in a local order and keep a face whenever enough area has gone by.
        order = _local_order(corner.mean(1))
        passed = np.floor(np.cumsum(share[order]) + 0.5)
        kept = np.sort(order[np.diff(passed, prepend=0) > 0])
        chosen, size, share = chosen[kept], size[kept], share[kept]
    else:
        share = np.ones(len(chosen))
    bolder = 0.75 if share.min(initial=1) < 0.9 else 1.0  # thinned faces are irregular: overlap more
    level = np.clip(np.round(np.log2(np.maximum(size / area, 1e-9)) / 2), lowest, highest).astype(int)
    face, barycentric, split = [], [], []
    for k in np.unique(level):
        parts, own = sub_triangles(k), chosen[level == k]
        face.append(np.repeat(own, len(parts)))
        barycentric.append(np.tile(parts, (len(own), 1)))
        split.append(np.repeat(2.0**k * np.sqrt(share[level == k]) * bolder, len(parts)))
    if not face:
        return np.zeros(0, int), np.zeros((0, 3)), np.zeros(0)
    return np.concatenate(face), np.concatenate(barycentric), np.concatenate(split)


def _local_order(points: np.ndarray) -> np.ndarray:
    """Order of (N, 3) points along a space-filling curve (Morton 1966): neighbours follow soon."""
    cells = ((points - points.min(0)) / max(float(np.ptp(points, axis=0).max()), 1e-9) * 1023).astype(
        np.int64
    )
    code = np.zeros(len(points), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def tangents(corners: np.ndarray, split: np.ndarray, spread: float = SPREAD) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors whose outer products sum to `spread` times the corner scatter of the cut triangle.

    Args:
        corners: (N, 3, 3) corners of the whole triangles, metres.
        split: (N,) parts per edge.
        spread: covariance over corner scatter.
    """
    w = (corners - corners.mean(1, keepdims=True)) * (np.sqrt(spread) / split)[:, None, None]
    return (w[:, 0] - w[:, 1]) / np.sqrt(2), (w[:, 0] + w[:, 1] - 2 * w[:, 2]) / np.sqrt(6)
