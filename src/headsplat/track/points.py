"""The face points of the head model: the few hundred vertices that landmarks are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel
from headsplat.track import landmarks as lm

SHAPES = 60
"""Identity components that are fitted; finer ones are not observable in landmarks."""


@dataclass(frozen=True)
class FacePoints:
    """The head model reduced to MediaPipe's 468 mesh points and the eyeballs; metres, head space, float64.

    Attributes:
        base: (468, 3) points of the template, where the detector puts them on a neutral face.
        shape: (S, 468, 3) change per sigma of the first `SHAPES` identity components.
        expression: (E, 468, 3) change at weight 1.
        names: E expression names.
        eye_base: (2, 3) centres of the right and the left eyeball.
        eye_shape: (S, 2, 3) their change per sigma.
        eye_radius: metres.
        mirror: (478,) for each MediaPipe point, the point in its place in a mirrored picture.
    """

    base: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    names: tuple[str, ...]
    eye_base: np.ndarray
    eye_shape: np.ndarray
    eye_radius: float
    mirror: np.ndarray

    def at(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(468, 3) points of a person (S,) with an expression (E,), head not turned."""
        return (
            self.base
            + np.tensordot(shape, self.shape[: len(shape)], 1)
            + np.tensordot(expression, self.expression, 1)
        )

    def eyes(self, shape: np.ndarray) -> np.ndarray:
        """(2, 3) centres of the right and the left eyeball of a person."""
        return self.eye_base + np.tensordot(shape, self.eye_shape[: len(shape)], 1)


def reduce_to_points(model: HeadModel) -> FacePoints:
    """The face points of any head model that has MediaPipe correspondences.

    Raises:
        HeadsplatError: the model has none.
    """
    if model.landmark_faces is None or model.landmark_barycentrics is None:
        raise HeadsplatError("This head model has no face points to track with; track with the free head.")
    corners = model.faces[model.landmark_faces]
    weights = model.landmark_barycentrics.astype(np.float64)
    base = np.einsum("lkx,lk->lx", model.template[corners], weights) + neutral_offsets()
    shape = np.einsum("slkx,lk->slx", model.shape_basis[:SHAPES, corners], weights)
    expression = np.einsum("elkx,lk->elx", model.expression_basis[:, corners], weights)
    eyes, eye_shapes, radii = [], [], []
    for side in ("right_eye", "left_eye"):
        vertices = model.vertices_of(side)
        joint = model.joint_names.index(side)
        eyes.append(model.joint_template[joint])
        eye_shapes.append(model.joint_shape[:SHAPES, joint])
        radii.append(np.linalg.norm(model.template[vertices] - eyes[-1], axis=1).mean())
    return FacePoints(
        base=base,
        shape=shape,
        expression=expression,
        names=tuple(model.expression_names),
        eye_base=np.array(eyes, np.float64),
        eye_shape=np.stack(eye_shapes, 1).astype(np.float64),
        eye_radius=float(np.mean(radii)),
        mirror=_mirror(base),
    )


@cache
def face_points() -> FacePoints:
    """The face points of the bundled free head."""
    from headsplat.head.free import load_free_head

    return reduce_to_points(load_free_head())


def neutral_offsets() -> np.ndarray:
    """(468, 3) metres from the head model's own correspondences to where the detector puts the points.

    The mean over neutral faces, left-right symmetric; without it every neutral face seems to frown a little.
    Made by tools/calibrate_tracker.py.
    """
    table = resources.files("headsplat.track").joinpath("assets/neutral_offsets.csv").read_text()
    return np.loadtxt(table.splitlines(), delimiter=",") * 1e-6


def _mirror(base: np.ndarray) -> np.ndarray:
    """Pair left and right by position on the (symmetric) template; the irises are known by number."""
    distance = np.linalg.norm(base[:, None] * [-1, 1, 1] - base[None], axis=-1)
    mirror = np.empty(lm.COUNT, int)
    mirror[: lm.MESH] = distance.argmin(1)
    mirror[468:] = [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]
    return mirror
