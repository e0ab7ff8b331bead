"""Hair where the photo shows none: an opaque shell on the hair's surface and loose strands combed over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from headsplat.methods.lift.capsule import FINE, RADIUS, ROW_STEP, ROWS, grid_axes, surface_normals
from headsplat.methods.lift.config import LiftConfig
from headsplat.methods.lift.loose import Loose, hair_weights, join
from headsplat.methods.lift.numeric import inside, look_up, nearest_index, smoothstep, unit
from headsplat.methods.lift.segment import Segments, Sight
from headsplat.methods.lift.surface import hair_median
from headsplat.methods.lift.view import View
from headsplat.methods.lift.volume import HairVolume

FADE = 16
"""Cells of the fine grid (about 2 mm) over which the tone of seen hair hands over to that of the unseen."""


@dataclass(frozen=True)
class Style:
    """What the visible hair says about the rest, on the fine grid (FINE * ROWS, FINE * COLUMNS).

    Attributes:
        colours: (R, C, 3) low-frequency colour everywhere.
        seen: (R, C) 0..1, where the photo shows the hair itself.
        angle: (R, C) direction of the strands in the surface: 0 along the azimuth, pi/2 down.
        streaks: (R, C) brightness factor with the contrast of the visible strands, combed along `angle`.
        curl: 0 straight .. 1 frizzy.
    """

    colours: np.ndarray
    seen: np.ndarray
    angle: np.ndarray
    streaks: np.ndarray
    curl: float


def grow_hair(sights: Sequence[Sight], hair: HairVolume, style: Style, config: LiftConfig) -> Loose | None:
    """Shell and strands at rest, or None for bald heads; cropped hair is a carpet of short strands."""
    if hair.presence.max() < 0.5:
        return None
    view = sights[0].view
    strands = _strands(view, hair, style, config)
    return strands if hair.cropped else join([_shell(view, hair, style, config), strands])


def read_style(sights: Sequence[Sight], hair: HairVolume, seed: int) -> Style:
    """Colour, direction and contrast of the hair on the whole surface, spread from what the photos show.

    The main photo, the first, says what it shows; each further one what is still open.
    """
    view, segments = sights[0].view, sights[0].segments
    phi, arc = np.meshgrid(*grid_axes(FINE))
    points = hair.points(phi.ravel(), arc.ravel()).reshape(*phi.shape, 3)
    normals = surface_normals(points)
    seen, own, pixels = _shown(sights[0], points, normals)
    angle, strength = _strand_angles(view, seen.shape, pixels)
    for sight in sights[1:]:
        more, colours, pixels = _shown(sight, points, normals)
        turn, clear = _strand_angles(sight.view, seen.shape, pixels)
        more = more * (1 - seen)
        own = (own * seen[..., None] + colours * more[..., None]) / np.maximum(seen + more, 1e-6)[..., None]
        angle, strength = np.where(more > seen, turn, angle), np.where(more > seen, clear, strength)
        seen = seen + more

    colours = _spread_colours(view, segments, hair, own, seen, normals, points)
    angle, coherence = _directions(angle, strength, seen)
    curl = float(np.clip(1.15 - 1.9 * coherence, 0, 1))
    contrast = 0.07 if hair.cropped else _contrast(view, segments)
    streaks = np.exp(contrast * _comb(angle, curl, seed))
    return Style(colours.astype(np.float32), seen.astype(np.float32), angle, streaks.astype(np.float32), curl)


def hair_shown(sight: Sight, hair: HairVolume) -> np.ndarray:
    """(FINE * ROWS, FINE * COLUMNS) 0..1, how well a photo shows the hair at each place of its surface."""
    phi, arc = np.meshgrid(*grid_axes(FINE))
    points = hair.points(phi.ravel(), arc.ravel()).reshape(*phi.shape, 3)
    return _shown(sight, points, surface_normals(points))[0]


def _shown(
    sight: Sight, points: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well a photo shows hair at (R, C, 3) points: weight (R, C), colours (R, C, 3), pixels (R C, 3)."""
    view, segments = sight.view, sight.segments
    camera = view.head_camera
    facing = (normals * unit(camera.position - points)).sum(-1)
    pixels = camera.project(points.reshape(-1, 3))
    row, column = nearest_index(pixels, *view.shape)
    frame = view.frame
    inner = cv2.erode(frame.alpha, np.ones((7, 7)))
    shown = (
        inside(pixels, *view.shape, 2)
        & frame.valid[row, column]
        & (pixels[:, 2] < view.depth[row, column] + 0.004)
    )
    weight = (shown & (segments.hair[row, column] > 0.6) & (inner[row, column] > 0.85)).reshape(facing.shape)
    soft = cv2.GaussianBlur(frame.foreground, (0, 0), 1.5)
    return weight * smoothstep(facing, 0.15, 0.45), look_up(soft, pixels).reshape(points.shape), pixels


