"""Refine an existing avatar with more photos of the same person: what was guessed is seen, the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial import KDTree

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians, quat_to_matrix
from headsplat.methods.lift.model import (
    MORE_STEPS,
    apply_changes,
    learnable,
    measure_fit,
    note_pose,
    photo_pose,
    read_pose,
)
from headsplat.methods.lift.numeric import fill_polygon, inside, look_up, nearest_index, smoothstep
from headsplat.methods.lift.refine import Freedom, Shot, picture_share, refine
from headsplat.methods.lift.view import INNER_LIPS, LEFT_EYE, RIGHT_EYE, grow
from headsplat.playback import portrait_camera
from headsplat.raster import rasterize

LEAST_SEEN = 0.5
"""Of an old photo's picture, how well seen a place must have been to be held on to."""
ALIKE = 0.35
"""Colours further apart than this (RGB distance) belong to different things: hair before a cheek, a hand."""
NEAR = 7
"""Neighbours over which new colours are evened out; refinement sharpens them again."""
MOST_MEMORIES = 4
"""Pictures of the avatar as it was, among which the new photos take their turns."""
MOST_POSES = 16
"""Of photos whose poses an avatar keeps."""
_SIDES = (0.0, 18.0, -18.0)
_SIZE = 512


@dataclass(frozen=True)
class _Sight:
    """What one photo shows of N Gaussians: colours (N, 3) in the avatar's tone, and how well (N,) 0..1."""

    colours: np.ndarray
    weight: np.ndarray


