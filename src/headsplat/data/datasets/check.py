"""Look a recording over: what is missing, what does not fit together, one sentence each; and sum it up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import TRUSTED, Dataset
from headsplat.data.datasets.assemble import Problems, is_there
from headsplat.data.datasets.insta import expression_misfit
from headsplat.data.datasets.pixels import inspect
from headsplat.head.flame import load_flame

MISFIT = 0.5
"""Part of a mesh's motion that FLAME may leave unexplained."""
_NO_MATTE = "The pictures have no mattes, so the background counts as the person; cut the person out first."


def examine(
    dataset: Dataset,
    *,
    flame: str | os.PathLike[str] | None = None,
    progress: Callable[[str, float], None] = lambda step, fraction: None,
) -> list[str]:
    """Everything that is wrong with a recording, one sentence each; an empty list is a clean bill.

    Opens the head of every picture and matte, but decodes none.

    Args:
        dataset: as a reader gave it; what that found wrong comes first.
        flame: the FLAME file that will be used with it, to compare the editions.
        progress: called with what is being done and how much of it is.
    """
    found = list(dataset.info.get("problems", []))
    found += _files(dataset, progress)
    found += _splits(dataset)
    found += _geometry(dataset)
    found += _edition(dataset, flame)
    doubtful = sum(not view.trusted for view in dataset.views)
    if doubtful:
        found.append(
            f"{doubtful} of {len(dataset)} views have a confidence under {TRUSTED} and are not learned from."
        )
    return found


def summary(dataset: Dataset) -> dict[str, Any]:
    """The facts of a recording, JSON-serialisable."""
    sizes = {(view.camera.width, view.camera.height) for view in dataset.views}
    width, height = max(sizes)
    heads = np.array([view.T_camera_head for view in dataset.views])
    yaws = np.arctan2(heads[:, 0, 2], -heads[:, 2, 2])
    cameras = {view.camera_index: view.camera for view in dataset.views}
    still = all(np.array_equal(v.camera.viewmat, cameras[v.camera_index].viewmat) for v in dataset.views)
    first = dataset.views[0].T_world_head
    moving = any(not np.array_equal(view.T_world_head, first) for view in dataset.views)
    return {
        "layout": dataset.layout,
        "views": len(dataset),
        "moments": len({view.timestep for view in dataset.views}),
        "cameras": len(cameras),
        "width": width,
        "height": height,
        "sizes": len(sizes),
        "fps": dataset.fps,
        "head": dataset.head,
        "shape": len(dataset.shape),
        "expressions": len(dataset.expressions),
        "joints": list(dataset.joints),
        "moves": {(1, 1): "head", (1, 0): "both", (0, 0): "camera"}.get((moving, still), "nothing"),
        "focal": round(float(np.median([view.camera.K[0, 0] for view in dataset.views])), 2),
        "distance": round(float(np.median(np.linalg.norm(heads[:, :3, 3], axis=1))), 4),
        "yaw_degrees": [round(float(np.rad2deg(f(yaws))), 1) for f in (np.min, np.max)],
        "train": len(dataset.train),
        "val": len(dataset.val),
        "test": len(dataset.test),
    }


def describe(dataset: Dataset, problems: list[str]) -> str:
    """The same for reading, with notes and problems."""
    s = summary(dataset)
    views = (
        f"{s['views']:,} views ({s['moments']:,} moments, {s['cameras']} camera{'s' * (s['cameras'] > 1)})"
    )
    unit = "" if any("own unit" in note for note in dataset.info.get("notes", [])) else " m"
    rate = f", {s['fps']:g} per second" if s["fps"] else ""
    parameters = {"free": "the free head's", "flame": "FLAME's", "none": "of no head model"}[dataset.head]
    low, high = s["yaw_degrees"]
    lines = [
        f"{dataset.root}: {views}{rate}, in the layout of {dataset.layout}",
        f"  pictures     {s['width']} x {s['height']}{' and others' * (s['sizes'] > 1)}, focal length "
        f"{s['focal']:g} px",
        f"  parameters   {parameters}: {s['expressions']} expressions, {len(s['joints'])} joints, "
        f"{s['shape']} of shape",
        f"  the head     {s['distance']:.3g}{unit} away, turned {low:g} to {high:g} degrees; "
        f"{_MOVES[s['moves']]}",
        f"  parts        {s['train']:,} to learn from, {s['val']:,} to validate, {s['test']:,} to test",
        *(f"  note         {note}" for note in dataset.info.get("notes", [])),
        *(f"  problem      {problem}" for problem in problems),
    ]
    return "\n".join(lines)


_MOVES = {
    "head": "the head moves and the camera stands still",
    "camera": "the camera moves and the head stands still",
    "both": "head and camera move",
    "nothing": "neither it nor the camera moves",
}


