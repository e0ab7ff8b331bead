"""An avatar to be compared with pictures: drawn in a posture, and how its points move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.raster import Render
from headsplat.raster.rig import RigRenderer
from headsplat.track import priors
from headsplat.track.points import FacePoints, face_points
from headsplat.track.torso import split_turn

_POINTS = 16_000
"""So many Gaussians at most stand for the surface; those hidden in a posture are left out there."""
_ON_HEAD = 0.95
_SOLID = 0.5
_TRUSTED = 0.5
"""Least `seen`: what was invented for the avatar says nothing about another picture."""


@dataclass(frozen=True)
class Posture:
    """How an avatar stands in a picture.

    Attributes:
        weights: (E,) expression weights in the avatar's order.
        rotations: (J, 3) rotation vectors in the avatar's order of joints, radians.
        T_world_root: (4, 4) pose of the bust.
        camera: of the picture.
    """

    weights: np.ndarray
    rotations: np.ndarray
    T_world_root: np.ndarray
    camera: Camera

    @staticmethod
    def named(
        avatar: Avatar,
        names: Sequence[str],
        expression: np.ndarray,
        joints: Sequence[str],
        rotations: np.ndarray,
        T_world_root: np.ndarray,
        camera: Camera,
    ) -> Posture:
        """A posture from weights (E',) and rotations (J', 3) in another order; missing ones are 0."""
        weights = dict(zip(names, np.asarray(expression), strict=True))
        turns = dict(zip(joints, np.asarray(rotations), strict=True))
        return Posture(
            np.array([weights.get(name, 0.0) for name in avatar.expressions], np.float32),
            np.array([turns.get(name, np.zeros(3)) for name in avatar.joints], np.float32),
            np.asarray(T_world_root, np.float32),
            camera,
        )

    def in_names(
        self,
        avatar: Avatar,
        names: Sequence[str],
        expression: np.ndarray,
        joints: Sequence[str],
        rotations: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights (E',) and rotations (J', 3) of this posture; the given ones where it has none."""
        weights = dict(zip(avatar.expressions, self.weights, strict=True))
        turns = dict(zip(avatar.joints, self.rotations, strict=True))
        return (
            np.array([weights.get(n, v) for n, v in zip(names, expression, strict=True)], np.float32),
            np.array([turns.get(n, v) for n, v in zip(joints, rotations, strict=True)], np.float32),
        )

    @staticmethod
    def of_frame(avatar: Avatar, frame: Frame) -> Posture:
        """The posture that a frame tracked with the free head describes."""
        from headsplat.head.free import load_free_head

        model = load_free_head()
        return Posture.named(
            avatar,
            model.expression_names,
            frame.expression,
            model.joint_names,
            frame.rotations,
            frame.T_world_root,
            frame.camera,
        )

    def to_frame(self, avatar: Avatar, frame: Frame) -> Frame:
        """The frame with this posture instead of its own; what the avatar cannot do stays as it was."""
        from headsplat.head.free import load_free_head

        model = load_free_head()
        expression, rotations = self.in_names(
            avatar, model.expression_names, frame.expression, model.joint_names, frame.rotations
        )
        return replace(
            frame,
            expression=expression,
            rotations=rotations,
            T_world_root=self.T_world_root,
            camera=self.camera,
        )


@dataclass(frozen=True)
class Points:
    """Points fixed to the head and how expressions move them; metres, the avatar's rest space.

    Attributes:
        rest: (P, 3) with no expression.
        moves: (X, P, 3) change at weight 1 of each of the fitted expressions.
    """

    rest: np.ndarray
    moves: np.ndarray

    def at(self, weights: np.ndarray) -> np.ndarray:
        """(P, 3) with the weights (X,) of the fitted expressions."""
        return self.rest + np.tensordot(weights.astype(self.moves.dtype), self.moves, 1)


