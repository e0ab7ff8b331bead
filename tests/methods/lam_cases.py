"""A LAM small enough for tests, and tracked pictures of nobody."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.methods.lam.config import LamConfig
from headsplat.nets.vit import VitConfig

TINY = LamConfig(
    encoder=VitConfig(width=24, depth=2, heads=2, patch=14, grid=3, registers=4),
    taps=(0, 1),
    image_size=42,
    fused_width=20,
    width=16,
    heads=2,
    layers=2,
    trunk=8,
    subdivisions=0,
    head="free",
    attention="image",
    plane_size=5,
)


def thin_head(step: int = 12) -> HeadModel:
    """Every so-manieth vertex of the free head, without faces: a rig that costs little."""
    head = load_free_head()
    return replace(
        head,
        template=head.template[::step],
        shape_basis=head.shape_basis[:, ::step],
        expression_basis=head.expression_basis[:, ::step],
        skin_weights=head.skin_weights[::step],
        faces=np.zeros((0, 3), np.int32),
    )


def make_frame(seed: int, size: int = 48) -> Frame:
    """A smooth random picture inside a disc, with a random pose of the head in front of the camera."""
    rng = np.random.default_rng(seed)
    head = load_free_head()
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(-1, 1, (3, 3))]
    image = (0.5 + 0.4 * np.stack(waves, -1)).astype(np.float32)
    alpha = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.16).astype(np.float32)
    rotations = np.zeros((6, 3), np.float32)
    rotations[1:3] = rng.normal(0, 0.15, (2, 3))
    expression = np.zeros(len(head.expression_names), np.float32)
    expression[rng.integers(0, len(expression), 3)] = 0.6
    return Frame(
        image=image,
        alpha=alpha,
        foreground=image,
        valid=np.ones((size, size), bool),
        camera=Camera.orbit(yaw=rng.normal(0, 0.2), distance=1.2, width=size, height=size),
        shape=rng.normal(0, 0.5, len(head.shape_basis)).astype(np.float32),
        expression=expression,
        rotations=rotations,
        T_world_root=np.eye(4, dtype=np.float32),
        landmarks=np.zeros((478, 2), np.float32),
        confidence=1.0,
        source="ab" * 32,
        landmark_error=0.0,
        crop=np.array([[1, 0, 0], [0, 1, 0]], np.float32),
    )
