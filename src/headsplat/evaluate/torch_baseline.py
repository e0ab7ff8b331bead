"""What one would write in plain torch without a kernel: the baseline that benchmarks measure against.

Tiles of 16 x 16 pixels, all splats of a tile at once in dense tensors, gradients by autograd. It follows the
rules of docs/conventions.md but for closing pixels, which dense tensors gain nothing from.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.gaussians import Gaussians, matrix_to_quat
from headsplat.raster import reference
from headsplat.raster.rig_torch import multiply_quats, quats_of_vectors
from headsplat.raster.rules import THREE_DGS, Rules

TILE = 16

# Means, quats, scales, opacities and features; viewmat, K, width and height.
Arrays = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
View = tuple[Tensor, Tensor, int, int]


def arrays_of(cloud: Gaussians, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Arrays:
    """A numpy cloud as leaves that want gradients."""

    def leaf(array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=device, dtype=dtype, requires_grad=True)

    return (
        leaf(cloud.means),
        leaf(cloud.quats),
        leaf(cloud.scales),
        leaf(cloud.opacities),
        leaf(cloud.features),
    )


def view_of(camera: Camera, device: str = "cpu", dtype: torch.dtype = torch.float32) -> View:
    """A numpy camera as tensors."""
    viewmat, K = (torch.tensor(a, device=device, dtype=dtype) for a in (camera.viewmat, camera.K))
    return viewmat, K, camera.width, camera.height


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
        self.rest = arrays_of(avatar.gaussians)
        self.means = torch.from_numpy(avatar.expression_means.to_dense(count)).flatten(1)
        frames = avatar.expression_frames
        self.frames = None if frames is None else torch.from_numpy(frames.to_dense(count)).flatten(1)
        self.joints = torch.from_numpy(avatar.skin_joints.astype(np.int64))
        self.weights = torch.from_numpy(avatar.skin_weights)

    def to(self, device: str) -> None:
        """Move everything to `device`."""
        m, q, s, o, f = self.rest
        self.rest = (m.to(device), q.to(device), s.to(device), o.to(device), f.to(device))
        self.means, self.joints, self.weights = (
            t.to(device) for t in (self.means, self.joints, self.weights)
        )
        self.frames = None if self.frames is None else self.frames.to(device)

    def pose(self, weights: Tensor, transforms: Tensor) -> Arrays:
        """Means, quats, scales, opacities and features under (E,) weights and (J, 4, 4) transforms."""
        means, quats, scales, opacities, features = self.rest
        means = means + (weights @ self.means).view(-1, 3)
        if self.frames is not None:
            change = (weights @ self.frames).view(-1, 6)
            quats = multiply_quats(quats_of_vectors(change[:, :3]), quats)
            scales = scales * torch.exp(change[:, 3:])
        blended = torch.einsum("nk,nkij->nij", self.weights, transforms[self.joints])
        means = torch.einsum("nij,nj->ni", blended[:, :3, :3], means) + blended[:, :3, 3]
        turns = torch.from_numpy(matrix_to_quat(transforms[:, :3, :3].cpu().numpy())).to(quats)
        # With the small turns of a head all joints' quaternions have the same sign.
        turn = torch.einsum("nk,nkq->nq", self.weights, turns[self.joints])
        return (
            means,
            multiply_quats(turn / turn.norm(dim=1, keepdim=True), quats),
            scales,
            opacities,
            features,
        )
