"""The order of lift's steps: from a tracked photo to an avatar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.gaussians import Gaussians, quat_to_matrix
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.extend import INSET, extend
from headsplat.methods.lift.glasses import find_glasses, lift_glasses
from headsplat.methods.lift.hair import grow_hair
from headsplat.methods.lift.loose import Loose, join, pick, to_rest
from headsplat.methods.lift.numeric import smoothstep
from headsplat.methods.lift.outline import fit_outline
from headsplat.methods.lift.refine import Changes, Freedom, refine, ssim_map
from headsplat.methods.lift.rig import assemble
from headsplat.methods.lift.segment import segment
from headsplat.methods.lift.sheets import lift_sheets
from headsplat.methods.lift.surface import Surface, lift_surface
from headsplat.methods.lift.view import look_at_photo
from headsplat.methods.lift.volume import measure_hair
from headsplat.raster import rasterize

GREY = 0.38
"""Background over which a fit is measured."""


def reconstruct(
    frame: Frame,
    config: LiftConfig | None = None,
    *,
    model: HeadModel | None = None,
    progress: Callable[[float], None] | None = None,
) -> Avatar:
    """Turn a tracked photo into an avatar.

    Args:
        frame: from the tracker.
        config: settings; default about 80,000 Gaussians and 40 refinement steps.
        model: the head model the frame was fitted with; default the bundled free head.
        progress: called with 0..1 as the work proceeds.

    Returns:
        The avatar; `info` holds `source_psnr` (dB inside the matte), `source_ssim` and `matte_iou` of its
        picture from the photo's view.
    """
    config = config or LiftConfig()
    tell = progress or (lambda _: None)
    view = look_at_photo(frame, model or load_free_head())
    segments = segment(view)
    view, segments = extend(fit_outline(view, segments), segments)
    segments = replace(segments, glasses=find_glasses(view, segments))
    tell(0.15)
    hair = measure_hair(view, segments)
    surface = lift_surface(view, segments, hair, config)
    tell(0.25)
    joints = [view.model.joint_names.index(name) for name in ("root", "neck", "head")]
    sheets = lift_sheets(view, segments, hair, config)
    if segments.glasses is not None:
        sheets = join([sheets, lift_glasses(view, segments.glasses, config)])
    loose = to_rest(sheets, view.skin[joints])
    grown = grow_hair(view, segments, hair, config)
    if grown is not None:
        loose = join([loose, grown])
    loose = pick(loose, loose.opacities > 0.02)
    avatar = assemble(view, surface, loose)
    tell(0.4)
    if config.refine:
        avatar = _refined(avatar, frame, surface, loose, config)
    tell(1.0)
    return replace(avatar, info={**avatar.info, **measure_fit(avatar, frame)})


def photo_pose(avatar: Avatar, frame: Frame) -> Gaussians:
    """The avatar's Gaussians in the photo's expression and pose."""
    rotations = dict(zip(avatar.joints, frame.rotations, strict=True))
    return avatar.animate(frame.expression, rotations, frame.T_world_root)


def measure_fit(avatar: Avatar, frame: Frame) -> dict[str, float]:
    """How well the avatar repaints the photo: `source_psnr`, `source_ssim` in the matte, `matte_iou`."""
    drawn = rasterize(photo_pose(avatar, frame), frame.camera, background=GREY, depth=False)
    inside = (frame.alpha > 0.5) & _learnable(frame)
    target = frame.foreground * frame.alpha[..., None] + (1 - frame.alpha[..., None]) * np.float32(GREY)
    error = ((drawn.image - target) ** 2).mean(-1)[inside].mean()
    solid = (drawn.alpha > 0.5) & _learnable(frame)
    similarity = ssim_map(drawn.image, target.astype(np.float32)).mean(-1)[inside].mean()
    return {
        "source_psnr": float(-10 * np.log10(max(float(error), 1e-10))),
        "source_ssim": float(similarity),
        "matte_iou": float((solid & inside).sum() / max(int((solid | inside).sum()), 1)),
    }


def _learnable(frame: Frame) -> np.ndarray:
    """(H, W) bool: inside the photo, and a little away from its edges, where mattes fade."""
    if frame.valid.all():
        return frame.valid
    padded = np.pad(
        frame.valid.astype(np.uint8), 1, mode="edge"
    )  # the crop's own edge is no edge of the photo
    return cv2.erode(padded, np.ones((2 * INSET + 1,) * 2))[1:-1, 1:-1] > 0


def _refined(avatar: Avatar, frame: Frame, surface: Surface, loose: Loose, config: LiftConfig) -> Avatar:
    on_mesh = len(surface.face)
    count = len(avatar)
    lock, near_eye, blink = np.zeros(count), np.zeros(count), np.zeros(count)
    lock[:on_mesh], near_eye[:on_mesh], blink[:on_mesh] = surface.lock, surface.near_eye, surface.blink
    trust = np.concatenate([surface.trust, loose.trust])
    freedom = Freedom(
        colour=(1 - np.clip(lock, 0, 1)) * trust,
        shape=np.clip(1 - 0.9 * lock, 0, 1) * np.clip(0.25 + trust, 0, 1),
        stay=np.where(np.arange(count) < on_mesh, 0.03, 0.015)
        + 0.25 * near_eye * smoothstep(lock, 0.02, 0.3),
        reach=1 - 0.94 * blink,
    )
    changes = refine(
        photo_pose(avatar, frame),
        frame.camera,
        frame.foreground,
        frame.alpha,
        _learnable(frame),
        freedom,
        config.refine,
        config.seed,
    )
    return _apply(avatar, changes)


def _apply(avatar: Avatar, changes: Changes) -> Avatar:
    """Carry changes found in the photo's pose back to rest: both are in a Gaussian's own axes."""
    g, i = avatar.gaussians, changes.index
    means, scales = g.means.copy(), g.scales.copy()
    opacities, colours = g.opacities.copy(), g.features.copy()
    axes = quat_to_matrix(g.quats[i])
    means[i] += np.einsum("nij,nj->ni", axes, changes.offsets).astype(np.float32)
    scales[i] *= np.exp(changes.log_scales)
    opacities[i], colours[i] = changes.opacities, changes.colours
    return replace(avatar, gaussians=Gaussians(means, g.quats, scales, opacities, colours))
