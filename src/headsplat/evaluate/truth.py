"""Heads whose truth is known from every side: the free head as random people, painted and lit, drawn exactly.

They stand in for a multi-view capture. They have no loose hair, cloth or gloss, so they judge geometry,
colours of the unseen sides, and driving; not how well a method copes with hair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.data.image import write_image
from headsplat.evaluate.views import View, ViewSet
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.head.normals import vertex_normals
from headsplat.raster.mesh import rasterize_mesh
from headsplat.track import landmarks as lm

YAWS = (15, -15, 30, -30, 45, -45, 60, -60, 90, -90, 135, -135, 180)
"""Degrees of the cameras around the head, besides the source at 0."""
EXPRESSIONS: dict[str, dict[str, float]] = {
    "jaw": {"jawOpen": 0.7},
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "brows": {"browInnerUp": 0.9, "browOuterUpLeft": 0.7, "browOuterUpRight": 0.7},
    "pucker": {"mouthPucker": 0.9},
    "lopsided": {"mouthSmileLeft": 1.0, "mouthLeft": 0.6, "eyeBlinkRight": 1.0, "browDownRight": 0.8},
}
"""Extremes, seen from the front and from 30 degrees."""
_FOCAL, _DISTANCE = 3.9, 1.3  # focal length over picture height, and metres: the bust leaves the picture
_SAMPLES = 2  # per pixel and axis, so that outlines have soft edges
_BACKGROUND = (0.62, 0.64, 0.66)


@dataclass(frozen=True)
class Person:
    """A random person.

    Attributes:
        shape: (S,) identity.
        colours: (V, 3) of the vertices of the head at subdivision level 1.
        light: (3,) towards the light, in world space, unit.
    """

    shape: np.ndarray
    colours: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """A drawn view at the resolution of its samples.

    Attributes:
        image: (H, W, 3).
        alpha: (H, W).
        points: (H s, W s, 3) surface points in world space; NaN where nothing is.
        depth: (H s, W s) metres, infinity where nothing is.
    """

    image: np.ndarray
    alpha: np.ndarray
    points: np.ndarray
    depth: np.ndarray


def write_truth(
    folder: Path,
    *,
    people: int = 8,
    seed: int = 0,
    size: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write a set of people for the `novel` protocol: folders `person_00` … with pictures and `views.json`.

    Args:
        folder: where to.
        people: how many.
        seed: of the first; the same seed draws the same person.
        size: side of the pictures, pixels.
        progress: called with people drawn and their number.

    Returns:
        The folders.
    """
    folders, tell = [], progress or (lambda done, total: None)
    for number in range(people):
        tell(number, people)
        own = folder / f"person_{number:02d}"
        _write_person(own, random_person(seed + number), size)
        folders.append(own)
    return folders


def random_person(seed: int) -> Person:
    """A person of random build, skin, hair and light."""
    model, rng = load_free_head(1), np.random.default_rng(seed)
    shape = (rng.normal(0, 0.6, len(model.shape_basis)) * model.shape_symmetric).astype(np.float32)
    light = np.array([rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.6), 1.0])
    return Person(shape, _paint(model, rng), light / np.linalg.norm(light))


def draw(person: Person, expression: dict[str, float], camera: Camera) -> Drawing:
    """The person, neutral pose, with an expression, over an even backdrop."""
    model = load_free_head(1)
    vertices = model.with_shape(person.shape).with_pose(expression, None).vertices
    fine = camera.resize(camera.width * _SAMPLES, camera.height * _SAMPLES)
    drawn = rasterize_mesh(fine.project(vertices), model.faces, fine.width, fine.height)
    shade = 0.55 + 0.5 * np.clip(vertex_normals(vertices, model.faces) @ person.light, 0, 1)
    colours = np.clip(person.colours * shade[:, None], 0, 1)
    there = drawn.face >= 0
    corners, weights = model.faces[drawn.face[there]], drawn.barycentrics[there]
    image = np.full((*there.shape, 3), _BACKGROUND)
    image[there] = np.einsum("nkc,nk->nc", colours[corners], weights)
    points = np.full((*there.shape, 3), np.nan)
    points[there] = np.einsum("nkc,nk->nc", vertices[corners], weights)
    return Drawing(_shrink(image), _shrink(there[..., None].astype(float))[..., 0], points, drawn.depth)


def seen_from(drawing: Drawing, other: Drawing, camera: Camera) -> np.ndarray:
    """(H, W) share of each pixel's samples that are visible in another drawing from `camera`."""
    there = np.isfinite(drawing.depth)
    fine = camera.resize(camera.width * _SAMPLES, camera.height * _SAMPLES)
    projected = fine.project(drawing.points[there])
    x, y = (np.floor(projected[:, k]).astype(int) for k in (0, 1))
    inside = (x >= 0) & (y >= 0) & (x < fine.width) & (y < fine.height)
    visible = np.zeros(len(x), bool)
    # Half a centimetre forgives slanted surfaces; nothing on a head hides behind less.
    visible[inside] = projected[inside, 2] < other.depth[y[inside], x[inside]] + 0.005
    out = np.zeros(there.shape)
    out[there] = visible
    return _shrink(out[..., None])[..., 0]


