"""Opacity and colour from a tri-plane that Gaussians sample through their derivations (equations 4, 6, 7)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from headsplat.methods.gaussianhead.config import GaussianHeadConfig
from headsplat.methods.gaussianhead.field import encode
from headsplat.nets.triplane import sample_triplane

LATENT = 32
COLOUR_LATENT = 48
_MLP_LAYERS = 7
_MLP_WIDTH = 256


def rotate(points: Tensor, quats: Tensor, unit: bool = True) -> Tensor:
    """Turn (N, 3) points by (N, K, 4) or (K, 4) quaternions: (K, N, 3).

    With `unit=False` the quaternions need not have length one, and the released code's matrix is used, which
    then scales and shears: I + 2/|q| (...) where a rotation has 2/|q|^2.
    """
    by = quats.transpose(0, 1) if quats.ndim == 3 else quats[:, None]
    w, v = by[..., :1], by[..., 1:]
    factor = 2.0 if unit else 2 / by.norm(dim=-1, keepdim=True)
    once = torch.linalg.cross(v.expand(-1, len(points), -1), points.expand(len(by), -1, -1))
    return points + factor * (w * once + torch.linalg.cross(v.expand_as(once), once))


class Decoder(nn.Module):
    """Two small networks: feature to opacity and latent code (D_alpha), both and direction to SH (D_c)."""

    def __init__(self, inputs: int, config: GaussianHeadConfig) -> None:
        super().__init__()
        biased = config.activation == "relu"
        hidden, views = config.hidden, 3 * (config.sh_degree > 0)
        self.config = config
        last = nn.Linear(hidden, 1 + LATENT, biased)
        self.opacity = nn.ModuleList(
            [nn.Linear(inputs, hidden, biased), nn.Linear(hidden, hidden, biased), last]
        )
        self.colour = nn.ModuleList(
            [nn.Linear(LATENT + views, hidden, biased), nn.Linear(hidden, COLOUR_LATENT, biased)]
        )
        self.base = nn.Linear(COLOUR_LATENT, 3)
        self.rest = nn.Linear(COLOUR_LATENT, 3 * ((config.sh_degree + 1) ** 2 - 1)) if views else None
        if biased and config.start_opacity > 0:
            with torch.no_grad():
                last.bias[0] = math.log(config.start_opacity / (1 - config.start_opacity))

    def forward(self, features: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Opacities (N,) and coefficients (N, B, 3) of (N, F) features seen along unit (N, 3) directions."""
        between = torch.sigmoid if self.config.activation == "sigmoid" else torch.relu
        x = between(self.opacity[0](features))
        x = self.opacity[2](between(self.opacity[1](x)))
        opacities, latent = torch.sigmoid(x[:, 0]), x[:, 1:]
        if directions is not None:
            latent = torch.cat([latent, directions], -1)
        y = self.colour[0](latent)
        if self.config.colour_activation == "relu":
            y = torch.relu(y)
        y = self.colour[1](y)
        coefficients = self.base(y)
        if self.rest is not None:
            coefficients = torch.cat([coefficients, self.rest(y)], -1)
        return opacities, coefficients.unflatten(-1, (-1, 3))


class Appearance(nn.Module):
    """Features of points from the planes (or, for Table IV, from a network of the position), decoded."""

    def __init__(self, config: GaussianHeadConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.channels
        if config.appearance == "triplane":
            inputs *= len(config.resolutions)
            # Published: 0.1 to 0.5.
            spread = config.planes_start / 3, config.planes_start * 5 / 3
            self.planes = nn.ParameterList(
                torch.empty(3, config.channels, r, r).uniform_(*spread) for r in config.resolutions
            )
        else:
            sizes = [3 + 6 * config.octaves] + [_MLP_WIDTH] * (_MLP_LAYERS - 1) + [config.channels]
            self.network = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.decoder = Decoder(inputs, config)

    def features(self, points: Tensor, derivations: Tensor | None) -> Tensor:
        """(N, F) features of (N, 3) points; equation 4.

        Args:
            points: in units of the scene; the planes cover -1..1, beyond it their border goes on.
            derivations: (N, K, 4), or (K, 4) for the whole scene; None samples along the axes.
        """
        if self.config.appearance == "mlp":
            x = encode(points, self.config.octaves)
            for layer in self.network[:-1]:
                x = torch.relu(layer(x))
            return self.network[-1](x)
        if derivations is None:
            groups, where = 1, points[None]
        else:
            groups = derivations.shape[-2]
            where = rotate(points, derivations, self.config.manifold == "sphere")
        found = []
        for planes in self.planes:
            parts = planes.unflatten(1, (groups, -1)).transpose(0, 1)
            if self.config.channel_groups == "last":
                parts = parts[-1:].expand(groups, -1, -1, -1, -1)
            xy, xz, yz = sample_triplane(parts, where).unbind(2)
            found.append((xy * xz * yz).transpose(0, 1).flatten(1))
        return torch.cat(found, -1)

    def forward(
        self, points: Tensor, derivations: Tensor | None, directions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Opacities (N,) and coefficients (N, B, 3) of (N, 3) points."""
        return self.decoder(self.features(points, derivations), directions)
