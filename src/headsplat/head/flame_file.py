"""Read FLAME's files without running anything in them.

The official files are Python 2 pickles that hold chumpy objects and SciPy sparse matrices.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.pickled import Refused, read_npz, unpickle

_LARGEST = 2 << 30  # bytes; the official files have 50 to 300 MB


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
        return read_npz(io.BytesIO(data), _LARGEST)
    except Exception as error:  # whatever damaged bytes lead the readers into
        raise HeadsplatError(
            f"{path} is not a plain .npz of numbers; save it again without objects, or give the .pkl."
        ) from error


def _read_pickle(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        content = unpickle(data)
    except Refused as error:
        raise HeadsplatError(
            f"{path} asks for {error}, which no FLAME model needs; get it again from its official source."
        ) from error
    except Exception as error:  # whatever damaged bytes lead the pickle machine into
        raise HeadsplatError(f"{path} is damaged or is no FLAME model; get the file again.") from error
    if not isinstance(content, dict):
        raise HeadsplatError(f"{path} is no FLAME model; give generic_model.pkl, flame2023.pkl or the like.")
    return {str(name): item for name, item in content.items() if isinstance(item, np.ndarray)}
