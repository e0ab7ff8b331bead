"""lift from several photos: more of the head is seen, tones are matched; refining keeps what was known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lift_photo import PATCH, painted_frame

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.methods.lift import lift_5k, reconstruct, renew
from headsplat.methods.lift.model import measure_fit
from headsplat.methods.lift.segment import Sight, segment
from headsplat.methods.lift.surface import lift_surface
from headsplat.methods.lift.tone import match_tone
from headsplat.methods.lift.view import look_at_photo
from headsplat.methods.lift.volume import measure_hair
from headsplat.networks import Network
from headsplat.raster import rasterize

SETTINGS = lift_5k(refine=12)
TURN = -0.75  # shows the subject's left side


@pytest.fixture(scope="module")
def front() -> Frame:
    return painted_frame(hair=True, patch=True)


@pytest.fixture(scope="module")
def turned() -> Frame:
    return painted_frame(hair=True, turn=TURN, patch=True)


@pytest.fixture(scope="module")
def one(front: Frame) -> Avatar:
    return reconstruct(front, SETTINGS)


@pytest.fixture(scope="module")
def both(front: Frame, turned: Frame) -> Avatar:
    return reconstruct([front, turned], SETTINGS)


def green(avatar: Avatar) -> float:
    """Share of the head, seen from its left, that has the colour of the patch."""
    camera = Camera.orbit(np.radians(75), distance=1.3, width=128, height=128, focal=128 * 1.3 / 0.30)
    image = rasterize(avatar.gaussians, camera, background=0.0).image
    return float((np.abs(image - np.array(PATCH)).max(-1) < 0.15).mean())


def test_a_second_side_is_learned_from_a_second_photo(one: Avatar, both: Avatar) -> None:
    assert green(both) > 0.01
    assert green(both) > 3 * green(one)
    assert both.seen.sum() > 1.15 * one.seen.sum()
    assert both.info["photos"] == 2 and len(both.info["photo_psnr"]) == 2


def test_more_photos_explain_a_view_between_them_better(one: Avatar, both: Avatar, front: Frame) -> None:
    between = painted_frame(hair=True, turn=0.55 * TURN, patch=True)
    assert measure_fit(both, between)["source_psnr"] > measure_fit(one, between)["source_psnr"] + 1
    assert measure_fit(both, front)["source_psnr"] > measure_fit(one, front)["source_psnr"] - 3


def test_the_same_photo_twice_says_nothing_new(front: Frame, one: Avatar) -> None:
    twice = reconstruct([front, front], SETTINGS)
    assert abs(len(twice) - len(one)) < 0.02 * len(one)
    assert twice.info["source_psnr"] > one.info["source_psnr"] - 0.3  # it is refined for longer
    sight = _sight(front)
    hair = measure_hair([sight])
    again = measure_hair([sight, sight]).radius  # a doubled vote outweighs what is believed beforehand
    assert np.abs(hair.radius - again).max() < 0.004
    alone, doubled = (lift_surface(s, hair, SETTINGS) for s in ([sight], [sight, sight]))
    assert np.allclose(alone.colours, doubled.colours, atol=1e-6)


def _sight(frame: Frame) -> Sight:
    view = look_at_photo(frame, load_free_head())
    return Sight(view, segment(view))


def test_tones_are_brought_together(front: Frame, turned: Frame) -> None:
    gain = np.array([0.7, 0.85, 1.1], np.float32)
    dim = replace(turned, foreground=turned.foreground * gain, image=turned.image * gain)
    main, other = (look_at_photo(f, load_free_head()) for f in (front, dim))
    matched = match_tone(other, main).frame.foreground
    inside = (turned.alpha > 0.9) & (turned.foreground.max(-1) * 1.1 < 1)
    assert np.abs(matched - turned.foreground)[inside].mean() < 0.02
    assert np.abs(dim.foreground - turned.foreground)[inside].mean() > 0.05
    assert np.allclose(match_tone(main, main).frame.foreground, front.foreground, atol=1e-6)


def test_refining_adds_what_a_new_photo_shows_and_keeps_the_rest(
    one: Avatar, front: Frame, turned: Frame
) -> None:
    dim = replace(turned, foreground=turned.foreground * 0.8, image=turned.image * 0.8)
    better = renew(one, [dim], 40)
    report = better.info["refined"]
    assert report["psnr_after"][0] > report["psnr_before"][0] + 1
    assert report["times"] == 1 and report["photos"] == 1
    assert green(better) > 2 * green(one) and better.seen.sum() > 1.1 * one.seen.sum()
    # It must not drift: neither to the new photo's light, nor away from the old one.
    assert measure_fit(better, front)["source_psnr"] > measure_fit(one, front)["source_psnr"] - 2.5
    face = (one.seen > 0.9) & (one.gaussians.means[:, 0] < 0)
    shift = better.gaussians.features[face].mean(0) - one.gaussians.features[face].mean(0)
    assert np.abs(shift).max() < 0.02
    # Lids do not learn.
    blink = np.linalg.norm(one.animate({"eyeBlinkLeft": 1.0}).means - one.gaussians.means, axis=1) > 0.005
    assert np.abs(better.gaussians.features - one.gaussians.features)[blink].max() < 0.08
    assert renew(better, [dim], 5).info["refined"]["times"] == 2


def test_what_cannot_be_refined_is_said(one: Avatar, front: Frame) -> None:
    from headsplat.reconstruct import refine

    with pytest.raises(HeadsplatError, match="runs a network"):
        renew(replace(one, deformer=Network("toy", {}, {})), [front])
    with pytest.raises(HeadsplatError, match="does not know the head"):
        refine(replace(one, info={}), front)
    with pytest.raises(HeadsplatError, match="make no sense"):
        refine(one, front, steps=0)
