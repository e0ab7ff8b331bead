"""One still cloud of coloured Gaussians out of an avatar: what every static splat format stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians, transform

Axes = Literal["y-up", "y-down"]

# A half turn about x: the way between our world (x right in a frontal view, y up, z to the viewer; "RUB") and
# the axes of COLMAP scenes (x right, y down, z away; "RDF").
_HALF_TURN_X = np.diag([1.0, -1.0, -1.0, 1.0])

# An opacity of exactly 0 or 1 has no logit; this far from both ends nothing visible changes.
_OPACITY_MARGIN = 1e-6
# The smallest standard deviation written, metres: a scale of 0 has no logarithm.
_MIN_SCALE = 1e-7
# The constant of the spherical harmonic of degree 0: colour = 0.5 + SH_C0 * f_dc.
SH_C0 = 0.28209479177387814


def still(
    avatar: Avatar,
    expression: Mapping[str, float] | np.ndarray | None = None,
    rotations: Mapping[str, Any] | None = None,
    root: np.ndarray | None = None,
    axes: Axes = "y-up",
) -> Gaussians:
    """The avatar's Gaussians in one pose, float32, with RGB features in 0..1 and unit quaternions.

    Args:
        avatar: any avatar with RGB features.
        expression: weights by name, or (E,) in the avatar's order; None = neutral.
        rotations: joint name to (3,) rotation vector, radians; None = at rest.
        root: (4, 4) `T_world_root`; None = at rest.
        axes: "y-up" = head space as in docs/conventions.md; "y-down" = turned half round about x, as scenes
            from COLMAP are and as some viewers expect PLY files to be.

    Raises:
        HeadsplatError: the features are not colours, or a number is not finite.
    """
    channels = avatar.gaussians.features.shape[1]
    if channels != 3:
        raise HeadsplatError(
            f"This avatar's Gaussians carry {channels} feature channels instead of RGB, which only its own"
            " refiner can turn into colours; export a video of it instead."
        )
    cloud = avatar.animate(expression, rotations, root)
    if axes == "y-down":
        cloud = transform(cloud, _HALF_TURN_X)
    quats = cloud.quats / np.maximum(np.linalg.norm(cloud.quats, axis=1, keepdims=True), 1e-12)
    f32 = np.float32
    return Gaussians(
        cloud.means.astype(f32),
        quats.astype(f32),
        np.maximum(cloud.scales, _MIN_SCALE).astype(f32),
        np.clip(cloud.opacities, 0, 1).astype(f32),
        np.clip(cloud.features, 0, 1).astype(f32),
    ).check()


def logit(opacities: np.ndarray) -> np.ndarray:
    """(N,) float32 inverse of the sigmoid of (N,) opacities 0..1, finite at both ends."""
    p = np.clip(opacities.astype(np.float64), _OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
    return np.log(p / (1 - p)).astype(np.float32)


def rgb_to_sh(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) float32 coefficients `f_dc` of (N, 3) sRGB colours 0..1, as 3DGS stores colour."""
    return ((rgb - 0.5) / SH_C0).astype(np.float32)
