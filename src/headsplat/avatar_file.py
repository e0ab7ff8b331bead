"""Save and load avatars as `.avatar` files: small, free of code, the same bytes for the browser.

docs/avatar-format.md is the definition. Saving rounds (centres to 1/65535 of the extent, weights and colours
to 1/255, changes to half floats); what was loaded is saved again byte for byte.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.avatar_rounding import (
    NETWORK_NAME,
    check_skin,
    encode_network,
    encode_table,
    round_features,
    round_means,
    round_to_bytes,
    round_to_half,
    round_weights,
    unit_quats,
)
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.networks import Network, known
from headsplat.tensor_file import read_tensors, write_tensors

FORMAT = "headsplat.avatar"
VERSION = 1

# Tensor -> data type and shape, where letters are sizes that have to agree: N Gaussians, J joints.
_LAYOUT: dict[str, tuple[np.dtype, tuple[int | str, ...]]] = {
    "means": (np.dtype("<u2"), ("N", 3)),
    "means.bounds": (np.dtype("<f4"), (2, 3)),
    "quats": (np.dtype("<i2"), ("N", 4)),
    "scales": (np.dtype("<f2"), ("N", 3)),
    "opacities": (np.dtype(np.uint8), ("N",)),
    "skin.joints": (np.dtype(np.uint8), ("N", 4)),
    "skin.weights": (np.dtype(np.uint8), ("N", 4)),
    "seen": (np.dtype(np.uint8), ("N",)),
    "joints.rest": (np.dtype("<f4"), ("J", 3)),
}
_MILLIMETRES = 1000.0
_FAR = 1e6  # metres; nothing to look at lies farther away


def save_avatar(avatar: Avatar, path: str | os.PathLike[str]) -> None:
    """Write `avatar` to `path`, all of it or nothing.

    Raises:
        HeadsplatError: a number in the avatar is not finite or too large, its skin is not one, or `path`
            cannot be written.
    """
    g = avatar.gaussians.check("The avatar")
    check_skin(avatar)
    lo, hi = g.means.min(0).astype("<f4"), g.means.max(0).astype("<f4")
    tensors: dict[str, np.ndarray] = {
        "means": round_means(g.means, lo, hi),
        "means.bounds": np.stack([lo, hi]),
        "quats": np.rint(unit_quats(g.quats) * 32767.0).astype("<i2"),
        "scales": round_to_half(np.maximum(g.scales * _MILLIMETRES, 2.0**-14), "scales"),
        "opacities": round_to_bytes(g.opacities),
        "features": round_features(g.features),
        "skin.joints": avatar.skin_joints.astype(np.uint8),
        "skin.weights": round_weights(avatar.skin_weights),
        "seen": round_to_bytes(avatar.seen),
        "joints.rest": avatar.joint_rest.astype("<f4"),
    }
    tensors |= encode_table("expression.means", avatar.expression_means, len(avatar), _MILLIMETRES)
    if avatar.expression_frames is not None:
        tensors |= encode_table("expression.frames", avatar.expression_frames, len(avatar))
    if avatar.expression_appearance is not None:
        tensors |= encode_table("expression.appearance", avatar.expression_appearance, len(avatar))
    networks = {"deformer": avatar.deformer, "refiner": avatar.refiner}
    for role, network in networks.items():
        if network is not None:
            tensors |= encode_network(role, network)
    view = {"target": [float(v) for v in avatar.view_target], "height": float(avatar.view_height)}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "joints": _json(avatar.joints),
        "parents": _json([int(p) for p in avatar.parents]),
        "expressions": _json(avatar.expressions),
        "method": avatar.method,
        "source": avatar.source,
        "view": _json(view),
        "info": _json(avatar.info),
    }
    for role, network in networks.items():
        if network is not None:
            metadata[role] = _json({"kind": network.kind, "config": network.config})
    write_tensors(path, tensors, metadata)


def load_avatar(path: str | os.PathLike[str]) -> Avatar:
    """Read an avatar; needs numpy only, runs no code from the file, and checks everything it reads.

    Raises:
        HeadsplatError: one sentence saying what is wrong with the file.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise HeadsplatError(
            f"{path} is a safetensors file but not an avatar; `headsplat create` makes avatars."
        )
    _check_version(metadata.get("version", ""), path)
    try:
        return _decode(tensors, metadata, os.fspath(path))
    except _Damaged as error:
        raise HeadsplatError(f"{path} is damaged: {error}; copy or create it again.") from error


