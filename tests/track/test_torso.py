"""Head and torso: however the turn is shared, together they give what was measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.free import load_free_head
from headsplat.track.torso import (
    FOLLOWS_YAW,
    head_angles,
    mean_rotation,
    rotation_vector,
    split_turn,
    torso_prior,
)

LEVEL = np.diag([1.0, -1.0, -1.0])
angle = st.floats(-0.6, 0.6)


def _turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    turns = axis_angle_to_matrix(np.array([[0, yaw, 0], [pitch, 0, 0], [0, 0, roll]], float))
    return LEVEL @ turns[0] @ turns[1] @ turns[2]


@settings(max_examples=30, deadline=None)
@given(angle, angle, angle)
def test_angles_are_those_turned_by(yaw: float, pitch: float, roll: float) -> None:
    np.testing.assert_allclose(head_angles(_turn(yaw, pitch, roll)), [yaw, pitch, roll], atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(angle, angle, angle)
def test_the_head_ends_where_it_was_measured(yaw: float, pitch: float, roll: float) -> None:
    model = load_free_head()
    person = model.with_shape([0.5, -1.0, 0.3])
    rotation, translation = _turn(yaw, pitch, roll), np.array([0.03, -0.02, 1.2])
    viewmat, neck, head = split_turn(rotation, translation, person.joints, list(model.joint_names))
    posed = person.with_pose({}, {"neck": neck, "head": head})
    # Vertices that only the head joint moves are where the rigid pose puts them.
    only_head = model.skin_weights[:, model.joint_names.index("head")] > 0.999
    assert only_head.sum() > 1000
    wanted = person.vertices[only_head] @ rotation.T + translation
    got = posed.vertices[only_head] @ viewmat[:3, :3].T + viewmat[:3, 3]
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_the_torso_takes_part_of_the_yaw_and_stays_upright() -> None:
    torso = torso_prior(_turn(0.6, 0.0, 0.3))
    yaw, _, roll = head_angles(torso)
    assert yaw == pytest.approx(FOLLOWS_YAW * 0.6) and roll == pytest.approx(0)


def test_a_known_torso_is_kept() -> None:
    model = load_free_head()
    torso = _turn(0.1, 0.0, 0.0)
    joints, names = model.with_shape().joints, list(model.joint_names)
    viewmat, _, _ = split_turn(_turn(0.5, 0.1, 0.0), np.array([0, 0, 1.0]), joints, names, torso)
    np.testing.assert_allclose(viewmat[:3, :3], torso, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(angle, angle, angle)
def test_rotation_vector_inverts(x: float, y: float, z: float) -> None:
    vector = np.array([x, y, z])
    np.testing.assert_allclose(rotation_vector(axis_angle_to_matrix(vector)), vector, atol=1e-7)


def test_mean_rotation() -> None:
    around = [_turn(a, b, 0) for a, b in ((0.2, 0), (-0.2, 0), (0, 0.1), (0, -0.1))]
    np.testing.assert_allclose(mean_rotation(np.array(around)), LEVEL, atol=1e-9)
