"""Read what metrical-tracker and pixel3dmm leave of each frame: `checkpoint/<frame>.frame`, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    GL_TO_CV,
    Problems,
    assemble,
    camera_of,
    intrinsics,
    picture_in,
    picture_size,
)
from headsplat.data.datasets.flame_pose import (
    JOINTS,
    expression_names,
    matrix_of_6d,
    rigid,
)
from headsplat.data.datasets.untrusted import numbers, read_checkpoint
from headsplat.errors import HeadsplatError
from headsplat.gaussians import matrix_to_quat, quat_to_axis_angle

PICTURES = ("images", "cropped", "input", "source", "frames", ".")
MATTES = ("fg_masks", "masks", "mask", "alpha", "matte")
"""Folders beside checkpoint/ in which the pictures and the mattes of the frames are looked for."""


@dataclass(frozen=True)
class TrackedFlame:
    """FLAME's parameters in one checkpoint.

    Attributes:
        shape: (S,).
        expression: (E,).
        rotations: (5, 3) rotation vectors; the root is at rest.
    """

    shape: np.ndarray
    expression: np.ndarray
    rotations: np.ndarray


def flame_of(content: Mapping[str, Any]) -> TrackedFlame:
    """FLAME's parameters of a checkpoint; its rotations are stored as the first two rows of matrices.

    Raises:
        ValueError: they are missing or of another size.
    """
    values = content.get("flame")
    if not isinstance(values, dict):
        raise ValueError("it holds no FLAME parameters")
    eyes = _six(values, "eyes", 2)
    turns = np.concatenate([np.eye(3)[None], _six(values, "neck"), _six(values, "jaw"), eyes])
    if not np.isfinite(turns).all():
        raise ValueError("a rotation is not finite")
    return TrackedFlame(
        shape=numbers(values.get("shape"), (-1,)),
        expression=numbers(values.get("exp"), (-1,)),
        rotations=quat_to_axis_angle(matrix_to_quat(turns)),
    )


def read_checkpoints(folder: str | os.PathLike[str]) -> Dataset:
    """Read a folder tracked by metrical-tracker or pixel3dmm.

    metrical-tracker holds the head still and moves an OpenCV camera; pixel3dmm moves the head by R, t and
    its neck joint before an OpenGL camera. Pictures are looked for beside the checkpoints.

    Args:
        folder: holds checkpoint/*.frame.

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root, problems = Path(folder), Problems()
    paths = sorted((root / "checkpoint").glob("*.frame"))
    views, shape, notes, layout = [], np.zeros(0), [], "metrical"
    for number, path in enumerate(paths):
        try:
            content = read_checkpoint(path)
            tracked = flame_of(content)
            camera = content.get("camera")
            layout = "pixel3dmm" if isinstance(camera, dict) and "R_base_0" in camera else "metrical"
            place = _pixel3dmm if layout == "pixel3dmm" else _metrical
            views.append(place(root, content, tracked, path.stem, number))
        except (HeadsplatError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            problems.add(f"is left out ({error})", path.name)
            continue
        shape = tracked.shape if not len(shape) else shape
    if layout == "metrical":
        notes.append("Weights of the two eyelid shapes, which only this tracker has, are not read.")
    expressions = max((len(view.expression) for view in views), default=0)
    return assemble(
        root,
        layout,
        views,
        head="flame",
        shape=shape,
        expressions=expression_names(expressions),
        joints=JOINTS,
        notes=notes,
        problems=problems,
    )


def _metrical(root: Path, content: Mapping[str, Any], tracked: TrackedFlame, stem: str, number: int) -> View:
    camera = content["opencv"]
    T_camera_world = rigid(numbers(camera["R"], (3, 3)), numbers(camera["t"], (3,)))
    K, (height, width) = numbers(camera["K"], (3, 3)), numbers(content["img_size"], (2,))
    image, mask = _pictures(root, stem)
    return View(
        image=image,
        mask=mask,
        camera=camera_of(T_camera_world, K, width, height),
        timestep=number,
        camera_index=0,
        expression=tracked.expression,
        rotations=tracked.rotations,
        T_world_root=np.eye(4),
        T_world_head=np.eye(4),
    )


def _pixel3dmm(root: Path, content: Mapping[str, Any], tracked: TrackedFlame, stem: str, number: int) -> View:
    camera, values = content["camera"], content["flame"]
    image, mask = _pictures(root, stem)
    height, width = numbers(content["img_size"], (2,))
    # Focal length and principal point are relative; the pictures may be larger than those tracked.
    width, height = picture_size(image) or (width, height)
    focal, pp = float(numbers(camera["fl"], (-1,))[0]), numbers(camera["pp"], (2,))
    K = intrinsics(
        focal * width, focal * width, (pp[0] + 1) * (width + 1) / 2, (pp[1] + 1) * (height + 1) / 2
    )
    T_gl_world = rigid(numbers(camera["R_base_0"], (3, 3)), numbers(camera["t_base_0"], (3,)))
    T_world_root = rigid(numbers(values["R_rotation_matrix"], (3, 3)), numbers(values["t"], (3,)))
    T_root_neck = numbers(content["joint_transforms"], (-1, 4, 4))[JOINTS.index("neck")]
    return View(
        image=image,
        mask=mask,
        camera=camera_of(GL_TO_CV @ T_gl_world, K, width, height),
        timestep=number,
        camera_index=0,
        expression=tracked.expression,
        rotations=tracked.rotations,
        T_world_root=T_world_root,
        T_world_head=T_world_root @ T_root_neck,
    )


def _pictures(root: Path, stem: str) -> tuple[Path, Path | None]:
    image = picture_in(root, PICTURES, stem) or root / PICTURES[0] / f"{stem}.png"
    return image, picture_in(root, MATTES, stem)


def _six(values: Mapping[str, Any], name: str, count: int = 1) -> np.ndarray:
    """(count, 3, 3) rotations; at rest where the tracker does not have the joint."""
    if name not in values:
        return np.broadcast_to(np.eye(3), (count, 3, 3))
    return matrix_of_6d(numbers(values[name], (count, 6)))
