"""The LAM network: image tokens and head points through attention blocks to canonical Gaussians.

He et al., "LAM: Large Avatar Model for One-shot Animatable Gaussian Head" (SIGGRAPH 2025). The tree of
modules carries the names of the released checkpoint, so that its tensors load one to one. B images, N points,
M image tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.methods.lam.config import LamConfig
from headsplat.nets.transformer import CrossBlock, JointBlock
from headsplat.nets.triplane import sample_triplane
from headsplat.nets.vit import VisionTransformer

PLANE_EXTENT = 0.3
"""Half the side of the cube that tri-planes cover, metres."""
WRINKLE_RANGE = 0.25
"""Largest colour change that one expression may make."""


class Prediction(NamedTuple):
    """Gaussians at rest, in metres.

    Attributes:
        means: (B, N, 3) points plus offsets.
        offsets: (B, N, 3) within the configured range.
        quats: (B, N, 4) unit wxyz.
        scales: (B, N, 3) standard deviations.
        opacities: (B, N) 0..1.
        colours: (B, N, 3) RGB 0..1.
        wrinkles: (B, N, E, 3) colour change per expression, or None.
    """

    means: Tensor
    offsets: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor
    wrinkles: Tensor | None


class Lam(nn.Module):
    """One forward pass from an image and the points of a head to Gaussians."""

    def __init__(self, config: LamConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config)
        if config.queries == "points":
            self.pcl_embed = PointEmbedding(config.width, config.octaves)
            if config.point_features:
                self.point_features = nn.Parameter(torch.zeros(1, config.point_features, config.width))
        else:
            self.planes = nn.Parameter(0.02 * torch.randn(1, 3 * config.plane_size**2, config.width))
        self.transformer = PointTransformer(config)
        self.renderer = Decoder(config)
        if config.freeze_encoder:
            self.encoder.model.requires_grad_(False)

    def forward(self, images: Tensor, points: Tensor, painted_at: Tensor | None = None) -> Prediction:
        """Reconstruct heads.

        Args:
            images: (B, 3, S, S) source images on white, RGB 0..1, S = `config.image_size`.
            points: (B, N, 3) points of the head model, metres: this person's, neutral (or in the source's
                pose with `config.space` "posed").
            painted_at: (B, N, 2) where the points project to in the images, -1..1 from the left and top
                border to the right and bottom one; only with `config.context` "painted".
        """
        tokens = self.encoder(images)
        if self.config.context == "painted":
            if painted_at is None:
                raise ValueError("a model with painted features needs to know where the points project to")
            # Neighbours see nearly the same: a choice of points serves, as TransHuman groups its body's.
            step = -(-painted_at.shape[1] // self.config.painted_tokens)
            tokens = _paint(tokens, painted_at[:, ::step])
        if self.config.queries == "points":
            queries = self.pcl_embed(points)
            if self.config.point_features:
                queries = queries + self.point_features
            features = self.transformer(queries, tokens)
        else:
            planes = self.transformer(self.planes.expand(len(points), -1, -1), tokens)
            side = self.config.plane_size
            planes = planes.transpose(1, 2).unflatten(2, (3, side, side)).transpose(1, 2)
            features = sample_triplane(planes, points / PLANE_EXTENT).sum(2)
        return self.renderer(features, points)


class ImageEncoder(nn.Module):
    """Tokens of several depths of the vision transformer, fused into one map."""

    def __init__(self, config: LamConfig) -> None:
        super().__init__()
        self.config = config
        self.model = VisionTransformer(config.encoder)
        self.fusion_head = Fusion(config.encoder.width, len(config.taps), config.fused_width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images, 0..1 and not normalised, to (B, M, fused width) tokens, row by row."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
            levels = self.model(images, self.config.taps)
        side = images.shape[-2] // self.config.encoder.patch
        maps = [level.transpose(1, 2).unflatten(2, (side, -1)) for level in levels]
        return self.fusion_head(maps).flatten(2).transpose(1, 2)


class Fusion(nn.Module):
    """One linear map per level, then one over all levels together."""

    def __init__(self, width: int, levels: int, out_width: int) -> None:
        super().__init__()
        self.projects = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(levels))
        self.output_conv = nn.Conv2d(levels * width, out_width, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (B, width, h, w) of all levels to one (B, out width, h, w)."""
        projected = [project(level) for project, level in zip(self.projects, maps, strict=True)]
        return self.output_conv(torch.cat(projected, 1))


