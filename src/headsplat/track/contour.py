"""Where the outline of the head should be: the model's contour against the skin's edge in the picture.

Landmarks say nothing about ears, the sides of the jaw and the neck. Where the cut-out person ends in bare
skin, its edge does: the model's contour there is moved onto it. Hair and clothes hide the head, so an edge
that is not skin says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from headsplat.head.model import HeadModel
from headsplat.track import landmarks as lm
from headsplat.track.colours import fit_colours, to_lab
from headsplat.track.matte import face_mask, height_above_chin

_REACH = 0.20
"""How far along its normal a contour point looks for the edge, as a share of the outer-eye distance."""
_STEP = 0.5
"""Sampling along the normal, pixels."""
_SKIN_QUANTILE = 0.03
"""A pixel is skin if it is at least as likely as this share of the cheeks' pixels."""


@dataclass(frozen=True)
class Outline:
    """The picture's evidence about the outline of the skin.

    Attributes:
        alpha: (H, W) float32 matte of the person.
        skin: (H, W) float32 0..1, smoothed: whether a pixel has the colour of this face's skin.
    """

    alpha: np.ndarray
    skin: np.ndarray


@dataclass(frozen=True)
class Edges:
    """Contour points of the model and the lines in the picture that they should lie on.

    Attributes:
        vertices: (M,) vertices of the head model.
        normals: (M, 2) outward unit normals in the picture.
        offsets: (M,) the point x should satisfy normal . x = offset, pixels.
    """

    vertices: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray


def see_outline(image: np.ndarray, alpha: np.ndarray, landmarks: np.ndarray) -> Outline:
    """Collect the evidence once per picture.

    Args:
        image: (H, W, 3) float32, best the person's own colours.
        alpha: (H, W) float32.
        landmarks: (478, 2) pixels.
    """
    import cv2

    lab = to_lab(image)
    features = np.zeros(alpha.shape, np.uint8)
    for group in (lm.EYE_LEFT, lm.EYE_RIGHT, lm.BROW_LEFT, lm.BROW_RIGHT, lm.LIPS_OUTER):
        hull = cv2.convexHull(landmarks[group].astype(np.float32)).astype(np.int32)
        cv2.fillConvexPoly(features, hull, (1,))
    width = max(3, round(lm.face_height(landmarks) / 20))
    features = cv2.dilate(features, np.ones((width, width)))
    height = height_above_chin(landmarks, alpha.shape)
    face = cv2.erode(face_mask(landmarks, alpha.shape), np.ones((width, width)))
    cheeks = (face > 0) & (features == 0) & (alpha > 0.9) & (height > 0.2) & (height < 0.7)
    if cheeks.sum() < 100:
        return Outline(alpha, np.zeros_like(alpha))
    colours = fit_colours(lab[cheeks], 5)
    person = alpha > 0.5
    skin = np.zeros_like(alpha)
    skin[person] = colours.log_density(lab[person]) > np.quantile(
        colours.log_density(lab[cheeks]), _SKIN_QUANTILE
    )
    return Outline(alpha, cv2.blur(skin, (3, 3)))


