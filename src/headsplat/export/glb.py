"""Binary glTF 2.0 containers: arrays in, one `.glb` out; knows nothing of heads or Gaussians."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

_COMPONENT = {"f4": 5126, "u1": 5121, "u2": 5123, "u4": 5125}
_TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
GENERATOR = "headsplat"


class GlbBuilder:
    """Collects accessors and their bytes; the rest of the document is plain JSON given to `to_bytes`."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def accessor(
        self,
        array: np.ndarray,
        *,
        target: int | None = ARRAY_BUFFER,
        normalized: bool = False,
        bounds: bool = False,
    ) -> int:
        """Store (N,), (N, k) or (N, 4, 4 column-major) values; return the accessor's index.

        Args:
            array: float32, uint8, uint16 or uint32; a row must fill whole 4-byte words unless it is an index.
            target: ARRAY_BUFFER for vertex attributes, ELEMENT_ARRAY_BUFFER for indices, None for other data.
            normalized: integers stand for 0..1.
            bounds: write min and max, as positions and animation times require.
        """
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        rows = array.reshape(len(array), -1)
        accessor: dict[str, Any] = {
            "bufferView": self.view(array.tobytes(), target),
            "componentType": _COMPONENT[array.dtype.str[1:]],
            "count": len(rows),
            "type": _TYPE[rows.shape[1]],
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            accessor["min"] = [float(v) for v in rows.min(0)]
            accessor["max"] = [float(v) for v in rows.max(0)]
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def sparse(self, index: np.ndarray, values: np.ndarray, count: int) -> int:
        """A float32 VEC3 accessor of `count` rows: `values` (M, 3) at ascending rows `index` (M,), else 0."""
        accessor: dict[str, Any] = {"componentType": 5126, "count": count, "type": "VEC3"}
        # min and max must include the zeros that are not stored.
        rows = np.concatenate([np.zeros((1, 3)), values]) if len(index) < count else values
        accessor["min"], accessor["max"] = [float(v) for v in rows.min(0)], [float(v) for v in rows.max(0)]
        if len(index):
            accessor["sparse"] = {
                "count": len(index),
                "indices": {"bufferView": self.view(index.astype("<u4").tobytes()), "componentType": 5125},
                "values": {"bufferView": self.view(np.ascontiguousarray(values, "<f4").tobytes())},
            }
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append `data` at a 4-byte boundary; return the index of its buffer view (for images, too)."""
        self._bytes += b"\0" * (-len(self._bytes) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._bytes), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self._bytes += data
        self._views.append(view)
        return len(self._views) - 1

    def to_bytes(self, document: dict[str, Any]) -> bytes:
        """The whole `.glb`: `document` (scenes, nodes, meshes, …) completed by the collected accessors."""
        body = bytes(self._bytes) + b"\0" * (-len(self._bytes) % 4)
        full = {
            "asset": {"version": "2.0", "generator": GENERATOR},
            **document,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(body)}],
        }
        text = json.dumps(full, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(body)
        chunks = [struct.pack("<4sII", b"glTF", 2, total), struct.pack("<I4s", len(text), b"JSON"), text]
        return b"".join([*chunks, struct.pack("<I4s", len(body), b"BIN\0"), body])


def srgb_to_linear(rgb: np.ndarray) -> np.ndarray:
    """Linear-light colours 0..1 of display-referred sRGB 0..1, any shape (IEC 61966-2-1)."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)
