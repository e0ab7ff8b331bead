"""lift end to end on a painted head: it repaints the photo, closes the back, moves, keeps its promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lift_photo import painted_frame

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.methods.lift import lift_5k, reconstruct
from headsplat.methods.lift.model import measure_fit, photo_pose
from headsplat.raster import rasterize


@pytest.fixture(scope="module")
def frame() -> Frame:
    return painted_frame(hair=True)


@pytest.fixture(scope="module")
def avatar(frame: Frame) -> Avatar:
    return reconstruct(frame, lift_5k(refine=15))


def view(avatar: Avatar, degrees: float, **pose: object) -> tuple[np.ndarray, np.ndarray]:
    camera = Camera.orbit(np.radians(degrees), distance=1.3, width=128, height=128, focal=128 * 1.3 / 0.44)
    drawn = rasterize(avatar.animate(**pose), camera, background=0.0)  # type: ignore[arg-type]
    return drawn.image, drawn.alpha


def test_repaints_the_photo_and_refinement_helps(frame: Frame, avatar: Avatar) -> None:
    plain = reconstruct(frame, lift_5k(refine=0))
    assert avatar.info["source_psnr"] > plain.info["source_psnr"] + 1
    assert avatar.info["source_psnr"] > 22
    assert avatar.info["matte_iou"] > 0.9
    assert measure_fit(avatar, frame) == {
        k: avatar.info[k] for k in ("source_psnr", "source_ssim", "matte_iou")
    }


def test_same_photo_gives_the_same_avatar(frame: Frame, avatar: Avatar) -> None:
    again = reconstruct(frame, lift_5k(refine=15))
    for name in ("means", "quats", "scales", "opacities", "features"):
        assert np.array_equal(getattr(again.gaussians, name), getattr(avatar.gaussians, name)), name


def test_every_gaussian_is_sound(avatar: Avatar) -> None:
    g = avatar.gaussians.check()
    assert np.allclose(np.linalg.norm(g.quats, axis=1), 1, atol=1e-4)
    assert (g.scales > 0).all() and (g.scales < 0.05).all()
    assert (g.opacities >= 0).all() and (g.opacities <= 1).all()
    assert (g.features >= 0).all() and (g.features <= 1).all()
    assert np.allclose(avatar.skin_weights.sum(1), 1, atol=1e-5)
    assert (avatar.seen >= 0).all() and (avatar.seen <= 1).all()
    assert 2_000 < len(avatar) < 14_000


@pytest.mark.parametrize("degrees", [0, 45, -90, 135, 180])
def test_nothing_is_see_through(avatar: Avatar, degrees: float) -> None:
    from scipy.ndimage import binary_erosion, binary_fill_holes

    _, alpha = view(avatar, degrees)
    solid = binary_erosion(binary_fill_holes(alpha > 0.5), iterations=4)
    solid[90:] = False  # head and neck
    assert solid.sum() > 1500
    assert (alpha[solid] > 0.9).mean() > 0.98


def test_back_is_hair_and_front_is_skin(frame: Frame, avatar: Avatar) -> None:
    hair, skin = np.array(frame.foreground[48, 128]), np.array(frame.foreground[130, 128])
    back, alpha = view(avatar, 180)
    front, _ = view(avatar, 0)
    crown, cheek = back[34:50, 54:74].reshape(-1, 3).mean(0), front[66:74, 54:74].reshape(-1, 3).mean(0)
    assert (alpha[34:50, 54:74] > 0.9).all()
    assert np.linalg.norm(crown - hair) < np.linalg.norm(crown - skin)
    assert np.linalg.norm(cheek - skin) < np.linalg.norm(cheek - hair)


def test_expressions_move_what_they_should(avatar: Avatar) -> None:
    rest = avatar.gaussians.means
    jaw = np.linalg.norm(avatar.animate({"jawOpen": 1.0}).means - rest, axis=1)
    blink = np.linalg.norm(avatar.animate({"eyeBlinkLeft": 1.0}).means - rest, axis=1)
    assert jaw.max() > 0.015 and blink.max() > 0.004
    assert rest[jaw > 0.01, 1].max() < 0.02, "the jaw moves nothing above the nose"
    assert np.average(rest[:, 0], weights=blink) > 0.02, "left is the subject's left, x > 0"
    crown = rest[:, 1] > 0.12
    assert jaw[crown].max() == 0 and blink[crown].max() == 0


def test_shoulders_stay_when_the_head_turns(avatar: Avatar) -> None:
    turned = avatar.animate(rotations={"head": (0.0, 0.5, 0.0)})
    moved = np.linalg.norm(turned.means - avatar.gaussians.means, axis=1)
    y = avatar.gaussians.means[:, 1]
    assert moved[y < -0.17].max() < 1e-4
    assert moved[(y > 0.05) & (abs(avatar.gaussians.means[:, 0]) > 0.04)].min() > 0.01


def test_photo_pose_undoes_the_expression(frame: Frame, avatar: Avatar) -> None:
    smiling = replace(
        frame, expression=frame.expression + np.eye(52, dtype=np.float32)[avatar.expressions.index("jawOpen")]
    )
    assert np.abs(photo_pose(avatar, smiling).means - photo_pose(avatar, frame).means).max() > 0.01


def test_saved_avatar_is_small_and_draws_alike(avatar: Avatar, tmp_path) -> None:
    path = tmp_path / "head.avatar"
    save_avatar(avatar, path)
    assert path.stat().st_size < 1_500_000
    image, _ = view(avatar, 20, expression={"jawOpen": 0.5})
    loaded, _ = view(load_avatar(path), 20, expression={"jawOpen": 0.5})
    assert np.abs(image - loaded).mean() < 0.004


def test_bald_head_grows_no_hair() -> None:
    avatar = reconstruct(painted_frame(hair=False), lift_5k(refine=0))
    image, alpha = view(avatar, 180)
    skin = np.array(painted_frame(hair=False).foreground[130, 128])
    crown = image[34:50, 54:74].reshape(-1, 3).mean(0)
    assert (alpha[34:50, 54:74] > 0.9).all()
    assert np.linalg.norm(crown / crown.sum() - skin / skin.sum()) < 0.06
