"""From a tracked photo to an avatar: lifted once, then only the head model, splatting and the renderer."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel, ShapedHead
from headsplat.head.normals import vertex_normals
from headsplat.methods.gagavatar.align import fit_flame
from headsplat.methods.gagavatar.flame import FlameWithEye
from headsplat.methods.gagavatar.geometry import lifting_plane
from headsplat.methods.gagavatar.model import Gagavatar
from headsplat.methods.gagavatar.preprocess import released_square
from headsplat.methods.gagavatar.subject import head_camera, source_picture, still_head
from headsplat.methods.gagavatar.weights import load_gagavatar
from headsplat.nets.styleunet import Noise
from headsplat.networks import Network
from headsplat.raster import THREE_DGS

LEAST_MOVE = 5e-5
"""Metres below which an expression's effect on a centre is not stored."""


def reconstruct(
    frame: Frame,
    weights: str | os.PathLike[str],
    *,
    flame: FlameWithEye | None = None,
    noise: Noise = "buffer",
    device: str = "cpu",
) -> Avatar:
    """Turn a tracked photo into an avatar with a GAGAvatar checkpoint.

    Args:
        frame: from the tracker.
        weights: the released GAGAvatar.pt or a .safetensors file of ours.
        flame: the content of FLAME_with_eye.pt, for checkpoints on FLAME.
        noise: of the released renderer. Its authors draw it anew for every picture ("random"), which
            flickers; the stored maps are one such draw.
        device: "cpu" or "cuda".

    Returns:
        The avatar; it carries the neural renderer as its refiner.

    Raises:
        HeadsplatError: unusable weights, or FLAME missing.
    """
    model = load_gagavatar(weights, noise).to(device)
    config = model.config
    info: dict[str, Any] = {"weights": Path(weights).name}
    on_black = (frame.foreground * frame.alpha[..., None]).astype(np.float32)
    head = load_free_head()
    tracked = head.with_shape(frame.shape)
    _, pose = still_head(tracked, frame.expression, frame.rotations, frame.T_world_root, config.units)
    camera = head_camera(frame.camera, pose, config.units)
    if config.head == "flame":
        if flame is None:
            raise HeadsplatError(
                f"{weights} needs FLAME with points on the irises; get FLAME_with_eye.pt where the weights "
                "came from and give it with --flame."
            )
        picture, matte, landmarks = released_square(frame, on_black)
        fit = fit_flame(flame, landmarks, camera)
        shaped, camera = flame.head.with_shape(fit.shape), fit.camera
        info |= {"head": {"model": "flame", "shape": [round(float(b), 5) for b in fit.shape]}}
    else:
        if config.points != len(head):
            raise HeadsplatError(
                f"{weights} was trained on a head of {config.points:,} vertices, and this one has "
                f"{len(head):,}; train it again."
            )
        shaped, picture, matte = tracked, on_black, frame.alpha
    image = source_picture(torch.from_numpy(picture).to(device), config.image_size)
    avatar = avatar_of(model, shaped, image, camera, matte=torch.from_numpy(matte), source=frame.source)
    avatar.info.update(info)
    return avatar


