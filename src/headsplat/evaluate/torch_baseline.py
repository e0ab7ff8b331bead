"""What one would write in plain torch without a kernel: the baseline that benchmarks measure against.

Tiles of 16 x 16 pixels, all splats of a tile at once in dense tensors, gradients by autograd. It follows the
rules of docs/conventions.md but for closing pixels, which dense tensors gain nothing from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headsplat.avatar import Avatar
from headsplat.gaussians import axis_angle_to_quat, matrix_to_quat
from headsplat.raster import reference
from headsplat.raster.rules import THREE_DGS, Rules

TILE = 16


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    rules: Rules = THREE_DGS,
) -> Tensor:
    """(H, W, C) picture over black; arguments as of `headsplat.raster.reference.rasterize`."""
    splats = reference.project(means, quats, scales, viewmat, K, width, height, rules)
    columns, rows = -(-width // TILE), -(-height // TILE)
    tiles, members = _tile_lists(splats, opacities, columns, rows, width, height, rules)
    bounds = torch.searchsorted(tiles, torch.arange(columns * rows + 1)).tolist()
    offset = torch.arange(TILE, dtype=means.dtype) + 0.5
    px, py = offset.repeat(TILE), offset.repeat_interleave(TILE)

    picture = []
    for tile in range(columns * rows):
        ids = members[bounds[tile] : bounds[tile + 1]]
        if len(ids) == 0:
            picture.append(features.new_zeros(TILE * TILE, features.shape[1]))
            continue
        dx = px + tile % columns * TILE - splats.centers[ids, :1]
        dy = py + tile // columns * TILE - splats.centers[ids, 1:]
        a, b, c = splats.conics[ids].unsqueeze(-1).unbind(1)
        power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
        alpha = (opacities[ids, None] * torch.exp(power)).clamp(max=rules.alpha_max)
        alpha = torch.where(alpha >= rules.alpha_min, alpha, 0.0)
        after = torch.cumprod(1 - alpha, 0)
        weights = alpha * torch.cat([torch.ones_like(after[:1]), after[:-1]])
        picture.append(weights.T @ features[ids])
    blocks = torch.stack(picture).reshape(rows, columns, TILE, TILE, -1)
    return blocks.transpose(1, 2).reshape(rows * TILE, columns * TILE, -1)[:height, :width]


@torch.no_grad()
def _tile_lists(
    splats: reference.Splats,
    opacities: Tensor,
    columns: int,
    rows: int,
    width: int,
    height: int,
    rules: Rules,
) -> tuple[Tensor, Tensor]:
    """Tile and Gaussian of every pair that may touch, sorted by tile, then by depth."""
    reach = torch.sqrt((2 * torch.log(opacities / rules.alpha_min)).clamp(min=0))
    a, b, c = splats.conics.unbind(-1)
    det = a * c - b * b
    extent = reach[:, None] * torch.sqrt(torch.stack([c, a], -1) / det[:, None])
    low = ((splats.centers - extent) / TILE).floor().long()
    high = ((splats.centers + extent) / TILE).floor().long()
    limits = torch.tensor([columns - 1, rows - 1])
    inside = (high >= 0).all(-1) & (low <= limits).all(-1) & splats.drawn & (reach > 0)
    low, high = low.clamp(min=0).minimum(limits), high.clamp(min=0).minimum(limits)
    spans = (high - low + 1) * inside[:, None]
    counts = spans[:, 0] * spans[:, 1]
    order = torch.argsort(splats.depths, stable=True)
    members = torch.repeat_interleave(order, counts[order])
    first = torch.cumsum(counts[order], 0) - counts[order]
    within = torch.arange(len(members)) - torch.repeat_interleave(first, counts[order])
    x = low[members, 0] + within % spans[members, 0]
    y = low[members, 1] + within // spans[members, 0]
    tiles, by_tile = torch.sort(y * columns + x, stable=True)
    return tiles, members[by_tile]


class Animation:
    """Blendshapes as one dense product and linear blend skinning by einsum, as most code has it."""

    def __init__(self, avatar: Avatar):
        """Unpack `avatar` into dense float32 tensors."""
        count = len(avatar)
        self.rest = [
            torch.from_numpy(a)
            for a in (
                avatar.gaussians.means,
                avatar.gaussians.quats,
                avatar.gaussians.scales,
                avatar.gaussians.opacities,
                avatar.gaussians.features,
            )
        ]
        self.means = torch.from_numpy(avatar.expression_means.to_dense(count)).flatten(1)
        frames = avatar.expression_frames
        self.frames = None if frames is None else torch.from_numpy(frames.to_dense(count)).flatten(1)
        self.joints = torch.from_numpy(avatar.skin_joints).long()
        self.weights = torch.from_numpy(avatar.skin_weights)

    def pose(self, weights: Tensor, transforms: Tensor) -> list[Tensor]:
        """Means, quats, scales, opacities and features under (E,) weights and (J, 4, 4) transforms."""
        means, quats, scales, opacities, features = self.rest
        means = means + (weights @ self.means).view(-1, 3)
        if self.frames is not None:
            change = (weights @ self.frames).view(-1, 6)
            turn = torch.from_numpy(axis_angle_to_quat(change[:, :3].numpy())).to(quats.dtype)
            quats = _multiply(turn, quats)
            scales = scales * torch.exp(change[:, 3:])
        blended = torch.einsum("nk,nkij->nij", self.weights, transforms[self.joints])
        means = torch.einsum("nij,nj->ni", blended[:, :3, :3], means) + blended[:, :3, 3]
        turns = torch.from_numpy(matrix_to_quat(transforms[:, :3, :3].numpy())).to(quats.dtype)
        # With the small turns of a head all joints' quaternions have the same sign.
        turn = torch.einsum("nk,nkq->nq", self.weights, turns[self.joints])
        return [means, _multiply(turn / turn.norm(dim=1, keepdim=True), quats), scales, opacities, features]


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )
