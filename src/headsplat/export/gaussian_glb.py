"""glTF with `KHR_gaussian_splatting` (release candidate, 2026): still Gaussians, or coloured points."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.export.glb import GlbBuilder, srgb_to_linear
from headsplat.export.still import rgb_to_sh, still
from headsplat.files import writing

_EXTENSION = "KHR_gaussian_splatting"


def export_gaussian_glb(
    avatar: Avatar,
    path: str | os.PathLike[str],
    *,
    expression: Mapping[str, float] | np.ndarray | None = None,
    rotations: Mapping[str, Any] | None = None,
    root: np.ndarray | None = None,
) -> None:
    """Write one pose as a GLB of Gaussians; viewers without the extension draw coloured points.

    Attributes: POSITION in metres (glTF's axes are those of head space), ROTATION xyzw, SCALE linear, OPACITY
    0..1, SH_DEGREE_0_COEF_0 = (sRGB - 0.5) / 0.2821 in the colour space `srgb_rec709_display`, all float32;
    COLOR_0 is the fallback, linear light as glTF wants it, 16 bits.

    Args:
        avatar: any avatar with RGB features.
        path: the `.glb` to write.
        expression: weights by name or (E,); None = neutral.
        rotations: joint name to (3,) rotation vector, radians.
        root: (4, 4) `T_world_root`.

    Raises:
        HeadsplatError: the avatar has no RGB, or `path` cannot be written.
    """
    cloud = still(avatar, expression, rotations, root)
    builder = GlbBuilder()
    fallback = np.concatenate([srgb_to_linear(cloud.features), cloud.opacities[:, None]], 1)
    attributes = {
        "POSITION": builder.accessor(cloud.means, bounds=True),
        "COLOR_0": builder.accessor(np.rint(fallback * 65535).astype(np.uint16), normalized=True),
        f"{_EXTENSION}:ROTATION": builder.accessor(np.roll(cloud.quats, -1, axis=1)),
        f"{_EXTENSION}:SCALE": builder.accessor(cloud.scales),
        f"{_EXTENSION}:OPACITY": builder.accessor(cloud.opacities),
        f"{_EXTENSION}:SH_DEGREE_0_COEF_0": builder.accessor(rgb_to_sh(cloud.features)),
    }
    splatting = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    primitive = {"mode": 0, "attributes": attributes, "extensions": {_EXTENSION: splatting}}
    document = {
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "avatar", "mesh": 0}],
        "meshes": [{"name": "avatar", "primitives": [primitive]}],
    }
    with writing(path) as temporary:
        temporary.write_bytes(builder.to_bytes(document))
