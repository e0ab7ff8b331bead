"""Read NeRSemble's calibrated cameras, of both versions, and recordings cut into pictures beside them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import assemble, camera_of, picture_in, picture_size
from headsplat.data.datasets.untrusted import numbers, read_json
from headsplat.errors import HeadsplatError

SERIALS = (
    "222200042", "222200044", "222200046", "222200040", "222200036", "222200048", "220700191", "222200041",
    "222200037", "222200038", "222200047", "222200043", "222200049", "222200039", "222200045", "221501007",
)  # fmt: skip
"""The cameras in the field's order; number 8 looks at the face from the front."""
WIDTH, HEIGHT = 2200, 3208
_PICTURE = re.compile(r"cam_(\w+?)[_/](?:frame_)?(\d+)\.(?:png|jpg|jpeg)$")
_NAME = "camera_params.json"


def find_cameras(folder: Path) -> Path | None:
    """Where the calibration of a folder lies: in it, below it, or above a sequence of it."""
    places = (
        folder,
        folder / "calibration",
        folder.parent.parent / "calibration",
        folder.parent / "calibration",
    )
    found = [place / _NAME for place in places] + sorted(folder.glob(f"camera_params/*/{_NAME}"))
    return next((path for path in found if path.is_file()), None)


def read_cameras(path: str | os.PathLike[str]) -> dict[str, Camera]:
    """The cameras of a camera_params.json by serial number, in the field's order.

    Matrices are world to camera in OpenCV axes, metres; all cameras share their intrinsics.

    Raises:
        HeadsplatError: the file is missing, damaged or no calibration.
    """
    path = Path(path)
    content = read_json(path)
    try:
        K = numbers(content["intrinsics"], (3, 3))
        width, height = float(content.get("width") or WIDTH), float(content.get("height") or HEIGHT)
        matrices = {str(serial): numbers(matrix, (4, 4)) for serial, matrix in content["world_2_cam"].items()}
        order = sorted(matrices, key=lambda s: (SERIALS.index(s) if s in SERIALS else len(SERIALS), s))
        return {serial: camera_of(matrices[serial], K, width, height) for serial in order}
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise HeadsplatError(f"{path} is no calibration of NeRSemble; copy it again.") from error


def read_nersemble(folder: str | os.PathLike[str]) -> Dataset:
    """Read a sequence whose videos were cut into pictures: images/cam_<serial>_<number>.png or .jpg.

    Where the head is, is not known: `T_world_head` is the identity and there are no expressions. Pictures of
    another size than the calibration's have their cameras resized.

    Args:
        folder: a sequence (with `calibration` two folders up), or any folder with camera_params.json.

    Raises:
        HeadsplatError: no calibration, or no pictures.
    """
    root = Path(folder)
    source = find_cameras(root)
    if source is None:
        raise HeadsplatError(f"{root} has no {_NAME}; give a sequence of NeRSemble.")
    cameras = read_cameras(source)
    sizes: dict[str, tuple[int, int] | None] = {}
    views = []
    for path in sorted((root / "images").rglob("*")):
        match = _PICTURE.search(path.relative_to(root / "images").as_posix())
        if match is None or match[1] not in cameras:
            continue
        serial = match[1]
        if serial not in sizes:
            sizes[serial] = picture_size(path)
        camera = cameras[serial]
        view = View(
            image=path,
            mask=picture_in(root, ("alpha_maps", "fg_masks"), path.stem),
            camera=camera.resize(*(sizes[serial] or (camera.width, camera.height))),
            timestep=int(match[2]),
            camera_index=list(cameras).index(serial),
            expression=np.zeros(0),
            rotations=np.zeros((0, 3)),
            T_world_root=np.eye(4),
            T_world_head=np.eye(4),
        )
        views.append(view)
    if not views:
        raise HeadsplatError(
            f"{root} has cameras but no pictures; cut each video into images/cam_SERIAL_NUMBER.jpg, as "
            "with `ffmpeg -i cam_222200037.mp4 images/cam_222200037_%05d.jpg`."
        )
    return assemble(
        root,
        "nersemble",
        views,
        head="none",
        shape=np.zeros(0),
        expressions=(),
        joints=(),
        notes=["Where the head is and what it does is not known; track it before you learn from it."],
        info={"camera_ids": {str(c): serial for c, serial in enumerate(cameras)}},
    )
