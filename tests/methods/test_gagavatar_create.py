"""Avatars of GAGAvatar: made from a picture or a file of weights, played, baked; FLAME found in a photo."""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from gagavatar_cases import HEAD, MODEL, SETTINGS, write_recording

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.bake import bake
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.drive import read_motion
from headsplat.errors import HeadsplatError
from headsplat.export import export
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.flame import flame_from_arrays
from headsplat.methods.gagavatar.align import FIRST, MEDIAPIPE, fit_flame
from headsplat.methods.gagavatar.create import avatar_of, reconstruct
from headsplat.methods.gagavatar.flame import FlameWithEye, flame_with_eye
from headsplat.methods.gagavatar.geometry import camera_of, in_units
from headsplat.methods.gagavatar.learn import (
    Learner,
    recordings_in,
    start_near_the_plane,
    trainable,
)
from headsplat.methods.gagavatar.model import Gagavatar
from headsplat.methods.gagavatar.preprocess import cut_square
from headsplat.methods.gagavatar.weights import save_gagavatar
from headsplat.networks import Network, deform, painter, refine
from headsplat.playback import play, portrait_camera, shot
from headsplat.raster import rasterize
from headsplat.takes import take


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    folder = tmp_path_factory.mktemp("recording")
    write_recording(folder, views=3)
    made = trainable([folder], SETTINGS, "cpu")
    for i in range(4):
        made.step(i)
    return made


@pytest.fixture(scope="module")
def avatar(learner: Learner) -> Avatar:
    subject = learner.subjects[0]
    image, camera = subject.source(0)
    return avatar_of(learner.model, subject.shaped, image, camera, matte=subject.target(0).alpha)


def test_the_avatar_draws_what_the_network_draws(learner: Learner, avatar: Avatar) -> None:
    model, subject = learner.model, learner.subjects[0]
    image, seen_from = subject.source(0)
    weights = {"jawOpen": 0.7, "browInnerUp": 0.5}
    vertices = 5 * subject.shaped.with_pose(weights).vertices
    with torch.no_grad():
        made = model.reconstruct(image, [seen_from])
        features = model.draw(model.gaussians(made, torch.from_numpy(vertices)), seen_from).image
        fine = model.refine(features).numpy()
    camera = in_units(seen_from, 1 / 5)
    drawn = rasterize(avatar.animate(weights), camera, depth=False)
    assert np.abs(drawn.image - features.numpy()).mean() < 1e-3
    picture = shot(avatar, camera, (0.0, 0.0, 0.0), expression=weights)
    # Over black it is the renderer's picture, whatever the Gaussians cover.
    np.testing.assert_allclose(picture, fine, atol=0.02)


def test_only_gaussians_that_can_be_seen_are_kept_and_what_was_seen_is_told(avatar: Avatar) -> None:
    points = avatar.info["expression_points"]
    assert 0 < points <= len(HEAD) < len(avatar) <= len(HEAD) + 2 * 16 * 16
    assert avatar.gaussians.opacities.min() >= 1 / 255
    assert 0 <= avatar.seen.min() <= avatar.seen.max() <= 1 and avatar.seen[points:].any()
    assert (avatar.skin_joints[points:, 0] == avatar.joints.index("head")).all()


def test_it_is_saved_and_played(avatar: Avatar, tmp_path: Path) -> None:
    save_avatar(avatar, tmp_path / "a.avatar")
    again = load_avatar(tmp_path / "a.avatar")
    camera = portrait_camera(avatar, size=40)
    a, b = (shot(x, camera, None) for x in (avatar, again))
    assert a.shape == (40, 40, 4)
    assert np.abs(a - b)[a[..., 3] > 0.3].mean() < 0.02
    assert next(play(again, take("hello"), size=24)).shape == (24, 24, 3)


