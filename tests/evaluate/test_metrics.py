"""Every metric against a library, a slow loop, or a value known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut
from skimage.metrics import structural_similarity

from headsplat.evaluate import metrics


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A real picture and a noisy, brighter copy of it."""
    target = astronaut()[20:230, 120:330] / 255.0
    noise = np.random.default_rng(0).normal(0, 0.05, target.shape)
    return np.clip(target * 0.9 + 0.1 + noise, 0, 1), target


def test_psnr_of_a_known_error() -> None:
    target = np.zeros((7, 5, 3))
    assert metrics.psnr(target + 0.1, target) == pytest.approx(20.0)
    assert metrics.psnr(target, target) == np.inf


def test_psnr_sees_only_the_mask() -> None:
    target, image, mask = np.zeros((6, 9, 3)), np.zeros((6, 9, 3)), np.zeros((6, 9))
    image[:3] += 0.1
    image[3:] += 0.7
    mask[:3] = 1
    assert metrics.psnr(image, target, mask) == pytest.approx(20.0)
    assert np.isnan(metrics.psnr(image, target, mask * 0))


def test_ssim_equals_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = pair
    theirs = structural_similarity(
        image, target, channel_axis=-1, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    assert metrics.ssim(image, target) == pytest.approx(theirs, abs=1e-4)
    assert metrics.ssim(target, target) == pytest.approx(1.0)


def test_ssim_at_one_pixel_by_hand(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = pair
    row, column, channel = 57, 101, 1
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x = image[row - 5 : row + 6, column - 5 : column + 6, channel]
    y = target[row - 5 : row + 6, column - 5 : column + 6, channel]
    mx, my = (window * x).sum(), (window * y).sum()
    vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
    cov = (window * (x - mx) * (y - my)).sum()
    expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert metrics.similarity(image, target).map[row, column, channel] == pytest.approx(expected, abs=1e-10)


def test_ms_ssim_is_one_for_equals_and_falls_with_noise(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = pair
    noise = np.random.default_rng(1).normal(0, 0.15, target.shape)
    assert metrics.ms_ssim(target, target) == pytest.approx(1.0)
    assert metrics.ms_ssim(target + noise, target) < metrics.ms_ssim(image, target) < 1
    # A shift in brightness changes only the luminance term of the coarsest scale.
    assert metrics.ms_ssim(target + 0.01, target) > 0.99
    with pytest.raises(ValueError, match="176"):
        metrics.ms_ssim(image[:100], target[:100])


def test_matte_iou() -> None:
    a, b = np.zeros((4, 10)), np.zeros((4, 10))
    a[:, :6], b[:, 4:] = 1, 1
    assert metrics.matte_iou(a, b) == pytest.approx(0.2)
    assert metrics.matte_iou(a, b, np.arange(10)[None].repeat(4, 0) < 4) == 0
    assert metrics.matte_iou(a * 0, b * 0) == 1


@given(st.floats(0, 170), st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_pose_distance_is_the_angle_turned(degrees: float, axis: list[float]) -> None:
    direction = np.array(axis) + np.array([0, 0, 2])
    vector = np.radians(degrees) * direction / np.linalg.norm(direction)
    assert metrics.pose_distance(vector, np.zeros(3)) == pytest.approx(degrees, abs=1e-6)
    assert metrics.pose_distance(vector, vector) == pytest.approx(0, abs=1e-6)


def test_expression_distance_grows_with_the_difference() -> None:
    a = np.zeros(52)
    steps = [metrics.expression_distance(a + d * np.eye(52)[7], a) for d in (0, 0.2, 0.5, 1)]
    assert steps == pytest.approx([0, 0.2, 0.5, 1])


def test_jitter_ignores_steady_motion() -> None:
    time = np.arange(9.0)[:, None, None]
    points = np.ones((9, 4, 2)) * time * 3
    assert metrics.jitter(points) == pytest.approx(0)
    points[4] += [0, 1]
    # One frame off by 1: second differences 1, 2 and 1 over seven triples.
    assert metrics.jitter(points) == pytest.approx(4 / 7)
    assert metrics.jitter(points[:2]) == 0


def test_keypoint_distance_and_cosine() -> None:
    points = np.random.default_rng(2).normal(size=(11, 2))
    assert metrics.keypoint_distance(points + np.array([3, 4]), points) == pytest.approx(5)
    a, b = np.array([1.0, 0, 0]), np.array([1.0, 1, 0])
    assert metrics.cosine_similarity(a, b) == pytest.approx(np.sqrt(0.5))
