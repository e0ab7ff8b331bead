"""Animatable 3D Gaussian head avatars: photos or video in, a head that can be driven out."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headsplat.avatar import Avatar as Avatar
    from headsplat.avatar_file import load_avatar as load_avatar
    from headsplat.avatar_file import save_avatar as save_avatar
    from headsplat.camera import Camera as Camera
    from headsplat.errors import HeadsplatError as HeadsplatError
    from headsplat.gaussians import Gaussians as Gaussians
    from headsplat.motion import Motion as Motion
    from headsplat.raster import rasterize as rasterize
    from headsplat.reconstruct import reconstruct as reconstruct
    from headsplat.takes import take as take

__version__ = "0.1.0"

# Public name -> where it lives. Loaded on first use, so that importing headsplat stays quick and light.
_HOMES = {
    "Avatar": "headsplat.avatar",
    "Camera": "headsplat.camera",
    "Gaussians": "headsplat.gaussians",
    "HeadsplatError": "headsplat.errors",
    "Motion": "headsplat.motion",
    "load_avatar": "headsplat.avatar_file",
    "rasterize": "headsplat.raster",
    "reconstruct": "headsplat.reconstruct",
    "save_avatar": "headsplat.avatar_file",
    "take": "headsplat.takes",
}
__all__ = [
    "Avatar",
    "Camera",
    "Gaussians",
    "HeadsplatError",
    "Motion",
    "load_avatar",
    "rasterize",
    "reconstruct",
    "save_avatar",
    "take",
]


class _Package(ModuleType):
    """Public names stay when a module of the same name, such as `headsplat.reconstruct`, is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'headsplat' has no attribute {name!r}")
