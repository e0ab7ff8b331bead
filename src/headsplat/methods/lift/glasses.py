"""Glasses: found as thin dark lines around the eyes, and set in front of the face as a rigid frame."""

from __future__ import annotations

import cv2
import numpy as np

from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.loose import Loose, join
from headsplat.methods.lift.numeric import look_up, smoothstep
from headsplat.methods.lift.segment import Segments
from headsplat.methods.lift.view import BETWEEN_EYES, LEFT_EYE, RIGHT_EYE, View, grow

CONTRAST = 0.20
"""How much darker than its surroundings a frame is, as a share of the skin's brightness."""
LEAST_WIDTH = 0.55
"""Of a frame, in face heights; the eyes' outer corners are about 0.6 apart."""
BRIDGE, RIM = 0.6, 0.6
"""Shares of the bridge's and the lower rims' columns that must show a line."""


def find_glasses(view: View, segments: Segments) -> np.ndarray | None:
    """(H, W) 0..1 where a frame covers the face, or None without glasses."""
    points, size = view.frame.landmarks, view.size
    grey = view.frame.foreground.mean(-1).astype(np.float32)
    width = 2 * max(4, round(0.035 * size)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    dark = cv2.morphologyEx(cv2.GaussianBlur(grey, (0, 0), 0.7), cv2.MORPH_BLACKHAT, kernel)
    line = dark > CONTRAST * segments.skin_colour.mean()

    eyes = (view.polygon(RIGHT_EYE) | view.polygon(LEFT_EYE)) > 0
    if not eyes.any():
        return None
    level = float(view.height[eyes].mean())
    up = points[10] - points[152]
    across = np.array([up[1], -up[0]]) / size
    y, x = np.mgrid[: view.shape[0], : view.shape[1]].astype(np.float32) + 0.5
    aside = ((x - points[BETWEEN_EYES, 0]) * across[0] + (y - points[BETWEEN_EYES, 1]) * across[1]) / size
    away = view.height - level  # from the line through the eyes, in face heights

    def share(strip: np.ndarray, low: float, high: float) -> float:
        """Share of the columns between two offsets across that meet a dark line in the strip."""
        bins = np.floor(aside * size).astype(int)
        wanted = np.arange(np.floor(low * size), np.floor(high * size) + 1)
        hit = np.isin(wanted, bins[strip & line])
        return float(hit.mean())

    bridge = share((away > -0.03) & (away < 0.10), -0.035, 0.035)
    rims = []
    for outline in (RIGHT_EYE, LEFT_EYE):
        own = view.polygon(outline) > 0
        if not own.any():
            return None
        low, high = float(aside[own].min()), float(aside[own].max())
        rims.append(share((away < -0.055) & (away > -0.20), low, high))
    if not (bridge > BRIDGE and max(rims) > RIM):
        return None
    zone = (away > -0.22) & (away < 0.16) & (abs(aside) < 0.50) & (segments.hair < 0.5)
    zone &= grow(eyes, max(1, round(0.02 * size))) == 0
    frame = _whole_frame((line & zone).astype(np.uint8), size)
    if frame is None:
        return None
    return cv2.GaussianBlur(grow(frame, 1).astype(np.float32), (0, 0), 0.8)


def _whole_frame(mask: np.ndarray, size: float) -> np.ndarray | None:
    """The piece of a mask that spans both eyes in one, with bits close to it; None if there is none.

    Brows, wrinkles and the shadows beside a nose are dark lines too, but never one line across both eyes.
    """
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3)))
    _, label, stats, _ = cv2.connectedComponentsWithStats(closed)
    widths = stats[:, cv2.CC_STAT_WIDTH].copy()
    widths[0] = 0
    largest = int(widths.argmax())
    if widths[largest] < LEAST_WIDTH * size:
        return None
    return closed * grow(label == largest, max(1, round(0.025 * size)))


