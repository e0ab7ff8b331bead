"""The warps against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.evaluate.baselines import nearest, warp

pytest.importorskip("cv2")


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture, so that sampling between pixels is exact to a small error."""
    y, x = np.mgrid[:90, :110] / 100
    return np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x + 4 * y)], -1).astype(np.float32)


def test_equal_points_change_nothing(picture: np.ndarray) -> None:
    points = np.random.default_rng(0).uniform(20, 70, (30, 2))
    np.testing.assert_allclose(warp(picture, points, points), picture, atol=1e-4)


def test_a_shift_moves_everything(picture: np.ndarray) -> None:
    points = np.random.default_rng(1).uniform(20, 70, (30, 2))
    moved = warp(picture, points, points + np.array([7, 4]))
    np.testing.assert_allclose(moved[4:, 7:], picture[:-4, :-7], atol=1e-4)


def test_points_land_on_their_targets(picture: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    source = rng.uniform(25, 65, (25, 2))
    target = source * [1.1, 0.9] + 1.5 * np.sin(source[:, ::-1] / 12)
    moved = warp(picture, source, target)
    # Red and green are the source's own x and y: read at the target they must say where it came from.
    at = np.floor(target).astype(int)
    offset = target - (at + 0.5)
    came = moved[at[:, 1], at[:, 0], :2] * 100 + 0.5
    assert np.abs(came + offset - source).max() < 0.25


def test_far_from_the_face_the_warp_is_affine(picture: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    target = rng.uniform(40, 52, (20, 2))
    source = (target - 45) * 1.2 + 45 + rng.normal(0, 0.3, target.shape)
    affine = np.linalg.lstsq(np.column_stack([target, np.ones(20)]), source, rcond=None)[0]
    pixel = np.array([15.5, 75.5])
    expected = np.append(pixel, 1) @ affine
    got = warp(picture, source, target)[75, 15, :2] * 100 + 0.5
    # OpenCV samples at 32nds of a pixel.
    np.testing.assert_allclose(got, expected, atol=0.03)


def test_mattes_are_bent_too(picture: np.ndarray) -> None:
    points = np.random.default_rng(1).uniform(20, 70, (30, 2))
    assert warp(picture[..., 0], points, points + 2).shape == picture.shape[:2]


def test_nearest() -> None:
    faces = [np.zeros((478, 2)), np.full((478, 2), 5.0)]
    assert nearest(faces, np.full((478, 2), 4.0)) == 1
    assert nearest(faces, None) == 0
