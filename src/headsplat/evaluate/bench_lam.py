"""How long LAM's network takes, with random weights: one forward pass, one training step, and their memory.

The authors state 1.4 s for a head by LAM-20K on an A100.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.evaluate import peak
from headsplat.evaluate.bench_rows import Row, rows_of
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.losses import perceptual
from headsplat.methods import lam
from headsplat.methods.lam.config import LamConfig
from headsplat.methods.lam.model import Lam
from headsplat.methods.lam.rig import Rig
from headsplat.methods.lam.train import Source, Target, TrainConfig, optimizer_of, train_step
from headsplat.raster import rasterize

POINTS = {"small": 6_727, "lam_5k": 5_023, "released_20k": 20_018, "paper": 81_424}
"""Gaussians of each preset; FLAME itself is not needed to measure."""
RENDER = 512
"""Side of the pictures that a training step compares."""


def usual() -> tuple[str, ...]:
    """What this machine can measure in a minute or two."""
    return tuple(POINTS) if torch.cuda.is_available() else ("small",)


def table(presets: tuple[str, ...], seconds: float = 4.0) -> list[Row]:
    """Measure presets on the GPU, or without one on the CPU.

    A training step has the released number of frames at 512 pixels, on the free head at the preset's number
    of subdivisions; it is left out where the network alone takes minutes.

    Args:
        presets: keys of `POINTS`.
        seconds: about how long each is repeated; at least once.

    Raises:
        HeadsplatError: a preset that LAM does not have.
    """
    for name in presets:
        if name not in POINTS:
            raise HeadsplatError(f"LAM has no preset {name!r} to measure; take one of {', '.join(POINTS)}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name in presets:
        config: LamConfig = getattr(lam, name)()
        precisions = (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,)
        for precision in precisions:
            rows.append(_forward(name, config, precision, device, seconds))
        if device == "cuda" or name == "small":
            rows.append(_training(name, config, precisions[-1], device, seconds))
    return rows


def _forward(name: str, config: LamConfig, precision: torch.dtype, device: str, seconds: float) -> Row:
    torch.manual_seed(0)
    model = Lam(config).to(device).eval()
    image = torch.rand(1, 3, config.image_size, config.image_size, device=device)
    points = 0.08 * torch.randn(1, POINTS[name], 3, device=device)

    def once() -> None:
        with torch.inference_mode(), torch.autocast(device, precision, enabled=precision != torch.float32):
            model(image, points)

    return _row(name, "forward", POINTS[name], precision, device, _timed(once, device, seconds))


def _training(name: str, config: LamConfig, precision: torch.dtype, device: str, seconds: float) -> Row:
    torch.manual_seed(0)
    config = replace(config, head="free", teeth=False, pose_correctives=False)
    rig = Rig.of(load_free_head(), config).to(device)
    settings = TrainConfig()
    model = Lam(config).to(device).train()
    optimizer, distance = optimizer_of(model, settings), perceptual()
    source, target = _sample(rig, config.image_size, settings.frames, device)

    def once() -> None:
        train_step(model, rig, optimizer, (source, target), 1e-6, settings, distance, precision)

    times = _timed(once, device, seconds)
    return _row(name, f"training step, {settings.frames} frames", len(rig.template), precision, device, times)


def _sample(rig: Rig, size: int, frames: int, device: str) -> tuple[Source, Target]:
    """A grey head at rest, seen by cameras around it."""
    betas, pose = torch.zeros(0, device=device), rig.rest()
    yaws = np.linspace(-0.5, 0.5, frames)
    cameras = [Camera.orbit(yaw, distance=1.2, width=RENDER, height=RENDER) for yaw in yaws]
    count = len(rig.template)
    quats = torch.tensor([1.0, 0, 0, 0], device=device).expand(count, 4).contiguous()
    grey = torch.full((count, 3), 0.5, device=device)
    cloud = Gaussians(rig.points(betas), quats, grey / 80, torch.full_like(grey[:, 0], 0.9), grey)
    drawn = [rasterize(cloud, camera, background=1.0, depth=False) for camera in cameras]
    images = torch.stack([view.image for view in drawn]).detach()
    alphas = torch.stack([view.alpha for view in drawn]).detach()
    poses = type(pose)(*(part.expand(frames, *part.shape[1:]) for part in pose))
    source = Source(torch.rand(3, size, size, device=device), betas, pose, cameras[0])
    return source, Target(images, alphas, torch.ones_like(alphas), poses, tuple(cameras), 1.0)


def _timed(once: Callable[[], Any], device: str, seconds: float) -> np.ndarray:
    """Milliseconds of each call; on a GPU the first, which loads kernels, does not count."""
    if device == "cuda":
        once()
        torch.cuda.reset_peak_memory_stats()
    times, began = [], time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        once()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def _row(name: str, what: str, count: int, precision: torch.dtype, device: str, times: np.ndarray) -> Row:
    megabytes = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else peak.megabytes()
    extra = {"precision": str(precision).removeprefix("torch."), "peak_mb": round(megabytes, 1)}
    backend = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return rows_of(
        {backend: times},
        None,
        {backend: torch.get_num_threads()},
        extra={backend: extra},
        bench="lam",
        scene=name,
        gaussians=count,
        channels=3,
        size=RENDER,
        pass_=what,
    )[0]
