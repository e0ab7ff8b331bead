"""GaussianHead as a whole: it learns, resumes to the bit, becomes an avatar, and refuses what does not do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gaussianhead_cases import SIZE, tiny, write_recording

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.data.dataset import Dataset
from headsplat.data.datasets.native import write_pixels
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.methods.gaussianhead.config import GaussianHeadConfig, paper, released
from headsplat.methods.gaussianhead.create import create_avatar
from headsplat.methods.gaussianhead.learn import Learner, deliver, measure, trainable, views_of
from headsplat.methods.gaussianhead.model import pose
from headsplat.methods.gaussianhead.pictures import film_of
from headsplat.methods.gaussianhead.scene import scene_of, start_of
from headsplat.networks import Network
from headsplat.raster import Render, rasterize
from headsplat.train import loop
from synthetic import make_avatar


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_recording(tmp_path_factory.mktemp("recording"))


def learner_of(recording: Dataset, config: GaussianHeadConfig) -> Learner:
    return Learner(scene_of(recording, config), config)


@pytest.fixture(scope="module")
def trained(recording: Dataset) -> Learner:
    learner = learner_of(recording, tiny(iterations=250, densify_until=100, densify_every=20))
    for iteration in range(250):
        learner.step(iteration)
    return learner


def test_it_learns(recording: Dataset, trained: Learner) -> None:
    before = learner_of(recording, trained.config).judge()
    after = trained.judge()
    assert after["psnr"] > before["psnr"] + 6 and after["psnr"] > 18
    assert after["ssim"] > before["ssim"] and after["l1"] < before["l1"]
    assert trained.preview(0).shape == (SIZE, 2 * SIZE, 3)


def test_it_learns_the_expression(trained: Learner) -> None:
    """A held-out picture is met better with its own expression than with that of another frame."""
    sample, other = trained.judged[trained.held_out[0]], trained.judged[trained.train[1]]
    assert (sample.weights - other.weights).abs().max() > 0.3
    swapped = replace(sample, weights=other.weights, condition=other.condition)
    own, wrong = (trained.picture(s).image for s in (sample, swapped))
    mouth = sample.over(1.0)
    assert (own - mouth).square().mean() < (wrong - mouth).square().mean()


def test_an_interrupted_run_is_the_uninterrupted_one(recording: Dataset, tmp_path: Path) -> None:
    config = tiny(sh_degree=1, sh_every=4)
    whole = learner_of(recording, config)
    end = loop.run(whole, tmp_path / "whole", preview_every=0)
    first = learner_of(recording, config)
    step = first.step

    def stopping(iteration: int) -> dict[str, float]:
        if iteration == 7:
            raise RuntimeError("as if killed")
        return step(iteration)

    first.step = stopping  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        loop.run(first, tmp_path / "run", checkpoint_every=5, preview_every=0)
    again = learner_of(recording, config)
    assert len(first.model) != 300, "Gaussians were born before the stop"
    second = loop.run(again, tmp_path / "run", checkpoint_every=5, preview_every=0)
    assert second.judged == end.judged and second.iteration == 12
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


ROWS: dict[str, dict[str, Any]] = {
    "w/o tri-plane": {"appearance": "direct", "opacity_reset": 3},
    "w/o derivation": {"derivations": 0},
    "w/o ds": {"deform_scales": False},
    "w/o dq": {"deform_quats": False},
    "w/o ds and dq": {"deform_scales": False, "deform_quats": False},
    "w/o perceptual loss": {"perceptual": 0.0},
    "direct deform": {"residual": False, "zero_start": False},
    "global rotation": {"global_derivations": True},
    "decoded by MLP": {"appearance": "mlp"},
    "M-res": {"resolutions": (4, 8, 16)},
    "R-init": {"derivation_heir": "random"},
    "Z-init": {"derivation_heir": "identity"},
    **{f"K = {k}": {"derivations": k} for k in (1, 2, 8, 16)},
    "K-scheduler": {"derivation_schedule": "growing", "gaussians": 200},
    "released groups": {"channel_groups": "last"},
    "released optimiser": {"manifold": "euclidean", "derivations_decay": False},
    "released offsets": {"scale_offset": "linear", "colour_activation": "none", "activation": "sigmoid"},
    "canonical sampling": {"sample_at": "canonical"},
    "16 coefficients": {"sh_degree": 3, "sh_every": 1},
    "the paper's start": {"start": "random", "blendshapes": False},
    "moved by the skull": {"space": "head"},
    "field on the face": {"field_on": "face"},
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_tables_trains_and_plays(recording: Dataset, tmp_path: Path, row: str) -> None:
    config = tiny(iterations=5, densify_from=1, densify_every=2, densify_until=4, **ROWS[row])
    learner = learner_of(recording, config)
    start = {name: value.clone() for name, value in learner.model.state_dict().items()}
    for iteration in range(5):
        assert np.isfinite(list(learner.step(iteration).values())).all()
    learned = learner.model.state_dict()
    still = [
        name
        for name, value in start.items()
        if value.shape == learned[name].shape
        and value.is_floating_point()
        and torch.equal(value, learned[name])
    ]
    assert not [n for n in still if n.startswith("points") or n == "rotations"], "something does not learn"
    check_avatar(learner, tmp_path)


def check_avatar(learner: Learner, folder: Path) -> Avatar:
    """The avatar, through its file, draws what the learner draws."""
    save_avatar(create_avatar(learner), folder / "a.avatar")
    avatar = load_avatar(folder / "a.avatar")
    for number in (learner.held_out[0], learner.train[-1]):
        sample, view = learner.judged[number], learner.scene.dataset.views[number]
        rotations = dict(zip(learner.scene.dataset.joints, view.rotations, strict=True))
        cloud = avatar.animate(view.expression, rotations, view.T_world_root, sample.camera)
        drawn = rasterize(cloud, sample.camera, background=1.0, depth=False).image
        expected = learner.picture(sample).image.numpy()
        # The file rounds; the direct field of the untrained row has huge splats, for which that is visible.
        assert np.abs(drawn.clip(0, 1) - expected.clip(0, 1)).mean() < 4e-3
    return avatar


def test_the_avatar_draws_what_was_learned(trained: Learner, tmp_path: Path) -> None:
    avatar = check_avatar(trained, tmp_path)
    assert avatar.deformer is not None and avatar.method == "gaussianhead"
    assert avatar.source == "ab" * 32 and avatar.info["head"]["model"] == "free"
    assert 0 < avatar.seen.mean() < 1, "some of it was hardly seen"
    least = float(np.quantile(avatar.seen, 0.1))
    assert 0 < least < 1
    trained.config = replace(trained.config, least_seen=least)
    shown = create_avatar(trained)
    trained.config = replace(trained.config, least_seen=0.0)
    assert len(shown) < len(avatar) and shown.seen.min() >= least - 0.003, "what nobody saw is left out"
    smile = avatar.animate({"mouthSmileLeft": 1.0})
    assert np.abs(smile.means - avatar.animate().means).max() > 1e-3
    still = replace(avatar, deformer=None).animate()
    target, size = avatar.view_target, avatar.view_height
    assert (np.abs(still.means - target).max(1) < size).mean() > 0.95, "there is something to draw without it"


def test_depth_is_where_the_face_is(trained: Learner) -> None:
    sample = trained.judged[trained.held_out[0]]
    render = trained.picture(sample, depth=True)
    assert render.depth is not None
    solid = render.alpha > 0.9
    depth = (render.depth / render.alpha.clamp(min=1e-6))[solid]
    assert 0.7 < float(depth.median()) < 0.95, "the camera is 0.9 m from the head joint, behind the face"


def test_head_and_torso_move_apart(recording: Dataset) -> None:
    turn = {"head": (0.0, 0.6, 0.0)}
    moved = {}
    for space in ("split", "head"):
        avatar = create_avatar(learner_of(recording, tiny(space=space)))
        rest, turned = avatar.animate().means, avatar.animate(rotations=turn).means
        low = rest[:, 1] < np.quantile(rest[:, 1], 0.05)
        high = rest[:, 1] > np.quantile(rest[:, 1], 0.9)
        change = np.linalg.norm(turned - rest, axis=1)
        moved[space] = change[low].mean(), change[high].mean()
    assert moved["split"][0] < 0.2 * moved["head"][0], "shoulders stay where they are"
    assert moved["split"][1] == pytest.approx(moved["head"][1], rel=0.15)


def test_a_field_on_the_face_leaves_the_rest_alone(recording: Dataset) -> None:
    learner = learner_of(recording, tiny(field_on="face", zero_start=False))
    model, count = learner.model, len(learner.scene.dataset.expressions)
    assert model.face is not None and 0.1 < model.face.mean() < 0.9
    told, weights, eye = torch.ones(count + 9), torch.zeros(count), torch.zeros(3)
    deformed = model(told, weights, eye)
    model.deforming = False
    rest = model(told, weights, eye)
    for part in ("means", "quats", "scales"):
        change = (getattr(deformed, part) - getattr(rest, part)).abs().amax(1)
        assert (change[model.face == 0] == 0).all() and (change[model.face == 1] > 0).all()


def test_posing_in_torch_is_posing_in_numpy() -> None:
    avatar = make_avatar(50, seed=3)
    rotations = {"head": (0.3, -0.5, 0.2), "jaw": (0.2, 0, 0)}
    root = np.eye(4)
    root[:3, 3] = (0.1, 0.2, 0.3)
    T = avatar.joint_transforms(rotations, root)
    from headsplat.methods.gaussianhead.pictures import matrix_quats

    cloud = avatar.gaussians
    tensors = Gaussians(*(torch.from_numpy(getattr(cloud, f)) for f in vars(cloud)))
    joints = torch.from_numpy(avatar.skin_joints.astype(np.int64))
    posed = pose(
        tensors,
        joints,
        torch.from_numpy(avatar.skin_weights),
        torch.from_numpy(T),
        torch.from_numpy(matrix_quats(T)),
    )
    expected = avatar.animate(rotations=rotations, root=root)
    np.testing.assert_allclose(posed.means.numpy(), expected.means, atol=1e-5)
    same = np.abs((posed.quats.numpy() * expected.quats).sum(1))
    np.testing.assert_allclose(same, 1, atol=1e-5)


def test_the_scene_is_measured_in_pictures(recording: Dataset) -> None:
    scene = scene_of(recording, tiny())
    camera = recording.views[0].camera
    # 0.9 m to the target, and half of what is seen there.
    assert scene.half == pytest.approx(0.9 * SIZE / camera.K[1, 1] / 2, rel=0.05)
    assert np.abs(scene.centre - [0, -0.01, 0]).max() < 0.03
    view = recording.views[3]
    T = scene.transforms(view)[scene.bones.head]
    joint = np.eye(4)
    joint[:3, 3] = scene.bones.rest[scene.bones.head]
    np.testing.assert_allclose(T @ joint, view.T_world_head, atol=1e-5)


def test_the_start_reaches_out_to_the_matte_and_beyond_the_picture(recording: Dataset) -> None:
    config = tiny(gaussians=2000)
    scene = scene_of(recording, config)
    start = start_of(scene, config, np.random.default_rng(0))
    assert len(start.means) == 2000 and start.blend is not None
    np.testing.assert_allclose(start.skin_weights.sum(1), 1, atol=1e-6)
    view = recording.views[0]
    rest = start.means * scene.half + scene.centre
    T = np.einsum("nk,nkij->nij", start.skin_weights, scene.transforms(view)[start.skin_joints])
    world = np.einsum("nij,nj->ni", T[:, :3, :3], rest) + T[:, :3, 3]
    x, y, depth = view.camera.project(world).T
    inside = (x > 0) & (x < SIZE) & (y > 0) & (y < SIZE)
    assert (depth > 0.5).all() and inside.mean() > 0.6
    assert ((y > SIZE) & (y < 1.15 * SIZE)).any(), "the bust goes on below the picture"
    _, alpha = recording.load(view)
    covered = np.zeros((SIZE, SIZE), bool)
    for dx, dy in np.ndindex(3, 3):
        column, row = (np.clip(v.astype(int) + d - 1, 0, SIZE - 1) for v, d in ((x, dx), (y, dy)))
        covered[row[inside], column[inside]] = True
    assert covered[alpha > 0.9].mean() > 0.9


def test_the_edge_of_the_film_is_found_and_not_learned(tmp_path: Path) -> None:
    recording = write_recording(tmp_path, frames=5)
    cut = SIZE - 5
    for view in recording.views:
        image, alpha = recording.load(view)
        alpha[cut:] = 0
        image[cut:] = 1
        colour = (image - (1 - alpha[..., None])) / np.maximum(alpha[..., None], 1e-3)
        write_pixels(tmp_path, view.timestep, colour, alpha)
    config = tiny(background="white")
    scene = scene_of(recording, config)
    assert film_of(scene) == (0, 5, 0, 0)
    assert film_of(replace(scene, dataset=replace(recording, layout="insta"))) == (0, 0, 0, 0)
    learner = Learner(scene, config)
    sample = learner.pictures[0]
    assert not sample.valid[cut:].any() and sample.valid[:cut].all()
    image = sample.over(1.0).clone()
    image[cut:] = 0
    render = Render(image, sample.alpha, None)
    assert learner._loss(render, sample, 1.0)[0] < 1e-6, "what is drawn beyond the film costs nothing"
    assert measure(image, sample)["ssim"] > 0.999


def test_who_is_learned_from(recording: Dataset) -> None:
    scene = scene_of(recording, tiny())
    assert views_of(scene, tiny()) == ((0, 2, 3, 4, 5), (6, 7)), "view 1 was tracked badly"
    assert views_of(scene, tiny(least_confidence=0.05))[0] == tuple(range(6))
    whole = replace(scene, dataset=replace(recording, train=(), test=()))
    assert views_of(whole, tiny(hold_out=0.25)) == ((0, 2, 3, 4, 5), (6, 7))
    with pytest.raises(HeadsplatError, match="no view tracked with a confidence"):
        views_of(scene, tiny(least_confidence=2.0))


def test_recordings_without_our_head(recording: Dataset) -> None:
    foreign = replace(recording, head="none", joints=(), layout="insta")
    with pytest.raises(HeadsplatError, match="start=random"):
        scene_of(foreign, tiny())
    config = tiny(start="random", blendshapes=False, space="head", iterations=3)
    learner = Learner(scene_of(foreign, config), config)
    for iteration in range(3):
        learner.step(iteration)
    avatar = create_avatar(learner)
    assert avatar.joints == ("root", "head") and len(avatar.expression_means.index) == 0
    view = foreign.views[-1]
    root = view.T_world_head  # who has no head model moves all of it by the root
    drawn = rasterize(avatar.animate(view.expression, root=root), view.camera, background=1.0).image
    expected = learner.picture(learner.judged[learner.held_out[-1]]).image.numpy()
    assert np.abs(drawn - expected).mean() < 4e-3


@pytest.mark.parametrize("preset", [paper, released])
def test_the_papers_presets_run(recording: Dataset, preset: Any) -> None:
    config = replace(preset(), gaussians=40, field_from=1, size=24, judge_size=24)
    learner = learner_of(recording, config)
    assert learner._rate("means", 0) == 8e-4 and learner._rate("means", 40_000) == pytest.approx(8e-6)
    assert learner._rate("field", 80_000) == pytest.approx(1.6e-6)
    assert learner._rate("derivations", 40_000) == (5e-4 if preset is paper else 1e-3)
    for iteration in range(2):
        assert np.isfinite(learner.step(iteration)["loss"])


def damaged(network: Network, how: str) -> Network:
    config, tensors = json.loads(json.dumps(network.config)), dict(network.tensors)
    match how:
        case "unknown setting":
            config["settings"]["exec"] = "rm"
        case "wrong kind":
            config["settings"]["width"] = "wide"
        case "huge layers":
            config["settings"]["layers"] = 10**6
        case "huge planes":
            config["settings"]["resolutions"] = [10**6]
        case "no settings":
            del config["settings"]
        case "joint out of range":
            config["head"] = 77
        case "parents out of range":
            config["parents"] = [-1, 99, 1, 2, 2, 2]
        case "no size":
            config["half"] = 0
        case "missing tensor":
            del tensors["field.head.weight"]
        case "wrong shape":
            tensors["points.quats"] = tensors["points.quats"][:, :3]
        case "too few":
            tensors["points.means"] = tensors["points.means"][:-1]
        case "derivations that do not divide":
            tensors["points.derivations"] = tensors["points.derivations"][:, :3]
    return Network(network.kind, config, tensors)


@pytest.mark.parametrize(
    "how",
    [
        "unknown setting",
        "wrong kind",
        "huge layers",
        "huge planes",
        "no settings",
        "joint out of range",
        "parents out of range",
        "no size",
        "missing tensor",
        "wrong shape",
        "too few",
        "derivations that do not divide",
    ],
)
def test_damaged_networks_are_refused_in_words(trained: Learner, how: str) -> None:
    avatar = create_avatar(trained)
    assert avatar.deformer is not None
    bad = replace(avatar, deformer=damaged(avatar.deformer, how))
    with pytest.raises(HeadsplatError, match="damaged"):
        bad.animate()


def test_training_from_the_command_line(
    recording: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from headsplat.cli import main

    small = ("gaussians=200", "layers=2", "width=8", "size=24", "judge_size=24", "least_seen=0")
    words = ["train", "gaussianhead", "--data", str(recording.root), "-o", str(tmp_path / "run")]
    words += ["--iterations", "3", "--json", "--set", *small]
    for _ in range(2):  # the second finds everything done
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        facts = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (facts["iteration"], facts["reason"], facts["gaussians"]) == (3, "finished", 200)
        assert load_avatar(facts["avatar"]).deformer is not None
    with pytest.raises(SystemExit) as end:
        main([*words, "sh_degree=3"])
    assert end.value.code == 2 and "another sh_degree" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([*words[:4], str(tmp_path / "nowhere"), *words[5:]])
    assert end.value.code == 2


def test_a_recording_into_an_avatar_in_one_line(
    recording: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from headsplat.cli import main

    out = tmp_path / "me.avatar"
    words = ["create", str(recording.root), "-o", str(out), "--method", "gaussianhead"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--minutes", "0.0001", "--json"])
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end.value.code == 0 and facts["reason"] == "minutes" and facts["avatar"] == str(out)
    assert load_avatar(out).deformer is not None
    with pytest.raises(SystemExit) as end:
        main([*words, str(recording.root)])
    assert end.value.code == 2


def test_one_recording_at_a_time(recording: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="one person from one recording"):
        trainable((recording.root, recording.root), tiny(), "cpu")
    learner = trainable((recording.root,), tiny(gaussians=50), "cpu")
    facts = deliver(learner, tmp_path)
    assert Path(facts["avatar"]).stat().st_size == facts["bytes"] < 1e6
