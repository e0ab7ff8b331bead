"""Continue the shoulders past the edges of the photo, so that every bust ends alike and none at a cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from headsplat.methods.lift.numeric import smoothstep
from headsplat.methods.lift.segment import Segments
from headsplat.methods.lift.view import CHIN, View

SHOULDER = np.array(
    [[0.058, -0.080], [0.085, -0.098], [0.14, -0.118], [0.19, -0.140], [0.225, -0.175], [0.235, -0.30]]
)
"""Outline of common shoulders at rest: distance from the middle and height, metres."""
NECKLINE = np.array([0.075, -0.115])
"""Half width and lowest point of the neckline of invented clothes, metres."""
INSET = 8
"""Pixels inside the photo at which its matte is trusted: beside the cut it often fades."""
UNSEEN_CLOTHES = np.array([0.20, 0.21, 0.24])
"""Colour of clothes of which the photo shows nothing."""
FEW = 0.10
"""Pixels of clothes, in squared face heights, under which their colour may be that of something else."""
LIKE_HAIR = 0.17
"""Distance in RGB under which few pixels of clothes are taken for the ends of hair."""
MIRROR = 36
"""Pixels beside a cut that are mirrored to continue it."""


def extend(view: View, segments: Segments) -> tuple[View, Segments]:
    """Continue the body below the photo's last row and beyond its sides, dressed in the clothes it shows.

    Nothing is invented above the chin. Continued pixels count as valid in the result.
    """
    frame = view.frame
    height, width = view.shape
    rows = np.flatnonzero(frame.valid.sum(1) > 0.3 * width)
    if not len(rows) or frame.valid.all():
        return view, segments
    chin = frame.landmarks[CHIN]
    cut = not frame.valid[-1].any()
    last = int(rows[-1]) - INSET if cut else height
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    columns = np.flatnonzero(frame.valid[min(last, height) - 8])
    left = float(columns[0] + INSET) if columns[0] > 0 else 0.0
    right = float(columns[-1] - INSET) if columns[-1] < width - 1 else float(width)
    beyond = ((y > last) | (x < left) | (x > right)) & (y > chin[1] + 0.05 * view.size)

    # Where the pixels beside the cut come from: mirrored across it, and towards the middle further down.
    over = np.maximum(y - last, 0)
    source_x = chin[0] + (x - chin[0]) / (1 + 0.6 * over / view.size)
    source_x = np.where(source_x < left, left + np.minimum(left - source_x, MIRROR), source_x)
    source_x = np.where(source_x > right, right - np.minimum(source_x - right, MIRROR), source_x)
    depth = np.clip(0.5 * (last - chin[1]), 3, MIRROR)
    source_y = np.where(over > 0, last - depth + abs(np.mod(over, 2 * depth) - depth), y)
    source_x, source_y = source_x.astype(np.float32), source_y.astype(np.float32)

    def continued(picture: np.ndarray) -> np.ndarray:
        return cv2.remap(
            picture, source_x - 0.5, source_y - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    inside = _body_outline(view, segments, x, y, last, left, right)
    neck = _neckline(view, x, y)
    aside = np.maximum(np.maximum(left - x, x - right), 0)
    hair = continued(segments.hair) * smoothstep(_ragged(view, x), over - 6, over + 6)
    hair = hair * (inside | (over < 12)) * smoothstep(aside, 14, 4)
    skin = continued(segments.skin) * np.maximum(neck, _low_neckline(view, segments, x, over, last))
    alpha = np.where(beyond, np.maximum(inside.astype(np.float32), hair), frame.alpha)
    alpha = cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), 1.2)
    clothes = np.clip(1 - hair - skin, 0, 1)
    cloth = _cloth(view, segments, continued, np.maximum(over, aside))
    colours = continued(frame.foreground)
    share = np.clip(clothes, 0, 1)[..., None]
    foreground = cloth * share + colours * (1 - share)

    def joined(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        mask = beyond if old.ndim == 2 else beyond[..., None]
        return np.where(mask, new, old).astype(np.float32)

    frame = replace(
        frame,
        alpha=joined(alpha, frame.alpha),
        foreground=joined(foreground, frame.foreground),
        valid=frame.valid | beyond,
    )
    segments = replace(
        segments,
        hair=joined(hair, segments.hair),
        skin=joined(skin, segments.skin),
        clothes=joined(clothes, segments.clothes),
    )
    return replace(view, frame=frame), segments


def _to_pixels(view: View, points: np.ndarray) -> np.ndarray:
    """Project (N, 2) points x, y of the torso's middle plane, (N, 3)."""
    root = view.skin[view.model.joint_names.index("root")]
    world = np.concatenate([points, np.full((len(points), 1), -0.03)], 1) @ root[:3, :3].T + root[:3, 3]
    return view.frame.camera.project(world)


