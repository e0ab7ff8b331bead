"""The volume of the hair: one closed radial surface around skull and neck that meets the matte's outline.

The surface is a grid over a capsule: a sphere around the middle of the skull above its equator, a cylinder
around the neck below. A node stores its distance from the axis, so hair of any length, seen or not, has one
smooth surface on which seen pixels and invented strands both lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from headsplat.camera import Camera
from headsplat.head.regions import CROWN, NAPE
from headsplat.methods.lift.capsule import (
    CENTRE,
    COLUMNS,
    EQUATOR,
    RADIUS,
    ROW_STEP,
    ROWS,
    behind_plane,
    capsule_coordinates,
    grid_axes,
    grid_faces,
    rays,
    surface_normals,
)
from headsplat.methods.lift.numeric import disk, inside, look_up, nearest_index, smoothstep, unit
from headsplat.methods.lift.presence import (
    hair_presence,
    hidden_ears,
    lowest_hair,
    smooth_scalp,
)
from headsplat.methods.lift.segment import Segments, Sight
from headsplat.methods.lift.view import View
from headsplat.raster.mesh import rasterize_mesh


@dataclass(frozen=True)
class HairVolume:
    """The hair's outer surface on the grid (R rows of arc length, C columns of azimuth).

    Attributes:
        radius: (R, C) metres from the axis to the hair's surface.
        skull: (R, C) metres from the axis to the head model without ears.
        presence: (R, C) 0..1, how much hair there is.
        cropped: hair too short to stand off the scalp (or none): it is coloured on the skin instead.
        hidden_ears: (right, left), the subject's: covered by hair.
        thickness: metres, typical height of the hair over the skull.
        bald: no hair at all, or none that shows strands.
    """

    radius: np.ndarray
    skull: np.ndarray
    presence: np.ndarray
    cropped: bool
    hidden_ears: tuple[bool, bool]
    thickness: float
    bald: bool

    def at(self, grid: np.ndarray, phi: np.ndarray, arc: np.ndarray) -> np.ndarray:
        """Look up a grid (R, C[, k]) of any resolution at azimuths and arc lengths (N,)."""
        rows, columns = grid.shape[:2]
        pad = 4
        wrapped = np.concatenate([grid[:, -pad:], grid, grid[:, :pad]], 1)
        x = (phi + np.pi) / (2 * np.pi) * columns + pad
        y = arc / (ROWS * ROW_STEP) * rows
        return look_up(wrapped, np.stack([x, y], -1))

    def points(self, phi: np.ndarray, arc: np.ndarray, lift: np.ndarray | float = 0.0) -> np.ndarray:
        """(N, 3) points of the surface, raised along their rays by `lift` metres."""
        foot, direction = rays(phi, arc)
        return foot + direction * (self.at(self.radius, phi, arc) + lift)[:, None]

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (R * C, 3) and faces of the whole surface, closed around the axis."""
        phi, arc = np.meshgrid(*grid_axes())
        foot, direction = rays(phi.ravel(), arc.ravel())
        vertices = foot + direction * self.radius.reshape(-1, 1)
        return vertices, grid_faces()


