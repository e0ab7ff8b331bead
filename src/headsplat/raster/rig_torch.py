"""Animate a rigged avatar in torch: many poses at once, on the CPU or, as one fused kernel, on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.gaussians import matrix_to_quat
from headsplat.raster.rig import Offsets, Rigged


@dataclass(frozen=True)
class TorchRig:
    """An avatar's tensors on one device; N Gaussians, J joints, E expressions, C channels.

    The tables are dense, for a GPU reads them in one sweep: half floats on CUDA, float32 elsewhere.

    Attributes:
        means: (N, 3).
        quats: (N, 4).
        scales: (N, 3).
        opacities: (N,).
        features: (N, C).
        skin_joints: (N, 4) int32.
        skin_weights: (N, 4).
        mean_changes: (E, 3, N).
        frame_changes: (E, 6, N) rotation vectors and log scales, or None.
        look_changes: (E, C + 1, N) features and opacity, or None.
        joints: J.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    features: Tensor
    skin_joints: Tensor
    skin_weights: Tensor
    mean_changes: Tensor
    frame_changes: Tensor | None
    look_changes: Tensor | None
    joints: int

    @staticmethod
    def of(avatar: Rigged, device: str | torch.device = "cpu") -> TorchRig:
        """Copy an avatar to `device`."""
        half = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        g, count = avatar.gaussians, len(avatar.gaussians)

        def table(offsets: Offsets | None) -> Tensor | None:
            if offsets is None:
                return None
            dense = torch.zeros(len(avatar.expressions), count, offsets.values.shape[1])
            rows = np.repeat(np.arange(len(avatar.expressions)), np.diff(offsets.starts))
            dense[torch.from_numpy(rows), torch.from_numpy(offsets.index).long()] = torch.from_numpy(
                offsets.values.astype(np.float32)
            )
            return dense.transpose(1, 2).to(device, half).contiguous()

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(array, np.float32)).to(device)

        mean_changes = table(avatar.expression_means)
        assert mean_changes is not None
        return TorchRig(
            tensor(g.means),
            tensor(g.quats),
            tensor(g.scales),
            tensor(g.opacities),
            tensor(g.features),
            torch.from_numpy(avatar.skin_joints.astype(np.int32)).to(device),
            tensor(avatar.skin_weights),
            mean_changes,
            table(avatar.expression_frames),
            table(avatar.expression_appearance),
            len(avatar.joint_rest),
        )


@dataclass(frozen=True)
class Poses:
    """B poses, ready for the device.

    Attributes:
        weights: (B, E).
        matrices: (B, J, 12) upper three rows of the joints' transforms, row-major.
        turns: (B, J, 4) their rotations as quaternions.
    """

    weights: Tensor
    matrices: Tensor
    turns: Tensor

    @staticmethod
    def of(weights: np.ndarray, transforms: np.ndarray, device: str | torch.device = "cpu") -> Poses:
        """From (B, E) weights and (B, J, 4, 4) transforms `T_world_rest`."""
        if weights.ndim != 2 or transforms.ndim != 4 or len(weights) != len(transforms):
            raise HeadsplatError(
                "Poses need weights (B, E) and transforms (B, J, 4, 4), "
                f"not {weights.shape} and {transforms.shape}."
            )
        upper = np.ascontiguousarray(transforms[:, :, :3], np.float32)
        turns = matrix_to_quat(upper[..., :3]).astype(np.float32)
        return Poses(
            torch.from_numpy(np.ascontiguousarray(weights, np.float32)).to(device, non_blocking=True),
            torch.from_numpy(upper.reshape(*upper.shape[:2], 12)).to(device, non_blocking=True),
            torch.from_numpy(turns).to(device, non_blocking=True),
        )


# Means, quats (not normalised), scales, opacities and features, each with a leading axis for the poses.
Cloud = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def animate(rig: TorchRig, poses: Poses) -> Cloud:
    """The Gaussians of every pose, by the formulas of docs/conventions.md; the fused kernel on CUDA.

    What no pose changes is returned as an expanded view of the rig's own tensor.
    """
    if rig.means.is_cuda:
        from headsplat.raster import rig_triton

        return rig_triton.animate(rig, poses)
    return animate_plain(rig, poses)


def animate_plain(rig: TorchRig, poses: Poses) -> Cloud:
    """`animate` in torch operations: the fallback, and what the fused kernel is tested against."""
    batch = len(poses.weights)
    means = rig.means + _blend(poses.weights, rig.mean_changes)
    quats, scales = rig.quats.expand(batch, -1, -1), rig.scales.expand(batch, -1, -1)
    if rig.frame_changes is not None:
        change = _blend(poses.weights, rig.frame_changes)
        quats = multiply_quats(quats_of_vectors(change[..., :3]), quats)
        scales = scales * torch.exp(change[..., 3:])
    features, opacities = rig.features.expand(batch, -1, -1), rig.opacities.expand(batch, -1)
    if rig.look_changes is not None:
        # Like Avatar.animate, a neutral pose leaves features alone even outside 0..1.
        moved = (poses.weights != 0).any(1)
        change = _blend(poses.weights, rig.look_changes)
        changed = features + change[..., :-1]
        if changed.shape[-1] == 3:
            changed = changed.clamp(0, 1)  # colours
        features = torch.where(moved[:, None, None], changed, features)
        opacities = torch.where(moved[:, None], (opacities + change[..., -1]).clamp(0, 1), opacities)

    first = poses.turns[:, rig.skin_joints[:, 0].long()]
    matrix = torch.zeros(batch, len(rig.means), 12, device=means.device)
    turn = torch.zeros(batch, len(rig.means), 4, device=means.device)
    for k in range(4):
        joint, weight = rig.skin_joints[:, k].long(), rig.skin_weights[:, k, None]
        matrix += weight * poses.matrices[:, joint]
        mine = poses.turns[:, joint]
        agree = torch.where((mine * first).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        turn += weight * agree * mine
    matrix = matrix.reshape(batch, -1, 3, 4)
    means = (matrix[..., :3] @ means[..., None])[..., 0] + matrix[..., 3]
    return means, multiply_quats(turn, quats), scales, opacities, features


def _blend(weights: Tensor, table: Tensor) -> Tensor:
    """(B, N, k) sums over expressions of (B, E) weights times a table (E, k, N)."""
    return torch.einsum("be,ekn->bnk", weights, table.to(weights.dtype))


def quats_of_vectors(vectors: Tensor) -> Tensor:
    """(..., 4) unit wxyz quaternions of (..., 3) rotation vectors."""
    angle = vectors.norm(dim=-1, keepdim=True)
    return torch.cat([torch.cos(angle / 2), vectors * 0.5 * torch.sinc(angle / (2 * torch.pi))], -1)


def multiply_quats(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of (..., 4) wxyz quaternions: first b, then a."""
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