def _blur(grid: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a grid that is periodic in columns."""
    pad = min(int(3 * sigma) + 1, grid.shape[1])
    wide = np.concatenate([grid[:, -pad:], grid, grid[:, :pad]], 1).astype(np.float32)
    return cv2.GaussianBlur(wide, (0, 0), sigma)[:, pad:-pad]


def _spread(values: np.ndarray, weight: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    """Fill (R, C, k) from where `weight` is, by ever wider weighted means."""
    out = values * weight[..., None]
    total = weight[..., None].astype(np.float64)
    for sigma in sigmas:
        w = _blur(weight, sigma)[..., None]
        mean = _blur(values * weight[..., None], sigma) / np.maximum(w, 1e-6)
        share = np.clip(w / 0.08, 0, 1) * (1 - np.clip(total, 0, 1))
        out, total = out + mean * share, total + share
    everywhere = (values * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    return out + everywhere * (1 - np.clip(total, 0, 1))


def _spread_colours(
    view: View,
    segments: Segments,
    hair: HairVolume,
    own: np.ndarray,
    seen: np.ndarray,
    normals: np.ndarray,
    points: np.ndarray,
) -> np.ndarray:
    median = hair_median(view, segments)
    if seen.sum() < 50:
        return np.tile(median, (*seen.shape, 1))
    # Highlights belong to the light in front, not to the back of the head.
    level = own.mean(-1)
    bright = (
        np.percentile(level[seen > 0.3], 30 if hair.cropped else 88) if (seen > 0.3).any() else level.max()
    )
    tamed = own * np.minimum(1, (bright / np.maximum(level, 1e-3)) ** 0.8)[..., None]
    # The other side stands in a different light: it speaks where this one shows nothing near.
    near = _blur(seen, FADE)
    mirrored = seen[:, ::-1] * (1 - seen) * smoothstep(near, 0.15, 0.0)
    weight = seen + 0.7 * mirrored
    mixed = tamed * seen[..., None] + 0.7 * tamed[:, ::-1] * mirrored[..., None]
    mixed = mixed / np.maximum(weight, 1e-6)[..., None]
    spread = _spread(mixed, weight, (6, 18, 50))
    # Far from anything seen the tone drifts to the median, and gravity darkens what faces down.
    far = 1 - np.clip(_blur(weight, 14) / 0.25, 0, 1)[..., None]
    spread = spread * (1 - 0.7 * far) + 0.7 * far * median
    tone = 0.80 + 0.16 * np.clip(normals[..., 1], -0.6, 1) + 0.05 * smoothstep(points[..., 1], -0.1, 0.1)
    # It does so by and by: beside hair that is seen a step in tone would look like the rim of a wig.
    tone = 1 - (1 - tone) * smoothstep(near, 0.35, 0.0)
    return np.clip(spread * tone[..., None], 0, 1)


def _strand_angles(view: View, shape: tuple[int, ...], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, C) direction of the strands in the surface and its clarity, by the photo's structure tensor."""
    grey = (view.frame.foreground.mean(-1) * 255).astype(np.float32)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(p, (0, 0), 2.5) for p in (gx * gx, gy * gy, gx * gy))
    along = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2  # strands run across the gradient
    strength = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1.0)
    d = np.stack([np.cos(along), np.sin(along), strength], -1)

    at = look_up(d, pixels).reshape(*shape, 3)
    grid = pixels[:, :2].reshape(*shape, 2)
    phi, arc = grid_axes(FINE)
    ring = np.maximum(np.sin(np.minimum(arc / RADIUS, np.pi / 2)), 0.05) * RADIUS
    across = np.gradient(grid, axis=1) / (ring * (phi[1] - phi[0]))[:, None, None]  # pixels per metre
    down = np.gradient(grid, axis=0) / (arc[1] - arc[0])
    determinant = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    ok = np.where(abs(determinant) < 1e3, 1e9, determinant)
    u = (at[..., 0] * down[..., 1] - at[..., 1] * down[..., 0]) / ok
    v = (across[..., 0] * at[..., 1] - across[..., 1] * at[..., 0]) / ok
    return np.arctan2(v, u), at[..., 2]


