"""Real spherical harmonics up to degree 3, in 3DGS's order and signs, to colours that depend on the view."""

from __future__ import annotations

import torch
from torch import Tensor

C0 = 0.28209479177387814


def basis(directions: Tensor, degree: int) -> Tensor:
    """(N, (degree + 1)^2) values of the harmonics in unit (N, 3) directions (Sloan 2008, appendix A2)."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, -1)


def colours(coefficients: Tensor, directions: Tensor | None, degree: int) -> Tensor:
    """(N, 3) RGB >= 0 of (N, B, 3) coefficients seen along unit (N, 3) directions, up to `degree`."""
    if degree == 0 or directions is None:
        return (0.5 + C0 * coefficients[:, 0]).clamp(min=0)
    weights = basis(directions, degree)
    return (0.5 + torch.einsum("nb,nbc->nc", weights, coefficients[:, : weights.shape[1]])).clamp(min=0)
