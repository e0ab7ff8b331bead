"""GAGAvatar's training step: two frames of one person, one lifted, the other to be matched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from headsplat.camera import Camera
from headsplat.losses import Perceptual, l1, l2
from headsplat.methods.gagavatar.losses import crop, enlarged_box, nearest_squared
from headsplat.methods.gagavatar.model import Gagavatar, Reconstruction

CROP = 512
"""Side to which crops of heads are resized for the release's losses, pixels."""


@dataclass(frozen=True)
class LossWeights:
    """Of the terms of the loss; the defaults are the release's.

    Attributes:
        image: mean absolute difference of the whole pictures, coarse and fine averaged.
        box: the same on the enlarged head box.
        perceptual: perceptual distance of those crops, coarse plus fine.
        lifting: mean squared distance from the vertices to the nearest lifted points, network units; 0 is the
            ablation "w/o lifting loss".
        mask: mean absolute difference of coverage and matte, where the network is to learn it
            (`GagavatarConfig.matte`). The release has no such term: on black, dark hair needs no Gaussians.
            Ten times as much empties the lifting planes for good, whose greater part is background.
    """

    image: float = 1.0
    box: float = 1.0
    perceptual: float = 0.01
    lifting: float = 10.0
    mask: float = 0.1


class Views(NamedTuple):
    """What a step drew.

    Attributes:
        coarse: (B, H, W, 3) the splatted colours, not clipped.
        fine: (B, H, W, 3) the neural renderer's pictures, or None.
        points: (B, M, 3) the lifted points, network units.
        alpha: (B, H, W) coverage, for networks that learn it.
    """

    coarse: Tensor
    fine: Tensor | None
    points: Tensor
    alpha: Tensor | None = None


class Target(NamedTuple):
    """The frame to match.

    Attributes:
        image: (H, W, 3) on black.
        alpha: (H, W) matte.
        box: (4,) the head's box: left, top, right, bottom as shares of the picture.
        camera: seeing the head stand still, network units.
        vertices: (V, 3) the head model's vertices in this frame, network units, the head standing still.
    """

    image: Tensor
    alpha: Tensor
    box: Tensor
    camera: Camera
    vertices: Tensor


def draw_views(model: Gagavatar, made: Reconstruction, targets: list[Target]) -> Views:
    """The first picture of a reconstruction as each of B targets wants it."""
    drawn = [model.draw(model.gaussians(made, t.vertices), t.camera) for t in targets]
    coarse = torch.stack([render.image[..., :3] for render in drawn])
    painted = model.config.renderer is not None
    fine = torch.stack([model.refine(render.image) for render in drawn]) if painted else None
    points = made.points[:1].expand(len(targets), -1, -1)
    alpha = torch.stack([render.alpha for render in drawn]) if model.config.matte else None
    return Views(coarse, fine, points, alpha)


def loss_parts(
    views: Views,
    target: Tensor,
    boxes: Tensor,
    vertices: Tensor,
    perceptual: Perceptual,
    size: int = CROP,
    mattes: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of the loss, not weighted, and `psnr` (dB, whole picture) for the log.

    Args:
        views: what was drawn.
        target: (B, H, W, 3).
        boxes: (B, 4) of the targets' heads.
        vertices: (B, V, 3) of the targets' head models.
        perceptual: distance of pictures.
        size: to which the crops are resized, pixels.
        mattes: (B, H, W) of the targets, 0..1, for views with coverage.
    """
    pictures = [views.coarse] if views.fine is None else [views.coarse, views.fine]
    boxes = enlarged_box(boxes)
    wanted = crop(target, boxes, size)
    crops = [crop(picture, boxes, size) for picture in pictures]
    with torch.no_grad():
        error = l2(pictures[-1], target).mean()
    mask = {}
    if views.alpha is not None and mattes is not None:
        mask = {"mask": l1(views.alpha, mattes).mean()}
    return mask | {
        "image": torch.stack([l1(picture, target).mean() for picture in pictures]).mean(),
        "box": torch.stack([l1(part, wanted).mean() for part in crops]).mean(),
        "perceptual": torch.stack([perceptual.distance(part, wanted).mean() for part in crops]).sum(),
        "lifting": nearest_squared(vertices, views.points).mean(),
        "psnr": -10 * torch.log10(error.clamp(min=1e-10)),
    }


def total_loss(parts: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum."""
    terms = [getattr(weights, name) * value for name, value in parts.items() if name != "psnr"]
    return torch.stack(terms).sum()
