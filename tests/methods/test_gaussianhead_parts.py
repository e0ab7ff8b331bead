"""GaussianHead's parts against slow definitions: sphere, harmonics, field, planes, densification."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gaussianhead_cases import tiny
from torch.nn import functional as F

from headsplat.camera import Camera
from headsplat.gaussians import quat_to_matrix
from headsplat.methods.gaussianhead import density, harmonics, paper
from headsplat.methods.gaussianhead.appearance import Appearance, rotate
from headsplat.methods.gaussianhead.config import GaussianHeadConfig, released, small
from headsplat.methods.gaussianhead.field import DeformationField, encode
from headsplat.methods.gaussianhead.model import GaussianHead, initial_points
from headsplat.methods.gaussianhead.riemannian import (
    RiemannianAdam,
    exp_map,
    project,
    random_quats,
    transport,
)


def sphere_points(count: int, seed: int = 0) -> torch.Tensor:
    quats = random_quats(count, generator=torch.Generator().manual_seed(seed)).double()
    return F.normalize(quats, dim=-1)


def test_riemannian_adam_is_its_slow_definition() -> None:
    """Becigneul & Ganea's algorithm 1a for one quaternion at a time, in plain numpy and angles."""
    start, rate, first, second, eps = sphere_points(5), 0.03, 0.9, 0.999, 1e-8
    targets = sphere_points(5, seed=1)
    fast = torch.nn.Parameter(start.clone())
    optimizer = RiemannianAdam([fast], lr=rate, eps=eps)
    slow, m, v = start.numpy().copy(), np.zeros((5, 4)), np.zeros(5)
    for step in range(1, 30):
        optimizer.zero_grad()
        (fast * targets).sum().square().backward()
        optimizer.step()
        pull = 2 * (slow * targets.numpy()).sum() * targets.numpy()
        for i in range(5):
            q = slow[i].copy()
            g = pull[i] - (q @ pull[i]) * q
            m[i] = first * m[i] + (1 - first) * g
            v[i] = second * v[i] + (1 - second) * (g @ g)
            u = -rate * m[i] / (1 - first**step) / (math.sqrt(v[i] / (1 - second**step)) + eps)
            angle = np.linalg.norm(u)
            away = u / angle
            slow[i] = math.cos(angle) * q + math.sin(angle) * away
            # Parallel transport turns the part along the great circle and leaves the rest alone.
            along = m[i] @ away
            m[i] += along * (math.cos(angle) * away - math.sin(angle) * q - away)
        np.testing.assert_allclose(fast.detach().numpy(), slow, atol=1e-9)
    np.testing.assert_allclose(fast.detach().norm(dim=-1).numpy(), 1, atol=1e-12)


