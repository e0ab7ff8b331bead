"""SPZ version 3 (Niantic's packed splats): a tenth of the PLY, upright in every viewer that knows it."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export.still import rgb_to_sh, still
from headsplat.files import writing

_MAGIC = 0x5053474E  # "NGSP" read as a little-endian word
_VERSION = 3
_MAX_FRACTIONAL_BITS = 20
_FIXED_LIMIT = 2**23 - 1
_COLOR_SCALE = 0.15  # bytes hold f_dc * 0.15 + 0.5
_ANTIALIASED = 0  # flag bit 0 stays clear: plain 3DGS low-pass, opacity not compensated


def export_spz(
    avatar: Avatar,
    path: str | os.PathLike[str],
    *,
    expression: Mapping[str, float] | np.ndarray | None = None,
    rotations: Mapping[str, Any] | None = None,
    root: np.ndarray | None = None,
) -> None:
    """Write one pose as SPZ v3, in SPZ's own axes (right, up, back), which are those of head space.

    Positions are 24-bit fixed point with as many fractional bits as the cloud's size allows (20 for a head: a
    micrometre); scales are 8-bit logarithms (steps of 6 %), colours and opacities 8 bits, rotations the
    smallest three components in 10 bits each.

    Args:
        avatar: any avatar with RGB features.
        path: the `.spz` to write.
        expression: weights by name or (E,); None = neutral.
        rotations: joint name to (3,) rotation vector, radians.
        root: (4, 4) `T_world_root`.

    Raises:
        HeadsplatError: the avatar has no RGB, is larger than 8 km, or `path` cannot be written.
    """
    cloud = still(avatar, expression, rotations, root)
    extent = max(float(np.abs(cloud.means).max(initial=0.0)), 1e-3)
    bits = min(_MAX_FRACTIONAL_BITS, int(np.floor(np.log2(_FIXED_LIMIT / extent))))
    if bits < 0:
        raise HeadsplatError("The avatar is too far from the origin for SPZ; move it closer or export a PLY.")
    body = [
        struct.pack("<IIIBBBB", _MAGIC, _VERSION, len(cloud), 0, bits, _ANTIALIASED, 0),
        _fixed_24(cloud.means, bits),
        # 0 and 255 are logits of infinity, which trip converters; 254 looks the same under the 0.99 clamp.
        _bytes(np.clip(cloud.opacities * 255, 1, 254)),
        _bytes((rgb_to_sh(cloud.features) * _COLOR_SCALE + 0.5) * 255),
        _bytes((np.log(cloud.scales) + 10) * 16),
        _smallest_three(cloud.quats),
    ]
    with writing(path) as temporary:
        temporary.write_bytes(gzip.compress(b"".join(body), compresslevel=9, mtime=0))


def _bytes(values: np.ndarray) -> bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).tobytes()


def _fixed_24(positions: np.ndarray, bits: int) -> bytes:
    """(N, 3) positions as little-endian 24-bit two's complement with `bits` fractional bits."""
    fixed = np.rint(positions.astype(np.float64) * 2**bits).astype("<i4")
    return np.ascontiguousarray(fixed[..., None].view(np.uint8)[..., :3]).tobytes()


def _smallest_three(quats: np.ndarray) -> bytes:
    """(N, 4) unit wxyz as 32-bit words: index of the largest of xyzw (2 bits), then sign + 9 bits each."""
    xyzw = np.roll(quats.astype(np.float64), -1, axis=1)
    largest = np.abs(xyzw).argmax(1)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], 1) < 0, -1.0, 1.0)
    words = largest.astype(np.uint32)
    for i in range(4):
        magnitude = np.clip(np.rint(511 * np.abs(xyzw[:, i]) * np.sqrt(2)), 0, 511).astype(np.uint32)
        packed = (words << 10) | ((xyzw[:, i] < 0).astype(np.uint32) << 9) | magnitude
        words = np.where(largest == i, words, packed)
    return words.astype("<u4").tobytes()
