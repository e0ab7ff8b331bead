"""Give an avatar to other programs: the suffix of the file decides the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export.still import Axes
from headsplat.files import check_pattern
from headsplat.motion import Motion, select

SUFFIXES = (".html", ".ply", ".spz", ".splat", ".glb", ".zip")


def export(
    avatar: Avatar,
    path: str | os.PathLike[str],
    *,
    expression: Mapping[str, float] | None = None,
    rotations: Mapping[str, Any] | None = None,
    root: np.ndarray | None = None,
    axes: Axes = "y-up",
    glb: Literal["splats", "mesh"] = "splats",
) -> None:
    """Write the avatar in the format that the suffix of `path` names; docs/export.md describes each.

    `.ply`, `.spz`, `.splat` and `.glb` hold one pose; `.html` (player included), `.glb` with `glb="mesh"` and
    `.zip` (LAM's web viewer) can be animated.

    Args:
        avatar: what to write.
        path: where to write it.
        expression: weights by name for the formats of one pose; None = neutral.
        rotations: joint name to (3,) rotation vector in radians, for the same.
        root: (4, 4) `T_world_root`, for the same.
        axes: "y-down" turns `.ply` and `.splat` half round about x, for viewers that think in COLMAP's axes.
        glb: whether `.glb` means Gaussians (`KHR_gaussian_splatting`) or a rigged mesh.

    Raises:
        HeadsplatError: an unknown suffix, an option that the format has no use for, or what the format's own
            function raises, or the avatar runs a network per frame.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise HeadsplatError(f"Cannot export to {Path(path).name!r}; end its name in {', '.join(SUFFIXES)}.")
    if axes != "y-up" and suffix not in (".ply", ".splat"):
        raise HeadsplatError(f"Files ending in {suffix} have fixed axes; leave out the axes.")
    avatar.need_rig(f"a {suffix} file")
    posed = expression is not None or rotations is not None or root is not None
    animated = suffix in (".html", ".zip") or (suffix == ".glb" and glb == "mesh")
    if posed and animated:
        raise HeadsplatError(f"This {suffix} carries every pose; leave out the expression and rotations.")
    if animated:
        _animated_writer(suffix)(avatar, path)
        return
    pose: dict[str, Any] = {"expression": expression, "rotations": rotations, "root": root}
    match suffix:
        case ".ply":
            from headsplat.export.ply import export_ply

            export_ply(avatar, path, axes=axes, **pose)
        case ".splat":
            from headsplat.export.splat import export_splat

            export_splat(avatar, path, axes=axes, **pose)
        case ".spz":
            from headsplat.export.spz import export_spz

            export_spz(avatar, path, **pose)
        case ".glb":
            from headsplat.export.gaussian_glb import export_gaussian_glb

            export_gaussian_glb(avatar, path, **pose)


def export_frames(
    avatar: Avatar, pattern: str | os.PathLike[str], motion: Motion, *, axes: Axes = "y-up"
) -> list[Path]:
    """Write one still file per frame of a motion, for programs that play sequences of splats.

    Args:
        avatar: what to write.
        pattern: name with a number in it, such as `frames/%05d.ply`; `.ply`, `.spz`, `.splat` or `.glb`.
        motion: what the avatar does; names that it does not have are left out.
        axes: as in `export`.

    Returns:
        The files, numbered from 0.

    Raises:
        HeadsplatError: the pattern has no number or no such suffix, or the motion does not fit the avatar.
    """
    pattern = check_pattern(pattern)
    if "%" not in pattern.name or pattern.suffix.lower() not in (".ply", ".spz", ".splat", ".glb"):
        raise HeadsplatError(f"{pattern.name!r} does not number still files; write it like %05d.ply.")
    motion, _ = select(motion.check(), avatar.expressions, avatar.joints)
    paths = []
    try:
        for frame, pose in enumerate(motion.poses()):
            path = pattern.with_name(pattern.name % frame)
            export(avatar, path, axes=axes, **pose)
            paths.append(path)
    except BaseException:  # a sequence appears complete or not at all
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths


def _animated_writer(suffix: str) -> Callable[[Avatar, str | os.PathLike[str]], None]:
    match suffix:
        case ".html":
            from headsplat.export.html import export_html

            return export_html
        case ".zip":
            from headsplat.export.lam_zip import export_lam_zip

            return export_lam_zip
        case _:
            from headsplat.export.mesh_glb import export_mesh_glb

            return export_mesh_glb