def _files(dataset: Dataset, progress: Callable[[str, float], None]) -> list[str]:
    """Pictures and mattes that are missing or broken, of another size, or without any transparency."""
    problems, bare, total = Problems(), 0, len(dataset)
    for number, view in enumerate(dataset.views):
        progress("Looking at the pictures", number / total)
        name, size = _short(view.image, dataset), (view.camera.width, view.camera.height)
        found = inspect(view.image)
        if found is None:
            problems.add("is broken" if is_there(view.image) else "is missing", name)
        elif found[0] != size:
            problems.add(
                f"has {found[0][0]} x {found[0][1]} pixels but its camera {size[0]} x {size[1]}", name
            )
        if view.mask is None:
            bare += found is not None and found[1] not in ("RGBA", "LA")
            continue
        matte, name = inspect(view.mask), _short(view.mask, dataset)
        if matte is None:
            problems.add(f"is a matte that is {'broken' if is_there(view.mask) else 'missing'}", name)
        elif found is not None and matte[0] != found[0]:
            problems.add("is a matte of another size than its picture", name)
    said = problems.sentences()
    if bare == total:
        said.append(_NO_MATTE)
    elif bare:
        said.append(f"{bare} of {total} pictures have no matte; their background counts as the person.")
    return said


def _splits(dataset: Dataset) -> list[str]:
    """Parts that are empty or share views."""
    said = []
    if not dataset.train:
        said.append("No view is there to learn from; repair transforms_train.json or what says so here.")
    if not dataset.test:
        said.append("No view is set aside for testing, so a figure measured on it says little.")
    shared = set(dataset.train) & (set(dataset.test) | set(dataset.val))
    if shared:
        said.append(f"{len(shared)} views are both to learn from and to judge by, so figures will flatter.")
    return said


def _geometry(dataset: Dataset) -> list[str]:
    """Heads out of the picture or behind the camera, and odd intrinsics."""
    said, problems = [], Problems()
    behind, outside = [], []
    for view in dataset.views:
        x, y, depth = view.T_camera_head[:3, 3]
        camera = view.camera
        if depth <= 0:
            behind.append(view)
        else:
            u, v = camera.K[0, 0] * x / depth + camera.K[0, 2], camera.K[1, 1] * y / depth + camera.K[1, 2]
            # Half a picture of slack: the joint lies low in the head.
            slack = 0.5 * np.array([camera.width, camera.height])
            if not (-slack[0] < u < camera.width + slack[0] and -slack[1] < v < camera.height + slack[1]):
                outside.append(view)
        if abs(camera.K[0, 0] / camera.K[1, 1] - 1) > 0.05:
            problems.add("has pixels that are not square by its focal lengths", _short(view.image, dataset))
        centre = np.array([camera.K[0, 2] / camera.width, camera.K[1, 2] / camera.height])
        if np.abs(centre - 0.5).max() > 0.5:
            problems.add("has its principal point outside of the picture", _short(view.image, dataset))
    if dataset.head != "none" or dataset.layout != "nersemble":
        for views, where in ((behind, "behind the camera"), (outside, "outside of the picture")):
            if views:
                said.append(
                    f"The head is {where} in {len(views)} of {len(dataset)} views; "
                    "the cameras are of another convention or damaged."
                )
    return said + problems.sentences()


_EDITIONS = {
    "insta": ("2020", "generic_model.pkl"),
    "metrical": ("2020", "generic_model.pkl"),
    "imavatar": ("2020", "generic_model.pkl"),
    "gagavatar": ("2020", "generic_model.pkl"),
    "cap4d": ("2023 without jaw", "flame2023_no_jaw.pkl"),
    "vhap": ("2023", "flame2023.pkl"),
    "union": ("2023", "flame2023.pkl"),
}
"""Layout to the edition of FLAME that its tool fits, and the official file's name."""


def _edition(dataset: Dataset, flame: str | os.PathLike[str] | None) -> list[str]:
    """Signs that the parameters belong to another FLAME than the one at hand."""
    if dataset.head != "flame":
        return []
    said = []
    edition, file = _EDITIONS.get(dataset.layout, ("", ""))
    name = Path(flame).name if flame else ""
    official = {"generic_model.pkl", "flame2020.pkl", "flame2023.pkl", "flame2023_no_jaw.pkl"}
    if edition and name in official and name.replace("flame2020", "generic_model") != file:
        said.append(
            f"{name} was given, but recordings of {dataset.layout} are fitted with FLAME {edition} ({file}): "
            "coefficients of one edition mean nothing in another."
        )
    if flame is not None and dataset.layout == "insta" and Path(flame).is_file():
        misfit = expression_misfit(dataset, load_flame(flame))
        if misfit is not None and misfit > MISFIT:
            said.append(
                f"The expressions do not move {name} as the meshes move (off by {misfit:.0%}): they were "
                "fitted with another edition of FLAME."
            )
    weights = np.abs([view.expression for view in dataset.views])
    jaw = [np.abs(view.rotations[dataset.joints.index("jaw")]).max() for view in dataset.views]
    fitted = dataset.layout not in ("insta", "cap4d")
    if fitted and len(dataset) > 9 and max(jaw) == 0 and weights.size and weights.max() > 0.5:
        said.append("The jaw never turns: it was fitted with FLAME 2023 without jaw (flame2023_no_jaw.pkl).")
    if weights.size and np.quantile(weights.max(1), 0.5) > 12:
        said.append(
            "Half of the views have an expression weight over 12; they are hardly FLAME's, or the fit failed."
        )
    if len(dataset.shape) and np.abs(dataset.shape).max() > 12:
        said.append("A shape weight exceeds 12; it is hardly FLAME's, or the fit failed.")
    return said


def _short(path: Path, dataset: Dataset) -> str:
    try:
        return path.relative_to(dataset.root).as_posix()
    except ValueError:
        return path.name
