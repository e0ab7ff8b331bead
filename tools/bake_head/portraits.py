"""Painted renders of random people, real enough for a face detector, with the pose of every one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.camera import Camera
from headsplat.head.model import HeadModel
from headsplat.head.normals import vertex_normals
from headsplat.raster.mesh import rasterize_mesh

SIZE = 512
_TONES = ((0.90, 0.72, 0.62), (0.80, 0.60, 0.48), (0.60, 0.42, 0.32), (0.85, 0.68, 0.50), (0.42, 0.29, 0.22))
EXPRESSIONS: tuple[dict[str, float], ...] = (
    {},
    {},
    {"jawOpen": 0.4},
    {"jawOpen": 0.9},
    {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8},
    {"eyeBlinkLeft": 1, "eyeBlinkRight": 1},
    {"browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8},
    {"mouthPucker": 0.8},
    {"browDownLeft": 0.8, "browDownRight": 0.8, "mouthFrownLeft": 0.6, "mouthFrownRight": 0.6},
    {"mouthStretchLeft": 0.7, "mouthStretchRight": 0.7, "jawOpen": 0.2},
)


@dataclass(frozen=True)
class Portrait:
    """One render.

    Attributes:
        image: (512, 512, 3) uint8.
        vertices: (V, 3) posed mesh, metres.
        camera: the camera.
        expression: index into `EXPRESSIONS`.
        yaw: radians.
    """

    image: np.ndarray
    vertices: np.ndarray
    camera: Camera
    expression: int
    yaw: float


def random_portrait(model: HeadModel, number: int, rng: np.random.Generator) -> Portrait:
    """Portrait `number` of a series: its expression and skin tone follow the number, all else is random."""
    asymmetric = ~model.shape_symmetric & (rng.random(len(model.shape_symmetric)) > 0.3)
    betas = np.where(asymmetric, 0, rng.normal(0, 0.7, len(model.shape_basis)))
    gaze = np.array([*rng.normal(0, 0.12, 2), 0])
    yaw = rng.uniform(-0.7, 0.7) if number % 3 else rng.uniform(-0.15, 0.15)
    pitch, roll = rng.uniform(-0.3, 0.3), rng.uniform(-0.15, 0.15)
    expression = number % len(EXPRESSIONS)
    posed = model.with_shape(betas).with_pose(EXPRESSIONS[expression], {"left_eye": gaze, "right_eye": gaze})
    head = model.vertices_of("head")
    face = posed.vertices[head[model.template[head, 2] > 0.06]].mean(0)
    focal = SIZE * rng.uniform(1.8, 3.5)
    distance = focal * 0.20 / (SIZE * rng.uniform(0.55, 0.8))
    camera = _camera(face + np.append(rng.normal(0, 0.008, 2), 0), yaw, pitch, roll, distance, focal)
    paint = _paint(model, np.array(_TONES[number % len(_TONES)]), rng)
    return Portrait(
        _shade(model, posed.vertices, camera, paint, rng), posed.vertices, camera, expression, yaw
    )


def _camera(
    target: np.ndarray, yaw: float, pitch: float, roll: float, distance: float, focal: float
) -> Camera:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    rotation = np.diag([1.0, -1, -1]) @ about_z @ about_x @ about_y
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = np.array([0, 0, distance]) - rotation @ target
    K = np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    return Camera(viewmat, K, SIZE, SIZE)


def _paint(model: HeadModel, tone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(V, 3) colours: skin, lips, brows, a cap of hair, teeth, eyes and lashes."""
    template = model.template
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    colour = np.tile(tone, (len(template), 1))
    for part, value in (
        ("mouth_cavity", (0.45, 0.18, 0.18)),
        ("tongue", (0.75, 0.35, 0.35)),
        ("teeth_upper", (0.93, 0.92, 0.88)),
        ("teeth_lower", (0.93, 0.92, 0.88)),
        ("eye_socket", tuple(tone * 0.85)),
        ("lashes", (0.1, 0.07, 0.05)),
    ):
        colour[model.vertices_of(part)] = value
    skin = np.zeros(len(template), bool)
    skin[model.vertices_of("head")] = True

    edge = np.intersect1d(model.vertices_of("head"), model.vertices_of("mouth_cavity"))
    corner, line = x[edge].max() + 0.002, y[edge].mean()
    width = np.sqrt(np.clip(1 - (x / corner) ** 2, 0, 1))
    lips = skin & (y < line + 0.0075 * width) & (y > line - 0.0105 * width) & (z > template[edge, 2].min())
    colour[lips] = tone * np.array([0.92, 0.62, 0.62])

    eye = model.vertices_of("left_eye")
    eye_x, eye_y = template[eye, 0].mean(), template[eye, 1].mean()
    dx, dy = x - eye_x, y - eye_y
    arc = 0.022 - 0.25 * np.maximum(dx - 0.012, 0)
    band = np.clip(1 - np.abs(dy - arc) / rng.uniform(0.0045, 0.0065), 0, 1) * (dx > -0.018) * (dx < 0.026)
    band = band * (z > template[eye, 2].mean() - 0.01) * skin * rng.uniform(0.6, 0.95)
    hair = np.array([0.12, 0.08, 0.05]) * rng.uniform(0.5, 3)
    colour = colour * (1 - band[:, None]) + band[:, None] * hair
    cap = skin & ((y > eye_y + rng.uniform(0.052, 0.066)) | ((z < 0.01) & (y > eye_y - 0.02)))
    colour[cap] = hair
    return colour


def _shade(
    model: HeadModel, vertices: np.ndarray, camera: Camera, paint: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    points = camera.project(vertices)
    _, face, barycentrics = rasterize_mesh(points, model.faces, SIZE, SIZE)
    seen = face >= 0
    corners = model.faces[face[seen]]
    weight = barycentrics[seen][..., None]
    normal = (vertex_normals(vertices, model.faces)[corners] * weight).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    colour = (paint[corners] * weight).sum(1)
    rest = (model.template[corners] * weight).sum(1)
    iris = np.array([90, 60, 40]) / 255 * rng.uniform(0.6, 1.6)
    for part in ("left_eye", "right_eye"):
        ids = model.vertices_of(part)
        centre = 0.5 * (model.template[ids].min(0) + model.template[ids].max(0))
        on = model.face_part[face[seen]] == model.part_names.index(part)
        ray = rest[on] - centre
        angle = np.degrees(np.arccos(np.clip(ray[:, 2] / np.linalg.norm(ray, axis=1), -1, 1)))[:, None]
        sclera = np.array([0.92, 0.91, 0.90])
        colour[on] = np.where(angle < 8, 0.07, np.where(angle < 21.5, iris, sclera))
    light = rng.normal(0, 0.35, 3) + np.array([0, 0.3, 0.9])
    light /= np.linalg.norm(light)
    image = np.broadcast_to(rng.uniform(0.2, 0.8, 3), (SIZE, SIZE, 3)).copy()
    image[seen] = colour * (0.45 + 0.6 * np.clip(normal @ light, 0, 1))[:, None]
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