class _Damaged(Exception):
    """What is wrong inside a file that claims to be an avatar; `load_avatar` makes the sentence."""


def _decode(tensors: dict[str, np.ndarray], metadata: dict[str, str], path: str) -> Avatar:
    joints, parents, expressions = (
        _names(metadata, "joints"),
        _parents(metadata),
        _names(metadata, "expressions"),
    )
    view, info = _view(metadata), _field(metadata, "info", dict)
    sizes: dict[int | str, int] = {"N": _rows(tensors, "means"), "J": len(joints)}
    for name, (dtype, shape) in _LAYOUT.items():
        _expect(tensors, name, dtype, tuple(sizes.get(s, s) for s in shape))
    count = sizes["N"]
    if count == 0 or len(parents) != len(joints) or not joints:
        raise _Damaged("it has no Gaussians, no joints, or not one parent per joint")
    if len(joints) > 255 or (tensors["skin.joints"] >= len(joints)).any():
        raise _Damaged("a Gaussian hangs on a joint that does not exist")
    if (tensors["skin.weights"].sum(1, dtype=np.int32) != 255).any():
        raise _Damaged("skin weights do not sum to one")
    features = _decode_features(tensors, count)
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise _Damaged(f"{name} holds numbers that are not finite")
    lo, hi = tensors["means.bounds"].astype(np.float64)
    if (hi < lo).any() or (tensors["scales"] < 0).any():
        raise _Damaged("bounds or sizes are negative")
    quats = tensors["quats"].astype(np.float32) / np.float32(32767)
    if (np.abs(np.linalg.norm(quats, axis=1) - 1) > 0.01).any():
        raise _Damaged("a rotation is not a unit quaternion")
    table = (tensors, len(expressions), count)
    return Avatar(
        gaussians=Gaussians(
            means=(lo + tensors["means"] / 65535.0 * (hi - lo)).astype(np.float32),
            quats=quats,
            scales=tensors["scales"].astype(np.float32) / np.float32(_MILLIMETRES),
            opacities=tensors["opacities"].astype(np.float32) / np.float32(255),
            features=features,
        ),
        skin_joints=tensors["skin.joints"],
        skin_weights=tensors["skin.weights"].astype(np.float32) / np.float32(255),
        joints=joints,
        parents=np.array(parents, np.int32),
        joint_rest=tensors["joints.rest"].astype(np.float32),
        expressions=expressions,
        expression_means=_decode_table("expression.means", 3, *table, unit=_MILLIMETRES),
        expression_frames=_optional_table("expression.frames", 6, *table),
        expression_appearance=_optional_table("expression.appearance", features.shape[1] + 1, *table),
        seen=tensors["seen"].astype(np.float32) / np.float32(255),
        view_target=np.array(view["target"], np.float32),
        view_height=float(view["height"]),
        method=metadata.get("method", ""),
        source=metadata.get("source", ""),
        info=info,
        deformer=_decode_network("deformer", tensors, metadata, path),
        refiner=_decode_network("refiner", tensors, metadata, path),
    )


def _decode_network(
    role: str, tensors: dict[str, np.ndarray], metadata: dict[str, str], path: str
) -> Network | None:
    own = {n.removeprefix(f"{role}."): t for n, t in tensors.items() if n.startswith(f"{role}.")}
    if not own and role not in metadata:
        return None
    if not own or role not in metadata:
        raise _Damaged(f"its {role} lacks tensors or a description")
    found = _field(metadata, role, dict)
    kind, config = found.get("kind"), found.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise _Damaged(f"its {role!r} does not say what it is")
    if not known(kind):
        warnings.warn(
            f"{path}: this version draws the rigged Gaussians without its {role} ({kind[:40]!r}).",
            stacklevel=4,
        )
        return None
    for name, tensor in own.items():
        if tensor.dtype not in (np.float16, np.float32) or not NETWORK_NAME.fullmatch(name):
            raise _Damaged(f"{role}.{name} is not a float tensor with a plain name")
    return Network(kind, config, own)


