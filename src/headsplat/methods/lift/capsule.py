"""The grid on which hair is described: a sphere around the skull, a cylinder around the neck below it.

Azimuth goes around the axis (0 at the face, positive to the subject's left), arc length down from the crown.
"""

from __future__ import annotations

import numpy as np

from headsplat.head.regions import HAIR_PLANE
from headsplat.methods.lift.numeric import smoothstep, unit

CENTRE = np.array([0.0, 0.050, 0.0])
RADIUS = 0.1
"""Metres of arc per radian above the equator, so that a row is as long as it is wide on a skull."""
COLUMNS, ROW_STEP, LENGTH = 72, 0.005, 0.27
ROWS = int((np.pi / 2 * RADIUS + LENGTH) / ROW_STEP)
EQUATOR = np.pi / 2 * RADIUS
FINE = 4
"""Fine grids (colours, directions) have this many cells per node in both directions."""


def axis_offset(y: np.ndarray) -> np.ndarray:
    """Depth z of the axis at height y: the neck stands behind the middle of the skull."""
    return -0.03 * smoothstep(y, 0.05, -0.06)


def grid_axes(scale: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (columns,) and arc length (rows,) of the nodes; azimuth 0 is the face, positive the left."""
    phi = -np.pi + (np.arange(COLUMNS * scale) + 0.5) * 2 * np.pi / (COLUMNS * scale)
    return phi, (np.arange(ROWS * scale) + 0.5) * ROW_STEP / scale


def rays(phi: np.ndarray, arc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foot on the axis and direction of the ray at azimuth `phi` and arc length `arc`, each (..., 3)."""
    polar = np.minimum(arc / RADIUS, np.pi / 2)
    direction = np.stack([np.sin(polar) * np.sin(phi), np.cos(polar), np.sin(polar) * np.cos(phi)], -1)
    y = CENTRE[1] - np.maximum(arc - EQUATOR, 0)
    return np.stack([np.zeros_like(y), y, axis_offset(y)], -1), direction


def capsule_coordinates(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth, arc length and distance from the axis of (..., 3) head-space points."""
    d = points - CENTRE
    below = d[..., 1] < 0
    z = np.where(below, points[..., 2] - axis_offset(points[..., 1]), d[..., 2])
    flat = np.hypot(d[..., 0], z)
    radius = np.where(below, flat, np.linalg.norm(d, axis=-1))
    arc = np.where(below, EQUATOR - d[..., 1], RADIUS * np.arctan2(flat, np.maximum(d[..., 1], 0)))
    return np.arctan2(d[..., 0], z), arc, radius


def grid_faces() -> np.ndarray:
    """(F, 3) triangles over all nodes, wound outwards."""
    r, c = np.mgrid[: ROWS - 1, :COLUMNS]
    a, b = r * COLUMNS + c, r * COLUMNS + (c + 1) % COLUMNS
    d, e = a + COLUMNS, b + COLUMNS
    return np.concatenate([np.stack([a, d, b], -1).reshape(-1, 3), np.stack([b, d, e], -1).reshape(-1, 3)])


def surface_normals(points: np.ndarray) -> np.ndarray:
    """(R, C, 3) outward unit normals of grid points (R, C, 3), periodic in columns."""
    across = np.roll(points, -1, 1) - np.roll(points, 1, 1)
    down = np.gradient(points, axis=0)
    return unit(np.cross(down, across))


def behind_plane(points: np.ndarray) -> np.ndarray:
    """Signed distance of points behind the plane that parts face from scalp."""
    (y1, z1), (y0, z0) = HAIR_PLANE
    slope = (z1 - z0) / (y1 - y0)
    return ((points[..., 1] - y0) * slope + z0 - points[..., 2]) / np.hypot(1, slope)
