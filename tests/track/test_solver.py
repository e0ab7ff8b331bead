"""The least-squares core: its derivatives are those of its cost, and it finds what it was given."""

from dataclasses import replace

import numpy as np
import pytest

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.track import landmarks as lm
from headsplat.track import solver
from headsplat.track.fit import fit_frames, landmark_errors
from headsplat.track.points import face_points
from headsplat.track.priors import Priors, fitted
from headsplat.track.solver import Fit, Lines, Pose, Problem, project, solve

pytest.importorskip("cv2")

CENTRE = np.array([256.0, 250.0])


def _person(seed: int, frames: int = 1, spread: float = 0.5) -> Fit:
    points, rng = face_points(), np.random.default_rng(seed)
    poses = []
    for _ in range(frames):
        expression = np.zeros(len(points.names))
        chosen = fitted(points.names)
        expression[rng.choice(chosen, 5, replace=False)] = rng.uniform(0.2, 0.8, 5)
        rotation = np.diag([1.0, -1.0, -1.0]) @ axis_angle_to_matrix(rng.normal(0, 0.2, 3))
        poses.append(Pose(rotation, np.array([0.01, 0.02, 1.1]), expression, np.zeros((2, 2))))
    return Fit(rng.normal(0, spread, len(points.shape)), 900.0, tuple(poses))


def _detections(fit: Fit) -> np.ndarray:
    points = face_points()
    out = np.zeros((len(fit.poses), lm.COUNT, 2))
    for frame, pose in enumerate(fit.poses):
        out[frame, : lm.MESH] = project(points, fit.shape, fit.focal, pose, CENTRE).pixels
        eyes = points.eyes(fit.shape) + np.array([0, 0, points.eye_radius])
        camera = eyes @ pose.rotation.T + pose.translation
        iris = fit.focal * camera[:, :2] / camera[:, 2:] + CENTRE
        out[frame, lm.IRIS_RIGHT], out[frame, lm.IRIS_LEFT] = iris
    return out


def test_gradient_is_that_of_the_cost() -> None:
    points, truth = face_points(), _person(0, frames=1)
    detections = _detections(truth) + np.random.default_rng(1).normal(0, 2, (1, lm.COUNT, 2))
    pose = truth.poses[0]
    rng = np.random.default_rng(2)
    chosen = rng.choice(lm.MESH, 12, replace=False)
    angle = rng.uniform(0, 6, 12)
    lines = Lines(
        points.base[chosen],
        points.shape[:, chosen],
        np.stack([np.cos(angle), np.sin(angle)], 1),
        rng.uniform(150, 300, 12),
        0.7,
    )
    problem = Problem(points, detections, CENTRE, 1000.0, Priors(), lines)
    start = replace(truth, poses=(replace(pose, expression=pose.expression * 0.7 + 0.1),))
    units = solver._units(problem, start)
    views = solver._views(problem, start)
    _, gradient = solver._normal_equations(problem, start, views, units)

    def cost(step: np.ndarray) -> float:
        moved = solver._moved(problem, start, step)
        return solver._cost(problem, moved, solver._views(problem, moved), units)

    for i in [0, 1, 2, 30, *range(61, 72), len(gradient) - 1]:
        step = np.zeros(len(gradient))
        step[i] = 1e-5
        slope = (cost(step) - cost(-step)) / 2e-5
        assert gradient[i] == pytest.approx(slope / 2, rel=2e-3, abs=0.05), i


@pytest.mark.parametrize("frames", [1, 3])
def test_perfect_points_are_fitted_perfectly(frames: int) -> None:
    points, truth = face_points(), _person(3, frames)
    detections = _detections(truth)
    weak = Priors(shape=1e-6, expression=1e-6, symmetry=0.0, focal=1e-6)
    fit = fit_frames(points, detections, CENTRE, focal=900.0, belief=weak)
    assert landmark_errors(points, fit, detections, CENTRE).mean() < 0.002
    for got, wanted in zip(fit.poses, truth.poses, strict=True):
        angle = np.arccos(np.clip((np.trace(got.rotation @ wanted.rotation.T) - 1) / 2, -1, 1))
        assert np.degrees(angle) < 1.5


def test_frames_share_one_identity() -> None:
    points, truth = face_points(), _person(4, frames=4)
    noise = np.random.default_rng(0).normal(0, 0.5, (4, lm.COUNT, 2))
    detections = _detections(truth) + noise
    together = fit_frames(points, detections, CENTRE, focal=900.0)
    alone = [fit_frames(points, x[None], CENTRE, focal=900.0) for x in detections]

    def off(fit: Fit) -> float:
        away = points.at(fit.shape, np.zeros(52)) - points.at(truth.shape, np.zeros(52))
        return float(np.linalg.norm(away - away.mean(0), axis=1).mean())

    assert len(together.poses) == 4
    assert off(together) < np.mean([off(fit) for fit in alone])


def test_bounds_hold() -> None:
    points, truth = face_points(), _person(5)
    wild = replace(truth, poses=(replace(truth.poses[0], expression=np.full(52, -3.0)),))
    fit = fit_frames(points, _detections(wild), CENTRE)
    assert fit.poses[0].expression.min() >= 0 and fit.poses[0].expression.max() <= 1.5


def test_never_worse_than_the_start() -> None:
    points, truth = face_points(), _person(6)
    problem = Problem(points, _detections(truth), CENTRE, 900.0, Priors())
    units = solver._units(problem, truth)

    def cost(fit: Fit) -> float:
        return solver._cost(problem, fit, solver._views(problem, fit), units)

    assert cost(solve(problem, truth, 3)) <= cost(truth) + 1e-9
