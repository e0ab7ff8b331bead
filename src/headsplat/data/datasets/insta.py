"""Read INSTA's recordings: FLAME's expressions beside pictures, and a camera that moves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    Problems,
    assemble,
    camera_of,
    index_json,
    intrinsics,
    invert,
    is_there,
    picture,
)
from headsplat.data.datasets.checkpoints import flame_of
from headsplat.data.datasets.flame_pose import JOINTS, expression_names
from headsplat.data.datasets.untrusted import inside, numbers, read_checkpoint
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel

EXPRESSIONS = 100
LAST_TEST, LAST_VAL = 350, 20
"""INSTA judges by the last 350 frames; it looks at the last 20 of them while it learns."""


def read_insta(folder: str | os.PathLike[str]) -> Dataset:
    """Read a recording that INSTA learns from.

    The jaw and the eyes are in the meshes only; where the tracker's `checkpoint/<frame>.frame` files lie in
    the folder they give rotations and shape. World = FLAME's frame, so `T_world_head` is the identity.

    Args:
        folder: holds transforms.json, images/ (RGBA) and flame/exp/.

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root, problems = Path(folder), Problems()
    top, frames = index_json(root / "transforms.json")
    views, names, shape = [], [], np.zeros(0)
    for number, frame in enumerate(frames):
        name = str(frame.get("file_path", f"frame {number}"))
        try:
            view, betas = _view(root, {**top, **frame}, number)
        except (HeadsplatError, ValueError, TypeError, KeyError, OverflowError) as error:
            problems.add(f"is left out ({error})", name)
            continue
        views.append(view)
        names.append(name)
        shape = betas if len(betas) else shape
    notes = []
    if not len(shape):
        notes.append(
            "INSTA keeps the jaw, the eyes and the shape only in its meshes; they are taken as at rest."
        )
    return assemble(
        root,
        "insta",
        views,
        head="flame",
        shape=shape,
        expressions=expression_names(EXPRESSIONS),
        joints=JOINTS,
        splits=_splits(root, names),
        notes=notes,
        problems=problems,
        info={"meshes": sum(is_there(root / str(frame.get("mesh_path"))) for frame in frames)},
    )


def expression_misfit(dataset: Dataset, model: HeadModel) -> float | None:
    """How badly a FLAME explains the meshes by the expressions; 0 is perfectly, about 1 and more not at all.

    Compares two frames whose expressions differ most, over the vertices that follow neither jaw nor eyes.

    Returns:
        The misfit relative to the motion, or None where there are no meshes of that model's topology.
    """
    first = dataset.views[0]
    other = max(dataset.views, key=lambda view: float(np.square(view.expression - first.expression).sum()))
    before, after = (_mesh(dataset.root / "meshes" / f"{view.image.stem}.obj") for view in (first, other))
    if before is None or after is None or not len(before) == len(after) == len(model):
        return None
    moved = after - before
    count = min(len(first.expression), len(model.expression_basis))
    change = (other.expression - first.expression)[:count]
    told = np.tensordot(change, model.expression_basis[:count], 1)
    upper = model.skin_weights[:, JOINTS.index("neck")] > 0.99
    size = np.linalg.norm(moved[upper])
    return float(np.linalg.norm((moved - told)[upper]) / size) if size > 0 else None


def _mesh(path: Path) -> np.ndarray | None:
    """(V, 3) the vertices of an .obj."""
    try:
        if not path.is_file() or path.stat().st_size > 20_000_000:
            return None
        lines = [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")]
        return np.array(lines, np.float64).reshape(-1, 3)
    except (OSError, ValueError):
        return None


def _view(root: Path, frame: Mapping[str, Any], number: int) -> tuple[View, np.ndarray]:
    image = picture(inside(root, frame["file_path"]))
    width, height = float(frame["w"]), float(frame["h"])
    fx = float(frame["fl_x"])
    K = intrinsics(fx, float(frame.get("fl_y", fx)), float(frame.get("cx", width / 2)),
                   float(frame.get("cy", height / 2)))  # fmt: skip
    expression, rotations, shape = np.zeros(EXPRESSIONS), np.zeros((len(JOINTS), 3)), np.zeros(0)
    tracked = root / "checkpoint" / f"{image.stem}.frame"
    if is_there(tracked):
        found = flame_of(read_checkpoint(tracked))
        expression, rotations, shape = found.expression, found.rotations, found.shape
    elif frame.get("exp_path"):
        expression = _numbers_of(inside(root, frame["exp_path"]))
    view = View(
        image=image,
        mask=None,
        # The matrix was inverted from OpenCV extrinsics; nothing turns its axes.
        camera=camera_of(invert(numbers(frame["transform_matrix"], (4, 4))), K, width, height),
        timestep=number,
        camera_index=0,
        expression=expression,
        rotations=rotations,
        T_world_root=np.eye(4),
        T_world_head=np.eye(4),
    )
    return view, shape


def _numbers_of(path: Path) -> np.ndarray:
    """(100,) expression weights of a text file with one to a line."""
    try:
        with path.open() as file:
            return numbers([float(word) for word in file.read(100_000).split()], (EXPRESSIONS,))
    except (OSError, ValueError) as error:
        raise HeadsplatError(f"{path.name} is missing or does not hold {EXPRESSIONS} numbers") from error


def _splits(root: Path, names: list[str]) -> dict[str, list[int]]:
    """The parts as INSTA's files say; without them by its rule, or by the last tenth of a short recording."""
    if (root / "transforms_train.json").is_file():
        places, parts = {name: number for number, name in enumerate(names)}, {}
        for part in ("train", "val", "test"):
            path = root / f"transforms_{part}.json"
            listed = index_json(path)[1] if path.is_file() else []
            parts[part] = [places[n] for f in listed if (n := str(f.get("file_path"))) in places]
        parts["test"] = sorted(set(parts["test"]) - set(parts["val"]))
        return parts
    count = len(names)
    if count < 2 * LAST_TEST:
        tested = max(1, count // 10)
        return {"train": list(range(count - tested)), "test": list(range(count - tested, count))}
    return {
        "train": list(range(count - LAST_TEST)),
        "test": list(range(count - LAST_TEST, count - LAST_VAL)),
        "val": list(range(count - LAST_VAL, count)),
    }