def test_a_damaged_renderer_is_refused(avatar: Avatar) -> None:
    assert avatar.refiner is not None
    good, features, alpha = avatar.refiner, np.zeros((8, 8, 6), np.float32), np.zeros((8, 8), np.float32)
    assert refine(good, features, alpha).shape == (8, 8, 4)
    bad = [
        Network("gagavatar", {}, good.tensors),
        Network("gagavatar", {"renderer": {**good.config["renderer"], "size": 48}}, good.tensors),
        Network("gagavatar", {"renderer": {**good.config["renderer"], "shell": "ls"}}, good.tensors),
        Network("gagavatar", good.config, dict(list(good.tensors.items())[1:])),
        Network("gagavatar", good.config, {k: v[..., :1] for k, v in good.tensors.items()}),
    ]
    for network in bad:
        with pytest.raises(HeadsplatError, match="neural renderer cannot be run"):
            refine(network, features, alpha)


def test_the_renderer_paints_tensors_as_it_paints_arrays(avatar: Avatar) -> None:
    assert avatar.refiner is not None
    rng = np.random.default_rng(0)
    features, alpha = rng.random((2, 9, 13, 6), np.float32), rng.random((2, 9, 13), np.float32)
    alpha[0, 2:5] = 0
    painted = painter(avatar.refiner, "cpu")(torch.from_numpy(features), torch.from_numpy(alpha))
    assert painted.shape == (2, 9, 13, 4) and torch.isfinite(painted).all()
    for one, image, cover in zip(painted, features, alpha, strict=True):
        np.testing.assert_allclose(one.numpy(), refine(avatar.refiner, image, cover), atol=0.03)


def test_pictures_without_a_learned_matte_keep_their_black(avatar: Avatar) -> None:
    assert avatar.refiner is not None
    rng = np.random.default_rng(0)
    features, alpha = rng.random((32, 32, 6), np.float32), rng.random((32, 32), np.float32)
    config = {**avatar.refiner.config, "matte": False}
    whole = refine(Network("gagavatar", config, avatar.refiner.tensors), features, alpha)
    assert (whole[..., 3] == 1).all()
    covered = refine(avatar.refiner, features, alpha)
    np.testing.assert_allclose(covered[..., 3], np.maximum(alpha, whole[..., :3].max(-1)), atol=1e-6)
    np.testing.assert_allclose(covered[..., :3] * covered[..., 3:], whole[..., :3], atol=1e-3)


