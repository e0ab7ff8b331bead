"""Benchmarks: how fast this machine draws, animates and creates avatars, beside baselines of the same run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar
from headsplat.evaluate import bench_scenes as scenes
from headsplat.evaluate.bench_rows import Row, Task, alternate, as_json, rows_of, show, torch_or_reason
from headsplat.gaussians import Gaussians
from headsplat.playback import portrait_camera
from headsplat.raster import cpu

Bench = Literal["raster", "animate", "create", "memory", "cuda", "lam", "gagavatar"]

SIZES = (5_000, 20_000, scenes.LAM_80K)


def run(
    what: Bench,
    *,
    json: bool = False,
    sizes: tuple[int, ...] = SIZES,
    channels: tuple[int, ...] = (3, 32),
    pixels: int = 512,
    avatar: Path | None = None,
    photo: Path | None = None,
    presets: tuple[str, ...] = (),
    seconds: float = 4.0,
) -> None:
    """Measure this machine and print a table.

    Args:
        what: raster = drawing still Gaussians, forward and with gradients; animate = moving and drawing an
            avatar; create = a photo into an avatar; memory = peak memory of the usual jobs; cuda = the whole
            table of the GPU; lam, gagavatar = that method's networks on the GPU, or without one on the CPU.
        json: print the rows as one JSON list in the last line.
        sizes: numbers of Gaussians of the synthetic scene.
        channels: numbers of feature channels to draw.
        pixels: side of the pictures of `raster` and `animate`.
        avatar: a .avatar file to measure besides the synthetic scene.
        photo: the photo for `create`; default the portrait that scikit-image brings.
        presets: of LAM or GAGAvatar; default all on a GPU, and on a CPU the one that is small.
        seconds: about how long each comparison runs.

    Raises:
        HeadsplatError: a file cannot be read, or what the benchmark needs is not installed.
    """
    given = None if avatar is None else load_avatar(avatar)
    match what:
        case "raster":
            rows = raster(sizes, channels, pixels, given, seconds)
        case "animate":
            from headsplat.evaluate import bench_animate

            rows = bench_animate.animate(sizes[-1], pixels, given, seconds)
        case "create":
            from headsplat.evaluate import bench_jobs

            rows = bench_jobs.create(photo)
        case "memory":
            from headsplat.evaluate import bench_jobs

            rows = bench_jobs.memory(sizes[-1])
        case "cuda":
            from headsplat.evaluate import bench_cuda

            rows = bench_cuda.table(seconds)
        case "lam":
            from headsplat.evaluate import bench_lam

            rows = bench_lam.table(presets or bench_lam.usual(), seconds)
        case "gagavatar":
            from headsplat.evaluate import bench_gagavatar

            rows = bench_gagavatar.table(presets or bench_gagavatar.usual(), seconds)
    show(rows)
    if json:
        print(as_json(rows))


def raster(
    sizes: Sequence[int] = SIZES,
    channels: Sequence[int] = (3, 32),
    pixels: int = 512,
    avatar: Avatar | None = None,
    seconds: float = 4.0,
) -> list[Row]:
    """Drawing still Gaussians, forward and with all gradients: the CPU kernel against torch in tiles."""
    views = scenes.cameras(pixels)
    rows = []
    for count in sizes:
        rows += _raster_rows("ellipsoid", scenes.cloud(count), views, seconds)
        for c in channels:
            if c != 3:
                rows += _raster_rows("ellipsoid", scenes.cloud(count, c), views, seconds, baseline=False)
    if avatar is not None:
        yaws = [view for view in np.radians([-30, -15, 0, 15, 30])]
        rows += _raster_rows(
            "avatar", avatar.gaussians, [portrait_camera(avatar, y, size=pixels) for y in yaws], seconds
        )
    return rows


def _raster_rows(
    scene: str, cloud: Gaussians, views: list[Any], seconds: float, baseline: bool = True
) -> list[Row]:
    size, channels, most = views[0].width, cloud.features.shape[1], cpu.threads()
    grad = np.random.default_rng(0).normal(size=(size, size, channels)).astype(np.float32)

    def forward(threads: int) -> Task:
        return lambda i: cpu.forward(cloud, views[i % len(views)], depth=False, threads=threads)

    def both(threads: int) -> Task:
        return lambda i: cpu.backward(forward(threads)(i), grad)

    names = {"cpu": most} | ({"cpu, 1 thread": 1} if most > 1 else {})
    tasks = {name: forward(n) for name, n in names.items()}
    tasks_both = {name: both(n) for name, n in names.items()}
    if baseline:
        tasks["torch tiles"], tasks_both["torch tiles"] = _torch_tasks(cloud, views, grad)
    rows = []
    for pass_, work in (("forward", tasks), ("forward+backward", tasks_both)):
        rows += rows_of(
            alternate(work, seconds),
            "torch tiles",
            names,
            bench="raster",
            scene=scene,
            gaussians=len(cloud),
            channels=channels,
            size=size,
            pass_=pass_,
        )
    return rows


def _torch_tasks(cloud: Gaussians, views: list[Any], grad: np.ndarray) -> tuple[Task, Task]:
    torch = torch_or_reason()
    from headsplat.evaluate import torch_baseline as baseline

    arrays, weight = baseline.arrays_of(cloud), torch.from_numpy(grad)
    cameras = [baseline.view_of(v) for v in views]

    def forward(i: int) -> None:
        with torch.no_grad():
            baseline.rasterize(*arrays, *cameras[i % len(cameras)])

    def both(i: int) -> None:
        image = baseline.rasterize(*arrays, *cameras[i % len(cameras)])
        torch.autograd.grad((image * weight).sum(), arrays)

    return forward, both
