"""Fit the head model to detected face points, from nothing or from a frame nearby."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.track import landmarks as lm
from headsplat.track import priors
from headsplat.track.gaze import gaze_actions, measure_gaze
from headsplat.track.points import FacePoints
from headsplat.track.priors import Priors
from headsplat.track.solver import Fit, Pose, Problem, project, solve

_DEFAULT = Priors()


def fit_frames(
    points: FacePoints,
    landmarks: np.ndarray,
    centre: np.ndarray,
    *,
    focal: float | None = None,
    focal_guess: float | None = None,
    belief: Priors = _DEFAULT,
) -> Fit:
    """Fit frames of one person from nothing: one identity and focal length, a pose and an expression each.

    Args:
        points: face points of the head model.
        landmarks: (F, 478, 2) detected points, pixels; a photo has F = 1.
        centre: (2,) principal point, pixels.
        focal: known focal length in pixels; None estimates it.
        focal_guess: where an estimate starts and is pulled to, pixels; None takes a usual portrait's.
        belief: prior weights.
    """
    guess = (
        focal
        or focal_guess
        or priors.FOCAL_PER_FACE * float(np.median([lm.face_height(x) for x in landmarks]))
    )
    fit = Fit(np.zeros(len(points.shape)), guess, tuple(_place(points, x, guess, centre) for x in landmarks))
    problem = Problem(points, landmarks, centre, guess, belief)
    # Stiff expressions first: identity and pose must not be explained by a grimace.
    stiff = replace(problem, belief=replace(belief, expression=3 * belief.expression))
    fit = solve(stiff, fit, 8, focal=False)
    fit = solve(problem, fit, 12, focal=focal is None)
    fit = look(points, fit, landmarks, centre)
    fit = solve(problem, fit, 12, focal=focal is None)
    return look(points, fit, landmarks, centre)


def fit_pose(
    points: FacePoints,
    landmarks: np.ndarray,
    centre: np.ndarray,
    start: Fit,
    *,
    iterations: int = 5,
) -> Fit:
    """Fit pose and expression in one frame of a known person, starting near the answer.

    Args:
        points: face points of the head model.
        landmarks: (478, 2) detected points, pixels.
        centre: (2,) principal point, pixels.
        start: identity, focal length and (one) pose to start from.
        iterations: at most so many steps.
    """
    problem = Problem(points, landmarks[None], centre, start.focal, _DEFAULT)
    fit = solve(problem, start, iterations, shape=False, focal=False)
    return look(points, fit, landmarks[None], centre)


def look(points: FacePoints, fit: Fit, landmarks: np.ndarray, centre: np.ndarray) -> Fit:
    """The fit with gaze measured from the irises of each frame (F, 478, 2), and lids that follow it."""
    eyes, poses = points.eyes(fit.shape), []
    for pose, x in zip(fit.poses, landmarks, strict=True):
        in_camera = eyes @ pose.rotation.T + pose.translation
        gaze = measure_gaze(in_camera, points.eye_radius, pose.rotation, x, fit.focal, centre)
        poses.append(replace(pose, gaze=gaze, expression=gaze_actions(points.names, pose.expression, gaze)))
    return replace(fit, poses=tuple(poses))


def landmark_errors(points: FacePoints, fit: Fit, landmarks: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(F, 468) distance of each model point to its landmark over the outer-eye distance seen straight on."""
    out = []
    corners = [lm.OUTER_EYE_RIGHT, lm.OUTER_EYE_LEFT]
    for pose, x in zip(fit.poses, landmarks, strict=True):
        view = project(points, fit.shape, fit.focal, pose, centre)
        width = np.linalg.norm(view.turned[corners[0]] - view.turned[corners[1]])
        scale = fit.focal * width / view.camera[corners, 2].mean()
        out.append(np.linalg.norm(view.pixels - x[: lm.MESH], axis=1) / scale)
    return np.array(out)


def _place(points: FacePoints, landmarks: np.ndarray, focal: float, centre: np.ndarray) -> Pose:
    """Rigid pose of the mean head by SQPnP (Terzakis and Lourakis, ECCV 2020)."""
    import cv2

    K = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
    _, vector, translation = cv2.solvePnP(
        points.base[lm.RIGID],
        landmarks[lm.RIGID].astype(np.float64),
        K,
        np.zeros(4),
        flags=cv2.SOLVEPNP_SQPNP,
    )
    rotation = axis_angle_to_matrix(vector[:, 0])
    return Pose(rotation, translation[:, 0], np.zeros(len(points.names)), np.zeros((2, 2)))
