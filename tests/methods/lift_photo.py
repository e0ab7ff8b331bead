"""A tracked photo with known truth: the free head drawn with painted skin, features, hair and a shirt."""

from __future__ import annotations

import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.head.free import load_free_head
from headsplat.raster.mesh import rasterize_mesh

SKIN, HAIR, SHIRT, LIPS = (0.80, 0.62, 0.52), (0.22, 0.14, 0.08), (0.25, 0.40, 0.60), (0.70, 0.40, 0.38)
SIZE = 256


PATCH = (0.20, 0.60, 0.30)


def painted_frame(hair: bool, turn: float = 0.0, *, patch: bool = False) -> Frame:
    """A square frame of the template head, SIZE pixels wide.

    Args:
        hair: paint a cap of streaky hair 12 mm thick over the scalp, or none.
        turn: yaw of the head in radians, positive to its left.
        patch: paint the side of the left cheek green, where a photo from in front hardly shows it.
    """
    model = load_free_head()
    rotations = np.zeros((len(model.joint_names), 3), np.float32)
    rotations[model.joint_names.index("head")] = (0.0, turn, 0.0)
    posed = np.asarray(model.with_shape(None).with_pose(None, rotations).vertices, np.float64)
    template = model.template.astype(np.float64)
    focal = SIZE * 0.95 / 0.42
    camera = Camera.orbit(target=(0, 0.012, 0), distance=0.95, focal=focal, width=SIZE, height=SIZE)
    part = np.asarray(model.part_names)[model.face_part]
    solid = ~np.isin(part, ["lashes"])
    colours = np.tile(SKIN, (len(template), 1))
    body = template[:, 1] < -0.085
    colours[body] = SHIRT
    lips = (
        (np.abs(template[:, 0]) < 0.026) & (np.abs(template[:, 1] + 0.022) < 0.008) & (template[:, 2] > 0.09)
    )
    colours[lips] = LIPS
    if patch:
        side = (template[:, 0] > 0.045) & (np.abs(template[:, 1] + 0.005) < 0.03) & (template[:, 2] > 0.015)
        colours[side & (template[:, 2] < 0.062)] = PATCH
    vertices = posed.copy()
    if hair:
        scalp = (template[:, 1] > 0.02) & (template[:, 2] < 0.087 * (template[:, 1] - 0.02) / 0.08) & ~body
        outwards = template - np.array([0, 0.05, 0.0])
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
        vertices[scalp] += 0.012 * outwards[scalp]
        colours[scalp] = HAIR
    pixels = camera.project(vertices).astype(np.float32)
    _, face, weights = rasterize_mesh(pixels, model.faces[solid], SIZE, SIZE)
    inside = face >= 0
    image = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    corners = model.faces[solid][face[inside]]
    image[inside] = (colours[corners] * weights[inside][..., None]).sum(1)
    names = np.isin(part[solid][np.maximum(face, 0)], ["left_eye", "right_eye"]) & inside
    image[names] = (0.85, 0.85, 0.83)
    # Strands: streaks on what is hair, and mild grain on the rest.
    rng = np.random.default_rng(0)
    streaks = np.repeat(rng.normal(1, 0.22, (1, SIZE)), SIZE, 0)
    is_hair = np.abs(image - np.array(HAIR)).max(-1) < 0.08
    image *= np.where(is_hair, streaks, 1 + rng.normal(0, 0.012, (SIZE, SIZE)))[..., None]
    image = np.clip(image, 0, 1).astype(np.float32)
    landmarks = _landmarks(posed, camera)
    alpha = inside.astype(np.float32)
    return Frame(
        image=image,
        alpha=alpha,
        foreground=image,
        valid=np.ones((SIZE, SIZE), bool),
        camera=camera,
        shape=np.zeros(len(model.shape_basis), np.float32),
        expression=np.zeros(len(model.expression_names), np.float32),
        rotations=rotations,
        T_world_root=np.eye(4, dtype=np.float32),
        landmarks=landmarks,
        confidence=1.0,
        source="",
        landmark_error=0.0,
        crop=np.array([[1.0, 0, 0], [0, 1.0, 0]]),
    )


def _landmarks(posed: np.ndarray, camera: Camera) -> np.ndarray:
    """(478, 2) pixels: the model's own face points, and irises in the middle of the eyeballs."""
    model = load_free_head()
    assert model.landmark_faces is not None and model.landmark_barycentrics is not None
    points = (posed[model.faces[model.landmark_faces]] * model.landmark_barycentrics[..., None]).sum(1)
    out = [camera.project(points)[:, :2]]
    for name in ("right_eye", "left_eye"):
        ball = posed[model.vertices_of(name)]
        centre = ball.mean(0) + np.array([0, 0, 0.012])
        ring = centre + 0.006 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        out.append(camera.project(ring)[:, :2])
    return np.concatenate(out)
