"""Where MediaPipe's 468 face landmarks lie on the mesh: found on renders, no hand has placed any of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from headsplat.head.model import HeadModel
from headsplat.head.normals import vertex_normals

from .portraits import SIZE, Portrait, random_portrait

COUNT = 468
TABLE = Path(__file__).parent / "landmarks.csv"
_OUTER_EYES = (33, 263)


@dataclass(frozen=True)
class Candidates:
    """Points on the front of the head among which each landmark picks its own.

    Attributes:
        faces: (C,) face of each point.
        barycentrics: (C, 3).
    """

    faces: np.ndarray
    barycentrics: np.ndarray

    def on(self, values: np.ndarray, mesh_faces: np.ndarray) -> np.ndarray:
        """(C, k) values at the candidates from (V, k) values at the vertices."""
        return (values[mesh_faces[self.faces]] * self.barycentrics[..., None]).sum(1)


def candidates(model: HeadModel, steps: int = 4) -> Candidates:
    """A grid of points on every triangle of the front of the head."""
    rows = model.faces_of("head")
    middle = model.template[model.faces[rows]].mean(1)
    rows = rows[(middle[:, 2] > -0.01) & (middle[:, 1] > -0.15)]
    grid = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    weights = np.array(grid, np.float32) / steps
    return Candidates(np.repeat(rows, len(weights)), np.tile(weights, (len(rows), 1)))


def detect(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 478, 2) MediaPipe landmarks in pixels and (N,) whether a face was found."""
    import mediapipe

    options = {"static_image_mode": True, "refine_landmarks": True, "min_detection_confidence": 0.3}
    points, found = np.zeros((len(images), 478, 2)), np.zeros(len(images), bool)
    with mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=1, **options) as mesh:
        for row, image in enumerate(images):
            soft = gaussian_filter(image.astype(np.float32), (0.8, 0.8, 0)).astype(np.uint8)
            faces = mesh.process(soft).multi_face_landmarks
            if faces:
                found[row] = True
                points[row] = [(p.x * SIZE, p.y * SIZE) for p in faces[0].landmark]
    return points, found


def write_table(model: HeadModel, faces: np.ndarray, barycentrics: np.ndarray) -> None:
    """Keep the correspondences for later bakes: three vertices and their weights per landmark."""
    rows = np.concatenate([model.faces[faces], barycentrics], axis=1)
    np.savetxt(TABLE, rows, fmt=["%d"] * 3 + ["%.5f"] * 3, delimiter=",")


