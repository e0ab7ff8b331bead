"""Subdivision: midpoints of everything, in the published order."""

import numpy as np
import pytest

from headsplat.head.free import load_free_head
from headsplat.head.subdivide import Midpoints


def test_order_of_vertices_and_faces_on_two_triangles():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    fine = Midpoints.of(faces, 4)
    assert fine.edges.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    first, second, third, middle = (
        [[0, 4, 5], [2, 6, 8]],
        [[1, 6, 4], [1, 7, 6]],
        [[2, 5, 6], [3, 8, 7]],
        [[6, 5, 4], [7, 8, 6]],
    )
    assert fine.faces.tolist() == first + second + third + middle


@pytest.mark.parametrize("level", [1, 2])
def test_each_level_averages_every_attribute_along_the_edges(level):
    coarse, fine = load_free_head(level - 1), load_free_head(level)
    count = len(coarse)
    edges = {tuple(sorted((int(f[k]), int(f[(k + 1) % 3])))) for f in coarse.faces for k in range(3)}
    edges = np.array(sorted(edges))
    assert len(fine) == count + len(edges) and len(fine.faces) == 4 * len(coarse.faces)
    for name, axis in (("template", 0), ("shape_basis", 1), ("expression_basis", 1), ("skin_weights", 0)):
        old = getattr(coarse, name)[:5] if axis else getattr(coarse, name)
        new = getattr(fine, name)[:5] if axis else getattr(fine, name)
        np.testing.assert_array_equal(np.take(new, np.arange(count), axis), old)
        middle = 0.5 * (np.take(old, edges[:, 0], axis) + np.take(old, edges[:, 1], axis))
        np.testing.assert_allclose(np.take(new, np.arange(count, len(fine)), axis), middle, atol=1e-7)


def test_laws_survive_two_levels():
    head = load_free_head(2)
    assert 60_000 < len(head) < 120_000
    mirror = head.mirror
    assert np.array_equal(mirror[mirror], np.arange(len(head)))
    np.testing.assert_allclose(head.template[mirror] * [-1, 1, 1], head.template, atol=1e-7)
    np.testing.assert_allclose(head.skin_weights.sum(1), 1, atol=1e-5)
    coarse = load_free_head(0)
    betas = np.random.default_rng(0).normal(size=40)
    shaped = [model.landmarks(model.with_shape(betas).vertices) for model in (coarse, head)]
    np.testing.assert_allclose(shaped[0], shaped[1], atol=1e-6)
    for part in coarse.part_names:
        old = coarse.template[coarse.vertices_of(part)]
        new = head.template[head.vertices_of(part)]
        np.testing.assert_allclose([new.min(0), new.max(0)], [old.min(0), old.max(0)], atol=1e-7)
    a, b, c = (head.uv[head.uv_faces[:, k]] for k in range(3))
    assert ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).min() > 0
