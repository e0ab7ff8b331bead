"""How long GAGAvatar takes with random weights: a photo lifted, whole frames, the neural renderer, a step.

The authors state 67 pictures a second on an A100.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench_scenes as scenes
from headsplat.evaluate.bench_cuda import until_done
from headsplat.evaluate.bench_rows import Row, Task, alternate, rows_of
from headsplat.head.free import load_free_head
from headsplat.head.model import ShapedHead
from headsplat.losses import perceptual
from headsplat.methods.gagavatar.create import avatar_of
from headsplat.methods.gagavatar.learn import PRESETS, Settings, optimizer_of, start_near_the_plane
from headsplat.methods.gagavatar.model import Gagavatar
from headsplat.methods.gagavatar.subject import head_box, head_camera, source_picture
from headsplat.methods.gagavatar.train import Target, draw_views, loss_parts, total_loss
from headsplat.networks import painter
from headsplat.playback import draw, portrait_camera

EXPRESSIONS = 12
"""How many are active at once, as in speech."""
BATCH = 8


def usual() -> tuple[str, ...]:
    """What this machine can measure in a minute or two."""
    return tuple(PRESETS) if torch.cuda.is_available() else ("small",)


def table(presets: tuple[str, ...], seconds: float = 4.0) -> list[Row]:
    """Measure presets on the GPU, or without one on the CPU.

    Pictures have the side that the preset's neural renderer draws. On a GPU a frame is recorded once, from
    pose to picture with the neural renderer in it, and replayed, alone and `BATCH` at a time (`ms` are then
    per frame).

    Args:
        presets: of `headsplat train gagavatar`.
        seconds: about how long each comparison runs.

    Raises:
        HeadsplatError: a preset that GAGAvatar does not have.
    """
    for name in presets:
        if name not in PRESETS:
            raise HeadsplatError(f"GAGAvatar has no preset {name!r} to measure; take {' or '.join(PRESETS)}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name in presets:
        settings = PRESETS[name]()
        torch.manual_seed(0)
        model = Gagavatar(settings.model)
        start_near_the_plane(model)
        model.to(device).eval()
        shaped = load_free_head().with_shape(np.zeros(0, np.float32))
        camera = head_camera(Camera.orbit(0.0, width=512, height=512, distance=1.2), np.eye(4), 5.0)
        side = settings.model.image_size
        image = torch.rand(1, 3, side, side, device=device)
        avatar = avatar_of(model, shaped, image, camera, matte=torch.ones(8, 8))
        tasks = {"lift a photo": _lifting(model, image, camera)}
        rows += _rows(name, avatar, alternate(_waited(tasks, device), seconds, 1), device)
        rows += _rows(name, avatar, _frames(avatar, device, seconds), device)
        if device == "cuda" or name == "small":
            step = _training(model, settings, shaped, image, camera)
            rows += _rows(
                name, avatar, alternate(_waited({"training step": step}, device), seconds, 1), device
            )
    return rows


def _lifting(model: Gagavatar, image: torch.Tensor, camera: Camera) -> Task:
    def once(_: int) -> None:
        with torch.inference_mode():
            model.reconstruct(image, [camera])

    return once


def _frames(avatar: Avatar, device: str, seconds: float) -> dict[str, np.ndarray]:
    """Milliseconds of whole frames and of their parts."""
    assert avatar.refiner is not None
    size = int(avatar.refiner.config["renderer"]["size"])
    channels = avatar.gaussians.features.shape[1]
    poses = scenes.poses(avatar, EXPRESSIONS, count=BATCH)
    views = [portrait_camera(avatar, yaw, size=size) for yaw in np.linspace(-0.4, 0.4, BATCH)]
    paint = painter(avatar.refiner, device)
    features = torch.rand(1, size, size, channels, device=device)
    cover = torch.ones(1, size, size, device=device)
    tasks: dict[str, Task] = {"neural renderer": lambda _: paint(features, cover)}
    if device == "cpu":
        tasks["animate and splat"] = lambda i: draw(
            avatar.animate(poses[i % BATCH][0]), views[i % BATCH], (0.0,) * channels
        )
        tasks["frame"] = lambda i: draw(
            avatar.animate(poses[i % BATCH][0]), views[i % BATCH], refiner=avatar.refiner
        )
        return alternate(tasks, seconds)

    from headsplat.raster.cuda_frame import FrameRenderer

    weights, transforms = np.stack([p[0] for p in poses]), np.stack([p[1] for p in poses])
    features_only = FrameRenderer(avatar, size, size)
    single = FrameRenderer(avatar, size, size, paint=paint)
    many = FrameRenderer(avatar, size, size, batch=BATCH, paint=paint)

    def one(renderer: FrameRenderer) -> Callable[[int], Any]:
        return lambda i: renderer.render(
            weights[i % BATCH][None], transforms[i % BATCH][None], [views[i % BATCH]]
        )

    tasks |= {
        "animate and splat, graph": one(features_only),
        "frame, graph": one(single),
        f"frame, graph, batch of {BATCH}": lambda _: many.render(weights, transforms, views),
    }
    times = alternate(_waited(tasks, device), seconds)
    times[f"frame, graph, batch of {BATCH}"] /= BATCH
    return times


def _training(
    model: Gagavatar, settings: Settings, shaped: ShapedHead, image: torch.Tensor, camera: Camera
) -> Task:
    """One lifted photo, one target, as in training; the pictures are noise."""
    model.renderer_type = torch.bfloat16 if settings.half else torch.float32
    optimizer, distance = optimizer_of(model, settings), perceptual()
    vertices = (settings.model.units * shaped.vertices).astype(np.float32)
    view = camera.resize(settings.size, settings.size)
    picture = source_picture(image[0].movedim(0, -1), settings.size)[0].movedim(0, -1)
    box = torch.from_numpy(head_box(shaped.model, vertices, view)).to(image)
    target = Target(
        picture, torch.ones_like(picture[..., 0]), box, view, torch.from_numpy(vertices).to(image)
    )

    def step(_: int) -> None:
        model.train()
        views = draw_views(model, model.reconstruct(image, [camera]), [target])
        shown = (picture[None], box[None], target.vertices[None])
        parts = loss_parts(views, *shown, distance, settings.crop, target.alpha[None])
        optimizer.zero_grad(set_to_none=True)
        total_loss(parts, settings.loss).backward()
        optimizer.step()

    return step


def _waited(tasks: dict[str, Task], device: str) -> dict[str, Task]:
    return tasks if device == "cpu" else {name: until_done(task) for name, task in tasks.items()}


def _rows(name: str, avatar: Avatar, times: dict[str, np.ndarray], device: str) -> list[Row]:
    where = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    rows = []
    for what, values in times.items():
        extra: dict[str, Any] = {"device": where}
        if device == "cuda":
            extra["peak_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
        rows += rows_of(
            {what: values},
            None,
            {what: torch.get_num_threads()},
            extra={what: extra},
            bench="gagavatar",
            scene=name,
            gaussians=len(avatar),
            channels=avatar.gaussians.features.shape[1],
            size=int(avatar.refiner.config["renderer"]["size"]) if avatar.refiner else 0,
            pass_="forward+backward" if what == "training step" else "forward",
        )
    return rows
