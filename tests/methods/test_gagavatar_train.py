"""GAGAvatar's training: what a step sees, that it learns, that it resumes, and the paper's ablations."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gagavatar_cases import HEAD, MODEL, SETTINGS, write_recording

from headsplat.avatar_file import load_avatar
from headsplat.errors import HeadsplatError
from headsplat.methods.gagavatar.config import (
    GagavatarConfig,
    one_plane,
    without_global_feature,
    without_neural_renderer,
)
from headsplat.methods.gagavatar.learn import PRESETS, Learner, Settings, deliver, trainable
from headsplat.methods.gagavatar.losses import crop, enlarged_box, nearest_squared
from headsplat.methods.gagavatar.subject import Subject
from headsplat.methods.gagavatar.train import LossWeights
from headsplat.methods.gagavatar.weights import load_gagavatar
from headsplat.train import loop


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    write_recording(folder)
    return folder


def learner(recording: Path, settings: Settings = SETTINGS) -> Learner:
    return trainable([recording], settings, "cpu")


def test_the_still_head_is_seen_where_the_moving_one_was(recording: Path) -> None:
    subject = learner(recording).subjects[0]
    for number, view in enumerate(subject.dataset.views):
        target = subject.target(number)
        still = target.camera.project(target.vertices.numpy())
        posed = subject.shaped.with_pose(view.expression, view.rotations, view.T_world_root).vertices
        moving = view.camera.resize(32, 32).project(posed)
        np.testing.assert_allclose(still[:, :2], moving[:, :2], atol=2e-3)
        np.testing.assert_allclose(still[:, 2], 5 * moving[:, 2], atol=1e-3)
        left, top, right, bottom = target.box.numpy() * 32
        assert 0 <= left < right <= 32 and 0 <= top < bottom <= 32
        skull = moving[HEAD.skin_weights[:, 2:].sum(1) > 0.5]
        assert left == pytest.approx(max(skull[:, 0].min(), 0), abs=1e-2)


def test_pictures_lie_on_black(recording: Path) -> None:
    subject = learner(recording).subjects[0]
    image, alpha = subject.dataset.load(subject.dataset.views[0])
    target = subject.target(0)
    assert target.image[target.alpha == 0].abs().max() <= 1 / 255
    inside = target.alpha.numpy() == 1
    whole = np.array(image * (alpha == 1)[..., None])
    assert abs(target.image.numpy()[inside].mean() - whole[alpha == 1].mean()) < 0.05


@pytest.mark.parametrize("size", [(9, 7), (32, 20)])
def test_a_crop_of_everything_is_everything(size: tuple[int, int]) -> None:
    image = torch.rand(1, size[0], size[0], 3)
    torch.testing.assert_close(crop(image, torch.tensor([[0.0, 0, 1, 1]]), size[0]), image)


def test_enlarged_boxes_are_squares_around_the_same_centre_inside_the_picture() -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.6, (200, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(0.05, 0.4, (200, 2))], 1))
    large = enlarged_box(boxes)
    sides = large[:, 2:] - large[:, :2]
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    torch.testing.assert_close(large[:, :2] + large[:, 2:], boxes[:, :2] + boxes[:, 2:])
    assert (large >= 0).all() and (large <= 1).all()
    free = (large > 0).all(1) & (large < 1).all(1)
    wanted = 1.1 * (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    torch.testing.assert_close(sides[free, 0], wanted[free])
    assert (sides[:, 0] <= wanted + 1e-9).all() and free.sum() > 20


def test_nearest_points_by_looking_at_all_of_them() -> None:
    vertices, points = torch.randn(2, 30, 3), torch.randn(2, 50, 3, requires_grad=True)
    found = nearest_squared(vertices, points)
    slow = (vertices[:, :, None] - points[:, None]).square().sum(-1)
    torch.testing.assert_close(found, slow.min(-1).values)
    found.sum().backward()
    assert points.grad is not None
    touched = points.grad.abs().sum(-1) > 0
    assert torch.equal(touched[0].nonzero()[:, 0], slow[0].argmin(-1).unique())


ABLATIONS: dict[str, GagavatarConfig] = {
    "ours": MODEL,
    "one-plane lifting": one_plane(MODEL),
    "w/o F_id": without_global_feature(MODEL),
    "w/o neural renderer": without_neural_renderer(MODEL),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_parameter_gets_a_gradient(name: str, recording: Path) -> None:
    subject = learner(recording, replace(SETTINGS, model=ABLATIONS[name]))
    scalars = subject.step(0)
    assert all(np.isfinite(v) for v in scalars.values())
    for key, parameter in subject.model.named_parameters():
        expected = parameter.requires_grad and "mask_token" not in key
        if name == "w/o F_id" and key in ("base_model.dino_model.cls_token",):
            expected = True  # still attended to
        assert (parameter.grad is not None) == expected, key


def test_the_mask_loss_teaches_coverage(recording: Path) -> None:
    nothing = LossWeights(image=0, box=0, perceptual=0, lifting=0, mask=1)
    subject = learner(recording, replace(SETTINGS, loss=nothing))
    errors = [subject.step(i)["mask"] for i in range(15)]
    assert min(errors[-3:]) < 0.85 * errors[0]
    released = replace(SETTINGS, model=replace(SETTINGS.model, matte=False))
    assert "mask" not in learner(recording, released).step(0)


def test_without_lifting_loss_nothing_pulls_the_points(recording: Path) -> None:
    settings = replace(SETTINGS, loss=LossWeights(image=0, box=0, perceptual=0, lifting=0, mask=0))
    subject = learner(recording, settings)
    before = {k: v.clone() for k, v in subject.model.state_dict().items()}
    subject.step(0)
    assert all(torch.equal(before[k], v) for k, v in subject.model.state_dict().items())
    subject = learner(
        recording, replace(settings, loss=LossWeights(image=0, box=0, perceptual=0, lifting=1, mask=0))
    )
    first = subject.step(0)["lifting"]
    last = [subject.step(i)["lifting"] for i in range(1, 12)][-1]
    assert last < first


def test_it_learns(recording: Path) -> None:
    subject = learner(recording)
    scalars = [subject.step(i) for i in range(20)]
    assert np.mean([s["loss"] for s in scalars[-5:]]) < 0.7 * scalars[0]["loss"]
    judged = subject.judge()
    assert set(judged) == {"fit", "fit_coarse", "psnr", "psnr_coarse"}
    assert subject.preview(20).shape == (64, 128, 3)


def test_targets_are_all_frames_in_turn_and_never_their_own_source(recording: Path) -> None:
    subject = learner(recording)
    drawn = [subject._drawn(i) for i in range(12)]
    for epoch in range(6):
        targets = [t for _, _, numbers in drawn[2 * epoch : 2 * epoch + 2] for t in numbers]
        assert sorted(targets) == [0, 1, 2, 3]
    assert all(source not in numbers for _, source, numbers in drawn)
    assert len({source for _, source, _ in drawn}) > 2


def test_a_stopped_run_goes_on_to_the_bit(recording: Path) -> None:
    settings = replace(SETTINGS, iterations=4)

    def train(*stops: int) -> dict[str, torch.Tensor]:
        kept, done = io.BytesIO(), 0
        for stop in (*stops, 4):
            subject = learner(recording, settings)
            if done:
                subject.load(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
            for i in range(done, stop):
                subject.step(i)
            kept, done = io.BytesIO(), stop
            torch.save(subject.state(), kept)
        return subject.model.state_dict()

    whole, parts = train(), train(1, 3)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_the_loop_trains_it_and_it_delivers_an_avatar(recording: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, iterations=3)
    subject = learner(recording, settings)
    outcome = loop.run(subject, tmp_path, preview_every=2, judge_every=0)
    assert outcome.reason == "finished" and "psnr" in outcome.judged
    facts = deliver(subject, tmp_path)
    assert load_gagavatar(facts["model"]).config == MODEL
    avatar = load_avatar(facts["avatar"])
    assert avatar.method == "gagavatar" and avatar.refiner is not None and avatar.deformer is None


def test_what_cannot_be_trained_is_refused(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="expression_quats=unit"):
        learner(recording, replace(SETTINGS, model=replace(MODEL, expression_quats="vertices")))
    with pytest.raises(HeadsplatError, match="flame=FLAME_with_eye"):
        learner(recording, replace(SETTINGS, model=replace(MODEL, head="flame")))
    dataset = write_recording(tmp_path, views=2)
    with pytest.raises(HeadsplatError, match="two frames at least"):
        Subject(dataset, HEAD, MODEL, 32)
    with pytest.raises(HeadsplatError, match="tracked with FLAME"):
        Subject(replace(dataset, head="flame"), HEAD, MODEL, 32)


def test_presets_make_settings() -> None:
    assert list(PRESETS) == ["small", "ours"]
    assert PRESETS["ours"]().iterations == 200_000 and PRESETS["ours"]().loss == LossWeights()
    assert PRESETS["small"]().size == 256
