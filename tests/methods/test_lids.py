"""Lower lids brought to where the photo has them, on pictures whose mesh is known."""

from __future__ import annotations

import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.head.free import load_free_head
from headsplat.methods.lift.lids import open_lids
from headsplat.track import landmarks as lm

SIZE = 512


def seen(lower: float) -> Frame:
    """A frame of the mean head whose lower lid points lie `lower` pixels under the mesh's own."""
    model = load_free_head()
    camera = Camera.orbit(target=(0, 0.04, 0.08), distance=1.1, focal=2.8 * SIZE, width=SIZE, height=SIZE)
    points = np.zeros((lm.COUNT, 2), np.float32)
    points[: lm.MESH] = camera.project(model.landmarks(model.template))[:, :2]
    for eye in (lm.EYE_RIGHT, lm.EYE_LEFT):
        points[eye[9:], 1] += lower
    blank = np.zeros((SIZE, SIZE), np.float32)
    return Frame(
        image=np.zeros((SIZE, SIZE, 3), np.float32),
        alpha=blank,
        foreground=np.zeros((SIZE, SIZE, 3), np.float32),
        valid=blank == 0,
        camera=camera,
        shape=np.zeros(len(model.shape_basis), np.float32),
        expression=np.zeros(len(model.expression_names), np.float32),
        rotations=np.zeros((len(model.joint_names), 3), np.float32),
        T_world_root=np.eye(4, dtype=np.float32),
        landmarks=points,
        confidence=1.0,
        source="",
        landmark_error=0.01,
        crop=np.eye(2, 3, dtype=np.float32),
    )


def lid_heights(model: object) -> np.ndarray:
    """(2,) height of the right and the left lower lid at rest, metres."""
    head = load_free_head()
    points = head.landmarks(model.template)  # type: ignore[attr-defined]
    return points[[[144, 145, 153], [373, 374, 380]], 1].mean(1)


def test_lower_lids_come_down_as_far_as_they_are_seen() -> None:
    head = load_free_head()
    start, low, lower = (
        lid_heights(model) for model in (head, *(open_lids(seen(p), head) for p in (0.0, 1.0)))
    )
    assert (low <= start).all()
    pixels = (low - lower) * 2.8 * SIZE / 1.02
    assert ((pixels > 0.7) & (pixels < 1.4)).all()


def test_closed_lids_meet_where_they_did() -> None:
    head = load_free_head()
    opened = open_lids(seen(2.0), head)
    assert not np.array_equal(opened.template, head.template)
    names = head.expression_names
    blink = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    for model in (head, opened):
        assert model.expression_names == names
    closed = [model.template + model.expression_basis[blink].sum(0) for model in (head, opened)]
    np.testing.assert_allclose(closed[0], closed[1], atol=1e-6)


def test_lids_that_are_low_enough_or_closed_are_left_alone() -> None:
    head, closed = load_free_head(), seen(0.0)
    for eye in (lm.EYE_RIGHT, lm.EYE_LEFT):
        closed.landmarks[eye[9:]] = closed.landmarks[eye[7:0:-1]] + [0, 0.5]
    for frame in (seen(-4.0), closed):
        assert open_lids(frame, head) is head
