"""Networks inside an avatar: plain data, and the one place that runs them, by a fixed list of kinds.

An avatar file names the kind of its network and never code. The code of a kind is a method's module `play`,
imported when the first frame needs it: `deformer(network)` and `refiner(network)` check the tensors and
return the function that runs per frame; `painter(network, device)` is the refiner for tensors, and
`bake(avatar, motion, progress)`, if there is one, does without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians

if TYPE_CHECKING:
    from torch import Tensor

_HOMES = {
    "gaussianhead": "headsplat.methods.gaussianhead.play",
    "gagavatar": "headsplat.methods.gagavatar.play",
}

Deformer = Callable[[Gaussians, np.ndarray, np.ndarray, np.ndarray], Gaussians]
Refiner = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Network:
    """A network as an avatar carries it; compared by identity.

    Attributes:
        kind: which code runs it, a key of the fixed list.
        config: JSON-serialisable settings of that code.
        tensors: name to float16 or float32 array; names are letters, digits, dots, dashes and underscores.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]


def known(kind: str) -> bool:
    """Whether this version can run networks of this kind."""
    return kind in _HOMES


def deform(
    network: Network, rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray
) -> Gaussians:
    """The Gaussians of one pose before skinning, by the avatar's deformer.

    Args:
        network: the avatar's `deformer`.
        rest: the avatar's N Gaussians after the blendshapes of its rig, in rest space; a kind may build on
            them or not.
        weights: (E,) expression weights in the avatar's order.
        transforms: (J, 4, 4) `T_world_rest` of each joint of the avatar.
        eye: (3,) where the camera is in the world, metres, for colours that depend on the view.

    Returns:
        N Gaussians in rest space; the avatar's skin then takes them to the world.

    Raises:
        HeadsplatError: the network's tensors or settings are not what its kind needs.
    """
    return _prepared(network, "deformer")(rest, weights, transforms, eye)


def refine(network: Network, image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The picture that the avatar's refiner makes of a rendered feature image.

    Args:
        network: the avatar's `refiner`.
        image: (H, W, C) premultiplied features over zero.
        alpha: (H, W) coverage 0..1.

    Returns:
        (H, W, 4) sRGB 0..1, straight, and the coverage with which to lay them over a background: `alpha`, or
        ones from networks whose pictures are whole.

    Raises:
        HeadsplatError: the network's tensors or settings are not what its kind needs.
    """
    return _prepared(network, "refiner")(image, alpha)


def painter(network: Network, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """`refine` for pictures that stay on a device, for `headsplat.raster.cuda_frame.FrameRenderer`.

    Args:
        network: the avatar's `refiner`.
        device: such as "cuda".

    Returns:
        A function of (B, H, W, C) premultiplied features over zero and (B, H, W) coverage that gives
        what `refine` does, (B, H, W, 4). It neither keeps gradients nor waits for the device.

    Raises:
        HeadsplatError: the network's tensors or settings are not what its kind needs.
    """
    return _maker(network, "painter")(network, device)


def baker(network: Network) -> Callable[..., Any] | None:
    """How avatars with this kind of refiner become rigs, where the method knows: see `headsplat.bake`."""
    return getattr(import_module(_HOMES[network.kind]), "bake", None) if known(network.kind) else None


_runners: WeakKeyDictionary[Network, dict[str, Callable[..., Any]]] = WeakKeyDictionary()


def _prepared(network: Network, role: str) -> Callable[..., Any]:
    """The function that runs a network, made once as long as the network lives."""
    made = _runners.setdefault(network, {})
    if role not in made:
        made[role] = _maker(network, role)(network)
    return made[role]


def _maker(network: Network, role: str) -> Callable[..., Any]:
    """What makes the function that runs a network."""
    if network.kind not in _HOMES:
        raise HeadsplatError(
            f"This avatar needs a network of kind {network.kind!r}, which this headsplat does not know; "
            "update it with `pip install --upgrade headsplat`."
        )
    make = getattr(import_module(_HOMES[network.kind]), role, None)
    if make is None:
        raise HeadsplatError(f"A network of kind {network.kind!r} cannot be a {role}; the file is damaged.")
    return make
