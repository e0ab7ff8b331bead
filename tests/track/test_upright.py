"""Photos that lie on their side or stand on their head are turned upright, and no others."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mediapipe")

from headsplat.track import track_photo
from headsplat.track.upright import quarter_turns


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut()[:400, 40:400]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_face_ends_upright(portrait: np.ndarray, turns: int) -> None:
    lying = np.ascontiguousarray(np.rot90(portrait, turns))
    assert (turns + quarter_turns(lying)) % 4 == 0


@pytest.mark.parametrize("degrees", [-35, -20, 20, 35])
def test_a_tilted_head_is_left_alone(portrait: np.ndarray, degrees: int) -> None:
    from PIL import Image

    tilted = Image.fromarray(portrait).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(120, 120, 120))
    assert quarter_turns(np.asarray(tilted)) == 0


def test_no_face_or_several_are_left_alone(portrait: np.ndarray) -> None:
    from skimage.data import coffee

    assert quarter_turns(coffee()) == 0
    assert quarter_turns(np.concatenate([portrait, portrait], 1)) == 0


def test_a_photo_on_its_head_is_tracked_as_if_upright(portrait: np.ndarray) -> None:
    upright, turned = track_photo(portrait), track_photo(np.ascontiguousarray(portrait[::-1, ::-1]))
    np.testing.assert_array_equal(turned.image, upright.image)
    np.testing.assert_array_equal(turned.landmarks, upright.landmarks)
    assert turned.source != upright.source
