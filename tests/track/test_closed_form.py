"""The compiled matting solves the equations of its papers, and is not led astray by odd pictures."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.errors import HeadsplatError
from headsplat.track.closed_form import closed_form_matte, own_colours

EPSILON = 1e-7


def laplacian(image: np.ndarray) -> np.ndarray:
    """(HW, HW) matting Laplacian, window by window as equation 12 of Levin et al. has it."""
    height, width = image.shape[:2]
    L = np.zeros((height * width, height * width))
    numbers = np.arange(height * width).reshape(height, width)
    for y in range(height - 2):
        for x in range(width - 2):
            at = numbers[y : y + 3, x : x + 3].ravel()
            colors = image[y : y + 3, x : x + 3].reshape(9, 3).astype(np.float64)
            centred = colors - colors.mean(0)
            covariance = centred.T @ centred / 9 + EPSILON / 9 * np.eye(3)
            L[np.ix_(at, at)] += np.eye(9) - (1 + centred @ np.linalg.solve(covariance, centred.T)) / 9
    return L


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture, and a trimap with an undecided region that is no rectangle."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.2, 0.8, (height, width, 3)).astype(np.float32)
    trimap = np.where(np.arange(width) < width / 2, 1.0, 0.0) * np.ones((height, 1))
    trimap[rng.uniform(size=(height, width)) < 0.6] = 0.5
    return image, trimap


@pytest.mark.parametrize("size", [(3, 3), (3, 17), (14, 5), (11, 12), (20, 19)])
def test_it_solves_the_dense_system(size: tuple[int, int]) -> None:
    image, trimap = scene(*size)
    trimap[0, 0], trimap[-1, -1], trimap[1, 1] = 1, 0, 0.3
    L, free = laplacian(image), ((trimap > 0) & (trimap < 1)).ravel()
    known = trimap.ravel()[~free]
    wanted = trimap.ravel().copy()
    wanted[free] = np.linalg.solve(L[np.ix_(free, free)], -L[np.ix_(free, ~free)] @ known)
    alpha = closed_form_matte(image, trimap)
    np.testing.assert_allclose(alpha.ravel(), np.clip(wanted, 0, 1), atol=2e-4)
    np.testing.assert_array_equal(alpha.ravel()[~free], known)


def test_a_soft_edge_between_two_colours_is_found() -> None:
    """The colour line model: where both sides are one colour each, the matte is what was composed."""
    y, x = np.mgrid[:60, :80]
    truth = np.clip((x - 25 - 8 * np.sin(y / 7)) / 20, 0, 1)
    image = truth[..., None] * [0.8, 0.6, 0.5] + (1 - truth[..., None]) * [0.1, 0.3, 0.2]
    trimap = np.where(truth == 1, 1.0, np.where(truth == 0, 0.0, 0.5))
    alpha = closed_form_matte(image, trimap)
    np.testing.assert_allclose(alpha, truth, atol=0.01)
    front = own_colours(image, alpha)
    mixed = (truth > 0.1) & (truth < 1)
    np.testing.assert_allclose(front[mixed], np.tile([0.8, 0.6, 0.5], (mixed.sum(), 1)), atol=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 2), (64, 64), (37, 90)])
def test_colours_explain_the_picture_and_stay_in_range(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = rng.uniform(0, 1, (*size, 3)).astype(np.float32)
    assert np.abs(own_colours(image, np.ones(size, np.float32)) - image).max() < 1e-3
    alpha = rng.uniform(0, 1, size).astype(np.float32)
    front = own_colours(image, alpha)
    assert front.min() >= 0 and front.max() <= 1
    np.testing.assert_array_equal(front, own_colours(image, alpha))


def test_nothing_to_decide_and_nothing_to_decide_by() -> None:
    image, trimap = scene(12, 12)
    decided = np.round(trimap)
    np.testing.assert_array_equal(closed_form_matte(image, decided), decided)
    assert np.ptp(closed_form_matte(image, np.full((12, 12), 0.5))) == 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_picture_of_one_colour_is_spread_evenly(value: float) -> None:
    trimap = np.full((12, 30), 0.5)
    trimap[:, 0], trimap[:, -1] = 1, 0
    alpha = closed_form_matte(np.full((12, 30, 3), value), trimap)
    assert (np.diff(alpha, axis=1) <= 1e-3).all()


def test_what_does_not_fit_is_refused() -> None:
    image, trimap = scene(12, 12)
    for bad_image, bad_trimap in (
        (image[:5], trimap),
        (image[..., :2], trimap),
        (image[:2, :2], trimap[:2, :2]),
        (image[..., 0], trimap),
        (np.where(image > 0.5, np.nan, image), trimap),
        (np.where(image > 0.5, np.inf, image), trimap),
    ):
        with pytest.raises(HeadsplatError):
            closed_form_matte(bad_image, bad_trimap)
    with pytest.raises(HeadsplatError):
        own_colours(image, trimap[:5])
