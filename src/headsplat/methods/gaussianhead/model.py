"""GaussianHead: Gaussians at rest, a field that deforms them, a tri-plane that gives opacity and colour."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.gaussians import Gaussians
from headsplat.methods.gaussianhead.appearance import Appearance
from headsplat.methods.gaussianhead.config import GaussianHeadConfig
from headsplat.methods.gaussianhead.field import DeformationField
from headsplat.methods.gaussianhead.harmonics import C0, colours

LEAST_SCALE = 1e-3
"""Of a Gaussian when offsets are added to sizes and not to their logarithms, in units of the scene."""
LEAST_BLEND = 0.002
"""What moves less by every blendshape is not of the face, in units of the scene: about half a millimetre."""
DIRECT_SCALE = 0.01
"""What a field that gives attributes themselves begins with."""


class GaussianHead(nn.Module):
    """The model of one person; lengths in units of the scene, in rest space around its centre.

    Attributes:
        points: what each of N Gaussians has of its own and learns: means (N, 3), log_scales (N, 3), quats
            (N, 4), derivations (N, K, 4); for "direct" opacity_logits (N,) and coefficients (N, B, 3).
        rotations: (K, 4) derivations of the whole scene, where they are global.
        blend: (N, 3, E) how the head model's blendshapes move each Gaussian, or None.
        face: (N,) 1 where the field moves a Gaussian, else 0, or None: it moves all.
        skin_joints: (N, 4) joints that carry each Gaussian.
        skin_weights: (N, 4), rows sum to 1.
    """

    def __init__(
        self,
        config: GaussianHeadConfig,
        condition: int,
        points: dict[str, Tensor],
        skin_joints: Tensor,
        skin_weights: Tensor,
        blend: Tensor | None = None,
        rotations: Tensor | None = None,
        face: Tensor | None = None,
    ) -> None:
        """`condition` numbers describe a frame to the field; the rest are the attributes."""
        super().__init__()
        self.config = config
        self.points = nn.ParameterDict({k: nn.Parameter(v) for k, v in points.items()})
        self.rotations = None if rotations is None else nn.Parameter(rotations)
        self.register_buffer("blend", blend)
        self.register_buffer("skin_joints", skin_joints)
        self.register_buffer("skin_weights", skin_weights)
        if face is None and blend is not None and config.field_on == "face":
            face = (blend.abs().amax((1, 2)) > LEAST_BLEND).to(blend.dtype)
        self.register_buffer("face", face)
        self.blend: Tensor | None
        self.face: Tensor | None
        self.skin_joints: Tensor
        self.skin_weights: Tensor
        self.field = DeformationField(
            condition, config.layers, config.width, config.skip, config.octaves, config.zero_start
        )
        self.appearance = None if config.appearance == "direct" else Appearance(config)
        self.degree = config.sh_degree
        self.deforming = True

    def __len__(self) -> int:
        return len(self.points["means"])

    def forward(
        self, condition: Tensor, weights: Tensor, eye: Tensor, blended: Tensor | None = None
    ) -> Gaussians:
        """The Gaussians of one frame in rest space, units of the scene, RGB >= 0.

        Args:
            condition: (D,) what the field is told of the frame.
            weights: (E,) expression weights, for the blendshapes.
            eye: (3,) the camera in the space of the head, for colours that depend on the view.
            blended: (N, 3) centres after the blendshapes, where somebody has them already.
        """
        own = self.points
        means = own["means"] if blended is None else blended
        if blended is None and self.blend is not None:
            means = means + self.blend @ weights
        quats, scales = F.normalize(own["quats"], dim=-1), own["log_scales"].exp()
        if self.deforming:
            means, quats, scales = self._deform(means, quats, scales, condition)
        directions = None
        if self.config.sh_degree > 0:
            directions = F.normalize(own["means"].detach() - eye, dim=-1)
        opacities, coefficients = self.appearances(means, directions)
        return Gaussians(means, quats, scales, opacities, colours(coefficients, directions, self.degree))

    def appearances(self, means: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Opacities (N,) and coefficients (N, B, 3) with the centres (N, 3) where they are in this frame."""
        own = self.points
        if self.appearance is None:
            return torch.sigmoid(own["opacity_logits"]), own["coefficients"]
        derivations = own["derivations"] if "derivations" in own else self.rotations
        where = means if self.config.sample_at == "deformed" else own["means"]
        return self.appearance(where, derivations, directions)

    def _deform(
        self, means: Tensor, quats: Tensor, scales: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        own = self.points["means"]
        moved = slice(None) if self.face is None else self.face.nonzero()[:, 0]
        moves, turns, sizes = self.field(own[moved], condition)
        if not config.residual:
            return moves, F.normalize(turns, dim=-1), DIRECT_SCALE * sizes.exp()
        new_means, new_quats, new_scales = means[moved] + moves, quats[moved], scales[moved]
        if config.deform_quats:
            new_quats = F.normalize(new_quats + turns, dim=-1)
        if config.deform_scales and config.scale_offset == "log":
            new_scales = new_scales * sizes.exp()
        elif config.deform_scales:
            new_scales = (new_scales + sizes).clamp(min=LEAST_SCALE)
        if isinstance(moved, slice):
            return new_means, new_quats, new_scales
        pairs = ((means, new_means), (quats, new_quats), (scales, new_scales))
        a, b, c = (old.index_copy(0, moved, new) for old, new in pairs)
        return a, b, c


def initial_points(
    config: GaussianHeadConfig, means: Tensor, scales: Tensor, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The attributes of Gaussians at the start, and the scene's own derivations where they are global.

    Args:
        config: settings.
        means: (N, 3) centres.
        scales: (N,) standard deviations.
        generator: of the derivations: uniform on the sphere, at first the same K for all Gaussians.
    """
    from headsplat.methods.gaussianhead.riemannian import random_quats

    count = len(means)
    points = {
        "means": means.clone(),
        "log_scales": scales.log()[:, None].repeat(1, 3),
        "quats": torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
    }
    rotations = None
    if config.appearance == "direct":
        bases = (config.sh_degree + 1) ** 2
        opacity = config.start_opacity or 0.1
        points["opacity_logits"] = torch.full((count,), opacity).logit()
        points["coefficients"] = torch.zeros(count, bases, 3)
        points["coefficients"][:, 0] = torch.rand(count, 3, generator=generator) * 0.02 / C0
    elif config.appearance == "triplane" and config.most_derivations:
        groups = 1 if config.derivation_schedule == "growing" else config.derivations
        quats = random_quats(groups, generator=generator)
        if config.global_derivations:
            rotations = quats
        else:
            points["derivations"] = quats.repeat(count, 1, 1)
    return points, rotations


def pose(
    gaussians: Gaussians, joints: Tensor, weights: Tensor, transforms: Tensor, turns: Tensor
) -> Gaussians:
    """Carry Gaussians in rest space to the world with their joints; `Avatar.animate` does the same in numpy.

    Args:
        gaussians: N of them, metres.
        joints: (N, 4) int64 joints.
        weights: (N, 4).
        transforms: (J, 4, 4) `T_world_rest`.
        turns: (J, 4) unit quaternions of the same.
    """
    blended = (weights[..., None] * transforms[:, :3].flatten(1)[joints]).sum(1).unflatten(-1, (3, 4))
    means = (blended[..., :3] @ gaussians.means[..., None])[..., 0] + blended[..., 3]
    each = turns[joints]
    signs = torch.where((each * each[:, :1]).sum(-1) < 0, -1.0, 1.0)
    turn = F.normalize(((weights * signs)[..., None] * each).sum(1), dim=-1)
    aw, av, bw, bv = turn[:, :1], turn[:, 1:], gaussians.quats[:, :1], gaussians.quats[:, 1:]
    scalar = aw * bw - (av * bv).sum(-1, keepdim=True)
    quats = torch.cat([scalar, aw * bv + bw * av + torch.linalg.cross(av, bv)], -1)
    return Gaussians(means, quats, gaussians.scales, gaussians.opacities, gaussians.features)
