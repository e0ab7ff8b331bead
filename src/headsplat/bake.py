"""Bake an avatar that runs a network per frame into a rig: blendshapes that every renderer can draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians, quat_multiply, quat_to_axis_angle
from headsplat.motion import Motion, select
from headsplat.networks import baker
from headsplat.playback import portrait_camera
from headsplat.raster import rasterize
from headsplat.takes import take

LEAST_MOVE, LEAST_FRAME, LEAST_COLOUR = 1.2e-4, 0.06, 0.010
"""Changes below these (metres; radians and log size; colour and opacity) are not stored."""
TRUST = 0.5
"""How much an expression's own pure pose counts in the fit, against 1 for a sampled pose."""
SAMPLES, HELD = 60, 24
"""Poses of a motion that are fitted to, and that are kept for judging."""
GREY = 0.38
_STIR = 0.1
"""Largest weight of a pose under which its face counts as resting."""
_SIZE = 256
_YAWS = (0.0, 25.0, -25.0)


@dataclass(frozen=True)
class BakeReport:
    """What baking lost, measured on held poses that the fit never saw, seen from the front and both sides.

    Attributes:
        psnr: dB between the pictures of the network and of the rig inside the head, mean over held poses.
        worst_psnr: dB of the worst held pose.
        neutral_psnr: dB at rest, from the same sides: what frozen view-dependent colours cost.
        plain_psnr: as `psnr` for the expressions taken one by one, without the fit to sampled poses.
        still_psnr: as `psnr` for a rig that never changes its expression: how much there was to get right.
        fitted: whether the fit was kept, because it is better than without.
        poses: how many poses were held.
        rows: stored changes of Gaussians, all expressions and kinds together.
    """

    psnr: float
    worst_psnr: float
    neutral_psnr: float
    plain_psnr: float
    still_psnr: float
    fitted: bool
    poses: int
    rows: int