def renew(
    avatar: Avatar,
    frames: Sequence[Frame],
    steps: int = 80,
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Avatar:
    """Refine an avatar with further photos.

    Gaussians that the old photos never showed take the colour of the new photo that shows them best. Then
    colours, opacities, sizes and places are refined on all new photos together with pictures of the avatar
    as it was, which hold what it knew: without them it would drift to the last photo's light and blur.

    Args:
        avatar: a rig avatar with RGB features on the free head.
        frames: further photos, tracked with the avatar's own identity.
        steps: refinement steps for one photo; more photos take more.
        seed: of random draws.
        progress: called with 0..1.

    Returns:
        The avatar. `info["refined"]` holds how often it was refined, `photos`, and `psnr_before` and
        `psnr_after`, dB inside the matte of each photo.

    Raises:
        HeadsplatError: the avatar runs a network or has no RGB colours.
    """
    avatar.need_rig("refinement")
    if avatar.gaussians.features.shape[1] != 3:
        raise HeadsplatError("Only avatars with plain colours can be refined; this one has features.")
    tell = progress or (lambda _: None)
    frames = [_in_tone_of(avatar, frame) for frame in frames]
    before = [measure_fit(avatar, frame)["source_psnr"] for frame in frames]
    shots = [Shot(photo_pose(avatar, f), f.camera, f.foreground, f.alpha, _bare(f)) for f in frames]
    memories = _memories(avatar)
    recoloured, seen = _with_seen_colours(avatar, shots)
    tell(0.1)
    shots = [replace(s, posed=replace(s.posed, features=recoloured.gaussians.features)) for s in shots]
    held = [replace(m, posed=replace(m.posed, features=recoloured.gaussians.features)) for m in memories]
    turns = [*shots, *held[:: -(-len(held) // MOST_MEMORIES)]]
    rounds = round(steps * (1 + MORE_STEPS * (len(turns) - 1)))
    changes = refine(turns, _freedom(avatar, seen), rounds, seed)
    tell(0.95)
    better = apply_changes(recoloured, changes)
    after = [measure_fit(better, frame)["source_psnr"] for frame in frames]
    earlier = avatar.info.get("refined", {})
    info = {
        "times": int(earlier.get("times", 0)) + 1 if isinstance(earlier, dict) else 1,
        "photos": len(frames),
        "psnr_before": [round(value, 2) for value in before],
        "psnr_after": [round(value, 2) for value in after],
    }
    tell(1.0)
    poses = [*(avatar.info.get("poses") or []), *map(note_pose, frames)][-MOST_POSES:]
    return replace(better, seen=seen, info={**avatar.info, "refined": info, "poses": poses})


def _in_tone_of(avatar: Avatar, frame: Frame) -> Frame:
    """The frame with exposure and white balance as the avatar has them, by the skin that both show."""
    drawn = rasterize(photo_pose(avatar, frame), frame.camera, background=0.0, depth=False)
    face = cv2.convexHull(frame.landmarks[:468].astype(np.int32))[:, 0]
    both = (
        (grow(fill_polygon(face, *frame.alpha.shape), -3) > 0) & (drawn.alpha > 0.97) & (frame.alpha > 0.97)
    )
    if both.sum() < 100:
        return frame
    ratio = np.log((drawn.image[both] + 0.02) / (frame.foreground[both] + 0.02))
    gain = np.clip(np.exp(np.median(ratio, 0)), 0.4, 2.5).astype(np.float32)
    return replace(
        frame, image=np.clip(frame.image * gain, 0, 1), foreground=np.clip(frame.foreground * gain, 0, 1)
    )


def _bare(frame: Frame) -> np.ndarray:
    """(H, W) 0..1: what to learn from; not the insides of eyes and lips, which belong to their moment."""
    size = frame.alpha.shape
    points = frame.landmarks
    mask = fill_polygon(points[list(RIGHT_EYE)], *size) | fill_polygon(points[list(LEFT_EYE)], *size)
    mask = grow(mask, 3) | grow(fill_polygon(points[list(INNER_LIPS)], *size), 2)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    return learnable(frame) * (1 - soft)


def _memories(avatar: Avatar) -> list[Shot]:
    """Pictures of the avatar as it is, from where its photos saw it, to be learned where they did."""
    notes = avatar.info.get("poses")
    known = [read_pose(avatar, note) for note in notes] if isinstance(notes, list) else []
    poses = [pose for pose in known if pose is not None] or [
        (avatar.gaussians, portrait_camera(avatar, np.radians(yaw), size=_SIZE)) for yaw in _SIDES
    ]
    out = []
    for posed, camera in poses:
        drawn = rasterize(posed, camera, background=0.0, depth=False)
        marked = replace(posed, features=np.repeat(avatar.seen[:, None], 3, 1).astype(np.float32))
        seen = rasterize(marked, camera, background=0.0, depth=False).image[..., 0]
        colours = drawn.image / np.maximum(drawn.alpha, 1e-3)[..., None]
        learn = smoothstep(seen / np.maximum(drawn.alpha, 1e-3), LEAST_SEEN, 0.9) * (drawn.alpha > 0.02)
        out.append(Shot(posed, camera, np.clip(colours, 0, 1), drawn.alpha, learn))
    return out


def _look(shot: Shot, normals: np.ndarray) -> _Sight:
    """What one photo says about the colour of each Gaussian that it shows."""
    posed, camera = shot.posed, shot.camera
    size = shot.alpha.shape
    pixels = camera.project(posed.means)
    _, share = picture_share(shot)
    ray = camera.position - posed.means
    facing = np.abs((normals * ray).sum(1)) / np.maximum(np.linalg.norm(ray, axis=1), 1e-9)
    # A strand is thin all round and has no side to face with.
    flat = posed.scales.min(1) < 0.5 * np.median(posed.scales, axis=1)
    facing = np.where(flat, facing, np.maximum(facing, 0.6))
    row, column = nearest_index(pixels, *size)
    sure = cv2.erode(shot.alpha.astype(np.float32), np.ones((7, 7)))[row, column] > 0.9
    sure &= inside(pixels, size[0], size[1], 3) & (shot.learn[row, column] > 0.9)
    colours = look_up(shot.foreground, pixels).astype(np.float64)
    far = np.linalg.norm(colours - posed.features, axis=1)
    weight = sure * smoothstep(share, 0.02, 0.2) * smoothstep(facing, 0.25, 0.6)
    return _Sight(colours, weight * smoothstep(far, ALIKE, 0.6 * ALIKE))


def _with_seen_colours(avatar: Avatar, shots: Sequence[Shot]) -> tuple[Avatar, np.ndarray]:
    """The avatar with colours of what only the new photos show, and how well all of it is seen now (N,)."""
    best, colours = np.zeros(len(avatar)), avatar.gaussians.features.astype(np.float64)
    total, mixed = np.zeros(len(avatar)), np.zeros_like(colours)
    for shot in shots:
        look = _look(shot, quat_to_matrix(shot.posed.quats)[..., 2])
        steep = look.weight**3  # mostly the photo that shows it best
        total, mixed = total + steep, mixed + steep[:, None] * look.colours
        best = np.maximum(best, look.weight)
    share = ((1 - avatar.seen) * best)[:, None]
    change = share * (mixed / np.maximum(total, 1e-9)[:, None] - colours)
    # Single Gaussians that differ from all around them are errors: of a pixel, or of a strand in front.
    near = KDTree(avatar.gaussians.means).query(avatar.gaussians.means, k=NEAR)[1]
    colours = colours + change[near].mean(1)
    g = avatar.gaussians
    new = Gaussians(g.means, g.quats, g.scales, g.opacities, np.clip(colours, 0, 1).astype(np.float32))
    return replace(avatar, gaussians=new), np.maximum(avatar.seen, 0.9 * best).astype(np.float32)


def _freedom(avatar: Avatar, seen: np.ndarray) -> Freedom:
    """Lids keep their colours, whatever was never seen nearly keeps them, the rest may learn."""
    moved = np.zeros(len(avatar))
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        if name in avatar.expressions:
            e = avatar.expressions.index(name)
            rows = slice(avatar.expression_means.starts[e], avatar.expression_means.starts[e + 1])
            shift = np.linalg.norm(avatar.expression_means.values[rows].astype(np.float64), axis=1)
            moved[avatar.expression_means.index[rows]] += shift
    blink = smoothstep(moved / max(float(moved.max()), 1e-9), 0.02, 0.2)
    trust = np.clip(seen, 0.08, 1)
    return Freedom(
        colour=(1 - blink) * trust,
        shape=np.clip(1 - 0.9 * blink, 0, 1) * trust,
        stay=np.full(len(avatar), 0.02) + 0.2 * blink,
        reach=1 - 0.94 * blink,
    )
