"""3D Gaussian splatting PLY, the format that every splat tool reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from headsplat.avatar import Avatar
from headsplat.export.still import Axes, logit, rgb_to_sh, still
from headsplat.files import writing

_COLUMNS = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
            "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip


def export_ply(
    avatar: Avatar,
    path: str | os.PathLike[str],
    *,
    expression: Mapping[str, float] | np.ndarray | None = None,
    rotations: Mapping[str, Any] | None = None,
    root: np.ndarray | None = None,
    axes: Axes = "y-up",
) -> None:
    """Write one pose of the avatar as a 3DGS PLY (17 float32 columns: colour does not depend on the view).

    Columns: x y z in metres; nx ny nz zero; f_dc = (sRGB - 0.5) / 0.2821; opacity as logit; scale as natural
    logarithm of metres; rot as unit quaternion wxyz.

    Args:
        avatar: any avatar with RGB features.
        path: the `.ply` to write.
        expression: weights by name or (E,); None = neutral.
        rotations: joint name to (3,) rotation vector, radians.
        root: (4, 4) `T_world_root`.
        axes: "y-up" = the numbers of head space; "y-down" = turned half round about x (see `still`).

    Raises:
        HeadsplatError: the avatar has no RGB, or `path` cannot be written.
    """
    cloud = still(avatar, expression, rotations, root, axes)
    with writing(path) as temporary, open(temporary, "wb") as file:
        write_columns(
            file,
            cloud.means,
            rgb_to_sh(cloud.features),
            logit(cloud.opacities),
            np.log(cloud.scales),
            cloud.quats,
        )


def write_columns(
    file: BinaryIO,
    positions: np.ndarray,
    f_dc: np.ndarray,
    opacity_logits: np.ndarray,
    log_scales: np.ndarray,
    quats: np.ndarray,
) -> None:
    """Write the 17 columns as they are: (N, 3), (N, 3), (N,), (N, 3) and (N, 4) wxyz."""
    n = len(positions)
    header = [
        "ply", "format binary_little_endian 1.0", f"element vertex {n}",
        *(f"property float {name}" for name in _COLUMNS), "end_header",
    ]  # fmt: skip
    file.write(("\n".join(header) + "\n").encode("ascii"))
    columns = [positions, np.zeros((n, 3)), f_dc, opacity_logits[:, None], log_scales, quats]
    file.write(np.concatenate(columns, 1).astype("<f4").tobytes())
