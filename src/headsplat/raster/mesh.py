"""A z-buffer for triangle meshes: which face every pixel sees, how far away, and where on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.raster.cpu import _kernel, check_size


class MeshRender(NamedTuple):
    """What each pixel's centre sees of a mesh.

    Attributes:
        depth: (H, W) float32 camera depth in metres, infinity where nothing is seen.
        face: (H, W) int32 index of the face, -1 where nothing is seen.
        barycentrics: (H, W, 3) float32 perspective-correct weights of the face's corners; zeros where empty.
    """

    depth: np.ndarray
    face: np.ndarray
    barycentrics: np.ndarray


def rasterize_mesh(
    points: np.ndarray, faces: np.ndarray, width: int, height: int, near: float = 1e-3
) -> MeshRender:
    """Draw triangles with hidden surfaces removed; both sides of a face are seen.

    Corners are rounded to 1/256 pixel, which makes the edges of neighbouring faces exactly watertight: a
    pixel on a shared edge belongs to one of the two. Where two faces are equally far, the one with the lower
    index is seen. Faces with a corner at `near` or nearer are left out whole.

    Args:
        points: (V, 3) x and y in pixels and camera depth in metres, as `Camera.project` gives them.
        faces: (F, 3) indices of corners.
        width: pixels.
        height: pixels.
        near: smallest depth drawn, metres.

    Raises:
        HeadsplatError: wrong shapes, or a size not within 1..16384.
    """
    points = np.ascontiguousarray(points, np.float32)
    faces = np.ascontiguousarray(faces, np.int32)
    if points.ndim != 2 or points.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise HeadsplatError(
            f"A mesh needs points (V, 3) and faces (F, 3), not arrays of {points.shape} and {faces.shape}."
        )
    check_size(width, height)
    return MeshRender(*_kernel.mesh(points, faces, width, height, near))
