"""The head model that GAGAvatar's release drives, FLAME with points on the irises, from its own file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from headsplat.errors import HeadsplatError
from headsplat.head.flame import flame_from_arrays
from headsplat.head.model import HeadModel

SHAPES, EXPRESSIONS = 300, 100

EYELIDS = {
    37: (2452, 2454), 38: (2471,), 40: (2276,), 41: (2360,), 43: (1292,), 44: (1217,), 46: (999,), 47: (827,),
}  # fmt: skip
"""Landmark -> vertices whose mean takes its place where eyelids matter."""


@dataclass(frozen=True)
class FlameWithEye:
    """FLAME and seventy landmarks: the 68 of Multi-PIE, the contour fixed to the mesh, and both irises.

    Attributes:
        head: 300 shape and 100 expression components; metres.
        landmark_faces: (70,) triangles.
        landmark_barycentrics: (70, 3).
    """

    head: HeadModel
    landmark_faces: np.ndarray
    landmark_barycentrics: np.ndarray

    def landmarks(self, vertices: np.ndarray, *, eyelids: bool = False) -> np.ndarray:
        """(..., 70, 3) landmarks of (..., 5023, 3) vertices, the eyelids' from single vertices if wanted."""
        corners = vertices[..., self.head.faces[self.landmark_faces], :]
        points = (corners * self.landmark_barycentrics[:, :, None]).sum(-2)
        if eyelids:
            for landmark, which in EYELIDS.items():
                points[..., landmark, :] = vertices[..., which, :].mean(-2)
        return points


def load_flame_with_eye(path: str | os.PathLike[str]) -> FlameWithEye:
    """Read `FLAME_with_eye.pt`; nothing in the file is executed.

    Raises:
        HeadsplatError: missing, damaged, unsafe, or not this file.
    """
    path = Path(path)
    if path.suffix.lower() in (".pkl", ".npz"):
        raise HeadsplatError(
            f"{path} has no landmarks on the irises; give FLAME_with_eye.pt, which comes with GAGAvatar."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check the name.") from error
    except Exception as error:  # torch raises many kinds for a file that is damaged or wants to run code
        raise HeadsplatError(
            f"{path} is no plain file of tensors ({type(error).__name__}); get FLAME_with_eye.pt again."
        ) from error
    parts = [content.get(name) if isinstance(content, dict) else None for name in _PARTS]
    if not all(isinstance(part, dict) for part in parts):
        raise HeadsplatError(f"{path} lacks {' or '.join(_PARTS)}; give FLAME_with_eye.pt of GAGAvatar.")
    arrays = {}
    for part in parts:
        arrays |= {
            str(name): value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            for name, value in (part or {}).items()
        }
    return flame_with_eye(arrays, source=path)


def flame_with_eye(
    arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str] = "The head model"
) -> FlameWithEye:
    """The same from arrays under the names of the file's two parts.

    Raises:
        HeadsplatError: an array is missing or not FLAME's.
    """
    given = dict(arrays)
    names = ("full_lmk_faces_idx_with_eye", "full_lmk_bary_coords_with_eye")
    for name in (*names, "shapedirs"):
        if name not in given:
            raise HeadsplatError(f"{source} lacks {name}; give FLAME_with_eye.pt of GAGAvatar.")
    if given["shapedirs"].ndim != 3 or given["shapedirs"].shape[2] < SHAPES + EXPRESSIONS:
        raise HeadsplatError(f"{source} has fewer than 400 blendshapes; give FLAME_with_eye.pt of GAGAvatar.")
    given["shapedirs"] = given["shapedirs"][:, :, : SHAPES + EXPRESSIONS]
    head = flame_from_arrays(given, expressions=EXPRESSIONS, source=source)
    faces, weights = (np.asarray(given[name]) for name in names)
    right = (
        faces.size == 70
        and weights.size == 210
        and np.issubdtype(faces.dtype, np.integer)
        and 0 <= faces.min() <= faces.max() < len(head.faces)
        and np.isfinite(weights).all()
    )
    if not right:
        raise HeadsplatError(f"{source} has unusable landmarks; give FLAME_with_eye.pt of GAGAvatar.")
    return FlameWithEye(head, faces.reshape(70), weights.reshape(70, 3).astype(np.float32))


_PARTS = ("flame_model", "lmk_embeddings")
