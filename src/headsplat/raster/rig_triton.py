"""The animation of an avatar as one Triton kernel: blendshapes, frames, looks and skinning in registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from headsplat.raster.rig_torch import Cloud, Poses, TorchRig

BLOCK = 128


def animate(rig: TorchRig, poses: Poses, out: Cloud | None = None) -> Cloud:
    """See `rig_torch.animate`; writes into `out` if given (contiguous), so that a CUDA graph can hold it."""
    batch, count, channels = len(poses.weights), len(rig.means), rig.features.shape[1]
    if out is None:
        out = empty(rig, batch)
    means, quats, scales, opacities, features = out
    frames, looks = rig.frame_changes is not None, rig.look_changes is not None
    grid = (triton.cdiv(count, BLOCK), batch)
    _animate[grid](  # pyright: ignore[reportIndexIssue]
        rig.means,
        rig.quats,
        rig.scales,
        rig.opacities,
        rig.features,
        rig.skin_joints,
        rig.skin_weights,
        rig.mean_changes,
        rig.frame_changes if frames else rig.mean_changes,
        rig.look_changes if looks else rig.mean_changes,
        poses.weights if poses.weights.numel() else poses.matrices,  # the kernel reads one number at least
        poses.matrices,
        poses.turns,
        means,
        quats,
        scales,
        opacities,
        features,
        count,
        poses.weights.shape[1],
        rig.joints,
        CHANNELS=channels,
        FRAMES=frames,
        LOOKS=looks,
        BLOCK=BLOCK,
    )
    return out


def empty(rig: TorchRig, batch: int) -> Cloud:
    """Tensors for `batch` poses; what a rig without such tables never changes is a view of the rig's own."""

    def like(rest: torch.Tensor, changes: bool) -> torch.Tensor:
        return rest.new_empty(batch, *rest.shape) if changes else rest.expand(batch, *rest.shape)

    frames, looks = rig.frame_changes is not None, rig.look_changes is not None
    return (
        like(rig.means, True),
        like(rig.quats, True),
        like(rig.scales, frames),
        like(rig.opacities, looks),
        like(rig.features, looks),
    )


