"""LAM's training step: frames of one person, one of them the source, and the paper's loss (section 3.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from headsplat import losses
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.gaussians import Gaussians
from headsplat.methods.lam.config import LamConfig
from headsplat.methods.lam.model import Lam, Prediction
from headsplat.methods.lam.preprocess import source_image
from headsplat.methods.lam.rig import Pose, Rig
from headsplat.raster import rasterize


@dataclass(frozen=True)
class TrainConfig:
    """Weights of the loss, and the optimiser.

    Attributes:
        pixel: weight of the absolute colour difference (lambda 1).
        perceptual: weight of the perceptual distance (lambda 2).
        mask: weight of the silhouette's absolute difference (lambda 3).
        offset: weight of the offset penalty (lambda 4).
        free_offset: offsets up to this length cost nothing, metres (epsilon of equation 9).
        wrinkles: weight of the mean size of expression-dependent colours.
        corrections: weight of the mean square of corrections of tracked poses.
        frames: frames per sample, the source among them (N_f).
        learning_rate: at its peak.
        point_rate: factor on the learning rate of learned queries: the points' own features, the planes.
        warmup: steps until the peak.
        betas: of AdamW: how slowly its means of the gradient and of its square forget.
        weight_decay: of AdamW.
        clip_gradients: longest gradient, over all parameters.
        backgrounds: grey levels behind the person, one drawn per sample.
    """

    pixel: float = 1.0
    perceptual: float = 1.0
    mask: float = 1.0
    offset: float = 0.1
    free_offset: float = 0.0
    wrinkles: float = 0.01
    corrections: float = 0.1
    frames: int = 8
    learning_rate: float = 4e-4
    point_rate: float = 10.0
    warmup: int = 3000
    betas: tuple[float, ...] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_gradients: float = 1.0
    backgrounds: tuple[float, ...] = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Source:
    """What the network sees of a person, as tensors.

    Attributes:
        image: (3, S, S) RGB 0..1 on the background.
        betas: (<= S,) shape weights of the head model.
        pose: the head's pose in the image; one frame.
        camera: of the image before it was resized.
    """

    image: Tensor
    betas: Tensor
    pose: Pose
    camera: Camera

    def to(self, device: torch.device | str) -> Source:
        """The same with its tensors on another device."""
        pose = Pose(*(part.to(device) for part in self.pose))
        return replace(self, image=self.image.to(device), betas=self.betas.to(device), pose=pose)


@dataclass(frozen=True)
class Target:
    """F pictures to match.

    Attributes:
        images: (F, H, W, 3) RGB 0..1 on the background.
        alphas: (F, H, W) mattes.
        valid: (F, H, W) 1 where there is a picture, else 0.
        pose: F frames.
        cameras: F cameras.
        background: grey level.
    """

    images: Tensor
    alphas: Tensor
    valid: Tensor
    pose: Pose
    cameras: tuple[Camera, ...]
    background: float

    def to(self, device: torch.device | str) -> Target:
        """The same with its tensors on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("images", "alphas", "valid")}
        return replace(self, pose=Pose(*(part.to(device) for part in self.pose)), **moved)


def source_of(frame: Frame, config: LamConfig, background: float = 1.0) -> Source:
    """The network's view of a tracked picture."""
    return Source(
        torch.from_numpy(source_image(frame, config.image_size, background)).permute(2, 0, 1),
        torch.from_numpy(frame.shape),
        pose_of([frame]),
        frame.camera,
    )


def target_of(frames: Sequence[Frame], background: float = 1.0) -> Target:
    """Tracked pictures of one person as training targets."""
    composed = [f.foreground * f.alpha[..., None] + background * (1 - f.alpha[..., None]) for f in frames]
    return Target(
        torch.from_numpy(np.stack(composed).astype(np.float32)),
        torch.from_numpy(np.stack([f.alpha for f in frames])),
        torch.from_numpy(np.stack([f.valid for f in frames]).astype(np.float32)),
        pose_of(frames),
        tuple(f.camera for f in frames),
        background,
    )


def pose_of(frames: Sequence[Frame]) -> Pose:
    """The head parameters of tracked pictures."""
    parts = zip(*((f.expression, f.rotations, f.T_world_root) for f in frames), strict=True)
    return Pose(*(torch.from_numpy(np.stack(part).astype(np.float32)) for part in parts))


def predict(model: Lam, rig: Rig, source: Source) -> Prediction:
    """Neutral Gaussians of one person, whatever space the network works in; batch of one."""
    config = model.config
    betas = source.betas
    points = rig.points(betas)[None]
    painted_at = None
    if config.context == "painted":
        painted_at = _in_picture(rig.pose_points(points[0], betas, source.pose), source.camera)
    if config.space == "posed":
        points = rig.pose_points(points[0], betas, source.pose)
    prediction = model(source.image[None], points, painted_at)
    if config.space == "posed":
        means = rig.unpose_points(prediction.means, betas, source.pose)
        quats = rig.unturn(prediction.quats, betas, source.pose)
        prediction = prediction._replace(means=means, quats=quats)
    return prediction


