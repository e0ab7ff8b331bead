"""Normals of triangle meshes."""

from __future__ import annotations

import numpy as np


def face_crosses(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) cross products of two edges: along the outward normal, twice the area long."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) unit outward normals; zero for faces without area."""
    return _unit(face_crosses(vertices, faces))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, the area-weighted mean of the adjoining faces; zero for unused vertices."""
    crosses = face_crosses(vertices, faces)
    sums = [
        np.bincount(faces.ravel(), np.repeat(crosses[:, axis], 3), minlength=len(vertices))
        for axis in range(3)
    ]
    return _unit(np.stack(sums, 1)).astype(vertices.dtype)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
