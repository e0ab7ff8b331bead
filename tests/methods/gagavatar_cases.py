"""A GAGAvatar small enough for tests, and a recording of nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.native import picture_paths, write_index, write_pixels
from headsplat.head.free import load_free_head
from headsplat.methods.gagavatar.config import GagavatarConfig
from headsplat.methods.gagavatar.learn import Settings
from headsplat.methods.gagavatar.subject import still_head
from headsplat.methods.gagavatar.train import LossWeights
from headsplat.nets.styleunet import StyleUNetConfig
from headsplat.nets.vit import VitConfig

HEAD = load_free_head()

MODEL = GagavatarConfig(
    encoder=VitConfig(width=24, depth=4, heads=2, patch=14, grid=2),
    image_size=28,
    pyramid=(8, 8, 8, 8),
    features=8,
    points=len(HEAD),
    point_features=6,
    lift_width=8,
    point_width=12,
    renderer=StyleUNetConfig(channels=6, size=32, widths=(6, 6, 8, 8), style=10, mapping=2),
    channels=6,
    freeze_encoder=False,
    matte=True,
)
SETTINGS = Settings(
    model=MODEL,
    loss=LossWeights(perceptual=0.1, lifting=1.0),
    iterations=40,
    targets=2,
    people=1,
    size=32,
    crop=16,
    learning_rate=5e-3,
    slow=0.3,
    momentum=0.9,
)


def write_recording(folder: Path, views: int = 5, size: int = 40) -> Dataset:
    """Smooth pictures inside a disc, with a head that turns and grimaces before a still camera."""
    rng = np.random.default_rng(7)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    alpha = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.16).astype(np.float32)
    camera = Camera.orbit(yaw=0.1, distance=1.2, width=size, height=size)
    shape = rng.normal(0, 0.5, len(HEAD.shape_basis)).astype(np.float32)
    shaped, made = HEAD.with_shape(shape), []
    for t in range(views):
        colours = np.stack(
            [0.5 + 0.4 * np.sin(6 * (a * x + b * y) + t / 3) for a, b in ((1, 0), (0, 1), (1, 1))], -1
        )
        write_pixels(folder, t, colours.astype(np.float32), alpha)
        rotations = np.zeros((6, 3), np.float32)
        rotations[1:3] = rng.normal(0, 0.15, (2, 3))
        expression = np.zeros(len(HEAD.expression_names), np.float32)
        expression[rng.integers(0, len(expression), 3)] = 0.6
        root = np.eye(4, dtype=np.float32)
        root[:3, 3] = rng.normal(0, 0.01, 3)
        _, pose = still_head(shaped, expression, rotations, root, 1.0)
        image, mask = picture_paths(folder, t)
        made.append(View(image, mask, camera, t, 0, expression, rotations, root, pose.astype(np.float32)))
    dataset = Dataset(
        root=folder,
        layout="headsplat",
        head="free",
        shape=shape,
        expressions=HEAD.expression_names,
        joints=HEAD.joint_names,
        views=tuple(made),
        train=tuple(range(views - 1)),
        val=(),
        test=(views - 1,),
        fps=30.0,
    )
    write_index(dataset)
    return dataset