def read_table(mesh_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(468,) faces and (468, 3) barycentrics of the kept correspondences."""
    row_of = {tuple(face): row for row, face in enumerate(mesh_faces.tolist())}
    table = np.loadtxt(TABLE, delimiter=",")
    weights = table[:, 3:] / table[:, 3:].sum(1, keepdims=True)
    return np.array([row_of[tuple(corners)] for corners in table[:, :3].astype(int).tolist()]), weights


def make_portraits(model: HeadModel, count: int, seed: int) -> list[Portrait]:
    """A series of random portraits."""
    rng = np.random.default_rng(seed)
    return [random_portrait(model, number, rng) for number in range(count)]


def find_landmarks(
    model: HeadModel, portraits: list[Portrait], points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The surface point of each landmark that reprojects best over all renders, made symmetric.

    The robust cost of every candidate against every landmark is two matrix products per round; no visibility
    test is needed, for the detector places hidden landmarks where the surface would be.

    Args:
        model: the head.
        portraits: N renders on which a face was found.
        points: (N, 478, 2) their detections.

    Returns:
        (468,) faces and (468, 3) barycentrics.
    """
    pool = candidates(model)
    scale = np.array([_outer_eyes(p, d) for p, d in zip(portraits, points, strict=True)])
    projected = [pool.on(p.camera.project(p.vertices)[:, :2], model.faces) for p in portraits]
    flat = (np.stack(projected, 1) / scale[:, None]).astype(np.float32).reshape(len(pool.faces), -1)
    wanted = (points[:, :COUNT] / scale[:, None, None]).transpose(1, 0, 2).astype(np.float32)
    weights = np.ones((COUNT, len(portraits)), np.float32)
    best = np.zeros(COUNT, int)
    for _ in range(3):
        both = np.repeat(weights, 2, axis=1)
        cost = (flat**2) @ both.T - 2 * (flat @ (both * wanted.reshape(COUNT, -1)).T)
        best = cost.argmin(0)
        residual = np.linalg.norm(flat[best].reshape(COUNT, -1, 2) - wanted, axis=2)
        spread = np.median(residual, axis=1, keepdims=True) + 1e-6
        weights = 1 / (1 + (residual / (1.5 * spread)) ** 2) ** 2

    surface = pool.on(model.template, model.faces)
    partner = pair_sides(surface[best])
    return snap(model, pool, surface[best], partner, pool.faces[best], pool.barycentrics[best])


def pair_sides(places: np.ndarray) -> np.ndarray:
    """(468,) the landmark on the other side of each (itself in the middle), from (468, 3) positions."""
    gap = np.linalg.norm(places[:, None] * np.array([-1, 1, 1]) - places[None], axis=2)
    partner = linear_sum_assignment(gap)[1]
    return np.where(partner[partner] == np.arange(COUNT), partner, np.arange(COUNT))


def snap(
    model: HeadModel,
    pool: Candidates,
    places: np.ndarray,
    partner: np.ndarray,
    faces: np.ndarray,
    barycentrics: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Surface points next to the symmetrised (468, 3) `places`, on the same lip and side as before.

    Upper and lower lip touch, so nearness alone is not enough: how far jawOpen moves a point, and its normal,
    count as well.
    """
    flip = np.array([-1, 1, 1])
    symmetric = 0.5 * (places + places[partner] * flip)
    jaw = model.expression_basis[model.expression_names.index("jawOpen")]
    extra = np.concatenate([0.15 * jaw, 0.0015 * vertex_normals(model.template, model.faces)], 1)
    features = np.concatenate([pool.on(model.template, model.faces), pool.on(extra, model.faces)], 1)
    own = Candidates(faces, barycentrics).on(extra, model.faces)
    mirrored = own[partner] * np.array([-1, 1, 1, -1, 1, 1])
    wanted = np.concatenate([symmetric, 0.5 * (own + mirrored)], 1)
    left = symmetric[:, 0] >= 0
    nearest = cKDTree(features).query(wanted)[1]
    out_faces, out_weights = pool.faces[nearest].copy(), pool.barycentrics[nearest].copy()
    # The right side copies the left, so that the mirror law is exact.
    index_of = {tuple(sorted(face)): row for row, face in enumerate(model.faces.tolist())}
    assert model.mirror is not None
    for mark in np.flatnonzero(~left & (partner != np.arange(COUNT))):
        twin = partner[mark]
        image = model.mirror[model.faces[out_faces[twin]]].tolist()
        row = index_of[tuple(sorted(image))]
        order = [image.index(v) for v in model.faces[row].tolist()]
        out_faces[mark], out_weights[mark] = row, out_weights[twin][order]
    return out_faces, out_weights


def closure(
    model: HeadModel,
    faces: np.ndarray,
    barycentrics: np.ndarray,
    portraits: list[Portrait],
    points: np.ndarray,
) -> np.ndarray:
    """(N, 468) distances of the true from the detected landmarks, as shares of the outer-eye distance."""
    marks = Candidates(faces, barycentrics)
    error = []
    for portrait, detected in zip(portraits, points, strict=True):
        places = marks.on(portrait.camera.project(portrait.vertices)[:, :2], model.faces)
        error.append(np.linalg.norm(places - detected[:COUNT], axis=1) / _outer_eyes(portrait, detected))
    return np.array(error)


def _outer_eyes(portrait: Portrait, points: np.ndarray) -> float:
    """Distance between the outer eye corners in pixels, undoing the shortening by yaw."""
    distance = np.linalg.norm(points[_OUTER_EYES[0]] - points[_OUTER_EYES[1]])
    return float(distance / max(0.35, abs(np.cos(portrait.yaw))))
