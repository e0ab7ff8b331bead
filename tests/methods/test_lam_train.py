"""LAM's training step: gradients reach everything, the paper's loss, and the switches of its Table 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from lam_cases import TINY, make_frame, thin_head

from headsplat import losses
from headsplat.camera import Camera
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.methods.lam.config import LamConfig, painted_features, posed_space, triplane_queries
from headsplat.methods.lam.model import Lam
from headsplat.methods.lam.rig import Rig
from headsplat.methods.lam.train import (
    Source,
    Target,
    TrainConfig,
    _in_picture,
    learning_rate,
    loss_parts,
    optimizer_of,
    pose_of,
    predict,
    source_of,
    target_of,
    total_loss,
    train_step,
)

VARIANTS = {
    "image": TINY,
    "joint": replace(TINY, attention="joint"),
    "cross, linear head": replace(TINY, attention="cross", trunk=0),
    "triplane": triplane_queries(TINY),
    "posed": posed_space(TINY),
    "painted": painted_features(TINY),
    "own features": replace(TINY, point_features=len(thin_head())),
    "wrinkles, turned": replace(TINY, expressions=52, rotate_gaussians=True),
}


PYRAMID = losses.perceptual()


def train(
    model: Lam,
    rig: Rig,
    draw: Callable[[int], tuple[Source, Target]],
    steps: int,
    settings: TrainConfig,
    precision: torch.dtype = torch.float32,
) -> list[dict[str, float]]:
    optimizer = optimizer_of(model, settings)
    rates = [learning_rate(step, steps, settings) for step in range(steps)]
    parts = (settings, PYRAMID, precision)
    return [train_step(model, rig, optimizer, draw(i), rate, *parts) for i, rate in enumerate(rates)]


def rig_of(config: LamConfig, head: HeadModel | None = None) -> Rig:
    return Rig.of(head or load_free_head(), config)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    config = VARIANTS[name]
    model, rig, frames = Lam(config), rig_of(config, thin_head()), [make_frame(i) for i in range(2)]
    with torch.no_grad():  # the released initial values hold some gradients at exactly zero
        for layer in model.renderer.gs_net.out_layers.values():
            layer.weight.add_(0.02 * torch.randn_like(layer.weight))
    source = source_of(frames[0], config)
    parts = loss_parts(
        rig, predict(model, rig, source), source.betas, target_of(frames), TrainConfig(), PYRAMID
    )
    total_loss(parts, TrainConfig()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # The last joint block drops its image stream, and with it the queries of the image tokens.
    unused = ("layers.1.attn.add_q_proj", "layers.1.attn.norm_added_q")
    assert [n for n in without if not (name == "joint" and any(u in n for u in unused))] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_training_lowers_the_loss_and_leaves_a_frozen_encoder_alone() -> None:
    torch.manual_seed(0)
    config = replace(TINY, freeze_encoder=True)
    model, rig = Lam(config), rig_of(config, thin_head(4))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    settings = TrainConfig(learning_rate=1e-2, warmup=2, frames=2, backgrounds=(1.0,))
    frames = [make_frame(i) for i in range(2)]
    log = train(model, rig, lambda i: (source_of(frames[i % 2], config), target_of(frames)), 25, settings)
    assert log[-1]["pixel"] + log[-1]["mask"] < 0.8 * (log[0]["pixel"] + log[0]["mask"])
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not any(k.startswith("encoder.model.") for k in changed)
    assert {"encoder.fusion_head.output_conv.weight", "pcl_embed.mlp.weight"} <= changed


def test_half_precision_trains_and_keeps_the_points_exact() -> None:
    torch.manual_seed(0)
    model, rig = Lam(TINY), rig_of(TINY, thin_head())
    sample = (source_of(make_frame(0), TINY), target_of([make_frame(0)]))
    points = rig.points(sample[0].betas)[None]
    exact = model.pcl_embed(points)
    with torch.autocast("cpu", torch.bfloat16):
        assert (model.pcl_embed(points) - exact).abs().max() < 0.05
    rows = train(model, rig, lambda _: sample, 3, TrainConfig(warmup=1), precision=torch.bfloat16)
    assert np.isfinite([row["pixel"] for row in rows]).all()
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    parts = {name: torch.tensor(v) for name, v in
             {"pixel": 2.0, "perceptual": 3.0, "mask": 5.0, "offset": 7.0, "psnr": 1e9}.items()}  # fmt: skip
    assert total_loss(parts, TrainConfig()).item() == pytest.approx(2 + 3 + 5 + 0.7)
    settings = TrainConfig(pixel=0, perceptual=0.5, mask=2, offset=1)
    assert total_loss(parts, settings).item() == pytest.approx(1.5 + 10 + 7)


def test_pixels_outside_the_photo_cost_nothing() -> None:
    torch.manual_seed(0)
    model, rig, frame = Lam(TINY), rig_of(TINY, thin_head()), make_frame(0)
    valid = frame.valid.copy()
    valid[30:] = False
    spoiled = frame.foreground.copy()
    spoiled[30:] = 0.123
    source = source_of(frame, TINY)
    prediction = predict(model, rig, source)
    frames = [replace(frame, valid=valid), replace(frame, valid=valid, foreground=spoiled)]
    rows = [loss_parts(rig, prediction, source.betas, target_of([f]), TrainConfig(), PYRAMID) for f in frames]
    for name in ("pixel", "perceptual", "mask", "psnr"):
        assert rows[0][name].item() == pytest.approx(rows[1][name].item(), rel=1e-5), name


def test_learning_rate_rises_then_falls_to_zero() -> None:
    settings = TrainConfig(learning_rate=1.0, warmup=10)
    rates = [learning_rate(step, 110, settings) for step in range(111)]
    assert rates[9] == pytest.approx(1.0) and rates[0] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.5) and rates[110] == pytest.approx(0)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()


def test_only_matrices_decay_and_points_own_features_learn_faster() -> None:
    model = Lam(replace(TINY, point_features=5))
    groups = optimizer_of(model, TrainConfig(point_rate=7)).param_groups
    own = [g for g in groups if g.get("factor") == 7]
    assert [p is model.point_features for g in own for p in g["params"]] == [True]
    for group in groups:
        if group not in own:
            assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])
    assert sum(len(g["params"]) for g in groups) == len([*model.parameters()])


def test_posing_and_unposing_are_inverse() -> None:
    rig, frame = rig_of(TINY), make_frame(3)
    root = np.eye(4, dtype=np.float32)
    root[:3, 3] = 0.1, -0.2, 0.3
    pose = pose_of([replace(frame, T_world_root=root)])
    betas = torch.from_numpy(frame.shape)
    points = rig.points(betas) + 0.01 * torch.randn(len(rig.template), 3)
    posed = rig.pose_points(points, betas, pose)
    assert (posed[0] - points).norm(dim=-1).mean() > 0.1
    torch.testing.assert_close(rig.unpose_points(posed, betas, pose)[0], points, atol=2e-6, rtol=0)


def test_posing_agrees_with_the_head_model() -> None:
    rig, frame = rig_of(TINY), make_frame(4)
    betas = torch.from_numpy(frame.shape)
    posed = rig.pose_points(rig.points(betas), betas, pose_of([frame]))[0]
    expected = load_free_head().with_shape(frame.shape).with_pose(frame.expression, frame.rotations).vertices
    np.testing.assert_allclose(posed.numpy(), expected, atol=2e-6)


def test_a_model_in_posed_space_at_rest_is_the_canonical_one() -> None:
    torch.manual_seed(0)
    model = Lam(TINY)
    frame = make_frame(5)
    still = replace(frame, expression=0 * frame.expression, rotations=0 * frame.rotations)
    first = predict(model, rig_of(TINY), source_of(still, TINY))
    config = posed_space(TINY)
    model.config = config
    second = predict(model, rig_of(config), source_of(still, config))
    torch.testing.assert_close(first.means, second.means, atol=1e-6, rtol=0)


def test_a_turned_gaussian_made_in_the_pose_of_the_source_comes_back_to_rest() -> None:
    torch.manual_seed(0)
    rig, frame = rig_of(replace(posed_space(TINY), rotate_gaussians=True)), make_frame(7)
    pose, betas = pose_of([frame]), torch.from_numpy(frame.shape)
    model = Lam(rig.config)
    with torch.no_grad():
        prediction = predict(model, rig, source_of(frame, rig.config))
        again = rig.gaussians(prediction, betas, pose)[0]
        posed = model(
            source_of(frame, rig.config).image[None], rig.pose_points(rig.points(betas), betas, pose)
        )
    torch.testing.assert_close(again.quats, posed.quats[0], atol=1e-5, rtol=0)
    assert (prediction.quats - posed.quats).abs().max() > 0.01


def test_gaussians_turn_with_the_head_only_if_asked() -> None:
    torch.manual_seed(0)
    frame = make_frame(6)
    turn = np.zeros_like(frame.rotations)
    turn[1] = 0, 0.7, 0
    pose, betas = pose_of([replace(frame, rotations=turn)]), torch.from_numpy(frame.shape)
    model, rig = Lam(TINY), rig_of(TINY)
    prediction = predict(model, rig, source_of(frame, TINY))
    still = rig.gaussians(prediction, betas, pose)[0]
    torch.testing.assert_close(still.quats, prediction.quats[0])
    turned = rig_of(replace(TINY, rotate_gaussians=True)).gaussians(prediction, betas, pose)[0]
    torch.testing.assert_close(turned.means, still.means)
    crown = int(load_free_head().template[:, 1].argmax())
    before, after = prediction.quats[0, crown], turned.quats[crown]
    assert 2 * torch.arccos((before * after).sum().abs()).item() == pytest.approx(0.7, abs=1e-3)


def test_painted_places_are_where_the_camera_sees_the_points() -> None:
    camera = Camera.orbit(yaw=0.4, pitch=0.1, width=37, height=53)
    points = np.random.default_rng(0).normal(0, 0.1, (20, 3)).astype(np.float32)
    pixels = camera.project(points)[:, :2]
    expected = 2 * pixels / [37, 53] - 1
    np.testing.assert_allclose(_in_picture(torch.from_numpy(points), camera).numpy(), expected, atol=1e-5)
