"""The fit against drawn avatars: targets whose pose and expression are known, and laws of its parts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians, axis_angle_to_matrix
from headsplat.head.free import load_free_head
from headsplat.networks import Network
from headsplat.track import landmarks as lm
from headsplat.track.evidence import Picture
from headsplat.track.likeness import Likeness, Posture, jacobian
from headsplat.track.photometric import FILM, PHOTO, Effort, fit_film, fit_to_picture

pytest.importorskip("cv2")

SIZE = 256
BLIND = replace(PHOTO, listen=())
"""Light alone: what is drawn here is no face to a detector."""
SMILE = {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.6, "browInnerUp": 0.5, "jawOpen": 0.25}


@cache
def speckled() -> Avatar:
    """The free head as Gaussians on its vertices, with freckles of every size: no place is like another."""
    model = load_free_head(1)
    rng = np.random.default_rng(0)
    waves, phases = rng.normal(0, 1, (24, 3)), rng.uniform(0, 6.28, (24, 3))
    waves *= (2 * np.pi / np.geomspace(0.006, 0.06, 24) / np.linalg.norm(waves, axis=1))[:, None]
    freckles = np.sin(model.template @ waves.T)[..., None] * np.cos(phases)
    count = len(model.template)
    order = np.argsort(-model.skin_weights, 1)[:, :4]
    weights = np.take_along_axis(model.skin_weights, order, 1)
    return Avatar(
        gaussians=Gaussians(
            model.template.astype(np.float32),
            np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
            np.full((count, 3), 0.0011, np.float32),
            np.full(count, 0.95, np.float32),
            np.clip(0.5 + 0.05 * freckles.sum(1), 0, 1).astype(np.float32),
        ),
        skin_joints=order.astype(np.uint8),
        skin_weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        joints=tuple(model.joint_names),
        parents=model.parents,
        joint_rest=model.joint_template.astype(np.float32),
        expressions=tuple(model.expression_names),
        expression_means=SparseOffsets.from_dense(model.expression_basis, 1e-6),
        seen=np.ones(count, np.float32),
        view_target=np.zeros(3, np.float32),
        view_height=0.4,
        method="test",
        info={"head": {"model": "free", "shape": []}},
    )


@cache
def likeness() -> Likeness:
    return Likeness(speckled())


def posture(
    expression: dict[str, float] | None = None, yaw: float = 0.0, roll: float = 0.0, sideways: float = 0.0
) -> Posture:
    """A posture seen from in front; radians and metres, split between the neck and the head."""
    avatar = speckled()
    rotations = np.zeros((len(avatar.joints), 3), np.float32)
    rotations[avatar.joints.index("neck")] = [0, 0.4 * yaw, 0.4 * roll]
    rotations[avatar.joints.index("head")] = [0, 0.6 * yaw, 0.6 * roll]
    camera = Camera.orbit(
        0.1, 0.05, target=(0, 0.04, 0.08), distance=1.0, focal=2.6 * SIZE, width=SIZE, height=SIZE
    )
    root = np.eye(4, dtype=np.float32)
    root[0, 3] = sideways
    return Posture(avatar.weights(expression or {}), rotations, root, camera)


def picture_of(truth: Posture, *, exposed: bool = False, background: float = 0.38) -> Picture:
    """What a camera sees of the truth; `exposed`, with another exposure and light from one side."""
    drawn = likeness().draw(truth, truth.camera, background)
    image = drawn.image
    if exposed:
        slope = np.linspace(-0.12, 0.12, SIZE, dtype=np.float32)[None, :, None]
        image = np.clip((image * 0.88 + 0.04 + slope), 0, 1)
    points = likeness().landmarks
    assert points is not None
    rotation, translation = likeness().head_in_camera(truth)
    at = points.at(truth.weights[likeness().fitted]) @ rotation.T + translation
    K = np.asarray(truth.camera.K)
    landmarks = np.zeros((lm.COUNT, 2))
    landmarks[: lm.MESH] = K[0, 0] * at[:, :2] / at[:, 2:] + K[:2, 2]
    landmarks[lm.MESH :] = landmarks[: lm.MESH].mean(0)
    return Picture(image.astype(np.float32), drawn.alpha > 0.9, landmarks)


def off(found: Posture, truth: Posture) -> tuple[float, float, float]:
    """Degrees, millimetres across the picture, and mean difference of the visible expressions' weights."""
    (r, t), (r0, t0) = likeness().head_in_camera(found), likeness().head_in_camera(truth)
    turn = np.degrees(np.arccos(np.clip((np.trace(r @ r0.T) - 1) / 2, -1, 1)))
    chosen = [speckled().expressions.index(name) for name in SMILE]
    return (
        float(turn),
        float(1e3 * np.abs(t - t0)[:2].max()),
        float(np.abs(found.weights - truth.weights)[chosen].mean()),
    )


