"""The whole GPU table in one call: frames at LAM-80K's shape, batches, channels, gradients, errors, memory.

LAM's paper gives 281 frames a second for 81,424 Gaussians at 512 x 512 on an A100.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench_scenes as scenes
from headsplat.evaluate.bench_rows import Row, Task, alternate, rows_of
from headsplat.evaluate.torch_baseline import Animation, arrays_of, view_of
from headsplat.gaussians import Gaussians
from headsplat.raster import GSPLAT, cuda, rasterize, reference
from headsplat.raster.cuda_frame import FrameRenderer
from headsplat.raster.rig import RigRenderer

EXPRESSIONS = 100  # as many as LAM has from FLAME
BATCH = 16
SIZE = 512


def table(seconds: float = 4.0) -> list[Row]:
    """Measure the GPU.

    Rows: a frame from pose to picture, replayed as a graph, alone and by batches of 16 (`ms` are then per
    frame), against the same steps in plain torch with a call of gsplat (the reference of the ratios); drawing
    alone with 3 and 32 channels, forward and with gradients. `max_error` compares with the definition in
    float64.

    Raises:
        HeadsplatError: there is no CUDA GPU, or gsplat is not installed.
    """
    cuda.gsplat()
    rows = []
    for count in (20_000, scenes.LAM_80K):
        rows += _frames(scenes.rig(count, EXPRESSIONS), seconds)
    for channels in (3, 32):
        rows += _drawing(scenes.cloud(scenes.LAM_80K, channels), seconds)
    return rows


def _row_settings(count: int, channels: int, pass_: str) -> dict[str, Any]:
    return {
        "bench": "cuda",
        "scene": "ellipsoid",
        "gaussians": count,
        "channels": channels,
        "size": SIZE,
        "pass_": pass_,
    }


def until_done(task: Callable[[int], Any]) -> Task:
    """The task until the GPU has done it."""

    def run(i: int) -> None:
        task(i)
        torch.cuda.synchronize()

    return run


def _frames(avatar: Avatar, seconds: float) -> list[Row]:
    poses = scenes.poses(avatar, EXPRESSIONS, count=BATCH)
    views = scenes.cameras(SIZE, BATCH)
    single = FrameRenderer(avatar, SIZE, SIZE)
    many = FrameRenderer(avatar, SIZE, SIZE, batch=BATCH)
    weights, transforms = np.stack([p[0] for p in poses]), np.stack([p[1] for p in poses])
    unfused = _unfused(avatar, poses, views)

    def one(i: int) -> None:
        k = i % BATCH
        single.render(weights[k : k + 1], transforms[k : k + 1], [views[k]])

    def pipelined(i: int) -> None:  # the host runs ahead, as when frames stay on the GPU
        for k in range(BATCH):
            one(i + k)

    tasks = {
        "graph": until_done(one),
        "graph, streaming": until_done(pipelined),
        "graph, batch of 16": until_done(lambda i: many.render(weights, transforms, views)),
        "torch animation + gsplat": until_done(unfused),
    }
    torch.cuda.reset_peak_memory_stats()
    times = alternate(tasks, seconds)
    for name in ("graph, streaming", "graph, batch of 16"):
        times[name] = times[name] / BATCH
    error = _frame_error(avatar, single)
    extra = {
        name: {"peak_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1), "share_over_1e-2": error}
        for name in times
    }
    settings = _row_settings(len(avatar), 3, "forward")
    return [
        _on_gpu(row)
        for row in rows_of(
            times, "torch animation + gsplat", dict.fromkeys(times, 1), extra=extra, **settings
        )
    ]


def _unfused(avatar: Avatar, poses: list[Any], views: list[Any]) -> Callable[[int], Any]:
    animation = Animation(avatar)
    animation.to("cuda")
    inputs = [(torch.from_numpy(w).cuda(), torch.from_numpy(T).cuda()) for w, T in poses]
    cameras = [view_of(v, "cuda") for v in views]
    background = torch.zeros(3, device="cuda")

    @torch.no_grad()
    def task(i: int) -> None:
        moved = animation.pose(*inputs[i % len(inputs)])
        cuda.rasterize(*moved, *cameras[i % len(cameras)], background, GSPLAT, False)

    return task


def _frame_error(avatar: Avatar, renderer: FrameRenderer) -> float:
    """Share of values that differ by more than 0.01 from the same pose drawn on the CPU."""
    weights, transforms = scenes.poses(avatar, EXPRESSIONS, count=1)[0]
    view = scenes.cameras(SIZE)[1]
    expected = RigRenderer(avatar).render(weights, transforms, view, rules=GSPLAT).image
    actual = renderer.render(weights[None], transforms[None], [view], check=True).image[0].cpu().numpy()
    share = float((np.abs(actual - expected) > 1e-2).mean())
    if share > 0.01:
        raise HeadsplatError(
            f"The GPU draws another picture than the CPU ({share:.1%} of its values differ)."
        )
    return share


def _drawing(cloud: Gaussians, seconds: float) -> list[Row]:
    views = scenes.cameras(SIZE)
    channels = cloud.features.shape[1]
    leaves = arrays_of(cloud, "cuda")
    gaussians = Gaussians(*leaves)
    weight = torch.randn(SIZE, SIZE, channels, device="cuda")

    @torch.no_grad()
    def forward(i: int) -> None:
        rasterize(gaussians, views[i % len(views)], rules=GSPLAT, depth=False)

    def both(i: int) -> None:
        image = rasterize(gaussians, views[i % len(views)], rules=GSPLAT, depth=False).image
        torch.autograd.grad((image * weight).sum(), leaves)

    rows = []
    for pass_, task in (("forward", forward), ("forward+backward", both)):
        torch.cuda.reset_peak_memory_stats()
        times = alternate({"gsplat": until_done(task)}, seconds)
        extra = {
            "peak_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1),
            "max_error": _small_error(channels),
        }
        settings = _row_settings(len(cloud), channels, pass_)
        rows += [
            _on_gpu(row) for row in rows_of(times, None, {"gsplat": 1}, extra={"gsplat": extra}, **settings)
        ]
    return rows


def _small_error(channels: int) -> float:
    """Largest difference of a small picture from the definition in float64, at the 99.5th percentile."""
    cloud, view = scenes.cloud(600, channels), scenes.cameras(96)[1]
    with torch.no_grad():
        exact, exact_view = arrays_of(cloud, dtype=torch.float64), view_of(view, dtype=torch.float64)
        expected = reference.rasterize(*exact, *exact_view, rules=GSPLAT)[0]
        actual = rasterize(Gaussians(*arrays_of(cloud, "cuda")), view, rules=GSPLAT).image.cpu().double()
    return float(torch.quantile((actual - expected).abs().flatten(), 0.995))


def _on_gpu(row: Row) -> Row:
    return replace(row, machine=torch.cuda.get_device_name())
