"""Eyes, teeth, tongue and mouth: what the lids leave open from the photo, the rest painted in its colours."""

from __future__ import annotations

import cv2
import numpy as np

from headsplat.methods.lift.numeric import look_up, smoothstep
from headsplat.methods.lift.segment import Segments
from headsplat.methods.lift.view import LEFT_EYE, RIGHT_EYE, View, grow
from headsplat.track.gaze import DIVERGENCE

IRIS = {"right_eye": (range(468, 473), RIGHT_EYE), "left_eye": (range(473, 478), LEFT_EYE)}
MOUTH = {
    "mouth_cavity": (0.17, 0.055, 0.055),
    "tongue": (0.58, 0.27, 0.25),
    "teeth_upper": (0.86, 0.84, 0.79),
    "teeth_lower": (0.52, 0.48, 0.44),
}


def paint(
    view: View,
    segments: Segments,
    face: np.ndarray,
    barycentric: np.ndarray,
    part: np.ndarray,
    colours: np.ndarray,
    fill: np.ndarray,
) -> np.ndarray:
    """Colours (N, 3) with the inner parts painted; `fill` is the skin colour around each sample."""
    model, colours = view.model, colours.copy()
    number = {name: i for i, name in enumerate(model.part_names)}
    position = (model.template[model.faces[face]] * barycentric[..., None]).sum(1)
    brightness = np.clip(segments.skin_colour.mean() / 0.62, 0.55, 1.05)
    for name, colour in MOUTH.items():
        own = part == number[name]
        inward = smoothstep(position[own, 2], 0.042, 0.097)[:, None]
        colours[own] = np.array(colour) * brightness * (0.15 + 0.85 * inward)
    socket = part == number["eye_socket"]
    colours[socket] = fill[socket] * 0.55
    for name in IRIS:
        own = part == number[name]
        pixels = (view.pixels[model.faces[face[own]], :2] * barycentric[own][..., None]).sum(1)
        painted = _eye(view, segments, name, position[own])
        shown = _opening(view, name, pixels)[:, None]
        colours[own] = painted + shown * (look_up(view.frame.image, pixels) - painted)
    return colours


def _opening(view: View, name: str, pixels: np.ndarray) -> np.ndarray:
    """(N,) 0..1, how safely each pixel position (N, 2) lies between the open lids of an eye.

    The lids' outline is good to a pixel or so: half a pixel inside it starts to count, two count fully.
    """
    inside = cv2.distanceTransform(view.polygon(IRIS[name][1]), cv2.DIST_L2, 5)
    return smoothstep(look_up(inside, pixels), 0.5, 2.0)


def _eye(view: View, segments: Segments, name: str, position: np.ndarray) -> np.ndarray:
    """(N, 3) colours of samples (N, 3, template positions) of one eyeball."""
    model, image = view.model, view.frame.image
    points, outline = IRIS[name]
    landmarks = view.frame.landmarks[list(points)]
    centre, radius = landmarks[0], float(np.linalg.norm(landmarks[1:] - landmarks[0], axis=1).mean())
    vertices = model.vertices_of(name)
    middle = model.template[vertices].mean(0)
    ball = float(np.linalg.norm(model.template[vertices] - middle, axis=1).mean())
    depth = view.pixels[vertices, 2].mean()
    size = float(
        np.degrees(np.arcsin(np.clip(radius * depth / view.frame.camera.K[0, 0] / ball, 0.25, 0.55)))
    )

    y, x = np.mgrid[: view.shape[0], : view.shape[1]]
    away = np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) / radius
    eye = view.polygon(outline) > 0
    ring = (away > 0.45) & (away < 0.88) & eye
    iris = np.percentile(image[ring], 50, axis=0) if ring.sum() > 5 else np.array([0.2, 0.15, 0.1])
    white = (away > 1.25) & (grow(eye, -1) > 0)
    sclera = np.percentile(image[white], 65, axis=0) if white.sum() > 12 else segments.skin_colour * 1.02
    sclera = 0.5 * sclera + 0.5 * sclera.mean()

    d = position - middle
    outwards = np.sign(middle[0]) * DIVERGENCE
    straight = np.array([np.sin(outwards), 0.0, np.cos(outwards)])
    angle = np.degrees(np.arccos(np.clip(d @ straight / np.linalg.norm(d, axis=1), -1, 1)))
    soft = lambda edge, width: 1 / (1 + np.exp(-np.clip((angle - edge) / width, -40, 40)))[:, None]  # noqa: E731
    turn = np.arctan2(d[:, 1], d[:, 0] - ball * straight[0])
    fibres = (1 + 0.12 * np.sin(23 * turn) + 0.08 * np.sin(41 * turn + 1))[:, None]
    outside, beyond_pupil = soft(size, 1.3), soft(size * 0.42, 1.0)
    limbus = 0.35 * np.exp(-(((angle - size) / 3.0) ** 2))[:, None]
    lid_shadow = 0.25 * smoothstep(d[:, 1] / ball, -0.2, 0.9)[:, None]
    inner = iris * fibres * beyond_pupil + (1 - beyond_pupil) * 0.03
    return (sclera * outside + (1 - outside) * inner) * (1 - limbus) * (1 - lid_shadow)
