"""Avatars with networks: what is stored, who runs it, who refuses it, and that rigs do not notice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headsplat import networks
from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.camera import Camera
from headsplat.contact_sheet import sheet_tiles
from headsplat.errors import HeadsplatError
from headsplat.export import export
from headsplat.gaussians import Gaussians
from headsplat.networks import Network
from headsplat.playback import draw, paint_seen, play, portrait_camera, shot, turntable
from headsplat.takes import take
from headsplat.tensor_file import read_tensors, write_tensors
from synthetic import make_avatar

MADE: list[str] = []


def deformer(network: Network) -> networks.Deformer:
    """A toy: shifts everything by the first weight, and is red when seen from the left."""
    MADE.append("deformer")
    shift = network.tensors["shift"].astype(np.float32)

    def run(rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray) -> Gaussians:
        assert transforms.shape == (6, 4, 4)
        red = np.array([1, 0, 0] if eye[0] > 0.01 else [0, 0, 1], np.float32)
        return replace(
            rest,
            means=rest.means + weights[0] * shift,
            features=np.broadcast_to(red, rest.features.shape).copy(),
        )

    return run


def refiner(network: Network) -> networks.Refiner:
    MADE.append("refiner")
    mix = network.tensors["mix"].astype(np.float32)
    return lambda image, alpha: np.concatenate([image @ mix, alpha[..., None]], -1)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("toy_networks")
    module.deformer, module.refiner = deformer, refiner  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "toy_networks", module)
    monkeypatch.setattr(networks, "_HOMES", {"toy": "toy_networks", "half": "json"})
    MADE.clear()


def deformed(kind: str = "toy", **tensors: np.ndarray) -> Avatar:
    shift = {"shift": np.array([0.01, 0, 0], np.float16), **tensors}
    return replace(make_avatar(60, seed=2), deformer=Network(kind, {"a": [1, 2.5, "x"]}, shift))


def refined() -> Avatar:
    mix = np.random.default_rng(0).uniform(0, 0.3, (5, 3)).astype(np.float32)
    return replace(make_avatar(60, seed=2, channels=5), refiner=Network("toy", {}, {"mix": mix}))


def test_networks_come_back_as_they_were(tmp_path: Path) -> None:
    first, second = tmp_path / "a.avatar", tmp_path / "b.avatar"
    avatar = replace(deformed(**{"net.0-w": np.arange(6, dtype=np.float32).reshape(2, 3)}))
    save_avatar(avatar, first)
    back = load_avatar(first)
    save_avatar(back, second)
    assert first.read_bytes() == second.read_bytes()
    assert avatar.deformer and back.deformer and back.refiner is None
    assert (back.deformer.kind, back.deformer.config) == ("toy", {"a": [1, 2.5, "x"]})
    for name, tensor in avatar.deformer.tensors.items():
        assert back.deformer.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(back.deformer.tensors[name], tensor)


def test_a_deformer_makes_every_pose_and_sees_the_camera() -> None:
    avatar = deformed()
    root = np.eye(4)
    root[:3, 3] = (0, 0.2, 0)
    left = portrait_camera(avatar, 0.5)
    weights = np.zeros(len(avatar.expressions))
    weights[0] = 2.0
    posed = avatar.animate(weights, root=root, camera=left)
    # The deformer comes after the blendshapes and before the skin.
    rig = replace(avatar, deformer=None).animate(weights, root=root)
    np.testing.assert_allclose(posed.means, rig.means + np.array([0.02, 0, 0]), atol=1e-5)
    assert posed.features[0].tolist() == [1, 0, 0]
    assert avatar.animate().features[0].tolist() == [0, 0, 1], "without a camera it is seen from the front"
    assert MADE == ["deformer"], "prepared once"


def test_every_way_of_drawing_runs_the_deformer() -> None:
    avatar = deformed()
    motion = take("hello", 2.0)
    front, side = (portrait_camera(avatar, yaw, size=40) for yaw in (0.0, np.pi / 2))
    expected = draw(avatar.animate(**motion.pose(0), camera=front), front)
    np.testing.assert_array_equal(next(play(avatar, motion, size=40)), expected)
    frames = list(turntable(avatar, 4, size=40))
    np.testing.assert_allclose(frames[1], shot(avatar, side), atol=1e-5)
    assert frames[1][..., 2].min() < 0.7 and frames[1][..., 0].min() > 0.99, "red from her left"
    tiles = dict(sheet_tiles(avatar, size=40))
    np.testing.assert_array_equal(tiles["0°"], shot(avatar, front))


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.2, 0.4, 0.0), None])
def test_a_refiner_colours_what_is_drawn(background: Any) -> None:
    avatar = refined()
    assert avatar.refiner
    camera = portrait_camera(avatar, 0.2, size=40)
    from headsplat.raster import rasterize

    rendered = rasterize(avatar.animate(), camera, depth=False)
    color, alpha = rendered.image @ avatar.refiner.tensors["mix"], rendered.alpha[..., None]
    picture = shot(avatar, camera, background)
    if background is None:
        np.testing.assert_allclose(picture[..., :3], np.clip(color, 0, 1), atol=1e-6)
        np.testing.assert_allclose(picture[..., 3:], alpha, atol=1e-6)
    else:
        expected = np.clip(color * alpha + np.float32(background) * (1 - alpha), 0, 1)
        np.testing.assert_allclose(picture, expected, atol=1e-6)
    frame = next(play(avatar, take("hello"), size=40, background=background))
    again = shot(avatar, portrait_camera(avatar, size=40), background, **take("hello").pose(0))
    assert np.abs(frame - again).mean() < 1e-3


def test_who_cannot_run_a_network_says_bake_it_first(tmp_path: Path) -> None:
    avatar = deformed()
    for suffix in ("html", "ply", "spz", "splat", "glb", "zip"):
        with pytest.raises(HeadsplatError, match="bake it first: headsplat bake"):
            export(avatar, tmp_path / f"a.{suffix}")
    save_avatar(avatar, tmp_path / "a.avatar")
    from headsplat.export.html import export_html
    from headsplat.web.view import view

    with pytest.raises(HeadsplatError, match="bake it first"):
        export_html(tmp_path / "a.avatar", tmp_path / "a.html")
    with pytest.raises(HeadsplatError, match="bake it first"):
        view(tmp_path / "a.avatar", browser=False)
    with pytest.raises(HeadsplatError, match="painting what was seen cannot; bake it first"):
        paint_seen(refined())
    assert make_avatar(5).need_rig("nobody").deformer is None


def test_info_names_the_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headsplat.cli.data import info

    save_avatar(deformed(), tmp_path / "a.avatar")
    info(tmp_path / "a.avatar", json=True)
    assert json.loads(capsys.readouterr().out)["networks"] == {"deformer": "toy"}


def test_unknown_kinds_are_drawn_as_rigs_and_it_says_so(tmp_path: Path) -> None:
    save_avatar(deformed("of the future"), tmp_path / "a.avatar")
    with pytest.warns(UserWarning, match="without its deformer"):
        assert load_avatar(tmp_path / "a.avatar").deformer is None
    with pytest.raises(HeadsplatError, match="does not know"):
        deformed("of the future").animate()
    with pytest.raises(HeadsplatError, match="cannot be a deformer"):
        deformed("half").animate()


def damage(tensors: dict[str, Any], metadata: dict[str, str], how: str) -> None:
    match how:
        case "no description":
            del metadata["deformer"]
        case "no tensors":
            del tensors["deformer.shift"]
        case "not an object":
            metadata["deformer"] = "[1]"
        case "no kind":
            metadata["deformer"] = '{"config": {}}'
        case "config is a list":
            metadata["deformer"] = '{"kind": "toy", "config": []}'
        case "integers":
            tensors["deformer.shift"] = np.arange(3, dtype=np.int32)
        case "not finite":
            tensors["deformer.shift"] = np.full(3, np.nan, np.float32)
        case "odd name":
            tensors["deformer.a/../b"] = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    "how",
    [
        "no description",
        "no tensors",
        "not an object",
        "no kind",
        "config is a list",
        "integers",
        "not finite",
        "odd name",
    ],
)
def test_damaged_networks_are_refused(tmp_path: Path, how: str) -> None:
    save_avatar(deformed(), tmp_path / "a.avatar")
    tensors, metadata = read_tensors(tmp_path / "a.avatar")
    damage(tensors, metadata, how)
    write_tensors(tmp_path / "b.avatar", tensors, metadata)
    with pytest.raises(HeadsplatError, match="is damaged"):
        load_avatar(tmp_path / "b.avatar")


def test_a_network_that_cannot_be_stored_is_not(tmp_path: Path) -> None:
    for bad in (np.arange(3), np.array([np.inf], np.float32)):
        with pytest.raises((ValueError, HeadsplatError)):
            save_avatar(deformed(bad=bad), tmp_path / "a.avatar")
    assert list(tmp_path.iterdir()) == []


def test_the_camera_is_no_part_of_a_rig(avatar: Avatar) -> None:
    a, b = avatar.animate({"jawOpen": 1.0}), avatar.animate({"jawOpen": 1.0}, camera=Camera.orbit(1.0))
    np.testing.assert_array_equal(a.means, b.means)
    np.testing.assert_array_equal(a.features, b.features)
