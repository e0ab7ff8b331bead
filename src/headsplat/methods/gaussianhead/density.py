"""Clone, split and prune Gaussians while training; children inherit derivations (section IV-C)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.camera import Camera
from headsplat.methods.gaussianhead.config import GaussianHeadConfig
from headsplat.methods.gaussianhead.model import GaussianHead
from headsplat.methods.gaussianhead.riemannian import random_quats

SPLIT_SHRINK = 1.6
"""A Gaussian that splits gives two with its sizes divided by this (Kerbl et al. 2023)."""
CONTROL_FROM = 3000
"""Sizes are not pruned before this iteration or the first opacity reset, as in 3DGS."""


def screen_gradient(gradient: Tensor, means: Tensor, camera: Camera) -> Tensor:
    """(N,) length of the loss's gradient by each centre on the screen, in half pictures, as in 3DGS.

    The gradient by a screen position is the one by the centre, (N, 3) in the world, across the view, times
    depth over focal length.
    """
    view = torch.as_tensor(camera.viewmat, dtype=means.dtype, device=means.device)
    across = gradient @ view[:3, :3].T
    depth = means @ view[2, :3] + view[2, 3]
    x = across[:, 0] * depth / float(camera.K[0, 0]) * camera.width / 2
    y = across[:, 1] * depth / float(camera.K[1, 1]) * camera.height / 2
    return torch.sqrt(x.square() + y.square())


class Density:
    """What decides on births and deaths, gathered between two changes."""

    def __init__(self, count: int, device: str) -> None:
        self.device = device
        self.reset(count)

    def reset(self, count: int) -> None:
        """Forget everything, for `count` Gaussians."""
        self.gradient = torch.zeros(count, device=self.device)
        self.seen = torch.zeros(count, device=self.device)
        self.opacity = torch.zeros(count, device=self.device)

    @torch.no_grad()
    def note(self, gradient: Tensor, means: Tensor, opacities: Tensor, camera: Camera) -> None:
        """Add one step: the loss's gradient by the centres in the world, and the opacities drawn."""
        size = screen_gradient(gradient, means, camera)
        self.gradient += size
        self.seen += size > 0
        self.opacity = torch.maximum(self.opacity, opacities)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"gradient": self.gradient, "seen": self.seen, "opacity": self.opacity}

    def load(self, state: dict[str, Tensor]) -> None:
        """Back to what `state` returned."""
        self.gradient, self.seen, self.opacity = (
            state[k].to(self.device) for k in ("gradient", "seen", "opacity")
        )


@torch.no_grad()
def change(
    model: GaussianHead,
    optimizers: Sequence[torch.optim.Optimizer],
    noted: Density,
    config: GaussianHeadConfig,
    iteration: int,
    generator: torch.Generator,
) -> None:
    """Clone and split where the picture pulls hard, drop what is faint or too large, then forget."""
    points = model.points
    largest = points["log_scales"].exp().amax(1)
    pull = noted.gradient / noted.seen.clamp(min=1)
    doomed = noted.opacity < config.prune_opacity
    if config.prune_hidden:
        doomed |= noted.seen == 0
    if iteration > CONTROL_FROM:
        doomed |= largest > config.prune_scale
    chosen = (pull >= config.densify_gradient) & ~doomed
    room = config.most_gaussians - int((~doomed).sum())
    if int(chosen.sum()) > room:
        limit = pull[chosen].sort(descending=True).values[max(room, 0)] if room > 0 else math.inf
        chosen &= pull > limit
    split = chosen & (largest > config.split_above)
    clone, stay = chosen & ~split, ~(doomed | split)
    if not bool((stay | split).any()):
        return  # nothing is left to draw: better keep what there is than stop
    parents = torch.cat([m.nonzero()[:, 0] for m in (stay, clone, split, split)])
    fresh = torch.arange(len(parents), device=parents.device) >= int(stay.sum())
    halves = torch.arange(len(parents), device=parents.device) >= int(stay.sum() + clone.sum())
    _rebuild(model, optimizers, parents, fresh)
    points = model.points
    if bool(halves.any()):
        scales = points["log_scales"][halves].exp()
        noise = torch.randn(scales.shape, generator=generator).to(scales.device) * scales
        quats = F.normalize(points["quats"][halves], dim=-1)
        w, v = quats[:, :1], quats[:, 1:]
        once = torch.linalg.cross(v, noise)
        points["means"][halves] += noise + 2 * (w * once + torch.linalg.cross(v, once))
        points["log_scales"][halves] -= math.log(SPLIT_SHRINK)
    if "derivations" in points:
        _derive(model, optimizers, fresh, config, generator)
    noted.reset(len(parents))


def scheduled_derivations(count: int, initial: int, channels: int = 32, t: int = 6) -> int:
    """K of equation 12 for `count` Gaussians that began as `initial`, at most one per channel."""
    u = -(-count // initial)
    return max(1, min(channels, channels >> max(t - u, 0)))


def _derive(
    model: GaussianHead,
    optimizers: Sequence[torch.optim.Optimizer],
    fresh: Tensor,
    config: GaussianHeadConfig,
    generator: torch.Generator,
) -> None:
    """Derivations of new Gaussians, and more of them for all where K grows with their number."""
    quats = model.points["derivations"]
    count, groups = quats.shape[:2]
    births = int(fresh.sum())
    if config.derivation_heir == "random" and births:
        quats[fresh] = random_quats(births, groups, generator=generator).to(quats.device)
    elif config.derivation_heir == "identity":
        quats[fresh] = torch.tensor([1.0, 0, 0, 0], device=quats.device)
    if config.derivation_schedule == "growing":
        wanted = max(groups, scheduled_derivations(count, config.gaussians))
        if wanted > groups:
            # Each doppelganger becomes several in one place, which together read the channels it read.
            times = wanted // groups

            def grow(tensor: Tensor) -> Tensor:
                return tensor.repeat_interleave(times, 1)

            _replace(model.points, "derivations", grow(quats), optimizers, grow)


def _rebuild(
    model: GaussianHead, optimizers: Sequence[torch.optim.Optimizer], parents: Tensor, fresh: Tensor
) -> None:
    """Make every attribute that of the parents, (M,) numbers; newborns start with empty moments."""

    def inherit(moment: Tensor) -> Tensor:
        moment = moment[parents]
        moment[fresh] = 0
        return moment

    for name, old in list(model.points.items()):
        _replace(model.points, name, old[parents], optimizers, inherit)
    for name in ("blend", "face", "skin_joints", "skin_weights"):
        buffer = getattr(model, name)
        if buffer is not None:
            setattr(model, name, buffer[parents])


def _replace(
    points: nn.ParameterDict,
    name: str,
    value: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    moments: Callable[[Tensor], Tensor],
) -> None:
    """Put a new tensor in the place of a parameter, in the model and in its optimiser."""
    old = points[name]
    new = nn.Parameter(value.detach().clone())
    points[name] = new
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [new if p is old else p for p in group["params"]]
        state = optimizer.state.pop(old, None)
        if state is not None:
            kept = {k: moments(v) if k.startswith("exp") else v for k, v in state.items()}
            optimizer.state[new] = kept
