"""The mesh z-buffer: watertight edges, perspective-correct barycentrics, hidden surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.raster.mesh import rasterize_mesh


def grid_mesh(columns, rows, rng, width, height):
    """A jittered grid of triangles covering the whole image, its corners on random depths."""
    x, y = np.meshgrid(np.linspace(-2, width + 2, columns + 1), np.linspace(-2, height + 2, rows + 1))
    inner = np.zeros_like(x)
    inner[1:-1, 1:-1] = 1
    x += inner * rng.uniform(-0.15, 0.15, x.shape) * width / columns
    y += inner * rng.uniform(-0.15, 0.15, x.shape) * height / rows
    points = np.stack([x, y, rng.uniform(0.5, 2, x.shape)], -1).reshape(-1, 3).astype(np.float32)
    i = np.arange((columns + 1) * (rows + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    return points, faces.astype(np.int32)


def test_neighbouring_faces_leave_no_gap_and_never_overlap():
    rng = np.random.default_rng(0)
    points, faces = grid_mesh(12, 8, rng, 83, 47)
    # Some corners exactly on pixel centres, where an edge rule is needed.
    points[:, :2] = np.where(rng.random((len(points), 1)) < 0.5, np.round(points[:, :2]) + 0.5, points[:, :2])
    together = rasterize_mesh(points, faces, 83, 47)
    assert (together.face >= 0).all()
    hits = sum(
        (rasterize_mesh(points, faces[i : i + 1], 83, 47).face >= 0).astype(int) for i in range(len(faces))
    )
    assert (hits == 1).all()


def test_each_sample_belongs_to_one_of_the_triangles_round_a_corner():
    # A fan whose centre and spokes pass exactly through pixel centres.
    angles = np.arange(8) * np.pi / 4
    rim = np.round(16 * np.stack([np.cos(angles), np.sin(angles)], 1)) + 20.5
    points = np.concatenate([[[20.5, 20.5, 1]], np.concatenate([rim, np.ones((8, 1))], 1)]).astype(np.float32)
    faces = np.array([[0, 1 + k, 1 + (k + 1) % 8] for k in range(8)], np.int32)
    hits = sum((rasterize_mesh(points, faces[k : k + 1], 41, 41).face >= 0).astype(int) for k in range(8))
    whole = rasterize_mesh(points, faces, 41, 41).face >= 0
    assert hits.max() == 1 and np.array_equal(hits == 1, whole) and whole[20, 20]


def test_barycentrics_and_depth_are_perspective_correct():
    cam = Camera.orbit(0.4, 0.1, width=61, height=45, focal=60.0, distance=1.0)
    corners = np.array([[-0.3, -0.3, 0.4], [0.35, -0.2, -0.3], [0.0, 0.35, 0.1]])
    faces = np.array([[0, 1, 2]], np.int32)
    render = rasterize_mesh(cam.project(corners), faces, 61, 45)
    rows, columns = np.nonzero(render.face == 0)
    assert len(rows) > 100
    b = render.barycentrics[rows, columns]
    assert np.allclose(b.sum(1), 1, atol=1e-6)
    world = b @ corners  # back onto the 3D triangle, then into the picture again
    again = cam.project(world)
    assert np.abs(again[:, :2] - np.stack([columns, rows], 1) - 0.5).max() < 0.02
    assert np.abs(again[:, 2] - render.depth[rows, columns]).max() < 1e-4
    shuffled = rasterize_mesh(cam.project(corners[[2, 0, 1]]), np.array([[1, 2, 0]], np.int32), 61, 45)
    assert np.array_equal(render.depth, shuffled.depth)


def test_the_nearest_face_is_seen_and_ties_go_to_the_first():
    square = np.array([[2, 2, 1], [30, 2, 1], [2, 30, 1], [30, 30, 1]], np.float32)
    near = square * [1, 1, 0.5]
    points = np.concatenate([square, near, square]).astype(np.float32)
    faces = np.array([[0, 1, 2], [8, 9, 10], [4, 5, 6]], np.int32)
    render = rasterize_mesh(points, faces, 33, 33)
    assert set(np.unique(render.face)) == {-1, 2}
    assert set(np.unique(rasterize_mesh(points, faces[:2], 33, 33).face)) == {-1, 0}
    assert np.isinf(render.depth[render.face < 0]).all()


def test_unusable_faces_are_left_out():
    points = np.array([[2, 2, 1], [30, 2, -1], [2, 30, 1], [np.nan, 5, 1], [30, 30, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 3, 2], [0, 2, 99], [-1, 0, 2], [0, 0, 2]], np.int32)
    assert (rasterize_mesh(points, faces, 33, 33).face == -1).all()
    assert (rasterize_mesh(points[:0], faces[:0], 5, 7).face.shape) == (7, 5)
    with pytest.raises(HeadsplatError, match="faces"):
        rasterize_mesh(points, faces[:, :2], 5, 5)
