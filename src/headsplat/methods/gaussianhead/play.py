"""Run a GaussianHead avatar frame by frame: what `headsplat.networks` looks up for its kind."""

from __future__ import annotations

import numpy as np
import torch

from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.methods.gaussianhead.config import GaussianHeadConfig
from headsplat.methods.gaussianhead.model import GaussianHead
from headsplat.methods.gaussianhead.scene import Bones
from headsplat.networks import Deformer, Network

_LIMITS = {"layers": 64, "width": 4096, "octaves": 16, "channels": 1024, "derivations": 64, "hidden": 4096}


def deformer(network: Network) -> Deformer:
    """The function that deforms an avatar's Gaussians; see `headsplat.networks.deform`.

    Raises:
        HeadsplatError: settings and tensors do not make a model.
    """
    try:
        model, bones, centre, half = _build(network)
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise HeadsplatError(
            f"The avatar's GaussianHead network is damaged ({str(error)[:120]}); train it again."
        ) from error
    expected = network.config["expressions"]

    @torch.no_grad()
    def run(rest: Gaussians, weights: np.ndarray, transforms: np.ndarray, eye: np.ndarray) -> Gaussians:
        if len(rest) != len(model) or len(weights) != expected or len(transforms) != len(bones.parents):
            raise HeadsplatError("The avatar's network does not belong to its Gaussians; it is damaged.")
        condition = torch.from_numpy(bones.condition(weights, transforms))
        viewer = torch.from_numpy((bones.to_head(transforms, eye) - centre) / np.float32(half))
        blended = None
        if model.config.blendshapes:  # the rig has done them
            blended = torch.from_numpy(np.ascontiguousarray((rest.means - centre) / half, np.float32))
        posed = model(condition, torch.from_numpy(weights), viewer, blended)
        return Gaussians(
            (posed.means.numpy() * half + centre).astype(np.float32),
            posed.quats.numpy(),
            (posed.scales.numpy() * half).astype(np.float32),
            posed.opacities.numpy(),
            posed.features.numpy(),
        )

    return run


def _build(network: Network) -> tuple[GaussianHead, Bones, np.ndarray, float]:
    """The model, its bones, the scene's centre and half; errors of many kinds where the file is damaged."""
    told, values = network.config, network.config["settings"]
    config = GaussianHeadConfig.from_json(values)
    if any(not 0 <= getattr(config, name) <= limit for name, limit in _LIMITS.items()):
        raise ValueError("its settings are out of range")
    tensors = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in network.tensors.items()}
    if any(plane.numel() > 2**28 for plane in tensors.values()) or max(config.resolutions) > 4096:
        raise ValueError("its tensors are out of range")
    names, parents = tuple(told["joints"]), np.array(told["parents"], np.int32)
    numbers = [int(j) for j in told["told"]]
    if not (len(names) == len(parents) and all(0 < j < len(names) for j in [*numbers, int(told["head"])])):
        raise ValueError("its joints are out of range")
    if not all(-1 <= p < j for j, p in enumerate(parents)) or any(parents[j] < 0 for j in numbers):
        raise ValueError("its joints do not come after their parents")
    bones = Bones(names, parents, np.zeros((len(names), 3), np.float32), int(told["head"]), tuple(numbers))
    centre, half = np.array(told["centre"], np.float32), float(told["half"])
    if centre.shape != (3,) or not 0 < half < 1e4 or not 0 <= int(told["expressions"]) < 10_000:
        raise ValueError("its scene has no size")
    points = {k.removeprefix("points."): v for k, v in tensors.items() if k.startswith("points.")}
    count = len(points["means"])
    nothing = torch.zeros(count, 0)
    with torch.device("meta"):  # settings cost no memory before tensors of their sizes are there
        model = GaussianHead(
            config,
            int(told["expressions"]) + 3 * len(numbers),
            points,
            nothing,
            nothing,
            rotations=tensors.get("rotations"),
            face=tensors.get("face"),
        )
    _expect_shapes(config, points, count)
    face = tensors.get("face")
    if (face is None) != (config.field_on == "all") or (face is not None and face.shape != (count,)):
        raise ValueError("it does not say which Gaussians are of the face")
    model.load_state_dict({**tensors, "skin_joints": nothing, "skin_weights": nothing}, assign=True)
    return model.eval().requires_grad_(False), bones, centre, half


def _expect_shapes(config: GaussianHeadConfig, points: dict[str, torch.Tensor], count: int) -> None:
    bases = (config.sh_degree + 1) ** 2
    groups = points["derivations"].shape[1] if "derivations" in points else 0
    wanted: dict[str, tuple[int, ...]] = {
        "means": (count, 3),
        "log_scales": (count, 3),
        "quats": (count, 4),
        "derivations": (count, groups, 4),
        "opacity_logits": (count,),
        "coefficients": (count, bases, 3),
    }
    for name, value in points.items():
        if tuple(value.shape) != wanted.get(name) or (groups and config.channels % groups):
            raise ValueError(f"{name} has the shape {tuple(value.shape)}")
