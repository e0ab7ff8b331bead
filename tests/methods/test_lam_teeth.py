"""The teeth added to FLAME: as many points as the paper counts, in the mouth, on the right joints."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.head.normals import face_normals
from headsplat.head.subdivide import Midpoints, subdivide
from headsplat.methods.lam.teeth import add_teeth, mouth_rim

RINGS, AROUND = 12, 24


def tube_head() -> HeadModel:
    """A ball with FLAME's joints, open at the neck, with a slit of a mouth, 50 mm wide, at the front."""
    across, up = np.meshgrid(np.arange(AROUND), np.linspace(-1.0, 1.4, RINGS))
    yaw = (across.ravel() - AROUND / 2) * 2 * np.pi / AROUND
    pitch = up.ravel()
    points = np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], 1) * 0.1
    faces = []
    for r in range(RINGS - 1):
        for c in range(AROUND):
            a, b = r * AROUND + c, r * AROUND + (c + 1) % AROUND
            p, q = a + AROUND, b + AROUND
            if r == 3 and AROUND // 2 - 2 <= c < AROUND // 2 + 2:
                continue  # the mouth
            faces += [[a, b, p], [q, p, b]]
    # Close the top, so that neck and mouth are the only borders.
    top = len(points)
    points = np.concatenate([points, [[0, 0.1, 0]]])
    ring = (RINGS - 1) * AROUND
    faces += [[ring + c, ring + (c + 1) % AROUND, top] for c in range(AROUND)]
    count, faces = len(points), np.array(faces, np.int32)
    rng = np.random.default_rng(0)
    return HeadModel(
        template=points.astype(np.float32),
        shape_basis=rng.normal(0, 1e-3, (3, count, 3)).astype(np.float32),
        shape_symmetric=np.zeros(3, bool),
        expression_basis=rng.normal(0, 1e-3, (2, count, 3)).astype(np.float32),
        expression_names=("expr0", "expr1"),
        joint_template=np.array(
            [[0, -0.1, 0], [0, -0.05, 0], [0, 0, 0], [0.03, 0, 0.1], [-0.03, 0, 0.1]], np.float32
        ),
        joint_shape=np.zeros((3, 5, 3), np.float32),
        joint_names=("root", "neck", "jaw", "left_eye", "right_eye"),
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
        skin_weights=np.tile(np.array([0, 1, 0, 0, 0], np.float32), (count, 1)),
        faces=faces,
        uv=np.zeros((1, 2), np.float32),
        uv_faces=np.zeros_like(faces),
        face_part=np.zeros(len(faces), np.uint8),
        part_names=("head",),
        pose_basis=rng.normal(0, 1e-3, (36, count, 3)).astype(np.float32),
    )


def test_flame_with_teeth_has_as_many_points_as_the_paper_counts() -> None:
    head = tube_head()
    toothed = add_teeth(head)
    assert len(toothed) - len(head) == 120 and len(toothed.faces) - len(head.faces) == 168
    added = Midpoints.of(toothed.faces[len(head.faces) :] - len(head), 120)
    vertices, edges, faces = 5023 + 120, 14_995 + len(added.edges), 9976 + 168
    counts = [vertices]
    for _ in range(2):
        vertices, edges, faces = vertices + edges, 2 * edges + 3 * faces, 4 * faces
        counts.append(vertices)
    assert counts == [5143, 20_426, 81_424]
    assert len(subdivide(toothed, 2)) > 16 * len(head) * 0.9


def test_the_rim_is_the_mouth_not_the_neck() -> None:
    head = tube_head()
    rim = mouth_rim(head)
    assert len(rim) == 10
    assert head.template[rim, 2].min() > 0.05
    assert len(set(rim.tolist())) == len(rim)


def test_teeth_stand_behind_the_lips_one_row_above_the_other_facing_outwards() -> None:
    head = tube_head()
    toothed = add_teeth(head)
    teeth = toothed.template[len(head) :]
    rim = head.template[mouth_rim(head)]
    assert teeth[:, 2].max() < rim[:, 2].max()
    assert np.abs(teeth[:, 0]).max() < 0.6 * np.ptp(rim[:, 0])
    assert teeth[:60, 1].min() > rim[:, 1].mean() > teeth[60:, 1].max()
    np.testing.assert_allclose(teeth[:60, 0], -teeth[mirrored(), 0], atol=1e-6)
    for part in ("teeth_upper", "teeth_lower"):
        own = toothed.faces_of(part)
        assert len(own) == 84
        corners = toothed.template[toothed.faces[own]].mean(1)
        normals = face_normals(toothed.template, toothed.faces[own])
        front = corners[:, 2] > np.quantile(teeth[:, 2], 0.9)
        assert front.sum() >= 4 and (normals[front, 2] > 0).all()


def mirrored() -> np.ndarray:
    """The point on the other side, ring by ring: outer sides run left to right, inner ones back."""
    order, start = [], 0
    for count in (18, 24, 18):
        half = count // 2
        order += [start + half - 1 - i for i in range(half)] + [start + count - 1 - i for i in range(half)]
        start += count
    return np.array(order)


def test_the_lower_row_goes_with_the_jaw_and_neither_with_expressions() -> None:
    head = tube_head()
    toothed = add_teeth(head)
    rest = toothed.with_shape()
    opened = rest.with_pose(rotations={"jaw": np.array([0.3, 0, 0])}).vertices[len(head) :]
    before = toothed.template[len(head) :]
    # Pose correctives are zero on teeth, so only the joint moves them.
    np.testing.assert_allclose(opened[:60], before[:60], atol=1e-6)
    assert (opened[60:, 1] < before[60:, 1]).all()
    smiling = rest.with_pose([1.0, 1.0]).vertices[len(head) :]
    np.testing.assert_allclose(smiling, before, atol=1e-6)
    grown = toothed.with_shape([1.0, 0, 0]).vertices[len(head) :] - before
    np.testing.assert_allclose(grown, np.broadcast_to(grown[0], grown.shape), atol=1e-6)
    assert np.abs(grown).max() > 0


def test_heads_with_teeth_stay_and_closed_mouths_are_refused() -> None:
    free = load_free_head()
    assert add_teeth(free) is free
    head = tube_head()
    first, *others = mouth_rim(head)
    fan = [[here, after, first] for here, after in itertools.pairwise(others)]
    closed = replace(head, faces=np.concatenate([head.faces, np.array(fan, np.int32)[:, ::-1]]))
    with pytest.raises(HeadsplatError, match="closed"):
        add_teeth(closed)
    with pytest.raises(HeadsplatError, match="jaw"):
        add_teeth(replace(head, joint_names=("root", "neck", "chin", "left_eye", "right_eye")))