def _write_person(folder: Path, person: Person, size: int) -> None:
    model = load_free_head()
    rest = model.with_shape(person.shape).with_pose(None, None)
    points = model.landmarks(rest.vertices)
    centre = points.mean(0)
    wanted: list[tuple[str, float, dict[str, float]]] = [("yaw_000", 0.0, {})]
    wanted += [(f"yaw_{'m' if yaw < 0 else 'p'}{abs(yaw):03d}", float(yaw), {}) for yaw in YAWS]
    wanted += [(f"{n}_{yaw:03d}", float(yaw), e) for n, e in EXPRESSIONS.items() for yaw in (0, 30)]
    views, source = [], None
    for name, yaw, expression in wanted:
        camera = Camera.orbit(
            np.radians(yaw), target=centre, distance=_DISTANCE, focal=_FOCAL * size, width=size, height=size
        )
        drawing = draw(person, expression, camera)
        source = source or (drawing, camera)
        write_image(folder / f"{name}.png", drawing.image)
        write_image(folder / f"{name}_matte.png", _grey(drawing.alpha))
        seen = ""
        if not expression:  # a moved surface is not where the source saw it
            seen = f"{name}_seen.png"
            write_image(folder / seen, _grey(seen_from(drawing, *source)))
        viewmat, K = (np.asarray(a, np.float64).tolist() for a in (camera.viewmat, camera.K))
        views.append(View(f"{name}.png", f"{name}_matte.png", viewmat, K, size, size, yaw, expression, seen))
    ViewSet(0, np.asarray(points, np.float64).tolist(), tuple(views)).save(folder)


def _paint(model: HeadModel, rng: np.random.Generator) -> np.ndarray:
    """(V, 3) colours: mottled skin, brows, lips, hair painted on the scalp, a shirt, teeth, eyes."""
    template, points = model.template.astype(np.float64), model.landmarks(model.template)
    skin = np.array([0.88, 0.69, 0.58]) * rng.uniform(0.45, 1.05) + rng.normal(0, 0.015, 3)
    hair = np.array([0.42, 0.31, 0.22]) * rng.uniform(0.25, 1.4)
    colours = np.tile(skin, (len(template), 1))
    colours *= 1 + 0.06 * _mottle(template, rng, 90) + 0.04 * _mottle(template, rng, 350)
    front = template[:, 2] > points[lm.OUTER_EYE_LEFT, 2] - 0.02
    near = _distance(template, points[np.r_[lm.BROW_LEFT, lm.BROW_RIGHT]]) < 0.005
    colours[near & front] = hair * 0.8
    colours[_inside(template, points[lm.LIPS_OUTER]) & front] = skin * [0.86, 0.55, 0.6]
    plane = points[lm.FOREHEAD]
    scalp = (template[:, 1] - plane[1]) * 0.9 - (template[:, 2] - plane[2]) * rng.uniform(0.4, 0.6) > 0
    strands = 1 + 0.25 * _mottle(template * [1, 0.15, 1], rng, 500)
    colours[scalp] = (hair * strands)[scalp]
    shirt = template[:, 1] < points[lm.CHIN, 1] - rng.uniform(0.07, 0.1)
    colours[shirt] = rng.uniform(0.1, 0.9, 3) * (1 + 0.1 * _mottle(template, rng, 200)[shirt])
    for part, colour in (
        ("mouth_cavity", (0.35, 0.12, 0.12)),
        ("tongue", (0.65, 0.3, 0.3)),
        ("teeth_upper", (0.92, 0.9, 0.85)),
        ("teeth_lower", (0.9, 0.88, 0.83)),
        ("lashes", (0.1, 0.07, 0.06)),
    ):
        colours[model.vertices_of(part)] = colour
    iris = rng.choice(np.array([[0.3, 0.2, 0.12], [0.3, 0.4, 0.5], [0.3, 0.38, 0.25]]))
    for side in ("left_eye", "right_eye"):
        ball = model.vertices_of(side)
        away = template[ball] - model.joint_template[model.joint_names.index(side)]
        angle = np.arccos(np.clip(away[:, 2] / np.linalg.norm(away, axis=1), -1, 1))[:, None]
        colours[ball] = np.select([angle < 0.22, angle < 0.5], [[0.03, 0.03, 0.03], iris], [0.93, 0.93, 0.93])
    return np.clip(colours, 0, 1)


def _mottle(points: np.ndarray, rng: np.random.Generator, frequency: float) -> np.ndarray:
    """(N, 1) smooth noise about -1..1: a sum of waves through space, `frequency` radians per metre."""
    directions = rng.normal(size=(6, 3))
    directions *= frequency / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.sin(points @ directions.T + rng.uniform(0, 2 * np.pi, 6)).mean(1, keepdims=True) * 1.5


def _distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) distance to the nearest of some other points."""
    from scipy.spatial import KDTree

    return KDTree(others).query(points)[0]


def _inside(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """(N,) bool: within a polygon (P, 3) when looked at from the front."""
    import cv2

    polygon = (outline[:, :2] * 1e4).astype(np.float32)
    return np.array([cv2.pointPolygonTest(polygon, (x * 1e4, y * 1e4), False) >= 0 for x, y, _ in points])


def _shrink(values: np.ndarray) -> np.ndarray:
    """(H, W, C) float32 means of the samples of each pixel."""
    h, w, c = values.shape
    shape = (h // _SAMPLES, _SAMPLES, w // _SAMPLES, _SAMPLES, c)
    return values.reshape(shape).mean((1, 3)).astype(np.float32)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, -1)
