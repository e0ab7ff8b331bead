"""lift seen from where the photo was not taken: cheeks without ears, light that goes on, a closed bust."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lift_photo import HAIR, painted_frame

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.head.free import load_free_head
from headsplat.methods.lift import lift_5k, reconstruct
from headsplat.methods.lift.extend import UNSEEN_CLOTHES, extend
from headsplat.methods.lift.outline import fit_outline
from headsplat.methods.lift.segment import Sight, segment
from headsplat.methods.lift.surface import Surface, lift_surface
from headsplat.methods.lift.view import look_at_photo
from headsplat.methods.lift.volume import measure_hair
from headsplat.raster import rasterize

EAR = (0.85, 0.48, 0.42)


def sight_of(frame: Frame, correction: np.ndarray | None = None) -> Sight:
    view = look_at_photo(frame, load_free_head(), correction)
    return Sight(view, segment(view))


def surface_of(sight: Sight) -> tuple[Surface, np.ndarray]:
    """The surface, and where its samples lie on the template."""
    surface = lift_surface([sight], measure_hair([sight]), lift_5k())
    corners = sight.view.model.template[sight.view.model.faces[surface.face]]
    return surface, (corners * surface.barycentric[..., None]).sum(1)


@pytest.fixture(scope="module")
def with_wide_ears() -> Frame:
    """A bald head whose flushed ears begin at the face oval and stand 12 pixels further out."""
    frame = painted_frame(hair=False)
    image, alpha = frame.image.copy(), frame.alpha.copy()
    for point, side in ((234, -1), (454, 1)):
        x, y = np.round(frame.landmarks[point]).astype(int)
        columns = slice(x + 1, x + 13) if side > 0 else slice(x - 12, x)
        image[y - 18 : y + 12, columns], alpha[y - 18 : y + 12, columns] = EAR, 1.0
    return replace(frame, image=image, foreground=image, alpha=alpha)


def test_the_cheek_ends_at_the_face_and_not_at_the_ear(with_wide_ears: Frame) -> None:
    sight = sight_of(with_wide_ears)
    correction = fit_outline([sight])
    assert correction is not None
    v, ear = sight.view.model.template, sight.view.regions.ear
    cheek = (abs(v[:, 0]) > 0.06) & (abs(v[:, 1] - 0.02) < 0.02) & (v[:, 2] > 0.02) & ~ear
    outwards = correction[cheek, 0] * np.sign(v[cheek, 0])
    assert outwards.max() < 0.004, "the ear's rim lies 20 mm further out, and 10 mm is the most allowed"


def test_no_ear_is_painted_on_the_cheek(with_wide_ears: Frame) -> None:
    sight = sight_of(with_wide_ears)
    surface, at = surface_of(sight_of(with_wide_ears, fit_outline([sight])))
    cheek = (abs(at[:, 0]) > 0.05) & (abs(at[:, 1] - 0.02) < 0.015) & (at[:, 2] > 0.02)
    redness = surface.colours[cheek, 0] - surface.colours[cheek, 1]
    assert cheek.sum() > 20
    assert redness.max() < 0.28, "skin has 0.18, the ear 0.37"


def test_nothing_stands_out_of_the_matte() -> None:
    frame = painted_frame(hair=True)
    y, x = np.mgrid[: len(frame.alpha), : len(frame.alpha)] + 0.5
    top = frame.landmarks[10]
    narrow = (np.hypot((x - top[0]) / 34.0, (y - top[1]) / 44.0) < 1) | (y > top[1])
    sight = sight_of(replace(frame, alpha=frame.alpha * narrow))
    correction = fit_outline([sight])
    assert correction is not None
    scalp = sight.view.regions.scalp & (sight.view.model.template[:, 1] > 0.09)
    side = scalp & (abs(sight.view.model.template[:, 0]) > 0.05)
    inwards = -correction[side, 0] * np.sign(sight.view.model.template[side, 0])
    assert np.median(inwards) > 0.002


def test_the_hidden_cheek_stands_in_the_light_of_its_own_side() -> None:
    frame = painted_frame(hair=True, turn=0.25)  # the subject's left cheek turns away
    shade = np.where(np.arange(256) + 0.5 > frame.landmarks[168, 0], 0.65, 1.0)[None, :, None]
    image = (frame.image * shade).astype(np.float32)
    surface, at = surface_of(sight_of(replace(frame, image=image, foreground=image)))
    cheek = (abs(at[:, 0]) > 0.045) & (abs(at[:, 1]) < 0.03) & (at[:, 2] > 0.03)
    hidden, shown = cheek & (at[:, 0] > 0) & (surface.seen < 0.1), cheek & (at[:, 0] < 0)
    assert hidden.sum() > 10
    ratio = np.median(surface.colours[hidden].mean(1)) / np.median(surface.colours[shown].mean(1))
    assert 0.5 < ratio < 0.8


def test_the_bust_is_closed_from_the_side() -> None:
    avatar = reconstruct(painted_frame(hair=False), lift_5k(refine=0))
    camera = Camera.orbit(
        np.pi / 2, target=(0, -0.14, 0), distance=1.3, width=128, height=128, focal=128 * 1.3 / 0.24
    )
    alpha = rasterize(avatar.gaussians, camera, background=0.0).alpha
    rows = np.flatnonzero((alpha > 0.5).sum(1) > 3)
    bust = rows[rows > 55]
    widths = (alpha[bust] > 0.5).sum(1)
    spans = [np.ptp(np.flatnonzero(row > 0.5)) + 1 for row in alpha[bust]]
    assert widths.max() * 0.24 / 128 > 0.14, "as deep as a chest"
    assert (widths / spans).min() > 0.9, "one piece in every row, without a notch"
    shrinks = widths[1:] / widths[:-1]
    assert shrinks[widths[:-1] > 20].min() > 0.75, "it ends by and by, not at a shelf"


def test_a_crop_that_shows_only_hair_below_the_chin_is_dressed_plainly() -> None:
    frame = painted_frame(hair=True)
    image, alpha, valid = frame.image.copy(), frame.alpha.copy(), frame.valid.copy()
    chin, size = frame.landmarks[152], np.linalg.norm(frame.landmarks[10] - frame.landmarks[152])
    low = int(chin[1] + 0.10 * size)
    for side in (-1, 1):  # curtains of hair from the temples to the cut
        start = int(chin[0] + side * 0.36 * size)
        columns = slice(start, start + 30) if side > 0 else slice(start - 30, start)
        image[int(chin[1] - 0.9 * size) : low, columns] = HAIR
        alpha[int(chin[1] - 0.9 * size) : low, columns] = 1
    valid[low:] = False
    cut = replace(frame, image=image, foreground=image, alpha=alpha * valid, valid=valid)
    sight = sight_of(cut)
    longer, _ = extend(sight.view, sight.segments)
    row = longer.frame.foreground[min(low + 30, 250), 100:156]
    assert np.abs(row - UNSEEN_CLOTHES).max() < 0.02