@triton.jit
def _animate(
    means,
    quats,
    scales,
    opacities,
    features,
    skin_joints,
    skin_weights,
    mean_changes,
    frame_changes,
    look_changes,
    weights,
    matrices,
    turns,
    out_means,
    out_quats,
    out_scales,
    out_opacities,
    out_features,
    count,
    expressions,
    joints,
    CHANNELS: tl.constexpr,
    FRAMES: tl.constexpr,
    LOOKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pose = tl.program_id(1)
    inside = i < count
    at = (pose * count + i).to(tl.int64)
    weights += pose * expressions

    x = tl.load(means + 3 * i, inside, 0.0)
    y = tl.load(means + 3 * i + 1, inside, 0.0)
    z = tl.load(means + 3 * i + 2, inside, 0.0)
    rx = tl.zeros([BLOCK], tl.float32)
    ry = tl.zeros([BLOCK], tl.float32)
    rz = tl.zeros([BLOCK], tl.float32)
    sx = tl.zeros([BLOCK], tl.float32)
    sy = tl.zeros([BLOCK], tl.float32)
    sz = tl.zeros([BLOCK], tl.float32)
    total = tl.abs(tl.load(weights)) * 0.0
    for e in range(expressions):
        w = tl.load(weights + e)
        total += tl.abs(w)
        if w != 0.0:
            row = mean_changes + e * 3 * count + i
            x += w * tl.load(row, inside, 0.0).to(tl.float32)
            y += w * tl.load(row + count, inside, 0.0).to(tl.float32)
            z += w * tl.load(row + 2 * count, inside, 0.0).to(tl.float32)
            if FRAMES:
                row = frame_changes + e * 6 * count + i
                rx += w * tl.load(row, inside, 0.0).to(tl.float32)
                ry += w * tl.load(row + count, inside, 0.0).to(tl.float32)
                rz += w * tl.load(row + 2 * count, inside, 0.0).to(tl.float32)
                sx += w * tl.load(row + 3 * count, inside, 0.0).to(tl.float32)
                sy += w * tl.load(row + 4 * count, inside, 0.0).to(tl.float32)
                sz += w * tl.load(row + 5 * count, inside, 0.0).to(tl.float32)

    qw = tl.load(quats + 4 * i, inside, 1.0)
    qx = tl.load(quats + 4 * i + 1, inside, 0.0)
    qy = tl.load(quats + 4 * i + 2, inside, 0.0)
    qz = tl.load(quats + 4 * i + 3, inside, 0.0)
    if FRAMES:
        angle = tl.sqrt(rx * rx + ry * ry + rz * rz)
        factor = tl.where(angle > 1e-6, tl.sin(0.5 * angle) / tl.maximum(angle, 1e-6), 0.5)
        qw, qx, qy, qz = _multiply(tl.cos(0.5 * angle), rx * factor, ry * factor, rz * factor, qw, qx, qy, qz)
        tl.store(out_scales + 3 * at, tl.load(scales + 3 * i, inside, 0.0) * tl.exp(sx), inside)
        tl.store(out_scales + 3 * at + 1, tl.load(scales + 3 * i + 1, inside, 0.0) * tl.exp(sy), inside)
        tl.store(out_scales + 3 * at + 2, tl.load(scales + 3 * i + 2, inside, 0.0) * tl.exp(sz), inside)

    if LOOKS:
        for c in tl.static_range(CHANNELS + 1):
            if c < CHANNELS:
                value = tl.load(features + CHANNELS * i + c, inside, 0.0)
            else:
                value = tl.load(opacities + i, inside, 0.0)
            changed = value
            for e in range(expressions):
                w = tl.load(weights + e)
                if w != 0.0:
                    row = look_changes + (e * (CHANNELS + 1) + c) * count + i
                    changed += w * tl.load(row, inside, 0.0).to(tl.float32)
            if CHANNELS == 3 or c == CHANNELS:  # colours and opacity, but not other features
                changed = tl.minimum(tl.maximum(changed, 0.0), 1.0)
            value = tl.where(total > 0.0, changed, value)
            if c < CHANNELS:
                tl.store(out_features + CHANNELS * at + c, value, inside)
            else:
                tl.store(out_opacities + at, value, inside)

    # Rows of the blended matrix applied as they are summed; quaternions with the sign of the first joint's.
    nx = tl.zeros([BLOCK], tl.float32)
    ny = tl.zeros([BLOCK], tl.float32)
    nz = tl.zeros([BLOCK], tl.float32)
    tw = tl.zeros([BLOCK], tl.float32)
    tx = tl.zeros([BLOCK], tl.float32)
    ty = tl.zeros([BLOCK], tl.float32)
    tz = tl.zeros([BLOCK], tl.float32)
    q = turns + 4 * (pose * joints + tl.load(skin_joints + 4 * i, inside, 0))
    fw, fx, fy, fz = tl.load(q), tl.load(q + 1), tl.load(q + 2), tl.load(q + 3)
    for k in tl.static_range(4):
        joint = pose * joints + tl.load(skin_joints + 4 * i + k, inside, 0)
        w = tl.load(skin_weights + 4 * i + k, inside, 0.0)
        m = matrices + 12 * joint
        nx += w * (tl.load(m) * x + tl.load(m + 1) * y + tl.load(m + 2) * z + tl.load(m + 3))
        ny += w * (tl.load(m + 4) * x + tl.load(m + 5) * y + tl.load(m + 6) * z + tl.load(m + 7))
        nz += w * (tl.load(m + 8) * x + tl.load(m + 9) * y + tl.load(m + 10) * z + tl.load(m + 11))
        q = turns + 4 * joint
        gw, gx, gy, gz = tl.load(q), tl.load(q + 1), tl.load(q + 2), tl.load(q + 3)
        w = tl.where(gw * fw + gx * fx + gy * fy + gz * fz < 0, -w, w)
        tw += w * gw
        tx += w * gx
        ty += w * gy
        tz += w * gz
    qw, qx, qy, qz = _multiply(tw, tx, ty, tz, qw, qx, qy, qz)
    tl.store(out_means + 3 * at, nx, inside)
    tl.store(out_means + 3 * at + 1, ny, inside)
    tl.store(out_means + 3 * at + 2, nz, inside)
    tl.store(out_quats + 4 * at, qw, inside)
    tl.store(out_quats + 4 * at + 1, qx, inside)
    tl.store(out_quats + 4 * at + 2, qy, inside)
    tl.store(out_quats + 4 * at + 3, qz, inside)


@triton.jit
def _multiply(aw, ax, ay, az, bw, bx, by, bz):
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
