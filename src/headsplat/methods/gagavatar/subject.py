"""A tracked recording as GAGAvatar sees it: pictures on black, a head that stands still, its vertices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel, ShapedHead
from headsplat.methods.gagavatar.config import GagavatarConfig
from headsplat.methods.gagavatar.geometry import in_units
from headsplat.methods.gagavatar.train import Target


class Subject:
    """One person's recording, its pictures reduced to `size` pixels and kept in memory."""

    def __init__(
        self, dataset: Dataset, head: HeadModel, config: GagavatarConfig, size: int, device: str = "cpu"
    ) -> None:
        if dataset.head != config.head:
            raise HeadsplatError(
                f"{dataset.root} was tracked with {_NAMES[dataset.head]}, and this model is on "
                f"{_NAMES[config.head]}; track it again with headsplat track."
            )
        self.dataset, self.config, self.size, self.device = dataset, config, size, device
        self.shaped = head.with_shape(dataset.shape[: len(head.shape_basis)])
        self.train, self.test = (
            [i for i in numbers if dataset.views[i].trusted] for numbers in (dataset.train, dataset.test)
        )
        if len(self.train) < 2:
            raise HeadsplatError(
                f"{dataset.root} has {len(self.train)} views to learn from; it takes two frames at least."
            )
        self._kept: dict[int, np.ndarray] = {}

    def target(self, number: int) -> Target:
        """A view to match."""
        view = self.dataset.views[number]
        pixels = torch.from_numpy(self._pixels(number)).to(self.device).float() / 255
        vertices, T_world_head = vertices_of(self.shaped, view, self.config)
        camera = head_camera(view.camera.resize(self.size, self.size), T_world_head, self.config.units)
        box = head_box(self.shaped.model, vertices, camera)
        return Target(
            pixels[..., :3],
            pixels[..., 3],
            torch.from_numpy(box).to(self.device),
            camera,
            torch.from_numpy(vertices).to(self.device),
        )

    def source(self, number: int) -> tuple[Tensor, Camera]:
        """The (1, 3, S, S) picture that the encoder sees, and its camera."""
        target = self.target(number)
        return source_picture(target.image, self.config.image_size), target.camera

    def _pixels(self, number: int) -> np.ndarray:
        """(size, size, 4) uint8: colours on black, and the matte."""
        if number not in self._kept:
            on_black, matte = self.dataset.load_over(self.dataset.views[number], 0.0)
            if on_black.shape[0] != on_black.shape[1]:
                raise HeadsplatError(
                    f"{self.dataset.root} has pictures that are not square; crop them first."
                )
            both = torch.from_numpy(np.dstack([on_black, matte])).movedim(-1, 0)
            small = F.interpolate(both[None], size=(self.size, self.size), mode="area")[0].movedim(0, -1)
            self._kept[number] = (small * 255 + 0.5).to(torch.uint8).numpy()
        return self._kept[number]


def vertices_of(shaped: ShapedHead, view: View, config: GagavatarConfig) -> tuple[np.ndarray, np.ndarray]:
    """A view's head, standing still.

    Returns:
        Vertices (V, 3) in the network's units, relative to the skull at rest, and the skull's pose in the
        world (4, 4), metres. FLAME's neck and root are at rest, as the release has them.
    """
    if config.head == "flame":
        rotations = np.concatenate([np.zeros_like(view.rotations[:2]), view.rotations[2:]])
        vertices = shaped.with_pose(view.expression, rotations).vertices
        return (config.units * vertices).astype(np.float32), view.T_world_head
    return still_head(shaped, view.expression, view.rotations, view.T_world_root, config.units)


def still_head(
    shaped: ShapedHead, expression: np.ndarray, rotations: np.ndarray, root: np.ndarray, units: float
) -> tuple[np.ndarray, np.ndarray]:
    """Posed vertices (V, 3) relative to the skull, in units, and the skull's pose (4, 4), metres."""
    posed = shaped.with_pose(expression, rotations, root)
    T_world_head = posed.transforms[shaped.model.joint_names.index("head")].astype(np.float64)
    back = np.linalg.inv(T_world_head)
    vertices = posed.vertices @ back[:3, :3].T + back[:3, 3]
    return (units * vertices).astype(np.float32), T_world_head


def head_camera(camera: Camera, T_world_head: np.ndarray, units: float) -> Camera:
    """The camera as a head that stands still at the origin sees it, in the network's units."""
    viewmat = np.asarray(camera.viewmat, np.float64) @ T_world_head
    return in_units(replace(camera, viewmat=viewmat.astype(np.float32)), units)


def head_box(head: HeadModel, vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """(4,) left, top, right, bottom of the skull in the picture, as shares of it, 0..1.

    The neck and shoulders of the free head are left out, FLAME's neck is not.
    """
    if "head" in head.joint_names:
        # Joints below the skull hold most of neck and chest.
        lower = head.skin_weights[:, [head.joint_names.index(j) for j in ("root", "neck")]].sum(1)
        vertices = vertices[lower < 0.5]
    pixels = camera.project(vertices)[:, :2] / [camera.width, camera.height]
    return np.concatenate([pixels.min(0), pixels.max(0)]).clip(0, 1).astype(np.float32)


def source_picture(image: Tensor, size: int) -> Tensor:
    """(H, W, 3) on black to the encoder's (1, 3, size, size)."""
    picture = image.movedim(-1, 0)[None]
    return F.interpolate(picture, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


_NAMES = {"free": "the free head", "flame": "FLAME", "none": "no head model"}
