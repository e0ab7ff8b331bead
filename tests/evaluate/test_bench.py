"""The benchmarks: that baselines do the same work as the kernels, and what the rows hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench, bench_scenes, torch_baseline
from headsplat.raster import rasterize
from headsplat.raster.rig import RigRenderer

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


def test_memory_is_that_of_fresh_processes(capsys):
    bench.run("memory", json=True, sizes=(400,))
    rows = {r["backend"]: r for r in json.loads(capsys.readouterr().out.strip().splitlines()[-1])}
    assert 0 < rows["import headsplat"]["peak_mb"] < rows["draw with gradients"]["peak_mb"]


def test_the_gpu_table_needs_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(HeadsplatError, match="GPU"):
        bench.run("cuda")
