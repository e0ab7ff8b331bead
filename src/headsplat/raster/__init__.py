"""Draw Gaussians: one `rasterize` for numpy and torch, for the CPU and CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.raster.rules import GSPLAT, THREE_DGS, Rules

__all__ = ["GSPLAT", "THREE_DGS", "Render", "Rules", "rasterize"]

Array = Any  # numpy.ndarray or torch.Tensor

# "auto": the CPU kernel for numpy arrays and CPU tensors, gsplat for CUDA tensors.
Backend = Literal["auto", "cpu", "cuda", "reference"]


@dataclass(frozen=True)
class Render:
    """A picture of Gaussians, arrays of the kind the Gaussians had.

    Attributes:
        image: (H, W, C) premultiplied features over the background.
        alpha: (H, W) coverage 0..1.
        depth: (H, W) sum of weight times camera depth, metres (divide by alpha for a mean), or None.
    """

    image: Array
    alpha: Array
    depth: Array | None


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    *,
    background: Array | float | None = None,
    backend: Backend = "auto",
    rules: Rules = THREE_DGS,
    depth: bool = True,
    threads: int | None = None,
) -> Render:
    """Draw Gaussians as docs/conventions.md defines it.

    Numpy in, numpy out. Torch in, torch out, differentiable by all five arrays of the Gaussians, the
    background and the camera's viewmat.

    Args:
        gaussians: N Gaussians with C channels; N may be 0. Those with a mean, rotation, scale or opacity that
            is not finite are left out.
        camera: where from.
        background: (C,) features behind everything, or one number for all channels; default 0.
        backend: who draws; `reference` is the slow definition in torch.
        rules: the compositing rules, `THREE_DGS` or `GSPLAT` or your own.
        depth: also draw the depth (about a tenth more time).
        threads: at most this many CPU threads; default HEADSPLAT_THREADS or all processors.

    Raises:
        HeadsplatError: arrays that do not fit together, on another device than the backend's, or a backend
            that is not available.
    """
    if isinstance(gaussians.means, np.ndarray) and backend in ("auto", "cpu"):
        from headsplat.raster import cpu

        color = _background(background, gaussians.features.shape[1])
        frame = cpu.forward(gaussians, camera, color, depth=depth, rules=rules, threads=threads)
        return Render(frame.image, frame.alpha, frame.depth)
    from headsplat.raster import torch_backend

    return torch_backend.rasterize(
        gaussians, camera, background=background, backend=backend, rules=rules, depth=depth, threads=threads
    )


def _background(background: Array | float | None, channels: int) -> np.ndarray | None:
    if background is None:
        return None
    color = np.asarray(background, np.float32)
    if color.ndim > 1 or color.size not in (1, channels):
        raise HeadsplatError(
            f"The background has shape {color.shape}; give one number, or one per channel ({channels})."
        )
    return np.broadcast_to(color, (channels,))
