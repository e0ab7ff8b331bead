"""Avatars of learned methods play in the browser as they do in Python: LAM's, and GAGAvatar's once baked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_player import picture, random_state, read_deformed, set_state

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.camera import Camera
from headsplat.raster import rasterize


@pytest.fixture(scope="module")
def lam_avatar(site: tuple[str, Path]) -> Avatar:
    """`small` with random weights, its outputs spread out so that offsets and wrinkles show."""
    torch = pytest.importorskip("torch")
    from headsplat.head.free import load_free_head
    from headsplat.methods.lam import create_avatar, small
    from headsplat.methods.lam.model import Lam
    from headsplat.methods.lam.rig import Rig

    torch.manual_seed(0)
    config = replace(small(), expressions=52)
    model, rig = Lam(config).eval(), Rig.of(load_free_head(), config)
    with torch.no_grad():
        for name, layer in model.renderer.gs_net.out_layers.items():
            layer.weight.add_(0.02 * torch.randn_like(layer.weight) * (4 if name == "shs" else 1))
        betas = torch.zeros(0)
        prediction = model(torch.rand(1, 3, 168, 168), rig.points(betas)[None])
    avatar = create_avatar(rig, prediction, betas.numpy(), seen=np.ones(len(rig.template), np.float32))
    save_avatar(avatar, site[1] / "lam.avatar")
    return load_avatar(site[1] / "lam.avatar")


@pytest.fixture(scope="module")
def baked_avatar(site: tuple[str, Path]) -> Avatar:
    """A tiny GAGAvatar with random weights, its neural renderer distilled into the Gaussians."""
    torch = pytest.importorskip("torch")
    from headsplat.head.free import load_free_head
    from headsplat.methods.gagavatar import bake as method
    from headsplat.methods.gagavatar.config import small
    from headsplat.methods.gagavatar.create import avatar_of
    from headsplat.methods.gagavatar.learn import start_near_the_plane
    from headsplat.methods.gagavatar.model import Gagavatar
    from headsplat.methods.gagavatar.subject import head_camera
    from headsplat.nets.styleunet import StyleUNetConfig
    from headsplat.nets.vit import VitConfig

    torch.manual_seed(0)
    encoder = VitConfig(width=24, depth=4, heads=2, patch=14, grid=4)
    renderer = StyleUNetConfig(channels=16, size=64, widths=(6, 6, 8, 8, 8), style=10, mapping=2)
    model = Gagavatar(replace(small(), encoder=encoder, image_size=56, renderer=renderer)).eval()
    start_near_the_plane(model)
    camera = head_camera(Camera.orbit(distance=1.2, width=64, height=64), np.eye(4), model.config.units)
    shaped = load_free_head().with_shape(np.zeros(0, np.float32))
    avatar = avatar_of(model, shaped, torch.rand(1, 3, 56, 56), camera, matte=torch.ones(8, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "POSES", 4)
        patch.setattr(method, "HELD", 2)
        save_avatar(method.bake(avatar, steps=4)[0], site[1] / "gagavatar.avatar")
    return load_avatar(site[1] / "gagavatar.avatar")


def test_a_lam_avatar_plays_in_the_browser_as_in_python(page: Any, lam_avatar: Avatar) -> None:
    assert lam_avatar.expression_appearance is not None
    assert_same_in_the_browser(page, lam_avatar, "/lam.avatar")


def test_a_baked_gagavatar_plays_in_the_browser_as_in_python(page: Any, baked_avatar: Avatar) -> None:
    assert baked_avatar.refiner is None and len(baked_avatar) > baked_avatar.info["expression_points"] > 4000
    assert_same_in_the_browser(page, baked_avatar, "/gagavatar.avatar")


def assert_same_in_the_browser(page: Any, avatar: Avatar, address: str) -> None:
    """Centres, colours and pictures of a few poses are those of Python."""
    page.evaluate(
        """async (address) => {
          const { Player } = await import("/web/player/player.js");
          const canvas = document.body.appendChild(document.createElement("canvas"));
          Object.assign(canvas, { width: 192, height: 160 }).style.cssText = "width:192px;height:160px";
          window.player = await Player.create(canvas, address, { idle: false });
        }""",
        address,
    )
    rng = np.random.default_rng(0)
    camera = Camera.orbit(0.2, 0.1, target=avatar.view_target, distance=1.0, width=192, height=160)
    for trial in range(3):
        weights, rotations = random_state(avatar, rng) if trial else ({}, {})
        set_state(page, weights, rotations, camera)
        found, wanted = read_deformed(page), avatar.animate(weights, rotations)
        assert np.linalg.norm(found["means"] - wanted.means, axis=1).max() <= 2e-5
        colours = np.concatenate([wanted.features, wanted.opacities[:, None]], 1)
        assert np.abs(found["colours"] - colours).max() <= 0.6 / 255
        drawn = rasterize(wanted, camera)
        both = np.concatenate([drawn.image, drawn.alpha[..., None]], -1)
        error = ((picture(page) - both) ** 2).mean()
        assert drawn.alpha.max() > 0.9 and -10 * np.log10(error) > 35
