"""From a tracked photo to an avatar: one forward pass, then nothing but a rig."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.head.normals import vertex_normals
from headsplat.methods.lam.model import Lam, Prediction
from headsplat.methods.lam.preprocess import head_square, source_image
from headsplat.methods.lam.rig import Rig
from headsplat.methods.lam.train import Source, predict, source_of
from headsplat.methods.lam.weights import load_lam
from headsplat.raster import rasterize

LEAST_MOVE = 5e-5
"""Metres below which an expression's effect on a centre is not stored."""
LEAST_TINT = 2 / 255
"""Colour change below which an expression's effect is not stored."""
TWO_EDITIONS = 1e-5
"""Metres by which the templates of two copies of one edition of FLAME may differ."""


def reconstruct(
    frame: Frame,
    weights: str | os.PathLike[str],
    *,
    flame: HeadModel | None = None,
    betas: np.ndarray | None = None,
    device: str = "cpu",
) -> Avatar:
    """Turn a tracked photo into an avatar with a LAM checkpoint.

    Args:
        frame: from the tracker; 1024 pixels suit the released weights.
        weights: the .safetensors file: the released LAM-20K or one of ours.
        flame: FLAME 2023, for checkpoints on FLAME; not needed if the file holds a copy.
        betas: (<= 300,) FLAME shape weights of this person if known; default the mean head, to which the
            predicted offsets then add all shape. Checkpoints on the free head use the tracked shape.
        device: "cpu" or "cuda".

    Returns:
        The avatar; `info` says which weights and, for the released ones, their licence.

    Raises:
        HeadsplatError: unusable weights, FLAME missing or of another edition, another head, or too many shape
            weights.
    """
    model, in_file = load_lam(weights)
    config = model.config
    if config.head == "flame":
        head = _same_edition(in_file, flame, weights)
        image = source_image(head_square(frame), config.image_size)
        shape = np.zeros(0, np.float32) if betas is None else np.asarray(betas, np.float32)
        if shape.ndim != 1 or len(shape) > len(head.shape_basis):
            raise HeadsplatError(
                f"The shape weights have shape {shape.shape}; give at most {len(head.shape_basis)} numbers."
            )
        info = {
            "head": {"model": "flame", "shape": [round(float(beta), 5) for beta in shape]},
            "licence": "made with LAM-20K: CC BY-NC 4.0, non-commercial use only",
        }
    else:
        head, info = load_free_head(), {}
    rig = Rig.of(head, config).to(device)
    if config.point_features not in (0, len(rig.template)):
        raise HeadsplatError(
            f"{weights} was trained on a head of {config.point_features:,} points, and this one has "
            f"{len(rig.template):,}; train it again."
        )
    if config.head == "free":
        avatar = avatar_of(model.to(device), rig, frame, device=device)
    else:
        source = Source(
            image=torch.from_numpy(image).permute(2, 0, 1),
            betas=torch.from_numpy(shape.copy()),
            pose=rig.rest(),
            camera=_in_front(head),
        )
        avatar = _bake(model.to(device), rig, source, None, frame.source, device)
    avatar.info.update(weights=Path(weights).name, **info)
    return avatar


def avatar_of(model: Lam, rig: Rig, frame: Frame, *, device: str = "cpu") -> Avatar:
    """The avatar of a picture that was tracked with the head of the rig.

    Args:
        model: on the device, in evaluation mode.
        rig: on the device.
        frame: the picture.
        device: "cpu" or "cuda".

    Returns:
        The avatar; `info` says how well it repaints its picture.
    """
    source = source_of(frame, model.config)
    avatar = _bake(model, rig, source, frame.alpha, frame.source, device)
    avatar.info.update(measure_fit(avatar, frame))
    return avatar


def _bake(model: Lam, rig: Rig, source: Source, alpha: np.ndarray | None, digest: str, device: str) -> Avatar:
    source = source.to(device)
    with torch.inference_mode():
        prediction = predict(model, rig, source)
        posed = rig.pose_points(prediction.means[0], source.betas, source.pose)[0]
    seen = seen_share(_numpy(posed), rig.head.faces, source.camera, alpha)
    return create_avatar(rig, prediction, _numpy(source.betas), seen=seen, source=digest)


