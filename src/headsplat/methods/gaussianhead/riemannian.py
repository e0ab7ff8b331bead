"""Riemannian Adam on the unit sphere of quaternions: equation 5 with the optimiser that the paper cites.

Becigneul & Ganea, *Riemannian Adaptive Optimization Methods*, ICLR 2019: moments live in the tangent space of
the current point, steps follow the exponential map, and parallel transport carries the first moment along.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def exp_map(points: Tensor, tangents: Tensor) -> Tensor:
    """Follow the great circle from unit (..., 4) `points` along tangents, by their length in radians."""
    length = tangents.norm(dim=-1, keepdim=True)
    # torch.sinc(x) = sin(pi x) / (pi x) is exact at zero.
    moved = length.cos() * points + torch.sinc(length / torch.pi) * tangents
    return moved / moved.norm(dim=-1, keepdim=True)


def project(points: Tensor, vectors: Tensor) -> Tensor:
    """The part of (..., 4) `vectors` that is tangent to the sphere at unit `points`."""
    return vectors - (points * vectors).sum(-1, keepdim=True) * points


def transport(points: Tensor, moved: Tensor, vectors: Tensor) -> Tensor:
    """Carry tangent `vectors` along the great circle from unit `points` to `moved`; lengths stay.

    The two points must not be opposite to one another.
    """
    along = (moved * vectors).sum(-1, keepdim=True) / (1 + (points * moved).sum(-1, keepdim=True))
    return vectors - along * (points + moved)


class RiemannianAdam(torch.optim.Optimizer):
    """Adam for parameters (..., 4) whose last axis is a unit quaternion, and stays one."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """As torch.optim.Adam; `params` are unit quaternions, or groups of them."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for point in group["params"]:
                if point.grad is None:
                    continue
                state = self.state[point]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(point)
                    # One second moment per quaternion: single components mean nothing on a manifold.
                    state["exp_avg_sq"] = torch.zeros_like(point[..., :1])
                gradient = project(point, point.grad)
                state["step"] += 1
                steps = state["step"].item()
                average = state["exp_avg"].lerp_(gradient, 1 - first)
                square = state["exp_avg_sq"].lerp_(gradient.square().sum(-1, keepdim=True), 1 - second)
                size = (square / (1 - second**steps)).sqrt() + group["eps"]
                moved = exp_map(point, -group["lr"] / (1 - first**steps) * average / size)
                state["exp_avg"] = project(moved, transport(point, moved, average))
                point.copy_(moved)


def random_quats(*shape: int, generator: torch.Generator) -> Tensor:
    """(*shape, 4) unit quaternions, uniform on the sphere."""
    quats = torch.randn(*shape, 4, generator=generator)
    return quats / quats.norm(dim=-1, keepdim=True)