def bake(
    avatar: Avatar,
    motion: Motion | None = None,
    *,
    yaws: Sequence[float] = (0.0,),
    progress: Callable[[float], None] | None = None,
) -> tuple[Avatar, BakeReport]:
    """Turn an avatar with a deformer into a rig avatar over its own expressions.

    The network is run at rest and at each expression alone. Means, rotations, log sizes, colours and
    opacities at weight 1 become the rig's changes. Then all changes are fitted once more, by least squares,
    to poses of a motion in which expressions come together; that is kept if held poses look nearer to the
    network's.

    Args:
        avatar: with a deformer; or with a refiner whose method can distil it, which then does all of this.
        motion: what to fit to and to judge by, such as that of the training recording; default the built-in
            takes.
        yaws: degrees from which colours are looked at; those that depend on the view become their mean.
        progress: called with 0..1.

    Returns:
        The rig avatar, and what was lost.

    Raises:
        HeadsplatError: there is nothing to bake, or a refiner, which no rig can replace.
    """
    if avatar.refiner is not None:
        distil = baker(avatar.refiner)
        if distil is not None:
            return distil(avatar, motion, progress)
        raise HeadsplatError(
            f"This avatar's pictures are painted by a network ({avatar.refiner.kind}), which Gaussians "
            "cannot replace; only avatars whose network moves Gaussians can be baked."
        )
    if avatar.deformer is None:
        raise HeadsplatError("This avatar runs no network; it can be used everywhere as it is.")
    tell = progress or (lambda _: None)
    poses = _poses(avatar, motion)
    held = poses[:: max(2, len(poses) // HELD)][:HELD]
    chosen = {id(pose) for pose in held}
    sampled = [pose for pose in poses if id(pose) not in chosen][:SAMPLES]

    rest = _seen_from(avatar, {}, yaws)
    count = len(avatar.expressions)
    work = count + len(sampled) + 4 * len(held)
    changes = np.zeros((count, len(rest), 10 + rest.features.shape[1]), np.float32)
    for e, name in enumerate(avatar.expressions):
        changes[e] = _change(rest, _seen_from(avatar, {name: 1.0}, yaws))
        tell(e / work)
    plain = _rig(avatar, rest, changes)
    correction = _corrected(avatar, rest, changes, sampled, yaws, lambda done: tell((count + done) / work))
    changes += correction
    fitted = _rig(avatar, rest, changes)
    still = _rig(avatar, rest, np.zeros_like(changes))

    done = work - 4 * len(held)
    truth = [_picture(avatar, pose, i) for i, pose in enumerate(held)]
    scores = {}
    for name, rig in (("plain", plain), ("fitted", fitted), ("still", still)):
        scores[name] = [_psnr(_picture(rig, pose, i), truth[i]) for i, pose in enumerate(held)]
        done += len(held)
        tell(done / work)
    better = bool(np.mean(scores["fitted"]) > np.mean(scores["plain"]))
    best, score = (fitted, scores["fitted"]) if better else (plain, scores["plain"])
    quiet = [_psnr(_picture(best, {}, i), _picture(avatar, {}, i)) for i in range(len(_YAWS))]
    tables = (best.expression_means, best.expression_frames, best.expression_appearance)
    report = BakeReport(
        psnr=round(float(np.mean(score)), 2),
        worst_psnr=round(float(np.min(score)), 2),
        neutral_psnr=round(float(np.mean(quiet)), 2),
        plain_psnr=round(float(np.mean(scores["plain"])), 2),
        still_psnr=round(float(np.mean(scores["still"])), 2),
        fitted=better,
        poses=len(held),
        rows=sum(len(table.index) for table in tables if table is not None),
    )
    tell(1.0)
    return replace(
        best, info={**avatar.info, "baked": {"from": avatar.deformer.kind, **asdict(report)}}
    ), report


def _poses(avatar: Avatar, motion: Motion | None) -> list[dict[str, Any]]:
    """Poses spread over a motion, or over the built-in takes; those at rest say nothing and are left out."""
    motions = [take(name) for name in ("speak", "range", "hello")] if motion is None else [motion]
    out = []
    for own in motions:
        own = select(own, avatar.expressions, avatar.joints)[0]
        moving = np.flatnonzero(own.weights.max(1, initial=0) > _STIR)
        pool = moving if len(moving) >= 8 else np.arange(len(own))
        wanted = min(len(pool), (SAMPLES + HELD) // len(motions))
        out += [own.pose(i) for i in pool[np.unique(np.linspace(0, len(pool) - 1, wanted).astype(int))]]
    return out


def _seen_from(avatar: Avatar, expression: dict[str, float], yaws: Sequence[float]) -> Gaussians:
    """The network's Gaussians at rest, their colours the mean over several directions."""
    seen = [
        avatar.animate(expression, camera=portrait_camera(avatar, np.radians(yaw), size=_SIZE))
        for yaw in yaws
    ]
    return replace(seen[0], features=np.mean([g.features for g in seen], 0).astype(np.float32))


def _change(rest: Gaussians, now: Gaussians) -> np.ndarray:
    """(N, 10 + C): shift (3), rotation vector (3), log size (3), features (C), opacity (1)."""
    inverse = rest.quats * np.array([1, -1, -1, -1], rest.quats.dtype)
    turn = quat_multiply(now.quats, inverse)
    turn = np.where(turn[:, :1] < 0, -turn, turn)
    size = np.log(np.maximum(now.scales, 1e-7)) - np.log(np.maximum(rest.scales, 1e-7))
    return np.concatenate(
        [
            now.means - rest.means,
            quat_to_axis_angle(turn),
            np.clip(size, -3, 3),
            now.features - rest.features,
            (now.opacities - rest.opacities)[:, None],
        ],
        1,
    ).astype(np.float32)


def _corrected(
    avatar: Avatar,
    rest: Gaussians,
    changes: np.ndarray,
    sampled: list[dict[str, Any]],
    yaws: Sequence[float],
    tell: Callable[[float], None],
) -> np.ndarray:
    """What to add to the expressions' changes (E, N, k) so that their sums meet the sampled poses.

    Ridge regression: X = (W^T W + t I)^-1 W^T (D - W B), where rows of W are the sampled weights, D the
    network's changes there and B the changes one by one.
    """
    weights = np.array([avatar.weights(pose["expression"]) for pose in sampled])
    moved = weights.any(1)
    solve = np.linalg.solve(weights.T @ weights + TRUST * np.eye(weights.shape[1]), weights.T)
    out = np.zeros_like(changes)
    flat, sums = changes.reshape(len(changes), -1), out.reshape(len(changes), -1)
    for i in np.flatnonzero(moved):
        pose = dict(zip(avatar.expressions, weights[i].tolist(), strict=True))
        left = _change(rest, _seen_from(avatar, pose, yaws)).ravel() - weights[i] @ flat
        for e in np.flatnonzero(np.abs(solve[:, i]) > 1e-6):
            sums[e] += np.float32(solve[e, i]) * left
        tell(float(i))
    out[~(weights > 0.02).any(0)] = 0  # an expression that never came keeps its own pose
    return out


def _rig(avatar: Avatar, rest: Gaussians, changes: np.ndarray) -> Avatar:
    """The avatar without its network: Gaussians at rest and sparse changes."""
    frames = SparseOffsets.from_dense(changes[..., 3:9], LEAST_FRAME)
    looks = SparseOffsets.from_dense(changes[..., 9:], LEAST_COLOUR)
    return replace(
        avatar,
        gaussians=rest,
        expression_means=SparseOffsets.from_dense(changes[..., :3], LEAST_MOVE),
        expression_frames=frames if len(frames.index) else None,
        expression_appearance=looks if len(looks.index) else None,
        deformer=None,
    )


def _picture(avatar: Avatar, pose: dict[str, Any], number: int) -> tuple[np.ndarray, np.ndarray]:
    camera = portrait_camera(avatar, np.radians(_YAWS[number % len(_YAWS)]), size=_SIZE)
    drawn = rasterize(avatar.animate(**pose, camera=camera), camera, background=GREY, depth=False)
    return drawn.image, drawn.alpha


def _psnr(drawn: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]) -> float:
    """Decibels where either picture shows something."""
    inside = np.maximum(drawn[1], truth[1]) > 0.02
    error = ((drawn[0] - truth[0]) ** 2).mean(-1)[inside].mean() if inside.any() else 0.0
    return float(-10 * np.log10(max(float(error), 1e-10)))
