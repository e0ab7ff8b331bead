"""GAGAvatar's space: cameras in PyTorch3D's rows, the planes that a picture is lifted from, view codes.

The head stands still at the origin and the camera carries its pose. All lengths in the network's units.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from headsplat.camera import Camera

FOCAL = 12.0
"""Focal length of the release's cameras in half images."""
SIZE = 512
"""Side of the release's pictures, pixels."""


def camera_of(transform: np.ndarray, size: int = SIZE, focal: float = FOCAL) -> Camera:
    """The camera of a (3, 4) PyTorch3D transform [R|T], which maps rows: X R + T with x left and y up."""
    R, T = np.asarray(transform, np.float64)[:, :3], np.asarray(transform, np.float64)[:, 3]
    flip = np.diag([-1.0, -1.0, 1.0])
    viewmat = np.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = flip @ R.T, flip @ T
    half = size / 2
    K = np.array([[focal * half, 0, half], [0, focal * half, half], [0, 0, 1]], np.float32)
    return Camera(viewmat.astype(np.float32), K, size, size)


def transform_of(camera: Camera) -> np.ndarray:
    """The (3, 4) PyTorch3D transform [R|T] of a camera; its intrinsics are not in it."""
    view = np.asarray(camera.viewmat, np.float64)
    flip = np.diag([-1.0, -1.0, 1.0])
    return np.concatenate([view[:3, :3].T @ flip, (flip @ view[:3, 3])[:, None]], 1).astype(np.float32)


def in_units(camera: Camera, units: float) -> Camera:
    """The camera of a world in metres, in a world with so many units to the metre."""
    viewmat = np.array(camera.viewmat, np.float32)
    viewmat[:3, 3] *= units
    return replace(camera, viewmat=viewmat)


def lifting_plane(camera: Camera, grid: int) -> tuple[Tensor, Tensor]:
    """The plane through the origin that is parallel to the picture.

    Args:
        camera: of the source picture.
        grid: points along each side; the outermost lie on the picture's border.

    Returns:
        Points (grid * grid, 3), row by row from the picture's top left, and the viewing direction (3,).
    """
    view, K = np.asarray(camera.viewmat, np.float64), np.asarray(camera.K, np.float64)
    R = view[:3, :3]
    centre = -R.T @ view[:3, 3]
    direction = R[2]
    u, v = np.linspace(0, camera.width, grid), np.linspace(0, camera.height, grid)
    u, v = np.meshgrid(u, v)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1).reshape(-1, 3)
    points = centre + abs(centre @ direction) * (rays @ R)
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(direction.astype(np.float32))


def direction_code(directions: Tensor, octaves: int = 4) -> Tensor:
    """(B, 6 octaves + 3): sines, cosines (axis by axis, octaves within) and the (B, 3) directions."""
    angles = (directions[..., None] * 2.0 ** torch.arange(octaves).to(directions)).flatten(1)
    return torch.cat([angles.sin(), (angles + torch.pi / 2).sin(), directions], 1)
