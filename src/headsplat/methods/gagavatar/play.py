"""Run the networks that an avatar of GAGAvatar carries: the neural renderer, and FLAME's pose correctives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.methods.gagavatar.bake import bake
from headsplat.nets.styleunet import StyleUNet, StyleUNetConfig
from headsplat.networks import Deformer, Network, Refiner

__all__ = ["bake", "deformer", "painter", "refiner"]

FAINTEST = 1e-3
"""Coverage under which a colour cannot be told from the black behind it."""


def refiner(network: Network) -> Refiner:
    """The function from a feature image to colours and coverage, on the CPU.

    Raises:
        HeadsplatError: settings or tensors that are not a neural renderer's.
    """
    paint = painter(network, "cpu")

    def run(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        features, cover = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (image, alpha))
        return paint(features[None], cover[None])[0].numpy()

    return run


def painter(network: Network, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The same for tensors on a device: (B, H, W, C) and (B, H, W) to (B, H, W, 4).

    Networks that have not learned the matte give their pictures as they are, on black that covers everything.

    Raises:
        HeadsplatError: settings or tensors that are not a neural renderer's.
    """
    net = _renderer(network).to(device)
    kind, matte = torch.device(device).type, bool(network.config.get("matte", False))
    # Half the time, and 53 dB from full precision: nobody sees it. Other CPUs would only pretend.
    half = kind == "cuda" or "avx512_bf16" in _cpu_flags()

    @torch.no_grad()
    def paint(images: Tensor, alpha: Tensor) -> Tensor:
        features = _resized(images.movedim(-1, 1), (net.config.size, net.config.size))
        # A recorded CUDA graph must not rely on casts of weights that an earlier call kept.
        with torch.autocast(kind, torch.bfloat16, enabled=half, cache_enabled=kind == "cpu"):
            fine = net(features).float()
        on_black = _resized(fine, tuple(images.shape[1:3])).movedim(1, -1)
        cover = alpha[..., None]
        if not matte:
            return torch.cat([on_black, torch.ones_like(cover)], -1)
        # What is painted brighter than the Gaussians cover is there all the same.
        cover = torch.maximum(cover, on_black.amax(-1, keepdim=True))
        straight = torch.where(cover > FAINTEST, on_black / cover.clamp(min=FAINTEST), on_black)
        return torch.cat([straight, cover], -1).clamp(0, 1)

    return paint


def deformer(network: Network) -> Deformer:
    """The function that adds pose correctives to the Gaussians that ride on FLAME.

    Raises:
        HeadsplatError: settings or tensors that are not such.
    """
    parents, basis = network.config.get("parents"), network.tensors.get("pose_basis")
    joints = len(parents) if isinstance(parents, list) else 0
    right = (
        basis is not None
        and basis.ndim == 3
        and basis.shape[2] == 3
        and joints > 1
        and len(basis) == 9 * (joints - 1)
        and parents is not None
        and all(isinstance(p, int) and -1 <= p < j for j, p in enumerate(parents))
    )
    if not right or basis is None or parents is None:
        raise _damaged("pose correctives")
    flat = basis.reshape(len(basis), -1).astype(np.float32)

    def run(rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray) -> Gaussians:
        if len(transforms) != joints or flat.shape[1] > rest.means.size:
            raise _damaged("pose correctives")
        turns = transforms[:, :3, :3]
        local = np.stack([turns[p].T @ turns[j] for j, p in enumerate(parents) if j > 0])
        change = (local - np.eye(3, dtype=np.float32)).reshape(-1) @ flat
        means = np.array(rest.means)
        means.reshape(-1)[: len(change)] += change
        return Gaussians(means, rest.quats, rest.scales, rest.opacities, rest.features)

    return run


def _cpu_flags() -> str:
    """What this CPU can do, as Linux tells it; nothing elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _renderer(network: Network) -> StyleUNet:
    try:
        values: dict[str, Any] = dict(network.config["renderer"])
        values["widths"] = tuple(int(w) for w in values["widths"])
        config = StyleUNetConfig(**values)
        if not 0 < max(config.widths) <= 4096 or config.size > 4096 or config.style > 65536:
            raise ValueError("sizes out of range")
        with torch.device("meta"):
            net = StyleUNet(config)
        state = {k: torch.from_numpy(v.astype(np.float32)) for k, v in network.tensors.items()}
        net.load_state_dict(state, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _damaged("neural renderer") from error
    return net.eval().requires_grad_(False)


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _damaged(what: str) -> HeadsplatError:
    return HeadsplatError(f"The avatar's {what} cannot be run: the file is damaged; create it again.")
