"""Motion: what drives an avatar over time, whatever it came from (ARKit, FLAME, a video, a webcam)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.gaussians import (
    axis_angle_to_quat,
    matrix_to_quat,
    quat_multiply,
    quat_to_axis_angle,
    quat_to_matrix,
)

NECK_SHARE = 0.35
"""How much of a head's turn the neck joint takes; the head joint takes the rest."""


@dataclass(frozen=True)
class Motion:
    """T frames of expression weights and joint rotations.

    Attributes:
        weights: (T, E) expression weights, normally 0..1.
        expressions: E names, ARKit's for the free head.
        rotations: (T, J, 3) joint rotation vectors, radians, each relative to its parent joint.
        joints: J names, such as "neck", "head", "left_eye", "right_eye".
        fps: frames per second.
        root: (T, 4, 4) `T_world_root`, the pose of the whole bust; None = at rest.
    """

    weights: np.ndarray
    expressions: tuple[str, ...]
    rotations: np.ndarray
    joints: tuple[str, ...]
    fps: float
    root: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self.fps

    def pose(self, frame: int) -> dict[str, Any]:
        """The keyword arguments of `Avatar.animate` for one frame: expression, rotations and root."""
        return {
            "expression": dict(zip(self.expressions, self.weights[frame].tolist(), strict=True)),
            "rotations": dict(zip(self.joints, self.rotations[frame], strict=True)),
            "root": None if self.root is None else self.root[frame],
        }

    def poses(self) -> Iterator[dict[str, Any]]:
        """`pose` of each frame in turn."""
        return (self.pose(frame) for frame in range(len(self)))

    def check(self, name: str = "The motion") -> Motion:
        """Return self if it has frames, its shapes agree and every number is finite.

        Raises:
            HeadsplatError: saying what is wrong.
        """
        count = len(self)
        shapes = {
            "weights": (self.weights.shape, (count, len(self.expressions))),
            "rotations": (self.rotations.shape, (count, len(self.joints), 3)),
            "root": ((count, 4, 4) if self.root is None else self.root.shape, (count, 4, 4)),
        }
        if count == 0 or not (0 < self.fps < 1e4):
            raise HeadsplatError(f"{name} has no frames or no frame rate; give one that has.")
        for field, (shape, wanted) in shapes.items():
            value = getattr(self, field)
            if shape != wanted:
                raise HeadsplatError(f"{name} has {field} of shape {shape}, not {wanted}; it is damaged.")
            if value is not None and not np.isfinite(value).all():
                raise HeadsplatError(f"{name} has {field} that are not finite numbers; clean it first.")
        return self


def resample(motion: Motion, fps: float) -> Motion:
    """The same motion at another frame rate; weights change linearly, rotations along the shortest arc."""
    count = max(1, round(len(motion) * fps / motion.fps))
    at = np.minimum(np.arange(count) * motion.fps / fps, len(motion) - 1)
    return interpolate(motion, at, fps)


def interpolate(motion: Motion, at: np.ndarray, fps: float) -> Motion:
    """The frames at (T',) fractional frame numbers `at`, each in 0..T-1, as a motion of rate `fps`."""
    low = np.clip(np.floor(at).astype(int), 0, max(len(motion) - 2, 0))
    high = np.minimum(low + 1, len(motion) - 1)
    t = (at - low)[:, None]
    quats = axis_angle_to_quat(motion.rotations.astype(np.float64))
    rotations = quat_to_axis_angle(_lerp_quats(quats[low], quats[high], t[..., None]))
    root = None
    if motion.root is not None:
        turns = matrix_to_quat(motion.root[:, :3, :3].astype(np.float64))
        moves = motion.root[:, :3, 3]
        root = _rigid(_lerp_quats(turns[low], turns[high], t), moves[low] * (1 - t) + moves[high] * t)
    weights = motion.weights[low] * (1 - t) + motion.weights[high] * t
    return replace(
        motion,
        weights=weights.astype(np.float32),
        rotations=rotations.astype(np.float32),
        root=root,
        fps=fps,
    )


