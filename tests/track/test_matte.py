"""The matte keeps the person and nothing that hangs in the air beside her."""

import numpy as np
import pytest

from headsplat.track import landmarks as lm
from headsplat.track.colours import fit_colours, to_lab
from headsplat.track.matte import _connected, _open_gaps, face_mask, height_above_chin

pytest.importorskip("cv2")


def _face() -> np.ndarray:
    """Landmarks of a schematic upright face: an oval of 40 x 60 pixels around (100, 100)."""
    points = np.tile([100.0, 100.0], (lm.COUNT, 1))
    angles = np.linspace(0, 2 * np.pi, len(lm.OVAL), endpoint=False)
    points[lm.OVAL] = np.stack([100 + 40 * np.sin(angles), 100 - 60 * np.cos(angles)], 1)
    return points


def test_height_is_zero_at_the_chin_and_one_at_the_forehead() -> None:
    landmarks = _face()
    height = height_above_chin(landmarks, (200, 200))
    x, y = landmarks[[lm.CHIN, lm.FOREHEAD]].astype(int).T
    np.testing.assert_allclose(height[y, x], [0, 1], atol=0.01)


def test_face_mask_is_the_oval() -> None:
    mask = face_mask(_face(), (200, 200))
    assert mask[100, 100] == 1 and mask[20, 20] == 0
    assert mask.sum() == pytest.approx(np.pi * 40 * 60, rel=0.05)


def test_islands_and_haze_go_hair_stays() -> None:
    alpha = np.zeros((200, 200))
    alpha[60:160, 70:130] = 1  # the person
    alpha[100:110, 130:145] = 0.4  # a strand beside her
    alpha[60:160, 20:70] = 0.3  # haze that reaches far
    alpha[5:15, 180:195] = 1  # an island
    kept = _connected(alpha, _face())
    assert kept[100, 100] == 1 and kept[5:15, 180:195].max() == 0
    np.testing.assert_allclose(kept[104, 132:142], 0.4)
    assert kept[100, 21:35].max() == 0


def test_a_matte_that_misses_the_nose_is_left_alone() -> None:
    alpha = np.zeros((200, 200))
    alpha[150:190, 60:140] = 0.9
    np.testing.assert_allclose(_connected(alpha, _face()), alpha)


@pytest.mark.parametrize(("clothes", "opened"), [((0.2, 0.2, 0.5), True), ((0.6, 0.6, 0.62), False)])
def test_gaps_open_only_before_a_backdrop_unlike_the_person(clothes: tuple[float, ...], opened: bool) -> None:
    rng = np.random.default_rng(0)
    image = np.full((200, 200, 3), [0.6, 0.6, 0.62]) + rng.normal(0, 0.004, (200, 200, 3))
    image[110:200, 60:140] = clothes
    image[40:110, 60:132] = [0.8, 0.6, 0.5]
    trimap = np.zeros((200, 200))
    trimap[40:200, 60:140] = 1  # too generous: right of column 132 the backdrop shows between the curls
    landmarks = _face() - [0, 20]
    face = face_mask(landmarks, (200, 200)) > 0
    _open_gaps(trimap, to_lab(image.astype(np.float32)), trimap == 0, face, landmarks)
    assert (trimap[42:50, 134:139].max() < 1) == opened
    assert trimap[60:100, 70:120].min() == 1


def test_colour_mixture_integrates_to_one_and_knows_its_own() -> None:
    rng = np.random.default_rng(1)
    lab = np.concatenate([rng.normal([100, 120, 130], 4, (400, 3)), rng.normal([180, 140, 120], 6, (600, 3))])
    mixture = fit_colours(lab, 2)
    assert sorted(mixture.weights.round(2)) == pytest.approx([0.4, 0.6], abs=0.03)
    grid = np.stack(np.meshgrid(*[np.arange(40, 240, 4.0)] * 3, indexing="ij"), -1)
    assert np.exp(mixture.log_density(grid)).sum() * 4**3 == pytest.approx(1, abs=0.02)
    assert mixture.log_density(lab).mean() > mixture.log_density(lab + 40).mean() + 5
