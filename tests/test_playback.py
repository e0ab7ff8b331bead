"""Playback: cameras, paths, colours, and that fast playback draws what `animate` says."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.playback import (
    draw,
    orbit_path,
    paint_seen,
    parse_color,
    parse_expression,
    play,
    portrait_camera,
    seen_colors,
    turntable,
)
from headsplat.takes import take


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.1, 0.5, 0.9), None])
def test_frames_equal_animate_and_draw(avatar: Avatar, background: tuple[float, float, float] | None) -> None:
    motion = take("hello", 4.0)
    frames = list(play(avatar, motion, size=61, orbit=40.0, background=background))
    assert len(frames) == len(motion)
    for t in (0, 9, len(motion) - 1):
        camera = portrait_camera(avatar, orbit_path(len(motion), 40.0)[t], size=61)
        slow = draw(avatar.animate(**motion.pose(t)), camera, background)
        # Colours where nearly nothing is drawn are divided by a tiny alpha; compare what one would see.
        fast = frames[t]
        if background is None:
            slow, fast = slow[..., :3] * slow[..., 3:], fast[..., :3] * fast[..., 3:]
        np.testing.assert_allclose(fast, slow, atol=6e-3)
        assert np.abs(fast - slow).mean() < 2e-4


def test_the_camera_frames_the_view(avatar: Avatar) -> None:
    for yaw, pitch in ((0, 0), (1.2, -0.4), (np.pi, 0.7)):
        camera = portrait_camera(avatar, yaw, pitch, size=200)
        x, y, depth = camera.project(avatar.view_target.astype(np.float64))
        assert (x, y) == (pytest.approx(100, abs=1e-3), pytest.approx(100, abs=1e-3))
        assert depth * 200 / camera.K[1, 1] == pytest.approx(avatar.view_height, rel=1e-4)
    left_ear = avatar.view_target + np.array([0.08, 0, 0])
    near = portrait_camera(avatar, np.pi / 2).project(left_ear)[2]
    far = portrait_camera(avatar, -np.pi / 2).project(left_ear)[2]
    assert near < far, "a positive yaw shows the subject's left side"


def test_orbits_loop() -> None:
    swing = orbit_path(100, 30.0)
    assert np.degrees(swing.max()) == pytest.approx(30, abs=0.1)
    assert np.degrees(swing.min()) == pytest.approx(-30, abs=0.1)
    assert abs(swing[-1] - swing[0]) < 0.05
    full = orbit_path(90, 360.0)
    np.testing.assert_allclose(np.diff(full), 2 * np.pi / 90)
    assert not orbit_path(5, 0.0).any()


def test_turntable_begins_in_front(avatar: Avatar) -> None:
    frames = list(turntable(avatar, 4, size=33))
    np.testing.assert_allclose(frames[0], draw(avatar.animate(), portrait_camera(avatar, size=33)), atol=1e-6)
    assert len(frames) == 4


def test_seen_is_painted(avatar: Avatar) -> None:
    painted = paint_seen(avatar)
    assert painted.gaussians.features.shape == avatar.gaussians.features.shape
    assert painted.expression_appearance is None
    np.testing.assert_array_equal(painted.gaussians.means, avatar.gaussians.means)
    ramp = seen_colors(np.linspace(0, 1, 101))
    assert (np.diff(ramp @ [0.299, 0.587, 0.114]) > 0).all(), "more seen is lighter"


def test_colors_and_expressions_are_parsed() -> None:
    assert parse_color("white") == (1, 1, 1)
    assert parse_color(" #ff0080 ") == pytest.approx((1, 0, 128 / 255))
    assert parse_color("Transparent") is None
    assert parse_expression("jawOpen=.7, mouthSmileLeft=1,") == {"jawOpen": 0.7, "mouthSmileLeft": 1.0}
    assert parse_expression("") == {}
    for bad in ("jawOpen", "jawOpen=wide", "jawOpen=1,x"):
        with pytest.raises(HeadsplatError, match="write it like"):
            parse_expression(bad)
    with pytest.raises(HeadsplatError, match="not a colour"):
        parse_color("blurple")