def _body_outline(
    view: View, segments: Segments, x: np.ndarray, y: np.ndarray, last: int, left: float, right: float
) -> np.ndarray:
    """(H, W) bool: inside shoulders that go on from where the photo cuts them."""
    frame = view.frame
    height = view.shape[0]
    levels = np.arange(height) + 0.5
    body = (frame.alpha > 0.5) & (segments.hair < 0.5) & frame.valid
    out = np.zeros(view.shape, bool)
    middle = _to_pixels(view, np.array([[0.0, -0.12]]))[0, 0]
    for sign, edge in ((-1, left), (1, right)):
        points = _to_pixels(view, SHOULDER * [sign, 1])
        half = np.interp(levels, points[:, 1], sign * (points[:, 0] - middle), left=0.0)
        seen_row = body[max(last - 6, 0)] if last < height else None
        aside = sign * (np.arange(view.shape[1]) - middle) > 0
        own: np.ndarray = np.flatnonzero(seen_row & aside) if seen_row is not None else np.zeros(0, int)
        reaches_side = len(own) and (abs(own - edge) < 6).any()
        if len(own) and not reaches_side:
            width_now = float(abs(own[-1 if sign > 0 else 0] - middle))
            level = min(last - 6, height - 1)
            half = np.where(levels > level, np.maximum(width_now + half - half[level], width_now), half)
        # A shoulder cut by the side of the photo goes on falling from where it was cut.
        column = int(np.clip(edge - 3 * sign, 0, view.shape[1] - 1))
        tops = np.flatnonzero(body[:, column] & (levels > frame.landmarks[CHIN, 1]))
        if len(tops):
            fall = tops[0] + 0.5 + 0.42 * np.maximum(sign * (x - edge), 0)
            out |= (sign * (x - edge) > -4) & (y > fall)
        limit = np.broadcast_to(half[:, None], view.shape)
        out |= (sign * (x - middle) >= 0) & (sign * (x - middle) < limit) & (y > last)
        if reaches_side:
            out |= (sign * (x - middle) >= 0) & (sign * (x - edge) <= 4) & (y > last)
    return out


def _neckline(view: View, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W) 1 where invented clothes leave the neck free."""
    top = _to_pixels(view, np.array([[0.0, -0.07], [NECKLINE[0], -0.07], [0.0, NECKLINE[1]]]))
    reach = np.hypot((x - top[0, 0]) / (top[1, 0] - top[0, 0]), (y - top[0, 1]) / (top[2, 1] - top[0, 1]))
    return smoothstep(reach, 1.03, 0.97)


def _low_neckline(view: View, segments: Segments, x: np.ndarray, over: np.ndarray, last: int) -> np.ndarray:
    """(H, W) 1 where a neckline that is still open at the photo's last row goes on and closes."""
    row = min(last, view.shape[0]) - 4
    bare = np.flatnonzero((segments.skin[row] > 0.6) & (view.frame.alpha[row] > 0.8))
    if len(bare) < 8:
        return np.zeros(view.shape)
    middle, half = float(np.median(bare)), 0.5 * float(np.percentile(bare, 95) - np.percentile(bare, 5))
    return smoothstep(np.hypot((x - middle) / half, over / (0.55 * half)), 1.04, 0.96)


def _ragged(view: View, x: np.ndarray) -> np.ndarray:
    """Pixels by which hair outlives the cut, different in every column."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(1, x.shape[1])).astype(np.float32), (0, 0), 1.5)
    return np.clip(0.16 + 0.05 * noise / noise.std(), 0.03, 0.3) * view.size * np.ones_like(x)


def _cloth(
    view: View, segments: Segments, continued: Callable[[np.ndarray], np.ndarray], beyond: np.ndarray
) -> np.ndarray:
    """(H, W, 3) colours of the continued clothes: what lies beside the cut, soon only its average."""
    frame = view.frame
    sure = _seen_clothes(view, segments)
    if sure is None:
        return np.tile(UNSEEN_CLOTHES, (*view.shape, 1))
    average = np.median(frame.foreground[sure], 0)
    weight = continued(cv2.erode(sure.astype(np.float32), np.ones((3, 3))))[..., None]
    weight = weight * smoothstep(beyond, 0.2 * view.size, 0.0)[..., None]
    weave = cv2.GaussianBlur(np.random.default_rng(0).normal(size=view.shape).astype(np.float32), (0, 0), 0.8)
    plain = average * (1 + 0.012 * weave / weave.std())[..., None]
    return continued(frame.foreground) * weight + plain * (1 - weight)


def _seen_clothes(view: View, segments: Segments) -> np.ndarray | None:
    """(H, W) bool, pixels that are clothes; None where a tight crop shows none, or none apart from hair."""
    frame = view.frame
    solid = (frame.alpha > 0.9) & frame.valid
    sure = solid & (segments.clothes > 0.6) & (view.height < -0.1)
    few = sure.sum() < FEW * view.size**2
    hangs = solid & (view.face < 0) & (view.height > 0.1) & (view.height < 0.3) & (segments.hair > 0.5)
    if few and hangs.sum() < 0.02 * view.size**2:
        # No hair comes down that far: what is there beside the neck, of whatever colour, is worn.
        lowest = float(view.height[solid].min()) if solid.any() else 0.0
        sure = solid & (view.height < min(lowest + 0.12, 0.0)) & (view.side > 0.34)
    elif few and sure.any():
        hair = solid & (segments.hair > 0.7)
        apart = np.median(frame.foreground[sure], 0) - np.median(frame.foreground[hair], 0)
        if np.linalg.norm(apart) < LIKE_HAIR:
            return None
    return sure if sure.sum() >= 60 else None
