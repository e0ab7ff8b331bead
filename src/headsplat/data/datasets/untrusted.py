"""Read a stranger's JSON, .npz, pickle and torch files; no size, path or object in them is trusted."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from headsplat import pickled
from headsplat.errors import HeadsplatError
from headsplat.pickled import NUMBERS, Refused, read_torch, unpickle

LARGEST_JSON = 400 << 20
LARGEST_NPZ = 1 << 30
LARGEST_PICKLE = 2 << 30
"""Bytes beyond which a file of that kind is refused; the field's own stay far below."""

_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        HeadsplatError: the file is missing, far too large, cut off, or holds no object.
    """
    try:
        content = json.loads(_bytes(path, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise HeadsplatError(f"{path} is cut off or no JSON; copy it again.") from error
    if not isinstance(content, dict):
        raise HeadsplatError(f"{path} holds a {type(content).__name__}, not an object; copy it again.")
    return content


def read_npz(path: Path, *, text: bool = False) -> dict[str, np.ndarray]:
    """The arrays of numbers in an .npz, and those of text if wanted; those of objects are left out.

    A header that promises more than its entry holds ends the reading before anything is allocated.

    Raises:
        HeadsplatError: the file is missing, far too large or damaged.
    """
    try:
        with _ordinary(path).open("rb") as stream:
            return pickled.read_npz(stream, LARGEST_NPZ, text=text)
    except Refused as error:
        raise HeadsplatError(
            f"{path} would unpack to more than a gigabyte; it is no tracked frame."
        ) from error
    except _DAMAGE as error:
        raise HeadsplatError(f"{path} is missing or damaged ({_reason(error)}); copy it again.") from error


def read_pickle(path: Path) -> Any:
    """The dicts, lists, numbers and arrays of a pickle; nothing in it is executed.

    Raises:
        HeadsplatError: the file is missing, damaged, or asks for more than numbers.
    """
    data = _bytes(path, LARGEST_PICKLE)
    try:
        return unpickle(data)
    except Refused as error:
        raise HeadsplatError(
            f"{path} asks for {error}, which no recording needs; do not trust where it came from."
        ) from error
    except Exception as error:  # whatever damaged bytes lead the pickle machine into
        raise HeadsplatError(f"{path} is damaged or no pickle; copy it again.") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dict in a file written by torch.save; torch is not needed and nothing in it is executed.

    Raises:
        HeadsplatError: the file is missing, damaged, of before torch 1.6, or asks for more than numbers.
    """
    data = _bytes(path, LARGEST_PICKLE)
    try:
        content = read_torch(data)
    except Refused as error:
        raise HeadsplatError(
            f"{path} asks for {error}, which no recording needs; do not trust where it came from."
        ) from error
    except Exception as error:
        raise HeadsplatError(f"{path} is damaged or no file of torch 1.6 or later; copy it again.") from error
    if not isinstance(content, dict):
        raise HeadsplatError(f"{path} is not a tracked frame; copy it again.")
    return content


def inside(root: Path, name: Any, within: Path | None = None) -> Path:
    """The path of a file that a recording names.

    Args:
        root: folder that the name is relative to.
        name: as found in the file.
        within: folder that it must not leave, `root` by default; symbolic links that lie in there are the
            user's own and may lead anywhere.

    Raises:
        HeadsplatError: no name, an absolute one, or one that leaves the folder.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise HeadsplatError(f"{root} lists a picture without a file name; repair its index.")
    name = name.replace("\\", "/")
    limit = Path(_normal(within or root))
    path = Path(_normal(root / name))
    if Path(name).is_absolute() or ":" in name.split("/")[0] or not path.is_relative_to(limit):
        raise HeadsplatError(f"{root} names the file {name}, which lies outside of it; do not trust it.")
    return path


def numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`value` as float64 of this shape, where -1 stands for any length; not necessarily finite.

    Raises:
        ValueError: it is something else.
    """
    array = np.asarray(value)
    if array.dtype.kind not in NUMBERS and array.size:
        raise ValueError("not numbers")
    array = array.astype(np.float64).reshape(shape)
    return array


def _normal(path: Path) -> str:
    """The absolute path without `..`, links not followed."""
    return os.path.abspath(path)


def _ordinary(path: Path) -> Path:
    """The path, if it is a file: reading a pipe or a device would never end."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path.name}")
    if not path.is_file():
        raise OSError(f"{path.name} is not an ordinary file")
    return path


def _bytes(path: Path, largest: int) -> bytes:
    try:
        if _ordinary(path).stat().st_size > largest:
            raise HeadsplatError(f"{path} is far too large for what it should be; look at it.")
        return path.read_bytes()
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({_reason(error)}); check the folder.") from error


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
