"""Where there is hair: what the photo shows, then its mirror image, then how hair usually grows."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from headsplat.head.regions import NAPE
from headsplat.methods.lift.capsule import COLUMNS, ROWS, behind_plane, grid_axes, surface_normals
from headsplat.methods.lift.numeric import inside, look_up, nearest_index, smoothstep, unit
from headsplat.methods.lift.segment import Segments, Sight
from headsplat.methods.lift.view import View

NOT_HANGING = 0.0
"""Height y of the lower end of hair that does not hang beside the face: the lobe of the ear."""


def smooth_scalp(view: View, segments: Segments) -> bool:
    """Whether what was taken for hair has no strands: the highlight on a shaven or bald scalp."""
    sure = (segments.hair > 0.6) & (view.frame.alpha > 0.95) & (view.height > 0.6)
    sure = cv2.erode(sure.astype(np.uint8), np.ones((3, 3))) > 0
    if sure.sum() < 100:
        return True
    grey = view.frame.foreground.mean(-1) + 0.03
    return bool(np.log(grey / cv2.GaussianBlur(grey, (0, 0), 2.5))[sure].std() < 0.045)


def hidden_ears(sights: Sequence[Sight]) -> tuple[bool, bool]:
    """Whether hair covers the subject's right and left ear; an ear that is not shown follows the other."""
    right, left = None, None
    for sight in sights:  # the first photo that shows an ear decides
        shown = _ears_shown(sight.view, sight.segments)
        right = shown[0] if right is None else right
        left = shown[1] if left is None else left
    if right is None and left is None:
        return (False, False)
    return (bool(left if right is None else right), bool(right if left is None else left))


def _ears_shown(view: View, segments: Segments) -> list[bool | None]:
    """For the right and the left ear whether hair covers it in this photo; None if it does not show it."""
    known: list[bool | None] = []
    for sign in (-1, 1):
        ear = view.regions.ear & (np.sign(view.model.template[:, 0]) == sign)
        pixels = view.pixels[ear]
        row, column = nearest_index(pixels, *view.shape)
        seen = (
            inside(pixels, *view.shape)
            & (pixels[:, 2] < view.depth[row, column] + 0.004)
            & (view.facing[ear] > 0.1)
        )
        seen &= view.frame.alpha[row, column] > 0.3
        known.append(bool(np.median(segments.hair[row, column][seen]) > 0.5) if seen.sum() > 8 else None)
    # Hair that stands out beside an ear, down to the jaw, hides it too.
    low = (view.face < 0) & (view.height > 0.10) & (view.height < 0.35) & (segments.hair > 0.5)
    columns = np.arange(view.shape[1])[None] + 0.5
    middle = view.frame.landmarks[168, 0]
    for side, own in enumerate((columns < middle, columns > middle)):
        if (low & own).sum() > 0.025 * view.size**2:
            known[side] = True
    return known


def lowest_hair(view: View, segments: Segments) -> tuple[float, float]:
    """Head-space height y of the lower end of the hair at the subject's right and left side."""
    x_axis = view.frame.landmarks[168, 0]
    columns = np.arange(view.shape[1])[None] + 0.5
    hair = (segments.hair > 0.5) & (view.side > 0.28)
    y10, y152 = view.face_ends
    ends = []
    for own in (columns < x_axis, columns > x_axis):  # the subject's right is on the left of the picture
        rows = (hair & own).sum(1) > 0.05 * view.size
        level = view.height[np.arange(len(rows)), int(np.clip(x_axis, 0, view.shape[1] - 1))]
        # Follow the hair down from the temples; a dark collar further below does not count.
        hanging = level[(level < 0.45) & ~rows]
        lowest = max(float(hanging.max()), -2.0) if len(hanging) else float(level.min())
        ends.append(float(y152 + lowest * (y10 - y152)) if lowest < 0.40 else NOT_HANGING)
    return ends[0], ends[1]


