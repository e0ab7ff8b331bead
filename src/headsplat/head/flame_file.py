"""Read FLAME's files without running anything in them: stand-ins for NumPy, SciPy and chumpy, nothing else.

The official files are Python 2 pickles that hold chumpy objects and SciPy sparse matrices. A pickle may name
any function to be called while it loads; here only the few names below are known, each to a class of our own
that copies numbers. Everything else ends the reading.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError

_LARGEST = 2 << 30  # bytes; the official files have 50 to 300 MB
_KINDS = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that no head model needs."""


class _StandIn:
    """Takes the place of a class in the pickle; never calls anything that the pickle brings along.

    Every stand-in has a `__setstate__`, so that a pickle cannot set attributes of the classes themselves.
    """

    def __setstate__(self, state: Any) -> None:
        raise _Refused("an object with a state that it should not have")


class _DType(_StandIn):
    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = {">": ">"}.get(state[1], "<")

    def numpy(self) -> np.dtype | None:
        """The NumPy type if it is a plain number, else None (objects, strings, records)."""
        kind, size = self.code[:1], self.code[1:]
        if kind in _KINDS and size.isdigit() and int(size) in _KINDS[kind]:
            return np.dtype(self.order + self.code)
        return None


class _Array(_StandIn):
    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: str) -> None:
        """Copy the bytes into an array; one of objects or strings stays empty."""
        if not isinstance(dtype, _DType):
            raise _Refused("an array without a type")
        plain = dtype.numpy()
        if plain is None:
            return
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
            raise _Refused("an array whose content is not bytes")
        flat = np.frombuffer(bytes(raw), plain)
        self.value = flat.reshape(tuple(int(n) for n in shape), order="F" if order == "F" else "C")


class _FromBuffer(_StandIn):
    def __new__(cls, data: Any, dtype: Any, shape: Any, order: Any) -> Any:
        array = _Array()
        array.fill(data, dtype, shape, order)
        return array


class _Scalar(_StandIn):
    def __new__(cls, dtype: Any, data: Any = b"") -> Any:
        array = _Array()
        array.fill(data, dtype, (1,), "C")
        return array


class _Encode(_StandIn):
    def __new__(cls, text: Any, encoding: Any = "latin1") -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused("an encoding other than latin1")
        return text.encode("latin1")


class _Reconstructor(_StandIn):
    def __new__(cls, kind: Any, *_: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _StandIn)):
            raise _Refused("an object of an unknown class")
        return kind()


class _Chumpy(_StandIn):
    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        content = state.get("x") if isinstance(state, dict) else None
        self.value = content.value if isinstance(content, _Array | _Chumpy) else None


class _Sparse(_StandIn):
    by_row = False

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        fields = state if isinstance(state, dict) else {}
        shape = fields.get("_shape", fields.get("shape"))
        parts = [fields.get(name) for name in ("data", "indices", "indptr")]
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(isinstance(p, _Array) for p in parts):
            raise _Refused("a damaged sparse matrix")
        data, indices, starts = (part.value for part in parts if isinstance(part, _Array))
        if data is None or indices is None or starts is None:
            raise _Refused("a damaged sparse matrix")
        rows, columns = (int(n) for n in shape)
        if not 0 <= rows * columns <= 100_000_000:
            raise _Refused("an enormous matrix")
        lines = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        where = (lines, indices) if self.by_row else (indices, lines)
        self.value = np.zeros((rows, columns))
        np.add.at(self.value, where, data)


class _SparseRows(_Sparse):
    by_row = True


def _known_names() -> dict[tuple[str, str], type]:
    names: dict[tuple[str, str], type] = {
        ("numpy", "ndarray"): _StandIn,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): _Encode,
        ("copyreg", "_reconstructor"): _Reconstructor,
        ("copy_reg", "_reconstructor"): _Reconstructor,
        ("builtins", "object"): _StandIn,
        ("__builtin__", "object"): _StandIn,
        ("chumpy.ch", "Ch"): _Chumpy,
        ("chumpy", "Ch"): _Chumpy,
    }
    for core in ("numpy.core", "numpy._core"):
        names[core + ".multiarray", "_reconstruct"] = _Array
        names[core + ".multiarray", "scalar"] = _Scalar
        names[core + ".numeric", "_frombuffer"] = _FromBuffer
    for package in ("scipy.sparse.", "scipy.sparse._"):
        names[package + "csc", "csc_matrix"] = names[package + "csc", "csc_array"] = _Sparse
        names[package + "csr", "csr_matrix"] = names[package + "csr", "csr_array"] = _SparseRows
    return names


_KNOWN = _known_names()


# Python's own unpickler, not the one in C: a few damaged bytes make that reserve gigabytes for its memo.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("data outside the file")


def read_flame_arrays(path: Path) -> dict[str, np.ndarray]:
    """The numeric arrays of a FLAME `.pkl` or `.npz` by name; sparse ones dense; nothing in it is executed.

    Raises:
        HeadsplatError: the file is missing, too large, damaged, or asks for more than numbers.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise HeadsplatError(
                f"{path} is far too large for a FLAME model; give generic_model.pkl or the like."
            )
        data = path.read_bytes()
    except OSError as error:
        raise HeadsplatError(
            f"Cannot read {path} ({error.strerror}); give a FLAME .pkl or .npz file."
        ) from error
    return _read_npz(path, data) if zipfile.is_zipfile(io.BytesIO(data)) else _read_pickle(path, data)


def _read_npz(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise HeadsplatError(
            f"{path} is not a plain .npz of numbers; save it again without objects, or give the .pkl."
        ) from error
    return {name: value for name, value in arrays.items() if value.dtype.kind in _KINDS}


def _read_pickle(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        content = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except _Refused as error:
        raise HeadsplatError(
            f"{path} asks for {error}, which no FLAME model needs; get it again from its official source."
        ) from error
    except Exception as error:  # whatever damaged bytes lead the pickle machine into
        raise HeadsplatError(f"{path} is damaged or is no FLAME model; get the file again.") from error
    if not isinstance(content, dict):
        raise HeadsplatError(f"{path} is no FLAME model; give generic_model.pkl, flame2023.pkl or the like.")
    arrays = {}
    for name, item in content.items():
        value = item.value if isinstance(item, _Array | _Chumpy | _Sparse) else None
        if isinstance(name, str) and value is not None:
            arrays[name] = value
    return arrays