def _directions(angle: np.ndarray, strength: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, float]:
    """Direction of the strands (R, C) spread from where it was seen; and how coherent it was there."""
    weight = seen * np.clip(strength, 0, 1) ** 2
    coherence = float((strength * seen).sum() / max(float(seen.sum()), 1e-6)) if seen.sum() > 50 else 0.5
    double = np.stack([np.cos(2 * angle), np.sin(2 * angle)], -1)
    mirror = double[:, ::-1] * [1, -1]
    both = weight + 0.7 * weight[:, ::-1] * (1 - weight)
    double = double * weight[..., None] + 0.7 * mirror * (weight[:, ::-1] * (1 - weight))[..., None]
    mean = np.stack([_blur(double[..., k], 5) for k in range(2)], -1)
    total = _blur(both, 5)[..., None]
    fallback = np.array([-1.0, 0.0])  # down: 2 * pi / 2
    wide = np.stack([_blur(double[..., k], 22) for k in range(2)], -1) + 0.05 * fallback
    blended = mean + np.maximum(0.25 - total, 0) * unit(wide) + 0.02 * fallback
    return (0.5 * np.arctan2(blended[..., 1], blended[..., 0])).astype(np.float32), coherence


def _contrast(view: View, segments: Segments) -> float:
    """Standard deviation of the log brightness of visible strands about their surroundings."""
    grey = view.frame.foreground.mean(-1) + 0.03
    sure = (
        cv2.erode(((segments.hair > 0.8) & (view.frame.alpha > 0.97)).astype(np.uint8), np.ones((5, 5))) > 0
    )
    if sure.sum() < 200:
        return 0.15
    ratio = np.log(grey / cv2.GaussianBlur(grey, (0, 0), 4))
    return float(np.clip(1.1 * ratio[sure].std(), 0.06, 0.32))


