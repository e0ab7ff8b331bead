"""Levenberg-Marquardt on face points: analytic derivatives, robust loss, priors, bounds by active set.

Several frames share one identity and one focal length. Parameters are ordered: log focal length, identity,
then for each frame rotation (3, applied from the left), translation (3) and the fitted expressions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.track import landmarks as lm
from headsplat.track import priors
from headsplat.track.points import FacePoints
from headsplat.track.priors import Priors

_CONVERGED = 1e-4
"""Stop when a step lowers the cost by less than this share."""
_FOCAL_SIGMA = 0.25
"""Standard deviation of the log focal length."""


@dataclass(frozen=True)
class Pose:
    """One frame of a fit. Camera axes are OpenCV's.

    Attributes:
        rotation: (3, 3) head to camera.
        translation: (3,) the head joint in the camera, metres.
        expression: (E,) weights.
        gaze: (2, 2) yaw and pitch of the right and the left eye against the head, radians; positive yaw
            looks to the subject's left, positive pitch down.
    """

    rotation: np.ndarray
    translation: np.ndarray
    expression: np.ndarray
    gaze: np.ndarray


@dataclass(frozen=True)
class Fit:
    """Parameters of one person in one or more frames.

    Attributes:
        shape: (S,) identity, sigmas.
        focal: pixels.
        poses: one per frame.
    """

    shape: np.ndarray
    focal: float
    poses: tuple[Pose, ...]


@dataclass(frozen=True)
class Lines:
    """More points of the head, in one frame, each of which should lie on a line in the picture.

    Attributes:
        base: (M, 3) points of the template in the frame's expression, head space, metres.
        shape: (S, M, 3) change per sigma.
        normals: (M, 2) unit normals of the lines.
        offsets: (M,) a pixel x lies on the line if normal . x = offset.
        weight: of each point, against 1 for a landmark.
    """

    base: np.ndarray
    shape: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray
    weight: float


@dataclass(frozen=True)
class Problem:
    """What is to be explained, and what is believed beforehand.

    Attributes:
        points: face points of the head model.
        landmarks: (F, 478, 2) detected points, pixels.
        centre: (2,) principal point, pixels.
        focal_guess: pixels.
        belief: prior weights.
        lines: evidence about the outline of the (single) frame.
    """

    points: FacePoints
    landmarks: np.ndarray
    centre: np.ndarray
    focal_guess: float
    belief: Priors
    lines: Lines | None = None


@dataclass(frozen=True)
class _View:
    """The model's points in one frame at the current parameters."""

    turned: np.ndarray  # (468, 3) rotated about the head joint
    camera: np.ndarray  # (468, 3)
    pixels: np.ndarray  # (468, 2)


def project(points: FacePoints, shape: np.ndarray, focal: float, pose: Pose, centre: np.ndarray) -> _View:
    """The model's 468 points in the camera of one frame."""
    return _view(points.at(shape, pose.expression), focal, pose, centre)


def _view(positions: np.ndarray, focal: float, pose: Pose, centre: np.ndarray) -> _View:
    turned = positions @ pose.rotation.T
    camera = turned + pose.translation
    return _View(turned, camera, focal * camera[:, :2] / camera[:, 2:] + centre)


def solve(problem: Problem, fit: Fit, iterations: int, *, shape: bool = True, focal: bool = True) -> Fit:
    """Improve a fit.

    Args:
        problem: data and priors.
        fit: where to start.
        iterations: at most so many accepted steps.
        shape: free the identity.
        focal: free the focal length.
    """
    units = _units(problem, fit)
    damping = 1e-3
    views = _views(problem, fit)
    cost = _cost(problem, fit, views, units)
    for _ in range(iterations):
        matrix, gradient = _normal_equations(problem, fit, views, units)
        free = _free(problem, fit, gradient, shape, focal)
        matrix, slope = matrix[np.ix_(free, free)], gradient[free]
        for _ in range(4):
            step = np.zeros(len(gradient))
            damped = matrix + np.diag(damping * np.diag(matrix) + 1e-9)
            step[free] = -np.linalg.solve(damped, slope)
            trial = _moved(problem, fit, step)
            trial_views = _views(problem, trial)
            if min(view.camera[:, 2].min() for view in trial_views) > 0.05:
                trial_cost = _cost(problem, trial, trial_views, units)
                if trial_cost < cost:
                    break
            damping *= 8
        else:
            break
        gain = (cost - trial_cost) / cost
        fit, views, cost, damping = trial, trial_views, trial_cost, max(damping / 5, 1e-7)
        if gain < _CONVERGED:
            break
    return fit


def _views(problem: Problem, fit: Fit) -> list[_View]:
    return [project(problem.points, fit.shape, fit.focal, pose, problem.centre) for pose in fit.poses]