def stand_off(view: View, mask: np.ndarray) -> np.ndarray:
    """(H, W) camera depth of the frame: a smooth front of the face, a few millimetres before it."""
    finite = np.isfinite(view.depth)
    depth = np.where(finite, view.depth, view.depth[finite].max()).astype(np.float32)
    reach = 2 * round(0.10 * view.size) + 1
    front = cv2.erode(depth, np.ones((reach, 1)))  # the nearest along the face's height: brow and cheek
    near = cv2.GaussianBlur(front, (0, 0), 0.06 * view.size)
    nose = smoothstep(cv2.GaussianBlur(mask, (0, 0), 2.0), 0.0, 0.5)
    return np.minimum(near - 0.001, depth - 0.002 * nose - 0.001)


def lift_glasses(view: View, mask: np.ndarray, config: LiftConfig) -> Loose:
    """The frame's pixels as Gaussians rigid with the head, and temples to the ears; in the photo's pose."""
    camera = view.frame.camera
    step = 0.75 * config.pixel_step * view.shape[1] / 512
    centres = np.arange(step / 2, camera.width, step)
    x, y = (g.ravel() for g in np.meshgrid(centres, centres))
    at = np.stack([x, y], -1)
    cover = look_up(mask, at)
    at, cover = at[cover > 0.12], cover[cover > 0.12]
    depth = stand_off(view, mask).astype(np.float32)

    def point(pixels: np.ndarray) -> np.ndarray:
        return camera.unproject(pixels, look_up(depth, pixels).astype(np.float64))

    means = point(at)
    t1, t2 = (point(at + d) - means for d in (np.array([0.6 * step, 0]), np.array([0, 0.6 * step])))
    colours = look_up(view.frame.foreground, at).astype(np.float64)
    front = _rigid(means, t1, t2, colours, 0.97 * np.clip(1.3 * cover, 0, 1), seen=1.0)
    tone = np.percentile(colours[cover > 0.8], 25, axis=0) if (cover > 0.8).any() else colours.mean(0)
    return join([front, *_temples(view, means[cover > 0.5], tone)])


def _temples(view: View, frame: np.ndarray, tone: np.ndarray) -> list[Loose]:
    """A straight arm on either side, from the outer end of the frame to the top of the ear."""
    out = []
    head = view.skin[view.model.joint_names.index("head")]
    rest = (frame - head[:3, 3]) @ head[:3, :3]
    for sign in (-1, 1):
        own = sign * rest[:, 0]
        if len(own) < 20 or np.percentile(own, 98) < 0.045:
            continue
        end = rest[own > np.percentile(own, 97)].mean(0)
        ear = view.rest[view.regions.ear & (sign * view.rest[:, 0] > 0)]
        upper = ear[ear[:, 1] > np.percentile(ear[:, 1], 80)].mean(0)
        goal = upper + np.array([0.004 * sign, -0.002, -0.004])
        start = end + np.array([0.001 * sign, 0, 0])
        count = 36
        along = np.linspace(0, 1, count)[:, None]
        path = start + (goal - start) * along
        path[:, 0] += sign * 0.006 * np.sin(np.pi * along[:, 0])  # arms bow outwards
        step = (goal - start) / count
        upwards = np.cross(np.cross(step, [0, 1, 0]), step)
        upwards *= 0.0016 / np.linalg.norm(upwards)
        turn = head[:3, :3]
        out.append(
            _rigid(
                path @ turn.T + head[:3, 3],
                np.tile(0.7 * step @ turn.T, (count, 1)),
                np.tile(upwards @ turn.T, (count, 1)),
                np.tile(tone, (count, 1)),
                np.full(count, 0.95),
                seen=0.0,
            )
        )
    return out


def _rigid(
    means: np.ndarray, t1: np.ndarray, t2: np.ndarray, colours: np.ndarray, opacities: np.ndarray, seen: float
) -> Loose:
    count = len(means)
    return Loose(
        means=means,
        t1=t1,
        t2=t2,
        thickness=np.full(count, 0.6),
        colours=colours,
        opacities=opacities,
        weights=np.tile([0.0, 0.0, 1.0], (count, 1)),
        seen=np.full(count, seen),
        trust=np.full(count, max(seen, 0.1)),
    )
