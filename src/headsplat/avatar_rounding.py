"""Round an avatar's numbers for its file, docs/avatar-format.md.

Each function undoes the reader in `headsplat.avatar_file` exactly: save(load(file)) repeats the bytes.
"""

from __future__ import annotations

import re

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.errors import HeadsplatError
from headsplat.networks import Network

NETWORK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
"""How tensors of a network may be called."""


def round_means(means: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """(N, 3) uint16 places of centres between the corners `lo` and `hi`."""
    extent = np.maximum(hi.astype(np.float64) - lo, np.finfo(np.float32).tiny)
    return np.rint(np.clip((means - lo.astype(np.float64)) / extent, 0, 1) * 65535).astype("<u2")


def unit_quats(quats: np.ndarray) -> np.ndarray:
    """Normalise rows that need it; rounded unit quaternions stay as they are."""
    norm = np.linalg.norm(quats.astype(np.float64), axis=1, keepdims=True)
    if (norm < 1e-6).any():
        raise HeadsplatError("The avatar has a quaternion of length zero; it is damaged.")
    return quats / np.where(np.abs(norm - 1) > 1e-3, norm, 1.0)


def round_to_half(values: np.ndarray, name: str) -> np.ndarray:
    """Half floats; raises a `HeadsplatError` where they are too small for a value."""
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.isfinite(half).all():
        raise HeadsplatError(f"The avatar has {name} too large for its file, or not finite; it is damaged.")
    return half


def round_to_bytes(values: np.ndarray) -> np.ndarray:
    """0..1 as 0..255."""
    return np.rint(np.clip(values, 0, 1) * 255.0).astype(np.uint8)


def round_features(features: np.ndarray) -> np.ndarray:
    """Bytes for colours 0..1, half floats for other features."""
    half = round_to_half(features, "features")
    if features.shape[1] == 3 and half.min() >= 0 and half.max() <= 1:
        return round_to_bytes(features)
    return half


def check_skin(avatar: Avatar) -> None:
    """Refuse what the file cannot say: more than 255 joints, joints that are none, rows without weight."""
    joints, weights, count = avatar.skin_joints, avatar.skin_weights, len(avatar)
    fits = joints.shape == weights.shape == (count, 4) and 0 < len(avatar.joints) <= 255
    if not fits or not 0 <= joints.min() <= joints.max() < len(avatar.joints):
        raise HeadsplatError("The avatar's skin does not fit its Gaussians and joints; it is damaged.")
    if not np.isfinite(weights).all() or weights.min() < 0 or not (weights.sum(1) > 0).all():
        raise HeadsplatError(
            "The avatar has skin weights that are negative, zero or not finite; it is damaged."
        )


def round_weights(weights: np.ndarray) -> np.ndarray:
    """(N, 4) uint8 rows that sum to 255 exactly: round down, then give the rest to the largest remainders."""
    exact = weights / weights.sum(1, keepdims=True, dtype=np.float64) * 255
    # The margin keeps weights that were read from a file (n / 255 in float32) from falling to n - 1.
    floor = np.floor(exact + 1e-3)
    missing = (255 - floor.sum(1)).astype(int)
    rank = np.argsort(np.argsort(floor - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return (floor + (rank < missing[:, None])).astype(np.uint8)


def encode_table(name: str, table: SparseOffsets, count: int, unit: float = 1.0) -> dict[str, np.ndarray]:
    """The mask and the values of a table whose rows concern `count` Gaussians."""
    expressions = len(table.starts) - 1
    mask = np.zeros((expressions, count), bool)
    mask[np.repeat(np.arange(expressions), np.diff(table.starts)), table.index] = True
    if not np.array_equal(np.nonzero(mask)[1], table.index):
        raise ValueError(f"{name}: the Gaussians of an expression must ascend and not repeat")
    values = table.values.astype(np.float32) * np.float32(unit)
    packed = np.packbits(mask, axis=1, bitorder="little")
    return {f"{name}.mask": packed, f"{name}.values": round_to_half(values, "expression changes")}


def encode_network(role: str, network: Network) -> dict[str, np.ndarray]:
    """A network's tensors by their names in the file."""
    out = {}
    for name, tensor in network.tensors.items():
        if tensor.dtype not in (np.float16, np.float32) or not NETWORK_NAME.fullmatch(name):
            raise ValueError(
                f"{role}: {name} is {tensor.dtype}, or has a name that the format does not allow"
            )
        if not np.isfinite(tensor).all():
            raise HeadsplatError(
                f"The avatar's {role} has numbers that are not finite in {name}; it is damaged."
            )
        out[f"{role}.{name}"] = tensor
    return out