def _units(problem: Problem, fit: Fit) -> np.ndarray:
    """(F,) sigmas per pixel: a sigma is a fraction of the outer-eye distance, seen straight on."""
    corners = [lm.OUTER_EYE_RIGHT, lm.OUTER_EYE_LEFT]
    width = np.linalg.norm(problem.points.base[corners[0]] - problem.points.base[corners[1]])
    depths = [
        project(problem.points, fit.shape, 1.0, p, problem.centre).camera[corners, 2].mean()
        for p in fit.poses
    ]
    return np.array([z / (fit.focal * width * priors.POINT_SIGMA) for z in depths])


def _residuals(problem: Problem, frame: int, view: _View, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """(468, 2) point residuals and (P, 2) differences of pair vectors, in sigmas."""
    residual = (view.pixels - problem.landmarks[frame, : lm.MESH]) * unit
    pairs = _pairs()
    return residual, residual[pairs[:, 0]] - residual[pairs[:, 1]]


def _pairs() -> np.ndarray:
    return np.concatenate([lm.LID_PAIRS, lm.LIP_PAIRS])


def _cost(problem: Problem, fit: Fit, views: list[_View], units: np.ndarray) -> float:
    belief, names = problem.belief, problem.points.names
    weights, knee = priors.point_weights(), priors.ROBUST**2
    stiff, twins = priors.stiffness(names), priors.twins(names)
    total = belief.shape * (fit.shape**2).sum()
    total += belief.focal * (np.log(fit.focal / problem.focal_guess) / _FOCAL_SIGMA) ** 2
    for frame, (pose, view) in enumerate(zip(fit.poses, views, strict=True)):
        residual, gaps = _residuals(problem, frame, view, units[frame])
        squares = (residual**2).sum(1)
        total += (weights**2 * 2 * knee * (np.sqrt(1 + squares / knee) - 1)).sum()
        total += 2 * priors.PAIR_WEIGHT**2 * (gaps**2).sum()
        e = pose.expression
        total += belief.expression * ((stiff * e) ** 2).sum()
        total += belief.symmetry * ((e[twins[:, 0]] - e[twins[:, 1]]) ** 2).sum()
    if problem.lines is not None:
        _, away = _line_residuals(problem.lines, fit, problem.centre, units[0])
        total += (problem.lines.weight**2 * 2 * knee * (np.sqrt(1 + away**2 / knee) - 1)).sum()
    return float(total)


def _jacobian(
    view: _View, fit: Fit, pose: Pose, centre: np.ndarray, shape: np.ndarray, expression: np.ndarray
) -> np.ndarray:
    """(M, 2, 1 + S + 6 + X) derivative of the pixels of M points by the parameters that concern one frame.

    Args:
        view: the points.
        fit: current focal length.
        pose: of the frame.
        centre: (2,) principal point.
        shape: (S, M, 3) change of the points by the identity.
        expression: (X, M, 3) by the fitted expressions.
    """
    x, y, z = view.camera.T
    by_camera = np.zeros((len(x), 2, 3))
    by_camera[:, 0, 0] = by_camera[:, 1, 1] = fit.focal / z
    by_camera[:, 0, 2] = -fit.focal * x / z**2
    by_camera[:, 1, 2] = -fit.focal * y / z**2
    by_head = (by_camera @ pose.rotation).astype(np.float32)
    at = 1 + len(shape)
    out = np.empty((len(x), 2, at + 6 + len(expression)), np.float32)
    out[:, :, 0] = view.pixels - centre
    out[:, :, 1:at] = by_head @ shape.transpose(1, 2, 0)
    # The turned point q moves by w x q, so a row r of by_camera changes by (q x r) . w.
    out[:, :, at : at + 3] = np.cross(view.turned[:, None], by_camera)
    out[:, :, at + 3 : at + 6] = by_camera
    out[:, :, at + 6 :] = by_head @ expression.transpose(1, 2, 0)
    return out


def _line_residuals(lines: Lines, fit: Fit, centre: np.ndarray, unit: float) -> tuple[_View, np.ndarray]:
    """The outline's points in their frame, and their (M,) distances to the lines in sigmas."""
    shape = np.tensordot(fit.shape, lines.shape[: len(fit.shape)], 1)
    view = _view(lines.base + shape, fit.focal, fit.poses[0], centre)
    return view, ((view.pixels * lines.normals).sum(1) - lines.offsets) * unit


def _normal_equations(
    problem: Problem, fit: Fit, views: list[_View], units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton matrix and half the gradient over all parameters."""
    belief, names = problem.belief, problem.points.names
    chosen, stiff = priors.fitted(names), priors.stiffness(names)
    shared, own = 1 + len(fit.shape), 6 + len(chosen)
    matrix = np.zeros((shared + own * len(views),) * 2)
    gradient = np.zeros(len(matrix))
    pairs, knee = _pairs(), priors.ROBUST**2
    for frame, (pose, view) in enumerate(zip(fit.poses, views, strict=True)):
        shapes, expressions = problem.points.shape[: len(fit.shape)], problem.points.expression[chosen]
        jacobian = units[frame] * _jacobian(view, fit, pose, problem.centre, shapes, expressions)
        residual, gaps = _residuals(problem, frame, view, units[frame])
        weights = priors.point_weights() / (1 + (residual**2).sum(1) / knee) ** 0.25
        pair_weight = np.sqrt(2) * priors.PAIR_WEIGHT
        J = np.concatenate(
            [jacobian * weights[:, None, None], (jacobian[pairs[:, 0]] - jacobian[pairs[:, 1]]) * pair_weight]
        )
        J = J.reshape(-1, J.shape[-1]).astype(np.float32)
        r = np.concatenate([residual * weights[:, None], gaps * pair_weight]).reshape(-1).astype(np.float32)
        start = shared + own * frame
        index = np.r_[0:shared, start : start + own]
        matrix[np.ix_(index, index)] += J.T @ J
        gradient[index] += J.T @ r
        e, at = pose.expression, start + 6
        pull = belief.expression * stiff[chosen] ** 2
        matrix[at + np.arange(len(chosen)), at + np.arange(len(chosen))] += pull
        gradient[at : at + len(chosen)] += pull * e[chosen]
        _add_twins(matrix, gradient, at, chosen, priors.twins(names), e, belief.symmetry)
    matrix[0, 0] += belief.focal / _FOCAL_SIGMA**2
    gradient[0] += belief.focal / _FOCAL_SIGMA**2 * np.log(fit.focal / problem.focal_guess)
    matrix[np.arange(1, shared), np.arange(1, shared)] += belief.shape
    gradient[1:shared] += belief.shape * fit.shape
    if problem.lines is not None:
        lines, pose = problem.lines, fit.poses[0]
        view, away = _line_residuals(lines, fit, problem.centre, units[0])
        still = np.zeros((len(chosen), len(away), 3))
        jacobian = _jacobian(view, fit, pose, problem.centre, lines.shape[: len(fit.shape)], still)
        weights = lines.weight / (1 + away**2 / knee) ** 0.25
        J = np.einsum("mip,mi->mp", jacobian, lines.normals) * (units[0] * weights)[:, None]
        matrix[: shared + own, : shared + own] += J.T @ J
        gradient[: shared + own] += J.T @ (away * weights)
    return matrix, gradient


def _add_twins(
    matrix: np.ndarray,
    gradient: np.ndarray,
    at: int,
    chosen: np.ndarray,
    twins: np.ndarray,
    e: np.ndarray,
    pull: float,
) -> None:
    """Add the pull of left and right actions together, in place."""
    place = {int(action): at + i for i, action in enumerate(chosen)}
    for left, right in twins:
        a, b = place[int(left)], place[int(right)]
        matrix[[a, b], [a, b]] += pull
        matrix[[a, b], [b, a]] -= pull
        gradient[a] += pull * (e[left] - e[right])
        gradient[b] -= pull * (e[left] - e[right])


def _free(problem: Problem, fit: Fit, gradient: np.ndarray, shape: bool, focal: bool) -> np.ndarray:
    """Indices of the parameters that may move: not those held, nor those pressed against a bound."""
    names = problem.points.names
    chosen, high = priors.fitted(names), priors.upper_bounds(names)
    shared, own = 1 + len(fit.shape), 6 + len(chosen)
    free = np.ones(len(gradient), bool)
    free[0] = focal
    free[1:shared] = shape
    for frame, pose in enumerate(fit.poses):
        at = shared + own * frame + 6
        e, slope = pose.expression[chosen], gradient[at : at + len(chosen)]
        free[at : at + len(chosen)] = ~(((e <= 0) & (slope > 0)) | ((e >= high[chosen]) & (slope < 0)))
    return np.flatnonzero(free)


def _moved(problem: Problem, fit: Fit, step: np.ndarray) -> Fit:
    """The fit after a step, with expressions kept inside their bounds."""
    names = problem.points.names
    chosen, high = priors.fitted(names), priors.upper_bounds(names)
    shared, own = 1 + len(fit.shape), 6 + len(chosen)
    poses = []
    for frame, pose in enumerate(fit.poses):
        d = step[shared + own * frame : shared + own * (frame + 1)]
        expression = pose.expression.copy()
        expression[chosen] = np.clip(expression[chosen] + d[6:], 0, high[chosen])
        rotation = axis_angle_to_matrix(d[:3]) @ pose.rotation
        poses.append(
            replace(pose, rotation=rotation, translation=pose.translation + d[3:6], expression=expression)
        )
    focal = fit.focal * float(np.exp(np.clip(step[0], -0.3, 0.3)))
    return Fit(fit.shape + step[1:shared], focal, tuple(poses))
