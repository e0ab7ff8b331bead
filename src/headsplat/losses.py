"""What training minimises, as plain functions that neither reduce nor weight: the recipe does both.

Images are torch tensors (..., H, W, C), sRGB 0..1, channels last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from headsplat.errors import HeadsplatError


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Absolute difference, element by element; of images, or of silhouettes."""
    return (image - target).abs()


def l2(image: Tensor, target: Tensor) -> Tensor:
    """Squared difference, element by element."""
    return (image - target).square()


def ssim(image: Tensor, target: Tensor, sigma: float = 1.5) -> Tensor:
    """Structural similarity of every pixel and channel, -1..1 (Wang et al. 2004).

    Args:
        image: (..., H, W, C).
        target: the same shape.
        sigma: of the Gaussian window, pixels; it reaches 3.5 sigma, and images are mirrored at the border.

    Returns:
        (..., H, W, C).
    """
    a, b = (_channels_first(x) for x in (image, target))
    radius = min(round(3.5 * sigma), min(a.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=a.dtype, device=a.device)
    window = (-0.5 * (offsets / sigma).square()).exp()
    window = (window / window.sum())[None, None]

    def blur(x: Tensor) -> Tensor:
        # All as channels of one picture: torch's depthwise convolution is far faster than a batch of
        # one-channel pictures, above all backwards.
        flat = F.pad(x.flatten(0, 1)[None], (radius,) * 4, mode="reflect")
        count = flat.shape[1]
        across, down = (w.expand(count, 1, -1, -1) for w in (window[..., None, :], window[..., None]))
        return F.conv2d(F.conv2d(flat, across, groups=count), down, groups=count).reshape(x.shape)

    mean_a, mean_b, square_a, square_b, product = blur(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
    var_a, var_b = square_a - mean_a**2, square_b - mean_b**2
    both = product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    value = value / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return value.movedim(1, -1).reshape(image.shape)


def offset_penalty(offsets: Tensor, free: float = 0.0) -> Tensor:
    """(..., N) squared length by which (..., N, 3) offsets exceed `free` metres (LAM, equation 9)."""
    # The root has no gradient at zero, where every offset starts: keep it off that point.
    length = (offsets.square().sum(-1) + 1e-16).sqrt()
    return (length - free).clamp(min=0).square()


class Perceptual(NamedTuple):
    """A perceptual distance and its name, which belongs in every log.

    Attributes:
        name: what it is.
        distance: (B, H, W, 3) images and targets to (B,) distances.
    """

    name: str
    distance: Callable[[Tensor, Tensor], Tensor]


def perceptual(
    network: str | os.PathLike[str] | None = None, linear: str | os.PathLike[str] | None = None
) -> Perceptual:
    """LPIPS where the weights are at hand, and an honest substitute otherwise.

    Args:
        network: VGG-16 or AlexNet trained on ImageNet, under torchvision's names, as .safetensors or .pth.
        linear: the linear layers of LPIPS ("lin0.model.1.weight", ...); without them channels count alike.

    Returns:
        Without `network`, the distance of a Laplacian pyramid (`pyramid_distance`).

    Raises:
        HeadsplatError: a file cannot be read or lacks a layer.
    """
    if network is None:
        return Perceptual("Laplacian pyramid (substitute for LPIPS: no VGG weights given)", pyramid_distance)
    state = _read_state(Path(network))
    layout = _ALEXNET if _take(state, network, "features.0.weight").shape[-1] == 11 else _VGG
    parts = [f"features.{i}.{part}" for i, *_ in layout.convolutions for part in ("weight", "bias")]
    weights = {part: _take(state, network, part) for part in parts}
    name = f"{layout.name} features, all channels alike"
    if linear is not None:
        name, found = f"LPIPS ({layout.name})", _read_state(Path(linear))
        for k in range(len(layout.stages)):
            weights[f"linear.{k}"] = _take(found, linear, f"lin{k}.model.1.weight").flatten()
    at = moved_once(weights)

    def distance(images: Tensor, targets: Tensor) -> Tensor:
        here = at(images)
        total = images.new_zeros(len(images))
        pairs = zip(_stages(images, layout, here), _stages(targets, layout, here), strict=True)
        for k, (a, b) in enumerate(pairs):
            a, b = unit_channels(a), unit_channels(b)
            weight = here.get(f"linear.{k}", a.new_full((a.shape[1],), 1 / a.shape[1]))
            total = total + torch.einsum("bchw,c->bhw", (a - b).square(), weight).mean((1, 2))
        return total

    return Perceptual(name, distance)


def moved_once(weights: Mapping[str, Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
    """A function that gives `weights` on a tensor's device and in its type; they are copied there once."""
    kept: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def at(like: Tensor) -> dict[str, Tensor]:
        place = (like.device, like.dtype)
        if place not in kept:
            kept[place] = {name: value.to(like) for name, value in weights.items()}
        return kept[place]

    return at


def unit_channels(activations: Tensor) -> Tensor:
    """(B, C, H, W) activations divided by their length over the channels; where all are 0 they stay 0."""
    # The root has no gradient at zero, where every channel of a flat area may be: keep it off that point.
    return activations / ((activations.square().sum(1, keepdim=True) + 1e-20).sqrt() + 1e-10)


def pyramid_distance(images: Tensor, targets: Tensor, levels: int = 4) -> Tensor:
    """(B,) mean absolute difference summed over the bands of a Laplacian pyramid of (B, H, W, C) images."""
    rest = (images - targets).movedim(-1, 1)
    total = rest.new_zeros(len(rest))
    for _ in range(levels):
        if min(rest.shape[-2:]) < 2:
            break
        low = F.avg_pool2d(rest, 2, ceil_mode=True, count_include_pad=False)
        up = F.interpolate(low, size=rest.shape[-2:], mode="bilinear", align_corners=False)
        total = total + (rest - up).abs().mean((1, 2, 3))
        rest = low
    return total + rest.abs().mean((1, 2, 3))


class _Layout(NamedTuple):
    """The convolutions of a network: (place in torchvision's list of layers, stride, padding).

    The activations after those in `stages` are compared; a maximum over `pool` pixels comes before those in
    `pooled`.
    """

    name: str
    convolutions: tuple[tuple[int, int, int], ...]
    stages: tuple[int, ...]
    pooled: tuple[int, ...]
    pool: int


_VGG = _Layout(
    "VGG-16",
    tuple((i, 1, 1) for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
    (2, 7, 14, 21, 28),
    (5, 10, 17, 24),
    2,
)
_ALEXNET = _Layout(
    "AlexNet", ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)), (0, 3, 6, 8, 10), (3, 6), 3
)


def _stages(images: Tensor, layout: _Layout, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Activations of (B, H, W, 3) images that a layout compares."""
    shift = images.new_tensor([-0.030, -0.088, -0.188])
    scale = images.new_tensor([0.458, 0.448, 0.450])
    x = ((2 * images - 1 - shift) / scale).movedim(-1, 1)
    stages = []
    for i, stride, padding in layout.convolutions:
        if i in layout.pooled:
            x = F.max_pool2d(x, layout.pool, 2)
        weight, bias = weights[f"features.{i}.weight"], weights[f"features.{i}.bias"]
        x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
        if i in layout.stages:
            stages.append(x)
    return stages


def _channels_first(images: Tensor) -> Tensor:
    return images.reshape(-1, *images.shape[-3:]).movedim(-1, 1)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a file that is not theirs
        raise HeadsplatError(f"{path} cannot be read as network weights ({type(error).__name__}).") from error


def _take(state: dict[str, Tensor], path: str | os.PathLike[str], key: str) -> Tensor:
    if key not in state:
        raise HeadsplatError(
            f"{path} has no {key}; give VGG-16 or AlexNet under torchvision's names, or LPIPS's layers."
        )
    return state[key].float()