def _around_ear(phi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """0..1 hair beside a visible ear: a sideburn before it; behind it the hairline slopes to the nape."""
    on_ear = np.hypot((phi - np.radians(91)) / np.radians(18), (y - 0.022) / 0.040)
    sideburn = np.where(phi < np.radians(91), 0.012, -0.002)
    line = sideburn + (NAPE - sideburn) * smoothstep(phi, np.radians(108), np.radians(150))
    return smoothstep(on_ear, 0.92, 1.12) * smoothstep(y, line - 0.006, line + 0.008)


def _seen_hair(
    view: View, segments: Segments, points: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, C) how well one photo shows each grid point, and how much hair it shows there."""
    camera = view.head_camera
    facing = (normal * unit(camera.position - points)).sum(-1)
    pixels = camera.project(points.reshape(-1, 3))
    row, column = nearest_index(pixels, *view.shape)
    unhidden = pixels[:, 2] < view.depth[row, column] + 0.006
    known = inside(pixels, *view.shape, 2) & view.frame.valid[row, column] & unhidden
    # Just beside a cheek's outline the photo shows what hangs behind it, not on it.
    on_face = behind_plane(points) < -0.010
    weight = np.where(on_face, smoothstep(facing, 0.45, 0.65), smoothstep(facing, 0.15, 0.45))
    return weight * known.reshape(ROWS, COLUMNS), look_up(segments.hair, pixels).reshape(ROWS, COLUMNS)


def hair_presence(
    sights: Sequence[Sight],
    points: np.ndarray,
    radius: np.ndarray,
    skull: np.ndarray,
    hidden: tuple[bool, bool],
    cropped: bool,
) -> np.ndarray:
    """(R, C) how much hair there is: what the photos show, then its mirror image, then custom."""
    view, segments = sights[0].view, sights[0].segments
    normal = surface_normals(points)
    weight, value = _seen_hair(view, segments, points, normal)
    for sight in sights[1:]:  # later photos say what earlier ones leave open
        more, what = _seen_hair(sight.view, sight.segments, points, normal)
        more = more * (1 - weight)
        value = (weight * value + more * what) / np.maximum(weight + more, 1e-6)
        weight = weight + more

    right, left = lowest_hair(view, segments)
    # Over a covered ear that is turned away hair hangs as it does on the near side.
    right = left if hidden[0] and right >= NOT_HANGING else right
    left = right if hidden[1] and left >= NOT_HANGING else left
    phi, _ = np.meshgrid(*grid_axes())
    end_side = np.where(phi < 0, right, left)
    back = max(right, left)
    end_back = back if back < NAPE else NAPE
    aside = smoothstep(abs(phi), np.radians(140), np.radians(105))
    end = np.where(end_side < NOT_HANGING, end_side, NAPE)
    end = np.where(end < NAPE, aside * end + (1 - aside) * end_back, np.where(abs(phi) > 1.9, NAPE, end))
    y = points[..., 1]
    grows = smoothstep(behind_plane(points), -0.004, 0.010)
    prior = grows * smoothstep(y, end - 0.012, end + 0.008)
    front = (abs(phi) < np.radians(60)) & (y < -0.05)
    weight, prior = np.where(front, 0, weight), np.where(front, 0, prior)
    if cropped:
        weight = np.where(y < NAPE, 0, weight)
    # Over the ears and beside the neck hair hangs only where the photo shows it hanging.
    mirrored = 0.5 * weight[:, ::-1]
    open_ = np.ones_like(y)  # 0 where an ear stands free
    for sign, covered, side_end in ((-1, hidden[0], right), (1, hidden[1], left)):
        own = np.sign(phi) == sign
        if covered:
            curtain = smoothstep(abs(phi), np.radians(46), np.radians(58)) * own
            above_end = smoothstep(y, side_end - 0.012, side_end + 0.008)
            prior = np.maximum(prior, curtain * above_end * (y < 0.09))
        else:
            open_ = np.where(own, _around_ear(abs(phi), y), open_)
            prior = prior * open_
            mirrored = mirrored * (open_ > 0.5)
    total = weight + mirrored * (1 - weight)
    seen = (weight * value + mirrored * (1 - weight) * value[:, ::-1]) / np.maximum(total, 1e-6)
    mix = smoothstep(total, 0.0, 0.5)
    presence = mix * seen + (1 - mix) * prior
    closed = cv2.morphologyEx(
        np.pad(presence, ((0, 0), (6, 6)), "wrap").astype(np.float32), cv2.MORPH_CLOSE, np.ones((7, 7))
    )[:, 6:-6]
    presence = np.where(abs(phi) > np.radians(50), np.maximum(presence, closed * open_), presence)
    # Behind a lock that hangs before a covered ear there is no bare cheek again.
    columns = np.arange(COLUMNS)
    for sign, covered, side_end in ((-1, hidden[0], right), (1, hidden[1], left)):
        if covered:
            order = columns[(sign * phi[0] > np.radians(38)) & (sign * phi[0] < np.radians(110))]
            order = order if sign > 0 else order[::-1]
            behind_lock = np.maximum.accumulate(presence[:, order], axis=1)
            presence[:, order] = np.where(y[:, order] > side_end, behind_lock, presence[:, order])
    blurred = cv2.GaussianBlur(np.pad(presence, ((0, 0), (4, 4)), "wrap").astype(np.float32), (0, 0), 0.8)
    return blurred[:, 4:-4]
