"""Baking: what a rig can say is kept exactly, the rest as well as it can, and the loss is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from headsplat import networks
from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.bake import bake
from headsplat.errors import HeadsplatError
from headsplat.export import export
from headsplat.gaussians import Gaussians, axis_angle_to_quat, quat_multiply
from headsplat.motion import Motion
from headsplat.networks import Network
from headsplat.takes import take
from synthetic import make_avatar

COUNT = 80


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deformers by name in place of those of the methods."""
    module = ModuleType("toy_deformers")
    module.deformer = lambda network: DEFORMERS[network.config["toy"]]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_deformers", module)
    monkeypatch.setattr(networks, "_HOMES", {"toy": "toy_deformers"})


def linear(rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray) -> Gaussians:
    """What a rig can do: shifts, turns, sizes, colours and opacities in proportion to one weight each."""
    shift = np.zeros((len(rest), 3), np.float32)
    shift[:20] = weights[0] * np.array([0.01, 0.004, 0.0])
    turn = np.zeros((len(rest), 3), np.float32)
    turn[20:40] = weights[1] * np.array([0.0, 0.0, 0.8])
    features = rest.features.copy()
    features[40:60] += weights[2] * np.array([0.3, -0.2, 0.1])
    return Gaussians(
        rest.means + shift,
        quat_multiply(axis_angle_to_quat(turn), rest.quats).astype(np.float32),
        rest.scales * np.exp(np.where(np.arange(len(rest)) >= 60, 0.4 * weights[3], 0))[:, None],
        np.clip(rest.opacities - 0.3 * weights[4], 0, 1),
        np.clip(features, 0, 1),
    )


def crossed(rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray) -> Gaussians:
    """Two expressions that hinder each other, which no single pose shows."""
    hindered = weights[0] * (1 - 0.8 * min(1.0, float(weights[1])))
    return replace(rest, means=rest.means + np.float32(hindered) * np.array([0.03, 0, 0], np.float32))


def glossy(rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray) -> Gaussians:
    """Grey that depends on where the camera is: 0.5 in front, more from the left."""
    level = np.float32(np.clip(0.5 + 0.2 * eye[0], 0, 1))
    return replace(rest, features=np.full_like(rest.features, level))


DEFORMERS: dict[str, Callable[..., Gaussians]] = {"linear": linear, "crossed": crossed, "glossy": glossy}


def live(toy: str) -> Avatar:
    """A synthetic avatar that a toy network moves; its own rig is left empty."""
    avatar = make_avatar(COUNT, seed=3)
    none = type(avatar.expression_means).from_dense(np.zeros((52, COUNT, 3), np.float32), 1.0)
    return replace(
        avatar,
        expression_means=none,
        expression_frames=None,
        expression_appearance=None,
        deformer=Network("toy", {"toy": toy}, {"nothing": np.zeros(1, np.float32)}),
    )


def motion_of(avatar: Avatar, weights: np.ndarray) -> Motion:
    full = np.zeros((len(weights), len(avatar.expressions)), np.float32)
    full[:, : weights.shape[1]] = weights
    turns = np.zeros((len(weights), 1, 3), np.float32)
    turns[:, 0, 1] = np.linspace(-0.3, 0.3, len(weights))
    return Motion(full, avatar.expressions, turns, ("head",), 25.0)


def test_what_a_rig_can_do_is_kept() -> None:
    avatar = live("linear")
    weights = np.random.default_rng(0).uniform(0, 1, (60, 5))
    rig, report = bake(avatar, motion_of(avatar, weights))
    assert rig.deformer is None
    assert report.psnr > 50 and report.worst_psnr > 45 and report.neutral_psnr > 60
    assert report.still_psnr < report.psnr - 15, "the poses must differ from rest for this to mean anything"
    pose = {name: 0.5 for name in avatar.expressions[:5]}
    a, b = avatar.animate(pose, {"neck": (0, 0.3, 0)}), rig.animate(pose, {"neck": (0, 0.3, 0)})
    assert np.abs(a.means - b.means).max() < 3e-4
    assert np.abs(a.scales / b.scales - 1).max() < 0.08
    assert np.abs((a.quats * b.quats).sum(1)).min() > 0.998
    # Colours and opacities stop at 0 and 1, which no sum of changes knows.
    assert np.abs(a.features - b.features).max() < 0.06 and np.abs(a.opacities - b.opacities).max() < 0.03


def test_fitting_to_poses_helps_where_expressions_interact() -> None:
    avatar = live("crossed")
    rng = np.random.default_rng(1)
    both = rng.uniform(0.6, 1, (80, 1)) * np.array([[1.0, 1.0]]) * rng.uniform(0.8, 1, (80, 2))
    rig, report = bake(avatar, motion_of(avatar, both))
    assert report.fitted and report.psnr > report.plain_psnr + 3
    # Expressions that never came keep what they do alone.
    assert rig.expressions == avatar.expressions
    assert report.plain_psnr < 40


def test_taken_one_by_one_where_the_fit_does_not_help() -> None:
    avatar = live("crossed")
    alone = np.zeros((60, 2))
    alone[::2, 0], alone[1::2, 1] = 0.8, 0.8
    _, report = bake(avatar, motion_of(avatar, alone))
    assert report.psnr >= report.plain_psnr and report.psnr > 45


def test_view_dependent_colours_are_those_from_the_front_or_a_mean() -> None:
    avatar = live("glossy")
    front, _ = bake(avatar, motion_of(avatar, np.zeros((4, 1))))
    left, _ = bake(avatar, motion_of(avatar, np.zeros((4, 1))), yaws=(0.0, 30.0))
    assert np.allclose(front.gaussians.features, 0.5, atol=1e-4)
    assert left.gaussians.features.mean() > 0.52


def test_a_baked_avatar_goes_everywhere(tmp_path: Path) -> None:
    avatar = live("linear")
    with pytest.raises(HeadsplatError, match="bake it first"):
        export(avatar, tmp_path / "a.html")
    rig, report = bake(avatar, take("speak"))
    save_avatar(rig, tmp_path / "b.avatar")
    again = load_avatar(tmp_path / "b.avatar")
    assert again.info["baked"]["psnr"] == report.psnr and again.info["baked"]["from"] == "toy"
    export(again, tmp_path / "b.html")
    assert (tmp_path / "b.html").stat().st_size > 10_000


def test_bake_refuses_what_it_cannot_do() -> None:
    with pytest.raises(HeadsplatError, match="no network"):
        bake(make_avatar(20, seed=0))
    with pytest.raises(HeadsplatError, match="painted by a network"):
        bake(replace(live("linear"), refiner=Network("toy", {}, {})))


def test_baking_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from headsplat.cli import main

    save_avatar(live("linear"), tmp_path / "a.avatar")
    with pytest.raises(SystemExit) as end:
        main(["bake", str(tmp_path / "a.avatar"), "-o", str(tmp_path / "b.avatar"), "--json"])
    assert end.value.code == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["psnr"] > 40 and facts["poses"] > 10
    assert load_avatar(tmp_path / "b.avatar").deformer is None
    with pytest.raises(SystemExit) as end:
        main(["bake", str(tmp_path / "b.avatar"), "-o", str(tmp_path / "c.avatar")])
    assert end.value.code == 2 and "no network" in capsys.readouterr().err
    assert not (tmp_path / "c.avatar").exists()
