"""Which splats touch which tile, in arrays of fixed size, so that a CUDA graph can hold the work."""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 16  # pixels on a side, gsplat's


def grid_of(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of tiles; the last row lies below the picture and collects what is not used."""
    return -(-width // TILE), -(-height // TILE) + 1


def tile_lists(
    centers: Tensor, radii: Tensor, depths: Tensor, columns: int, rows: int, capacity: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Lists of splats per tile, nearest first.

    gsplat's own lists are as long as there are pairs of splat and tile, which the host has to wait for. Here
    the lists have `capacity` places; those left over belong to the last tile, which no pixel lies in.

    Args:
        centers: (I, N, 2) pixels, of I images.
        radii: (I, N, 2) pixels; zero where a splat is not drawn.
        depths: (I, N) positive.
        columns: of tiles.
        rows: of tiles, including the one below the picture (`grid_of`).
        capacity: places for pairs.

    Returns:
        Where each tile's list begins (I, rows, columns) int32, the lists (capacity,) int32 as indices into
        the flattened (I, N), and the number of pairs as a tensor; if it exceeds capacity the nearest are not
        all there.
    """
    images, count = depths.shape
    drawn = (radii > 0).all(-1)
    extent = radii.to(centers.dtype)
    low = torch.where(drawn[..., None], (centers - extent) / TILE, 0.0).floor().long().clamp(min=0)
    high = torch.where(drawn[..., None], (centers + extent) / TILE, 0.0).ceil().long()
    wide = (high[..., 0].clamp(max=columns) - low[..., 0]).clamp(min=0)
    tall = (high[..., 1].clamp(max=rows - 1) - low[..., 1]).clamp(min=0)
    pairs = (wide * tall).flatten()
    ends = pairs.cumsum(0)

    slot = torch.arange(capacity, device=centers.device)
    owner = torch.searchsorted(ends, slot, right=True).clamp(max=images * count - 1)
    within = slot - (ends - pairs)[owner]
    low, wide = low.reshape(-1, 2), wide.flatten().clamp(min=1)
    x = low[owner, 0] + within % wide[owner]
    y = low[owner, 1] + torch.div(within, wide[owner], rounding_mode="floor")
    tile = (owner // count * rows + y) * columns + x
    nearness = (
        depths.flatten().contiguous().view(torch.int32).long()[owner]
    )  # positive floats sort as integers
    key = torch.where(slot < ends[-1], (tile << 32) | nearness, images * rows * columns << 32)
    key, order = torch.sort(key, stable=True)
    tiles = torch.arange(images * rows * columns, device=centers.device) << 32
    begins = torch.searchsorted(key, tiles).int().reshape(images, rows, columns)
    return begins, owner[order].int(), ends[-1]
