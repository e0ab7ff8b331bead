"""The order of lift's steps: from tracked photos to an avatar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.gaussians import Gaussians, quat_to_matrix
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.extend import INSET, extend
from headsplat.methods.lift.glasses import find_glasses, lift_glasses
from headsplat.methods.lift.hair import grow_hair, hair_shown, read_style
from headsplat.methods.lift.lids import open_lids
from headsplat.methods.lift.loose import Loose, join, pick, to_rest
from headsplat.methods.lift.numeric import smoothstep
from headsplat.methods.lift.outline import fit_outline
from headsplat.methods.lift.refine import Changes, Freedom, Shot, refine, ssim_map
from headsplat.methods.lift.rig import assemble
from headsplat.methods.lift.segment import Sight, segment
from headsplat.methods.lift.sheets import lift_hair_of, lift_sheets
from headsplat.methods.lift.surface import Surface, lift_surface
from headsplat.methods.lift.tone import match_tone
from headsplat.methods.lift.view import look_at_photo
from headsplat.methods.lift.volume import HairVolume, measure_hair
from headsplat.raster import rasterize

GREY = 0.38
"""Background over which a fit is measured."""
_INTRINSICS = ((0, 0), (1, 1), (0, 2), (1, 2))
HIDDEN = 0.04
"""Largest change of a colour that several photos may teach to what none of them shows."""
MORE_STEPS = 0.6
"""Refinement steps for each photo after the first, as a share of those for the first."""


def reconstruct(
    frames: Frame | Sequence[Frame],
    config: LiftConfig | None = None,
    *,
    model: HeadModel | None = None,
    progress: Callable[[float], None] | None = None,
) -> Avatar:
    """Turn one or several tracked photos of a person into an avatar.

    Args:
        frames: from the tracker. Of several the first is the main one: its light and its clothes are the
            avatar's. All must share one identity (`headsplat.track.photos`).
        config: settings; default about 80,000 Gaussians and 80 refinement steps.
        model: the head model the frames were fitted with; default the bundled free head.
        progress: called with 0..1 as the work proceeds.

    Returns:
        The avatar; `info` holds `source_psnr` (dB inside the matte), `source_ssim` and `matte_iou` of its
        picture from the (main) photo's view, and for several photos `photo_psnr`, dB for each.
    """
    config = config or LiftConfig()
    tell = progress or (lambda _: None)
    frames = [frames] if isinstance(frames, Frame) else list(frames)
    sights = _sights(frames, open_lids(frames[0], model or load_free_head()), tell)
    frames = [frames[0], *(sight.view.frame for sight in sights[1:])]  # in the tone of the first
    view, segments = sights[0].view, sights[0].segments
    hair = measure_hair(sights)
    surface = lift_surface(sights, hair, config)
    tell(0.25)
    joints = [view.model.joint_names.index(name) for name in ("root", "neck", "head")]
    sheets = lift_sheets(view, segments, hair, config)
    if segments.glasses is not None:
        sheets = join([sheets, lift_glasses(view, segments.glasses, config)])
    parts = [to_rest(sheets, view.skin[joints])]
    if hair.presence.max() > 0.5:
        if not hair.cropped:
            parts += _more_hair(sights, hair, joints, config)
        grown = grow_hair(sights, hair, read_style(sights, hair, config.seed), config)
        parts += [grown] if grown is not None else []
    loose = join(parts)
    loose = pick(loose, loose.opacities > 0.02)
    avatar = assemble(view, surface, loose)
    tell(0.4)
    if config.refine:
        avatar = _refined(avatar, frames, surface, loose, config)
    tell(1.0)
    info: dict[str, Any] = measure_fit(avatar, frames[0])
    info["poses"] = [note_pose(frame) for frame in frames]
    if len(frames) > 1:
        info["photos"] = len(frames)
        info["photo_psnr"] = [round(measure_fit(avatar, frame)["source_psnr"], 2) for frame in frames]
    return replace(avatar, info={**avatar.info, **info})


def _sights(frames: list[Frame], model: HeadModel, tell: Callable[[float], None]) -> list[Sight]:
    """What the photos show, in the tone of the first, on one head that meets their outlines."""
    sights = []
    for i, frame in enumerate(frames):
        view = look_at_photo(frame, model)
        if i:
            view = match_tone(view, sights[0].view)
        sights.append(Sight(view, segment(view)))
        tell(0.12 * (i + 1) / len(frames))
    correction = fit_outline(sights)
    if correction is not None:
        sights = [replace(s, view=look_at_photo(s.view.frame, model, correction)) for s in sights]
    view, segments = extend(sights[0].view, sights[0].segments)
    segments = replace(segments, glasses=find_glasses(view, segments))
    return [Sight(view, segments), *sights[1:]]


def _more_hair(
    sights: list[Sight], hair: HairVolume, joints: list[int], config: LiftConfig
) -> Iterator[Loose]:
    """The hair that each photo after the first adds to those before it, at rest."""
    shown: np.ndarray | float = 0.0
    for i, sight in enumerate(sights if len(sights) > 1 else ()):
        more = hair_shown(sight, hair) * (1 - shown)
        shown = shown + more
        if i:
            yield to_rest(lift_hair_of(sight, hair, more, config), sight.view.skin[joints])


def photo_pose(avatar: Avatar, frame: Frame) -> Gaussians:
    """The avatar's Gaussians in the photo's expression and pose."""
    rotations = dict(zip(avatar.joints, frame.rotations, strict=True))
    return avatar.animate(frame.expression, rotations, frame.T_world_root)


def note_pose(frame: Frame) -> dict[str, Any]:
    """What it takes to draw the avatar as in a photo, as plain numbers for `info`; see `read_pose`."""
    camera = frame.camera
    viewmat = camera.viewmat @ frame.T_world_root
    return {
        "viewmat": [round(float(value), 5) for value in viewmat[:3].ravel()],
        "K": [round(float(camera.K[i, j]), 3) for i, j in _INTRINSICS],
        "size": [camera.width, camera.height],
        "expression": [round(float(value), 3) for value in frame.expression],
        "rotations": [round(float(value), 4) for value in frame.rotations.ravel()],
    }


def read_pose(avatar: Avatar, note: Any) -> tuple[Gaussians, Camera] | None:
    """The avatar's Gaussians and the camera of a photo by its `note_pose`; None if that is damaged."""
    try:
        viewmat, K = np.eye(4, dtype=np.float32), np.eye(3, dtype=np.float32)
        viewmat[:3] = np.array(note["viewmat"], np.float32).reshape(3, 4)
        K[tuple(zip(*_INTRINSICS, strict=True))] = np.array(note["K"], np.float32)
        width, height = (int(value) for value in note["size"])
        expression = np.array(note["expression"], np.float32)
        rotations = np.array(note["rotations"], np.float32).reshape(len(avatar.joints), 3)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    sound = all(np.isfinite(value).all() for value in (viewmat, K, expression, rotations))
    if not (sound and expression.shape == (len(avatar.expressions),) and 0 < K[0, 0] and K[1, 1] > 0):
        return None
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        return None
    posed = avatar.animate(expression, dict(zip(avatar.joints, rotations, strict=True)))
    return posed, Camera(viewmat, K, width, height)