class Likeness:
    """An avatar prepared once for being fitted to many pictures.

    Attributes:
        avatar: the avatar.
        fitted: (X,) numbers of the expressions that pictures can tell.
        surface: Gaussians of the head that the source of the avatar showed.
        landmarks: the detector's 468 points on this person, or None where the avatar does not say which head
            lies under it.
    """

    def __init__(self, avatar: Avatar):
        """Pack an avatar; it takes some 50 milliseconds at 80,000 Gaussians.

        Raises:
            HeadsplatError: an avatar without a head joint or without ARKit's expressions, or with a network.
        """
        known = face_points().names
        if "head" not in avatar.joints or not set(avatar.expressions) & set(known):
            raise HeadsplatError(
                "This avatar cannot be fitted to pictures: it needs a head joint and ARKit's expressions."
            )
        avatar.need_rig("the fit to pictures")
        self.avatar = avatar
        self.fitted = priors.fitted(avatar.expressions)
        self.surface = _surface(avatar, self.fitted)
        self.landmarks = _landmarks(avatar, self.fitted, face_points())
        self._renderer = RigRenderer(avatar)
        self._head = avatar.joints.index("head")

    def transforms(self, posture: Posture) -> np.ndarray:
        """(J, 4, 4) skinning matrices."""
        turns = dict(zip(self.avatar.joints, posture.rotations, strict=True))
        return self.avatar.joint_transforms(turns, posture.T_world_root)

    def head_in_camera(self, posture: Posture) -> tuple[np.ndarray, np.ndarray]:
        """(3, 3) rotation and (3,) translation from the head at rest to the camera."""
        both = np.asarray(posture.camera.viewmat, np.float64) @ self.transforms(posture)[self._head]
        return both[:3, :3], both[:3, 3]

    def draw(self, posture: Posture, camera: Camera, background: float) -> Render:
        """The avatar in a posture, seen by `camera`, over an even grey; with depth."""
        grey = np.full(3, background, np.float32)
        return self._renderer.render(
            posture.weights, self.transforms(posture), camera, background=grey, depth=True
        )

    def moved(
        self,
        posture: Posture,
        rotation: np.ndarray,
        translation: np.ndarray,
        weights: np.ndarray,
        still_camera: bool,
    ) -> Posture:
        """The posture with the head elsewhere; the bust keeps its direction and follows in place.

        Args:
            posture: where it stood.
            rotation: (3, 3) head to camera.
            translation: (3,) metres.
            weights: (X,) of the fitted expressions.
            still_camera: move the bust; otherwise the camera moves and the bust stays.
        """
        avatar, names = self.avatar, list(self.avatar.joints)
        viewmat = np.asarray(posture.camera.viewmat, np.float64)
        rotations = posture.rotations.copy()
        if "neck" in names:
            bust = (viewmat @ posture.T_world_root)[:3, :3]
            joints = avatar.joint_rest.astype(np.float64)
            root_in_camera, neck, head = split_turn(rotation, translation, joints, names, bust)
            rotations[names.index("neck")], rotations[names.index("head")] = neck, head
        else:
            measured = np.eye(4)
            measured[:3, :3], measured[:3, 3] = rotation, translation
            skin = np.linalg.inv(posture.T_world_root) @ self.transforms(posture)[self._head]
            root_in_camera = measured @ np.linalg.inv(skin)
        every = posture.weights.copy()
        every[self.fitted] = weights
        if still_camera:
            root = (np.linalg.inv(viewmat) @ root_in_camera).astype(np.float32)
            return replace(posture, weights=every, rotations=rotations, T_world_root=root)
        viewmat = root_in_camera @ np.linalg.inv(posture.T_world_root.astype(np.float64))
        camera = replace(posture.camera, viewmat=viewmat.astype(np.float32))
        return replace(posture, weights=every, rotations=rotations, camera=camera)


def jacobian(
    points: Points,
    chosen: np.ndarray,
    rotation: np.ndarray,
    camera: np.ndarray,
    focals: np.ndarray,
    head: np.ndarray,
) -> np.ndarray:
    """(M, 2, 6 + X) derivative of the pixels of M points by the head's turn, its place and the expressions.

    Args:
        points: P points.
        chosen: (M,) which of them.
        rotation: (3, 3) head to camera.
        camera: (M, 3) the points in the camera, metres.
        focals: (2,) pixels; a window shrunk to whole pixels has two.
        head: (3,) the head's origin in the camera; the turn (3, applied from the left) is about it.
    """
    x, y, z = camera.T
    by_camera = np.zeros((len(x), 2, 3))
    for axis, across in enumerate((x, y)):
        by_camera[:, axis, axis] = focals[axis] / z
        by_camera[:, axis, 2] = -focals[axis] * across / z**2
    out = np.empty((len(x), 2, 6 + len(points.moves)), np.float32)
    # A point q from the head's origin moves by w x q, so a row r of by_camera changes by (q x r) . w.
    out[:, :, :3] = np.cross((camera - head)[:, None], by_camera)
    out[:, :, 3:6] = by_camera
    out[:, :, 6:] = (by_camera @ rotation).astype(np.float32) @ points.moves[:, chosen].transpose(1, 2, 0)
    return out


def _surface(avatar: Avatar, fitted: np.ndarray) -> Points:
    """Seen, solid Gaussians that are rigid with the skull but for expressions."""
    parts = [j for j, name in enumerate(avatar.joints) if name in ("head", "jaw")]
    on_head = (avatar.skin_weights * np.isin(avatar.skin_joints, parts)).sum(1)
    usable = (on_head > _ON_HEAD) & (avatar.seen > _TRUSTED) & (avatar.gaussians.opacities > _SOLID)
    index = np.flatnonzero(usable)
    if len(index) > _POINTS:
        index = np.sort(np.random.default_rng(0).choice(index, _POINTS, replace=False))
    offsets = avatar.expression_means.subset(index, len(avatar))
    return Points(avatar.gaussians.means[index], offsets.to_dense(len(index))[fitted])


def _landmarks(avatar: Avatar, fitted: np.ndarray, points: FacePoints) -> Points | None:
    head = avatar.info.get("head", {})
    if not isinstance(head, dict) or head.get("model") != "free":
        return None
    shape = np.asarray(head.get("shape", []), np.float64)[: len(points.shape)]
    moves = np.zeros((len(fitted), *points.base.shape))
    for i, e in enumerate(fitted):
        if avatar.expressions[e] in points.names:
            moves[i] = points.expression[points.names.index(avatar.expressions[e])]
    return Points(points.base + np.tensordot(shape, points.shape[: len(shape)], 1), moves)
