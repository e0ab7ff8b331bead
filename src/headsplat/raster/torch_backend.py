"""Rasterization of torch tensors: the CPU kernel as an autograd function, gsplat, or the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.raster import cpu, reference
from headsplat.raster.rules import Rules

if TYPE_CHECKING:
    from headsplat.raster import Backend, Render


class _Rasterize(torch.autograd.Function):
    """The CPU kernel; its gradients are float32 whatever the inputs were."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        features: Tensor,
        background: Tensor,
        viewmat: Tensor,
        K: np.ndarray,
        size: tuple[int, int],
        rules: Rules,
        depth: bool,
        threads: int | None,
    ) -> tuple[Tensor, ...]:
        cloud = Gaussians(*(t.detach().numpy() for t in (means, quats, scales, opacities, features)))
        camera = Camera(viewmat.detach().numpy(), K, *size)
        frame = cpu.forward(
            cloud, camera, background.detach().numpy(), depth=depth, rules=rules, threads=threads
        )
        image, alpha = torch.from_numpy(frame.image), torch.from_numpy(frame.alpha)
        depth_map = torch.from_numpy(frame.depth) if frame.depth is not None else None
        # Saving tensors makes autograd notice if somebody changes them in place before backward.
        ctx.save_for_backward(means, quats, scales, opacities, features, image, alpha, depth_map)
        ctx.frame = frame
        ctx.set_materialize_grads(False)
        return (image, alpha, depth_map) if depth_map is not None else (image, alpha)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        means, *_ = ctx.saved_tensors
        frame: cpu.Frame = ctx.frame
        image, alpha, depth = (*(g.numpy() if g is not None else None for g in grads), None)[:3]
        if image is None:
            image = np.zeros_like(frame.image)
        out = [torch.from_numpy(g) for g in cpu.backward(frame, image, alpha, depth)]
        if means.dtype != torch.float32:
            out = [g.to(means.dtype) for g in out]
        return (*out, None, None, None, None, None)


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    *,
    background: Any,
    backend: Backend,
    rules: Rules,
    depth: bool,
    threads: int | None,
) -> Render:
    """See `headsplat.raster.rasterize`; the Gaussians may be numpy only for the reference."""
    from headsplat.raster import Render

    given = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.features)
    means, quats, scales, opacities, features = (torch.as_tensor(a) for a in given)
    like = {"dtype": means.dtype, "device": means.device}
    channels = features.shape[1]
    color = torch.as_tensor(0.0 if background is None else background, **like)
    if color.ndim > 1 or color.numel() not in (1, channels):
        raise HeadsplatError(
            f"The background has shape {tuple(color.shape)}; give one number, or one per channel, {channels}."
        )
    color = color.expand(channels)
    viewmat = torch.as_tensor(camera.viewmat, **like)
    size = (camera.width, camera.height)
    if backend == "auto":
        backend = "cuda" if means.is_cuda else "cpu"
    if backend not in ("cpu", "cuda", "reference"):
        raise HeadsplatError(f"There is no backend {backend!r}; take auto, cpu, cuda or reference.")
    if backend == "cuda" and not means.is_cuda:
        raise HeadsplatError("The cuda backend draws tensors on a GPU; move them there with .cuda().")
    if backend == "cpu" and means.is_cuda:
        raise HeadsplatError("The CPU rasterizer was given tensors on a GPU; move them with .cpu().")
    if backend == "reference":
        K = torch.as_tensor(camera.K, **like)
        image, alpha, drawn_depth = reference.rasterize(
            means, quats, scales, opacities, features, viewmat, K, *size, color, rules
        )
        depth_map = drawn_depth if depth else None
    elif backend == "cuda":
        from headsplat.raster import cuda

        K = torch.as_tensor(camera.K, **like)
        image, alpha, depth_map = cuda.rasterize(
            means, quats, scales, opacities, features, viewmat, K, *size, color, rules, depth
        )
    else:
        K = np.asarray(camera.K.detach() if isinstance(camera.K, Tensor) else camera.K, np.float32)
        image, alpha, *rest = _Rasterize.apply(  # pyright: ignore[reportGeneralTypeIssues]
            means, quats, scales, opacities, features, color, viewmat, K, size, rules, depth, threads
        )
        depth_map = rest[0] if rest else None
    if isinstance(gaussians.means, np.ndarray):
        return Render(image.numpy(), alpha.numpy(), depth_map.numpy() if depth_map is not None else None)
    return Render(image, alpha, depth_map)
