"""Teeth with gums in the place of MakeHuman's plain strips, and a tongue that rests low in the mouth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from .anny_body import PARTS
from .bust import Bust

# From the midline to the second molar, millimetres: widths of the crowns and their heights at the front.
_WIDTHS = {
    "teeth_upper": (8.5, 6.6, 7.6, 7.0, 6.7, 10.0, 9.5),
    "teeth_lower": (5.4, 6.0, 6.9, 7.0, 7.1, 11.0, 10.5),
}
_HEIGHTS = {
    "teeth_upper": (10.0, 8.8, 9.8, 8.2, 7.8, 7.2, 7.0),
    "teeth_lower": (8.6, 8.6, 9.6, 8.2, 7.8, 7.2, 7.0),
}
_EDGE_THICKNESS = (1.4, 1.4, 2.2, 5.0, 5.5, 7.5, 7.5)
_ROOT_THICKNESS = (6.0, 5.5, 6.5, 7.5, 7.5, 9.5, 9.5)
_MAKEHUMAN_SCALE = 0.9  # MakeHuman's mean face against the anatomical millimetres above
# Cutting edge of the incisors below the top of MakeHuman's strip, metres.
_EDGE_BELOW_OLD_TOP = {"teeth_upper": 0.0205, "teeth_lower": 0.0046}
COLUMNS_PER_TOOTH = 3
ROWS = 8
_GUM_ROWS = (0, ROWS - 2)  # strips of faces that are gum: above the front and behind the crowns


def replace_teeth(bust: Bust) -> Bust:
    """Exchange both rows of teeth; the new ones move with the nearest places of the old ones."""
    for part in ("teeth_upper", "teeth_lower"):
        old = bust.part_vertices(part)
        old_faces = np.searchsorted(old, bust.faces[bust.part_faces(part)])
        points = _arch(part, bust.template[old])
        binding = _bind(points, bust.template[old], old_faces)
        basis = np.einsum("vo,sok->svk", binding, bust.basis[:, old])
        expressions = np.einsum("vo,sok->svk", binding, bust.expressions[:, old])
        weights = bust.skin_weights[old[:1]].repeat(len(points), 0)
        bust = bust.without(part)
        faces, mirror = _strip_faces(points)
        mirror += len(bust.template)
        bust = bust.plus(part, points, basis, expressions, weights, faces, mirror)
    return bust


def label_gums(bust: Bust) -> Bust:
    """Count the gums as mouth, so that only crowns are teeth."""
    part_of_face = bust.face_part.copy()
    for part in ("teeth_upper", "teeth_lower"):
        rows = bust.part_faces(part)
        strip = (bust.faces[rows] - bust.faces[rows].min()).astype(int) % ROWS
        part_of_face[rows[np.isin(strip.min(1), _GUM_ROWS)]] = PARTS.index("mouth_cavity")
    return replace(bust, face_part=part_of_face)


def columns() -> int:
    """Vertices along a row of teeth."""
    return 14 * COLUMNS_PER_TOOTH + 1


def _arch(part: str, old: np.ndarray) -> np.ndarray:
    """(columns * ROWS, 3) points, columns from the subject's right to the left, each gum to edge to gum."""
    upper = part == "teeth_upper"
    down = -1.0 if upper else 1.0
    widths, heights = np.array(_WIDTHS[part]), np.array(_HEIGHTS[part])
    bounds = np.concatenate([[0], widths.cumsum()])
    along, tooth, inside = [], [], []
    for k in range(7):
        for c in range(COLUMNS_PER_TOOTH):
            along.append(bounds[k] + widths[k] * c / COLUMNS_PER_TOOTH)
            tooth.append(k)
            inside.append(0.0 if c == 0 else 1.0)
    along.append(bounds[-1])
    tooth.append(6)
    inside.append(0.0)
    along_mm, tooth_index, crown = np.array(along), np.array(tooth), np.array(inside)

    # The arch as a catenary, sampled by arc length from the midline backwards.
    x = np.linspace(0, 34, 2000)
    depth = 5.3 * (np.cosh(x / 10.5) - 1)
    shrink = 1.0 if upper else widths.sum() / sum(_WIDTHS["teeth_upper"])
    arc = np.concatenate([[0], np.hypot(np.diff(x), np.diff(depth)).cumsum()])
    px = np.interp(along_mm / shrink, arc, x) * shrink * (1.0 if upper else 0.95)
    pz = -np.interp(along_mm / shrink, arc, depth) * shrink
    slope = np.interp(along_mm / shrink, arc, np.gradient(depth, x))
    outward = np.stack([slope, np.ones_like(slope)], 1) / np.hypot(slope, 1)[:, None]

    height = heights[tooth_index] - 0.9 * (1 - crown)
    neck = heights[tooth_index] - 1.3 * (1 - crown)  # the papilla between two teeth reaches towards the edge
    edge_thickness = np.array(_EDGE_THICKNESS)[tooth_index]
    root_thickness = np.array(_ROOT_THICKNESS)[tooth_index]
    inset = -0.7 * (1 - crown)
    full = heights[tooth_index]
    zero = np.zeros_like(full)
    # Rows as (outward, towards the edge) in millimetres; 0 towards the edge = the gum line of a whole crown.
    profile = [
        (zero - 1.5, zero - 4.5),
        (zero + inset * 0.5, full - neck),
        (inset + 0.7, 0.45 * height),
        (inset + 0.4, 0.85 * height),
        (inset - 0.3, height),
        (inset - 0.3 - edge_thickness, height - 0.3),
        (zero - root_thickness, full - neck),
        (zero - root_thickness - 1.0, zero - 4.5),
    ]
    out = np.stack([p[0] for p in profile], 1)
    rise = np.stack([p[1] for p in profile], 1)
    # All crowns end on one plane: the edge is where the heights differ from, not the gum line.
    from_edge = full[:, None] - rise
    half = np.stack(
        [
            px[:, None] + out * outward[:, :1],
            -down * from_edge - 0.06 * pz[:, None],
            pz[:, None] + out * outward[:, 1:],
        ],
        -1,
    )
    half[0, :, 0] = 0
    points = np.concatenate([half[:0:-1] * [-1, 1, 1], half]) * _MAKEHUMAN_SCALE * 1e-3
    front = old[:, 2].max() - (0.001 if upper else 0.0025)
    anchor = old[:, 1].max() - _EDGE_BELOW_OLD_TOP[part]
    return points.reshape(-1, 3) + np.array([0, anchor, front])


