"""Against heads whose pose, shape and expression are known: a low residual would not tell a wrong fit."""

import numpy as np
import pytest
from painted_head import Painted, paint

from headsplat.head.free import load_free_head
from headsplat.track import landmarks as lm
from headsplat.track.contour import contour_vertices, match_outline, see_outline
from headsplat.track.detect import detect_face
from headsplat.track.fit import fit_frames
from headsplat.track.matte import estimate_matte
from headsplat.track.points import face_points
from headsplat.track.refine import pose_model, refine_outline
from headsplat.track.solver import Fit
from headsplat.track.torso import head_angles

pytest.importorskip("mediapipe")

CENTRE = np.array([256.0, 256.0])


def _fit(picture: Painted) -> Fit:
    return fit_frames(face_points(), detect_face(picture.image)[None], CENTRE)


def _turned_by(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance in millimetres after the best similarity transform."""
    a, b = a - a.mean(0), b - b.mean(0)
    u, s, v = np.linalg.svd(b.T @ a)
    return float(np.linalg.norm(s.sum() / (b**2).sum() * b @ (u @ v) - a, axis=1).mean() * 1e3)


@pytest.fixture(scope="module")
def turned() -> list[tuple[Painted, Fit]]:
    cases = [(0.0, 0.0), (15.0, -6.0), (-15.0, 6.0), (30.0, 0.0), (-30.0, 6.0), (45.0, 0.0), (-45.0, 0.0)]
    people = [
        paint(seed=500 + i, yaw=np.radians(y), pitch=np.radians(p), spread=1.0)
        for i, (y, p) in enumerate(cases)
    ]
    return [(person, _fit(person)) for person in people]


def test_pose(turned: list[tuple[Painted, Fit]]) -> None:
    away = [_turned_by(fit.poses[0].rotation, person.rotation) for person, fit in turned]
    assert np.mean(away) < 4.5 and max(away) < 10
    for person, fit in turned:
        wanted, got = head_angles(person.rotation), head_angles(fit.poses[0].rotation)
        assert abs(got[2] - wanted[2]) < np.radians(2)


def test_identity_is_nearer_than_the_mean_face(turned: list[tuple[Painted, Fit]]) -> None:
    model = load_free_head()
    front = np.unique(model.faces[model.landmark_faces])
    fitted, mean = [], []
    for person, fit in turned:
        truth = model.with_shape(person.shape).vertices[front]
        fitted.append(_distance(truth, model.with_shape(fit.shape).vertices[front]))
        mean.append(_distance(truth, model.template[front]))
    assert np.mean(fitted) < 0.95 * np.mean(mean)


@pytest.mark.parametrize(
    ("truth", "least"),
    [
        ({"jawOpen": 0.8}, 0.35),
        ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, 0.35),
        ({"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}, 0.45),
        ({"mouthPucker": 0.9}, 0.3),
        ({"browInnerUp": 0.9, "browOuterUpLeft": 0.7, "browOuterUpRight": 0.7}, 0.3),
    ],
)
def test_expressions_that_are_there_are_found(truth: dict[str, float], least: float) -> None:
    names = face_points().names
    moved = _fit(paint(seed=520, expression=truth)).poses[0].expression
    still = _fit(paint(seed=520)).poses[0].expression
    for name in truth:
        assert moved[names.index(name)] > least
        assert moved[names.index(name)] > still[names.index(name)] + 0.15


def test_gaze_follows_the_eyes() -> None:
    left, right = (_fit(paint(seed=530, gaze=(a, 0.0))).poses[0].gaze[:, 0].mean() for a in (0.4, -0.4))
    assert left > 0.1 and right < -0.1


def test_a_wink_is_on_its_own_side() -> None:
    names = face_points().names
    expression = _fit(paint(seed=531, expression={"eyeBlinkLeft": 1.0})).poses[0].expression
    assert expression[names.index("eyeBlinkLeft")] > expression[names.index("eyeBlinkRight")] + 0.25


def test_contour_vertices_lie_on_the_rim_and_point_outwards() -> None:
    model, person = load_free_head(), paint(seed=540)
    drawn = np.column_stack([person.pixels, np.full(len(person.pixels), 1.0)])
    points = np.column_stack([person.pixels, 1.0 - person.vertices[:, 2]])
    vertices, normals = contour_vertices(model, points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    head = vertices[model.template[vertices, 1] > 0.0]
    outwards = drawn[head, :2] - drawn[model.vertices_of("head"), :2].mean(0)
    share = ((outwards * normals[np.isin(vertices, head)]).sum(1) > 0).mean()
    assert len(head) > 30 and share > 0.9


def test_the_outline_of_bare_skin_improves_what_landmarks_do_not_see() -> None:
    model, points = load_free_head(), face_points()
    valid = np.ones((512, 512), bool)
    before, after, moved = [], [], []
    for seed in (550, 551, 552):
        person = paint(seed=seed, spread=0.8)
        landmarks = detect_face(person.image)
        alpha, foreground = estimate_matte(person.image, landmarks, valid)
        fit = fit_frames(points, landmarks[None], CENTRE)
        outline = see_outline(foreground, alpha, landmarks)
        refined = refine_outline(model, points, fit, landmarks, outline, valid)
        ears = np.abs(model.template[:, 0]) > 0.068
        ears &= model.template[:, 1] > -0.02
        for result, into in ((fit, before), (refined, after)):
            _, unit, pixels = pose_model(model, points, result, CENTRE)
            into.append(np.linalg.norm(pixels[ears, :2] - person.pixels[ears], axis=1).mean() / unit)
        moved.append(_turned_by(fit.poses[0].rotation, refined.poses[0].rotation))
        edges = match_outline(model, pose_model(model, points, refined, CENTRE)[2], 100, outline, valid)
        assert len(edges.vertices) > 10
    assert np.mean(after) < 0.9 * np.mean(before)
    assert max(moved) < 4


def test_the_matte_of_a_painted_head() -> None:
    person = paint(seed=560)
    landmarks = detect_face(person.image)
    truth = np.abs(person.image - np.array([0.55, 0.6, 0.65], np.float32)).max(-1) > 0.01
    alpha, foreground = estimate_matte(person.image, landmarks, np.ones((512, 512), bool))
    chin = int(landmarks[lm.CHIN, 1])  # below it the stand-in has no clothes, and is cut like a statue
    assert np.minimum(alpha, truth)[:chin].sum() / np.maximum(alpha, truth)[:chin].sum() > 0.95
    inside = truth & (alpha > 0.95)
    assert np.abs(foreground[inside] - person.image[inside]).mean() < 0.01
