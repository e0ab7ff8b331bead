"""The GAGAvatar network: one picture lifted to Gaussians, expression Gaussians on a head, a neural renderer.

Chu and Harada, "Generalizable and Animatable Gaussian Head Avatar" (NeurIPS 2024). The tree of modules
carries the names of the released checkpoint, so that its tensors load one to one. B pictures, V vertices of
the head model, C channels; lengths in the network's units (`GagavatarConfig.units`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.camera import Camera
from headsplat.gaussians import Gaussians
from headsplat.methods.gagavatar.config import GagavatarConfig
from headsplat.methods.gagavatar.encoder import Encoder
from headsplat.methods.gagavatar.geometry import direction_code, lifting_plane
from headsplat.nets.styleunet import StyleUNet
from headsplat.raster import Render, rasterize


class Attributes(NamedTuple):
    """All of some Gaussians but where they are.

    Attributes:
        colours: (B, N, C).
        opacities: (B, N) 0..1.
        scales: (B, N, 3) standard deviations.
        quats: (B, N, 4) wxyz as the network gives them; see `GagavatarConfig.expression_quats`.
    """

    colours: Tensor
    opacities: Tensor
    scales: Tensor
    quats: Tensor


class Reconstruction(NamedTuple):
    """What one picture gives, all of it independent of who drives the avatar.

    Attributes:
        expression: of the V Gaussians that ride on the head model's vertices.
        lifted: of the Gaussians lifted from the picture: away from the camera, then towards it.
        points: (B, M, 3) where the lifted ones are.
    """

    expression: Attributes
    lifted: Attributes
    points: Tensor


class Gagavatar(nn.Module):
    """Reconstruct once from a picture; then only vertices, splatting and the neural renderer.

    Attributes:
        config: the settings.
        renderer_type: of the neural renderer's arithmetic: float32, or bfloat16 for half the time on CPUs.
    """

    def __init__(self, config: GagavatarConfig) -> None:
        super().__init__()
        self.config = config
        self.renderer_type = torch.float32
        code = 6 * config.octaves + 3
        known = 0 if config.global_feature == "none" else config.encoder.width
        self.head_base = nn.Parameter(torch.randn(config.points, config.point_features))
        self.base_model = Encoder(config)
        self.gs_generator_g = ExpressionHead(config, config.point_features + known, code)
        self.gs_generator_l0 = LiftingHead(config, code)
        if config.planes == 2:
            self.gs_generator_l1 = LiftingHead(config, code)
        if config.renderer is not None:
            self.upsampler = StyleUNet(config.renderer)

    def reconstruct(self, images: Tensor, cameras: Sequence[Camera]) -> Reconstruction:
        """The slow step, once per person.

        Args:
            images: (B, 3, S, S) source pictures on black, RGB 0..1, S = `config.image_size`.
            cameras: of the pictures, seeing the head stand still at the origin, in the network's units.
        """
        features, vector = self.base_model(images)
        return self.lift(features, vector, cameras)

    def lift(self, features: Tensor, vector: Tensor, cameras: Sequence[Camera]) -> Reconstruction:
        """Gaussians from the encoder's (B, features, g, g) map and (B, width) vector."""
        planes = [lifting_plane(camera, features.shape[-1]) for camera in cameras]
        points, directions = (torch.stack(part).to(features) for part in zip(*planes, strict=True))
        code = direction_code(directions, self.config.octaves)
        away, offsets = self.gs_generator_l0(features, code)
        lifted, where = [away], [points + offsets * directions[:, None]]
        if self.config.planes == 2:
            towards, offsets = self.gs_generator_l1(features, code)
            lifted.append(towards)
            where.append(points - offsets * directions[:, None])
        expression = self.gs_generator_g(self.point_inputs(vector), code)
        together = Attributes(*(torch.cat(part, 1) for part in zip(*lifted, strict=True)))
        return Reconstruction(expression, together, torch.cat(where, 1))

    def point_inputs(self, vector: Tensor) -> Tensor:
        """(B, V, ...) each vertex's learned vector, and the (B, width) vector of the picture beside it."""
        own = self.head_base.expand(len(vector), -1, -1)
        if self.config.global_feature == "none":
            return own
        return torch.cat([own, vector[:, None].expand(-1, len(self.head_base), -1)], -1)

    def gaussians(self, made: Reconstruction, vertices: Tensor, index: int = 0) -> Gaussians:
        """The Gaussians of one picture with the head in one pose: expression, then lifted.

        Args:
            made: of B pictures.
            vertices: (V, 3) the driver's expression on the source's head.
            index: which picture.
        """
        own, lifted = (Attributes(*(a[index] for a in part)) for part in made[:2])
        if self.config.expression_quats == "vertices":
            own = own._replace(**_as_ellipsoids(own))
        both = [torch.cat(pair) for pair in zip(own, lifted, strict=True)]
        colours, opacities, scales, quats = both
        return Gaussians(torch.cat([vertices, made.points[index]]), quats, scales, opacities, colours)

    def draw(self, gaussians: Gaussians, camera: Camera) -> Render:
        """(H, W, C) features on nothing, the first three are the coarse picture; and (H, W) coverage."""
        return rasterize(gaussians, camera, depth=False)

    def refine(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(H, W, C) features to the fine (S, S, 3) picture, 0..1; without a renderer, their colours."""
        if self.config.renderer is None:
            return features[..., :3]
        kind, half = features.device.type, self.renderer_type != torch.float32
        with torch.autocast(kind, self.renderer_type, enabled=half):
            picture = self.upsampler(features.movedim(-1, 0)[None], generator)
        return picture[0].float().movedim(0, -1)


class LiftingHead(nn.Module):
    """Every point of the feature map to one Gaussian and how far it leaves the plane."""

    def __init__(self, config: GagavatarConfig, code: int) -> None:
        super().__init__()
        self.config = config
        width = config.lift_width
        self.gaussian_conv = nn.Sequential(
            nn.Conv2d(config.features + code, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, config.channels + 9, 1),
        )

    def forward(self, features: Tensor, code: Tensor) -> tuple[Attributes, Tensor]:
        """(B, features, g, g) and the (B, code) view to Gaussians row by row, and offsets (B, g g, 1)."""
        tiled = code[:, :, None, None].expand(-1, -1, *features.shape[2:])
        out = self.gaussian_conv(torch.cat([features, tiled], 1))
        colours, opacities, scales, quats, offsets = out.split([self.config.channels, 1, 3, 4, 1], 1)
        if self.config.colour_axis == "channels":
            colours = torch.cat([colours[:, :3].sigmoid(), colours[:, 3:]], 1)
        else:
            colours = torch.cat([colours[..., :3].sigmoid(), colours[..., 3:]], -1)
        colours, opacities, scales, quats, offsets = (
            x.flatten(2).transpose(1, 2)
            for x in (
                colours,
                opacities.sigmoid(),
                self.config.largest * scales.sigmoid(),
                F.normalize(quats),
                self.config.reach * offsets.sigmoid(),
            )
        )
        return Attributes(colours, opacities[..., 0], scales, quats), offsets


class ExpressionHead(nn.Module):
    """Every vertex's vector to one Gaussian on it."""

    def __init__(self, config: GagavatarConfig, inputs: int, code: int) -> None:
        super().__init__()
        self.config = config
        width = config.point_width
        layers: list[nn.Module] = [nn.Linear(inputs, width)]
        for _ in range(3):
            layers += [nn.ReLU(), nn.Linear(width, width)]
        self.feature_layers = nn.Sequential(*layers)

        def output(count: int) -> nn.Sequential:
            half = config.lift_width
            return nn.Sequential(nn.Linear(width + code, half), nn.ReLU(), nn.Linear(half, count))

        self.color_layers = output(config.channels)
        self.opacity_layers = output(1)
        self.scale_layers = output(3)
        self.rotation_layers = output(4)

    def forward(self, inputs: Tensor, code: Tensor) -> Attributes:
        """(B, V, inputs) and the (B, code) view of the source to Gaussians."""
        x = self.feature_layers(inputs)
        x = torch.cat([x, code[:, None].expand(-1, x.shape[1], -1)], -1)
        colours = self.color_layers(x)
        over = 1 if self.config.expression_quats == "vertices" else -1
        return Attributes(
            torch.cat([colours[..., :3].sigmoid(), colours[..., 3:]], -1),
            self.opacity_layers(x).sigmoid()[..., 0],
            self.config.largest * self.scale_layers(x).sigmoid(),
            F.normalize(self.rotation_layers(x), dim=over),
        )


def _as_ellipsoids(given: Attributes) -> dict[str, Tensor]:
    """Unit quaternions and scales of the covariances that the release's quaternions make.

    Its splatter puts quaternions of any length into the formula for unit ones, which gives a matrix that is
    no rotation; the covariance is an ellipsoid all the same: returned here, without gradients.
    """
    from headsplat.gaussians import matrix_to_quat

    with torch.no_grad():
        w, x, y, z = given.quats.double().unbind(-1)
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        root = torch.stack([torch.stack(row, -1) for row in rows], -2) * given.scales.double()[:, None]
        squares, axes = torch.linalg.eigh(root @ root.transpose(1, 2))
        axes = axes * torch.linalg.det(axes)[:, None, None]  # right-handed
        quats = torch.from_numpy(matrix_to_quat(axes.cpu().numpy()))
        return {"scales": squares.clamp(min=0).sqrt().to(given.scales), "quats": quats.to(given.quats)}