def loss_parts(
    rig: Rig,
    prediction: Prediction,
    betas: Tensor,
    target: Target,
    settings: TrainConfig,
    perceptual: losses.Perceptual,
) -> dict[str, Tensor]:
    """The means of the loss terms, not weighted, and `psnr` (dB inside the matte) for the log."""
    clouds = rig.gaussians(prediction, betas, target.pose)
    drawn = [_draw(c, camera, target.background) for c, camera in zip(clouds, target.cameras, strict=True)]
    images, alphas = (torch.stack(part) for part in zip(*drawn, strict=True))
    valid = target.valid[..., None]
    images = images * valid + target.images * (1 - valid)
    parts = {
        "pixel": losses.l1(images, target.images).mean(),
        "perceptual": perceptual.distance(images, target.images).mean(),
        "mask": (losses.l1(alphas, target.alphas) * target.valid).mean(),
        "offset": losses.offset_penalty(prediction.offsets, settings.free_offset).mean(),
    }
    if prediction.wrinkles is not None:
        parts["wrinkles"] = prediction.wrinkles.abs().mean()
    with torch.no_grad():
        inside = (target.alphas > 0.5) & (target.valid > 0)
        error = losses.l2(images, target.images).mean(-1)[inside].mean()
        parts["psnr"] = -10 * torch.log10(error.clamp(min=1e-10))
    return parts


def total_loss(parts: dict[str, Tensor], settings: TrainConfig) -> Tensor:
    """Equation 10: the weighted sum of the terms."""
    weights = {name: getattr(settings, name) for name in parts if name != "psnr"}
    return torch.stack([weight * parts[name] for name, weight in weights.items()]).sum()


def optimizer_of(model: Lam, settings: TrainConfig) -> torch.optim.Optimizer:
    """AdamW on what is not frozen; norms, biases and learned queries (of points or planes) do not decay."""
    free = {name: p for name, p in model.named_parameters() if p.requires_grad}
    own = [free.pop(name) for name in ("point_features", "planes") if name in free]
    groups = [
        {"params": [p for p in free.values() if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in free.values() if p.ndim < 2], "weight_decay": 0.0},
        {"params": own, "weight_decay": 0.0, "factor": settings.point_rate},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.betas[0], settings.betas[1]))


def learning_rate(step: int, steps: int, settings: TrainConfig) -> float:
    """Linear from zero over the warm-up, then half a cosine down to zero after `steps`."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(steps - settings.warmup, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def train_step(
    model: Lam,
    rig: Rig,
    optimizer: torch.optim.Optimizer,
    sample: tuple[Source, Target],
    rate: float,
    settings: TrainConfig,
    perceptual: losses.Perceptual,
    precision: torch.dtype = torch.float32,
    corrections: Tensor | None = None,
) -> dict[str, float]:
    """One step of optimisation, in place.

    Args:
        model: on the rig's device.
        rig: of the head model that the sample was tracked with.
        optimizer: from `optimizer_of`.
        sample: what to reconstruct from, and what it should look like.
        rate: of learning, from `learning_rate`.
        settings: of loss and optimiser.
        perceptual: what tells pictures apart as eyes do.
        precision: of the network's arithmetic; posing, drawing and the loss stay in float32.
        corrections: mean square of what was added to the sample's poses, if they are learned too.

    Returns:
        `loss`, its terms before weighting, and `psnr`.
    """
    source, target = sample
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    with torch.autocast(rig.template.device.type, precision, enabled=precision != torch.float32):
        prediction = predict(model, rig, source)
    parts = loss_parts(rig, prediction, source.betas, target, settings, perceptual)
    if corrections is not None:
        parts["corrections"] = corrections
    loss = total_loss(parts, settings)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_gradients)
    optimizer.step()
    return {"loss": loss.item(), **{name: value.item() for name, value in parts.items()}}


def _draw(cloud: Gaussians, camera: Camera, background: float) -> tuple[Tensor, Tensor]:
    drawn = rasterize(cloud, camera, background=background, depth=False)
    return drawn.image, drawn.alpha


def _in_picture(points: Tensor, camera: Camera) -> Tensor:
    """(..., 2) where (..., 3) world points are in a camera's picture, -1..1 from border to border."""
    view = torch.as_tensor(camera.viewmat, dtype=points.dtype, device=points.device)
    K = torch.as_tensor(camera.K, dtype=points.dtype, device=points.device)
    seen = points @ view[:3, :3].T + view[:3, 3]
    pixels = seen @ K.T
    size = points.new_tensor([camera.width, camera.height])
    return 2 * pixels[..., :2] / pixels[..., 2:] / size - 1
