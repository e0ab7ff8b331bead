"""The definition of rasterization: plain torch, one splat after the other, differentiable in every input.

Everything here favours being read over being fast. docs/conventions.md says the same in words; all other
renderers are tested against this one. The equations are those of EWA splatting (Zwicker et al. 2001) as used
by 3D Gaussian Splatting (Kerbl et al. 2023).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from headsplat.raster.rules import THREE_DGS, Rules


class Splats(NamedTuple):
    """Gaussians on the image plane: N of them.

    Attributes:
        centers: (N, 2) pixels.
        conics: (N, 3) inverse covariance, entries xx, xy, yy, pixels^-2.
        depths: (N,) camera depth, metres.
        drawn: (N,) bool, False where the Gaussian is not in front of the camera or not finite.
    """

    centers: Tensor
    conics: Tensor
    depths: Tensor
    drawn: Tensor


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    rules: Rules = THREE_DGS,
) -> Splats:
    """Project (N,) Gaussians by the Jacobian of the perspective at their means.

    Args:
        means: (N, 3) metres.
        quats: (N, 4) wxyz, normalised here.
        scales: (N, 3) metres.
        viewmat: (4, 4) `T_camera_world`.
        K: (3, 3) intrinsics, pixels.
        width: pixels.
        height: pixels.
        rules: near plane, eps2d and the margin of the Jacobian.
    """
    R, t = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (means @ R.T + t).unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    u, v = x / z, y / z
    centers = torch.stack([fx * u + cx, fy * v + cy], -1)

    margin_x = rules.direction_margin * 0.5 * width / fx
    margin_y = rules.direction_margin * 0.5 * height / fy
    u = torch.clamp(u, -cx / fx - margin_x, (width - cx) / fx + margin_x)
    v = torch.clamp(v, -cy / fy - margin_y, (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * u / z, zero, fy / z, -fy * v / z], -1).reshape(-1, 2, 3)

    root = J @ R @ (_rotations(quats) * scales[:, None, :])  # (N, 2, 3), a square root of the 2D covariance
    cov = root @ root.transpose(1, 2) + rules.eps2d * torch.eye(2, dtype=means.dtype, device=means.device)
    a, b, c = cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]
    conics = torch.stack([c, -b, a], -1) / (a * c - b * b)[:, None]
    drawn = (z > rules.near) & torch.isfinite(conics).all(-1) & torch.isfinite(centers).all(-1)
    return Splats(centers, conics, z, drawn)


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    background: Tensor | None = None,
    rules: Rules = THREE_DGS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw N Gaussians with C feature channels.

    Args:
        means: (N, 3) metres.
        quats: (N, 4) wxyz.
        scales: (N, 3) metres.
        opacities: (N,) 0..1.
        features: (N, C).
        viewmat: (4, 4) `T_camera_world`.
        K: (3, 3) intrinsics, pixels.
        width: pixels.
        height: pixels.
        background: (C,), default zeros.
        rules: the compositing rules.

    Returns:
        Image (H, W, C) = sum of weight times features + T background, alpha (H, W) = 1 - T and depth (H, W) =
        sum of weight times camera depth (divide by alpha for a mean), with T the final transmittance.
    """
    splats = project(means, quats, scales, viewmat, K, width, height, rules)
    kwargs = {"dtype": means.dtype, "device": means.device}
    px = torch.arange(width, **kwargs)[None, :] + 0.5
    py = torch.arange(height, **kwargs)[:, None] + 0.5
    T = torch.ones(height, width, **kwargs)
    closed = torch.zeros(height, width, dtype=torch.bool, device=means.device)
    image = torch.zeros(height, width, features.shape[1], **kwargs)
    depth = torch.zeros(height, width, **kwargs)
    drawn = splats.drawn & (opacities >= rules.alpha_min) & torch.isfinite(opacities)
    for i in torch.argsort(splats.depths, stable=True).tolist():
        if not drawn[i]:
            continue
        dx, dy = px - splats.centers[i, 0], py - splats.centers[i, 1]
        a, b, c = splats.conics[i]
        raw = opacities[i] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
        alpha = torch.clamp(raw, max=rules.alpha_max)
        alpha = torch.where(alpha >= rules.alpha_min, alpha, 0.0)
        after = T * (1 - alpha)
        closed = closed | (after.detach() < rules.transmittance_min)
        weight = torch.where(closed, 0.0, alpha * T)
        image = image + weight[..., None] * features[i]
        depth = depth + weight * splats.depths[i]
        T = torch.where(closed, T, after)
    if background is not None:
        image = image + T[..., None] * background
    return image, 1 - T, depth


def _rotations(quats: Tensor) -> Tensor:
    """(N, 3, 3) rotation matrices of (N, 4) wxyz quaternions."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
