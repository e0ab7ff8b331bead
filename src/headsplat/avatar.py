"""The avatar: rigged Gaussians that a few matrix operations animate; networks where a method needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headsplat.camera import LENS, Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import (
    Gaussians,
    axis_angle_to_matrix,
    axis_angle_to_quat,
    matrix_to_quat,
    quat_multiply,
)
from headsplat.networks import Network, deform


@dataclass(frozen=True)
class SparseOffsets:
    """Per-expression changes of some Gaussians, expression after expression.

    Attributes:
        starts: (E + 1,) int64; rows `starts[e]:starts[e + 1]` belong to expression e.
        index: (M,) int32 Gaussian of each row, ascending within an expression.
        values: (M, k) float32 (or float16) change at weight 1.
    """

    starts: np.ndarray
    index: np.ndarray
    values: np.ndarray

    @staticmethod
    def from_dense(dense: np.ndarray, threshold: float) -> SparseOffsets:
        """Keep the rows of (E, N, k) `dense` whose largest absolute value exceeds `threshold`."""
        keep = np.abs(dense).max(-1) > threshold
        starts = np.concatenate([[0], np.cumsum(keep.sum(1))]).astype(np.int64)
        _, index = np.nonzero(keep)
        return SparseOffsets(starts, index.astype(np.int32), dense[keep].astype(np.float32))

    def to_dense(self, count: int) -> np.ndarray:
        """(E, N, k) float32 with zeros where nothing is stored; N = `count`."""
        expressions = len(self.starts) - 1
        dense = np.zeros((expressions, count, self.values.shape[1]), np.float32)
        rows = np.repeat(np.arange(expressions), np.diff(self.starts))
        dense[rows, self.index] = self.values
        return dense

    def blend(self, weights: np.ndarray, count: int) -> np.ndarray:
        """(N, k) float32 sum over expressions of weight times change; zero weights cost nothing."""
        total = np.zeros((count, self.values.shape[1]), np.float32)
        for e in np.flatnonzero(weights):
            rows = slice(self.starts[e], self.starts[e + 1])
            # An expression names each Gaussian once, so plain fancy-index addition is safe.
            total[self.index[rows]] += np.float32(weights[e]) * self.values[rows].astype(np.float32)
        return total

    def subset(self, index: np.ndarray, count: int) -> SparseOffsets:
        """The changes of the Gaussians picked by ascending integer `index` out of `count`."""
        new = np.full(count, -1, np.int32)
        new[index] = np.arange(len(index), dtype=np.int32)
        keep = new[self.index] >= 0
        sums = np.concatenate([[0], np.cumsum(keep)])
        return SparseOffsets(sums[self.starts].astype(np.int64), new[self.index[keep]], self.values[keep])


@dataclass(frozen=True)
class Avatar:
    """Rigged Gaussians: the result of a reconstruction, and all that playback needs.

    N Gaussians, J joints, E expressions; docs/conventions.md gives axes and the animation formula.

    Attributes:
        gaussians: N Gaussians at rest (neutral expression, no joint rotated).
        skin_joints: (N, 4) uint8 joint indices.
        skin_weights: (N, 4) float32, each row sums to 1.
        joints: J names, parents before children; the first is the root.
        parents: (J,) parent index, -1 for the root.
        joint_rest: (J, 3) joint positions at rest, metres.
        expressions: E names.
        expression_means: change of means in metres, k = 3.
        expression_frames: change of orientation and size: rotation vector (3) and log-scale change (3).
        expression_appearance: change of features (C) and opacity (1), for wrinkles and the like.
        seen: (N,) 0..1, how much of each Gaussian the source actually showed.
        view_target: (3,) the point a camera should orbit, metres.
        view_height: metres shown from top to bottom by a portrait.
        method: the method that made it.
        source: SHA-256 of the source, or "".
        info: free, JSON-serialisable.
        deformer: network that changes the Gaussians of each pose between blendshapes and skin.
        refiner: network that turns a rendered feature image into a picture; without one features are RGB.
    """

    gaussians: Gaussians
    skin_joints: np.ndarray
    skin_weights: np.ndarray
    joints: tuple[str, ...]
    parents: np.ndarray
    joint_rest: np.ndarray
    expressions: tuple[str, ...]
    expression_means: SparseOffsets
    seen: np.ndarray
    view_target: np.ndarray
    view_height: float
    method: str
    expression_frames: SparseOffsets | None = None
    expression_appearance: SparseOffsets | None = None
    source: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    deformer: Network | None = None
    refiner: Network | None = None

    def __len__(self) -> int:
        return len(self.gaussians)

    def weights(self, expression: Mapping[str, float] | Sequence[float] | np.ndarray | None) -> np.ndarray:
        """(E,) float32 weights from names or from an array in the avatar's own order.

        Raises:
            HeadsplatError: an unknown name, a wrong length, or a weight that is not finite.
        """
        out = np.zeros(len(self.expressions), np.float32)
        if expression is None:
            return out
        if isinstance(expression, Mapping):
            for name, value in expression.items():
                if name not in self.expressions:
                    raise HeadsplatError(
                        f"There is no expression named {name!r}; `headsplat info` lists those of an avatar."
                    )
                out[self.expressions.index(name)] = value
        else:
            values = np.asarray(expression, np.float32)
            if values.shape != out.shape:
                raise HeadsplatError(
                    f"Expected {len(out)} expression weights, got an array of shape {values.shape}."
                )
            out[:] = values
        if not np.isfinite(out).all():
            raise HeadsplatError("An expression weight is not a finite number; check the motion.")
        return out

    def need_rig(self, what: str) -> Avatar:
        """Return self if it runs no network per frame, so that anybody can draw it.

        Args:
            what: who cannot run one, as the subject of a sentence.

        Raises:
            HeadsplatError: it has a deformer or a refiner.
        """
        for network in (self.deformer, self.refiner):
            if network is not None:
                raise HeadsplatError(
                    f"This avatar runs a network per frame ({network.kind}), and {what} cannot; bake it "
                    "first: headsplat bake A.avatar -o B.avatar."
                )
        return self

    def joint_transforms(
        self, rotations: Mapping[str, Any] | None = None, root: np.ndarray | None = None
    ) -> np.ndarray:
        """(J, 4, 4) float32 skinning matrices `T_world_rest` of each joint.

        Args:
            rotations: joint name to (3,) rotation vector in radians, relative to the parent.
            root: (4, 4) `T_world_root`, pose of the whole bust; default at rest.

        Raises:
            HeadsplatError: an unknown joint name.
        """
        rotations = rotations or {}
        for name in rotations:
            if name not in self.joints:
                raise HeadsplatError(
                    f"There is no joint named {name!r}; this avatar has {', '.join(self.joints)}."
                )
        world = np.zeros((len(self.joints), 4, 4))
        out = np.zeros_like(world)
        for j, name in enumerate(self.joints):
            local = np.eye(4)
            local[:3, :3] = axis_angle_to_matrix(np.asarray(rotations.get(name, (0.0, 0.0, 0.0)), np.float64))
            parent = self.parents[j]
            if parent < 0:
                local[:3, 3] = self.joint_rest[j]
                world[j] = local if root is None else np.asarray(root, np.float64) @ local
            else:
                local[:3, 3] = self.joint_rest[j] - self.joint_rest[parent]
                world[j] = world[parent] @ local
            out[j] = world[j]
            out[j, :3, 3] -= world[j, :3, :3] @ self.joint_rest[j]
        return out.astype(np.float32)

    def animate(
        self,
        expression: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
        rotations: Mapping[str, Any] | None = None,
        root: np.ndarray | None = None,
        camera: Camera | None = None,
    ) -> Gaussians:
        """The Gaussians in one pose: blendshapes, then linear blend skinning of centres and rotations.

        A deformer changes the Gaussians between the two.

        Args:
            expression: weights by name, or (E,) in the avatar's order.
            rotations: joint name to (3,) rotation vector in radians.
            root: (4, 4) `T_world_root`.
            camera: who looks, for deformers whose colours depend on it; default a camera in front.
        """
        w, moves = self.weights(expression), bool(rotations) or root is not None
        shaped = self._blend(w)
        if self.deformer is not None:
            eye = self.view_target + np.array([0, 0, LENS * self.view_height])
            eye = eye if camera is None else camera.position
            shaped = deform(self.deformer, shaped, w, self.joint_transforms(rotations, root), eye)
        if not moves:
            return shaped
        means, quats = self._skin(shaped.means, shaped.quats, self.joint_transforms(rotations, root))
        return Gaussians(means, quats, shaped.scales, shaped.opacities, shaped.features)

    def _blend(self, w: np.ndarray) -> Gaussians:
        """The Gaussians at rest with the changes of (E,) expression weights."""
        rest, n = self.gaussians, len(self)
        means = rest.means + self.expression_means.blend(w, n)
        quats, scales, features, opacities = rest.quats, rest.scales, rest.features, rest.opacities
        if self.expression_frames is not None and w.any():
            change = self.expression_frames.blend(w, n)
            moved = np.flatnonzero(change.any(1))
            quats, scales = quats.copy(), scales.copy()
            quats[moved] = quat_multiply(axis_angle_to_quat(change[moved, :3]), quats[moved])
            scales[moved] *= np.exp(change[moved, 3:])
        if self.expression_appearance is not None and w.any():
            change = self.expression_appearance.blend(w, n)
            features = features + change[:, :-1]
            if features.shape[1] == 3:
                features = np.clip(features, 0, 1)
            opacities = np.clip(opacities + change[:, -1], 0, 1)
        return Gaussians(means, quats, scales, opacities, features)

    def _skin(
        self, means: np.ndarray, quats: np.ndarray, transforms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        blended = np.einsum("nk,nkij->nij", self.skin_weights, transforms[self.skin_joints, :3])
        joint_quats = matrix_to_quat(transforms[:, :3, :3])[self.skin_joints]
        # q and -q are one rotation: align the signs with the first joint's before averaging.
        signs = np.where((joint_quats * joint_quats[:, :1]).sum(-1) < 0, -1.0, 1.0)
        turn = ((self.skin_weights * signs)[..., None] * joint_quats).sum(1)
        turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        means = np.einsum("nij,nj->ni", blended[..., :3], means) + blended[..., 3]
        return means.astype(np.float32), quat_multiply(turn, quats).astype(np.float32)