def measure_hair(sights: Sequence[Sight]) -> HairVolume:
    """Find the hair's surface: smooth, outside the skull, inside the mattes, out to their outlines.

    Args:
        sights: the photos, the main one first: it alone says how far down hair hangs and how full it is.
    """
    view, segments = sights[0].view, sights[0].segments
    skull = _skull(view)
    hidden = hidden_ears(sights)
    long = lowest_hair(view, segments)
    base = cv2.blur(np.pad(skull, ((0, 0), (2, 2)), "wrap"), (5, 3))[:, 2:-2]
    if any(hidden):
        base = _gravity(base, max(long) < NAPE - 0.01)
    base = np.maximum(base, skull)
    phi, arc = np.meshgrid(*grid_axes())
    foot, direction = rays(phi, arc)
    normal = surface_normals(foot + direction * base[..., None])

    outline, weight = np.zeros_like(base), np.zeros_like(base)
    for sight in sights:
        seen = sight.view.head_camera.position - foot - direction * base[..., None]
        facing = (normal * unit(seen)).sum(-1)
        own, w = _outline(sight.view, sight.segments, foot, direction, base, facing)
        outline = np.where(weight > 0, (weight * outline + w * own) / np.maximum(weight + w, 1e-9), own)
        weight = weight + w
    surface = foot + direction * base[..., None]
    top = (weight > 0) & (surface[..., 1] > CROWN)
    silhouette = float(np.percentile(outline[top], 70)) if top.sum() > 3 else 0.02
    beside_face = (view.face < 0) & (view.height > -0.3) & (view.height < 0.6)
    hangs = (beside_face & (segments.hair > 0.5)).sum() > 0.06 * view.size**2
    stands = ((view.face < 0) & (view.height > 0.6) & (segments.hair > 0.5)).sum() > 0.085 * view.size**2
    cropped = segments.no_hair or (silhouette < 0.0085 and not (all(hidden) or hangs or stands))
    beside = (weight > 0) & (surface[..., 1] > 0.03) & (surface[..., 1] < 0.115)
    prior = float(np.clip(np.median(outline[beside]), 0.006, 0.03)) if beside.sum() > 3 else 0.010
    bald = segments.no_hair or (cropped and smooth_scalp(view, segments))
    if cropped:
        prior, hidden = 0.002, (False, False)

    plane = behind_plane(surface)
    face = (plane < -0.015) & (surface[..., 1] > NAPE - 0.02)
    expected = np.where(face, 0.004, np.where(surface[..., 1] > NAPE, prior, 0.004))
    trust = np.where(face, 2.0, 0.02)
    height = _solve(outline, weight, expected, trust)
    fractions = np.linspace(0, 1, 25)
    for attempt in range(3):
        limit = _hull_limit(view, foot, direction, base, height, fractions, 0.012)
        for sight in sights[1:]:  # hair falls a little differently in each: they only cut off what is far out
            limit = np.minimum(
                limit, _hull_limit(sight.view, foot, direction, base, height, fractions, -0.02)
            )
        bad = limit < height - 1e-4
        if attempt == 2 or not bad.any():
            height = np.minimum(height, limit)
            break
        outline, weight = np.where(bad, limit, outline), np.where(bad, np.maximum(weight, 1.5), weight)
        height = _solve(outline, weight, expected, trust)
    height = np.where(plane > 0.02, np.maximum(height, 0.003), height)
    radius = np.maximum(base + height, 0.88 * skull)
    cap = np.linspace(1, 0, 6)[:, None]  # around the pole, where columns meet
    radius[:6] = cap * radius[5].mean() + (1 - cap) * radius[:6]
    presence = (
        np.zeros_like(radius)
        if bald
        else hair_presence(sights, foot + direction * radius[..., None], radius, skull, hidden, cropped)
    )
    return HairVolume(
        radius.astype(np.float32),
        skull.astype(np.float32),
        presence.astype(np.float32),
        cropped,
        hidden,
        prior,
        bald,
    )


