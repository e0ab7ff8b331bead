"""Bake a GAGAvatar avatar into a rig: bind what was lifted to the head, distil the renderer into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.bake import BakeReport
from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.motion import Motion, select
from headsplat.playback import portrait_camera, shot
from headsplat.raster import rasterize
from headsplat.takes import take

NEAR, FAR = 0.006, 0.025
"""Metres from the head's surface up to which lifted Gaussians follow its face, and from which they do not."""
LEAST_MOVE = 1.2e-4
"""Metres below which an expression's effect on a centre is not stored."""
POSES, HELD, STEPS = 36, 12, 400
YAWS, PITCHES = (0.0, 20.0, -20.0, 10.0, -10.0), (0.0, 6.0, -6.0)
"""Directions to learn from and to judge by, degrees; farther ones the source did not show anyway."""
GREY = 0.38
_SIZE = 256


def bake(
    avatar: Avatar,
    motion: Motion | None = None,
    progress: Callable[[float], None] | None = None,
    *,
    steps: int | None = None,
) -> tuple[Avatar, BakeReport]:
    """Turn an avatar with a neural renderer into one that every renderer can draw.

    Lifted Gaussians keep their places and shapes. Those at the surface of the face take their nearest
    vertex's expressions and jaw; all take its share of skull, neck and torso. Then colours, opacities and
    sizes are fitted to the renderer's pictures of several expressions from several directions.

    Args:
        avatar: made by this method.
        motion: expressions to fit to and to judge by; default the built-in takes, where the avatar has their
            expressions.
        progress: called with 0..1.
        steps: of the fit; default `STEPS`.

    Returns:
        The rig avatar, and how near its pictures come to the renderer's on held poses.

    Raises:
        HeadsplatError: the avatar does not say which of its Gaussians are the head's, or the motion drives
            nothing that it has.
    """
    tell = progress or (lambda _: None)
    points = avatar.info.get("expression_points")
    if avatar.refiner is None or not isinstance(points, int) or not 0 < points <= len(avatar):
        raise HeadsplatError(
            "This avatar was not made by GAGAvatar, or its file is damaged; create it again."
        )
    poses = _poses(avatar, motion)
    held = poses[:: max(2, len(poses) // HELD)][:HELD]
    chosen = {id(p) for p in held}
    learned = [p for p in poses if id(p) not in chosen][:POSES]
    # Pictures that hold over black alone are matched on black.
    behind = GREY if avatar.refiner.config.get("matte") else 0.0
    truth = {id(p): _truth(avatar, p, behind) for p in [*held, *learned]}
    tell(0.3)
    bound = bind(avatar, points)
    count = STEPS if steps is None else steps
    best = distil(bound, learned, truth, behind, count, lambda done: tell(0.3 + 0.6 * done))
    plain, fitted, still = (_score(a, held, truth, behind) for a in (bound, best, _expressionless(best)))
    quiet = [(dict[str, float](), camera) for _, camera in held[:3]]
    neutral = _score(best, quiet, {id(p): _truth(avatar, p, behind) for p in quiet}, behind)
    report = BakeReport(
        psnr=round(float(np.mean(fitted)), 2),
        worst_psnr=round(float(np.min(fitted)), 2),
        neutral_psnr=round(float(np.mean(neutral)), 2),
        plain_psnr=round(float(np.mean(plain)), 2),
        still_psnr=round(float(np.mean(still)), 2),
        fitted=True,
        poses=len(held),
        rows=len(best.expression_means.index),
    )
    tell(1.0)
    return replace(best, info={**best.info, "baked": {"from": "gagavatar", **vars(report)}}), report


def bind(avatar: Avatar, points: int) -> Avatar:
    """The avatar without networks, its lifted Gaussians following the nearest vertex of the head.

    Args:
        avatar: made by this method; its first `points` Gaussians ride on the head's vertices.
        points: how many.
    """
    from scipy.spatial import KDTree

    means, count = avatar.gaussians.means, len(avatar)
    distance, nearest = KDTree(means[:points]).query(means[points:])
    t = np.clip((FAR - distance) / (FAR - NEAR), 0, 1)
    follow = np.concatenate([np.ones(points), t * t * (3 - 2 * t)]).astype(np.float32)
    guide = np.concatenate([np.arange(points), nearest])

    dense = np.zeros((count, len(avatar.joints)), np.float32)
    np.add.at(dense, (np.arange(points)[:, None], avatar.skin_joints[:points]), avatar.skin_weights[:points])
    dense = dense[guide]
    # What does not follow the face keeps to the trunk of the tree: jaw and eyes hand over to their parent.
    for j, name in enumerate(avatar.joints):
        if name in ("jaw", "left_eye", "right_eye"):
            left = dense[:, j] * (1 - follow)
            dense[:, j] -= left
            dense[:, avatar.parents[j]] += left
    joints = np.argsort(-dense, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(dense, joints, 1)

    starts, index, values = [0], [], []
    table = avatar.expression_means
    place = np.full(count, -1)
    for e in range(len(avatar.expressions)):
        rows = slice(table.starts[e], table.starts[e + 1])
        place[table.index[rows]] = np.arange(table.index[rows].size)
        of = place[guide]
        moved = np.flatnonzero(of >= 0)
        change = table.values[rows][of[moved]].astype(np.float32) * follow[moved, None]
        place[table.index[rows]] = -1
        keep = np.abs(change).max(1, initial=0) > LEAST_MOVE
        index.append(moved[keep].astype(np.int32))
        values.append(change[keep])
        starts.append(starts[-1] + int(keep.sum()))
    rest = avatar.gaussians
    return replace(
        avatar,
        gaussians=replace(rest, features=np.clip(rest.features[:, :3], 0, 1).astype(np.float32)),
        skin_joints=joints.astype(np.uint8),
        skin_weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        expression_means=SparseOffsets(
            np.array(starts, np.int64), np.concatenate(index), np.concatenate(values)
        ),
        expression_appearance=None,
        deformer=None,
        refiner=None,
    )


Pose = tuple[dict[str, float], Camera]


def distil(
    avatar: Avatar,
    poses: list[Pose],
    truth: dict[int, np.ndarray],
    behind: float,
    steps: int,
    tell: Callable[[float], None],
) -> Avatar:
    """Fit colours, opacities and sizes of a rig to pictures.

    Args:
        avatar: with RGB features.
        poses: expression weights by name, and the camera.
        truth: (H, W, 3) by the identity of the pose.
        behind: grey of their background, 0..1.
        steps: of Adam, one picture each.
        tell: told the share done.
    """
    rest = avatar.gaussians
    colours, opacities = (torch.from_numpy(_logit(a)) for a in (rest.features, rest.opacities))
    sizes = torch.zeros(len(rest), 3)
    learned = [colours, opacities, sizes]
    for tensor in learned:
        tensor.requires_grad_()
    optimizer = torch.optim.Adam([{"params": [x]} for x in learned], betas=(0.9, 0.99))
    scales = torch.from_numpy(rest.scales)
    rng = np.random.default_rng(0)
    for step in range(steps):
        pose = poses[int(rng.integers(len(poses)))]
        for group, rate in zip(optimizer.param_groups, (0.1, 0.05, 0.02), strict=True):
            group["lr"] = rate * (1 - 0.9 * step / steps)
        posed = avatar.animate(pose[0])
        cloud = Gaussians(
            torch.from_numpy(posed.means),
            torch.from_numpy(posed.quats),
            scales * sizes.clamp(-1, 1).exp(),
            opacities.sigmoid(),
            colours.sigmoid(),
        )
        drawn: Tensor = rasterize(cloud, pose[1], background=behind, depth=False).image
        optimizer.zero_grad(set_to_none=True)
        (drawn - torch.from_numpy(truth[id(pose)])).abs().mean().backward()
        optimizer.step()
        tell((step + 1) / steps)
    with torch.no_grad():
        fitted = Gaussians(
            rest.means,
            rest.quats,
            (scales * sizes.clamp(-1, 1).exp()).numpy(),
            opacities.sigmoid().numpy(),
            colours.sigmoid().numpy(),
        )
    return replace(avatar, gaussians=fitted)


def _poses(avatar: Avatar, motion: Motion | None) -> list[Pose]:
    """Expressions spread over a motion, each with a direction to look from; the head keeps still."""
    motions = [take(name) for name in ("speak", "range")] if motion is None else [motion]
    weights: list[dict[str, float]] = []
    for found in motions:
        if motion is None and not set(found.expressions) & set(avatar.expressions):
            weights.append({})  # FLAME's expressions have no built-in take
            continue
        chosen, _ = select(found, avatar.expressions, ())
        rows = [chosen.weights[i] for i in range(len(chosen))]
        weights += [dict(zip(chosen.expressions, map(float, row), strict=True)) for row in rows]
    spread = np.linspace(0, len(weights) - 1, POSES + HELD).round().astype(int)
    poses = []
    for i, at in enumerate(spread):
        yaw, pitch = YAWS[i % len(YAWS)], PITCHES[(i // len(YAWS)) % len(PITCHES)]
        camera = portrait_camera(avatar, np.radians(yaw), np.radians(pitch), size=_SIZE)
        poses.append((weights[at], camera))
    return poses


def _truth(avatar: Avatar, pose: Pose, behind: float) -> np.ndarray:
    return shot(avatar, pose[1], (behind, behind, behind), expression=pose[0]).astype(np.float32)


def _score(avatar: Avatar, poses: list[Pose], truth: dict[int, np.ndarray], behind: float) -> list[float]:
    """Decibels of each picture where something shows."""
    scores = []
    for pose in poses:
        drawn = rasterize(avatar.animate(pose[0]), pose[1], background=behind, depth=False)
        wanted = truth[id(pose)]
        inside = (np.abs(wanted - behind).max(-1) > 0.02) | (drawn.alpha > 0.5)
        error = ((np.clip(drawn.image, 0, 1) - wanted) ** 2).mean(-1)[inside].mean() if inside.any() else 0.0
        scores.append(float(-10 * np.log10(max(float(error), 1e-10))))
    return scores


def _expressionless(avatar: Avatar) -> Avatar:
    nothing: dict[str, Any] = {
        "starts": np.zeros(len(avatar.expressions) + 1, np.int64),
        "index": np.zeros(0, np.int32),
        "values": np.zeros((0, 3), np.float32),
    }
    return replace(avatar, expression_means=SparseOffsets(**nothing))


def _logit(values: np.ndarray) -> np.ndarray:
    inside = np.clip(values, 0.02, 0.98).astype(np.float32)
    return np.log(inside / (1 - inside))