def _strip_faces(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outward faces of the strip and its mirror map, counted within the strip."""
    count = columns()
    grid = np.arange(count * ROWS).reshape(count, ROWS)
    faces = []
    for c in range(count - 1):
        for r in range(ROWS - 1):
            a, b, d, e = grid[c, r], grid[c + 1, r], grid[c, r + 1], grid[c + 1, r + 1]
            pair = [(a, d, b), (b, d, e)] if c < count // 2 else [(a, d, e), (a, e, b)]
            faces += pair
    out = np.array(faces)
    # The second strip is the front of the crowns: its normals point out of the mouth.
    middle = out[(count // 2) * (ROWS - 1) * 2 + 4]
    a, b, c3 = points[middle]
    if np.cross(b - a, c3 - a)[2] < 0:
        out = out[:, ::-1]
    return out, grid[::-1].reshape(-1)


def _bind(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(N, V) weights that carry values on `vertices` to `points`: from the nearest surface samples."""
    corners = np.array(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [1 / 3] * 3]
    )
    samples = np.einsum("kc,fci->fki", corners, vertices[faces]).reshape(-1, 3)
    distance, nearest = cKDTree(samples).query(points, k=12)
    weight = 1 / (distance + 1e-3) ** 2
    weight /= weight.sum(1, keepdims=True)
    matrix = np.zeros((len(points), len(vertices)), np.float32)
    rows = np.arange(len(points))[:, None]
    for corner in range(3):
        np.add.at(
            matrix,
            (rows, faces[nearest // len(corners), corner]),
            (weight * corners[nearest % len(corners), corner]).astype(np.float32),
        )
    return matrix


def rest_tongue(bust: Bust, expression_names: tuple[str, ...]) -> Bust:
    """Lower and draw back the tongue at rest, so that teeth show; tongueOut still ends where it did."""
    tongue = bust.part_vertices("tongue")
    rest = bust.template[tongue]
    tip, root = rest[:, 2].max(), rest[:, 2].min()
    forward = np.clip((rest[:, 2] - root - 0.25 * (tip - root)) / (0.75 * (tip - root)), 0, 1)
    forward = forward * forward * (3 - 2 * forward)
    floor = rest[:, 1].min()
    offset = np.zeros_like(rest)
    offset[:, 1] = forward * (-0.006 - 0.25 * (rest[:, 1] - floor))
    offset[:, 2] = forward * -0.008
    expressions = bust.expressions.copy()
    expressions[expression_names.index("tongueOut"), tongue] -= offset
    bust = replace(bust.moved(tongue, offset), expressions=expressions)
    # Open the root, deep in the throat: what is left is a disk that can be laid flat.
    rows = bust.part_faces("tongue")
    root_cap = rows[(bust.template[bust.faces[rows], 2] < root + 0.004).any(1)]
    return bust.without_faces(root_cap)


def seal_lips(bust: Bust, jaw_open: np.ndarray) -> Bust:
    """Close the slit between the lips at rest, and keep it closed in every shape.

    Args:
        bust: the bust.
        jaw_open: (V, 3) deltas of jawOpen, which tell the lower lip from the upper.
    """
    template = bust.template
    lips = bust.part_vertices("head")
    corner = template[bust.part_vertices("teeth_upper")][:, 0].max()
    edge = np.intersect1d(lips, bust.part_vertices("mouth_cavity"))
    middle = edge[np.abs(template[edge, 0]) < 0.004]
    slit_y, slit_z = template[middle, 1].mean(), template[middle, 2].mean()
    across = np.abs(template[:, 0])
    lips = lips[(across[lips] < corner) & (np.abs(template[lips, 1] - slit_y) < 0.012)]
    lips = lips[template[lips, 2] > slit_z - 0.02]
    is_lower = jaw_open[lips, 1] < -0.016 + 0.2 * across[lips]
    upper, lower = lips[~is_lower], lips[is_lower]
    template, basis = template.copy(), bust.basis.copy()
    for mine, other, shift in ((upper, lower, -0.00045), (lower, upper, 0.00015)):
        distance, partner = cKDTree(bust.template[other]).query(bust.template[mine], k=3)
        nearness = np.clip(1.5 - distance[:, 0] / 0.003, 0, 1)
        share = 1 / (distance + 1e-4)
        share /= share.sum(1, keepdims=True)
        theirs = np.einsum("svnk,vn->svk", bust.basis[:, other[partner]], share)
        blend = 0.5 * nearness[None, :, None]
        basis[:, mine] = (1 - blend) * bust.basis[:, mine] + blend * theirs
        inside = np.clip((0.024 - across[mine]) / 0.006, 0, 1)
        template[mine, 1] += shift * nearness * inside
    return replace(bust, template=template, basis=basis)