def _skull(view: View) -> np.ndarray:
    """(R, C) distance from the axis to the outermost skin but the ears, drawn in capsule coordinates."""
    regions, model = view.regions, view.model
    faces = model.faces[regions.skin_faces]
    faces = faces[~regions.ear[faces].any(1)]
    phi, arc, radius = capsule_coordinates(view.rest)
    corner = phi[faces]
    wraps = corner.max(1) - corner.min(1) > np.pi
    corner = np.where(wraps[:, None] & (corner < 0), corner + 2 * np.pi, corner)
    keep = corner.max(1) - corner.min(1) < np.pi / 2
    over = 2
    x = (corner + np.pi) / (2 * np.pi) * COLUMNS * over
    y = arc[faces] / ROW_STEP * over
    corners = np.stack([x, y, 1 / np.maximum(radius[faces], 1e-3)], -1)[keep].reshape(-1, 3)
    triangles = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    depth, _, _ = rasterize_mesh(corners.astype(np.float32), triangles, 2 * COLUMNS * over, ROWS * over)
    out = np.where(np.isfinite(depth), 1 / np.maximum(depth, 1e-6), 0.0)
    out = np.maximum(out[:, : COLUMNS * over], out[:, COLUMNS * over :])
    out = out.reshape(ROWS, over, COLUMNS, over).max((1, 3))
    for row in range(1, ROWS):  # below the bust nothing is known: go on as above
        out[row] = np.where(out[row] > 0, out[row], out[row - 1])
    first = int(np.argmax((out > 0).all(1)))
    out[:first] = out[first].mean()
    return out


def _gravity(radius: np.ndarray, long: bool) -> np.ndarray:
    """Let the surface fall nearly straight from its widest place, as hair does, instead of hugging the neck.

    Long hair falls so all around; shorter hair only in front of and over the ears, and hugs the nape.
    """
    phi, _ = grid_axes()
    inwards = 0.28 + 3.0 * smoothstep(abs(phi), np.radians(72), np.radians(52))
    if not long:
        inwards = inwards + 3.0 * smoothstep(abs(phi), np.radians(95), np.radians(112))
    out = radius.copy()
    for row in range(1, ROWS):
        if row * ROW_STEP > EQUATOR:
            out[row] = np.maximum(out[row], out[row - 1] - inwards * ROW_STEP)
    return out