def _decode_table(
    name: str, columns: int, tensors: dict[str, np.ndarray], expressions: int, count: int, unit: float = 1.0
) -> SparseOffsets:
    _expect(tensors, f"{name}.mask", np.dtype(np.uint8), (expressions, (count + 7) // 8))
    mask = np.unpackbits(tensors[f"{name}.mask"], axis=1, bitorder="little").astype(bool)
    if mask[:, count:].any():
        raise _Damaged(f"{name}.mask names Gaussians that do not exist")
    counts = mask.sum(1)
    _expect(tensors, f"{name}.values", np.dtype("<f2"), (int(counts.sum()), columns))
    values = tensors[f"{name}.values"].astype(np.float32) / np.float32(unit)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return SparseOffsets(starts, np.nonzero(mask)[1].astype(np.int32), values)


def _optional_table(
    name: str, columns: int, tensors: dict[str, np.ndarray], expressions: int, count: int
) -> SparseOffsets | None:
    if not any(tensor.startswith(f"{name}.") for tensor in tensors):
        return None
    return _decode_table(name, columns, tensors, expressions, count)


def _decode_features(tensors: dict[str, np.ndarray], count: int) -> np.ndarray:
    features = tensors.get("features")
    if features is None or features.ndim != 2 or len(features) != count or features.shape[1] == 0:
        raise _Damaged("features is missing or has the wrong shape")
    if features.dtype == np.uint8 and features.shape[1] == 3:
        return features.astype(np.float32) / np.float32(255)
    if features.dtype != np.float16:
        raise _Damaged("features has the wrong data type")
    return features.astype(np.float32)


def _rows(tensors: dict[str, np.ndarray], name: str) -> int:
    if name not in tensors or tensors[name].ndim == 0:
        raise _Damaged(f"{name} is missing")
    return len(tensors[name])


def _expect(tensors: dict[str, np.ndarray], name: str, dtype: np.dtype, shape: tuple[int | str, ...]) -> None:
    if name not in tensors:
        raise _Damaged(f"{name} is missing")
    tensor = tensors[name]
    if tensor.dtype != dtype or tensor.shape != shape:
        raise _Damaged(f"{name} is {tensor.dtype} {tensor.shape}, not {dtype} {shape}")


def _field(metadata: dict[str, str], key: str, kind: type) -> Any:
    try:
        value = json.loads(metadata[key])
    except (KeyError, ValueError, RecursionError) as error:
        raise _Damaged(f"its {key!r} is missing or not JSON") from error
    if not isinstance(value, kind):
        raise _Damaged(f"its {key!r} is not a {kind.__name__}")
    return value


def _names(metadata: dict[str, str], key: str) -> tuple[str, ...]:
    names = _field(metadata, key, list)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise _Damaged(f"its {key!r} are not different names")
    return tuple(names)


def _parents(metadata: dict[str, str]) -> list[int]:
    parents = _field(metadata, "parents", list)
    if not all(isinstance(p, int) and -1 <= p < j for j, p in enumerate(parents)):
        raise _Damaged("its 'parents' do not come before their children")
    return parents


def _view(metadata: dict[str, str]) -> dict[str, Any]:
    view = _field(metadata, "view", dict)
    numbers = [*view["target"], view.get("height")] if isinstance(view.get("target"), list) else []
    # Compared as Python's numbers: JSON's integers may have hundreds of digits.
    good = len(numbers) == 4 and all(isinstance(v, int | float) and abs(v) < _FAR for v in numbers)
    if not good or view["height"] <= 0:
        raise _Damaged("its 'view' does not say where to look")
    return view


def _check_version(text: str, path: str | os.PathLike[str]) -> None:
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise HeadsplatError(
            f"{path} does not say which version of the avatar format it has; create it again."
        )
    if int(text) > VERSION:
        raise HeadsplatError(
            f"{path} has avatar format {text}, and this headsplat reads up to {VERSION}; "
            "update it with `pip install --upgrade headsplat`."
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
