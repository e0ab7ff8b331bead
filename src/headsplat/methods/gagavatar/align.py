"""FLAME's shape and the release's camera of a photo, from the face points that our tracker found in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.camera import Camera
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.methods.gagavatar.flame import FlameWithEye
from headsplat.methods.gagavatar.geometry import FOCAL, camera_of, transform_of

# MediaPipe's face points that lie about where Multi-PIE's landmarks 17..67 do: brows, nose, eyes, lips.
MEDIAPIPE = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
FIRST = 17
SHAPES, EXPRESSIONS = 60, 40
"""Components that are fitted; fifty landmarks tell no more."""
START_DISTANCE = 9.0
"""Of the camera, the network's units; the release's are about there."""
UNITS = 5.0
TURN = 0.03
"""Radians by which the tracked rotation may be off, standard deviation."""
PIXEL = 1.5
"""Pixels that a landmark may be off, standard deviation: it weighs the priors."""


@dataclass(frozen=True)
class FlameFit:
    """What `fit_flame` found.

    Attributes:
        shape: (60,) FLAME's shape weights.
        camera: the release's kind of camera, the head standing still, the network's units.
        error: root mean square distance of the landmarks, pixels of 512.
    """

    shape: np.ndarray
    camera: Camera
    error: float


def fit_flame(flame: FlameWithEye, landmarks: np.ndarray, start: Camera) -> FlameFit:
    """Fit FLAME to MediaPipe's points.

    Shape, expression, jaw and camera together, by least squares. Weights of shape and expression are drawn to
    zero as FLAME's statistics say. The points lie where FLAME's landmarks do only roughly, which alone would
    tip the head by many degrees; so its rotation is drawn to the tracker's, which knows all 468 of them.

    Args:
        flame: the head model.
        landmarks: (478, 2) pixels of a picture of 512 x 512.
        start: a camera that sees the head stand still, as it was tracked; only its rotation is used.
    """
    from scipy.optimize import least_squares

    wanted = landmarks[list(MEDIAPIPE)].astype(np.float64)
    model, which = flame.head, np.arange(FIRST, FIRST + len(MEDIAPIPE))
    used, corner = np.unique(model.faces[flame.landmark_faces[which]], return_inverse=True)
    corner = corner.reshape(-1, 3)
    barycentric = flame.landmark_barycentrics[which].astype(np.float64)

    def points(array: np.ndarray) -> np.ndarray:
        """(..., 51, 3) landmarks of (..., V, 3) vertices or blendshapes."""
        chosen = array[..., used, :][..., corner, :].astype(np.float64)
        return (chosen * barycentric[..., None]).sum(-2)

    rest = points(model.template)
    basis = np.concatenate([points(model.shape_basis[:SHAPES]), points(model.expression_basis[:EXPRESSIONS])])
    jaw = model.joint_names.index("jaw")
    on_jaw = (model.skin_weights[used][corner, jaw] * barycentric).sum(-1)[:, None]
    hinge = model.joint_template[jaw].astype(np.float64)

    tracked = transform_of(start)[:, :3].astype(np.float64)

    def camera(x: np.ndarray) -> Camera:
        return camera_of(np.concatenate([axis_angle_to_matrix(x[:3]) @ tracked, x[3:6, None]], 1))

    def residuals(x: np.ndarray) -> np.ndarray:
        p = rest + np.tensordot(x[7:], basis, 1)
        turned = (p - hinge) @ axis_angle_to_matrix(np.array([x[6], 0, 0])).T + hinge
        p = UNITS * (p + on_jaw * (turned - p))
        # As `camera_of`, in double precision for the derivatives: rows, x left, y up.
        q = p @ axis_angle_to_matrix(x[:3]) @ tracked + x[3:6]
        pixels = 256 - 256 * FOCAL * q[:, :2] / q[:, 2:]
        return np.concatenate([((pixels - wanted) / PIXEL).ravel(), x[7:], x[6:7] / 0.3, x[:3] / TURN])

    first = np.zeros(7 + len(basis))
    first[5] = START_DISTANCE
    found = least_squares(residuals, first, method="trf", x_scale="jac", max_nfev=60).x
    off = residuals(found)[: wanted.size].reshape(-1, 2) * PIXEL
    error = float(np.sqrt((off**2).sum(1).mean()))
    return FlameFit(found[7 : 7 + SHAPES].astype(np.float32), camera(found), error)
