"""From lifted pieces to an avatar: rest Gaussians, what expressions do to them, skin weights."""

from __future__ import annotations

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.gaussians import Gaussians, matrix_to_quat
from headsplat.head.model import HeadModel
from headsplat.methods.lift.loose import Loose
from headsplat.methods.lift.numeric import splat_frames, unit
from headsplat.methods.lift.sampling import tangents
from headsplat.methods.lift.surface import Surface
from headsplat.methods.lift.view import View

LEAST_MOVE = 1.5e-4
"""Metres below which an expression's effect on a centre is not stored."""
LEAST_TURN = 0.10
"""Radians, and change of log size, below which its effect on orientation and size is not stored."""
VIEW_TARGET, VIEW_HEIGHT = (0.0, -0.012, 0.0), 0.46


def assemble(view: View, surface: Surface, loose: Loose) -> Avatar:
    """Join both kinds of Gaussians into an avatar at rest; the surface's come first."""
    model, frame = view.model, view.frame
    corners = view.rest[model.faces[surface.face]]
    t1, t2 = tangents(corners, surface.split)
    quats, scales, axes = splat_frames(t1, t2, 0.3, 6.0)
    means = (corners * surface.barycentric[..., None]).sum(1)
    loose_quats, loose_scales, _ = splat_frames(loose.t1, loose.t2, loose.thickness, 8.0)
    gaussians = Gaussians(
        np.concatenate([means, loose.means]).astype(np.float32),
        np.concatenate([quats, loose_quats]).astype(np.float32),
        np.concatenate([scales, loose_scales]).astype(np.float32),
        np.concatenate([surface.opacities, loose.opacities]).astype(np.float32),
        np.concatenate([surface.colours, loose.colours]).clip(0, 1).astype(np.float32),
    )
    joints, weights = _skin_weights(model, surface, loose)
    return Avatar(
        gaussians=gaussians,
        skin_joints=joints,
        skin_weights=weights,
        joints=tuple(model.joint_names),
        parents=np.asarray(model.parents, np.int32),
        joint_rest=view.joints.astype(np.float32),
        expressions=tuple(model.expression_names),
        expression_means=_expression_means(model, surface),
        expression_frames=_expression_frames(model, surface, corners, axes),
        seen=np.concatenate([surface.seen, loose.seen]).astype(np.float32),
        view_target=np.array(VIEW_TARGET, np.float32),
        view_height=VIEW_HEIGHT,
        method="lift",
        source=frame.source,
    )


def _skin_weights(model: HeadModel, surface: Surface, loose: Loose) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) joints and weights: the four strongest of each Gaussian."""
    on_mesh = (model.skin_weights[model.faces[surface.face]] * surface.barycentric[..., None]).sum(1)
    free = np.zeros((len(loose), len(model.joint_names)))
    free[:, [model.joint_names.index(name) for name in ("root", "neck", "head")]] = loose.weights
    full = np.concatenate([on_mesh, free])
    joints = np.argsort(-full, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(full, joints, 1)
    weights[weights < 1 / 512] = 0
    return joints.astype(np.uint8), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _expression_means(model: HeadModel, surface: Surface) -> SparseOffsets:
    starts, index, values = [0], [], []
    corners = model.faces[surface.face]
    for basis in model.expression_basis:
        near = np.flatnonzero((abs(basis).max(1) > LEAST_MOVE)[corners].any(1))
        move = (basis[corners[near]] * surface.barycentric[near][..., None]).sum(1)
        keep = abs(move).max(1) > LEAST_MOVE
        index.append(near[keep])
        values.append(move[keep])
        starts.append(starts[-1] + int(keep.sum()))
    return SparseOffsets(
        np.array(starts, np.int64),
        np.concatenate(index).astype(np.int32),
        np.concatenate(values).astype(np.float16),
    )


def _expression_frames(
    model: HeadModel, surface: Surface, corners: np.ndarray, axes: np.ndarray
) -> SparseOffsets:
    """Rotation vector and log-scale change of each Gaussian at weight 1, from how its triangle deforms."""
    used, first, inverse = np.unique(surface.face, return_index=True, return_inverse=True)
    corners, axes, faces = corners[first], axes[first], model.faces[used]
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], -1)
    # In the triangle's own axes the long and short axis are combinations of its two edges.
    solve = np.linalg.pinv(edges)
    long, short = (np.einsum("nij,nj->ni", solve, axes[..., k]) for k in (0, 1))
    # Gaussians of a face follow one another nowhere in particular: sort once to expand faces to Gaussians.
    order = np.argsort(inverse, kind="stable")
    counts = np.bincount(inverse, minlength=len(used))
    begins = np.concatenate([[0], np.cumsum(counts)])
    starts, index, values = [0], [], []
    for basis in model.expression_basis:
        touched = np.flatnonzero((abs(basis).max(1) > LEAST_MOVE)[faces].any(1))
        moved = corners[touched] + basis[faces[touched]]
        bent = np.stack([moved[:, 1] - moved[:, 0], moved[:, 2] - moved[:, 0]], -1)
        u = np.einsum("nij,nj->ni", bent, long[touched])
        v = np.einsum("nij,nj->ni", bent, short[touched])
        normal = unit(np.cross(bent[..., 0], bent[..., 1]))
        normal *= np.sign(
            (np.cross(edges[touched, :, 0], edges[touched, :, 1]) * axes[touched, :, 2]).sum(1)
        )[:, None]
        stretch = np.linalg.norm(u, axis=1)
        u = unit(u)
        side = np.cross(normal, u)
        now = np.stack([u, side, normal], -1)
        quats = matrix_to_quat(now @ axes[touched].transpose(0, 2, 1))
        turn = 2 * np.arctan2(np.linalg.norm(quats[:, 1:], axis=1), quats[:, 0])[:, None] * unit(quats[:, 1:])
        sizes = np.log(np.clip(np.stack([stretch, (v * side).sum(1), np.ones(len(u))], 1), 0.2, 5.0))
        change = np.concatenate([turn, sizes], 1)
        keep = abs(change).max(1) > LEAST_TURN
        rows = np.repeat(np.flatnonzero(keep), counts[touched[keep]])
        chosen = [order[begins[f] : begins[f + 1]] for f in touched[keep]]
        gaussians = np.concatenate(chosen) if chosen else np.zeros(0, int)
        ascending = np.argsort(gaussians, kind="stable")
        index.append(gaussians[ascending])
        values.append(change[rows][ascending])
        starts.append(starts[-1] + len(gaussians))
    return SparseOffsets(
        np.array(starts, np.int64),
        np.concatenate(index).astype(np.int32),
        np.concatenate(values).astype(np.float16),
    )
