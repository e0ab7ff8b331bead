"""A film of a head whose pose, shape and expression are known: what the tracker of films makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from painted_head import paint

from headsplat.head.free import load_free_head
from headsplat.track.fit import landmark_errors
from headsplat.track.follow import Follower
from headsplat.track.points import face_points
from headsplat.track.recording import jitter_of
from headsplat.track.sequence import fit_each, meet, moved, smooth
from headsplat.track.solver import Fit

pytest.importorskip("mediapipe")

FRAMES, SIZE = 40, 320
CENTRE = np.full(2, SIZE / 2)


def _wave(t: int, phase: int, period: int) -> float:
    return max(0.0, float(np.sin(2 * np.pi * (t + phase) / period)))


def _expression(t: int) -> dict[str, float]:
    smile, blink = 0.9 * _wave(t, 8, 32), float(np.clip(1.5 - abs(t % 24 - 12) / 2, 0, 1))
    return {
        "jawOpen": 0.8 * _wave(t, 0, 24),
        "mouthSmileLeft": smile,
        "mouthSmileRight": smile,
        "browInnerUp": 0.8 * _wave(t, 16, 28),
        "eyeBlinkLeft": blink,
        "eyeBlinkRight": blink,
    }


@dataclass(frozen=True)
class Case:
    """What was drawn, and the fits before and after smoothing."""

    rotations: np.ndarray
    expressions: np.ndarray
    shape: np.ndarray
    landmarks: np.ndarray
    raw: Fit
    smoothed: Fit
    error: float


@pytest.fixture(scope="module")
def case() -> Case:
    points, follower = face_points(), Follower()
    landmarks, rotations, expressions, shape = [], [], [], np.zeros(0)
    for t in range(FRAMES):
        yaw, pitch = 0.35 * np.sin(2 * np.pi * t / FRAMES), 0.12 * np.sin(4 * np.pi * t / FRAMES)
        drawn = paint(
            seed=500, expression=_expression(t), yaw=yaw, pitch=pitch, size=SIZE, focal=750.0, spread=1.0
        )
        found = follower.look((drawn.image * 255).astype(np.uint8))
        assert found is not None
        landmarks.append(found)
        rotations.append(drawn.rotation)
        expressions.append(drawn.expression)
        shape = drawn.shape
    x = np.array(landmarks)
    start, offsets = meet(points, x, CENTRE)
    points = moved(points, offsets)
    poses = tuple(fit_each(points, x, CENTRE, start))
    raw = replace(start, poses=poses)
    smoothed = replace(start, poses=smooth(points.names, poses, 25.0))
    error = float(landmark_errors(points, smoothed, x, CENTRE).mean())
    return Case(np.array(rotations), np.array(expressions), shape, x, raw, smoothed, error)


def _degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


def _column(fit: Fit, name: str) -> np.ndarray:
    return np.array([pose.expression[face_points().names.index(name)] for pose in fit.poses])


def test_the_head_is_where_it_was_drawn(case: Case) -> None:
    got = np.array([pose.rotation for pose in case.smoothed.poses])
    away = [_degrees(a, b) for a, b in zip(got, case.rotations, strict=True)]
    turned = [
        _degrees(a @ got[0].T, b @ case.rotations[0].T) for a, b in zip(got, case.rotations, strict=True)
    ]
    assert np.mean(away) < 5 and np.mean(turned) < 4
    assert case.error < 0.013


def test_expressions_rise_and_fall_as_drawn(case: Case) -> None:
    for name, least in (
        ("jawOpen", 0.85),
        ("mouthSmileLeft", 0.8),
        ("eyeBlinkLeft", 0.8),
        ("browInnerUp", 0.6),
    ):
        truth = np.array([_expression(t)[name] for t in range(FRAMES)])
        got = _column(case.smoothed, name)
        assert np.corrcoef(truth, got)[0, 1] > least, name
        strength = ((got - np.quantile(got, 0.1)) * truth).sum() / (truth**2).sum()
        assert 0.35 < strength < 1.2, name


def test_identity_is_nearer_than_the_mean_face(case: Case) -> None:
    model = load_free_head()
    front = np.unique(model.faces[model.landmark_faces])
    truth = model.with_shape(case.shape).vertices[front]

    def distance(b: np.ndarray) -> float:
        a, b = truth - truth.mean(0), b - b.mean(0)
        u, s, v = np.linalg.svd(b.T @ a)
        return float(np.linalg.norm(s.sum() / (b**2).sum() * b @ (u @ v) - a, axis=1).mean())

    assert distance(model.with_shape(case.raw.shape).vertices[front]) < 0.9 * distance(model.template[front])


def test_smoothing_calms_but_keeps_blinks_and_does_not_lag(case: Case) -> None:
    points, every = face_points(), np.ones(FRAMES, bool)
    calmer = jitter_of(points, case.smoothed, CENTRE, every)
    assert calmer < 0.85 * jitter_of(points, case.raw, CENTRE, every)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        raw, smoothed = _column(case.raw, name), _column(case.smoothed, name)
        for peak in (12, 36):
            assert smoothed[peak - 1 : peak + 2].max() > 0.9 * raw[peak - 1 : peak + 2].max()
    truth = np.array([_expression(t)["jawOpen"] for t in range(FRAMES)])
    jaw = _column(case.smoothed, "jawOpen")
    fits = {lag: np.corrcoef(truth[3:-3], jaw[3 + lag : FRAMES - 3 + lag])[0, 1] for lag in (-2, -1, 0, 1, 2)}
    assert abs(max(fits, key=lambda lag: fits[lag])) <= 1
