"""Animatable 3D Gaussian head avatars: photos or video in, a head that can be driven out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headsplat.avatar import Avatar as Avatar
    from headsplat.camera import Camera as Camera
    from headsplat.errors import HeadsplatError as HeadsplatError
    from headsplat.gaussians import Gaussians as Gaussians
    from headsplat.motion import Motion as Motion
    from headsplat.raster import rasterize as rasterize
    from headsplat.reconstruct import reconstruct as reconstruct

__version__ = "0.1.0"

# Public name -> where it lives. Loaded on first use, so that importing headsplat stays quick and light.
_HOMES = {
    "Avatar": "headsplat.avatar",
    "Camera": "headsplat.camera",
    "Gaussians": "headsplat.gaussians",
    "HeadsplatError": "headsplat.errors",
    "Motion": "headsplat.motion",
    "rasterize": "headsplat.raster",
    "reconstruct": "headsplat.reconstruct",
}
__all__ = ["Avatar", "Camera", "Gaussians", "HeadsplatError", "Motion", "rasterize", "reconstruct"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'headsplat' has no attribute {name!r}")