def test_a_network_of_another_role_paints_nothing(avatar: Avatar) -> None:
    assert avatar.refiner is not None
    with pytest.raises(HeadsplatError, match="cannot be a painter"):
        painter(Network("gaussianhead", {}, {}), "cpu")
    with pytest.raises(HeadsplatError, match="does not know"):
        painter(Network("oracle", {}, {}), "cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_recorded_frame_is_painted_as_on_the_cpu(avatar: Avatar) -> None:
    from headsplat.raster.cuda_frame import FrameRenderer

    assert avatar.refiner is not None
    background, size = (0.2, 0.5, 0.9), avatar.refiner.config["renderer"]["size"]
    renderer = FrameRenderer(
        avatar, size, size, background=np.float32(background), paint=painter(avatar.refiner, "cuda")
    )
    for weights in ({}, {"jawOpen": 0.8}):
        camera = portrait_camera(avatar, 0.2, size=size)
        at, transforms = avatar.weights(weights)[None], avatar.joint_transforms()[None]
        drawn = renderer.render(at, transforms, [camera], check=True).image[0].cpu().numpy()
        assert np.abs(drawn - shot(avatar, camera, background, expression=weights)).mean() < 0.02


def test_baking_binds_what_was_lifted_and_comes_near_the_pictures(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headsplat.methods.gagavatar import bake as method

    monkeypatch.setattr(method, "POSES", 6)
    monkeypatch.setattr(method, "HELD", 3)
    rig, report = method.bake(avatar, steps=25)
    assert rig.refiner is None and rig.deformer is None and rig.gaussians.features.shape[1] == 3
    assert report.psnr > report.plain_psnr and report.poses == method.HELD
    assert rig.info["baked"]["psnr"] == report.psnr
    points = avatar.info["expression_points"]
    chest = avatar.gaussians.means[:points, 1] < -0.12
    assert chest.any()
    np.testing.assert_array_equal(rig.expression_means.starts.shape, avatar.expression_means.starts.shape)
    # A vertex keeps its own joints; what was lifted beside it takes them over.
    moved = rig.animate(rotations={"head": (0.0, 0.4, 0.0)}).means - rig.gaussians.means
    wanted = avatar.animate(rotations={"head": (0.0, 0.4, 0.0)}).means - avatar.gaussians.means
    np.testing.assert_allclose(moved[:points], wanted[:points], atol=1e-5)
    for name in ("a.html", "a.ply"):  # the browser's page has the rig in it
        export(rig, tmp_path / name)
        with pytest.raises(HeadsplatError, match="bake"):
            export(avatar, tmp_path / name)
    low = np.flatnonzero(rig.gaussians.means[points:, 1] < -0.16) + points
    if len(low):
        assert np.abs(moved[low]).mean() < np.abs(wanted[low]).mean()


def test_the_verb_bake_knows_the_method(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    from headsplat.methods.gagavatar import bake as method

    monkeypatch.setattr(method, "STEPS", 1)
    monkeypatch.setattr(method, "POSES", 2)
    monkeypatch.setattr(method, "HELD", 1)
    seen: list[float] = []
    rig, report = bake(replace(avatar), progress=seen.append)
    assert report.poses and seen[-1] == 1.0 and rig.method == "gagavatar"
    with pytest.raises(HeadsplatError, match="not made by GAGAvatar"):
        bake(replace(avatar, info={}))


def tracked_frame(learner: Learner) -> Frame:
    subject = learner.subjects[0]
    view, target = subject.dataset.views[0], subject.target(0)
    image = target.image.numpy()
    return Frame(
        image=image,
        alpha=target.alpha.numpy(),
        foreground=image,
        valid=np.ones(image.shape[:2], bool),
        camera=view.camera.resize(32, 32),
        shape=subject.dataset.shape,
        expression=view.expression,
        rotations=view.rotations,
        T_world_root=view.T_world_root,
        landmarks=np.zeros((478, 2), np.float32),
        confidence=1.0,
        source="ab" * 32,
        landmark_error=0.0,
        crop=np.array([[1, 0, 0], [0, 1, 0]], np.float32),
    )


def test_from_a_file_of_weights(learner: Learner, avatar: Avatar, tmp_path: Path) -> None:
    save_gagavatar(learner.model, tmp_path / "model.safetensors")
    made = reconstruct(tracked_frame(learner), tmp_path / "model.safetensors")
    assert made.source == "ab" * 32 and made.info["weights"] == "model.safetensors"
    assert len(made) == pytest.approx(len(avatar), rel=0.02)
    torch.manual_seed(1)
    other = Gagavatar(replace(MODEL, points=100))
    save_gagavatar(other, tmp_path / "other.safetensors")
    with pytest.raises(HeadsplatError, match="100 vertices"):
        reconstruct(tracked_frame(learner), tmp_path / "other.safetensors")
    save_gagavatar(Gagavatar(replace(MODEL, head="flame")), tmp_path / "flame.safetensors")
    with pytest.raises(HeadsplatError, match=r"FLAME_with_eye\.pt"):
        reconstruct(tracked_frame(learner), tmp_path / "flame.safetensors")


def recipe() -> ModuleType:
    path = Path(__file__).parent.parent / "golden" / "recipe.py"
    spec = importlib.util.spec_from_file_location("golden_recipe", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_on_flame_the_avatar_moves_with_all_of_its_correctives() -> None:
    head = replace(flame_from_arrays(recipe().lam_head(3)), joint_expression=None)
    torch.manual_seed(2)
    model = Gagavatar(replace(MODEL, points=len(head), head="flame"))
    start_near_the_plane(model)
    shaped = head.with_shape(np.random.default_rng(1).normal(size=20).astype(np.float32))
    camera = camera_of(np.array([[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 9]]), size=32)
    avatar = avatar_of(model, shaped, torch.rand(1, 3, 28, 28), camera, matte=torch.ones(32, 32))
    assert avatar.info["expression_points"] == len(head) and avatar.deformer is not None
    weights = np.random.default_rng(2).normal(size=100).astype(np.float32)
    turns = {"jaw": (0.3, 0.1, 0.0), "left_eye": (0.1, 0.0, 0.2)}
    posed = shaped.with_pose(weights, turns).vertices
    # Skinned with the four strongest of five joints.
    kept = np.take_along_axis(head.skin_weights, np.argsort(-head.skin_weights, 1)[:, 4:], 1)
    assert kept.max() < 0.15
    drawn = avatar.animate(weights, turns).means[: len(head)]
    rigid = replace(avatar, deformer=None).animate(weights, turns).means[: len(head)]
    assert np.abs(drawn - posed).mean() < 0.5 * np.abs(rigid - posed).mean()
    at_rest = avatar.animate(weights).means[: len(head)]
    np.testing.assert_allclose(at_rest, shaped.with_pose(weights).vertices, atol=2e-4)


def test_damaged_correctives_are_refused(avatar: Avatar) -> None:
    basis, rest = np.zeros((36, 5, 3), np.float16), avatar.gaussians
    turns = np.tile(np.eye(4, dtype=np.float32), (5, 1, 1))
    good = Network("gagavatar", {"parents": [-1, 0, 1, 1, 1]}, {"pose_basis": basis})
    assert np.array_equal(deform(good, rest, np.zeros(1), turns, np.zeros(3)).means, rest.means)
    for parents, tensor in (
        ([-1, 0], basis),
        ([-1, 0, 1, 9, 1], basis),
        (None, basis),
        ([-1, 0, 1, 1, 1], basis[0]),
    ):
        bad = Network("gagavatar", {"parents": parents}, {"pose_basis": tensor})
        with pytest.raises(HeadsplatError, match="pose correctives cannot be run"):
            deform(bad, rest, np.zeros(1), turns, np.zeros(3))


def headlike_flame() -> FlameWithEye:
    """FLAME's layout on the free head's face: its landmarks are where a face's are."""
    arrays = recipe().gagavatar_flame(5)
    points = HEAD.landmarks(HEAD.template)[list(MEDIAPIPE)]
    rng = np.random.default_rng(4)
    near = rng.integers(0, len(HEAD), 5023)
    arrays["v_template"] = HEAD.template[near]
    basis = np.zeros((5023, 3, 400), np.float32)
    basis[:, :, :60] = np.moveaxis(HEAD.shape_basis[:60, near], 0, -1)
    basis[:, :, 300:340] = np.moveaxis(HEAD.expression_basis[:40, near], 0, -1)
    arrays["shapedirs"], arrays["posedirs"] = basis, np.zeros((5023, 3, 36), np.float32)
    skin = np.zeros((5023, 5), np.float32)
    skin[:, 1] = 1
    arrays["weights"] = skin
    order = [int(np.linalg.norm(arrays["v_template"] - p, axis=1).argmin()) for p in points]
    for i, vertex in enumerate(order):
        arrays["f"][i] = vertex
        arrays["full_lmk_faces_idx_with_eye"][0, FIRST + i] = i
    return flame_with_eye(arrays)


def test_flame_is_found_in_a_photo() -> None:
    flame, rng = headlike_flame(), np.random.default_rng(6)
    shape, expression = np.zeros(300, np.float32), np.zeros(100, np.float32)
    shape[:60], expression[:5] = rng.normal(0, 0.6, 60), 0.4
    vertices = flame.head.with_shape(shape).with_pose(expression).vertices
    view = Camera.orbit(yaw=0.3, pitch=-0.1, target=(0, 0, 0.02), distance=1.9, focal=3072)
    pixels = view.project(flame.landmarks(vertices)[FIRST : FIRST + len(MEDIAPIPE)])[:, :2]
    landmarks = np.zeros((478, 2))
    landmarks[list(MEDIAPIPE)] = pixels
    tracked = Camera.orbit(yaw=0.33, pitch=-0.08)  # elsewhere, and not quite in that direction
    fit = fit_flame(flame, landmarks, tracked)
    assert fit.error < 1.5
    turn = fit.camera.viewmat[:3, :3] @ np.asarray(view.viewmat)[:3, :3].T
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 4
    away = np.linalg.norm(fit.camera.position) / 5
    assert away == pytest.approx(1.9, rel=0.08)
    # The head it found is seen where the true one was.
    found = flame.head.with_shape(fit.shape).with_pose().vertices * 5
    seen, true = fit.camera.project(found)[:, :2], view.project(vertices)[:, :2]
    assert np.median(np.linalg.norm(seen - true, axis=1)) < 12


def write_tracks(folder: Path, *videos: str) -> dict[str, dict[str, np.ndarray]]:
    """Four frames each, as the authors' tracker leaves them; a person has a shape of her own."""
    rng, tracks = np.random.default_rng(8), {}
    for number, video in enumerate(videos):
        for i in range(4):
            turn = axis_angle_to_matrix(np.array([0.1, np.pi - 0.2, 0.05]) + rng.normal(0, 0.1, 3))
            place = rng.normal([0, 0, 9], 0.1)[:, None]
            tracks[f"{video}_{i}"] = {
                "bbox": np.array([0.2, 0.2, 0.8, 0.8], np.float32),
                "shapecode": np.full(300, number, np.float32),
                "expcode": rng.normal(size=100).astype(np.float32),
                "posecode": np.array([0, 0, 0, 0.1 * i, 0, 0], np.float32),
                "eyecode": rng.normal(0, 0.1, 6).astype(np.float32),
                "transform_matrix": np.concatenate([turn, place], 1).astype(np.float32),
            }
    (folder / "optim.pkl").write_bytes(pickle.dumps(tracks))
    return tracks


def test_every_video_of_a_folder_of_tracks_is_one_person(tmp_path: Path) -> None:
    write_tracks(tmp_path, "ada", "bob")
    found = recordings_in(tmp_path)
    assert [len(r) for r in found] == [4, 4] and [r.shape[0] for r in found] == [0, 1]
    write_tracks(tmp_path, "ada")
    assert len(recordings_in(tmp_path)) == 1


def test_tracks_of_the_authors_drive_an_avatar(tmp_path: Path) -> None:
    tracks, rng = write_tracks(tmp_path, "clip"), np.random.default_rng(9)
    motion = read_motion(tmp_path)
    assert len(motion) == 4 and motion.root is not None and motion.expressions[:1] == ("expr0",)
    cameras = [in_units(camera_of(t["transform_matrix"]), 1 / 5) for t in tracks.values()]
    still = np.diag([1.0, -1, -1, 1])
    still[:3, 3] = np.median([c.viewmat[:3, 3] for c in cameras], axis=0)
    points = rng.normal(0, 0.1, (7, 3))
    for i, (track, camera) in enumerate(zip(tracks.values(), cameras, strict=True)):
        np.testing.assert_allclose(motion.weights[i], track["expcode"])
        assert motion.rotations[i, 2, 0] == pytest.approx(0.1 * i)
        moved = points @ motion.root[i, :3, :3].T + motion.root[i, :3, 3]
        seen = replace(camera, viewmat=still.astype(np.float32)).project(moved)
        np.testing.assert_allclose(seen, camera.project(points), rtol=1e-4)


def test_squares_are_cut_with_black_where_the_picture_ends() -> None:
    rng = np.random.default_rng(0)
    image, alpha = rng.random((100, 80, 3)).astype(np.float32), np.ones((100, 80), np.float32)
    box = np.array([40.0, 20.0, 80.0, 60.0])
    picture, matte, points = cut_square(image, alpha, np.array([[60.0, 40.0], [27.0, 7.0]]), box)
    assert picture.shape == (512, 512, 3) and matte.shape == (512, 512)
    # Side 1.65 * 40 = 66 around (60, 40): columns 27..93, of which 80 exist.
    np.testing.assert_allclose(points, [[256, 256], [0, 0]], atol=1e-3)
    assert matte[:, : int(512 * 52 / 66)].min() > 0.99 and matte[:, int(512 * 54 / 66) :].max() < 0.01
    assert picture[:, int(512 * 54 / 66) :].max() < 0.01
    whole = image[7:73, 27:80].mean()
    assert picture[:, : int(512 * 53 / 66)].mean() == pytest.approx(whole, rel=0.02)