def measure_fit(avatar: Avatar, frame: Frame) -> dict[str, float]:
    """How well the avatar repaints the photo: `source_psnr`, `source_ssim` in the matte, `matte_iou`."""
    drawn = rasterize(photo_pose(avatar, frame), frame.camera, background=GREY, depth=False)
    inside = (frame.alpha > 0.5) & learnable(frame)
    target = frame.foreground * frame.alpha[..., None] + (1 - frame.alpha[..., None]) * np.float32(GREY)
    error = ((drawn.image - target) ** 2).mean(-1)[inside].mean()
    solid = (drawn.alpha > 0.5) & learnable(frame)
    similarity = ssim_map(drawn.image, target.astype(np.float32)).mean(-1)[inside].mean()
    return {
        "source_psnr": float(-10 * np.log10(max(float(error), 1e-10))),
        "source_ssim": float(similarity),
        "matte_iou": float((solid & inside).sum() / max(int((solid | inside).sum()), 1)),
    }


def learnable(frame: Frame) -> np.ndarray:
    """(H, W) bool: inside the photo, and a little away from its edges, where mattes fade."""
    if frame.valid.all():
        return frame.valid
    padded = np.pad(
        frame.valid.astype(np.uint8), 1, mode="edge"
    )  # the crop's own edge is no edge of the photo
    return cv2.erode(padded, np.ones((2 * INSET + 1,) * 2))[1:-1, 1:-1] > 0


def _refined(
    avatar: Avatar, frames: list[Frame], surface: Surface, loose: Loose, config: LiftConfig
) -> Avatar:
    on_mesh = len(surface.face)
    count = len(avatar)
    lock, near_eye, tied = np.zeros(count), np.zeros(count), np.zeros(count)
    lock[:on_mesh], near_eye[:on_mesh] = surface.lock, surface.near_eye
    tied[:on_mesh] = np.maximum(0.94 * surface.blink, 0.85 * surface.fringe)
    trust = np.concatenate([surface.trust, loose.trust])
    freedom = Freedom(
        colour=(1 - np.clip(lock, 0, 1)) * trust,
        shape=np.clip(1 - 0.9 * lock, 0, 1) * np.clip(0.25 + trust, 0, 1),
        stay=np.where(np.arange(count) < on_mesh, 0.03, 0.015)
        + 0.25 * near_eye * smoothstep(lock, 0.02, 0.3),
        reach=1 - tied,
    )
    if len(frames) > 1:
        # Hidden layers shine through a little in each of many steps, and would end up in the colours of rims.
        freedom = replace(freedom, reach=np.minimum(freedom.reach, HIDDEN + 1.2 * trust**2))
    shots = [
        Shot(photo_pose(avatar, frame), frame.camera, frame.foreground, frame.alpha, learnable(frame))
        for frame in frames
    ]
    steps = round(config.refine * (1 + MORE_STEPS * (len(frames) - 1)))
    return apply_changes(avatar, refine(shots, freedom, steps, config.seed))


def apply_changes(avatar: Avatar, changes: Changes) -> Avatar:
    """Carry changes found in the photo's pose back to rest: both are in a Gaussian's own axes."""
    g, i = avatar.gaussians, changes.index
    means, scales = g.means.copy(), g.scales.copy()
    opacities, colours = g.opacities.copy(), g.features.copy()
    axes = quat_to_matrix(g.quats[i])
    means[i] += np.einsum("nij,nj->ni", axes, changes.offsets).astype(np.float32)
    scales[i] *= np.exp(changes.log_scales)
    opacities[i], colours[i] = changes.opacities, changes.colours
    return replace(avatar, gaussians=Gaussians(means, g.quats, scales, opacities, colours))