def _outline(
    view: View,
    segments: Segments,
    foot: np.ndarray,
    direction: np.ndarray,
    base: np.ndarray,
    facing: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Height over `base` (R, C) at which nodes seen edge-on leave the matte, and its weight."""
    camera = view.head_camera
    steps = np.arange(-0.014, 0.121, 0.0012)
    edge_on = abs(facing) < 0.35
    r, c = np.nonzero(edge_on)
    start = foot[r, c] + direction[r, c] * base[r, c, None]
    path = start[:, None] + direction[r, c][:, None] * steps[None, :, None]
    pixels = camera.project(path.reshape(-1, 3))
    alpha = look_up(view.frame.alpha, pixels).reshape(len(r), -1)
    hair = look_up(segments.hair, pixels).reshape(len(r), -1)
    known = (inside(pixels, *view.shape, 2) & view.frame.valid[nearest_index(pixels, *view.shape)]).reshape(
        len(r), -1
    )
    zero = int(np.argmin(abs(steps)))
    matte = alpha > 0.5
    # Last sample of the run that starts at the surface (or, where the surface is outside, just before it).
    leaves = ~matte[:, zero:]
    out = np.where(leaves.any(1), np.argmax(leaves, 1) - 1, len(steps) - 1 - zero)
    back = np.argmax(matte[:, : zero + 1][:, ::-1], 1)
    back = np.where(matte[:, : zero + 1].any(1), back, zero)
    last = np.where(matte[:, zero], zero + out, zero - back)
    column = np.arange(len(steps))
    hairy = (hair > 0.4) & (column <= last[:, None])
    last_hair = np.where(hairy.any(1), len(steps) - 1 - np.argmax(hairy[:, ::-1], 1), 0)
    on_skull = start[:, 1] > -0.01
    target = steps[np.where(on_skull, last, np.minimum(last, last_hair))]
    good = known[np.arange(len(r)), np.minimum(last + 1, len(steps) - 1)] & (on_skull | hairy.any(1))
    good &= behind_plane(start) > -0.02
    target = np.clip(target, -0.012, np.where(on_skull, 0.11, 0.06))
    height, weight = np.zeros_like(base), np.zeros_like(base)
    height[r, c] = target
    weight[r, c] = np.where(good, 1 - abs(facing[r, c]) / 0.35, 0)
    return height, weight


_OPERATORS: dict[str, sp.csr_matrix] = {}


def _operators() -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
    """Membrane, plate and left-right difference operators over the nodes."""
    if not _OPERATORS:
        _, arc = grid_axes()
        ring = np.maximum(np.sin(np.minimum(arc / RADIUS, np.pi / 2)), 0.08) * RADIUS * 2 * np.pi / COLUMNS
        across = np.repeat(np.clip((ROW_STEP / ring) ** 2, 0.1, 20), COLUMNS)
        index = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
        i = np.concatenate([index.ravel(), index[:-1].ravel()])
        j = np.concatenate([np.roll(index, -1, 1).ravel(), index[1:].ravel()])
        w = np.concatenate([across, np.ones((ROWS - 1) * COLUMNS)])
        n = ROWS * COLUMNS
        adjacency = sp.coo_matrix((w, (i, j)), (n, n)).tocsr()
        adjacency = adjacency + adjacency.T
        degree = np.asarray(adjacency.sum(1))[:, 0]
        laplacian = sp.diags(degree) - adjacency
        scaled = sp.diags(4 / degree) @ laplacian
        mirror = sp.csr_matrix((np.ones(n), (np.arange(n), index[:, ::-1].ravel())), (n, n))
        difference = sp.identity(n) - mirror
        _OPERATORS["membrane"] = laplacian.tocsr()
        _OPERATORS["plate"] = (scaled.T @ scaled).tocsr()
        _OPERATORS["symmetry"] = (difference.T @ difference).tocsr()
    return _OPERATORS["membrane"], _OPERATORS["plate"], _OPERATORS["symmetry"]


def _solve(target: np.ndarray, weight: np.ndarray, expected: np.ndarray, trust: np.ndarray) -> np.ndarray:
    membrane, plate, symmetry = _operators()
    w = (weight + trust).ravel()
    system = (0.6 * plate + 0.05 * membrane + 0.01 * symmetry + sp.diags(w)).tocsc()
    right = (weight * target + trust * expected).ravel()
    return np.clip(np.asarray(spl.spsolve(system, right)).reshape(ROWS, COLUMNS), -0.012, 0.11)


def _hull_limit(
    view: View,
    foot: np.ndarray,
    direction: np.ndarray,
    base: np.ndarray,
    height: np.ndarray,
    fractions: np.ndarray,
    inset: float,
) -> np.ndarray:
    """Visual hull: the largest height up to which a node's whole path stays inside the matte.

    `inset` (face heights) is by how much the matte is shrunk first, or grown if it is negative.
    """
    deepest = -0.012
    rise = deepest + (height[..., None] - deepest) * fractions
    path = foot[..., None, :] + direction[..., None, :] * (base[..., None] + rise)[..., None]
    pixels = _project_flat(view.head_camera, path.reshape(-1, 3))
    kernel = disk(max(1, round(abs(inset) * view.size)))
    inner = (cv2.erode if inset > 0 else cv2.dilate)(view.frame.alpha, kernel)
    ok = look_up(inner, pixels) > 0.5
    ok |= ~inside(pixels, *view.shape, 1) | ~view.frame.valid[nearest_index(pixels, *view.shape)]
    ok = ok.reshape(*height.shape, -1)
    ok[..., 0] = True
    last = np.where(ok.all(-1), len(fractions) - 1, np.maximum(np.argmax(~ok, -1) - 1, 0))
    return np.minimum(height, deepest + (height - deepest) * fractions[last])


def _project_flat(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixels of (N, 3) points, those behind the middle of the head as if they stood beside it.

    Behind its outline a head narrows; the cone of rays through the outline, which the photo allows, widens.
    """
    local = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    middle = float(camera.viewmat[2, :3] @ CENTRE + camera.viewmat[2, 3])
    z = np.minimum(local[:, 2:], middle)
    K = camera.K
    return local[:, :2] / z * np.array([K[0, 0], K[1, 1]]) + K[:2, 2]
