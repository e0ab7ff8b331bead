"""The photo's lighting on skin: a smooth function of the normal times how open a place is to the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.head.model import HeadModel
from headsplat.methods.lift.numeric import inside, nearest_index
from headsplat.methods.lift.segment import Segments
from headsplat.methods.lift.view import View, vertex_normals
from headsplat.raster.mesh import rasterize_mesh

_OPENNESS: list[tuple[HeadModel, np.ndarray]] = []


@dataclass(frozen=True)
class Shading:
    """Relative brightness of the skin.

    Attributes:
        at_vertices: (V,) brightness factor of each vertex in the photo's pose.
        at_skin: mean factor of the skin that the photo shows.
    """

    at_vertices: np.ndarray
    at_skin: float


def openness(model: HeadModel) -> np.ndarray:
    """(V,) 0..1: share of the directions around its normal from which a template vertex can be seen.

    Once per model, from depth pictures out of 64 directions spread evenly over the sphere.
    """
    for known, value in _OPENNESS:
        if known is model:
            return value
    faces = model.faces[np.isin(model.face_part, [model.part_names.index(p) for p in ("head", "body")])]
    points = model.template.astype(np.float64)
    normals = vertex_normals(points, faces)
    count, size = 64, 160
    golden = np.pi * (3 - np.sqrt(5))
    seen, total = np.zeros(len(points)), np.full(len(points), 1e-6)
    for i in range(count):
        y = 1 - 2 * (i + 0.5) / count
        d = np.array([np.sqrt(1 - y * y) * np.cos(golden * i), y, np.sqrt(1 - y * y) * np.sin(golden * i)])
        right = np.cross(d, [0.3, 0.1, 0.9])
        right /= np.linalg.norm(right)
        up = np.cross(d, right)
        flat = np.stack([points @ right, points @ up], -1) / 0.5 * size + size / 2
        depth = 10 - points @ d  # nearly orthographic: depths differ little from 10
        picture, _, _ = rasterize_mesh(
            np.concatenate([flat, depth[:, None]], 1).astype(np.float32), faces, size, size
        )
        row, column = nearest_index(flat, size, size)
        weight = np.clip(normals @ d, 0, None)
        seen += weight * (depth < picture[row, column] + 0.006)
        total += weight
    value = (seen / total).astype(np.float32)
    _OPENNESS[:] = [*_OPENNESS[-1:], (model, value)]
    return value


def learn_shading(view: View, segments: Segments) -> Shading:
    """Fit brightness = linear in the normal, from the skin that faces the camera; cautious elsewhere."""
    model = view.model
    normals = vertex_normals(view.posed, model.faces[view.regions.skin_faces])
    clear = 0.45 + 0.55 * openness(model)
    # At rest the lids are folded away; shut they lie as open as the cheek.
    clear = np.maximum(clear, 0.95 * np.clip(view.regions.lid / 0.05, 0, 1))
    row, column = nearest_index(view.pixels, *view.shape)
    shown = inside(view.pixels, *view.shape) & (view.pixels[:, 2] < view.depth[row, column] + 0.003)
    shown &= (view.facing > 0.3) & (segments.skin[row, column] > 0.8) & (view.frame.alpha[row, column] > 0.95)
    shown &= view.regions.head & (view.regions.behind < 0)
    level = segments.skin_colour.mean()
    if shown.sum() < 100:
        return Shading(clear, float(clear[view.regions.head].mean()))
    bright = view.frame.foreground[row[shown], column[shown]].mean(-1) / (level * clear[shown])
    ok = (bright > 0.5) & (bright < 1.6)  # neither features nor highlights
    basis = np.concatenate([np.ones((len(normals), 1)), normals], 1)
    a, b = basis[shown][ok], bright[ok]
    ridge = np.diag([1e-3, 0.15, 0.15, 0.15]) * len(b)
    solution = np.linalg.solve(a.T @ a + ridge, a.T @ b + ridge @ [1.0, 0.0, 0.12, 0.12])
    factor = np.clip(basis @ solution, 0.62, 1.15) * clear
    return Shading(factor, float(factor[shown].mean()))
