"""The picture's features: the last four blocks of DINOv2, fused coarse to fine (after Ranftl et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.methods.gagavatar.config import GagavatarConfig
from headsplat.nets.vit import VisionTransformer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, RGB: what the transformer was trained on."""
LEVELS = 4


class Encoder(nn.Module):
    """A picture to a map of features at eight times the grid of patches, and one vector for all of it."""

    def __init__(self, config: GagavatarConfig) -> None:
        super().__init__()
        self.config = config
        width, pyramid, features = config.encoder.width, config.pyramid, config.features
        self.dino_model = VisionTransformer(config.encoder)
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in pyramid)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(pyramid[0], pyramid[0], 4, stride=4),
                nn.ConvTranspose2d(pyramid[1], pyramid[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(pyramid[3], pyramid[3], 3, stride=2, padding=1),
            ]
        )
        self.layer_rn = nn.ModuleList(
            nn.Conv2d(3 + channels, features, 3, padding=1, bias=False) for channels in pyramid
        )
        self.refinenet = nn.ModuleList(Fusion(features) for _ in range(LEVELS))
        self.output_conv = nn.Conv2d(features, features, 3, padding=1)
        self.refinenet[0].resConfUnit1.requires_grad_(False)  # stored in the release, used nowhere
        if config.freeze_encoder:
            self.dino_model.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of pictures.

        Args:
            images: (B, 3, S, S) RGB 0..1 on black, S = `config.image_size`.

        Returns:
            The map (B, features, 8 g, 8 g) for a grid of g patches, and the vector (B, width).
        """
        images = normalised(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
            tokens = self.tokens(images)
        first = 1 + self.config.encoder.registers
        which = 0 if self.config.global_feature == "class" else first
        return self.fuse([level[:, first:] for level in tokens], images), tokens[-1][:, which]

    def tokens(self, images: Tensor) -> list[Tensor]:
        """All tokens (B, N, width) after each of the last four blocks and the final norm."""
        vit = self.dino_model
        x = vit.tokens(images)
        taps = []
        for i, block in enumerate(vit.blocks):
            x = block(x)
            if i >= len(vit.blocks) - LEVELS:
                taps.append(vit.norm(x))
        return taps

    def fuse(self, levels: list[Tensor], images: Tensor) -> Tensor:
        """Patch tokens (B, g g, width) of four blocks and the normalised pictures to the map."""
        side = images.shape[-1] // self.config.encoder.patch
        maps = []
        for i, level in enumerate(levels):
            x = self.projects[i](level.transpose(1, 2).unflatten(2, (side, -1)))
            x = self.resize_layers[i](x)
            picture = F.interpolate(
                images, size=x.shape[-2:], mode="bilinear", align_corners=False, antialias=True
            )
            maps.append(self.layer_rn[i](torch.cat([picture, x], 1)))
        x = None
        for i, fusion in enumerate(self.refinenet):
            here = maps[LEVELS - 1 - i]
            finer = maps[LEVELS - 2 - i].shape[-1] if i < LEVELS - 1 else 2 * here.shape[-1]
            x = fusion(here, x, finer)
        return self.output_conv(x)


def normalised(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB 0..1 as the transformer was trained to see it."""
    return (images - images.new_tensor(MEAN)[:, None, None]) / images.new_tensor(STD)[:, None, None]


class Fusion(nn.Module):
    """One level joined to what the coarser levels gave, then enlarged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        self.resConfUnit1 = ResidualUnit(width)
        self.resConfUnit2 = ResidualUnit(width)

    def forward(self, level: Tensor, coarser: Tensor | None, size: int) -> Tensor:
        """(B, width, h, w) twice to (B, width, size, size); the coarsest level comes alone."""
        x = level if coarser is None else coarser + self.resConfUnit1(level)
        x = self.resConfUnit2(x)
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=True)
        return self.out_conv(x)


class ResidualUnit(nn.Module):
    """Two convolutions, each after a ReLU, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))
