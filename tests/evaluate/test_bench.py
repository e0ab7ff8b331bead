"""The benchmarks: that baselines do the same work as the kernels, and what the rows hold."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headsplat import networks
from headsplat.avatar_file import save_avatar
from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench, bench_scenes, torch_baseline
from headsplat.raster import rasterize
from headsplat.raster.rig import RigRenderer
from synthetic import make_avatar

KEYS = {
    "bench", "backend", "gaussians", "channels", "size", "pass", "ms_median", "ms_min", "fps",
    "ratio_to_reference", "threads", "machine",
}  # fmt: skip


@pytest.mark.parametrize("channels", [3, 5])
def test_the_torch_baseline_draws_the_same_picture(channels):
    cloud, view = bench_scenes.cloud(500, channels), bench_scenes.cameras(size=75)[1]
    with torch.no_grad():
        arrays, viewed = torch_baseline.arrays_of(cloud), torch_baseline.view_of(view)
        picture = torch_baseline.rasterize(*arrays, *viewed).numpy()
    # It goes on behind pixels that rasterize closes.
    assert np.abs(picture - rasterize(cloud, view).image).max() < 2e-2
    assert np.abs(picture - rasterize(cloud, view).image).mean() < 2e-5


def test_the_torch_animation_moves_alike():
    avatar, view = bench_scenes.rig(600, 8), bench_scenes.cameras(size=60)[2]
    weights, transforms = bench_scenes.poses(avatar, 5)[0]
    animation = torch_baseline.Animation(avatar)
    with torch.no_grad():
        moved = animation.pose(torch.from_numpy(weights), torch.from_numpy(transforms))
        picture = torch_baseline.rasterize(*moved, *torch_baseline.view_of(view)).numpy()
    expected = RigRenderer(avatar).render(weights, transforms, view).image
    assert np.abs(picture - expected).mean() < 1e-4


def test_rows_hold_what_they_promise(capsys):
    bench.run("raster", json=True, sizes=(300,), channels=(3, 4), pixels=48, seconds=0.02)
    lines = capsys.readouterr().out.strip().splitlines()
    rows = json.loads(lines[-1])
    assert all(row.keys() >= KEYS for row in rows)
    assert {row["pass"] for row in rows} == {"forward", "forward+backward"}
    assert {row["channels"] for row in rows} == {3, 4}
    reference = [row for row in rows if row["backend"] == "torch tiles"]
    assert reference and all(row["ratio_to_reference"] == 1 for row in reference)
    assert all(0 < row["ms_min"] <= row["ms_median"] for row in rows)


def test_animation_is_compared_with_the_still_avatar(capsys):
    bench.run("animate", json=True, sizes=(400,), pixels=48, seconds=0.02)
    rows = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {row["active_expressions"] for row in rows} == {0, 12, 52}
    assert all(row["ratio_to_static"] == 1 for row in rows if row["backend"] == "static")


def test_avatars_with_networks_are_measured_as_they_are_played(monkeypatch, tmp_path, capsys):
    calls = []

    def deformer(network):
        return lambda rest, weights, transforms, eye: calls.append("deform") or rest

    def refiner(network):
        return lambda image, alpha: calls.append("refine") or image[..., :4]

    home = SimpleNamespace(deformer=deformer, refiner=refiner)
    monkeypatch.setitem(sys.modules, "toy_networks", home)
    monkeypatch.setattr(networks, "_HOMES", {"toy": "toy_networks"})
    toy = networks.Network("toy", {}, {"x": np.zeros(1, np.float32)})
    avatar = replace(make_avatar(80, channels=32), deformer=toy, refiner=toy)
    save_avatar(avatar, tmp_path / "a.avatar")
    bench.run("animate", json=True, sizes=(300,), pixels=32, seconds=0.01, avatar=tmp_path / "a.avatar")
    rows = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    own = [row for row in rows if row["scene"] == "avatar"]
    assert {row["backend"] for row in own} == {"static", "animate", "animate and refine"}
    assert all(row["channels"] == 32 and row["deformer"] == row["refiner"] == "toy" for row in own)
    assert {row["active_expressions"] for row in own} == {0, 12, 52}
    assert 0 < calls.count("refine") < calls.count("deform")


def test_a_rig_of_many_channels_is_measured_too(tmp_path, capsys):
    save_avatar(make_avatar(80, channels=32), tmp_path / "a.avatar")
    for what in ("raster", "animate"):
        bench.run(what, json=True, sizes=(300,), channels=(3,), pixels=32, seconds=0.01,
                  avatar=tmp_path / "a.avatar")  # fmt: skip
        rows = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        own = [row for row in rows if row["scene"] == "avatar"]
        assert own and all(row["channels"] == 32 and row["gaussians"] == 80 for row in own)


def test_memory_is_that_of_fresh_processes(capsys):
    bench.run("memory", json=True, sizes=(400,))
    rows = {r["backend"]: r for r in json.loads(capsys.readouterr().out.strip().splitlines()[-1])}
    assert 0 < rows["import headsplat"]["peak_mb"] < rows["draw with gradients"]["peak_mb"]


def test_the_gpu_table_needs_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(HeadsplatError, match="GPU"):
        bench.run("cuda")


def test_lam_is_measured_with_random_weights(capsys, monkeypatch):
    from headsplat.evaluate import bench_lam

    monkeypatch.setattr(bench_lam, "RENDER", 64)
    bench.run("lam", presets=("small",), seconds=0.01, json=True)
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["pass"] for row in rows] == ["forward", "training step, 8 frames"]
    assert all(row["gaussians"] == 6727 and row["ms_min"] > 0 and row["peak_mb"] > 50 for row in rows)


def test_gagavatar_is_measured_with_random_weights(capsys, monkeypatch):
    from headsplat.evaluate import bench_gagavatar

    monkeypatch.setattr(bench_gagavatar, "alternate", lambda tasks, *_: run_once(tasks))
    bench.run("gagavatar", presets=("small",), seconds=0.01, json=True)
    rows = {row["backend"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])}
    assert {"lift a photo", "neural renderer", "training step"} <= rows.keys()
    assert all(row["channels"] == 16 and row["size"] == 256 for row in rows.values())
    assert rows["training step"]["pass"] == "forward+backward"


def run_once(tasks):
    for task in tasks.values():
        task(0)
    return {name: np.array([1.0]) for name in tasks}


@pytest.mark.parametrize(("what", "preset"), [("lam", "ours"), ("gagavatar", "paper")])
def test_a_preset_of_another_method_is_refused(what, preset):
    with pytest.raises(HeadsplatError, match=f"no preset '{preset}'"):
        bench.run(what, presets=(preset,))