def test_riemannian_adam_reaches_the_nearest_rotation() -> None:
    quats, target = torch.nn.Parameter(sphere_points(40)), sphere_points(1, seed=3)
    optimizer = RiemannianAdam([quats], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (1 - (quats * target).sum(-1).square()).sum().backward()
        optimizer.step()
    assert ((quats * target).sum(-1).abs() > 1 - 1e-4).all()


def test_walks_on_the_sphere() -> None:
    points = sphere_points(50)
    tangents = project(points, torch.randn(50, 4, dtype=torch.double))
    moved = exp_map(points, tangents)
    torch.testing.assert_close((points * tangents).sum(-1), torch.zeros(50, dtype=torch.double))
    distance = (points * moved).sum(-1).clamp(-1, 1).arccos()
    torch.testing.assert_close(distance.cos(), tangents.norm(dim=-1).cos())
    other = project(points, torch.randn(50, 4, dtype=torch.double))
    carried = transport(points, moved, other)
    torch.testing.assert_close((moved * carried).sum(-1), torch.zeros(50, dtype=torch.double))
    torch.testing.assert_close(carried.norm(dim=-1), other.norm(dim=-1))
    torch.testing.assert_close(exp_map(points, 0 * tangents), points)


def test_random_quats_are_uniform() -> None:
    quats = random_quats(20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(quats.T @ quats / 20_000, torch.eye(4) / 4, atol=6e-3, rtol=0)
    torch.testing.assert_close(quats.mean(0), torch.zeros(4), atol=0.01, rtol=0)


def test_harmonics_are_orthonormal() -> None:
    # A grid in cos(theta) by Gauss and in phi evenly integrates products of degree 3 exactly.
    heights, weights = np.polynomial.legendre.leggauss(8)
    phi = np.arange(16) * 2 * np.pi / 16
    ring = np.sqrt(1 - heights**2)
    directions = np.stack(
        [np.outer(ring, np.cos(phi)), np.outer(ring, np.sin(phi)), np.outer(heights, np.ones(16))], -1
    ).reshape(-1, 3)
    area = np.outer(weights, np.full(16, 2 * np.pi / 16)).ravel()
    values = harmonics.basis(torch.from_numpy(directions), 3).numpy()
    np.testing.assert_allclose((values * area[:, None]).T @ values, np.eye(16), atol=1e-12)


def test_colours_of_degree_zero_do_not_see_the_view() -> None:
    coefficients = torch.randn(6, 16, 3)
    ways = F.normalize(torch.randn(2, 6, 3), dim=-1)
    flat = [harmonics.colours(coefficients, w, 0) for w in ways]
    torch.testing.assert_close(flat[0], flat[1])
    assert not torch.allclose(*(harmonics.colours(coefficients, w, 1) for w in ways))
    assert float(harmonics.colours(-10 * coefficients.abs(), ways[0], 0).min()) == 0


def test_encoding_is_sines_and_cosines() -> None:
    points = torch.randn(30, 3, dtype=torch.double)
    wanted = [points]
    for octave in range(10):
        wanted += [(2.0**octave * points).sin(), (2.0**octave * points).cos()]
    torch.testing.assert_close(encode(points, 10), torch.cat(wanted, -1), atol=1e-10, rtol=0)
    assert float((encode(points.float(), 10) - torch.cat(wanted, -1)).abs().max()) < 2e-3


@pytest.mark.parametrize("skip", [0, 2])
def test_the_field_is_an_mlp_of_everything_joined(skip: int) -> None:
    field = DeformationField(7, 4, 16, skip, 3, False)
    points, condition = torch.randn(11, 3), torch.randn(7)
    joined = torch.cat([encode(points, 3), condition.expand(11, -1)], -1)
    x = joined
    for i, layer in enumerate(field.layers):
        if skip and i == skip:
            x = torch.cat([joined, x], -1)
        x = torch.relu(layer(x))
    torch.testing.assert_close(torch.cat(field(points, condition), -1), field.head(x))
    moves = torch.cat(DeformationField(7, 4, 16, skip, 3, True)(points, condition), -1)
    assert not moves.any(), "zero_start begins with no offset"
    points.requires_grad_()
    assert not torch.cat(field(points, condition), -1).sum().backward() and points.grad is None


def test_rotations_match_matrices() -> None:
    points, quats = torch.randn(9, 3), random_quats(9, 2, generator=torch.Generator().manual_seed(1))
    turned = rotate(points, quats)
    wanted = torch.from_numpy(quat_to_matrix(quats.numpy())) @ points[:, None, :, None]
    torch.testing.assert_close(turned, wanted[..., 0].transpose(0, 1))
    shared = rotate(points, quats[0])
    torch.testing.assert_close(shared[:, 0], turned[:, 0])
    torch.testing.assert_close(rotate(points, quats, unit=False), turned)
    longer = rotate(points, 2 * quats, unit=False)
    torch.testing.assert_close(longer - points, 2 * (turned - points))


def bilinear(plane: np.ndarray, x: float, y: float) -> np.ndarray:
    """(C,) of a (C, R, R) plane at -1..1, its border going on; pixel centres at (i + 0.5)."""
    size = plane.shape[-1]
    u, v = (np.clip((c + 1) / 2 * size - 0.5, 0, size - 1) for c in (x, y))
    i, j = min(int(u), size - 2), min(int(v), size - 2)
    a, b = u - i, v - j
    top = plane[:, j, i] * (1 - a) + plane[:, j, i + 1] * a
    return top * (1 - b) + (plane[:, j + 1, i] * (1 - a) + plane[:, j + 1, i + 1] * a) * b


@pytest.mark.parametrize("groups", ["own", "last"])
def test_features_are_equation_4(groups: str) -> None:
    config = tiny(derivations=4, channel_groups=groups)
    appearance = Appearance(config)
    points = torch.rand(5, 3) * 2.4 - 1.2
    quats = random_quats(5, 4, generator=torch.Generator().manual_seed(2))
    found = appearance.features(points, quats).detach().numpy()
    planes = appearance.planes[0].detach().numpy()
    for n in range(5):
        slow = []
        for k in range(4):
            x, y, z = quat_to_matrix(quats[n, k].numpy()) @ points[n].numpy()
            at = slice(8 * k, 8 * k + 8) if groups == "own" else slice(24, 32)
            xy, xz, yz = (bilinear(planes[p, at], *w) for p, w in enumerate(((x, y), (x, z), (y, z))))
            slow.append(xy * xz * yz)
        np.testing.assert_allclose(found[n], np.concatenate(slow), atol=1e-5)


def test_identity_derivations_are_no_derivation() -> None:
    appearance = Appearance(tiny())
    points = torch.rand(6, 3) - 0.5
    identity = torch.tensor([1.0, 0, 0, 0]).repeat(6, 4, 1)
    torch.testing.assert_close(appearance.features(points, identity), appearance.features(points, None))


def test_equation_12() -> None:
    wanted = {1: 1, 10_000: 1, 10_001: 2, 20_001: 4, 35_000: 8, 45_000: 16, 55_000: 32, 90_000: 32}
    assert {n: density.scheduled_derivations(n, 10_000) for n in wanted} == wanted


def test_screen_gradient_is_the_gradient_on_the_screen() -> None:
    camera = Camera.look_at((0.2, 0.1, 1.2), (0, 0, 0), 300.0, 90, 70)
    means = (0.1 * torch.randn(20, 3)).requires_grad_()
    view, K = torch.from_numpy(camera.viewmat), torch.from_numpy(camera.K)
    pull = torch.randn(20, 2)

    def on_screen(p: torch.Tensor) -> torch.Tensor:
        seen = p @ view[:3, :3].T + view[:3, 3]
        return (seen @ K.T)[:, :2] / seen[:, 2:]

    (on_screen(means) * pull).sum().backward()
    assert means.grad is not None
    found = density.screen_gradient(means.grad, means.detach(), camera)
    torch.testing.assert_close(found, (pull * torch.tensor([45.0, 35.0])).norm(dim=1), rtol=1e-4, atol=0)


def model_of(config: GaussianHeadConfig, count: int = 6, seed: int = 0) -> GaussianHead:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    means = torch.rand(count, 3, generator=generator) - 0.5
    points, rotations = initial_points(config, means, torch.full((count,), 0.05), generator)
    points = {k: v + 0.1 * torch.rand(v.shape) if k == "quats" else v for k, v in points.items()}
    skin = torch.zeros(count, 4, dtype=torch.int64), torch.eye(4)[torch.zeros(count, dtype=torch.int64)]
    blend = torch.rand(count, 3, 2)
    return GaussianHead(config, 2, points, *skin, blend, rotations)


def noted(gradient: list[float], opacity: list[float]) -> density.Density:
    out = density.Density(len(gradient), "cpu")
    out.gradient, out.opacity = torch.tensor(gradient), torch.tensor(opacity)
    out.seen += 1
    return out


def test_density_clones_splits_and_prunes() -> None:
    config = tiny(densify_gradient=1.0, split_above=0.06, prune_opacity=0.1, derivations=2, channels=8)
    model = model_of(config)
    with torch.no_grad():
        model.points["log_scales"][3:] = math.log(0.1)
    before = {k: v.detach().clone() for k, v in model.points.items()}
    blend = model.blend
    assert blend is not None
    adam = torch.optim.Adam([model.points[k] for k in model.points if k != "derivations"], lr=0.0)
    turning = RiemannianAdam([model.points["derivations"]], lr=0.0)
    sum(p.square().sum() + p.sum() for p in model.points.values()).backward()  # type: ignore[union-attr]
    adam.step()
    turning.step()
    moments = adam.state[model.points["means"]]["exp_avg"].clone()
    # 0 stays, 1 is cloned, 2 is too faint, 3 is split, 4 stays, 5 is faint although it pulls.
    tally = noted([0, 2, 0, 2, 0, 2], [0.5, 0.5, 0.01, 0.5, 0.5, 0.01])
    density.change(model, [adam, turning], tally, config, 10, torch.Generator().manual_seed(0))
    parents = [0, 1, 4, 1, 3, 3]
    assert len(model) == 6
    torch.testing.assert_close(model.points["derivations"].data, before["derivations"][parents])
    torch.testing.assert_close(model.blend, blend[parents])
    torch.testing.assert_close(model.points["means"][:4].data, before["means"][parents[:4]])
    assert (model.points["means"][4:] - before["means"][3]).abs().min() > 0, "halves move apart"
    shrunk = before["log_scales"][3] - math.log(density.SPLIT_SHRINK)
    torch.testing.assert_close(model.points["log_scales"][4:].data, shrunk.expand(2, 3))
    state = adam.state[model.points["means"]]["exp_avg"]
    torch.testing.assert_close(state[:3], moments[[0, 1, 4]])
    assert not state[3:].any(), "newborns have no moments"
    assert not tally.seen.any() and len(tally.seen) == 6
    own = {id(p) for p in model.points.values()}
    assert {id(p) for g in (*adam.param_groups, *turning.param_groups) for p in g["params"]} == own


def test_what_no_picture_pulled_at_is_dropped_where_asked() -> None:
    for asked, left in ((True, 4), (False, 6)):
        config = tiny(densify_gradient=1.0, prune_hidden=asked)
        model, tally = model_of(config), noted([0] * 6, [1.0] * 6)
        tally.seen[2:4] = 0
        density.change(model, [], tally, config, 10, torch.Generator())
        assert len(model) == left


def test_density_stays_within_its_limit_and_never_ends_with_nothing() -> None:
    config = tiny(densify_gradient=1.0, most_gaussians=8)
    model = model_of(config)
    density.change(model, [], noted([9, 8, 7, 6, 5, 4], [1.0] * 6), config, 10, torch.Generator())
    assert len(model) == 8
    density.change(model, [], noted([0] * 8, [0.0] * 8), config, 20, torch.Generator())
    assert len(model) == 8


@pytest.mark.parametrize("heir", ["inherit", "random", "identity"])
def test_derivations_of_newborns(heir: str) -> None:
    config = tiny(densify_gradient=1.0, derivation_heir=heir)
    model = model_of(config)
    old = model.points["derivations"].detach().clone()
    tally = noted([2, 0, 0, 0, 0, 0], [1.0] * 6)
    density.change(model, [], tally, config, 10, torch.Generator().manual_seed(7))
    new = model.points["derivations"].detach()
    torch.testing.assert_close(new.norm(dim=-1), torch.ones(new.shape[:2]))
    newborn = new[5:]
    if heir == "inherit":
        torch.testing.assert_close(newborn, old[:1].expand_as(newborn))
    elif heir == "identity":
        assert (newborn == torch.tensor([1.0, 0, 0, 0])).all()
    else:
        assert not torch.isclose(newborn[0], newborn[1]).all() and not torch.isclose(newborn[0], old[0]).all()


def test_growing_derivations_keep_the_picture() -> None:
    config = tiny(derivation_schedule="growing", densify_gradient=1.0, gaussians=6)
    model = model_of(config)
    turning = RiemannianAdam([model.points["derivations"]])
    assert model.points["derivations"].shape == (6, 1, 4) and model.appearance is not None
    tally = noted([2, 0, 0, 0, 0, 0], [1.0] * 6)
    density.change(model, [turning], tally, config, 10, torch.Generator())
    quats = model.points["derivations"]
    assert quats.shape[1] == 2 and turning.param_groups[0]["params"] == [quats]
    points = torch.rand(len(model), 3) - 0.5
    torch.testing.assert_close(
        model.appearance.features(points, quats), model.appearance.features(points, quats[:, :1])
    )


def test_presets_are_what_the_paper_says() -> None:
    config = paper()
    assert (config.iterations, config.size, config.gaussians, config.derivations) == (80_000, 512, 10_000, 4)
    assert (config.pixel, config.perceptual, config.dssim) == (0.8, 0.01, 0.2)
    assert (config.resolutions, config.channels, config.sh_degree) == ((64,), 32, 3)
    for preset in (paper(), released(), small()):
        assert GaussianHeadConfig.from_json(preset.to_json()) == preset
    model = model_of(config)
    field = sum(p.numel() for p in model.field.parameters())
    assert field == (65 + 8 * 0) * 256 + 256 + 6 * (256 * 256 + 256) + (65 + 256) * 256 + 256 + 257 * 10
    planes = sum(p.numel() for p in model.appearance.planes)  # type: ignore[union-attr]
    assert planes == 3 * 32 * 64 * 64


@pytest.mark.parametrize(
    "changes",
    [
        {"derivations": 5},
        {"resolutions": ()},
        {"sh_degree": 4},
        {"start": "random"},
        {"skip": 9},
        {"iterations": 0},
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        tiny(**changes)
