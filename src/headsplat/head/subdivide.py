"""Midpoint subdivision of a head model: four triangles for one, every attribute averaged along the edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headsplat.head.model import HeadModel


@dataclass(frozen=True)
class Midpoints:
    """One subdivision of a triangle mesh of V vertices, in the order that LAM (2025, section 3.2) uses.

    Attributes:
        edges: (M, 2) unique edges, smaller index first, sorted; new vertex V + m is the middle of edge m.
        faces: (4 F, 3) int32: the F triangles at the first corners, those at the second, at the third, those
            in the middle.
    """

    edges: np.ndarray
    faces: np.ndarray

    @staticmethod
    def of(faces: np.ndarray, count: int) -> Midpoints:
        """Subdivide (F, 3) `faces` over `count` vertices."""
        a, b, c = faces.astype(np.int64).T
        sides = np.sort(np.stack([np.stack(s, 1) for s in ((b, c), (c, a), (a, b))]), axis=-1)
        edges, inverse = np.unique(sides.reshape(-1, 2), axis=0, return_inverse=True)
        mid_a, mid_b, mid_c = count + inverse.reshape(3, -1)
        quarters = [(a, mid_c, mid_b), (b, mid_a, mid_c), (c, mid_b, mid_a), (mid_a, mid_b, mid_c)]
        return Midpoints(edges, np.concatenate([np.stack(q, 1) for q in quarters]).astype(np.int32))

    def extend(self, values: np.ndarray, axis: int = 0) -> np.ndarray:
        """Append to the per-vertex `values` the mean of both ends of every edge."""
        first, second = (np.take(values, self.edges[:, k], axis) for k in (0, 1))
        return np.concatenate([values, 0.5 * (first + second)], axis).astype(values.dtype)


def subdivide(model: HeadModel, levels: int = 1) -> HeadModel:
    """The same head with about four times the vertices per level; the first vertices are the old ones.

    Landmarks stay where they are, as points; parts, joints and names are unchanged.
    """
    for _ in range(levels):
        model = _subdivide_once(model)
    return model


def _subdivide_once(model: HeadModel) -> HeadModel:
    mesh = Midpoints.of(model.faces, len(model.template))
    chart = Midpoints.of(model.uv_faces, len(model.uv))
    landmark_faces, landmark_barycentrics = model.landmark_faces, model.landmark_barycentrics
    if landmark_faces is not None and landmark_barycentrics is not None:
        landmark_faces, landmark_barycentrics = _in_quarters(
            landmark_faces, landmark_barycentrics, len(model.faces)
        )
    return replace(
        model,
        template=mesh.extend(model.template),
        shape_basis=mesh.extend(model.shape_basis, 1),
        expression_basis=mesh.extend(model.expression_basis, 1),
        pose_basis=None if model.pose_basis is None else mesh.extend(model.pose_basis, 1),
        skin_weights=mesh.extend(model.skin_weights),
        faces=mesh.faces,
        uv=chart.extend(model.uv),
        uv_faces=chart.faces,
        face_part=np.tile(model.face_part, 4),
        mirror=None if model.mirror is None else _mirror_midpoints(model.mirror, mesh.edges),
        landmark_faces=landmark_faces,
        landmark_barycentrics=landmark_barycentrics,
    )


def _mirror_midpoints(mirror: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The mirror map with the midpoints added; the mesh must have the mirror image of each of its edges."""
    count = len(mirror)
    keys = edges[:, 0] * count + edges[:, 1]
    image = np.sort(mirror[edges].astype(np.int64), axis=1)
    return np.concatenate([mirror, count + np.searchsorted(keys, image[:, 0] * count + image[:, 1])]).astype(
        np.int32
    )


def _in_quarters(faces: np.ndarray, barycentrics: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same points in the four quarters of their triangles."""
    quarter = np.where(barycentrics.max(1) >= 0.5, barycentrics.argmax(1), 3)
    turns = np.stack([np.roll(barycentrics, -k, axis=1) for k in range(3)])
    corner = 2 * turns - np.array([1, 0, 0])
    choices = np.concatenate([corner, 1 - 2 * barycentrics[None]])
    chosen = choices[quarter, np.arange(len(faces))]
    return (quarter * count + faces).astype(np.int32), chosen.astype(np.float32)