def smooth(motion: Motion, seconds: float = 0.05) -> Motion:
    """Take out jitter with a Gaussian in time, without delay.

    Args:
        motion: what to smooth.
        seconds: standard deviation of the Gaussian; blinks survive up to about 0.05.
    """
    sigma = seconds * motion.fps
    radius = int(np.ceil(3 * sigma))
    if radius == 0 or len(motion) == 1:
        return motion
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()

    def blur(values: np.ndarray) -> np.ndarray:
        padded = np.concatenate([values[:1].repeat(radius, 0), values, values[-1:].repeat(radius, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
        return windows @ kernel

    quats = _same_side(axis_angle_to_quat(motion.rotations.astype(np.float64)))
    root = None
    if motion.root is not None:
        turns = _same_side(matrix_to_quat(motion.root[:, :3, :3].astype(np.float64)))
        root = _rigid(_normalise(blur(turns)), blur(motion.root[:, :3, 3].astype(np.float64)))
    return replace(
        motion,
        weights=blur(motion.weights.astype(np.float64)).astype(np.float32),
        rotations=quat_to_axis_angle(_normalise(blur(quats))).astype(np.float32),
        root=root,
    )


REGIONS: Mapping[str, tuple[str, ...]] = {
    "brows": ("brow",),
    "lids": ("eyeBlink", "eyeSquint", "eyeWide"),
    "gaze": ("eyeLook", "left_eye", "right_eye"),
    "cheeks": ("cheek",),
    "nose": ("nose",),
    "jaw": ("jaw",),
    "mouth": ("mouth",),
    "tongue": ("tongue",),
    "head": ("root", "neck", "head"),
}
"""Region -> how the names of its expressions and joints begin."""


@dataclass(frozen=True)
class Neutral:
    """What a driver's face reads at rest: taken away by `retarget`.

    Attributes:
        weights: (E,) expression weights.
        rotations: (J, 3) joint rotation vectors, radians.
    """

    weights: np.ndarray
    rotations: np.ndarray


def neutral_of(motion: Motion, frame: int | None = None) -> Neutral:
    """The driver's neutral face: one frame of the motion, or estimated from all of it.

    The estimate takes each expression's 10th percentile (faces return to rest more often than they leave it)
    and each joint's median rotation.

    Args:
        motion: at least one frame.
        frame: number of a frame in which the driver was at rest.

    Raises:
        HeadsplatError: there is no such frame.
    """
    if frame is not None:
        if not 0 <= frame < len(motion):
            raise HeadsplatError(f"The motion has frames 0 to {len(motion) - 1}, there is no frame {frame}.")
        return Neutral(motion.weights[frame], motion.rotations[frame])
    return Neutral(np.quantile(motion.weights, 0.1, axis=0), np.median(motion.rotations, axis=0))


def retarget(
    motion: Motion, neutral: Neutral | None = None, gain: Mapping[str, float] | None = None
) -> Motion:
    """Fit a motion to another face: take the driver's neutral away, then scale each region.

    A weight w becomes max(0, w - n) / (1 - n), so that the neutral n becomes 0 and 1 stays 1; rotations
    become relative to the neutral ones.

    Args:
        motion: the driver's.
        neutral: the driver's face at rest (`neutral_of`); None takes nothing away.
        gain: region (a key of `REGIONS`) to factor; regions left out keep theirs.

    Raises:
        HeadsplatError: an unknown region.
    """
    weights, quats = motion.weights, axis_angle_to_quat(motion.rotations.astype(np.float64))
    if neutral is not None:
        weights = np.maximum(weights - neutral.weights, 0) / np.maximum(1 - neutral.weights, 0.1)
        inverse = axis_angle_to_quat(-np.asarray(neutral.rotations, np.float64))
        quats = quat_multiply(np.broadcast_to(inverse, quats.shape), quats)
    rotations = quat_to_axis_angle(quats)
    for region, factor in (gain or {}).items():
        if region not in REGIONS:
            raise HeadsplatError(f"There is no region {region!r}; there are {', '.join(REGIONS)}.")
        weights = weights * np.where(_starts(motion.expressions, REGIONS[region]), factor, 1.0)
        rotations = rotations * np.where(_starts(motion.joints, REGIONS[region]), factor, 1.0)[:, None]
    return replace(motion, weights=weights.astype(np.float32), rotations=rotations.astype(np.float32))


def split_head_turn(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share (..., 3) rotation vectors of the whole head between the neck joint and the head joint.

    Both turn about the same axis, so together they make exactly the given rotation.
    """
    return turns * NECK_SHARE, turns * (1 - NECK_SHARE)


def turn_of_angles(angles: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors of (..., 3) yaw, pitch and roll, radians.

    Yaw is about y, pitch then about the turned x, roll about the turned z.
    """
    about = np.asarray(angles, np.float64)[..., None] * np.eye(3)[[1, 0, 2]]
    y, x, z = np.moveaxis(axis_angle_to_quat(about), -2, 0)
    return quat_to_axis_angle(quat_multiply(quat_multiply(y, x), z))


def head_turn(motion: Motion) -> np.ndarray:
    """(T, 3) rotation vectors of the head against the bust: neck, then head."""
    total = np.broadcast_to([1.0, 0.0, 0.0, 0.0], (len(motion), 4))
    for joint in ("neck", "head"):
        if joint in motion.joints:
            rotation = motion.rotations[:, motion.joints.index(joint)].astype(np.float64)
            total = quat_multiply(total, axis_angle_to_quat(rotation))
    return quat_to_axis_angle(total)


def select(motion: Motion, expressions: Sequence[str], joints: Sequence[str]) -> tuple[Motion, list[str]]:
    """Keep what an avatar with these expressions and joints can do.

    Returns:
        The motion with only known names, and the unknown names that were not at rest all the time.

    Raises:
        HeadsplatError: the motion drives expressions, and the avatar has none of them.
    """
    known_e = [i for i, name in enumerate(motion.expressions) if name in expressions]
    known_j = [i for i, name in enumerate(motion.joints) if name in joints]
    lost = [
        n
        for n, w in zip(motion.expressions, motion.weights.T, strict=True)
        if n not in expressions and w.any()
    ]
    if lost and not known_e:
        raise HeadsplatError(
            f"The motion drives {lost[0]} and the like, which this avatar does not have; "
            "`headsplat info` lists its own."
        )
    turns = motion.rotations.transpose(1, 0, 2)
    lost += [n for n, r in zip(motion.joints, turns, strict=True) if n not in joints and r.any()]
    chosen = replace(
        motion,
        weights=motion.weights[:, known_e],
        expressions=tuple(motion.expressions[i] for i in known_e),
        rotations=motion.rotations[:, known_j],
        joints=tuple(motion.joints[i] for i in known_j),
    )
    return chosen, lost


def _starts(names: Sequence[str], beginnings: tuple[str, ...]) -> np.ndarray:
    return np.array([name.startswith(beginnings) for name in names], bool)


def _normalise(quats: np.ndarray) -> np.ndarray:
    return quats / np.linalg.norm(quats, axis=-1, keepdims=True)


def _lerp_quats(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    b = np.where((a * b).sum(-1, keepdims=True) < 0, -b, b)
    return _normalise(a * (1 - t) + b * t)


def _same_side(quats: np.ndarray) -> np.ndarray:
    """Choose between q and -q so that neighbours in time (axis 0) are on the same side."""
    flips = np.where((quats[1:] * quats[:-1]).sum(-1) < 0, -1.0, 1.0)
    signs = np.concatenate([np.ones_like(quats[:1, ..., 0]), np.cumprod(flips, 0)])
    return quats * signs[..., None]


def _rigid(quats: np.ndarray, moves: np.ndarray) -> np.ndarray:
    out = np.broadcast_to(np.eye(4, dtype=np.float32), (len(quats), 4, 4)).copy()
    out[:, :3, :3] = quat_to_matrix(quats)
    out[:, :3, 3] = moves
    return out
