"""Read what GAGAvatar's tracker leaves: FLAME's codes and a camera for each picture of a still head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import Problems, assemble, camera_of, intrinsics, picture_in
from headsplat.data.datasets.flame_pose import JOINTS, expression_names, rigid
from headsplat.data.datasets.pixels import DATABASE
from headsplat.data.datasets.untrusted import numbers, read_json, read_pickle
from headsplat.errors import HeadsplatError
from headsplat.motion import Motion

FILES = ("smoothed.pkl", "optim.pkl")
"""Where the tracks are; those smoothed over time are preferred."""
SCALE, FOCAL, SIZE = 5.0, 12.0, 512
"""FLAME's size in the tracker's world, the focal length in half pictures, and pixels of a crop."""
_FIELDS = ("shapecode", "expcode", "posecode", "eyecode", "transform_matrix")


def read_tracks(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The tracks by frame key as the tracker wrote them, sorted by video and frame; the unit is its own.

    Raises:
        HeadsplatError: the file is missing, damaged, or holds more than numbers.
    """
    root = Path(folder)
    path = next((root / name for name in FILES if (root / name).is_file()), None)
    if path is None:
        raise HeadsplatError(f"{root} has no {' or '.join(FILES)}; give a folder of GAGAvatar's tracker.")
    content = read_pickle(path)
    tracks = content if isinstance(content, dict) else {}
    found = {str(k): v for k, v in tracks.items() if isinstance(v, dict) and "transform_matrix" in v}
    if not found:
        raise HeadsplatError(f"{path} holds no tracked frames; give the tracker's own file.")
    return dict(sorted(found.items(), key=lambda item: split_key(item[0])))


def split_key(key: str) -> tuple[str, int]:
    """The video and the number of a frame in its key, `<video>_<number>` or `img_<video>_<number>`."""
    video, _, number = key.rpartition("_")
    if not video or not number.isdigit():
        return key, 0
    return video.removeprefix("img_"), int(number)


def read_gagavatar(folder: str | os.PathLike[str], *, video: str | None = None) -> Dataset:
    """Read tracked frames; the head stands still and the camera moves, in metres.

    Args:
        folder: holds optim.pkl or smoothed.pkl, and the pictures as img_lmdb/ or as files by their keys.
        video: only this one; None takes all, one after the other, whose `shape` is then the mean of several
            people (`info["videos"]` counts the frames of each).

    Raises:
        HeadsplatError: there is no such video, or no frame can be used; the reason is said.
    """
    root, problems = Path(folder), Problems()
    tracks = read_tracks(root)
    videos: dict[str, int] = {}
    for key in tracks:
        name = split_key(key)[0]
        videos[name] = videos.get(name, 0) + 1
    if video is not None and video not in videos:
        few = ", ".join(list(videos)[:5])
        raise HeadsplatError(
            f"{root} has no video {video!r}; it has {few}{' ...' if len(videos) > 5 else ''}."
        )
    chosen = {key: t for key, t in tracks.items() if video is None or split_key(key)[0] == video}
    views, keys, shapes = [], [], []
    for number, (key, track) in enumerate(chosen.items()):
        try:
            views.append(_view(root, key, track, number))
            shapes.append(numbers(track["shapecode"], (-1,)))
        except (HeadsplatError, ValueError, TypeError, KeyError) as error:
            problems.add(f"is left out ({error})", key)
            continue
        keys.append(key)
    notes = []
    if len({len(shape) for shape in shapes}) != 1:
        shapes = [np.zeros(0)]
    elif video is None and len(videos) > 1:
        notes.append(f"It holds {len(videos)} videos; read one with read_gagavatar(folder, video=NAME).")
    return assemble(
        root,
        "gagavatar",
        views,
        head="flame",
        shape=np.mean(shapes, axis=0),
        expressions=expression_names(max((len(view.expression) for view in views), default=0)),
        joints=JOINTS,
        splits=_splits(root, keys),
        notes=notes,
        problems=problems,
        info={"videos": videos if video is None else {video: videos[video]}},
    )


def moving_head(dataset: Dataset) -> Motion:
    """What drives an avatar as the person of such a recording moved.

    There the head stands still and cameras move; here the bust moves before a camera straight in front of it,
    which stays where the recorded ones were in the middle (median).
    """
    motion = dataset.motion()
    seen = np.stack([view.camera.viewmat for view in dataset.views]).astype(np.float64)
    T_camera_world = rigid(np.diag([1.0, -1.0, -1.0]), np.median(seen[:, :3, 3], axis=0))
    root = np.linalg.inv(T_camera_world) @ seen @ np.stack([v.T_world_root for v in dataset.views])
    return replace(motion, root=root.astype(np.float32))


def _view(root: Path, key: str, track: Mapping[str, Any], number: int) -> View:
    missing = [name for name in _FIELDS if name not in track]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    matrix = numbers(track["transform_matrix"], (3, 4))
    # PyTorch3D: row vectors (x R + T), x left, y up, z forward; OpenCV has x right and y down.
    flip = np.diag([-1.0, -1.0, 1.0])
    T_camera_world = rigid(flip @ matrix[:, :3].T, flip @ matrix[:, 3] / SCALE)
    rotations = np.zeros((len(JOINTS), 3))
    rotations[2] = numbers(track["posecode"], (6,))[3:]
    rotations[3:] = numbers(track["eyecode"], (2, 3))
    if (root / "img_lmdb" / DATABASE).is_file():
        image = root / "img_lmdb" / _file_name(key)
    else:
        image = (
            picture_in(root, ("images", "."), _file_name(key)) or root / "images" / f"{_file_name(key)}.png"
        )
    focal = FOCAL * SIZE / 2
    return View(
        image=image,
        mask=None,
        camera=camera_of(T_camera_world, intrinsics(focal, focal, SIZE / 2, SIZE / 2), SIZE, SIZE),
        timestep=number,
        camera_index=0,
        expression=numbers(track["expcode"], (-1,)),
        rotations=rotations,
        T_world_root=np.eye(4),
        T_world_head=np.eye(4),
    )


def _file_name(key: str) -> str:
    if "/" in key or "\\" in key or "\0" in key or key in (".", ".."):
        raise ValueError("its key is no name of a picture")
    return key


def _splits(root: Path, keys: list[str]) -> dict[str, list[int]]:
    """The parts of dataset.json; without it all is there to learn from."""
    path = root / "dataset.json"
    if not path.is_file():
        return {"train": list(range(len(keys)))}
    content, places = read_json(path), {key: number for number, key in enumerate(keys)}
    parts = {}
    for name in ("train", "val", "test"):
        listed = content.get(name)
        listed = listed if isinstance(listed, list) else []
        parts[name] = [places[key] for key in listed if isinstance(key, str) and key in places]
    return parts
