"""Folders of tracked FLAME parameters and cameras, as VHAP writes them and LAM is driven by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.data.datasets.assemble import GL_TO_CV, camera_of, index_json, intrinsics, invert
from headsplat.data.datasets.flame_pose import JOINTS, expression_names
from headsplat.data.datasets.untrusted import inside, numbers, read_npz
from headsplat.data.datasets.vhap import read_parameters
from headsplat.errors import HeadsplatError
from headsplat.motion import Motion

EXPRESSIONS = 100


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
    _, frames = index_json(source)
    cameras, rows = [], []
    try:
        frames = sorted(frames, key=lambda frame: frame["flame_param_path"])
        width, height = (int(2 * float(frames[0][name]) * scale) for name in ("cx", "cy"))
        for frame in frames:
            pose = numbers(frame["transform_matrix"], (4, 4))
            fx, fy = (float(frame[name]) * scale for name in ("fl_x", "fl_y"))
            K = intrinsics(fx, fy, width / 2, height / 2)  # the middle is the principal point
            cameras.append(camera_of(invert(pose @ GL_TO_CV), K, width, height))
            rows.append(_read_frame(inside(folder, frame["flame_param_path"], folder.absolute().parent)))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise HeadsplatError(
            f"{source} is not a list of frames with cameras; give a folder tracked with VHAP."
        ) from error
    table = {name: np.stack([row[name] for row in rows]) for name in _NAMES}
    eyes = table["eyes_pose"].reshape(-1, 2, 3)
    root = np.broadcast_to(np.eye(4, dtype=np.float32), (len(rows), 4, 4)).copy()
    root[:, :3, 3] = table["translation"]
    motion = Motion(
        weights=table["expr"],
        expressions=expression_names(EXPRESSIONS),
        rotations=np.stack([*(table[n] for n in _NAMES[:3]), eyes[:, 0], eyes[:, 1]], 1),
        joints=JOINTS,
        fps=fps,
        root=root,
    )
    return FlameSequence(motion.check(str(folder)), tuple(cameras), read_flame_shape(folder))


_NAMES = ("rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation", "expr")


def read_flame_shape(path: str | os.PathLike[str]) -> np.ndarray:
    """(300,) FLAME shape weights of a person, from canonical_flame_param.npz or the folder that holds it.

    Raises:
        HeadsplatError: the file is missing or has no shape weights.
    """
    path = Path(path)
    path = path / "canonical_flame_param.npz" if path.is_dir() else path
    shape = read_npz(path).get("shape")
    if shape is None:
        raise HeadsplatError(f"{path} holds no shape; give canonical_flame_param.npz of this person.")
    return np.asarray(shape, np.float32).reshape(-1)


def _read_frame(path: Path) -> dict[str, np.ndarray]:
    values = read_parameters(path)
    if len(values["expr"]) != EXPRESSIONS:
        raise HeadsplatError(
            f"{path} has {len(values['expr'])} numbers of expr, not {EXPRESSIONS}; it is of another FLAME."
        )
    return values