def _comb(angle: np.ndarray, curl: float, seed: int) -> np.ndarray:
    """Noise of unit variance smeared along the strands (line integral convolution, Cabral & Leedom 1993)."""
    rng = np.random.default_rng(seed)
    rows, columns = angle.shape
    _, arc = grid_axes(FINE)
    ring = np.maximum(np.sin(np.minimum(arc / RADIUS, np.pi / 2)), 0.15) * RADIUS
    cell = np.stack([ring * 2 * np.pi / columns, np.full(rows, ROW_STEP / FINE)])  # metres per cell
    wander = _blur(rng.normal(size=angle.shape), 3.0)
    direction = angle + wander / wander.std() * (0.15 + 0.8 * curl)
    field = np.stack([np.cos(direction), np.sin(direction)], -1).astype(np.float32)
    fine = rng.normal(size=angle.shape).astype(np.float32)
    clump = _blur(rng.normal(size=angle.shape), 2.0)
    noise = fine + 0.3 * clump / clump.std()
    steps = int(22 - 13 * curl)
    total = noise.copy()
    y0, x0 = np.mgrid[:rows, :columns].astype(np.float32)
    for sign in (1, -1):
        x, y = x0.copy(), y0.copy()
        heading = sign * field
        for _ in range(steps):
            x += heading[..., 0] * (0.0014 / cell[0])[:, None].astype(np.float32)
            y += heading[..., 1] * np.float32(0.0014 / cell[1, 0])
            wrapped = np.mod(x, columns - 1)
            local = cv2.remap(field, wrapped, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            turn = np.sign((local * heading).sum(-1, keepdims=True))
            heading = np.where(turn == 0, heading, local * turn)
            total += cv2.remap(noise, wrapped, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    total -= _blur(total, 8)
    return np.clip(total / total.std(), -2.5, 2.5)


def _tangent_axes(hair: HairVolume, phi: np.ndarray, arc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (N, 3) along the azimuth and down the surface at N places."""
    e = 0.004
    ring = np.maximum(np.sin(np.minimum(arc / RADIUS, np.pi / 2)), 0.1) * RADIUS
    across = hair.points(phi + e / ring, arc) - hair.points(phi - e / ring, arc)
    down = hair.points(phi, arc + e) - hair.points(phi, np.maximum(arc - e, 1e-4))
    return unit(across), unit(down)


def _scatter(area: float, rng: np.random.Generator | None, hair: HairVolume) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and arc length of places about sqrt(area) apart all over; jittered if `rng` is given."""
    step = float(np.sqrt(area))
    arcs = np.arange(step / 2, ROWS * ROW_STEP, step)
    phis, out = [], []
    for i, s in enumerate(arcs):
        row = int(min(s / ROW_STEP, ROWS - 1))
        ring = float(np.sin(min(s / RADIUS, np.pi / 2)) * hair.radius[row].mean())
        count = max(3, round(2 * np.pi * ring / step))
        phis.append(-np.pi + (np.arange(count) + 0.5 * (1 + i % 2)) * 2 * np.pi / count)
        out.append(np.full(count, s))
    phi, arc = np.concatenate(phis), np.concatenate(out)
    if rng is not None:
        ring = np.maximum(np.sin(np.minimum(arc / RADIUS, np.pi / 2)), 0.05) * RADIUS
        phi = phi + rng.uniform(-0.5, 0.5, len(phi)) * step / ring
        arc = np.clip(arc + rng.uniform(-0.5, 0.5, len(arc)) * step, 1e-3, ROWS * ROW_STEP - 1e-3)
    return np.mod(phi + np.pi, 2 * np.pi) - np.pi, arc


def _heights(view: View, points: np.ndarray) -> np.ndarray:
    """Position of rest points along the face axis: chin 0, top of the forehead 1."""
    top, chin = view.face_ends
    return (points[:, 1] - chin) / (top - chin)


def _shell(view: View, hair: HairVolume, style: Style, config: LiftConfig) -> Loose:
    phi, arc = _scatter(config.shell_area, None, hair)
    presence = hair.at(hair.presence, phi, arc)
    keep = presence > 0.35
    phi, arc, presence = phi[keep], arc[keep], presence[keep]
    means = hair.points(phi, arc, -0.0035)
    across, down = _tangent_axes(hair, phi, arc)
    size = 0.72 * np.sqrt(config.shell_area)
    colours = hair.at(style.colours, phi, arc) * np.sqrt(hair.at(style.streaks, phi, arc))[:, None] * 0.92
    count = len(phi)
    return Loose(
        means=means,
        t1=-across * size,
        t2=down * size,
        thickness=np.full(count, 0.35),
        colours=np.clip(colours, 0, 1),
        opacities=0.97 * smoothstep(presence, 0.35, 0.62),
        weights=hair_weights(_heights(view, means), abs(means[:, 0])),
        seen=np.zeros(count),
        trust=np.full(count, 0.1),
    )


def _strands(view: View, hair: HairVolume, style: Style, config: LiftConfig) -> Loose:
    """Long thin Gaussians along the strands, at random depths, where the photo does not show the hair."""
    rng = np.random.default_rng(config.seed + 1)
    # Spread about twice the wanted number over the surface, then keep what is hair and unseen.
    area = 2 * np.pi * RADIUS * ROWS * ROW_STEP / (3.2 * config.strands)
    phi, arc = _scatter(area, rng, hair)
    presence, seen = hair.at(hair.presence, phi, arc), hair.at(style.seen, phi, arc)
    keep = (presence > 0.4) & (rng.uniform(size=len(phi)) < 1 - smoothstep(seen, 0.5, 0.9))
    phi, arc, presence, seen = phi[keep], arc[keep], presence[keep], seen[keep]
    if len(phi) > config.strands:
        chosen = np.sort(rng.choice(len(phi), config.strands, replace=False))
        phi, arc, presence, seen = phi[chosen], arc[chosen], presence[chosen], seen[chosen]
    count = len(phi)
    depth = rng.uniform(0, 1, count)  # 1 = outermost
    double = np.stack([np.cos(2 * style.angle), np.sin(2 * style.angle)], -1)
    c2, s2 = hair.at(double, phi, arc).T
    angle = 0.5 * np.arctan2(s2, c2) + rng.normal(0, 0.10 + 0.55 * style.curl, count)
    across, down = _tangent_axes(hair, phi, arc)
    normal = unit(np.cross(down, across))
    along = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * down
    along = unit(along + normal * rng.normal(0, 0.05 + 0.25 * style.curl, (count, 1)))
    side = unit(np.cross(normal, along))
    coarse = np.sqrt(14_000 / max(config.strands, 1))
    length = rng.uniform(0.0034, 0.0062, count) * (1 - 0.45 * style.curl) * coarse**0.5
    if hair.cropped:
        length *= 0.35
    width = rng.uniform(0.0007, 0.0011, count) * coarse
    raised = -0.003 + 0.003 * depth + 0.003 * style.curl * rng.normal(size=count) * depth
    if hair.cropped:
        raised = 0.001 * depth
    means = hair.points(phi, arc, raised)
    streak = hair.at(style.streaks, phi, arc)
    own = np.exp(rng.normal(0, 0.06, count))
    tone = streak * own * (0.92 + 0.12 * depth)
    return Loose(
        means=means,
        t1=along * length[:, None],
        t2=side * width[:, None],
        thickness=np.full(count, 0.8),
        colours=np.clip(hair.at(style.colours, phi, arc) * tone[:, None], 0, 1),
        opacities=0.85 * smoothstep(presence, 0.4, 0.65) * (1 - 0.6 * smoothstep(seen, 0.3, 0.8)),
        weights=hair_weights(_heights(view, means), abs(means[:, 0])),
        seen=np.zeros(count),
        trust=np.full(count, 0.15),
    )
