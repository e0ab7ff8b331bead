"""Read the numbers in pickles, torch files and .npz, running nothing in them and trusting no size they give.

A pickle may name any function to be called while it loads; here only the few names below are known, each to a
class of our own that copies numbers: stand-ins for NumPy, SciPy, chumpy and torch. Everything else ends the
reading. torch itself is not needed.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

NUMBERS = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}
"""Kinds of NumPy types that are plain numbers, and their sizes in bytes."""

_DEEPEST = 20
_LARGEST_MATRIX = 20_000_000  # elements of a sparse matrix made dense; the head models' have under a million
_SPREAD = 1_000_000  # elements that a tensor may have beyond those stored, by strides of zero


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that numbers do not need; the message says for what."""


class _StandIn:
    """Takes the place of a class in the pickle; never calls anything that the pickle brings along.

    Every stand-in has a `__setstate__`, so that a pickle cannot set attributes of the classes themselves.
    """

    def __setstate__(self, state: Any) -> None:
        raise Refused("an object with a state that it should not have")


class _DType(_StandIn):
    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = {">": ">"}.get(state[1], "<")

    def numpy(self) -> np.dtype | None:
        """The NumPy type if it is a plain number, else None (objects, strings, records)."""
        kind, size = self.code[:1], self.code[1:]
        if kind in NUMBERS and size.isdigit() and int(size) in NUMBERS[kind]:
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
            raise Refused("an array without a type")
        plain = dtype.numpy()
        if plain is None:
            return
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
            raise Refused("an array whose content is not bytes")
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
            raise Refused("an encoding other than latin1")
        return text.encode("latin1")


class _Reconstructor(_StandIn):
    def __new__(cls, kind: Any, *_: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _StandIn)):
            raise Refused("an object of an unknown class")
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
            raise Refused("a damaged sparse matrix")
        data, indices, starts = (part.value for part in parts if isinstance(part, _Array))
        if data is None or indices is None or starts is None:
            raise Refused("a damaged sparse matrix")
        rows, columns = (int(n) for n in shape)
        if min(rows, columns) < 0 or rows * columns > _LARGEST_MATRIX:
            raise Refused("an enormous matrix")
        ascending = len(starts) > 0 and starts[0] == 0 and (np.diff(starts) >= 0).all()
        if not ascending or not starts[-1] == len(indices) == len(data):
            raise Refused("a damaged sparse matrix")
        lines = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        where = (lines, indices) if self.by_row else (indices, lines)
        self.value = np.zeros((rows, columns))
        np.add.at(self.value, where, data)


class _SparseRows(_Sparse):
    by_row = True


class _Ordered(_StandIn, dict):
    def __init__(self, *_: Any) -> None:
        super().__init__()


class _Storage(_StandIn):
    code = ""


_STORAGES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "<i1", "Byte": "|u1", "Bool": "|b1",
}  # fmt: skip