def measure_fit(avatar: Avatar, frame: Frame) -> dict[str, float]:
    """How well the avatar repaints its photo: `source_psnr` (dB) inside the matte, and `matte_iou`."""
    turned = dict(zip(avatar.joints, frame.rotations, strict=True))
    posed = avatar.animate(frame.expression, turned, frame.T_world_root)
    drawn = rasterize(posed, frame.camera, background=1.0, depth=False)
    target = frame.foreground * frame.alpha[..., None] + (1 - frame.alpha[..., None])
    inside, solid = (frame.alpha > 0.5) & frame.valid, (drawn.alpha > 0.5) & frame.valid
    error = ((drawn.image - target) ** 2).mean(-1)[inside].mean()
    return {
        "source_psnr": float(-10 * np.log10(max(float(error), 1e-10))),
        "matte_iou": float((solid & inside).sum() / max(int((solid | inside).sum()), 1)),
    }


def create_avatar(
    rig: Rig, prediction: Prediction, betas: np.ndarray, *, seen: np.ndarray, source: str = ""
) -> Avatar:
    """Bake the first head of a prediction into an avatar; the order of the Gaussians is the rig's.

    Avatars turn their Gaussians with the skin and keep their joints still under expressions, whatever the
    settings say for training; see README.md for what that changes.

    Args:
        rig: what the prediction's points came from.
        prediction: neutral Gaussians.
        betas: (<= S,) shape weights of the person.
        seen: (N,) 0..1 how much of each Gaussian the source showed.
        source: SHA-256 of the source file.
    """
    head = rig.head
    rest = head.with_shape(betas)
    parts = ("means", "quats", "scales", "opacities", "colours")
    gaussians = Gaussians(*(_numpy(getattr(prediction, name)[0]) for name in parts))
    joints = np.argsort(-head.skin_weights, axis=1, kind="stable")[:, :4]
    skin = np.take_along_axis(head.skin_weights, joints, 1)
    appearance = None
    if prediction.wrinkles is not None:
        tints = _numpy(prediction.wrinkles[0]).transpose(1, 0, 2)
        tints = np.concatenate([tints, np.zeros_like(tints[..., :1])], -1)
        appearance = SparseOffsets.from_dense(tints, LEAST_TINT)
    target, height = _portrait(head)
    return Avatar(
        gaussians=gaussians.check(),
        skin_joints=joints.astype(np.uint8),
        skin_weights=(skin / skin.sum(1, keepdims=True)).astype(np.float32),
        joints=head.joint_names,
        parents=head.parents.astype(np.int32),
        joint_rest=rest.joints.astype(np.float32),
        expressions=head.expression_names,
        expression_means=SparseOffsets.from_dense(head.expression_basis, LEAST_MOVE),
        expression_appearance=appearance,
        seen=seen.astype(np.float32),
        view_target=target,
        view_height=height,
        method="lam",
        source=source,
    )


def seen_share(points: np.ndarray, faces: np.ndarray, camera: Camera, alpha: np.ndarray | None) -> np.ndarray:
    """(N,) 0..1: how squarely the surface at (N, 3) posed points faced the camera, 0 outside the matte.

    What hides behind other parts of the head counts as seen: the points lie on one surface, so it is little.
    """
    towards = camera.position - points
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = np.clip(2 * (vertex_normals(points, faces) * towards).sum(1), 0, 1)
    if alpha is not None:
        pixels = np.floor(camera.project(points)[:, :2]).astype(int)
        inside = ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(1)
        columns, rows = np.clip(pixels, 0, [camera.width - 1, camera.height - 1]).T
        facing *= alpha[rows, columns] * inside
    return facing


def _same_edition(
    in_file: HeadModel | None, given: HeadModel | None, weights: str | os.PathLike[str]
) -> HeadModel:
    """The checkpoint's own copy of FLAME, or the user's; both together must be one edition."""
    head = in_file or given
    if head is None:
        raise HeadsplatError(
            f"{weights} needs the FLAME 2023 head model; download flame2023.pkl from the FLAME site and give "
            "it with --flame."
        )
    if in_file is not None and given is not None:
        same = len(in_file) == len(given)
        if not same or np.abs(in_file.template - given.template).max() > TWO_EDITIONS:
            raise HeadsplatError(
                f"The FLAME file is not the edition that {weights} was trained with; leave --flame out, "
                "or give flame2023.pkl."
            )
    return head


def _in_front(head: HeadModel) -> Camera:
    """A camera a metre in front of a head whose pose in the photo is not known."""
    target, _ = _portrait(head)
    return Camera.orbit(target=target, distance=1.0)


def _portrait(head: HeadModel) -> tuple[np.ndarray, float]:
    """What to look at and how many metres to show: the free head's portrait, else the whole model."""
    if "head" in head.joint_names:
        return np.zeros(3, np.float32), 0.44
    low, high = head.template.min(0), head.template.max(0)
    return ((low + high) / 2).astype(np.float32), float(1.3 * (high - low)[1])


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
