"""Refine a photo's fit by the outline of the skin: ears, jaw and neck where the picture shows them bare."""

from __future__ import annotations

import numpy as np

from headsplat.head.model import HeadModel
from headsplat.track import landmarks as lm
from headsplat.track import priors
from headsplat.track.contour import Edges, Outline, match_outline
from headsplat.track.fit import look
from headsplat.track.points import FacePoints
from headsplat.track.priors import Priors
from headsplat.track.solver import Fit, Lines, Problem, solve
from headsplat.track.torso import split_turn

_ROUNDS = 4
_STEPS = 4
_WEIGHT = 0.7
"""Of a contour point, against 1 for a landmark."""


def refine_outline(
    model: HeadModel,
    points: FacePoints,
    fit: Fit,
    landmarks: np.ndarray,
    outline: Outline,
    valid: np.ndarray,
) -> Fit:
    """Alternate between finding where the contour should be and fitting it together with the landmarks.

    Args:
        model: the head model.
        points: its face points.
        fit: of one frame.
        landmarks: (478, 2) pixels.
        outline: the picture's evidence.
        valid: (H, W) bool, inside the original picture.
    """
    centre = np.array(valid.shape[::-1]) / 2
    guess = priors.FOCAL_PER_FACE * lm.face_height(landmarks)
    for _ in range(_ROUNDS):
        skin, unit, projected = pose_model(model, points, fit, centre)
        edges = match_outline(model, projected, unit, outline, valid)
        if len(edges.vertices) < 4:
            return fit
        lines = _lines(model, fit, skin, edges)
        problem = Problem(points, landmarks[None], centre, guess, Priors(), lines=lines)
        # The outline trades focal length for width; the landmarks have already said what can be known.
        fit = solve(problem, fit, _STEPS, focal=False)
    return look(points, fit, landmarks[None], centre)


def pose_model(
    model: HeadModel, points: FacePoints, fit: Fit, centre: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """The whole mesh in the picture, torso and neck included.

    Returns:
        (V, 4, 4) transforms from rest to the measured head's space, the outer-eye distance in pixels, and the
        vertices (V, 3): pixels and depth.
    """
    pose = fit.poses[0]
    person = model.with_shape(fit.shape)
    names = list(model.joint_names)
    viewmat, neck, head = split_turn(pose.rotation, pose.translation, person.joints, names)
    posed = person.with_pose(pose.expression.astype(np.float32), {"neck": neck, "head": head})
    blended = np.einsum("vj,jab->vab", model.skin_weights, posed.transforms)
    measured = np.eye(4)
    measured[:3, :3], measured[:3, 3] = pose.rotation, pose.translation
    camera = posed.vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
    pixels = fit.focal * camera[:, :2] / camera[:, 2:] + centre
    corners = points.base[[lm.OUTER_EYE_RIGHT, lm.OUTER_EYE_LEFT]]
    unit = fit.focal * float(np.linalg.norm(corners[0] - corners[1])) / pose.translation[2]
    return np.linalg.inv(measured) @ viewmat @ blended, unit, np.column_stack([pixels, camera[:, 2]])


def _lines(model: HeadModel, fit: Fit, skin: np.ndarray, edges: Edges) -> Lines:
    """The contour's points as the solver wants them, carried from rest into the measured head's space."""
    chosen = edges.vertices
    rest = model.template[chosen] + np.tensordot(
        fit.poses[0].expression, model.expression_basis[:, chosen], 1
    )
    turn, move = skin[chosen, :3, :3], skin[chosen, :3, 3]
    base = np.einsum("mab,mb->ma", turn, rest) + move
    shape = np.einsum("mab,smb->sma", turn, model.shape_basis[: len(fit.shape), chosen])
    return Lines(base, shape, edges.normals, edges.offsets, _WEIGHT)
