"""FLAME (2020, 2023, Open) from the user's own file, as a `HeadModel`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.head.flame_file import read_flame_arrays
from headsplat.head.model import HeadModel

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
_NEEDED = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")


def load_flame(
    path: str | os.PathLike[str],
    *,
    expressions: int = 100,
    template_obj: str | os.PathLike[str] | None = None,
) -> HeadModel:
    """Read a FLAME model.

    The head stays in FLAME's own frame: metres, x to the subject's left, y up, z out of the face. Expressions
    are called expr0, expr1, ...; the joints follow them, as in the original. There is no mirror map and there
    are no landmarks; `shape_symmetric` is all False, for FLAME's components are neither.

    Args:
        path: `generic_model.pkl`, `flame2023.pkl`, `flame2023_no_jaw.pkl` or the same arrays as `.npz`.
        expressions: how many of the last columns of `shapedirs` are expressions.
        template_obj: `head_template_mesh.obj`, for its texture coordinates; without it there are none.

    Raises:
        HeadsplatError: a file is missing, damaged, unsafe or not FLAME.
    """
    source = Path(path)
    return flame_from_arrays(
        read_flame_arrays(source), expressions=expressions, template_obj=template_obj, source=source
    )


def flame_from_arrays(
    arrays: Mapping[str, np.ndarray],
    *,
    expressions: int = 100,
    template_obj: str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] = "The head model",
) -> HeadModel:
    """The same from arrays already read, under the names and in the layout of FLAME's file.

    Args:
        arrays: v_template, shapedirs, posedirs, J_regressor, kintree_table, weights and f.
        expressions: how many of the last columns of `shapedirs` are expressions.
        template_obj: as for `load_flame`.
        source: what to call the arrays in messages.

    Raises:
        HeadsplatError: an array is missing or not FLAME's.
    """
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise HeadsplatError(
            f"{source} lacks {', '.join(missing)}, so it is no FLAME model; give another file."
        )
    try:
        template, directions, correctives, regressor, parents, weights, faces = _checked(arrays, expressions)
    except (ValueError, TypeError, IndexError) as error:
        raise HeadsplatError(
            f"{source} does not have FLAME's layout; give an unchanged FLAME model."
        ) from error
    basis = directions.transpose(2, 0, 1)
    shapes = len(basis) - expressions
    uv, uv_faces = np.zeros((1, 2)), np.zeros(faces.shape)
    if template_obj is not None:
        uv, uv_faces = _read_texture_coordinates(Path(template_obj), faces)
    strongest = weights.argmax(1)[faces]
    part = np.zeros(len(faces), np.uint8)
    part[(strongest == JOINTS.index("left_eye")).all(1)] = 1
    part[(strongest == JOINTS.index("right_eye")).all(1)] = 2
    joint_basis = np.einsum("jv,bvk->bjk", regressor, basis)
    return HeadModel(
        template=template.astype(np.float32),
        shape_basis=basis[:shapes].astype(np.float32),
        shape_symmetric=np.zeros(shapes, bool),
        expression_basis=basis[shapes:].astype(np.float32),
        expression_names=tuple(f"expr{k}" for k in range(expressions)),
        joint_template=(regressor @ template).astype(np.float32),
        joint_shape=joint_basis[:shapes].astype(np.float32),
        joint_names=JOINTS,
        parents=parents.astype(np.int32),
        skin_weights=weights.astype(np.float32),
        faces=faces.astype(np.int32),
        uv=uv.astype(np.float32),
        uv_faces=uv_faces.astype(np.int32),
        face_part=part,
        part_names=("head", "left_eye", "right_eye"),
        pose_basis=np.ascontiguousarray(correctives.transpose(2, 0, 1)).astype(np.float32),
        joint_expression=joint_basis[shapes:].astype(np.float32),
    )


def _checked(arrays: Mapping[str, np.ndarray], expressions: int) -> tuple[np.ndarray, ...]:
    """FLAME's arrays in the order of `_NEEDED` as float64 or int64; of the tree, the (5,) parents.

    Raises:
        ValueError: a shape, an index or a number that FLAME cannot have; TypeError or IndexError likewise.
    """
    template, directions, correctives, regressor, weights = (
        np.asarray(arrays[name]).astype(np.float64)
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
    )
    faces, tree = (np.asarray(arrays[name]).astype(np.int64) for name in ("f", "kintree_table"))
    count, joints = len(template), len(JOINTS)
    right = (
        template.shape == (count, 3)
        and directions.ndim == 3
        and directions.shape[:2] == (count, 3)
        and directions.shape[2] > expressions
        and correctives.shape == (count, 3, 9 * (joints - 1))
        and regressor.shape == (joints, count)
        and tree.shape == (2, joints)
        and weights.shape == (count, joints)
        and faces.ndim == 2
        and faces.shape[1] == 3
        and len(faces) > 0
        and 0 <= faces.min() <= faces.max() < count
        and all(np.isfinite(a).all() for a in (template, directions, weights, correctives, regressor))
    )
    if not right:
        raise ValueError("not FLAME's layout")
    # The root's parent is stored as 2^32 - 1.
    parents = np.where((tree[0] < 0) | (tree[0] >= joints), -1, tree[0])
    if parents[0] != -1 or (parents[1:] < 0).any() or (parents >= np.arange(joints)).any():
        raise ValueError("not FLAME's joints")
    return template, directions, correctives, regressor, parents, weights, faces


def _read_texture_coordinates(path: Path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(U, 2) coordinates and (F, 3) faces of an .obj with the model's triangles in the model's order."""
    uv, vertices, texture = [], [], []
    try:
        for line in path.read_text(encoding="latin1").splitlines():
            kind, *fields = line.split() or [""]
            if kind == "vt":
                uv.append([float(value) for value in fields[:2]])
            elif kind == "f":
                corners = [field.split("/") for field in fields]
                vertices.append([int(corner[0]) - 1 for corner in corners])
                texture.append([int(corner[1]) - 1 for corner in corners])
        coordinates, uv_faces = np.array(uv), np.array(texture)
        if not np.array_equal(np.array(vertices), faces) or not 0 <= uv_faces.min() <= uv_faces.max() < len(
            uv
        ):
            raise ValueError("other triangles")
    except (OSError, ValueError, IndexError) as error:
        raise HeadsplatError(
            f"{path} is not the mesh of this FLAME model; give head_template_mesh.obj."
        ) from error
    return coordinates, uv_faces
