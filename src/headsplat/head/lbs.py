"""FLAME's maths, blendshapes then linear blend skinning, for NumPy arrays and torch tensors alike.

V vertices, J joints, B blendshapes; leading axes (...) are batch axes. `weights[v, j]` are skinning weights
and sum to 1 over j. Angles in radians, lengths in metres. Every function takes arrays of one library and
returns the same, and torch gradients flow through all of them. Li et al., "Learning a model of facial shape
and expression from 4D scans" (2017); Loper et al., "SMPL" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def namespace(array: Any) -> Any:
    """The library that `array` belongs to: the numpy or the torch module."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def axis_angle_to_matrix(rotations: Any) -> Any:
    """(..., 3) rotation vectors to (..., 3, 3) matrices (Rodrigues), differentiable at zero too."""
    xp = namespace(rotations)
    squared = (rotations * rotations).sum(-1)[..., None, None]
    # Below this the series is exact to the last float32 digit; the root of the larger branch stays off zero.
    small = squared < 1e-6
    safe = xp.where(small, xp.ones_like(squared), squared)
    angle = xp.sqrt(safe)
    sine = xp.where(small, 1 - squared / 6, xp.sin(angle) / angle)
    cosine = xp.where(small, 0.5 - squared / 24, (1 - xp.cos(angle)) / safe)
    x, y, z = rotations[..., 0], rotations[..., 1], rotations[..., 2]
    zero = xp.zeros_like(x)
    rows = [xp.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    cross = xp.stack(rows, -2)
    identity = xp.zeros_like(cross) + _eye(3, cross)
    return identity + sine * cross + cosine * (cross @ cross)


def blend(template: Any, basis: Any, weights: Any) -> Any:
    """(..., V, 3): (..., V, 3) `template` plus the sum over b of (..., B) weights times (B, V, 3) basis."""
    flat = basis.reshape(basis.shape[0], basis.shape[1] * basis.shape[2])
    return template + (weights @ flat).reshape(*weights.shape[:-1], *basis.shape[1:])


def pose_feature(matrices: Any) -> Any:
    """(..., 9 (J - 1)) entries of R_j - I of all joints but the root: they drive FLAME's pose correctives."""
    change = matrices[..., 1:, :, :] - _eye(3, matrices)
    return change.reshape(*change.shape[:-3], -1)


def joint_transforms(matrices: Any, joints: Any, parents: Sequence[int], T_world_root: Any = None) -> Any:
    """Skinning matrices `T_world_rest` of every joint.

    Args:
        matrices: (..., J, 3, 3) rotations relative to the parent, each about its own joint.
        joints: (..., J, 3) joint positions at rest.
        parents: J parent indices, -1 for the root; parents come first.
        T_world_root: (..., 4, 4) pose of the whole head, applied last; default identity.

    Returns:
        (..., J, 4, 4): where joint j carries a point that is attached to it at rest.
    """
    xp = namespace(matrices)
    rotations: list[Any] = []
    origins: list[Any] = []
    for j, parent in enumerate(parents):
        local, rest = matrices[..., j, :, :], joints[..., j, :]
        if parent < 0:
            if T_world_root is not None:
                turn, shift = T_world_root[..., :3, :3], T_world_root[..., :3, 3]
                rest = _apply(turn, rest) + shift
                local = turn @ local
            rotations.append(local)
            # Adding zeros gives every origin the full batch shape.
            origins.append(rest + xp.zeros_like(local[..., 0]))
        else:
            offset = _apply(rotations[parent], rest - joints[..., parent, :])
            rotations.append(rotations[parent] @ local)
            origins.append(origins[parent] + offset)
    turns = xp.stack(rotations, -3)
    shifts = xp.stack(origins, -2) - _apply(turns, joints + xp.zeros_like(turns[..., 0]))
    top = xp.concatenate([turns, shifts[..., None]], -1)
    last = xp.zeros_like(top[..., :1, :]) + _eye(4, top)[3:]
    return xp.concatenate([top, last], -2)


def skin(vertices: Any, transforms: Any, weights: Any) -> Any:
    """Linear blend skinning: (..., V, 3) vertices moved by (..., J, 4, 4) transforms with (V, J) weights."""
    matrices = transforms[..., :3, :]
    flat = matrices.reshape(*matrices.shape[:-3], matrices.shape[-3], 12)
    blended = (weights @ flat).reshape(*flat.shape[:-2], weights.shape[0], 3, 4)
    return _apply(blended[..., :3], vertices) + blended[..., 3]


def _apply(matrices: Any, vectors: Any) -> Any:
    return (matrices * vectors[..., None, :]).sum(-1)


def _eye(size: int, like: Any) -> Any:
    if isinstance(like, np.ndarray):
        return np.eye(size, dtype=like.dtype)
    import torch

    return torch.eye(size, dtype=like.dtype, device=like.device)
