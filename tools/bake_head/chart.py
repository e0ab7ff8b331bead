"""The texture chart: a cylinder-like map of the skin, u = 1/2 the sagittal plane, and islands for all else.

Only the subject's left half is laid out; the right half is its mirror image about u = 1/2. The skin is cut
along the back of the head up to the crown: the cut's upper part becomes the top edge of the map, its lower
part the left and right edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .bust import Bust
from .eyes import RINGS, SEGMENTS
from .flatten import boundary_loops, relax, rest_triangles, tutte
from .mouth import ROWS, columns

SKIN_BOTTOM = 0.212
# (u from, v from, u to, v to) of each island; those around u = 1/2 are given whole, the others on the left.
_RECTANGLES = {
    "left_eye": (0.822, 0.014, 0.997, 0.189),
    "eye_socket": (0.704, 0.006, 0.814, 0.2),
    "teeth_upper": (0.306, 0.166, 0.694, 0.203),
    "teeth_lower": (0.306, 0.122, 0.694, 0.159),
    "tongue": (0.39, 0.066, 0.61, 0.115),
    "mouth_cavity": (0.365, 0.003, 0.635, 0.06),
    "lash_0": (0.643, 0.062, 0.694, 0.112),
    "lash_1": (0.643, 0.006, 0.694, 0.056),
}


def build_chart(bust: Bust, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay out the whole bust.

    Args:
        bust: the finished mesh; gums still count as teeth.
        face: vertices of the front face, which get a denser map than the rest.

    Returns:
        (U, 2) texture vertices and (F, 3) faces into them.
    """
    left = (bust.template[bust.faces, 0] >= 0).all(1)
    corners = np.full((len(bust.faces), 3, 2), np.nan)

    rows = _rows(bust, left, "head", "body")
    corners[rows] = _skin(bust, bust.faces[rows], face)[bust.faces[rows]]
    rows = _rows(bust, left, "eye_socket")
    corners[rows] = _placed(_disk(bust, bust.faces[rows]), "eye_socket")[bust.faces[rows]]
    for part in ("mouth_cavity", "tongue"):
        uv = _placed(_disk(bust, bust.faces[bust.part_faces(part)]), part)
        uv[bust.mirror == np.arange(len(bust.mirror)), 0] = 0.5
        rows = _rows(bust, left, part)
        corners[rows] = uv[bust.faces[rows]]
    for part in ("teeth_upper", "teeth_lower"):
        rows = _rows(bust, left, part)
        index = bust.faces[rows] - bust.part_vertices(part).min()
        up = index % ROWS / (ROWS - 1)
        grid = np.stack([index // ROWS / (columns() - 1), 1 - up if part == "teeth_upper" else up], -1)
        corners[rows] = _into(grid, part)
    rows = _rows(bust, left, "left_eye")
    corners[rows] = _into(_eye(bust.faces[rows] - bust.part_vertices("left_eye").min()), "left_eye")
    rows = _rows(bust, left, "lashes")
    for number, component in enumerate(_components(bust.faces[rows])):
        part_rows = rows[component]
        uv = _placed(_disk(bust, bust.faces[part_rows]), f"lash_{number}")
        corners[part_rows] = uv[bust.faces[part_rows]]

    _mirror_corners(bust, left, corners)
    quantum = np.round(corners.reshape(-1, 2) * 2**20).astype(np.int64)
    keys = np.concatenate([bust.faces.reshape(-1, 1), quantum], axis=1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return corners.reshape(-1, 2)[first], inverse.reshape(-1, 3)


def _rows(bust: Bust, left: np.ndarray, *parts: str) -> np.ndarray:
    rows = bust.part_faces(*parts)
    return rows[left[rows]]


def _into(unit: np.ndarray, island: str) -> np.ndarray:
    """Unit-square coordinates moved into an island's rectangle."""
    u0, v0, u1, v1 = _RECTANGLES[island]
    return np.array([u0, v0]) + unit * np.array([u1 - u0, v1 - v0])


def _placed(disk: np.ndarray, island: str) -> np.ndarray:
    """Coordinates on the disk of radius 1 moved into an island's rectangle."""
    return _into(0.5 + 0.5 * disk, island)


def _components(faces: np.ndarray) -> list[np.ndarray]:
    """Row indices of the connected pieces, the highest vertex numbers last."""
    count = faces.max() + 1
    links = coo_matrix(
        (np.ones(len(faces) * 2), (faces[:, :2].T.ravel(), faces[:, 1:].T.ravel())), (count, count)
    )
    label = connected_components(links, directed=False)[1][faces[:, 0]]
    return [np.flatnonzero(label == value) for value in np.unique(label)]


def _disk(bust: Bust, faces: np.ndarray) -> np.ndarray:
    """(V, 2) flattening of one disk-like piece into the unit circle, its highest border vertex on top."""
    used = np.unique(faces)
    local = np.searchsorted(used, faces)
    points = bust.template[used].astype(np.float64)
    (border,) = boundary_loops(local)
    # Start where the sagittal plane is crossed, if it is, so that the piece comes out symmetric.
    height = points[border, 1] - 10 * np.abs(points[border, 0]) * (np.abs(points[border, 0]).min() < 1e-9)
    border = np.roll(border, -int(height.argmax()))
    steps = np.linalg.norm(np.diff(points[np.append(border, border[0])], axis=0), axis=1)
    angle = np.pi / 2 + 2 * np.pi * np.concatenate([[0], steps.cumsum()[:-1]]) / steps.sum()
    start = tutte(local, len(used), border, np.stack([np.cos(angle), np.sin(angle)], 1))
    rest = rest_triangles(points, local)
    area = 0.5 * np.linalg.det(rest)
    free = np.ones((len(used), 2), bool)
    free[border] = False
    scale = np.sqrt(np.pi / area.sum())
    uv = np.full((len(bust.template), 2), np.nan)
    uv[used] = relax(start, local, rest * scale, area / area.sum(), free)
    return uv


def _eye(faces: np.ndarray) -> np.ndarray:
    """(F, 3, 2) in the unit square: the front pole in the middle, the back pole all around the rim."""
    segment = (faces - 1) % SEGMENTS
    ring = (faces - 1) // SEGMENTS
    polar = np.concatenate([[0.0], RINGS, [180.0]])[np.clip(ring + 1, 0, len(RINGS) + 1)]
    last = ring >= len(RINGS)
    first = faces == 0
    # A pole has no angle of its own: take the middle of the face's other two corners.
    turn = 2 * np.pi * segment / SEGMENTS
    pole = last | first
    others = np.where(pole[..., None], 0, np.stack([np.cos(turn), np.sin(turn)], -1)).sum(1, keepdims=True)
    turn = np.where(pole, np.arctan2(others[..., 1], others[..., 0]), turn)
    radius = 0.5 * (polar / 180) ** 0.6
    return 0.5 + radius[..., None] * np.stack([np.cos(turn), np.sin(turn)], -1)


def _mirror_corners(bust: Bust, left: np.ndarray, corners: np.ndarray) -> None:
    """Fill in the faces on the right from their mirror images."""
    index_of = {tuple(sorted(face)): row for row, face in enumerate(bust.faces.tolist())}
    for row in np.flatnonzero(~left):
        image = bust.mirror[bust.faces[row]].tolist()
        twin = index_of[tuple(sorted(image))]
        order = [bust.faces[twin].tolist().index(v) for v in image]
        corners[row] = corners[twin][order] * [-1, 1] + [1, 0]


@dataclass(frozen=True)
class _Outline:
    """The border of the left half of the skin, as vertex paths that meet at their ends, and its two openings.

    Attributes:
        forehead: down the sagittal plane, from where the top edge of the chart ends to the upper lip.
        mouth: from the upper lip around the corner to the lower lip.
        chin: down the sagittal plane from the lower lip to the rim.
        rim: along the cut edge of the bust, from front to back.
        nape: up the sagittal plane from the rim to the back of the head.
        crown: from the back of the head over the crown to the forehead.
        eye: around the opening of the eye.
    """

    forehead: np.ndarray
    mouth: np.ndarray
    chin: np.ndarray
    rim: np.ndarray
    nape: np.ndarray
    crown: np.ndarray
    eye: np.ndarray


def _trace_outline(points: np.ndarray, faces: np.ndarray) -> _Outline:
    """Follow the border of the left half from the highest point down the face and up the back."""
    eye, border = sorted(boundary_loops(faces), key=len)
    border = np.roll(border, -int(points[border, 1].argmax()))
    beside = np.flatnonzero(points[border, 0] != 0)  # off the sagittal plane: first the mouth, then the rim
    pause = int(np.flatnonzero(np.diff(beside) > 1)[0])
    mouth_from, mouth_to = beside[0] - 1, beside[pause] + 1
    rim_from, rim_to = beside[pause + 1] - 1, beside[-1] + 1
    front_most = 0.55 * points[:, 2].max() + 0.45 * points[:, 2].min()
    forehead_from = int((points[border, 2] > front_most).argmax())
    back = np.append(border[rim_to:], border[0])
    split = int(np.flatnonzero(points[back, 1] < points[:, 1].max() - 0.055)[-1])
    return _Outline(
        forehead=border[forehead_from : mouth_from + 1],
        mouth=border[mouth_from : mouth_to + 1],
        chin=border[mouth_to : rim_from + 1],
        rim=border[rim_from : rim_to + 1],
        nape=back[: split + 1],
        crown=np.concatenate([back[split:], border[1 : forehead_from + 1]]),
        eye=eye,
    )


def _skin(bust: Bust, faces: np.ndarray, face: np.ndarray) -> np.ndarray:
    """(V, 2) chart of the left half of the skin in [0.5, 1] x [SKIN_BOTTOM, 1]."""
    used = np.unique(faces)
    local = np.searchsorted(used, faces)
    points = bust.template[used].astype(np.float64)
    outline = _trace_outline(points, local)

    # Fans close the mouth and the eye, so that their rims cannot cross.
    count = len(used)
    mouth_centre, eye_centre = count, count + 1
    around_eye = np.append(outline.eye, outline.eye[0])
    fan = [(b, a, mouth_centre) for a, b in pairwise(outline.mouth)]
    fan += [(b, a, eye_centre) for a, b in pairwise(around_eye)]
    filled = np.concatenate([local, np.array(fan)])
    centres = [points[outline.mouth].mean(0), points[outline.eye].mean(0)]
    extended = np.concatenate([points, centres])

    height = 1 - SKIN_BOTTOM
    front = np.concatenate([outline.forehead, [mouth_centre], outline.chin])
    border, positions = [], []
    for path, begin, end, bulge in (
        (front, (0, height), (0, 0), 0.0),
        (outline.rim, (0, 0), (0.5, 0), 0.06),
        (outline.nape, (0.5, 0), (0.5, height), 0.0),
        (outline.crown, (0.5, height), (0, height), 0.0),
    ):
        steps = np.linalg.norm(np.diff(extended[path], axis=0), axis=1)
        t = np.concatenate([[0], steps.cumsum()]) / steps.sum()
        place = np.array(begin) + t[:, None] * (np.array(end) - np.array(begin))
        place[:, 1] -= bulge * 4 * t * (1 - t)
        border.append(path[:-1])
        positions.append(place[:-1])
    uv = tutte(filled, count + 2, np.concatenate(border), np.concatenate(positions))

    rest = rest_triangles(points, local) * _density(bust, used, face, local)[:, None, None]
    area = 0.5 * np.linalg.det(rest)
    scale = np.sqrt(0.95 * 0.5 * height / area.sum())
    corner = uv[np.array(fan)]
    fan_rest = np.stack([corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]], -1)
    weights = np.concatenate([area / area.sum(), np.full(len(fan), 1e-6)])
    free = np.ones((count + 2, 2), bool)
    free[np.concatenate([front, outline.nape]), 0] = False
    free[outline.crown, 1] = False
    uv = relax(uv, filled, np.concatenate([rest * scale, fan_rest]), weights, free, iterations=3000)[:count]
    bottom = uv[:, 1].min()
    uv[:, 1] = SKIN_BOTTOM + (uv[:, 1] - bottom) * height / (height - bottom)
    uv[:, 0] += 0.5
    out = np.full((len(bust.template), 2), np.nan)
    out[used] = uv
    return out


def _density(bust: Bust, used: np.ndarray, face: np.ndarray, local: np.ndarray) -> np.ndarray:
    """(F,) wanted texels per metre: most on the face, least on the bust, changing smoothly."""
    value = np.full(len(used), 0.8)
    value[np.isin(used, face)] = 1.6
    only_body = ~np.isin(used, bust.part_vertices("head"))
    value[only_body] = 0.55
    pairs = np.concatenate([local[:, [0, 1]], local[:, [1, 2]], local[:, [2, 0]]])
    degree = np.bincount(pairs.ravel(), minlength=len(used))
    for _ in range(20):
        total = np.bincount(pairs[:, 0], value[pairs[:, 1]], len(used))
        total += np.bincount(pairs[:, 1], value[pairs[:, 0]], len(used))
        value = 0.5 * value + 0.5 * total / degree
    return value[local].mean(1)
