"""Read the recordings of NeRFBlendShape, which GaussianHead learns from, and of AD-NeRF: the camera moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    GL_TO_CV,
    Problems,
    assemble,
    camera_of,
    index_json,
    intrinsics,
    invert,
    picture_in,
    picture_size,
)
from headsplat.data.datasets.pixels import PARSING
from headsplat.data.datasets.untrusted import numbers
from headsplat.errors import HeadsplatError

LAST_TEST = 500
"""NeRFBlendShape judges by the last 500 frames."""
AD_NERF_FPS = 25.0
_OWN_UNIT = "Lengths are in the tracker's own unit, which the files do not name."


def read_nerfblendshape(folder: str | os.PathLike[str]) -> Dataset:
    """Read a recording that NeRFBlendShape or GaussianHead learns from.

    The head stands still at the origin. Mattes are those of mask/, by the picture's number or, where the
    numbering starts at one higher, by GaussianHead's (the picture's plus 1); else the head of parsing/.

    Args:
        folder: holds transforms.json and ori_imgs/ (or head_imgs/).

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root = Path(folder)
    top, frames = index_json(root / "transforms.json")
    frames.sort(
        key=lambda frame: (not isinstance(frame.get("img_id"), int), str(frame.get("img_id")).zfill(9))
    )
    matte, notes = _mattes(root, [str(frame.get("img_id")) for frame in frames])
    expressions = max((len(e) for f in frames if isinstance(e := f.get("exp_ori"), list)), default=0)

    def camera(frame: Mapping[str, Any], image: Path) -> Camera:
        width, height = float(top["w"]), float(top["h"])
        fx = float(top["fx"])
        K = intrinsics(fx, float(top.get("fy", fx)), float(top.get("cx", width / 2)),
                       float(top.get("cy", height / 2)))  # fmt: skip
        return camera_of(invert(numbers(frame["transform_matrix"], (4, 4)) @ GL_TO_CV), K, width, height)

    views, _, problems = _views(root, frames, ("ori_imgs", "head_imgs"), camera, matte)
    tested = LAST_TEST if len(views) >= 2 * LAST_TEST else max(1, len(views) // 10)
    kept = len(views) - tested
    return assemble(
        root,
        "nerfblendshape",
        views,
        head="none",
        shape=np.zeros(0),
        expressions=[f"exp{i}" for i in range(expressions)],
        joints=(),
        splits={"train": range(kept), "test": range(kept, len(views))},
        notes=[*notes, _OWN_UNIT],
        problems=problems,
    )


def read_adnerf(folder: str | os.PathLike[str]) -> Dataset:
    """Read a recording that AD-NeRF or RAD-NeRF learns from; it is driven by sound and has no expressions.

    Args:
        folder: holds transforms_train.json, transforms_val.json and ori_imgs/ (or gt_imgs/, com_imgs/).

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root = Path(folder)
    frames: list[dict[str, Any]] = []
    splits: dict[str, range] = {}
    top: dict[str, Any] = {}
    for part, name in (("train", "train"), ("val", "test")):
        path = root / f"transforms_{part}.json"
        if path.exists():
            content, listed = index_json(path)
            top = top or content
            splits[name] = range(len(frames), len(frames) + len(listed))
            frames += listed

    def camera(frame: Mapping[str, Any], image: Path) -> Camera:
        focal, cx, cy = (float(top[name]) for name in ("focal_len", "cx", "cy"))
        width, height = picture_size(image) or (2 * cx, 2 * cy)
        pose = invert(numbers(frame["transform_matrix"], (4, 4)) @ GL_TO_CV)
        return camera_of(pose, intrinsics(focal, focal, cx, cy), width, height)

    folders = ("ori_imgs", "gt_imgs", "com_imgs", "torso_imgs", "head_imgs")
    matte, notes = _mattes(root, [str(frame.get("img_id")) for frame in frames])
    views, places, problems = _views(root, frames, folders, camera, matte)
    return assemble(
        root,
        "adnerf",
        views,
        head="none",
        shape=np.zeros(0),
        expressions=(),
        joints=(),
        splits={
            name: [i for i, place in enumerate(places) if place in part] for name, part in splits.items()
        },
        fps=AD_NERF_FPS,
        notes=[*notes, "Lengths are the tracker's own over ten, about metres."],
        problems=problems,
    )


def _views(
    root: Path,
    frames: Sequence[Mapping[str, Any]],
    folders: Sequence[str],
    camera: Callable[[Mapping[str, Any], Path], Camera],
    matte: Callable[[int], Path | None],
) -> tuple[list[View], list[int], Problems]:
    """The views of the frames that could be read, the position of each in `frames`, and what was wrong."""
    views, places, problems = [], [], Problems()
    for place, frame in enumerate(frames):
        try:
            number = int(frame["img_id"])
            image = picture_in(root, folders, str(number)) or root / folders[0] / f"{number}.jpg"
            view = View(
                image=image,
                mask=matte(number),
                camera=camera(frame, image),
                timestep=number,
                camera_index=0,
                expression=numbers(frame.get("exp_ori", []), (-1,)),
                rotations=np.zeros((0, 3)),
                T_world_root=np.eye(4),
                T_world_head=np.eye(4),
                landmarks=_landmarks(root / "ori_imgs" / f"{number}.lms"),
            )
        except (HeadsplatError, ValueError, TypeError, KeyError, OverflowError) as error:
            problems.add(f"is left out ({error})", f"frame {frame.get('img_id', place)}")
            continue
        views.append(view)
        places.append(place)
    return views, places, problems


def _mattes(root: Path, ids: Sequence[str]) -> tuple[Callable[[int], Path | None], list[str]]:
    """How to find the matte of a picture by its number, and remarks."""
    folder = root / "mask"
    stems = {path.stem for path in folder.iterdir()} if folder.is_dir() else set()
    direct = sum(name in stems for name in ids)
    shifted = sum(name.isdigit() and str(int(name) + 1) in stems for name in ids)
    if shifted > direct:
        remark = "Mattes are numbered one higher than their pictures, as GaussianHead wants them."
        return lambda number: picture_in(root, ("mask",), str(number + 1)), [remark]
    if direct:
        return lambda number: picture_in(root, ("mask",), str(number)), []
    if (root / PARSING).is_dir():
        remark = "There are no mattes; the head of parsing/ (pure blue) is taken, without neck and shoulders."
        return lambda number: picture_in(root, (PARSING,), str(number)), [remark]
    return lambda number: None, []


def _landmarks(path: Path) -> np.ndarray | None:
    """(478, 2) face points in pixels of a text file with two numbers to a line; None if there is none."""
    try:
        if not path.is_file() or path.stat().st_size > 1_000_000:
            return None
        points = np.array(path.read_text().split(), np.float32)
    except (OSError, ValueError):
        return None
    return points.reshape(478, 2) if points.shape == (956,) and np.isfinite(points).all() else None
