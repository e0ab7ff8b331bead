"""The pixels behind a view of a recording."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headsplat.errors import HeadsplatError

if TYPE_CHECKING:
    from headsplat.data.dataset import View

PARSING = "parsing"
"""Folder of label pictures in place of mattes, in which the head is pure blue."""
DATABASE = "data.mdb"
"""File that makes a folder an LMDB; pictures are values in it, by their names."""


def load_pixels(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) and matte (H, W) of a view, float32 0..1; see `Dataset.load`."""
    pixels = _read(view.image)
    if view.mask is not None:
        alpha = _matte(view.mask)
    elif pixels.shape[-1] == 4:
        alpha = pixels[..., 3]
    else:
        alpha = np.ones(pixels.shape[:2], np.float32)
    size = (view.camera.height, view.camera.width)
    for path, shape in ((view.image, pixels.shape[:2]), (view.mask, alpha.shape)):
        if shape != size:
            raise HeadsplatError(
                f"{path} has {shape[1]} x {shape[0]} pixels but its camera {size[1]} x {size[0]}; "
                "repair the recording or track it again."
            )
    colours = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels, 3, -1)
    return np.ascontiguousarray(colours), np.ascontiguousarray(alpha)


def inspect(path: Path) -> tuple[tuple[int, int], str] | None:
    """Width and height of a picture and its mode (L, RGB, RGBA, ...); None if it is missing or broken."""
    try:
        with _open(path) as image:
            return image.size, image.mode
    except HeadsplatError:
        return None


def _matte(path: Path) -> np.ndarray:
    """(H, W) float32 0..1."""
    pixels = _read(path)
    if path.parent.name == PARSING:
        colours = np.round(pixels[..., :3] * 255)
        return (colours == [0, 0, 255]).all(-1).astype(np.float32)
    return pixels[..., 0]


def _read(path: Path) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 0..1 as stored; alpha is not multiplied in."""
    try:
        with _open(path) as image:
            image.load()
            wanted = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
            pixels = np.asarray(wanted, np.float32) / 255
    except HeadsplatError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise HeadsplatError(f"{path} is damaged; repair the recording or track it again.") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _open(path: Path) -> Any:
    """The picture, its pixels not yet decoded.

    Raises:
        HeadsplatError: it is missing or none.
    """
    from PIL import Image

    try:
        if (path.parent / DATABASE).is_file():
            return Image.open(io.BytesIO(_from_database(path)))
        if not path.is_file():
            raise FileNotFoundError(path)
        return Image.open(path)
    except HeadsplatError:
        raise
    except Exception as error:  # Pillow's parsers raise almost anything on damaged files
        raise HeadsplatError(
            f"{path} is missing or no picture; repair the recording or track it again."
        ) from error


@lru_cache(maxsize=4)
def _database(folder: Path) -> Any:
    """The LMDB in a folder, opened once: a process must not open one twice."""
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise HeadsplatError(
            f"The pictures in {folder} need the package lmdb; install it with `pip install lmdb`."
        ) from error
    return lmdb.open(str(folder), readonly=True, lock=False, create=False)


def _from_database(path: Path) -> bytes:
    """The bytes that an LMDB folder keeps under the name of `path`."""
    with _database(path.parent).begin() as transaction:
        data = transaction.get(path.name.encode())
    if data is None:
        raise FileNotFoundError(path)
    return bytes(data)
