"""Two rows of teeth for FLAME, which has none: 120 vertices and 168 triangles, as many as the paper counts.

Our own geometry, placed by the head model alone: the lips' inner rim is the boundary of FLAME's mesh that is
not the neck's. The upper row rides on the skull, the lower one on the jaw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel

# Points around each of the three rings of a row: at the gum, around the crowns, along the edge.
_RINGS = (18, 24, 18)
# Metres above the line between the lips (the lower row is mirrored), and how thick the row is there.
_HEIGHTS = (0.009, 0.0045, 0.0005)
_THICKNESS = (0.008, 0.007, 0.003)
_BEHIND_LIPS = 0.004
_WIDTH, _DEPTH = 0.52, 0.62
"""Half the width of the arch, and its depth, as a share of the width of the mouth."""


def add_teeth(model: HeadModel) -> HeadModel:
    """The same head with the parts teeth_upper and teeth_lower; unchanged if it has them.

    The teeth follow the shape of the lips as a whole, and no expression: the jaw joint moves them.

    Raises:
        HeadsplatError: the mesh has no open mouth, or the model no jaw.
    """
    if "teeth_upper" in model.part_names:
        return model
    if "jaw" not in model.joint_names or "neck" not in model.joint_names:
        raise HeadsplatError("This head model has no jaw for teeth to ride on; use the model without teeth.")
    rim = mouth_rim(model)
    count, row = len(model.template), sum(_RINGS)
    upper = _row(model.template[rim])
    middle = model.template[rim, 1].mean()
    lower = upper * [1, -1, 1] + [0, 2 * middle, 0]
    faces = _row_faces()
    skin = np.zeros((2 * row, len(model.joint_names)), np.float32)
    skin[:row, model.joint_names.index("neck")] = 1
    skin[row:, model.joint_names.index("jaw")] = 1
    moved = model.shape_basis[:, rim].mean(1, keepdims=True).repeat(2 * row, 1)
    parts = len(model.part_names)
    return replace(
        model,
        template=np.concatenate([model.template, upper, lower]).astype(np.float32),
        shape_basis=np.concatenate([model.shape_basis, moved], 1),
        expression_basis=_pad(model.expression_basis, 2 * row),
        pose_basis=None if model.pose_basis is None else _pad(model.pose_basis, 2 * row),
        skin_weights=np.concatenate([model.skin_weights, skin]),
        # Mirrored triangles turn their backs: exchange two corners.
        faces=np.concatenate([model.faces, faces + count, faces[:, ::-1] + count + row]).astype(np.int32),
        uv_faces=np.concatenate([model.uv_faces, np.zeros((2 * len(faces), 3), np.int32)]),
        face_part=np.concatenate([model.face_part, np.repeat([parts, parts + 1], len(faces))]).astype(
            np.uint8
        ),
        part_names=(*model.part_names, "teeth_upper", "teeth_lower"),
    )


def mouth_rim(model: HeadModel) -> np.ndarray:
    """Vertices along the lips' inner rim, in order around it: of the mesh's open borders, the highest.

    Raises:
        HeadsplatError: the mesh has fewer than two borders, so that the mouth must be closed.
    """
    loops = _borders(model.faces)
    if len(loops) < 2:
        raise HeadsplatError("This head model's mouth is closed; use the model without added teeth.")
    return max(loops, key=lambda loop: model.template[loop, 1].mean())


def _row(rim: np.ndarray) -> np.ndarray:
    """(60, 3) the upper row behind a (R, 3) rim: rings around the arch, its outer side first."""
    width, front = np.ptp(rim[:, 0]), rim[:, 2].max() - _BEHIND_LIPS
    centre, line = (rim[:, 0].max() + rim[:, 0].min()) / 2, rim[:, 1].mean()
    rings = []
    for points, height, thickness in zip(_RINGS, _HEIGHTS, _THICKNESS, strict=True):
        angle = np.linspace(-1.4, 1.4, points // 2)
        sides = []
        for inset, along in ((0.0, angle), (thickness, angle[::-1])):
            x = centre + (_WIDTH * width - inset) * np.sin(along)
            z = front - inset - (_DEPTH * width - inset) * (1 - np.cos(along))
            sides.append(np.stack([x, np.full_like(x, line + height), z], 1))
        rings.append(np.concatenate(sides))
    return np.concatenate(rings)


def _row_faces() -> np.ndarray:
    """(84, 3) triangles between neighbouring rings, outwards at the front of the upper row."""
    starts = np.concatenate([[0], np.cumsum(_RINGS)])
    faces = []
    for ring in range(2):
        a, b = _RINGS[ring], _RINGS[ring + 1]
        i = j = 0
        while i < a or j < b:
            top, bottom = starts[ring] + i % a, starts[ring + 1] + j % b
            if (i + 0.5) * b <= (j + 0.5) * a:
                i += 1
                faces.append([top, bottom, starts[ring] + i % a])
            else:
                j += 1
                faces.append([top, bottom, starts[ring + 1] + j % b])
    return np.array(faces)


def _borders(faces: np.ndarray) -> list[np.ndarray]:
    """The open borders of a mesh as closed loops of vertices."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, inverse, counts = np.unique(np.sort(sides, 1), axis=0, return_inverse=True, return_counts=True)
    following = dict(sides[counts[inverse.reshape(-1)] == 1].tolist())
    loops = []
    while following:
        start, at = next(iter(following.items()))
        loop = [start]
        del following[start]
        while at != start and at in following:
            loop.append(at)
            at = following.pop(at)
        loops.append(np.array(loop))
    return loops


def _pad(basis: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([basis, np.zeros((len(basis), count, 3), basis.dtype)], 1)
