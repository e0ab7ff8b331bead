"""Offline styles: what each does to a picture, and what none may do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.data import astronaut
from skimage.transform import resize

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.data.restyle import STYLES, restyle, restyle_frame
from headsplat.errors import HeadsplatError


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return (astronaut()[10:210, 120:311] / 255).astype(np.float32)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_colours_and_nothing_else(style: str, face: np.ndarray) -> None:
    before = face.copy()
    drawn = restyle(face, style)
    assert drawn.shape == face.shape and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() <= 1 and np.isfinite(drawn).all()
    assert np.abs(drawn - face).mean() > 0.01
    assert (face == before).all()


@pytest.mark.parametrize("style", STYLES)
def test_an_enlarged_picture_gets_larger_strokes(style: str, face: np.ndarray) -> None:
    small = restyle(resize(face, (256, 256)).astype(np.float32), style)
    large = restyle(resize(face, (768, 768)).astype(np.float32), style)
    apart = np.abs(resize(large, (256, 256), anti_aliasing=True) - small).mean()
    assert apart < 0.035


def test_pencil_is_grey_on_light_paper(face: np.ndarray) -> None:
    drawn = restyle(face, "pencil")
    assert np.ptp(drawn / drawn.mean(-1, keepdims=True).clip(1e-3), axis=-1).max() < 0.06
    assert restyle(np.ones((40, 50, 3), np.float32), "pencil").min() > 0.9


def step(image: np.ndarray) -> float:
    """The usual difference between neighbouring pixels."""
    return float(np.median(np.abs(np.diff(image, axis=0))))


def test_oil_and_cartoon_take_grain_away_and_cartoon_flattens(face: np.ndarray) -> None:
    rough = (face + np.random.default_rng(0).normal(0, 0.03, face.shape).astype(np.float32)).clip(0, 1)
    for style in ("oil", "cartoon"):
        assert step(restyle(rough, style)) < 0.75 * step(rough)
    assert step(restyle(face, "cartoon")) < 0.4 * step(face)


def test_film_is_a_map_of_colours_with_teal_shadows_and_warm_lights(face: np.ndarray) -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, :, None].repeat(3, -1)
    graded = restyle(ramp, "film")[0]
    assert (np.diff(graded.mean(-1)) > -1e-6).all()
    assert graded[8, 2] > graded[8, 0] and graded[56, 0] > graded[56, 2]
    upside = restyle(np.ascontiguousarray(face[::-1]), "film")
    np.testing.assert_allclose(upside[::-1], restyle(face, "film"), atol=1e-6)


def test_unknown_styles_are_refused_by_name(face: np.ndarray) -> None:
    with pytest.raises(HeadsplatError, match=r"'watercolour'.*pencil, oil, cartoon, film"):
        restyle(face, "watercolour")


def test_a_frame_keeps_its_tracking_and_the_background_stays_out(face: np.ndarray) -> None:
    size = len(face)
    width = face.shape[1]
    y, x = np.mgrid[:size, :width]
    alpha = (((x - width / 2) ** 2 + (y - size / 2) ** 2) < 60**2).astype(np.float32)
    frame = Frame(
        image=face, alpha=alpha, foreground=face, valid=alpha > -1, camera=Camera.orbit(), shape=np.zeros(3),
        expression=np.zeros(52), rotations=np.zeros((6, 3)), T_world_root=np.eye(4),
        landmarks=np.zeros((478, 2)), confidence=1.0, source="", landmark_error=0.0, crop=np.zeros((2, 3)),
    )  # fmt: skip
    other = replace(frame, foreground=np.where(alpha[..., None] > 0, face, 1 - face))
    for style in STYLES:
        first, second = restyle_frame(frame, style), restyle_frame(other, style)
        assert first.camera is frame.camera and first.alpha is frame.alpha
        np.testing.assert_allclose(first.foreground, second.foreground, atol=1e-5)
        inside = alpha > 0
        assert np.abs(first.foreground - face)[inside].mean() > 0.005


def test_a_cartoon_of_a_dark_picture_opens_its_shadows_and_leaves_black_hair_black(face: np.ndarray) -> None:
    dark = 0.2 * face
    assert restyle(dark, "cartoon").mean() > 1.5 * dark.mean()
    hair = np.full((64, 64, 3), [0.02, 0.02, 0.04], np.float32)
    hair[:8] = 0.2
    assert np.ptp(restyle(hair, "cartoon")[32:], axis=-1).max() < 0.08