@pytest.mark.parametrize("exposed", [False, True])
def test_a_known_pose_and_expression_come_out(exposed: bool) -> None:
    truth = posture(SMILE, yaw=0.1, roll=-0.03, sideways=0.002)
    start = posture({"mouthSmileLeft": 0.3, "mouthSmileRight": 0.3}, yaw=0.06, roll=-0.01)
    # A weak pull to zero: this is about what the light says, not about what is believed.
    fitted = fit_to_picture(
        likeness(), picture_of(truth, exposed=exposed), start, replace(BLIND, expression=1.0)
    )
    before, after = off(start, truth), off(fitted.posture, truth)
    assert fitted.after < 0.4 * fitted.before
    assert after[0] < 0.25 * before[0] and after[1] < 0.5 and after[2] < 0.3 * before[2]


def test_the_camera_or_the_bust_takes_up_the_correction() -> None:
    truth, start = posture(yaw=0.05, sideways=0.003), posture()
    picture = picture_of(truth)
    by_camera = fit_to_picture(likeness(), picture, start, BLIND).posture
    by_bust = fit_to_picture(likeness(), picture, start, BLIND, still_camera=True).posture
    np.testing.assert_array_equal(by_camera.T_world_root, start.T_world_root)
    np.testing.assert_array_equal(by_bust.camera.viewmat, start.camera.viewmat)
    for one, other in zip(
        likeness().head_in_camera(by_camera), likeness().head_in_camera(by_bust), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("still_camera", [False, True])
def test_moved_heads_are_where_they_were_sent(still_camera: bool) -> None:
    start = posture(SMILE, yaw=0.2)
    rotation, translation = likeness().head_in_camera(start)
    rotation = axis_angle_to_matrix(np.array([0.05, -0.1, 0.02])) @ rotation
    translation = translation + np.array([0.01, -0.02, 0.03])
    weights = start.weights[likeness().fitted] * 0.5
    moved = likeness().moved(start, rotation, translation, weights, still_camera)
    got = likeness().head_in_camera(moved)
    np.testing.assert_allclose(got[0], rotation, atol=2e-6)
    np.testing.assert_allclose(got[1], translation, atol=2e-6)
    np.testing.assert_allclose(moved.weights[likeness().fitted], weights, atol=1e-7)
    bust = [np.asarray(p.camera.viewmat)[:3, :3] @ p.T_world_root[:3, :3] for p in (start, moved)]
    np.testing.assert_allclose(bust[0], bust[1], atol=2e-6)


def test_the_jacobian_is_the_slope_of_the_projection() -> None:
    points, rng = likeness().surface, np.random.default_rng(3)
    chosen = rng.choice(len(points.rest), 7, replace=False)
    weights = rng.uniform(0, 0.5, len(points.moves))
    rotation, translation = likeness().head_in_camera(posture(yaw=0.3, roll=0.1))
    focals = np.array([700.0, 650.0])

    def project(step: np.ndarray) -> np.ndarray:
        turn = axis_angle_to_matrix(step[:3]) @ rotation
        rest = points.rest + np.tensordot(weights + step[6:], points.moves.astype(np.float64), 1)
        at = rest[chosen] @ turn.T + translation + step[3:6]
        return focals * at[:, :2] / at[:, 2:]

    at = points.at(weights)[chosen] @ rotation.T + translation
    by = jacobian(points, chosen, rotation, at, focals, translation)
    for k in range(by.shape[-1]):
        step = np.zeros(by.shape[-1])
        step[k] = 1e-4
        slope = (project(step) - project(-step)) / 2e-4
        np.testing.assert_allclose(by[..., k], slope, atol=1e-3 * max(1.0, np.abs(slope).max()))


def test_another_picture_altogether_does_no_harm() -> None:
    start, rng = posture(), np.random.default_rng(5)
    picture = picture_of(start)
    foreign = replace(picture, image=rng.uniform(0, 1, picture.image.shape).astype(np.float32))
    fitted = fit_to_picture(likeness(), foreign, start, BLIND)
    assert fitted.after <= fitted.before
    assert off(fitted.posture, start)[0] < 7


def test_nothing_to_see_leaves_the_start() -> None:
    start = posture(SMILE)
    covered = replace(picture_of(start), inside=np.zeros((SIZE, SIZE), bool))
    fitted = fit_to_picture(likeness(), covered, start, BLIND)
    np.testing.assert_array_equal(fitted.posture.weights, start.weights)
    np.testing.assert_array_equal(fitted.posture.camera.viewmat, start.camera.viewmat)


@pytest.mark.parametrize("landmarks", [np.zeros((lm.COUNT, 2)), np.full((lm.COUNT, 2), np.nan)])
def test_a_picture_without_a_face_leaves_the_start(landmarks: np.ndarray) -> None:
    start = posture(SMILE)
    fitted = fit_to_picture(likeness(), replace(picture_of(start), landmarks=landmarks), start, BLIND)
    assert fitted.posture is start


def test_a_face_cut_by_the_edge_is_fitted_by_what_is_there() -> None:
    truth, start = posture(yaw=0.05), posture(yaw=0.02)
    whole = picture_of(truth)
    camera = truth.camera.crop(0, 0, SIZE // 2 + 10, SIZE)
    half = Picture(
        np.ascontiguousarray(whole.image[:, : camera.width]), whole.inside[:, : camera.width], whole.landmarks
    )
    fitted = fit_to_picture(likeness(), half, replace(start, camera=camera), BLIND)
    assert off(fitted.posture, truth)[0] < 0.5 * off(start, truth)[0]


def test_a_film_is_followed_and_a_steady_error_taken_out() -> None:
    truths = [
        posture(
            {"jawOpen": 0.3 + 0.3 * np.sin(k), "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5}, yaw=0.05 * k
        )
        for k in range(5)
    ]
    starts = [
        posture(
            {"jawOpen": 0.2 + 0.3 * np.sin(k), "mouthSmileLeft": 0.2, "mouthSmileRight": 0.2},
            yaw=0.05 * k + 0.04,
        )
        for k in range(5)
    ]
    frames = [(picture_of(truth), start) for truth, start in zip(truths, starts, strict=True)]

    def run() -> list[Posture]:
        fits = fit_film(likeness(), frames, first=BLIND, rest=FILM, listen_every=100)
        return [fitted.posture for fitted in fits]

    found = run()
    for got, start, truth in zip(found, starts, truths, strict=True):
        before, after = off(start, truth), off(got, truth)
        assert after[0] < 0.4 * before[0] and after[2] < 0.8 * before[2]
    for one, other in zip(found, run(), strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.T_world_root, other.T_world_root)


def test_names_in_another_order() -> None:
    avatar, names, joints = speckled(), ("jawOpen", "unknown", "browInnerUp"), ("head", "tail")
    turns = np.array([[0.1, 0, 0], [1, 1, 1]], np.float32)
    got = Posture.named(avatar, names, np.array([0.5, 9, 0.25]), joints, turns, np.eye(4), posture().camera)
    assert got.weights.sum() == pytest.approx(0.75)
    assert got.weights[avatar.expressions.index("browInnerUp")] == pytest.approx(0.25)
    back = got.in_names(avatar, names, np.array([0, 7, 0]), joints, 2 * turns)
    np.testing.assert_allclose(back[0], [0.5, 7, 0.25])
    np.testing.assert_allclose(back[1], [[0.1, 0, 0], [2, 2, 2]])


def test_avatars_that_cannot_be_fitted_are_named() -> None:
    avatar = speckled()
    nameless = replace(avatar, expressions=tuple(f"e{i}" for i in range(len(avatar.expressions))))
    headless = replace(avatar, joints=("root", "neck", "skull", *avatar.joints[3:]))
    for wrong in (nameless, headless):
        with pytest.raises(HeadsplatError, match="head joint and ARKit"):
            Likeness(wrong)
    with pytest.raises(HeadsplatError, match="bake"):
        Likeness(replace(avatar, deformer=Network("gaussianhead", {}, {})))


def test_effort_is_spent_as_written() -> None:
    calls = []
    watched = Likeness(speckled())
    draw = watched.draw
    watched.draw = lambda *args: calls.append(1) or draw(*args)  # type: ignore[method-assign]
    start = posture()
    fit_to_picture(watched, picture_of(start), start, Effort(rounds=((0.02, 2), (0.01, 1)), listen=()))
    assert len(calls) == 3 + 2  # every step, and the difference before and after
