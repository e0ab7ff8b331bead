"""The parts of the film tracker by themselves: smoothing, cuts, window, matte, stance, blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.free import load_free_head
from headsplat.motion import split_head_turn
from headsplat.track import landmarks as lm
from headsplat.track.ledger import BLOCK, Ledger, in_blocks
from headsplat.track.sequence import fill_gaps, glitches
from headsplat.track.shots import find_shots
from headsplat.track.smoothing import noise_of, smooth_adaptively, spikes
from headsplat.track.solver import Fit, Pose
from headsplat.track.stance import take_stance
from headsplat.track.torso import about, rotation_vector
from headsplat.track.window import choose_window

ALL = [np.array([0])]


def _noisy(signal: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return (signal + np.random.default_rng(seed).normal(0, sigma, len(signal)))[:, None]


def test_noise_is_told_from_movement() -> None:
    t = np.arange(400)
    assert noise_of(_noisy(np.sin(t / 15), 0.02))[0] == pytest.approx(0.02, rel=0.25)
    assert noise_of(np.zeros((3, 2))).shape == (2,)


def test_a_still_value_is_smoothed_long_and_a_step_not_at_all() -> None:
    step = np.where(np.arange(200) < 100, 0.0, 1.0)
    raw = _noisy(step, 0.02)
    smoothed = smooth_adaptively(raw, ALL, 30.0)
    assert np.std(smoothed[:90] - step[:90, None]) < 0.45 * 0.02
    assert np.abs(smoothed[95:105] - raw[95:105]).max() < 0.12  # the edge keeps its place and height
    assert smoothed[99, 0] < 0.15 and smoothed[100, 0] > 0.85


def test_a_parabola_is_left_as_it_is() -> None:
    t = np.arange(50.0)
    values = np.stack([0.01 * t**2 - t, 3 + 0 * t], 1)
    np.testing.assert_allclose(smooth_adaptively(values, [np.arange(2)], 30.0, floor=1e-3), values, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 40), fps=st.floats(5, 120))
def test_any_length_and_rate(count: int, fps: float) -> None:
    values = np.random.default_rng(count).normal(size=(count, 3))
    out = smooth_adaptively(values, [np.array([0, 2])], fps)
    assert out.shape == values.shape and np.isfinite(out).all()
    np.testing.assert_array_equal(out[:, 1], values[:, 1])


def test_no_noise_above_the_ceiling_is_believed() -> None:
    stutter = np.floor(np.arange(100) / 5)[:, None]  # moves every fifth frame only
    np.testing.assert_allclose(smooth_adaptively(stutter, ALL, 30.0, ceiling=1e-3), stutter, atol=0.02)


def test_spikes_need_to_be_alone_and_large() -> None:
    values = np.zeros((20, 1))
    values[::2] = 0.01
    values[9] = 1
    assert np.flatnonzero(spikes(values)).tolist() == [9]
    assert not spikes(values, least=2.0).any() and not spikes(np.cumsum(np.ones((20, 1)), 0)).any()


def _faces(count: int, height: float = 100.0, centre: tuple[float, float] = (200.0, 300.0)) -> np.ndarray:
    shape = load_free_head().landmarks(load_free_head().template)
    flat = np.column_stack([shape[:, 0], -shape[:, 1]])
    flat = np.vstack([flat, np.zeros((10, 2))])
    flat = (flat - flat[: lm.MESH].mean(0)) * height / lm.face_height(flat)
    return np.repeat((flat + centre)[None], count, 0)


def test_a_jumping_face_is_a_glitch_and_gaps_are_bridged() -> None:
    x, present = _faces(30), np.ones(30, bool)
    x += np.random.default_rng(0).normal(0, 0.3, x.shape)
    x[12] += 40
    x[20] = 0
    present[20] = False
    filled = fill_gaps(x, present)
    np.testing.assert_allclose(filled[20], (x[19] + x[21]) / 2)
    assert np.flatnonzero(glitches(filled, present)).tolist() == [12]


def test_cuts() -> None:
    rng = np.random.default_rng(0)
    changes = rng.uniform(0, 6, 100)
    changes[40], changes[43], changes[70] = 60, 9, 45
    assert find_shots(changes, 25.0) == [(0, 40), (40, 70), (70, 100)]
    changes[72] = 50  # a title of two frames is no shot, and no cut stands beside another
    assert all(b - a >= 10 for a, b in find_shots(changes, 25.0))
    assert find_shots(np.full(10, 40.0), 25.0) == [(0, 10)]  # a strobe is one shot
    assert find_shots(np.zeros(1), 25.0) == [(0, 1)]


@pytest.mark.parametrize(("width", "height"), [(1080, 1920), (512, 480), (400, 400), (90, 2000)])
@pytest.mark.parametrize("face", [40.0, 150.0, 390.0])
def test_the_window_holds_what_the_picture_shows_of_the_head(width: int, height: int, face: float) -> None:
    x = _faces(5, face, (width / 2, height * 0.45))
    x += np.linspace(0, face / 5, 5)[:, None, None]
    window = choose_window(x, width, height, 256)
    head_low = np.maximum(x[:, : lm.MESH].min((0, 1)), 0)
    head_high = np.minimum(x[:, : lm.MESH].max((0, 1)), [width, height])
    corner = np.array([window.x, window.y])
    assert (corner <= head_low + 1).all() and (corner + window.side >= head_high - 1).all()
    frame = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    picture, valid = window.cut(frame)
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    if window.side <= min(width, height):
        assert valid.all()
    np.testing.assert_allclose(window.points(x) @ np.eye(2), x @ window.affine[:, :2].T + window.affine[:, 2])


def test_a_window_of_the_pictures_own_size_copies_its_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    window = choose_window(_faces(1, 40.0, (32, 32)), 64, 64, 64)
    assert window.side == 64
    np.testing.assert_array_equal(window.cut(frame)[0], frame)


def test_mattes_of_hair_against_a_wall_come_from_colours() -> None:
    pytest.importorskip("cv2")
    from headsplat.track.film_matte import _sharpen, unmix

    rng = np.random.default_rng(0)
    truth = np.zeros((96, 512), np.float32)
    truth[:, :240] = 1
    truth[::3, 240:250] = 0.5  # strands, which the coarse matte does not see
    hair, wall = np.array([0.2, 0.15, 0.1]), np.array([0.8, 0.8, 0.75])
    image = truth[..., None] * hair + (1 - truth[..., None]) * wall
    image = (image + rng.normal(0, 0.01, image.shape)).astype(np.float32)
    coarse = np.clip((252 - np.arange(512)) / 16, 0, 1).astype(np.float32)[None].repeat(96, 0)
    alpha = _sharpen(image, coarse)
    assert np.abs(alpha - truth)[8:-8].mean() < 0.25 * np.abs(coarse - truth)[8:-8].mean()
    strands = (alpha > 0.3) & (alpha < 0.7)
    strands[:8], strands[-8:] = False, False
    assert strands.sum() > 100
    assert np.abs(unmix(image, alpha)[strands] - hair).mean() < 0.35 * np.abs(image[strands] - hair).mean()


def _fit(poses: list[tuple[np.ndarray, np.ndarray]], focal: float) -> Fit:
    rest = np.zeros(0), np.zeros((2, 2))
    return Fit(np.zeros(0), focal, tuple(Pose(turn, place, *rest) for turn, place in poses))


def test_the_bust_moves_as_the_shoulders_do() -> None:
    model = load_free_head()
    joints, names, focal, frames = model.joint_template, list(model.joint_names), 1000.0, 90
    neck, head = joints[names.index("neck")].astype(float), joints[names.index("head")].astype(float)
    level = np.diag([1.0, -1.0, -1.0])
    t = np.arange(frames)
    tilt, yaw, sway = 0.06 * np.sin(t / 20), 0.1 * np.sin(t / 25), 0.02 * np.sin(t / 15)
    nod = 0.3 * np.sin(t / 6)
    poses, shoulders, busts = [], np.full((frames, 5), np.nan), []
    for k in range(frames):
        turn = axis_angle_to_matrix(np.array([0, yaw[k], 0.0])) @ axis_angle_to_matrix(
            np.array([0, 0, tilt[k]])
        )
        bust = np.eye(4)
        bust[:3, :3], bust[:3, 3] = level @ turn, [sway[k], 0.1, 1.0]
        bends = split_head_turn(np.array([0.0, nod[k], 0.0]))
        skull = bust @ about(bends[0], neck) @ about(bends[1], head)
        poses.append((skull[:3, :3], skull[:3, 3]))
        busts.append(bust)
        if k % 5 == 0:
            ends = np.array([[0.18, -0.15, -0.03], [-0.18, -0.15, -0.03]]) @ bust[:3, :3].T + bust[:3, 3]
            shoulders[k, :4] = (focal * ends[:, :2] / ends[:, 2:] + 256).reshape(-1)
            shoulders[k, 4] = yaw[k]
    fit = _fit(poses, focal)
    stance = take_stance(fit, joints, names, 30.0, shoulders)
    prior = take_stance(fit, joints, names, 30.0)
    for k in range(frames):  # whatever is believed of the torso, the head is where it was measured
        for s in (stance, prior):
            whole = s.viewmat @ s.T_world_root[k] @ about(s.neck[k], neck) @ about(s.head[k], head)
            np.testing.assert_allclose(whole[:3, :3], poses[k][0], atol=1e-6)
            np.testing.assert_allclose(whole[:3, 3], poses[k][1], atol=1e-6)

    def away(s) -> float:  # type: ignore[no-untyped-def]
        turned = [s.viewmat @ root for root in s.T_world_root]
        steps = [rotation_vector(a[:3, :3].T @ b[:3, :3]) for a, b in zip(turned, busts, strict=True)]
        return float(np.std(np.array(steps), axis=0).max())

    assert away(stance) < 0.02 and away(stance) < 0.5 * away(prior)


def test_blocks_are_given_once_and_in_order(tmp_path: Path) -> None:
    count = 2 * BLOCK + 3
    for done in range(4):
        got = [(number, list(items)) for number, items in in_blocks(range(count), done)]
        assert [number for number, _ in got] == list(range(done, 3))
        assert [i for _, items in got for i in items] == list(range(min(done * BLOCK, count), count))
    ledger = Ledger(tmp_path / "job", {"a": 1})
    assert ledger.load("x", 0) is None and ledger.blocks("x") == []
    ledger.save("x", 0, value=np.arange(3))
    ledger.save("empty", 0)
    (ledger.folder / ".x-000001-abcdefgh.npz").write_bytes(b"half")
    again = Ledger(tmp_path / "job", {"a": 1})
    np.testing.assert_array_equal(again.blocks("x")[0]["value"], np.arange(3))
    assert again.load("empty", 0) == {} and len(list(again.folder.glob(".*"))) == 0
    again.close()
    assert not again.folder.exists()
