"""A stand-in for a photo whose truth is known: the free head, painted and lit, drawn with the z-buffer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.free import load_free_head
from headsplat.raster.mesh import rasterize_mesh
from headsplat.track import landmarks as lm
from headsplat.track.torso import rotation_vector

_LEVEL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Painted:
    """A picture (H, W, 3) float32 and what was drawn: rotation is head to camera."""

    image: np.ndarray
    rotation: np.ndarray
    vertices: np.ndarray
    pixels: np.ndarray
    shape: np.ndarray
    expression: np.ndarray


def paint(
    *,
    seed: int = 0,
    expression: dict[str, float] | None = None,
    yaw: float = 0.0,
    pitch: float = 0.0,
    gaze: tuple[float, float] = (0.0, 0.0),
    size: int = 512,
    focal: float = 1200.0,
    spread: float = 0.6,
) -> Painted:
    """Draw a random person; radians; gaze is yaw to the subject's left and pitch down."""
    model = load_free_head()
    rng = np.random.default_rng(seed)
    shape = (rng.normal(0, spread, len(model.shape_basis)) * model.shape_symmetric).astype(np.float32)
    eye = axis_angle_to_matrix(np.array([0.0, gaze[0], 0.0])) @ axis_angle_to_matrix(
        np.array([gaze[1], 0.0, 0.0])
    )
    turn = rotation_vector(eye)
    weights = model.expression_weights(expression or {})
    posed = model.with_shape(shape).with_pose(weights, {"left_eye": turn, "right_eye": turn})
    turned = axis_angle_to_matrix(np.array([0.0, yaw, 0.0])) @ axis_angle_to_matrix(
        np.array([pitch, 0.0, 0.0])
    )
    rotation = _LEVEL @ turned
    middle = model.landmarks(posed.vertices).mean(0)
    # A face of about a quarter of the picture's height, as in a portrait.
    camera = (posed.vertices - middle) @ rotation.T + [0, 0.02, focal * 0.165 / (0.36 * size)]
    pixels = focal * camera[:, :2] / camera[:, 2:] + size / 2
    drawn = rasterize_mesh(np.column_stack([pixels, camera[:, 2]]), model.faces, size, size)
    normals = np.cross(
        camera[model.faces[:, 1]] - camera[model.faces[:, 0]],
        camera[model.faces[:, 2]] - camera[model.faces[:, 0]],
    )
    smooth = np.zeros_like(camera)
    for k in range(3):
        np.add.at(smooth, model.faces[:, k], normals)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True) + 1e-12
    light = np.array([0.25, -0.3, -0.9])
    brightness = 0.5 + 0.6 * np.clip(smooth @ (light / np.linalg.norm(light)), 0, 1)
    colours = _paint() * brightness[:, None]
    image = np.full((size, size, 3), [0.55, 0.6, 0.65], np.float32)
    seen = drawn.face >= 0
    corners = model.faces[drawn.face[seen]]
    image[seen] = np.einsum("nkc,nk->nc", colours[corners], drawn.barycentrics[seen])
    return Painted(np.clip(image, 0, 1), rotation, posed.vertices, pixels, shape, weights)


@cache
def _paint() -> np.ndarray:
    """(V, 3) colours of the vertices: skin, brows, lips, irises, a cap of hair."""
    import cv2

    model = load_free_head()
    template, points = model.template, model.landmarks(model.template)
    colours = np.tile(np.array([0.85, 0.66, 0.55]), (len(template), 1))
    head = model.vertices_of("head")
    front = head[template[head, 2] > points[lm.OUTER_EYE_LEFT, 2] - 0.02]
    for brow in (lm.BROW_LEFT, lm.BROW_RIGHT):
        near = np.linalg.norm(template[front, None] - points[brow][None], axis=-1).min(1) < 0.005
        colours[front[near]] = [0.2, 0.13, 0.1]
    outline = (points[lm.LIPS_OUTER, :2] * 1e4).astype(np.float32)
    inside = [
        cv2.pointPolygonTest(outline, (float(x * 1e4), float(y * 1e4)), False) >= 0
        for x, y, _ in template[front]
    ]
    colours[front[np.array(inside)]] = [0.72, 0.35, 0.35]
    plane = points[lm.FOREHEAD]
    hair = (template[:, 1] - plane[1]) * 0.9 - (template[:, 2] - plane[2]) * 0.5 > 0.0
    colours[np.intersect1d(head, np.flatnonzero(hair))] = [0.25, 0.17, 0.12]
    for part, colour in (
        ("mouth_cavity", (0.35, 0.12, 0.12)),
        ("tongue", (0.65, 0.3, 0.3)),
        ("teeth_upper", (0.92, 0.9, 0.85)),
        ("teeth_lower", (0.92, 0.9, 0.85)),
        ("lashes", (0.1, 0.07, 0.06)),
    ):
        colours[model.vertices_of(part)] = colour
    for side in ("left_eye", "right_eye"):
        ball = model.vertices_of(side)
        away = template[ball] - model.joint_template[model.joint_names.index(side)]
        angle = np.arccos(np.clip(away[:, 2] / np.linalg.norm(away, axis=1), -1, 1))
        colours[ball] = np.select(
            [angle[:, None] < 0.22, angle[:, None] < 0.5],
            [[0.03, 0.03, 0.03], [0.3, 0.2, 0.12]],
            [0.93, 0.93, 0.93],
        )
    return colours
