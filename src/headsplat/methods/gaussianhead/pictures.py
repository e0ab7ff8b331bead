"""The pictures that GaussianHead learns from: reduced, kept in memory while they fit, laid over a colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headsplat.camera import Camera
from headsplat.data.dataset import OVER_WHITE, View
from headsplat.gaussians import matrix_to_quat
from headsplat.methods.gaussianhead.scene import Scene

FILM_VIEWS = 12
"""How many views are asked where the film ends."""
CUT = 0.06
"""Least share of a picture's side along which the film's edge cuts a person."""
MOST_BYTES = 4_000_000_000
"""Of decoded pictures kept in memory."""


@dataclass(frozen=True)
class Sample:
    """One view as tensors.

    Attributes:
        camera: numpy, of the reduced picture.
        picture: (H, W, 3) the person premultiplied by alpha: add a background times (1 - alpha).
        alpha: (H, W).
        condition: (D,) what the field is told.
        weights: (E,) expression weights.
        eye: (3,) the camera in the space of the skull, units of the scene.
        transforms: (J, 4, 4) `T_world_rest`.
        turns: (J, 4) their quaternions.
        reduced: size of the picture over that of the recording's.
        valid: (H, W, 1) 1 inside the film, 0 where the crop reaches beyond it.
    """

    camera: Camera
    picture: Tensor
    alpha: Tensor
    condition: Tensor
    weights: Tensor
    eye: Tensor
    transforms: Tensor
    turns: Tensor
    reduced: float
    valid: Tensor

    def over(self, background: float) -> Tensor:
        """(H, W, 3) the picture over a grey."""
        return self.picture + background * (1 - self.alpha[..., None])


class Pictures:
    """Samples of a scene's views by number, with a longer side of at most `size` pixels (0 keeps them)."""

    def __init__(self, scene: Scene, size: int, device: str) -> None:
        self.scene, self.size, self.device = scene, size, device
        self._film = film_of(scene)
        self._kept: dict[int, tuple[np.ndarray, Camera]] = {}
        self._bytes = 0

    def __getitem__(self, number: int) -> Sample:
        """The view's sample.

        Raises:
            HeadsplatError: its files are missing or broken.
        """
        view = self.scene.dataset.views[number]
        pixels, camera = self._kept.get(number) or self._load(number, view)
        values = torch.from_numpy(pixels).to(self.device).float() / 255
        transforms = self.scene.transforms(view)
        bones = self.scene.bones
        eye = (bones.to_head(transforms, camera.position) - self.scene.centre) / self.scene.half
        turns = matrix_quats(transforms)
        condition = bones.condition(view.expression, transforms)
        rest = (condition, view.expression, eye, transforms, turns)
        tensors = (torch.from_numpy(np.array(a, np.float32)).to(self.device) for a in rest)
        reduced = camera.height / view.camera.height
        valid = torch.zeros(camera.height, camera.width, 1, device=self.device)
        top, bottom, left, right = (round(edge * reduced) for edge in self._film)
        valid[top : camera.height - bottom, left : camera.width - right] = 1
        return Sample(camera, values[..., :3], values[..., 3], *tensors, reduced=reduced, valid=valid)

    def _load(self, number: int, view: View) -> tuple[np.ndarray, Camera]:
        on_black, matte = self.scene.dataset.load_over(view, 0.0)
        whole = torch.from_numpy(np.dstack([np.minimum(on_black, matte[..., None]), matte]))
        height, width = matte.shape
        factor = min(1.0, self.size / max(height, width)) if self.size else 1.0
        camera = view.camera
        if factor < 1:
            height, width = max(1, round(height * factor)), max(1, round(width * factor))
            channels = whole.movedim(-1, 0)[None]
            whole = F.interpolate(channels, (height, width), mode="bilinear", antialias=True)[0].movedim(
                0, -1
            )
            camera = camera.resize(width, height)
        pixels = (whole * 255).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
        if self._bytes + pixels.nbytes <= MOST_BYTES:
            self._kept[number] = pixels, camera
            self._bytes += pixels.nbytes
        return pixels, camera


def film_of(scene: Scene) -> tuple[int, int, int, int]:
    """How far a recording's crop reaches beyond the film: pixels at top, bottom, left and right.

    Beyond the film mattes are zero. A person who ends in the same row of every picture, short of the border
    and not in a point, was cut there.
    """
    dataset = scene.dataset
    if dataset.layout not in OVER_WHITE or len({v.camera_index for v in dataset.views}) > 1:
        return 0, 0, 0, 0
    ends: list[list[int]] = [[], [], [], []]
    straight = [True] * 4
    for number in spread(tuple(range(len(dataset))), FILM_VIEWS):
        _, alpha = dataset.load(dataset.views[number])
        for side, turned in enumerate((alpha, alpha[::-1], alpha.T, alpha.T[::-1])):
            solid = (turned > 0.5).sum(1)
            end = int(np.argmax(solid > 0)) if solid.any() else 0
            ends[side].append(end)
            straight[side] &= bool(solid[end : end + 4].max() > CUT * turned.shape[1])
    found = (e[0] if len(set(e)) == 1 and s else 0 for e, s in zip(ends, straight, strict=True))
    top, bottom, left, right = found
    return top, bottom, left, right


def spread(numbers: tuple[int, ...], most: int) -> tuple[int, ...]:
    """At most `most` of the numbers, evenly spread."""
    if len(numbers) <= most:
        return numbers
    return tuple(numbers[int((i + 0.5) * len(numbers) / most)] for i in range(most))


def matrix_quats(transforms: np.ndarray) -> np.ndarray:
    """(J, 4) unit quaternions of (J, 4, 4) rigid transforms."""
    return matrix_to_quat(transforms[:, :3, :3].astype(np.float64)).astype(np.float32)
