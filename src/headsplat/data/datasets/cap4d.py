"""Read the fits that cap4d starts from: cameras that stand still and FLAME's parameters over time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    GL_TO_CV,
    Problems,
    assemble,
    camera_of,
    intrinsics,
    picture_in,
)
from headsplat.data.datasets.flame_pose import (
    ABOUT_NOTE,
    JOINTS,
    expression_names,
    open_flame,
    rest_joints,
    rigid,
    skull_pose,
)
from headsplat.data.datasets.untrusted import numbers, read_npz
from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.model import HeadModel

_EDITION = "The expressions are those of FLAME 2023 without jaw (flame2023_no_jaw.pkl), the first 65 of them."


def read_cap4d(
    folder: str | os.PathLike[str], *, flame: HeadModel | str | os.PathLike[str] | None = None
) -> Dataset:
    """Read a fit: cameras stand still, the head moves by `rot` about FLAME's origin and `tra`.

    FLAME's world has y up; the cameras see it with y and z negated.

    Args:
        folder: holds fit.npz, images/<camera>/*.png and bg/<camera>/*.png (mattes).
        flame: FLAME, for the exact place of the neck joint; without it that of an average head is taken.

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root, model, problems = Path(folder), open_flame(flame), Problems()
    arrays = read_npz(root / "fit.npz", text=True)
    try:
        cameras = _cameras(arrays)
        rot, tra = numbers(arrays["rot"], (-1, 3)), numbers(arrays["tra"], (-1, 3))
        count = len(rot)
        expression = numbers(arrays["expr"], (count, -1))
        rotations = np.zeros((count, len(JOINTS), 3))
        rotations[:, 3:] = numbers(arrays.get("eye_rot", np.zeros((count, 3))), (count, 1, 3))
        for joint, name in ((1, "neck_rot"), (2, "jaw_rot")):
            rotations[:, joint] = numbers(arrays.get(name, np.zeros((count, 3))), (count, 3))
        shape = numbers(arrays["shape"], (-1,))
        valid = numbers(arrays.get("valid_mask", np.ones((len(cameras), count))), (len(cameras), count)) > 0
        fps = float(numbers(arrays["fps"], (-1,))[0]) if "fps" in arrays else 0.0
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise HeadsplatError(f"{root / 'fit.npz'} is no fit of cap4d ({error}); copy it again.") from error
    views = []
    for c, (name, camera) in enumerate(cameras.items()):
        stems = _stems(root / "images" / name, count)
        for t in range(count):
            if not valid[c, t]:
                problems.add("is marked as invalid and left out", f"{name}/{stems[t]}")
                continue
            T_world_root = rigid(axis_angle_to_matrix(rot[t]), tra[t])
            joints = rest_joints(model, shape, expression[t])
            view = View(
                image=picture_in(root, (f"images/{name}",), stems[t])
                or root / "images" / name / f"{stems[t]}.png",
                mask=picture_in(root, (f"bg/{name}",), stems[t]),
                camera=camera,
                timestep=t,
                camera_index=c,
                expression=expression[t],
                rotations=rotations[t],
                T_world_root=T_world_root,
                T_world_head=skull_pose(rotations[t], T_world_root, joints),
            )
            views.append(view)
    return assemble(
        root,
        "cap4d",
        views,
        head="flame",
        shape=shape,
        expressions=expression_names(expression.shape[1]),
        joints=JOINTS,
        fps=fps if 0 < fps < 1e4 else 0.0,
        notes=[_EDITION, *([ABOUT_NOTE] if model is None else [])],
        problems=problems,
        info={"camera_ids": {str(c): name for c, name in enumerate(cameras)}},
    )


def _cameras(arrays: Mapping[str, np.ndarray]) -> dict[str, Camera]:
    extrinsics = numbers(arrays["extr"], (-1, 4, 4))
    count = len(extrinsics)
    fx, fy, cx, cy = (numbers(arrays[name], (count,)) for name in ("fx", "fy", "cx", "cy"))
    sizes = numbers(arrays["resolutions"], (count, 2))
    names = [str(name) for name in np.asarray(arrays.get("camera_order", [])).reshape(-1)]
    if len(names) != count or any("/" in name or name in ("", ".", "..") for name in names):
        names = [f"cam{c}" for c in range(count)]
    return {
        names[c]: camera_of(
            extrinsics[c] @ GL_TO_CV, intrinsics(fx[c], fy[c], cx[c], cy[c]), sizes[c, 1], sizes[c, 0]
        )
        for c in range(count)
    }


def _stems(folder: Path, count: int) -> list[str]:
    """The names of a camera's pictures in order, without suffix."""
    found = sorted(path.stem for path in folder.iterdir() if path.suffix) if folder.is_dir() else []
    return found if len(found) == count else [f"{t:04d}" for t in range(count)]
