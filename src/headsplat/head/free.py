"""The bundled free head: MakeHuman's bust as a statistical model with the 52 ARKit expressions."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.head.arkit import mirror_order
from headsplat.head.model import HeadModel
from headsplat.head.subdivide import subdivide

ASSET = Path(__file__).parent / "assets" / "free_head.npz"
_FLIP = np.array([-1, 1, 1], np.float32)


@lru_cache(maxsize=3)
def load_free_head(level: int = 0) -> HeadModel:
    """The free head; the same object on every call, so do not write into its arrays.

    Args:
        level: midpoint subdivisions, 0, 1 or 2: about 6, 25 or 100 thousand vertices.

    Raises:
        HeadsplatError: the level is not 0, 1 or 2, or the asset is missing or damaged.
    """
    if level not in (0, 1, 2):
        raise HeadsplatError(f"The free head has subdivision levels 0, 1 and 2, not {level}.")
    return subdivide(load_free_head(level - 1)) if level else read_asset(ASSET)


def read_asset(path: Path) -> HeadModel:
    """The head in a file written by tools/bake_head: the left half and the sagittal plane, mirrored.

    Raises:
        HeadsplatError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise HeadsplatError(f"Cannot read {path}; install headsplat again.") from error

    mirror = stored["mirror"].astype(np.int32)
    half = stored["half"].astype(np.int32)
    names = tuple(stored["expression_names"].tolist())
    joint_names = tuple(stored["joint_names"].tolist())
    sign = np.where(stored["shape_symmetric"], 1, -1).astype(np.float32)[:, None, None]
    swapped = [joint_names.index(_swap_joint(name)) for name in joint_names]

    count = len(half)
    order = np.empty(len(mirror), np.int64)
    # The sagittal plane is its own mirror image: number the right side first, so that the left wins there.
    order[mirror[half]] = np.arange(count) + count
    order[half] = np.arange(count)

    def whole(left: np.ndarray, right: np.ndarray | None = None, sign: np.ndarray = _FLIP) -> np.ndarray:
        """All vertices (second-last axis) from those on the left and (`right` or the left times `sign`)."""
        both = np.empty((*left.shape[:-2], 2 * count, left.shape[-1]), np.float32)
        both[..., :count, :] = left
        if right is None:
            np.multiply(both[..., :count, :], sign, out=both[..., count:, :])
        else:
            np.multiply(right, sign, out=both[..., count:, :])
        return np.take(both, order, axis=-2)

    expression = stored["expression_basis"].astype(np.float32)
    weights = stored["skin_weights"].astype(np.float32)
    weights /= weights.sum(1, keepdims=True)
    return HeadModel(
        template=whole(stored["template"]),
        shape_basis=whole(stored["shape_basis"], sign=_FLIP * sign),
        shape_symmetric=stored["shape_symmetric"],
        expression_basis=whole(expression, expression[list(mirror_order(names))]),
        expression_names=names,
        joint_template=stored["joint_template"],
        joint_shape=stored["joint_shape"],
        joint_names=joint_names,
        parents=stored["parents"].astype(np.int32),
        skin_weights=whole(weights, weights[:, swapped], np.ones(1, np.float32)),
        faces=stored["faces"].astype(np.int32),
        uv=(stored["uv"] / np.float32(65534) + np.array([0.5, 0], np.float32)).astype(np.float32),
        uv_faces=stored["uv_faces"].astype(np.int32),
        face_part=stored["face_part"],
        part_names=tuple(stored["part_names"].tolist()),
        mirror=mirror,
        landmark_faces=stored["landmark_faces"].astype(np.int32),
        landmark_barycentrics=stored["landmark_barycentrics"],
    )


def _swap_joint(name: str) -> str:
    return {"left_eye": "right_eye", "right_eye": "left_eye"}.get(name, name)
