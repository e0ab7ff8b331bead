"""A tiny recording for tests: a painted free head that talks and turns, on disk as the tracker writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.native import picture_paths, write_index, write_pixels
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.methods.gaussianhead import GaussianHeadConfig, small
from headsplat.raster import rasterize

SIZE = 40


def tiny(**changes: object) -> GaussianHeadConfig:
    """`small` on so few Gaussians and pixels that a step takes milliseconds."""
    settings = replace(
        small(),
        iterations=12,
        size=0,
        judge_size=0,
        gaussians=300,
        layers=2,
        width=16,
        octaves=3,
        resolutions=(8,),
        hidden=16,
        field_from=0,
        planes_rate=0.02,
        colour_rate=0.01,
        opacity_rate=0.01,
        means_rate=2e-3,
        field_rate=3e-3,
        least_seen=0.0,
        densify_from=2,
        densify_until=9,
        densify_every=3,
        densify_gradient=1e-7,
        most_gaussians=340,
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def write_recording(root: Path, frames: int = 8, head: str = "free") -> Dataset:
    """A recording of `frames` pictures, the last two of them for judging."""
    model = load_free_head()
    rng = np.random.default_rng(4)
    shape = (0.5 * rng.normal(size=100)).astype(np.float32)
    shaped = model.with_shape(shape)
    colours = (0.5 + 0.4 * np.sin(15 * model.template + np.arange(3))).astype(np.float32)
    camera = Camera.orbit(0.05, 0.02, target=(0, -0.01, 0), distance=0.9, width=SIZE, height=SIZE)
    jaw = model.expression_names.index("jawOpen")
    joint = model.joint_names.index("head")
    views = []
    for t in range(frames):
        expression = np.zeros(len(model.expression_names), np.float32)
        expression[jaw] = 0.5 + 0.5 * np.sin(t)
        rotations = np.zeros((len(model.joint_names), 3), np.float32)
        rotations[joint] = (0.05, 0.15 * np.cos(1.3 * t), 0)
        root_pose = np.eye(4, dtype=np.float32)
        root_pose[0, 3] = 0.005 * t
        posed = shaped.with_pose(expression, rotations, root_pose)
        drawn = rasterize(_cloud(posed.vertices, colours), camera, background=0.0, depth=False)
        colour = drawn.image / np.maximum(drawn.alpha, 1e-4)[..., None]
        write_pixels(root, t, colour, drawn.alpha)
        image, mask = picture_paths(root, t)
        T = posed.transforms[joint].copy()
        T[:3, 3] += T[:3, :3] @ shaped.joints[joint]
        confidence = 0.1 if t == 1 else 1.0
        views.append(View(image, mask, camera, t, 0, expression, rotations, root_pose, T, None, confidence))
    kept = frames - 2
    dataset = Dataset(
        root=root,
        layout="headsplat",
        head="free",
        shape=shape,
        expressions=model.expression_names,
        joints=model.joint_names,
        views=tuple(views),
        train=tuple(range(kept)),
        val=(),
        test=tuple(range(kept, frames)),
        fps=25.0,
        info={"source": "ab" * 32},
    )
    write_index(dataset)
    return dataset if head == "free" else replace(dataset, head="none")  # type: ignore[arg-type]


def _cloud(vertices: np.ndarray, colours: np.ndarray) -> Gaussians:
    count = len(vertices)
    quats = np.zeros((count, 4), np.float32)
    quats[:, 0] = 1
    scales = np.full((count, 3), 0.003, np.float32)
    return Gaussians(vertices.astype(np.float32), quats, scales, np.full(count, 0.9, np.float32), colours)
