"""The texture chart of the free head: nothing overlaps, the face gets its share, left mirrors right."""

import numpy as np
import pytest

from headsplat.head.free import load_free_head
from headsplat.raster.mesh import rasterize_mesh


@pytest.fixture(scope="module")
def head():
    return load_free_head()


def signed_areas(head):
    a, b, c = (head.uv[head.uv_faces[:, k]] for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_no_triangle_is_flipped_and_all_lie_in_the_unit_square(head):
    assert signed_areas(head).min() > 0
    assert head.uv.min() >= 0 and head.uv.max() <= 1


def test_nothing_overlaps(head):
    size = 1500  # each pixel's nearest face from both sides: a second layer would show from behind
    flat = np.concatenate([head.uv * size, np.ones((len(head.uv), 1), np.float32)], 1)
    first = rasterize_mesh(flat, head.uv_faces, size, size)
    last = rasterize_mesh(flat, head.uv_faces[::-1], size, size)
    seen = first.face >= 0
    assert np.array_equal(first.face[seen], len(head.faces) - 1 - last.face[seen])
    assert abs(seen.mean() - signed_areas(head).sum()) < 2e-3


def test_the_face_and_the_eyes_get_their_share(head):
    area, corner = signed_areas(head), head.template[head.faces]
    on_skin = head.face_part == head.part_names.index("head")
    face = on_skin & (corner[..., 2] > 0.02).all(1) & (corner[..., 1] > -0.055).all(1)
    assert area[face].sum() > 0.20
    for part in ("left_eye", "right_eye"):
        assert area[head.faces_of(part)].sum() > 0.01


def test_the_chart_is_its_own_mirror_image_about_the_sagittal_plane(head):
    own, image = np.sort(head.faces, 1), np.sort(head.mirror[head.faces], 1)
    row_of = {tuple(face): row for row, face in enumerate(own.tolist())}
    twin = np.array([row_of[tuple(face)] for face in image.tolist()])

    def corners_by_vertex(vertices, rows):
        order = vertices.argsort(1)
        return np.take_along_axis(head.uv[head.uv_faces[rows]], order[..., None], 1)

    # Corners of a face in the order of their mirror vertices, beside those of its twin in its own order.
    mirrored = corners_by_vertex(head.mirror[head.faces], np.arange(len(head.faces)))
    np.testing.assert_allclose(
        corners_by_vertex(head.faces[twin], twin), mirrored * [-1, 1] + [1, 0], atol=3e-5
    )
    middle = np.flatnonzero((head.mirror == np.arange(len(head))) & (head.template[:, 2] > 0.02))
    on_middle = np.isin(head.faces, middle)
    np.testing.assert_allclose(head.uv[head.uv_faces[on_middle], 0], 0.5, atol=1e-6)


def test_parts_have_islands_of_their_own(head):
    def texture_vertices(*parts):
        return set(head.uv_faces[head.faces_of(*parts)].ravel().tolist())

    islands = [("head", "body"), ("eye_socket",), ("left_eye",), ("right_eye",), ("tongue",), ("lashes",)]
    islands += [("teeth_upper",), ("teeth_lower",)]
    for k, first in enumerate(islands):
        for second in islands[k + 1 :]:
            assert not texture_vertices(*first) & texture_vertices(*second)
