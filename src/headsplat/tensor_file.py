"""Read and write safetensors containers with numpy alone, the same bytes every time, trusting nothing.

The safetensors library writes its metadata in random order and reports damage in terms of its own parser;
an avatar wants identical bytes for identical content, and a sentence. Layout: 8 bytes little-endian length of
the header, a JSON header, raw little-endian tensors (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.files import writing

HEADER_LIMIT = 16_000_000

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write named arrays and string metadata; identical input gives identical bytes.

    Large element types come first, so that every tensor is aligned to its own element size in the file.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    arrays = {name: np.asarray(tensors[name], order="C") for name in order}
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, array in arrays.items():
        dtype = _NAMES[array.dtype.newbyteorder("<")]
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in arrays.values():
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Returns:
        Read-only arrays by name (views of the file's bytes), and the metadata.

    Raises:
        HeadsplatError: the file is missing, unreadable, cut off, or not a well-formed safetensors file.
    """
    path = Path(path)
    data = _read_bytes(path)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or length > HEADER_LIMIT or data[8:9] != b"{":
        raise HeadsplatError(
            f"{path} is not an avatar file; `headsplat create PHOTO -o {path.stem}.avatar` makes one."
        )
    if 8 + length > len(data):
        raise HeadsplatError(f"{path} is cut off in its header; copy or download it again.")
    try:
        header = json.loads(data[8 : 8 + length])
        kinds = {str(v["dtype"]) for k, v in header.items() if k != "__metadata__"}
        if kinds - set(_DTYPES):
            raise HeadsplatError(
                f"{path} holds numbers of the type {min(kinds - set(_DTYPES))[:20]!r}, which no avatar has; "
                "give an .avatar file."
            )
        entries = {str(k): _entry(v) for k, v in header.items() if k != "__metadata__"}
        metadata = {str(k): str(v) for k, v in header.get("__metadata__", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HeadsplatError(f"{path} has a damaged header; copy or download it again.") from error
    body = memoryview(data)[8 + length :]
    position, tensors = 0, {}
    for name, (dtype, shape, start, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        count = int(np.prod([int(s) for s in shape], dtype=object)) if shape else 1
        if start != position or end - start != count * dtype.itemsize:
            raise HeadsplatError(
                f"{path} has a damaged header ({name} is misplaced); copy or download it again."
            )
        if end > len(body):
            raise HeadsplatError(
                f"{path} is cut off ({len(body)} of at least {end} bytes); copy or download it again."
            )
        tensors[name] = np.frombuffer(body[start:end], dtype).reshape(shape)
        position = end
    if position != len(body):
        raise HeadsplatError(f"{path} has {len(body) - position} bytes too many; copy or download it again.")
    return tensors, metadata


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise HeadsplatError(f"There is no file {path}; check the name.") from error
    except IsADirectoryError as error:
        raise HeadsplatError(f"{path} is a folder; give the name of an .avatar file.") from error
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check its permissions.") from error


def _entry(value: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Data type, shape, and the byte range in the body of one tensor's header entry."""
    start, end = value["data_offsets"]
    shape = value["shape"]
    if not all(isinstance(v, int) and 0 <= v < 2**48 for v in [start, end, *shape]):
        raise ValueError("not a size")
    return _DTYPES[value["dtype"]], tuple(shape), start, end
