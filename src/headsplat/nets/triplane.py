"""Tri-planes: three axis-aligned feature maps that together give every point of a cube a feature."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def sample_triplane(planes: Tensor, points: Tensor) -> Tensor:
    """Features of points from their projections onto the xy, xz and yz planes, bilinear (Chan et al. 2022).

    Args:
        planes: (B, 3, C, R, R); the last axis is the plane's first coordinate, from -1 at the left border.
        points: (B, N, 3), the cube is -1..1; points outside take the border's feature.

    Returns:
        (B, N, 3, C): one feature per plane, for the caller to sum, multiply or join.
    """
    batch, _, channels = planes.shape[:3]
    where = torch.stack([points[..., [0, 1]], points[..., [0, 2]], points[..., [1, 2]]], 1)
    found = grid_sample(
        planes.flatten(0, 1), where.flatten(0, 1)[:, :, None], padding_mode="border", align_corners=False
    )
    return found.reshape(batch, 3, channels, -1).permute(0, 3, 1, 2)
