"""Tracked shots kept on disk by their content, so that a run goes on without tracking them again."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.evaluate.cases import Shot, content_key
from headsplat.evaluate.dependencies import code_hash
from headsplat.evaluate.observe import PIXELS, Observed, observe, to_levels
from headsplat.files import writing


def observe_once(
    data: Path, shots: Sequence[Shot], folder: Path, *, neighbours: bool = False
) -> list[Observed | str]:
    """What `observe` says of shots; it is asked only for those that the folder does not hold yet.

    Args:
        data: the folder that shots are relative to.
        shots: pictures and frames of videos.
        folder: where tracked shots are kept.
        neighbours: as for `observe`.
    """
    files = [folder / f"{_key(shot, neighbours)}.npz" for shot in shots]
    out = [_read(file) for file in files]
    missing = [i for i, known in enumerate(out) if known is None]
    seen = observe(data, [shots[i] for i in missing], neighbours=neighbours)
    for i, new in zip(missing, seen, strict=True):
        if isinstance(new, str) or not new.posed:  # a recording is a store already
            _write(files[i], new)
        out[i] = new
    return [known for known in out if known is not None]


def _key(shot: Shot, neighbours: bool) -> str:
    return content_key(shot.sha256, shot.frame, neighbours, code_hash(__name__))


def _write(path: Path, seen: Observed | str) -> None:
    if isinstance(seen, str):
        arrays: dict[str, Any] = {"refused": np.array(seen)}
    else:
        arrays = {field.name: getattr(seen.frame, field.name) for field in fields(Frame)}
        camera: Camera = arrays.pop("camera")
        arrays |= {"viewmat": camera.viewmat, "K": camera.K, "size": [camera.width, camera.height]}
        arrays |= {name: to_levels(arrays[name]) for name in PIXELS}
        beside = {"before": seen.before, "after": seen.after}
        for name, frame in beside.items():
            if frame is not None:
                arrays |= {name: frame.landmarks, f"{name}_image": to_levels(frame.image)}
    with writing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read(path: Path) -> Observed | str | None:
    """What was kept; None if nothing was, or the file is damaged."""
    try:
        with np.load(path) as archive:
            arrays: dict[str, Any] = dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    if "refused" in arrays:
        return str(arrays["refused"])
    near = [(arrays.pop(name, None), arrays.pop(f"{name}_image", None)) for name in ("before", "after")]
    width, height = arrays.pop("size").tolist()
    camera = Camera(arrays.pop("viewmat"), arrays.pop("K"), width, height)
    arrays |= {name: arrays[name].astype(np.float32) / 255 for name in PIXELS}
    arrays |= {name: arrays[name].item() for name in ("confidence", "landmark_error", "source")}
    frame = Frame(camera=camera, **arrays)
    beside: list[Frame | None] = [None, None]
    for k, (points, levels) in enumerate(near):
        if points is not None:
            crop = levels.astype(np.float32) / 255
            beside[k] = replace(frame, image=crop, foreground=crop, landmarks=points)
    return Observed(frame, beside[0], beside[1])
