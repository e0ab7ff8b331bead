"""How fast avatars move and are drawn: rigs by the fused kernel, avatars with networks as they are played."""

from __future__ import annotations

from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.evaluate import bench_scenes as scenes
from headsplat.evaluate.bench_rows import Row, Task, alternate, rows_of, torch_or_reason
from headsplat.playback import draw, portrait_camera
from headsplat.raster import cpu
from headsplat.raster.rig import RigRenderer

_ACTIVE = (0, 12, 52)
"""Expressions that are not zero."""


def animate(
    count: int = scenes.LAM_80K, pixels: int = 512, avatar: Avatar | None = None, seconds: float = 4.0
) -> list[Row]:
    """Moving and drawing: the synthetic rig, and an avatar if one is given.

    `ratio_to_static` compares with drawing the same Gaussians at rest with the same kernel in the same run.

    Args:
        count: Gaussians of the synthetic rig.
        pixels: side of the pictures.
        avatar: a rig, or one with networks, measured besides.
        seconds: about how long each comparison runs.

    Raises:
        HeadsplatError: torch is missing, or the avatar's networks cannot be run.
    """
    rows = _rig_rows("ellipsoid", scenes.rig(count), scenes.cameras(pixels), seconds)
    if avatar is None:
        return rows
    views = [portrait_camera(avatar, yaw, size=pixels) for yaw in np.radians([-30, -15, 0, 15, 30])]
    if avatar.deformer is None and avatar.refiner is None:
        return rows + _rig_rows("avatar", avatar, views, seconds)
    return rows + _network_rows(avatar, views, seconds)


def _rig_rows(scene: str, avatar: Avatar, views: list[Camera], seconds: float) -> list[Row]:
    """The fused kernel, drawing at rest, and plain torch."""
    rows, renderer = [], RigRenderer(avatar)
    for active in _ACTIVE:
        poses = scenes.poses(avatar, min(active, len(avatar.expressions)))
        tasks: dict[str, Task] = {
            "static": _still(avatar, views),
            "animate": lambda i, p=poses: renderer.render(*p[i % len(p)], views[i % len(views)]),
        }
        if active == _ACTIVE[-1]:
            tasks["torch animation + tiles"] = _torch_animation(avatar, poses, views)
        rows += _rows(tasks, "torch animation + tiles", scene, avatar, views, active, seconds)
    return rows


def _network_rows(avatar: Avatar, views: list[Camera], seconds: float) -> list[Row]:
    """Whole frames of an avatar with networks, and what they take without its refiner."""
    rows = []
    for active in _ACTIVE:
        weights = [w for w, _ in scenes.poses(avatar, min(active, len(avatar.expressions)))]

        def moved(i: int, weights: list[np.ndarray] = weights) -> Any:
            return avatar.animate(weights[i % len(weights)], camera=views[i % len(views)])

        tasks: dict[str, Task] = {
            "static": _still(avatar, views),
            "animate": lambda i, m=moved: cpu.forward(m(i), views[i % len(views)], depth=False),
        }
        if avatar.refiner is not None:
            tasks["animate and refine"] = lambda i, m=moved: draw(
                m(i), views[i % len(views)], refiner=avatar.refiner
            )
        rows += _rows(tasks, None, "avatar", avatar, views, active, seconds)
    return rows


def _still(avatar: Avatar, views: list[Camera]) -> Task:
    return lambda i: cpu.forward(avatar.gaussians, views[i % len(views)], depth=False)


def _rows(
    tasks: dict[str, Task],
    reference: str | None,
    scene: str,
    avatar: Avatar,
    views: list[Camera],
    active: int,
    seconds: float,
) -> list[Row]:
    times = alternate(tasks, seconds)
    static = float(np.median(times["static"]))
    extra: dict[str, dict[str, Any]] = {
        name: {"active_expressions": active, "ratio_to_static": round(float(np.median(ms)) / static, 3)}
        for name, ms in times.items()
    }
    for role, network in (("deformer", avatar.deformer), ("refiner", avatar.refiner)):
        if network is not None:
            extra = {name: values | {role: network.kind} for name, values in extra.items()}
    return rows_of(
        times,
        reference,
        {},
        extra=extra,
        bench="animate",
        scene=scene,
        gaussians=len(avatar),
        channels=avatar.gaussians.features.shape[1],
        size=views[0].width,
        pass_="forward",
    )


def _torch_animation(avatar: Avatar, poses: list[tuple[np.ndarray, np.ndarray]], views: list[Camera]) -> Task:
    torch = torch_or_reason()
    from headsplat.evaluate import torch_baseline as baseline

    animation = baseline.Animation(avatar)
    cameras = [baseline.view_of(v) for v in views]

    def task(i: int) -> None:
        weights, transforms = poses[i % len(poses)]
        with torch.no_grad():
            moved = animation.pose(torch.from_numpy(weights), torch.from_numpy(transforms))
            baseline.rasterize(*moved, *cameras[i % len(cameras)])

    return task