class _Tensor(_StandIn):
    def __new__(cls, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        if not isinstance(storage, np.ndarray) or len(size) != len(stride):
            raise Refused("a tensor without content")
        offset, size, stride = int(offset), [int(n) for n in size], [int(n) for n in stride]
        count = int(np.prod(size, dtype=object)) if size else 1
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        inside = count == 0 or last < len(storage)
        if min([offset, *size, *stride]) < 0 or not inside or count > len(storage) + _SPREAD:
            raise Refused("a tensor larger than its content")
        array = _Array()
        steps = [step * storage.itemsize for step in stride]
        view = np.lib.stride_tricks.as_strided(storage[offset:], size, steps) if count else np.zeros(size)
        array.value = view.copy()
        return array


class _Parameter(_StandIn):
    def __new__(cls, data: Any, *_: Any) -> Any:
        return data


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
    names["collections", "OrderedDict"] = _Ordered
    names["torch._utils", "_rebuild_tensor_v2"] = _Tensor
    names["torch._utils", "_rebuild_parameter"] = _Parameter
    for kind, code in _STORAGES.items():
        names["torch", kind + "Storage"] = type(kind, (_Storage,), {"code": code})
    for package in ("scipy.sparse.", "scipy.sparse._"):
        names[package + "csc", "csc_matrix"] = names[package + "csc", "csc_array"] = _Sparse
        names[package + "csr", "csr_matrix"] = names[package + "csr", "csr_array"] = _SparseRows
    return names


_KNOWN = _known_names()


# Python's own unpickler, not the one in C: a few damaged bytes make that reserve gigabytes for its memo.
class _Unpickler(pickle._Unpickler):
    content: Callable[[str], bytes] | None = None

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise Refused(f"{module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if self.content is None or not isinstance(pid, tuple) or len(pid) < 3 or pid[0] != "storage":
            raise Refused("data outside the file")
        kind, key = pid[1], pid[2]
        if not (isinstance(kind, type) and issubclass(kind, _Storage) and kind.code):
            raise Refused("a tensor of an unknown type")
        return np.frombuffer(self.content(str(key)), np.dtype(kind.code))


def unpickle(data: bytes, content: Callable[[str], bytes] | None = None) -> Any:
    """What a pickle holds: dicts and lists of numbers, strings and arrays; anything else in it becomes None.

    Args:
        data: the pickle, of any protocol, Python 2's included.
        content: gives the bytes of a torch storage by its key; None refuses storages.

    Raises:
        Refused: it names a function or class that numbers do not need.
        Exception: whatever damaged bytes lead the pickle machine into.
    """
    machine = _Unpickler(io.BytesIO(data), encoding="latin1")
    machine.content = content
    return _plain(machine.load(), {}, 0)


def read_torch(data: bytes) -> Any:
    """What a file written by torch.save (torch 1.6 or later) holds, as by `unpickle`.

    Raises:
        Refused: it names a function or class that numbers do not need.
        Exception: it is no such file, or damaged.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        sizes = {info.filename: info.file_size for info in file.infolist()}
        # Entries are stored as they are; more bytes inside than outside is a bomb.
        if sum(sizes.values()) > len(data):
            raise Refused("more data than it has")
        top = next(name for name in sizes if name.endswith("data.pkl")).removesuffix("data.pkl")
        return unpickle(file.read(top + "data.pkl"), lambda key: file.read(f"{top}data/{key}"))


def read_npz(stream: IO[bytes], largest: int, *, text: bool = False) -> dict[str, np.ndarray]:
    """The arrays of numbers in an .npz, and those of text if wanted; those of objects are left out.

    A header that promises more than its entry holds ends the reading before anything is allocated.

    Args:
        stream: of the file.
        largest: bytes; an archive that unpacks to more is refused.
        text: also read arrays of strings.

    Raises:
        Refused: it would unpack to more.
        Exception: it is no such file, or damaged.
    """
    arrays = {}
    with zipfile.ZipFile(stream) as file:
        entries = [entry for entry in file.infolist() if entry.filename.endswith(".npy")]
        if sum(entry.file_size for entry in entries) > largest:
            raise Refused(f"more than {largest >> 20} megabytes")
        for entry in entries:
            value = _read_npy(file.read(entry), "US" if text else "")
            if value is not None:
                arrays[entry.filename.removesuffix(".npy")] = value
    return arrays


def _read_npy(data: bytes, more: str) -> np.ndarray | None:
    """The array, or None if its elements are neither numbers nor of one of the kinds in `more`."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("an unknown version of .npy")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.kind not in NUMBERS and dtype.kind not in more:
        return None
    count = int(np.prod(shape, dtype=object)) if shape else 1
    body = data[stream.tell() :]
    if count < 0 or count * dtype.itemsize != len(body):
        raise ValueError("its header does not fit its content")
    if count == 0 or dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")


def _plain(item: Any, done: dict[int, Any], depth: int) -> Any:
    """The item without stand-ins; what is shared stays shared, so that nothing grows on the way."""
    if isinstance(item, _Array | _Chumpy | _Sparse):
        return item.value
    if item is None or isinstance(item, str | bytes | bool | int | float):
        return item
    if not isinstance(item, dict | list | tuple):
        return None
    if depth > _DEEPEST:
        raise Refused("itself inside itself")
    if id(item) not in done:
        if isinstance(item, dict):
            done[id(item)] = {key: _plain(value, done, depth + 1) for key, value in item.items()}
        else:
            done[id(item)] = [_plain(value, done, depth + 1) for value in item]
    return done[id(item)]