def avatar_of(
    model: Gagavatar, shaped: ShapedHead, image: Tensor, camera: Camera, *, matte: Tensor, source: str = ""
) -> Avatar:
    """Lift a picture and bind what it gives to a head.

    Args:
        model: the network.
        shaped: the person's head.
        image: (1, 3, S, S) what the encoder sees.
        camera: of the picture, the head standing still, network units.
        matte: (H, W) of the picture at any size.
        source: SHA-256 of the source file.
    """
    config, head = model.config, shaped.model
    with torch.inference_mode():
        made = model.reconstruct(image, [camera])
        vertices = torch.from_numpy(config.units * shaped.vertices).to(image)
        cloud = model.gaussians(made, vertices)
    means, quats, scales, opacities, features = (
        _numpy(x) for x in (cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.features)
    )
    if config.renderer is None:
        features = features[:, :3].clip(0, 1)
    # Those fainter than a rasterizer's threshold are never drawn.
    kept = np.flatnonzero(opacities >= THREE_DGS.alpha_min)
    joints, skin = _skin(head, len(means))
    basis = np.zeros((len(head.expression_names), len(means), 3), np.float32)
    basis[:, : len(head)] = head.expression_basis
    seen = _seen(shaped, means, config.units, camera, _numpy(matte), config.planes)
    target, height = _portrait(camera, config.units)
    gaussians = Gaussians(means / config.units, quats, scales / config.units, opacities, features)
    return Avatar(
        gaussians=Gaussians(*(getattr(gaussians, name)[kept] for name in vars(gaussians))).check(),
        skin_joints=joints[kept],
        skin_weights=skin[kept],
        joints=head.joint_names,
        parents=head.parents.astype(np.int32),
        joint_rest=shaped.joints.astype(np.float32),
        expressions=head.expression_names,
        expression_means=SparseOffsets.from_dense(basis[:, kept], LEAST_MOVE),
        seen=seen[kept],
        view_target=target,
        view_height=height,
        method="gagavatar",
        source=source,
        deformer=_correctives(head, kept),
        refiner=_refiner(model),
        info={"expression_points": int((kept < len(head)).sum())},
    )


def _refiner(model: Gagavatar) -> Network | None:
    if model.config.renderer is None:
        return None
    state = {k: v for k, v in model.upsampler.state_dict().items() if not k.startswith("toRGB.")}
    config = {**asdict(model.config.renderer), "spare": False}
    return Network(
        "gagavatar",
        {"renderer": {**config, "widths": list(config["widths"])}, "matte": model.config.matte},
        {k: _numpy(v).astype(np.float16) for k, v in state.items()},
    )


def _correctives(head: HeadModel, kept: np.ndarray) -> Network | None:
    """What FLAME's joints do to its surface beside turning it; the avatar's rig cannot say it."""
    if head.pose_basis is None:
        return None
    basis = head.pose_basis[:, kept[kept < len(head)]].astype(np.float16)
    return Network("gagavatar", {"parents": head.parents.tolist()}, {"pose_basis": basis})


def _skin(head: HeadModel, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest joints of each vertex, (N, 4) and (N, 4); what was lifted hangs on the skull."""
    strongest = np.argsort(-head.skin_weights, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(head.skin_weights, strongest, 1)
    joints = np.zeros((count, 4), np.uint8)
    joints[:] = head.joint_names.index("head" if "head" in head.joint_names else "neck")
    skin = np.zeros((count, 4), np.float32)
    skin[:, 0] = 1
    joints[: len(head)] = strongest
    skin[: len(head)] = weights / weights.sum(1, keepdims=True)
    return joints, skin


def _seen(
    shaped: ShapedHead, means: np.ndarray, units: float, camera: Camera, matte: np.ndarray, planes: int
) -> np.ndarray:
    """(N,) 0..1: vertices as far as they face the source, the nearer plane as its matte, the farther 0."""
    height, width = matte.shape
    pixels = camera.project(means)[:, :2] / [camera.width, camera.height] * [width, height]
    inside = ((pixels >= 0) & (pixels < [width, height])).all(1)
    columns, rows = np.clip(pixels.astype(int), 0, [width - 1, height - 1]).T
    seen = matte[rows, columns] * inside
    count = len(shaped.vertices)
    towards = camera.position / units - shaped.vertices
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = (vertex_normals(shaped.vertices, shaped.model.faces) * towards).sum(1)
    seen[:count] *= np.clip(2 * facing, 0, 1)
    if planes == 2:
        seen[count : count + (len(means) - count) // 2] = 0
    return seen.astype(np.float32)


def _portrait(camera: Camera, units: float) -> tuple[np.ndarray, float]:
    """What the source picture shows: the middle of its lifting plane, and the plane's height, metres."""
    corners, _ = lifting_plane(camera, 2)
    corners = corners.numpy() / units
    return corners.mean(0).astype(np.float32), float(np.linalg.norm(corners[2] - corners[0]))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
