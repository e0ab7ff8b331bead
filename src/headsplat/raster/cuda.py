"""Rasterization on an NVIDIA GPU by gsplat: one picture, or a batch of clouds in one launch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.raster.rules import THREE_DGS, Rules


def gsplat() -> Any:
    """The gsplat package.

    Raises:
        HeadsplatError: it is not installed, or there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise HeadsplatError("There is no CUDA GPU here; use the CPU backend, it needs none.")
    try:
        import gsplat as package
    except ImportError:
        raise HeadsplatError("Drawing on a GPU needs gsplat; pip install 'headsplat[cuda]'.") from None
    return package


def check_rules(rules: Rules) -> None:
    """Raise HeadsplatError if `rules` ask for what gsplat has built in otherwise.

    Its near plane and eps2d are free. alpha_max is 0.999 whatever is asked for, so 3DGS rules (0.99) differ
    by up to 0.01 in pixels that one splat covers almost alone; the margin of the Jacobian is always 0.3.
    """
    same = THREE_DGS
    if (rules.alpha_min, rules.transmittance_min) != (same.alpha_min, same.transmittance_min):
        raise HeadsplatError(
            "gsplat cannot draw with other alpha_min or transmittance_min than 3DGS has; use the CPU."
        )


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
    background: Tensor,
    rules: Rules,
    depth: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One picture of N Gaussians; arguments as of `headsplat.raster.reference.rasterize`.

    Returns:
        Image (H, W, C), alpha (H, W) and, if asked for, depth (H, W).
    """
    image, alpha, depth_map = rasterize_batch(
        means[None],
        quats[None],
        scales[None],
        opacities[None],
        features[None],
        viewmat[None],
        K[None],
        width,
        height,
        background=background[None],
        rules=rules,
        depth=depth,
    )
    return image[0], alpha[0], None if depth_map is None else depth_map[0]


def rasterize_batch(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    background: Tensor | None = None,
    rules: Rules = THREE_DGS,
    depth: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """B pictures of B clouds of N Gaussians in one launch; differentiable.

    Args:
        means: (B, N, 3) metres.
        quats: (B, N, 4) wxyz.
        scales: (B, N, 3) metres.
        opacities: (B, N).
        features: (B, N, C).
        viewmats: (B, 4, 4).
        Ks: (B, 3, 3).
        width: pixels.
        height: pixels.
        background: (B, C) or (C,), default zeros.
        rules: near plane and eps2d are used; see `check_rules`.
        depth: also accumulate depth.

    Returns:
        Images (B, H, W, C), alpha (B, H, W) and depth (B, H, W) or None.
    """
    check_rules(rules)
    batch, count, channels = features.shape
    color = (features.new_zeros(channels) if background is None else background).expand(batch, channels)
    if count == 0:  # gsplat launches no kernel for nothing
        image = color[:, None, None].expand(batch, height, width, channels)
        empty = features.new_zeros(batch, height, width)
        return image, empty, empty if depth else None
    colors, alphas, _ = gsplat().rasterization(
        means.contiguous(),
        quats.contiguous(),
        scales.contiguous(),
        opacities.contiguous(),
        features[:, None].contiguous(),
        viewmats[:, None].contiguous(),
        Ks[:, None].contiguous(),
        width,
        height,
        near_plane=rules.near,
        eps2d=rules.eps2d,
        packed=False,
        backgrounds=color[:, None].contiguous(),
        render_mode="RGB+D" if depth else "RGB",
    )
    colors, alphas = colors[:, 0], alphas[:, 0, ..., 0]
    return colors[..., :channels], alphas, colors[..., channels] if depth else None
