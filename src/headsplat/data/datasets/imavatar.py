"""Read the recordings of IMavatar and PointAvatar: a still camera, and FLAME at four times its size."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    GL_TO_CV,
    Problems,
    assemble,
    camera_of,
    index_json,
    intrinsics,
    is_there,
    picture,
    picture_size,
)
from headsplat.data.datasets.flame_pose import (
    ABOUT_NOTE,
    JOINTS,
    expression_names,
    open_flame,
    rest_joints,
    skull_pose,
)
from headsplat.data.datasets.untrusted import inside, numbers
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel

SCALE = 4.0
"""FLAME is this many times its size; lengths are divided by it, so that they are metres."""
OLD_SIZE = 512
"""Pixels that intrinsics of the old variant refer to."""


def read_imavatar(
    folder: str | os.PathLike[str], *, flame: HeadModel | str | os.PathLike[str] | None = None
) -> Dataset:
    """Read one video of a subject.

    The camera looks along -z with y up; the first focal length is stored with a minus sign.

    Args:
        folder: holds flame_params.json, image/ and mask/.
        flame: FLAME, for the exact places of the joints; without it those of an average head are taken.

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root, model, problems = Path(folder), open_flame(flame), Problems()
    top, frames = index_json(root / "flame_params.json")
    try:
        shape = numbers(top.get("shape_params", []), (-1,))
        focals = numbers(top.get("intrinsics"), (4,))
    except (ValueError, TypeError) as error:
        raise HeadsplatError(f"{root / 'flame_params.json'} lacks its intrinsics; copy it again.") from error
    size, views = None, []
    for number, frame in enumerate(frames):
        name = str(frame.get("file_path", f"frame {number}"))
        try:
            image = picture(inside(root, frame["file_path"]))
            size = size or picture_size(image)
            views.append(_view(image, frame, focals, size or (OLD_SIZE, OLD_SIZE), shape, number, model))
        except (HeadsplatError, ValueError, TypeError, KeyError, OverflowError) as error:
            problems.add(f"is left out ({error})", name)
    return assemble(
        root,
        "imavatar",
        views,
        head="flame",
        shape=shape,
        expressions=expression_names(max((len(view.expression) for view in views), default=0)),
        joints=JOINTS,
        notes=[ABOUT_NOTE] if model is None else [],
        problems=problems,
    )


def _view(
    image: Path,
    frame: Mapping[str, Any],
    focals: np.ndarray,
    size: tuple[int, int],
    shape: np.ndarray,
    number: int,
    model: HeadModel | None,
) -> View:
    width, height = size
    across = np.array([width, height, width, height], np.float64)
    fx, fy, cx, cy = focals * across / OLD_SIZE if focals[3] > 1 else focals * across
    T_camera_world = np.eye(4)
    T_camera_world[:3] = numbers(frame["world_mat"], (-1, 4))[:3]
    T_camera_world[:3, 3] /= SCALE
    rotations = numbers(frame["pose"], (len(JOINTS), 3))
    expression = numbers(frame["expression"], (-1,))
    mask = picture(image.parent.parent / "mask" / image.with_suffix(".png").name)
    return View(
        image=image,
        mask=mask if is_there(mask) else None,
        camera=camera_of(GL_TO_CV @ T_camera_world, intrinsics(-fx, fy, cx, cy), width, height),
        timestep=number,
        camera_index=0,
        expression=expression,
        rotations=rotations,
        T_world_root=np.eye(4),
        T_world_head=skull_pose(rotations, np.eye(4), rest_joints(model, shape, expression)),
    )
