"""The 32-byte `.splat` records of the first web viewers: small, lossy, read nearly everywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.export.still import Axes, still
from headsplat.files import writing

_RECORD = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def export_splat(
    avatar: Avatar,
    path: str | os.PathLike[str],
    *,
    expression: Mapping[str, float] | np.ndarray | None = None,
    rotations: Mapping[str, Any] | None = None,
    root: np.ndarray | None = None,
    axes: Axes = "y-up",
) -> None:
    """Write one pose as `.splat`: position and linear scale in float32 metres, RGBA and wxyz in 8 bits each.

    A quaternion component q is stored as 128 + 128 q, clipped to 0..255 (about 0.5 degrees of error).

    Args:
        avatar: any avatar with RGB features.
        path: the `.splat` to write.
        expression: weights by name or (E,); None = neutral.
        rotations: joint name to (3,) rotation vector, radians.
        root: (4, 4) `T_world_root`.
        axes: "y-up" = head space; "y-down" = turned half round about x (see `still`).

    Raises:
        HeadsplatError: the avatar has no RGB, or `path` cannot be written.
    """
    cloud = still(avatar, expression, rotations, root, axes)
    records = np.empty(len(cloud), _RECORD)
    records["position"], records["scale"] = cloud.means, cloud.scales
    records["rgba"] = np.rint(np.concatenate([cloud.features, cloud.opacities[:, None]], 1) * 255)
    records["quat"] = np.clip(np.rint(cloud.quats * 128 + 128), 0, 255)
    with writing(path) as temporary:
        temporary.write_bytes(records.tobytes())
