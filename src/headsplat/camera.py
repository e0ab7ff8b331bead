"""A pinhole camera in OpenCV axes, and the few ways of placing one in front of a head.

World axes: x to the subject's left, y up, z out of the face. Camera axes: x right, y down, z forward.
Pixel (0, 0) has its centre at (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError

LENS = 3.1
"""Focal length over image height of the portrait camera: head and shoulders at 1.3 m."""
_UP = np.array([0.0, 1.0, 0.0])

Array = Any  # numpy.ndarray or torch.Tensor; nouns hold either, renderers pick by type


@dataclass(frozen=True)
class Camera:
    """One pinhole camera.

    Attributes:
        viewmat: (4, 4) world-to-camera transform `T_camera_world`, metres, OpenCV axes.
        K: (3, 3) intrinsics in pixels.
        width: image width in pixels.
        height: image height in pixels.
    """

    viewmat: Array
    K: Array
    width: int
    height: int

    @property
    def position(self) -> np.ndarray:
        """(3,) the camera's centre in world space, metres."""
        viewmat = np.asarray(self.viewmat)
        return -viewmat[:3, :3].T @ viewmat[:3, 3]

    @staticmethod
    def look_at(position: Any, target: Any, focal: float, width: int, height: int) -> Camera:
        """A camera at `position` that looks at `target`, both (3,) in metres; `focal` in pixels.

        One that looks straight up or down has the world's x to its right, as an orbit has that climbs there.

        Raises:
            HeadsplatError: position and target are the same point.
        """
        position, target = np.asarray(position, np.float64), np.asarray(target, np.float64)
        forward = target - position
        distance = np.linalg.norm(forward)
        if not distance > 0:
            raise HeadsplatError(
                "A camera cannot look at the point that it is in; give two different points."
            )
        forward /= distance
        right = np.cross(forward, _UP)
        right = right if np.linalg.norm(right) > 1e-9 else np.array([1.0, 0.0, 0.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        viewmat = np.eye(4)
        viewmat[:3, :3] = rotation
        viewmat[:3, 3] = -rotation @ position
        return Camera(viewmat.astype(np.float32), intrinsics(focal, width, height), width, height)

    @staticmethod
    def orbit(
        yaw: float = 0.0,
        pitch: float = 0.0,
        *,
        target: Any = (0.0, 0.0, 0.0),
        distance: float = 1.3,
        focal: float | None = None,
        width: int = 512,
        height: int = 512,
    ) -> Camera:
        """A camera on a sphere around `target`.

        Args:
            yaw: radians; positive moves the camera to the subject's left (we see more of her left cheek).
            pitch: radians; positive moves the camera up.
            target: (3,) world point in the middle of the image, metres.
            distance: metres from `target`.
            focal: pixels; default that of the portrait lens, `LENS` times the height.
            width: pixels.
            height: pixels.
        """
        direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        position = np.asarray(target, np.float64) + distance * direction
        return Camera.look_at(position, target, LENS * height if focal is None else focal, width, height)

    def crop(self, x: float, y: float, width: int, height: int) -> Camera:
        """The camera of the image cut out at pixel (`x`, `y`) with the given size."""
        K = np.array(self.K, copy=True)
        K[0, 2] -= x
        K[1, 2] -= y
        return replace(self, K=K, width=width, height=height)

    def resize(self, width: int, height: int) -> Camera:
        """The camera of the same view at another resolution."""
        K = np.array(self.K, copy=True)
        K[0] *= width / self.width
        K[1] *= height / self.height
        return replace(self, K=K, width=width, height=height)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project (..., 3) world points in metres to (..., 3): x and y in pixels, depth in metres."""
        viewmat = np.asarray(self.viewmat)
        p = points @ viewmat[:3, :3].T + viewmat[:3, 3]
        uv = p @ np.asarray(self.K).T
        return np.concatenate([uv[..., :2] / uv[..., 2:], p[..., 2:]], -1)

    def unproject(self, pixels: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """World points (..., 3) of (..., 2) pixels at (...,) camera depths in metres."""
        K, viewmat = np.asarray(self.K), np.asarray(self.viewmat)
        rays = (pixels - K[:2, 2]) / np.array([K[0, 0], K[1, 1]], pixels.dtype)
        p = np.concatenate([rays * depths[..., None], depths[..., None]], -1)
        return (p - viewmat[:3, 3]) @ viewmat[:3, :3]


def intrinsics(focal: float, width: int, height: int) -> np.ndarray:
    """(3, 3) float32 intrinsics with square pixels and the principal point in the middle."""
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
