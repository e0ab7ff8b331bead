"""Several photos and recordings: one identity, strangers and bad pictures named, the best views chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headsplat.camera import Camera, intrinsics
from headsplat.clip import Frame
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.native import read_native, write_index, write_pixels
from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.free import load_free_head
from headsplat.track.choose import calmness, choose_views, plainness, sharpness
from headsplat.track.frames import best_views, frames_of
from headsplat.track.photos import fits_identity, is_stranger, main_first, share_identity, track_photos

SIZE = 256


def drawn(shape: np.ndarray, yaw: float, *, focal: float = 600.0, scale: float = 1.0) -> Frame:
    """A frame with the face points that a head of the given shape shows, turned by `yaw` radians."""
    model = load_free_head()
    person = model.with_shape(shape.astype(np.float32))
    rotations = np.zeros((len(model.joint_names), 3), np.float32)
    rotations[model.joint_names.index("head"), 1] = yaw
    posed = np.asarray(person.with_pose(None, rotations).vertices, np.float64)
    camera = Camera.orbit(target=(0, 0.012, 0), distance=focal * 0.0016, focal=focal, width=SIZE, height=SIZE)
    assert model.landmark_faces is not None and model.landmark_barycentrics is not None
    points = (posed[model.faces[model.landmark_faces]] * model.landmark_barycentrics[..., None]).sum(1)
    pixels = [camera.project(points)[:, :2]]
    for name in ("right_eye", "left_eye"):
        centre = posed[model.vertices_of(name)].mean(0) + np.array([0, 0, 0.012])
        ring = centre + 0.006 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        pixels.append(camera.project(ring)[:, :2])
    flat = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    return Frame(
        image=flat,
        alpha=np.ones((SIZE, SIZE), np.float32),
        foreground=flat,
        valid=np.ones((SIZE, SIZE), bool),
        camera=camera,
        shape=shape.astype(np.float32),
        expression=np.zeros(len(model.expression_names), np.float32),
        rotations=rotations,
        T_world_root=np.eye(4, dtype=np.float32),
        landmarks=np.concatenate(pixels).astype(np.float32),
        confidence=1.0,
        source="",
        landmark_error=0.0,
        crop=np.array([[scale, 0, 0], [0, scale, 0.0]]),
    )


def head_to_camera(frame: Frame) -> np.ndarray:
    joints = load_free_head().joint_names
    neck, head = (axis_angle_to_matrix(frame.rotations[joints.index(name)]) for name in ("neck", "head"))
    return frame.camera.viewmat[:3, :3] @ neck @ head


def shape_of(seed: int, size: float) -> np.ndarray:
    shape = np.zeros(len(load_free_head().shape_basis))
    shape[:12] = np.random.default_rng(seed).normal(0, size, 12)
    return shape


def test_photos_of_different_lenses_agree_on_one_identity() -> None:
    truth = shape_of(0, 1.0)
    frames = [drawn(truth, 0.0), drawn(truth, 0.5, focal=900.0), drawn(truth, -0.6, focal=700.0)]
    shared = share_identity([replace(f, shape=np.zeros_like(f.shape)) for f in frames])
    assert all(np.array_equal(frame.shape, shared[0].shape) for frame in shared)
    assert max(frame.landmark_error for frame in shared) < 0.012
    for before, after in zip(frames, shared, strict=True):
        assert after.camera.K[0, 0] == before.camera.K[0, 0]
        difference = head_to_camera(before).T @ head_to_camera(after)
        assert np.arccos(np.clip((np.trace(difference) - 1) / 2, -1, 1)) < 0.06


def test_frames_of_one_camera_share_its_lens_and_a_still_torso() -> None:
    truth = shape_of(1, 0.8)
    frames = [drawn(truth, yaw, scale=0.5) for yaw in (0.0, 0.4, -0.3)]
    frames[1] = replace(frames[1], camera=replace(frames[1].camera, K=intrinsics(630.0, SIZE, SIZE)))
    shared = share_identity(frames, same_camera=True)
    assert {float(frame.camera.K[0, 0]) for frame in shared} == {600.0}
    for frame in shared[1:]:
        assert np.allclose(frame.camera.viewmat[:3, :3], shared[0].camera.viewmat[:3, :3], atol=1e-5)
    assert shared[1].rotations[2, 1] > 0.15 > -0.1 > shared[2].rotations[2, 1]


def test_a_stranger_is_noticed_and_a_turned_head_is_none() -> None:
    person, other = shape_of(2, 1.2), shape_of(3, 1.8)
    front, side, stranger = drawn(person, 0.0), drawn(person, 0.6), drawn(other, 0.0)
    assert not is_stranger(front, side)
    assert is_stranger(front, stranger)
    assert fits_identity(side, person) and not fits_identity(stranger, person)


def test_the_main_photo_is_frontal_and_calm() -> None:
    shape = shape_of(4, 0.5)
    grin = np.zeros(len(load_free_head().expression_names), np.float32)
    grin[:6] = 1.0
    frames = [drawn(shape, 0.8), replace(drawn(shape, 0.0), expression=grin), drawn(shape, 0.1)]
    assert main_first(frames)[0] == 2 and sorted(main_first(frames)) == [0, 1, 2]


def test_a_longer_choice_begins_with_the_shorter_one() -> None:
    rng = np.random.default_rng(5)
    turns, quality = rng.uniform(-0.6, 0.6, (40, 2)), rng.uniform(0.5, 1, 40)
    turns[7], quality[7], quality[20:] = 0.0, 1.0, 0.0
    eight = choose_views(turns, quality, 8)
    assert eight[:3] == choose_views(turns, quality, 3) and eight[0] == 7
    assert len(set(eight)) == 8 and max(eight) < 20
    assert np.ptp(turns[eight], axis=0).min() > 0.7 * np.ptp(turns[:20], axis=0).min()
    assert len(choose_views(turns, quality, 40)) == 20
    assert choose_views(turns, np.zeros(40), 3) == []


def test_what_makes_a_frame_good() -> None:
    points = drawn(shape_of(6, 0.0), 0.0).landmarks.astype(np.float64)
    shut = points.copy()
    shut[[159, 386]] = shut[[145, 374]]
    gaping = points.copy()
    gaping[14] += (0, 25)
    assert calmness(points) > 2 * max(calmness(shut), calmness(gaping))
    assert plainness({}) == 1 > plainness({"jawOpen": 0.8}) and plainness({"eyeBlinkLeft": 1.0}) == 1
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    import cv2

    assert sharpness(noise, points) > 2 * sharpness(cv2.GaussianBlur(noise, (0, 0), 3), points)


def recording(root: Path, head: str = "free") -> Dataset:
    """Two views of a still camera; in the second the bust has moved and turned."""
    model = load_free_head()
    T = np.eye(4, dtype=np.float32)
    T[:3, :3] = axis_angle_to_matrix(np.array([0.0, 0.2, 0.0]))
    T[:3, 3] = (0.02, -0.01, 0.03)
    views = []
    rng = np.random.default_rng(0)
    alpha = np.zeros((SIZE, SIZE), np.float32)
    alpha[60:, 40:210] = 1
    alpha[60:, 36:40] = 0.5
    for t, root_pose in enumerate((np.eye(4, dtype=np.float32), T)):
        frame = drawn(np.zeros(len(model.shape_basis)), 0.3 * t)
        colours = rng.uniform(0.1, 0.9, (SIZE, SIZE, 3)).astype(np.float32)
        write_pixels(root, t, colours, alpha)
        views.append(
            View(
                image=root / f"images/{t:05d}_00.png",
                mask=root / f"fg_masks/{t:05d}_00.png",
                camera=frame.camera,
                timestep=t,
                camera_index=0,
                expression=np.arange(2, dtype=np.float32) / 4,
                rotations=frame.rotations[[2, 1]],
                T_world_root=root_pose,
                T_world_head=root_pose,
                landmarks=frame.landmarks,
                confidence=1.0 - 0.8 * t,
            )
        )
    dataset = Dataset(
        root=root,
        layout="headsplat",
        head=head,  # type: ignore[arg-type]
        shape=np.ones(5, np.float32),
        expressions=("jawOpen", "cheekPuff"),
        joints=("head", "neck"),
        views=tuple(views),
        train=(0, 1),
        val=(),
        test=(),
        fps=25.0,
        info={"source": "ab" * 32},
    )
    write_index(dataset)
    return read_native(root)


def test_views_become_frames_with_the_bust_at_rest(tmp_path: Path) -> None:
    dataset, model = recording(tmp_path), load_free_head()
    frames = frames_of(dataset, [1, 0])
    point = np.array([[0.03, 0.02, 0.05]])
    for frame, view in zip(frames, (dataset.views[1], dataset.views[0]), strict=True):
        world = point @ view.T_world_root[:3, :3].T + view.T_world_root[:3, 3]
        assert np.allclose(frame.camera.project(point), view.camera.project(world), atol=1e-3)
        assert np.array_equal(frame.T_world_root, np.eye(4))
        assert np.array_equal(frame.rotations[model.joint_names.index("head")], view.rotations[0])
        assert frame.expression[model.expression_names.index("cheekPuff")] == 0.25
        assert frame.expression.sum() == 0.25 and frame.shape[:6].tolist() == [1, 1, 1, 1, 1, 0]
        assert frame.source == "ab" * 32
    picture, alpha = dataset.load(dataset.views[0])
    mixed = frames[1].foreground * alpha[..., None] + 1 - alpha[..., None]
    assert np.abs(mixed - picture)[alpha > 0.75].max() < 1e-5, "over white the colours give the picture again"
    assert np.array_equal(frames[1].foreground[100, 37], frames[1].foreground[100, 40]), "rims: from inside"
    # The person ends along straight columns and the last row: there the film ended.
    assert not frames[1].valid[100, 220] and frames[1].valid[100, 120]


def test_recordings_that_cannot_be_lifted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="free head"):
        frames_of(recording(tmp_path, head="flame"), [0])
    dataset = recording(tmp_path / "b")
    assert best_views(dataset, 8) == [0], "a view that cannot be trusted is never chosen"
    nobody = replace(dataset, views=tuple(replace(v, confidence=0.0) for v in dataset.views))
    with pytest.raises(HeadsplatError, match="no view that can be trusted"):
        best_views(nobody, 2)


def test_a_bad_second_photo_is_named() -> None:
    from skimage.data import astronaut

    face = astronaut()[:300, 100:400]
    blank = np.full((200, 200, 3), 128, np.uint8)
    with pytest.raises(HeadsplatError, match="Picture 1 cannot be used: There is no face"):
        track_photos([blank, face])
    frames, left_out = track_photos([blank, face], tolerant=True)
    assert len(frames) == 1 and left_out[0][0] == 0 and "no face" in left_out[0][1]
    with pytest.raises(HeadsplatError, match="None of the 2 pictures"):
        track_photos([blank, blank], tolerant=True)
