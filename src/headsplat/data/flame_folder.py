"""Folders of tracked FLAME parameters and cameras, as VHAP writes them and LAM is driven by."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.motion import Motion


@dataclass(frozen=True)
class FlameSequence:
    """A tracked driving sequence of FLAME parameters.

    Attributes:
        motion: T frames of FLAME's 100 expressions and five joints; `root` holds the translation.
        cameras: T cameras of the picture to draw.
        betas: (300,) shape weights of the person tracked.
    """

    motion: Motion
    cameras: tuple[Camera, ...]
    betas: np.ndarray


def read_flame_folder(folder: str | os.PathLike[str], scale: float = 0.5, fps: float = 30.0) -> FlameSequence:
    """Read a folder tracked with VHAP.

    Args:
        folder: holds transforms.json, flame_param/*.npz and canonical_flame_param.npz.
        scale: size of the picture to draw, as a factor on the size that the cameras were made for.
        fps: frames per second; the folder does not say.

    Raises:
        HeadsplatError: a file is missing or not what it should be; it is named.
    """
    folder = Path(folder)
    source = folder / "transforms.json"
    try:
        frames = json.loads(source.read_text())["frames"]
        frames = sorted(frames, key=lambda frame: frame["flame_param_path"])
        poses = np.array([frame["transform_matrix"] for frame in frames], np.float64).reshape(-1, 4, 4)
        focals = np.array([[f["fl_x"], f["fl_y"]] for f in frames], np.float64) * scale
        centre = np.array([frames[0]["cx"], frames[0]["cy"]], np.float64) * scale
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise HeadsplatError(
            f"{source} is missing or not a list of frames with cameras; give a folder tracked with VHAP."
        ) from error
    width, height = (int(2 * c) for c in centre)
    cameras = []
    for pose, (fx, fy) in zip(poses, focals, strict=True):
        # OpenGL axes (y up, looking along -z) to OpenCV's; the picture's centre is the principal point.
        T_world_camera = pose * np.array([1, -1, -1, 1])
        K = np.array([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]], np.float32)
        cameras.append(Camera(np.linalg.inv(T_world_camera).astype(np.float32), K, width, height))
    rows = [_read_parameters(folder / frame["flame_param_path"]) for frame in frames]
    table = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    eyes = table["eyes_pose"].reshape(-1, 2, 3)
    joints = [table["rotation"], table["neck_pose"], table["jaw_pose"], eyes[:, 0], eyes[:, 1]]
    root = np.broadcast_to(np.eye(4, dtype=np.float32), (len(rows), 4, 4)).copy()
    root[:, :3, 3] = table["translation"]
    motion = Motion(
        weights=table["expr"],
        expressions=tuple(f"expr{i}" for i in range(table["expr"].shape[1])),
        rotations=np.stack(joints, 1),
        joints=("root", "neck", "jaw", "left_eye", "right_eye"),
        fps=fps,
        root=root,
    )
    return FlameSequence(motion.check(str(folder)), tuple(cameras), read_flame_shape(folder))


def read_flame_shape(path: str | os.PathLike[str]) -> np.ndarray:
    """(300,) FLAME shape weights of a person, from canonical_flame_param.npz or the folder that holds it.

    Raises:
        HeadsplatError: the file is missing or has no shape weights.
    """
    path = Path(path)
    path = path / "canonical_flame_param.npz" if path.is_dir() else path
    return _load(path, ("shape",))["shape"].reshape(-1)


_WIDTHS = {"expr": 100, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}


def _read_parameters(path: Path) -> dict[str, np.ndarray]:
    values = {name: value.reshape(-1) for name, value in _load(path, tuple(_WIDTHS)).items()}
    for name, width in _WIDTHS.items():
        if values[name].shape != (width,):
            raise HeadsplatError(
                f"{path} has {len(values[name])} numbers of {name}, not {width}; it is of another FLAME."
            )
    return values


def _load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name], np.float32) for name in names}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise HeadsplatError(f"{path} is missing or not FLAME parameters ({error}).") from error
