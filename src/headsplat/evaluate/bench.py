"""Benchmarks: how fast this machine draws, animates and creates avatars, beside baselines of the same run.

What is compared runs alternately, so that whatever else the machine does hits both sides. Inputs rotate;
caches are warm. Tables state median and spread; the JSON has one row per line of them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar
from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench_scenes as scenes
from headsplat.gaussians import Gaussians
from headsplat.playback import portrait_camera
from headsplat.raster import cpu

Bench = Literal["raster", "animate", "create", "memory", "cuda", "lam", "gagavatar"]
Task = Callable[[int], Any]  # called with 0, 1, 2, … to rotate its inputs

SIZES = (5_000, 20_000, scenes.LAM_80K)


@dataclass(frozen=True)
class Row:
    """One measurement; keys as in the JSON (`pass` for `pass_`)."""

    bench: str
    backend: str
    scene: str
    gaussians: int
    channels: int
    size: int
    pass_: str
    ms_median: float
    ms_min: float
    ms_p90: float
    fps: float
    ratio_to_reference: float | None
    threads: int
    machine: str
    load: float
    extra: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row with the names of the JSON."""
        values = asdict(self)
        extra = values.pop("extra")
        return {("pass" if key == "pass_" else key): value for key, value in values.items()} | extra


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


def as_json(rows: Sequence[Row]) -> str:
    """All rows as one JSON list on one line."""
    return json.dumps([row.as_json() for row in rows])


def machine() -> str:
    """Processor, cores and instruction set in a few words."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, {cpu.isa()}"


def load() -> float:
    """Load average of the last minute, or -1 where there is none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0


def alternate(tasks: dict[str, Task], seconds: float, rounds: int = 3) -> dict[str, np.ndarray]:
    """Milliseconds of every run of each task, the tasks taking turns.

    Each turn of a task lasts about as long as one run of the slowest (but at most 64 runs), so that quick
    tasks are run often. At least `rounds` turns, then until `seconds` have passed.
    """
    clock = time.perf_counter
    once = {}
    for name, task in tasks.items():
        task(0)
        start = clock()
        task(1)
        once[name] = clock() - start
    turn = min(max(once.values()), 0.3)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    end, done = clock() + seconds, 0
    while done < rounds or clock() < end:
        for name, task in tasks.items():
            time.sleep(0.005)  # lets the threads of the task before fall asleep
            task(done)
            for i in range(int(np.clip(turn / once[name], 1, 64))):
                start = clock()
                task(done + i)
                times[name].append((clock() - start) * 1e3)
        done += 1
    return {name: np.array(values) for name, values in times.items()}


def rows_of(
    times: dict[str, np.ndarray], reference: str | None, threads: dict[str, int], **common: Any
) -> list[Row]:
    """One row per task; ratios are of medians."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    extra = common.pop("extra", {})
    return [
        Row(
            backend=name,
            ms_median=round(medians[name], 3),
            ms_min=round(float(values.min()), 3),
            ms_p90=round(float(np.percentile(values, 90)), 3),
            fps=round(1000 / medians[name], 1),
            ratio_to_reference=round(medians[reference] / medians[name], 2) if reference in times else None,
            threads=threads.get(name, cpu.threads()),
            machine=machine(),
            load=round(load(), 2),
            extra=extra.get(name, {}),
            **common,
        )
        for name, values in times.items()
    ]


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


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    from rich.console import Console
    from rich.table import Table

    extras = list(dict.fromkeys(key for row in rows for key in row.extra))
    table = Table(title=f"{machine()}; load {load():.1f}", title_justify="left")
    columns = (
        "scene",
        "Gaussians",
        "channels",
        "pass",
        "backend",
        "threads",
        "ms",
        "min",
        "p90",
        "FPS",
        "ratio",
    )
    for name in (*columns, *extras):
        table.add_column(name, justify="left" if name in ("scene", "pass", "backend") else "right")
    for row in rows:
        ratio = "" if row.ratio_to_reference is None else f"{row.ratio_to_reference:.1f}"
        figures = [f"{v:.2f}" for v in (row.ms_median, row.ms_min, row.ms_p90)]
        table.add_row(
            row.scene,
            f"{row.gaussians:,}",
            str(row.channels),
            row.pass_,
            row.backend,
            str(row.threads),
            *figures,
            f"{row.fps:.1f}",
            ratio,
            *(str(row.extra.get(key, "")) for key in extras),
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def torch_or_reason() -> Any:
    """PyTorch, which the baselines need.

    Raises:
        HeadsplatError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise HeadsplatError("The baselines need PyTorch; pip install 'headsplat[torch]'.") from None
    return torch
