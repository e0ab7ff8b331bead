"""A trained GaussianHead as an avatar: rigged Gaussians at rest, and the networks that deform them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.gaussians import Gaussians
from headsplat.methods.gaussianhead.pictures import spread
from headsplat.networks import Network
from headsplat.raster import rasterize

if TYPE_CHECKING:
    from headsplat.methods.gaussianhead.learn import Learner

LEAST_MOVE = 2e-5
"""Metres; blendshapes that move a Gaussian less are not stored."""
SEEN_VIEWS = 12


def create_avatar(learner: Learner) -> Avatar:
    """The avatar of what has been learned.

    Its Gaussians at rest are those of a neutral face seen from the front, for readers without the network;
    with blendshapes their centres are the ones that the blendshapes start from.
    """
    scene, model = learner.scene, learner.model
    model.degree, model.deforming = learner.config.sh_degree, True
    expressions, half = scene.dataset.expressions, scene.half
    seen = seen_share(learner)
    kept = np.flatnonzero(seen >= learner.config.least_seen)
    kept = kept if len(kept) else np.arange(len(model))
    blend = np.zeros((len(expressions), len(kept), 3), np.float32)
    if model.blend is not None:
        blend = _numpy(model.blend)[kept].transpose(2, 0, 1) * half
    with torch.no_grad():
        device = learner.device
        neutral = torch.zeros(len(expressions) + 3 * len(scene.bones.told), device=device)
        eye = torch.tensor([0.0, 0.0, 5.0], device=device)
        rest = model(neutral, neutral[: len(expressions)], eye)
    means = _numpy(model.points["means"] if model.blend is not None else rest.means)
    gaussians = Gaussians(
        means[kept] * half + scene.centre,
        _numpy(rest.quats)[kept],
        _numpy(rest.scales)[kept] * half,
        _numpy(rest.opacities)[kept],
        _numpy(rest.features)[kept].clip(0, 1),
    )
    return Avatar(
        gaussians=gaussians.check(),
        skin_joints=_numpy(model.skin_joints)[kept].astype(np.uint8),
        skin_weights=_numpy(model.skin_weights)[kept],
        joints=scene.bones.names,
        parents=scene.bones.parents,
        joint_rest=scene.bones.rest.astype(np.float32),
        expressions=expressions,
        expression_means=SparseOffsets.from_dense(blend, LEAST_MOVE),
        seen=seen[kept].clip(0, 1),
        view_target=scene.centre.astype(np.float32),
        view_height=float(2 * half),
        method="gaussianhead",
        source=str(scene.dataset.info.get("source", "")),
        info=_facts(learner),
        deformer=as_network(learner, kept),
    )


def as_network(learner: Learner, kept: np.ndarray) -> Network:
    """The trained networks and what belongs to each of the `kept` Gaussians, as plain arrays.

    Tensors are half floats, but for centres, whose last digit is a tenth of a millimetre there.
    """
    scene, model = learner.scene, learner.model
    tensors = {}
    for name, value in model.state_dict().items():
        if name in ("blend", "skin_joints", "skin_weights"):
            continue
        array = _numpy(value)
        if name == "face" or name.startswith("points."):
            array = array[kept]
        tensors[name] = array if name == "points.means" else array.astype(np.float16)
    config: dict[str, Any] = {
        "settings": learner.config.to_json(),
        "centre": [float(v) for v in scene.centre],
        "half": float(scene.half),
        "joints": list(scene.bones.names),
        "parents": [int(p) for p in scene.bones.parents],
        "head": scene.bones.head,
        "told": list(scene.bones.told),
        "expressions": len(scene.dataset.expressions),
    }
    return Network("gaussianhead", config, tensors)


def seen_share(learner: Learner) -> np.ndarray:
    """(N,) how many pixels each Gaussian painted in the view that shows most of it, of a dozen views."""
    most = torch.zeros(len(learner.model), device=learner.device)

    for number in spread(learner.train, SEEN_VIEWS):
        sample = learner.pictures[number]
        with torch.no_grad():
            cloud = learner.world(sample)
        ones = torch.ones_like(cloud.features[:, :1]).requires_grad_()
        drawn = rasterize(
            Gaussians(cloud.means, cloud.quats, cloud.scales, cloud.opacities, ones), sample.camera
        )
        drawn.image.sum().backward()
        assert ones.grad is not None
        most = torch.maximum(most, ones.grad[:, 0])
    return _numpy(most)


def _facts(learner: Learner) -> dict[str, Any]:
    dataset = learner.scene.dataset
    facts: dict[str, Any] = {
        "recording": dataset.root.name,
        "views": len(learner.train),
        "perceptual": learner.perceptual.name,
    }
    if dataset.head == "free":
        facts["head"] = {"model": "free", "shape": [round(float(b), 5) for b in dataset.shape]}
    return facts


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
