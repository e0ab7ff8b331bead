"""The parametric head in three immutable stages: the model, one person's head, that head in a pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.head import lbs


@dataclass(frozen=True)
class HeadModel:
    """A statistical head: template + shape + expression (+ pose correctives), then linear blend skinning.

    V vertices, F triangles, S shape components, E expressions, J joints, U texture vertices. Metres, in the
    model's own rest frame: x subject's left, y up, z out of the face; the free head has its origin at its
    head joint.

    Attributes:
        template: (V, 3) float32.
        shape_basis: (S, V, 3) metres per sigma.
        shape_symmetric: (S,) bool, whether a component moves both sides alike (else it is antisymmetric).
        expression_basis: (E, V, 3) metres at weight 1.
        expression_names: E names.
        joint_template: (J, 3).
        joint_shape: (S, J, 3) metres per sigma.
        joint_names: J names, parents first.
        parents: (J,) int32, -1 for the root.
        skin_weights: (V, J), rows sum to 1.
        faces: (F, 3) int32, counter-clockwise from outside.
        uv: (U, 2) texture coordinates 0..1, v up.
        uv_faces: (F, 3) int32 into `uv`.
        face_part: (F,) uint8 into `part_names`.
        part_names: names of the parts.
        mirror: (V,) int32 vertex on the other side (an involution), or None when the model has no such map.
        landmark_faces: (468,) int32 triangle of each MediaPipe FaceMesh landmark, or None.
        landmark_barycentrics: (468, 3), or None.
        pose_basis: (9 (J - 1), V, 3) pose correctives on the entries of R_j - I, or None.
        joint_expression: (E, J, 3) how far the joints follow the expression (FLAME), or None for not at all.
    """

    template: np.ndarray
    shape_basis: np.ndarray
    shape_symmetric: np.ndarray
    expression_basis: np.ndarray
    expression_names: tuple[str, ...]
    joint_template: np.ndarray
    joint_shape: np.ndarray
    joint_names: tuple[str, ...]
    parents: np.ndarray
    skin_weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    face_part: np.ndarray
    part_names: tuple[str, ...]
    mirror: np.ndarray | None = None
    landmark_faces: np.ndarray | None = None
    landmark_barycentrics: np.ndarray | None = None
    pose_basis: np.ndarray | None = None
    joint_expression: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.template)

    def with_shape(self, betas: Sequence[float] | np.ndarray | None = None) -> ShapedHead:
        """One person's head at rest.

        Args:
            betas: (..., <= S) shape weights in sigmas; missing ones are 0. None = the template.

        Raises:
            HeadsplatError: more weights than the model has components.
        """
        betas = np.zeros(0, np.float32) if betas is None else np.asarray(betas, np.float32)
        count = betas.shape[-1]
        if count > len(self.shape_basis):
            raise HeadsplatError(
                f"Got {count} shape weights for a head with {len(self.shape_basis)} components; give fewer."
            )
        return ShapedHead(
            self,
            lbs.blend(self.template, self.shape_basis[:count], betas),
            lbs.blend(self.joint_template, self.joint_shape[:count], betas),
        )

    def expression_weights(
        self, expression: Mapping[str, float] | Sequence[float] | np.ndarray | None
    ) -> np.ndarray:
        """(..., E) float32 weights from names, or from an array in the model's own order.

        Raises:
            HeadsplatError: an unknown name or a wrong length.
        """
        weights = np.zeros(len(self.expression_names), np.float32)
        if expression is None:
            return weights
        if isinstance(expression, Mapping):
            for name, value in expression.items():
                weights[self._position(name, self.expression_names, "expression")] = value
            return weights
        array = np.asarray(expression, np.float32)
        if array.shape[-1] != len(weights):
            raise HeadsplatError(
                f"Expected {len(weights)} expression weights, got an array of shape {array.shape}."
            )
        return array

    def joint_rotations(self, rotations: Mapping[str, Any] | Sequence[Any] | np.ndarray | None) -> np.ndarray:
        """(..., J, 3) float32 rotation vectors from a mapping of joint names, or from an array.

        Raises:
            HeadsplatError: an unknown joint or a wrong shape.
        """
        vectors = np.zeros((len(self.joint_names), 3), np.float32)
        if rotations is None:
            return vectors
        if isinstance(rotations, Mapping):
            for name, value in rotations.items():
                vectors[self._position(name, self.joint_names, "joint")] = value
            return vectors
        array = np.asarray(rotations, np.float32)
        if array.shape[-2:] != vectors.shape:
            raise HeadsplatError(f"Expected joint rotations of shape {vectors.shape}, got {array.shape}.")
        return array

    def faces_of(self, *parts: str) -> np.ndarray:
        """Ascending indices of the faces of the named parts.

        Raises:
            HeadsplatError: an unknown part.
        """
        wanted = [self._position(part, self.part_names, "part") for part in parts]
        return np.flatnonzero(np.isin(self.face_part, wanted))

    def vertices_of(self, *parts: str) -> np.ndarray:
        """Ascending indices of the vertices that faces of the named parts use."""
        return np.unique(self.faces[self.faces_of(*parts)])

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """(..., 468, 3) positions of MediaPipe's face landmarks on (..., V, 3) `vertices`.

        Raises:
            HeadsplatError: the model carries no landmark embedding.
        """
        if self.landmark_faces is None or self.landmark_barycentrics is None:
            raise HeadsplatError(
                "This head model has no landmark embedding; use the free head, or load one with it."
            )
        corners = vertices[..., self.faces[self.landmark_faces], :]
        return (corners * self.landmark_barycentrics[..., None]).sum(-2)

    @staticmethod
    def _position(name: str, names: tuple[str, ...], kind: str) -> int:
        if name not in names:
            raise HeadsplatError(f"There is no {kind} named {name!r}; the head model has {', '.join(names)}.")
        return names.index(name)


@dataclass(frozen=True)
class ShapedHead:
    """One person's head at rest: no expression, no joint turned.

    Attributes:
        model: the model it came from.
        vertices: (..., V, 3) float32.
        joints: (..., J, 3) float32.
    """

    model: HeadModel
    vertices: np.ndarray
    joints: np.ndarray

    def with_pose(
        self,
        expression: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
        rotations: Mapping[str, Any] | Sequence[Any] | np.ndarray | None = None,
        T_world_root: np.ndarray | None = None,
    ) -> PosedHead:
        """The head with an expression, turned joints and a pose of the whole.

        Args:
            expression: weights by name, or (..., E).
            rotations: rotation vectors in radians relative to the parent, by joint name, or (..., J, 3).
            T_world_root: (..., 4, 4) pose of the whole head; default at rest.

        Raises:
            HeadsplatError: an unknown name or a wrong shape.
        """
        model = self.model
        weights = model.expression_weights(expression)
        matrices = lbs.axis_angle_to_matrix(model.joint_rotations(rotations))
        active = np.flatnonzero(weights.reshape(-1, weights.shape[-1]).any(0))
        vertices = lbs.blend(self.vertices, model.expression_basis[active], weights[..., active])
        joints = self.joints
        if model.joint_expression is not None:
            joints = lbs.blend(joints, model.joint_expression[active], weights[..., active])
        if model.pose_basis is not None:
            vertices = lbs.blend(vertices, model.pose_basis, lbs.pose_feature(matrices))
        root = None if T_world_root is None else np.asarray(T_world_root, np.float32)
        transforms = lbs.joint_transforms(matrices, joints, tuple(model.parents.tolist()), root)
        return PosedHead(model, lbs.skin(vertices, transforms, model.skin_weights), transforms)


@dataclass(frozen=True)
class PosedHead:
    """A head in a pose.

    Attributes:
        model: the model it came from.
        vertices: (..., V, 3) float32, world.
        transforms: (..., J, 4, 4) skinning matrices `T_world_rest`, from the person's rest pose to the world.
    """

    model: HeadModel
    vertices: np.ndarray
    transforms: np.ndarray

    def landmarks(self) -> np.ndarray:
        """(..., 468, 3) positions of MediaPipe's face landmarks, world."""
        return self.model.landmarks(self.vertices)
