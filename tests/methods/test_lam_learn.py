"""Training LAM on photos and recordings: samples, corrected poses, resuming, and what a run leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lam_cases import TINY, make_frame, thin_head

from headsplat.avatar_file import load_avatar
from headsplat.clip import Frame
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets import read_dataset
from headsplat.data.datasets.native import picture_paths, write_index, write_pixels
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.head.subdivide import subdivide
from headsplat.methods.lam import learn
from headsplat.methods.lam.config import FREE_HEAD_POINTS, LamConfig
from headsplat.methods.lam.corrections import Corrections
from headsplat.methods.lam.learn import LearnConfig, Learner, deliver, mean_psnr, trainable
from headsplat.methods.lam.people import Person, people_of, reduced
from headsplat.methods.lam.rig import Pose, Rig
from headsplat.methods.lam.train import TrainConfig, pose_of
from headsplat.methods.lam.weights import load_lam
from headsplat.raster import rasterize
from headsplat.train import loop

SETTINGS = LearnConfig(
    replace(TINY, rotate_gaussians=True),
    TrainConfig(learning_rate=5e-3, warmup=2, frames=2, backgrounds=(0.0, 1.0), betas=(0.9, 0.99)),
    iterations=6,
    size=48,
    correct_poses=0.5,
)


def write_recording(root: Path, count: int = 6, doubtful: int | None = None) -> Path:
    """Frames of one random person, the last of them set aside for judging."""
    head, frames = load_free_head(), [make_frame(i) for i in range(count)]
    views = []
    for i, frame in enumerate(frames):
        write_pixels(root, i, frame.foreground, frame.alpha)
        image, mask = picture_paths(root, i)
        views.append(
            View(
                image=image,
                mask=mask,
                camera=frame.camera,
                timestep=i,
                camera_index=0,
                expression=frame.expression,
                rotations=frame.rotations,
                T_world_root=frame.T_world_root,
                T_world_head=np.eye(4, dtype=np.float32),
                landmarks=frame.landmarks,
                confidence=0.1 if i == doubtful else 1.0,
            )
        )
    write_index(
        Dataset(
            root=root,
            layout="headsplat",
            head="free",
            shape=frames[0].shape,
            expressions=head.expression_names,
            joints=head.joint_names,
            views=tuple(views),
            train=tuple(range(count - 1)),
            val=(),
            test=(count - 1,),
            fps=25.0,
            info={"source": "cd" * 32},
        )
    )
    return root


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "somebody")


def learner_of(recording: Path, settings: LearnConfig = SETTINGS) -> Learner:
    people = people_of([recording], settings.size)
    return Learner(people, Rig.of(thin_head(), settings.model), settings)


def test_a_recording_is_learned_from_but_for_what_is_set_aside(recording: Path, tmp_path: Path) -> None:
    person = people_of([recording], 48)[0]
    assert (person.learned, person.held_out, len(person)) == (5, 1, 6)
    for i in range(len(person)):
        written, read = make_frame(i), person[i]
        np.testing.assert_allclose(read.expression, written.expression, atol=1e-6)
        inside = written.alpha > 0.5
        assert np.abs(read.foreground - written.foreground)[inside].max() < 0.01
    assert person[2] is person[2]
    few = people_of([recording], 48, most=2)[0]
    assert (few.learned, few.held_out) == (2, 1)
    np.testing.assert_array_equal(few[1].expression, person[4].expression)
    doubted = people_of([write_recording(tmp_path / "doubted", doubtful=2)], 48)[0]
    assert doubted.learned == 4
    assert not any(np.array_equal(doubted[i].expression, make_frame(2).expression) for i in range(4))


def test_the_best_frame_is_at_rest_and_frontal(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "r", 4)
    path = root / "head_param" / "00002.npz"
    values = dict(np.load(path))
    values["expression"] = 0 * values["expression"]
    np.savez(path, **values)
    data = people_of([root], 48)[0]
    # All frames turn alike as far as the skull goes, which these views put at the origin.
    yaws = [np.arccos(-make_frame(i).camera.viewmat[2, 2]) for i in range(3)]
    others = [1 - 0.35 * 3 * 0.36 - 1.4 * yaw**2 for yaw in yaws[:2]]
    assert data.best == int(np.argmax([*others, 1 - 1.4 * yaws[2] ** 2]))


def test_reduced_pictures_match_what_is_drawn_at_that_size() -> None:
    frame = make_frame(4, size=96)
    small = reduced(frame, 48)
    assert small.image.shape == (48, 48, 3) and small.camera.width == 48
    composed = [f.foreground * f.alpha[..., None] + 1 - f.alpha[..., None] for f in (frame, small)]
    halves = composed[0].reshape(48, 2, 48, 2, 3).mean((1, 3))
    np.testing.assert_allclose(composed[1], halves, atol=1e-5)
    assert reduced(small, 64) is small


def test_samples_are_learned_frames_of_one_person_and_the_source_is_one_of_them(recording: Path) -> None:
    settings = replace(SETTINGS, loss=replace(SETTINGS.loss, frames=3, backgrounds=(0.5,)), correct_poses=0.0)
    learner = learner_of(recording, settings)
    held_out = learner.people[0][5].expression
    for seed in range(5):
        source, target = learner.sample(0, np.random.default_rng(seed))
        assert target.images.shape == (3, 48, 48, 3) and target.background == 0.5
        torch.testing.assert_close(target.pose.expression[0], source.pose.expression[0])
        assert not any(np.array_equal(e, held_out) for e in target.pose.expression.numpy())
        assert (target.images[target.alphas == 0] == 0.5).all()
    assert len(learner.sample(0, np.random.default_rng(9))[1].images) == 3


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(recording: Path, tmp_path: Path) -> None:
    whole = learner_of(recording)
    loop.run(whole, tmp_path / "whole", checkpoint_every=100, preview_every=0)
    first = learner_of(recording)
    for step in range(3):
        first.step(step)
    torch.save(first.state(), tmp_path / "state.pt")
    second = learner_of(recording, replace(SETTINGS, seed=0))
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 6):
        second.step(step)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    assert whole.corrections is not None and second.corrections is not None
    for a, b in zip(whole.corrections.parameters(), second.corrections.parameters(), strict=True):
        assert torch.equal(a, b) and a.abs().max() > 0
    judged = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[-1])
    assert judged["kind"] == "judge" and 0 < judged["learned_psnr"] < 60 and 0 < judged["held_out_psnr"] < 60


def test_corrections_move_frames_and_not_their_mean() -> None:
    torch.manual_seed(0)
    corrections = Corrections([4, 1], 52, 6)
    pose = pose_of([make_frame(i) for i in range(4)])
    same = corrections.corrected(pose, 0, [0, 1, 2, 3])
    for a, b in zip(pose, same, strict=True):
        torch.testing.assert_close(a, b)
    assert corrections.penalty(0) == 0
    with torch.no_grad():
        for parameter in corrections.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    moved = corrections.corrected(pose, 0, [0, 1, 2, 3])
    change = moved.expression - pose.expression
    assert change.abs().max() > 0.05 and change.mean(0).abs().max() < 1e-6
    turned = moved.T_world_root[:, :3, :3]
    unit = torch.eye(3).expand(4, 3, 3)
    torch.testing.assert_close(turned @ turned.transpose(1, 2), unit, atol=1e-5, rtol=0)
    third = Pose(*(part[2:3] for part in pose))
    torch.testing.assert_close(corrections.corrected(third, 0, [2]).rotations[0], moved.rotations[2])
    alone = pose_of([make_frame(0)])
    for a, b in zip(alone, corrections.corrected(alone, 1, [0]), strict=True):
        torch.testing.assert_close(a, b)
    assert corrections.penalty(0) > 0 and corrections.penalty(1) == 0
    assert {p for g in corrections.groups(0.5) for p in g["params"]} == {*corrections.parameters()}


def test_corrections_take_a_misplaced_frame_back() -> None:
    """Gaussians that are right for four frames pull the fifth, which was tracked 4 mm aside, into place."""
    head = thin_head(2)
    rig, count = Rig.of(head, TINY), len(head.template)
    frame = replace(
        make_frame(0), expression=np.zeros(52, np.float32), rotations=np.zeros((6, 3), np.float32)
    )
    betas, colours = torch.from_numpy(frame.shape), 0.5 + 0.5 * torch.sin(25 * rig.template)
    scales, quats = torch.full((count, 3), 0.008), torch.tensor([1.0, 0, 0, 0]).expand(count, 4)

    def drawn(pose: Pose) -> torch.Tensor:
        places = rig.pose_points(rig.points(betas), betas, pose)
        clouds = [Gaussians(place, quats, scales, torch.full((count,), 0.9), colours) for place in places]
        return torch.stack([rasterize(c, frame.camera, background=1.0, depth=False).image for c in clouds])

    pose = pose_of([frame] * 5)
    wanted, aside = drawn(pose), pose.T_world_root.clone()
    aside[4, 0, 3] += 0.004
    tracked = pose._replace(T_world_root=aside)
    corrections = Corrections([5], 52, 6)
    optimizer = torch.optim.Adam(corrections.groups(1.0), lr=2e-4)
    for _ in range(30):
        optimizer.zero_grad()
        (drawn(corrections.corrected(tracked, 0, range(5))) - wanted).abs().mean().backward()
        optimizer.step()
    found = drawn(corrections.corrected(tracked, 0, range(5)))[4] - wanted[4]
    assert found.abs().mean() < 0.5 * (drawn(tracked)[4] - wanted[4]).abs().mean()


def test_a_run_leaves_weights_an_avatar_and_a_sheet(tmp_path: Path, recording: Path) -> None:
    settings = replace(SETTINGS, iterations=2)
    learner = trainable([recording], settings, "cpu")
    outcome = loop.run(learner, tmp_path / "run", preview_every=2)
    facts = deliver(learner, tmp_path / "run")
    assert outcome.reason == "finished" and (tmp_path / "run" / "previews" / "000002.png").exists()
    model, _ = load_lam(facts["weights"])
    assert model.config == settings.model
    avatar = load_avatar(facts["avatar"])
    assert len(avatar) == facts["gaussians"] == len(load_free_head().template)
    assert avatar.method == "lam" and avatar.source == "cd" * 32
    assert "substitute" in facts["perceptual"] and Path(facts["sheet"]).stat().st_size > 500
    # What plays is what was trained, but for the limit below which changes are not stored.
    person = learner.people[0]
    in_training = mean_psnr(learner.draw(0, [5]), [person[5]])
    assert facts["avatar_psnr"] == pytest.approx(in_training, abs=0.1)


def test_one_photo_has_no_wrinkles_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    def track(path: Path, size: int) -> Frame:
        return make_frame(0, size)

    monkeypatch.setattr("headsplat.track.track_photo", track)
    settings = replace(SETTINGS, model=replace(TINY, expressions=52), size=64)
    learner = trainable([Path("somebody.jpg")], settings, "cpu")
    assert learner.settings.model.expressions == 0 and learner.people[0].held_out == 0
    assert learner.people[0][0].image.shape == (64, 64, 3)
    assert set(learner.judge()) == {"learned_psnr"}


@pytest.mark.parametrize("name", learn.PRESETS)
def test_presets_fit_together(name: str) -> None:
    settings = learn.PRESETS[name]()
    if settings.model.head == "free":
        assert settings.model.point_features in (0, FREE_HEAD_POINTS[settings.model.subdivisions])
        assert settings.loss.warmup < settings.iterations
    assert LamConfig.from_json(settings.model.to_json()) == settings.model


def test_the_numbers_of_points_are_those_of_the_head() -> None:
    once = subdivide(load_free_head(), 1)
    sides = np.sort(np.concatenate([once.faces[:, [0, 1]], once.faces[:, [1, 2]], once.faces[:, [2, 0]]]), 1)
    twice = len(once.template) + len(np.unique(sides, axis=0))  # a new point on every edge
    assert (len(load_free_head().template), len(once.template), twice) == FREE_HEAD_POINTS


def test_what_cannot_be_learned_from_is_refused(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="FLAME"):
        trainable([recording], learn.released(), "cpu")
    data = read_dataset(recording)
    with pytest.raises(HeadsplatError, match="headsplat track"):
        Person("x", replace(data, head="flame"), 48)
    doubtful = tuple(replace(view, confidence=0.0) for view in data.views)
    with pytest.raises(HeadsplatError, match="trusted"):
        Person("x", replace(data, views=doubtful), 48)
    with pytest.raises(HeadsplatError, match="size is 8"):
        trainable([recording], replace(SETTINGS, size=8), "cpu")
    with pytest.raises(HeadsplatError, match="nowhere"):
        trainable([tmp_path / "nowhere"], SETTINGS, "cpu")
    with pytest.raises(HeadsplatError, match=r"start\.safetensors"):
        trainable([recording], replace(SETTINGS, start=str(tmp_path / "start.safetensors")), "cpu")
