"""Motion: laws of resampling, smoothing and retargeting, and the built-in takes."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix, axis_angle_to_quat, quat_to_axis_angle
from headsplat.head.arkit import ARKIT
from headsplat.motion import (
    Motion,
    Neutral,
    head_turn,
    neutral_of,
    resample,
    retarget,
    select,
    smooth,
    split_head_turn,
)
from headsplat.takes import GAZE, TAKES, VISEMES, take

NAMES = ("jawOpen", "browInnerUp", "eyeBlinkLeft")


def random_motion(frames: int = 23, seed: int = 0, root: bool = True) -> Motion:
    rng = np.random.default_rng(seed)
    transforms = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    transforms[:, :3, :3] = axis_angle_to_matrix(rng.normal(0, 0.3, (frames, 3)))
    transforms[:, :3, 3] = rng.normal(0, 0.1, (frames, 3))
    return Motion(
        rng.uniform(0, 1, (frames, len(NAMES))).astype(np.float32),
        NAMES,
        rng.normal(0, 0.4, (frames, 2, 3)).astype(np.float32),
        ("neck", "head"),
        30.0,
        transforms if root else None,
    )


def assert_same(a: Motion, b: Motion, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(a.weights, b.weights, atol=atol)
    np.testing.assert_allclose(a.rotations, b.rotations, atol=atol)
    assert (a.root is None) == (b.root is None)
    if a.root is not None and b.root is not None:
        np.testing.assert_allclose(a.root, b.root, atol=atol)


def test_axis_angle_and_quaternions_undo_each_other() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 3))
    vectors *= rng.uniform(0, np.pi - 1e-3, (200, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:3] = [[0, 0, 0], [1e-14, 0, 0], [0, 1e-5, 0]]
    np.testing.assert_allclose(quat_to_axis_angle(axis_angle_to_quat(vectors)), vectors, atol=1e-9)
    np.testing.assert_allclose(quat_to_axis_angle(-axis_angle_to_quat(vectors)), vectors, atol=1e-9)


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    motion = random_motion()
    assert_same(resample(motion, 30.0), motion)


def test_resampling_up_and_down_returns_the_motion() -> None:
    motion = random_motion()
    up = resample(motion, 90.0)
    assert (len(up), up.fps, up.seconds) == (69, 90.0, pytest.approx(motion.seconds))
    assert_same(resample(up, 30.0), motion)
    np.testing.assert_allclose(up.weights[1], motion.weights[0] * 2 / 3 + motion.weights[1] / 3, atol=1e-6)


def test_one_frame_can_be_resampled_and_smoothed() -> None:
    motion = random_motion(1)
    assert len(resample(motion, 17.0)) == 1
    assert_same(smooth(motion), motion)


def test_smoothing_keeps_what_is_constant_and_calms_what_is_not() -> None:
    motion = random_motion(60)
    still = Motion(
        motion.weights[:1].repeat(60, 0), NAMES, motion.rotations[:1].repeat(60, 0), motion.joints, 30.0
    )
    assert_same(smooth(still, 0.2), still)
    calm = smooth(motion, 0.1)
    for field in ("weights", "rotations", "root"):
        before, after = getattr(motion, field), getattr(calm, field)
        assert np.abs(np.diff(after, axis=0)).mean() < 0.4 * np.abs(np.diff(before, axis=0)).mean()
    assert_same(smooth(motion, 0.0), motion)


def test_smoothing_does_not_delay() -> None:
    weights = np.zeros((41, 1), np.float32)
    weights[20] = 1
    bump = smooth(Motion(weights, ("jawOpen",), np.zeros((41, 0, 3)), (), 30.0), 0.08).weights[:, 0]
    assert bump.argmax() == 20
    np.testing.assert_allclose(bump, bump[::-1], atol=1e-6)
    assert bump.sum() == pytest.approx(1, abs=1e-4)


def test_the_neutral_frame_becomes_rest() -> None:
    motion = random_motion(root=False)
    rested = retarget(motion, neutral_of(motion, 7))
    np.testing.assert_allclose(rested.weights[7], 0, atol=1e-6)
    np.testing.assert_allclose(rested.rotations[7], 0, atol=1e-6)
    assert_same(retarget(motion, Neutral(np.zeros(3), np.zeros((2, 3)))), motion)
    with pytest.raises(HeadsplatError, match="no frame 23"):
        neutral_of(motion, 23)


def test_full_weight_stays_full_after_calibration() -> None:
    motion = Motion(np.array([[0.2], [1.0]], np.float32), ("jawOpen",), np.zeros((2, 0, 3)), (), 30.0)
    np.testing.assert_allclose(retarget(motion, neutral_of(motion, 0)).weights[:, 0], [0, 1], atol=1e-6)


def test_the_neutral_is_found_where_a_face_mostly_rests() -> None:
    weights = np.full((100, 1), 0.15, np.float32)
    weights[40:60] = 0.9
    turns = np.zeros((100, 1, 3), np.float32)
    turns[:, 0, 1] = 0.2
    turns[10:30, 0, 1] = -0.5
    found = neutral_of(Motion(weights, ("mouthSmileLeft",), turns, ("head",), 30.0))
    assert found.weights[0] == pytest.approx(0.15)
    assert found.rotations[0, 1] == pytest.approx(0.2)


def test_gain_touches_only_its_region() -> None:
    motion = random_motion()
    out = retarget(motion, gain={"brows": 2.0, "head": 0.5})
    np.testing.assert_allclose(out.weights, motion.weights * [1, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(out.rotations, motion.rotations * 0.5, atol=1e-6)
    with pytest.raises(HeadsplatError, match="no region 'ears'"):
        retarget(motion, gain={"ears": 1.0})


def test_neck_and_head_together_make_the_turn() -> None:
    turns = np.random.default_rng(0).normal(0, 0.5, (9, 3))
    rotations = np.stack(split_head_turn(turns), 1)
    motion = Motion(np.zeros((9, 0)), (), rotations, ("neck", "head"), 30.0)
    np.testing.assert_allclose(head_turn(motion), turns, atol=1e-9)


def test_select_names_what_an_avatar_cannot_do() -> None:
    motion = random_motion()
    chosen, lost = select(motion, ("jawOpen", "eyeBlinkLeft"), ("head",))
    assert chosen.expressions == ("jawOpen", "eyeBlinkLeft")
    assert chosen.joints == ("head",)
    assert lost == ["browInnerUp", "neck"]
    np.testing.assert_array_equal(chosen.weights, motion.weights[:, [0, 2]])
    with pytest.raises(HeadsplatError, match="jawOpen"):
        select(motion, ("expr_0",), ("head",))


def test_a_motion_that_is_not_finite_is_refused() -> None:
    motion = random_motion()
    motion.weights[3, 1] = np.nan
    with pytest.raises(HeadsplatError, match="not finite"):
        motion.check()
    with pytest.raises(HeadsplatError, match="shape"):
        Motion(np.zeros((4, 2)), NAMES, np.zeros((4, 0, 3)), (), 30.0).check()


@pytest.mark.parametrize("name", TAKES)
def test_takes_loop_and_stay_in_range(name: str) -> None:
    motion = take(name).check()
    assert motion.expressions == ARKIT
    assert motion.weights.min() >= 0 and motion.weights.max() <= 1
    for end in (0, -1):
        assert motion.weights[end].max() < 0.05
        assert np.abs(motion.rotations[end]).max() < 0.02
    # No frame-to-frame jump: even a blink takes three frames.
    assert np.abs(np.diff(motion.weights, axis=0)).max() < 0.75
    assert np.abs(np.diff(motion.rotations[:, :2], axis=0)).max() < 0.05


@pytest.mark.parametrize("name", TAKES)
def test_takes_are_the_same_at_any_rate(name: str) -> None:
    slow, fast = take(name, 30.0), take(name, 60.0)
    assert slow.seconds == pytest.approx(fast.seconds, abs=0.05)
    # The blur of speech is sampled differently, so half a frame of difference is fair.
    assert np.abs(slow.weights - fast.weights[::2][: len(slow)]).mean() < 0.01
    np.testing.assert_array_equal(take(name).weights, slow.weights)


def test_range_visits_every_expression_and_direction() -> None:
    motion = take("range")
    assert motion.weights.max(0).min() > 0.9
    turns = head_turn(motion)
    assert (turns.max(0) > 0.25).all()
    assert (turns.min(0) < -0.25).all()


@pytest.mark.parametrize("name", ["hello", "speak"])
def test_living_takes_blink_and_look_about(name: str) -> None:
    motion = take(name)
    blinks = motion.weights[:, ARKIT.index("eyeBlinkLeft")]
    starts = np.flatnonzero((blinks[1:] > 0.5) & (blinks[:-1] <= 0.5))
    assert 1 <= len(starts) <= motion.seconds
    eye = motion.rotations[:, motion.joints.index("left_eye")]
    assert 0.02 < np.abs(eye).max() < 0.4
    out = motion.weights[:, ARKIT.index("eyeLookOutLeft")] - motion.weights[:, ARKIT.index("eyeLookInLeft")]
    np.testing.assert_allclose(eye[:, 1], GAZE * out, atol=1e-6)


def test_lips_meet_when_speech_says_so() -> None:
    motion = take("speak")
    jaw, press = (motion.weights[:, ARKIT.index(n)] for n in ("jawOpen", "mouthPressLeft"))
    assert jaw.max() > 0.3
    assert press.max() > 0.25
    assert jaw[press > 0.25].max() < 0.3


def test_visemes_name_real_expressions() -> None:
    for shape in VISEMES.values():
        for name in shape:
            sides = [name.replace("*", "Left"), name.replace("*", "Right")] if "*" in name else [name]
            assert set(sides) <= set(ARKIT)


def test_an_unknown_take_names_the_known_ones() -> None:
    with pytest.raises(HeadsplatError, match="hello, speak, range"):
        take("dance")