class PointEmbedding(nn.Module):
    """Sines and cosines of some octaves of a point's coordinates, and the coordinates, to a token."""

    basis: Tensor

    def __init__(self, width: int, octaves: int) -> None:
        super().__init__()
        self.register_buffer("basis", frequency_basis(octaves))
        self.mlp = nn.Linear(6 * octaves + 3, width)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) metres to (B, N, width)."""
        # The highest octave turns 64 times per metre and more: half precision would destroy it.
        with torch.autocast(points.device.type, enabled=False):
            waves = points.float() @ self.basis
        return self.norm(self.mlp(torch.cat([waves.sin(), waves.cos(), points], -1)))


def frequency_basis(octaves: int = 8) -> Tensor:
    """(3, 3 octaves) block-diagonal table: row a holds pi * 2^k in column k of block a."""
    row = torch.pi * 2.0 ** torch.arange(octaves)
    return torch.block_diag(*[row[None]] * 3)


class PointTransformer(nn.Module):
    """A stack of blocks in which query tokens gather what they need from the image tokens."""

    def __init__(self, config: LamConfig) -> None:
        super().__init__()
        width, heads, count = config.width, config.heads, config.layers
        self.linear_cond_proj = nn.Linear(config.fused_width, width)
        if config.attention == "joint":
            blocks = [JointBlock(width, heads, last=i == count - 1) for i in range(count)]
        else:
            alone = config.attention == "image"
            blocks = [CrossBlock(width, heads, self_attention=not alone) for _ in range(count)]
        self.layers = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(B, N, width) query tokens and (B, M, fused width) image tokens to (B, N, width)."""
        context = self.linear_cond_proj(tokens)
        for layer in self.layers:
            queries, context = layer(queries, context)
        return self.norm(queries)


class Decoder(nn.Module):
    """Point features to Gaussian attributes; named "renderer" in the released checkpoint."""

    def __init__(self, config: LamConfig) -> None:
        super().__init__()
        self.config = config
        self.mlp_net = _Trunk(config.width, config.trunk) if config.trunk else None
        self.gs_net = _OutputLayers(config)

    def forward(self, features: Tensor, points: Tensor) -> Prediction:
        """(B, N, width) features of (B, N, 3) points to Gaussians."""
        h = features if self.mlp_net is None else self.mlp_net(features)
        raw = {name: layer(h).float() for name, layer in self.gs_net.out_layers.items()}
        offsets = (raw["xyz"].sigmoid() - 0.5) * (2 * self.config.max_offset)
        wrinkles = None
        if "wrinkles" in raw:
            wrinkles = WRINKLE_RANGE * raw["wrinkles"].tanh().unflatten(-1, (-1, 3))
        return Prediction(
            means=points + offsets,
            offsets=offsets,
            quats=F.normalize(raw["rotation"], dim=-1),
            scales=raw["scaling"].exp().clamp(max=self.config.max_scale),
            opacities=raw["opacity"].sigmoid()[..., 0],
            colours=raw["shs"].sigmoid(),
            wrinkles=wrinkles,
        )


class _Trunk(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        sizes = [(width, hidden), (hidden, hidden), (hidden, width)]
        first, second, third = (nn.Linear(*size) for size in sizes)
        self.layers = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _OutputLayers(nn.Module):
    """One linear layer per attribute; at first, small Gaussians at their points, not turned."""

    def __init__(self, config: LamConfig) -> None:
        super().__init__()
        sizes = {"shs": 3, "scaling": 3, "xyz": 3, "opacity": 1, "rotation": 4}
        if config.expressions:
            sizes["wrinkles"] = 3 * config.expressions
        layers = {name: nn.Linear(config.width, size) for name, size in sizes.items()}
        self.out_layers = nn.ModuleDict(layers)
        for name in sizes.keys() & {"xyz", "wrinkles"}:
            nn.init.zeros_(layers[name].weight)
            nn.init.zeros_(layers[name].bias)
        odds = config.initial_opacity / (1 - config.initial_opacity)
        nn.init.constant_(layers["scaling"].bias, math.log(config.initial_scale))
        nn.init.constant_(layers["opacity"].bias, math.log(odds))
        nn.init.zeros_(layers["rotation"].bias)
        nn.init.ones_(layers["rotation"].bias[:1])


def _paint(tokens: Tensor, where: Tensor) -> Tensor:
    """(B, N, C) features of a square map of (B, M, C) tokens at (B, N, 2) places in -1..1, bilinear."""
    side = math.isqrt(tokens.shape[1])
    maps = tokens.transpose(1, 2).unflatten(2, (side, side))
    found = F.grid_sample(maps, where[:, :, None], padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)