def match_outline(
    model: HeadModel, points: np.ndarray, unit: float, outline: Outline, valid: np.ndarray
) -> Edges:
    """Find where the model's contour should be.

    Args:
        model: the head model.
        points: (V, 3) its vertices: pixels and camera depth.
        unit: outer-eye distance seen straight on, pixels.
        outline: the picture's evidence.
        valid: (H, W) bool, inside the original picture.
    """
    vertices, normals = contour_vertices(model, points)
    start = points[vertices, :2]
    reach = _REACH * unit
    steps = np.arange(-reach, reach + _STEP, _STEP)
    line = start[:, None] + normals[:, None] * steps[None, :, None]
    inside_picture = _sample(valid.astype(np.float32), line) > 0.5
    alpha = _sample(outline.alpha, line)
    skin = _sample(outline.skin, line)
    # The edge: the crossing of one half that is nearest to the contour and leads outwards.
    crossing = (alpha[:, :-1] >= 0.5) & (alpha[:, 1:] < 0.5)
    distance = np.where(crossing, np.abs(steps[:-1])[None], np.inf)
    at = distance.argmin(1)
    rows = np.arange(len(vertices))
    found = np.isfinite(distance[rows, at])
    span = np.maximum(1, round(0.03 * unit / _STEP))
    before = np.clip(at[:, None] - np.arange(2, 2 + 2 * span)[None], 0, len(steps) - 1)
    after = np.clip(at[:, None] + np.arange(2, 2 + 2 * span)[None], 0, len(steps) - 1)
    solid = (alpha[rows[:, None], before] > 0.8).mean(1) > 0.9
    empty = (alpha[rows[:, None], after] < 0.2).mean(1) > 0.7
    bare = skin[rows[:, None], before].mean(1) > 0.6
    known = inside_picture[rows, at] & inside_picture[rows, np.clip(at + span, 0, len(steps) - 1)]
    keep = found & solid & empty & bare & known
    below, above = alpha[rows, at], alpha[rows, np.minimum(at + 1, len(steps) - 1)]
    exact = steps[at] + _STEP * (below - 0.5) / np.maximum(below - above, 1e-6)
    offsets = (start * normals).sum(1) + exact
    return Edges(vertices[keep], normals[keep], offsets[keep])


def contour_vertices(model: HeadModel, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices on the outer contour of the skin as seen, and their outward normals in the picture.

    Args:
        model: the head model.
        points: (V, 3) vertices: pixels and camera depth.

    Returns:
        (M,) vertices and (M, 2) unit normals.
    """
    edges, left, right, faces = _skin_edges(model)
    corner = points[faces, :2]
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    facing = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0  # pixel y points down: seen faces turn clockwise
    on = facing[left] != facing[right]
    ends = edges[on]
    # The normal of a contour edge points away from the face that is seen.
    front = faces[np.where(facing[left], left, right)[on]]
    along = points[ends[:, 1], :2] - points[ends[:, 0], :2]
    normal = np.stack([along[:, 1], -along[:, 0]], 1)
    inner = points[front, :2].mean(1) - points[ends[:, 0], :2]
    normal *= np.where((normal * inner).sum(1, keepdims=True) > 0, -1, 1)
    total = np.zeros((len(points), 2))
    for k in (0, 1):
        np.add.at(total, ends[:, k], normal)
    length = np.linalg.norm(total, axis=1)
    vertices = np.flatnonzero(length > 1e-6)
    normals = total[vertices] / length[vertices, None]
    outermost = ~_covered(points, faces, points[vertices, :2] + 2.0 * normals)
    return vertices[outermost], normals[outermost]


def _covered(points: np.ndarray, faces: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether the skin is drawn at (M, 2) pixels."""
    from headsplat.raster.mesh import rasterize_mesh

    low = np.floor(np.minimum(points[:, :2].min(0), at.min(0))) - 1
    size = np.ceil(np.maximum(points[:, :2].max(0), at.max(0)) - low).astype(int) + 2
    moved = points - np.append(low, 0)
    face = rasterize_mesh(moved, faces, int(size[0]), int(size[1])).face
    x, y = (at - low).astype(int).T
    return face[y, x] >= 0


def _sample(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bilinear samples of (H, W) at (..., 2) pixels; outside, the border's values."""
    import cv2

    x, y = (at[..., 0] - 0.5).astype(np.float32), (at[..., 1] - 0.5).astype(np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _skin_edges(model: HeadModel) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inner edges (K, 2) of the skin, their two faces (K,), (K,) and the faces (F, 3) themselves."""
    faces = model.faces[model.faces_of("head", "body")]
    return (*_inner_edges(faces.tobytes()), faces)


@cache
def _inner_edges(faces: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    triangles = np.frombuffer(faces, np.int32).reshape(-1, 3)
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    owner = np.tile(np.arange(len(triangles)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, owner = edges[order], owner[order]
    shared = np.flatnonzero((edges[1:] == edges[:-1]).all(1))
    return edges[shared], owner[shared], owner[shared + 1]
