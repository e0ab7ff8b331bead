"""The CPU kernels on numpy arrays: forward, backward, and how many threads they use.

Compiled from `kernel/` for several instruction sets; the best one of this machine is used (`isa()`), unless
the environment variable HEADSPLAT_ISA asks for `v2` or `v3`. Results are the same bits for any number of
threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.raster.rules import THREE_DGS, Rules

try:
    from headsplat.raster.cpu import _kernel
except ImportError as error:
    raise HeadsplatError(
        "The compiled rasterizer is missing; install headsplat with `pip install .` "
        f"(or `pip install -e . --no-build-isolation` for development). [{error}]"
    ) from error

LARGEST_SIDE = 16384


class Gradients(NamedTuple):
    """Gradients of a loss by every input: shapes as the inputs, float32."""

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    features: np.ndarray
    background: np.ndarray
    viewmat: np.ndarray


@dataclass(frozen=True)
class Frame:
    """A rendered frame with all that `backward` needs of it.

    Attributes:
        image: (H, W, C) float32, premultiplied, over the background.
        alpha: (H, W) float32 coverage, one minus the final transmittance.
        depth: (H, W) float32 sum of weight times camera depth in metres, or None.
    """

    image: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray | None
    _gaussians: Gaussians
    _state: Any


def isa() -> str:
    """Name of the instruction set in use: v2, v3 or v4 (x86-64 levels) or generic."""
    return _kernel.isa()


def threads() -> int:
    """How many threads kernels use: HEADSPLAT_THREADS, else all processors this process may use."""
    return _kernel.threads()


def set_threads(count: int) -> None:
    """Set the default number of threads, at least 1."""
    _kernel.set_threads(count)


def forward(
    gaussians: Gaussians,
    camera: Camera,
    background: np.ndarray | None = None,
    *,
    depth: bool = True,
    rules: Rules = THREE_DGS,
    threads: int | None = None,
) -> Frame:
    """Draw numpy Gaussians.

    Gaussians with a mean, rotation, scale or opacity that is not finite are left out.

    Args:
        gaussians: N Gaussians with C >= 1 channels.
        camera: where from.
        background: (C,), default zeros.
        depth: also accumulate depth.
        rules: the compositing rules.
        threads: at most this many; default `threads()`.

    Raises:
        HeadsplatError: the image size is not within 1..16384, or arrays do not fit together.
    """
    cloud = _contiguous(gaussians)
    channels = cloud.features.shape[1]
    color = np.zeros(channels, np.float32) if background is None else float_array(background)
    if color.shape != (channels,):
        raise HeadsplatError(
            f"The background has shape {color.shape}; give one number per channel, ({channels},)."
        )
    image, alpha, depth_map, state = _kernel.forward(
        *_arrays(cloud),
        *camera_arrays(camera),
        camera.width,
        camera.height,
        color,
        rules.as_array(),
        depth,
        threads or 0,
    )
    return Frame(image, alpha, depth_map, cloud, state)


def backward(
    frame: Frame,
    grad_image: np.ndarray,
    grad_alpha: np.ndarray | None = None,
    grad_depth: np.ndarray | None = None,
) -> Gradients:
    """Gradients of a loss by the inputs of `frame`, from its gradients by the outputs.

    Args:
        frame: from `forward`; neither its arrays nor the Gaussians may have been changed since.
        grad_image: (H, W, C).
        grad_alpha: (H, W), default zeros.
        grad_depth: (H, W), default zeros; only if the frame has a depth.

    Returns:
        Gradients; that of the viewmat treats its twelve upper numbers as free.

    Raises:
        HeadsplatError: a gradient of another shape than its output, or by a depth that was not drawn.
    """
    if grad_depth is not None and frame.depth is None:
        raise HeadsplatError(
            "This frame was drawn without depth; draw it with depth=True to use its gradient."
        )
    pairs = ((grad_image, frame.image), (grad_alpha, frame.alpha), (grad_depth, frame.depth))
    for gradient, output in pairs:
        if gradient is not None and output is not None and gradient.shape != output.shape:
            raise HeadsplatError(
                f"A gradient has the shape {gradient.shape} and its output {output.shape}; they must agree."
            )
    means, quats, scales, opacities, features, background, view = _kernel.backward(
        frame._state,
        *_arrays(frame._gaussians),
        frame.image,
        frame.alpha,
        frame.depth,
        float_array(grad_image),
        None if grad_alpha is None else float_array(grad_alpha),
        None if grad_depth is None else float_array(grad_depth),
    )
    viewmat = np.zeros((4, 4), np.float32)
    viewmat[:3, :3], viewmat[:3, 3] = view[:9].reshape(3, 3), view[9:]
    return Gradients(means, quats, scales, opacities, features, background, viewmat)


def check_size(width: int, height: int) -> None:
    """Raise HeadsplatError unless both sides are within 1..LARGEST_SIDE."""
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise HeadsplatError(f"Cannot draw {width} x {height} pixels; choose sides of 1 to {LARGEST_SIDE}.")


def camera_arrays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The viewmat (4, 4) and K (3, 3) as the kernel reads them.

    Raises:
        HeadsplatError: other shapes, or an image size that is not within 1..16384.
    """
    check_size(camera.width, camera.height)
    viewmat, K = float_array(camera.viewmat), float_array(camera.K)
    if viewmat.shape != (4, 4) or K.shape != (3, 3):
        raise HeadsplatError(
            f"A camera needs a viewmat (4, 4) and K (3, 3), not arrays of {viewmat.shape} and {K.shape}."
        )
    return viewmat, K


def float_array(array: Any) -> np.ndarray:
    """`array` as contiguous float32, copied only if it is not."""
    return np.ascontiguousarray(array, np.float32)


def _arrays(g: Gaussians) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return g.means, g.quats, g.scales, g.opacities, g.features


def _contiguous(gaussians: Gaussians) -> Gaussians:
    cloud = Gaussians(*(float_array(a) for a in _arrays(gaussians)))
    n = len(cloud.means)
    shapes = [a.shape for a in _arrays(cloud)]
    if shapes[:4] != [(n, 3), (n, 4), (n, 3), (n,)] or cloud.features.ndim != 2 or len(cloud.features) != n:
        raise HeadsplatError(f"Gaussians have arrays that do not fit together: {shapes}.")
    if cloud.features.shape[1] == 0:
        raise HeadsplatError("Gaussians have no feature channels; give at least one.")
    return cloud
