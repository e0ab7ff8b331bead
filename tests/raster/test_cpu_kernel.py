"""The CPU kernel against the float64 definition, and what it promises about threads and bad input."""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.raster import GSPLAT, THREE_DGS, cpu, rasterize

NAMES = ("means", "quats", "scales", "opacities", "features")


def arrays(g):
    return [getattr(g, name) for name in NAMES]


def random_cloud(count, channels, seed=0, size=0.01):
    r = np.random.default_rng(seed)
    cloud = Gaussians(
        r.normal(0, 0.08, (count, 3)),
        r.normal(size=(count, 4)),
        size * np.exp(r.normal(0, 0.5, (count, 3))),
        r.uniform(0.002, 0.999, count),
        r.uniform(0, 1, (count, channels)),
    )
    return Gaussians(*(a.astype(np.float32) for a in arrays(cloud)))


def camera(width, height, distance=1.0):
    return Camera.orbit(0.3, 0.2, width=width, height=height, distance=distance, focal=3.0 * height)


@pytest.mark.parametrize("rules", [THREE_DGS, GSPLAT], ids=["3dgs", "gsplat"])
@pytest.mark.parametrize(
    ("width", "height", "channels"), [(67, 45, 3), (130, 71, 3), (33, 97, 1), (50, 41, 7), (39, 30, 35)]
)
def test_image_and_gradients_equal_the_definition(width, height, channels, rules):
    cloud, cam = random_cloud(250, channels), camera(width, height)
    r = np.random.default_rng(1)
    shapes = [(height, width, channels), (height, width), (height, width)]
    weights = [torch.tensor(r.normal(size=s)) for s in shapes]

    def draw(dtype, backend):
        leaves = [torch.tensor(a, dtype=dtype).requires_grad_() for a in [*arrays(cloud), cam.viewmat]]
        leaves.append(torch.linspace(0.1, 0.9, channels, dtype=dtype).requires_grad_())
        view = Camera(leaves[5], cam.K, width, height)
        out = rasterize(Gaussians(*leaves[:5]), view, background=leaves[6], backend=backend, rules=rules)
        outputs = (out.image, out.alpha, out.depth)
        sum((w.to(dtype) * o).sum() for w, o in zip(weights, outputs, strict=True)).backward()
        return [o.detach().double() for o in outputs], [leaf.grad.double() for leaf in leaves]

    expected, expected_grads = draw(torch.float64, "reference")
    actual, actual_grads = draw(torch.float32, "cpu")
    for a, e in zip(actual, expected, strict=True):
        assert (a - e).abs().max() < 1e-5
    for a, e in zip(actual_grads, expected_grads, strict=True):
        assert (a - e).norm() < 1e-4 * e.norm()


@pytest.mark.parametrize("channels", [3, 20])
def test_bits_do_not_depend_on_threads(channels):
    cloud, cam = random_cloud(5000, channels), camera(301, 203)
    grad = np.random.default_rng(2).normal(size=(203, 301, channels)).astype(np.float32)
    runs = []
    for threads in (1, 2, 3):
        frame = cpu.forward(cloud, cam, threads=threads)
        runs.append([frame.image, frame.alpha, frame.depth, *cpu.backward(frame, grad)])
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            assert np.array_equal(a, b)


def _digest(connection):
    image = cpu.forward(random_cloud(4000, 3), camera(120, 90), threads=2).image
    connection.send(float(image.sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_draws_with_threads_of_its_own():
    expected = cpu.forward(random_cloud(4000, 3), camera(120, 90), threads=2).image.sum()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_digest, args=(theirs,))
    child.start()
    assert ours.poll(60), "the child hangs"
    assert ours.recv() == float(expected)
    child.join()


def test_threads_of_python_may_draw_at_the_same_time():
    cloud, cam = random_cloud(3000, 3), camera(150, 110)
    expected = cpu.forward(cloud, cam).image
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: cpu.forward(cloud, cam, threads=2).image, range(24)))
    assert all(np.array_equal(image, expected) for image in images)


def test_arrays_outlive_the_frame_and_are_not_handed_out_twice():
    cloud, cam = random_cloud(500, 3), camera(90, 70)
    first = cpu.forward(cloud, cam).image
    kept = first.copy()
    for _ in range(10):
        cpu.forward(random_cloud(500, 3, seed=1), cam)
    assert np.array_equal(first, kept)


def test_no_gaussians_give_the_background():
    render = rasterize(random_cloud(0, 3), camera(31, 17), background=[0.1, 0.2, 0.3])
    assert np.allclose(render.image, [0.1, 0.2, 0.3])
    assert not render.alpha.any() and not render.depth.any()


def test_gaussians_behind_the_camera_or_outside_are_not_drawn_and_get_no_gradient():
    cloud = random_cloud(40, 3)
    cloud.means[:20, 2] += 5  # behind
    cloud.means[20:, 0] += 3  # beside
    frame = cpu.forward(cloud, camera(64, 48))
    assert not frame.alpha.any()
    assert not any(g.any() for g in cpu.backward(frame, np.ones((48, 64, 3), np.float32))[:5])


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gaussians_that_are_not_finite_are_left_out(name, bad):
    cloud, cam = random_cloud(60, 3), camera(64, 48)
    keep = np.arange(60) % 3 != 0
    expected = rasterize(Gaussians(*(a[keep] for a in arrays(cloud))), cam)
    getattr(cloud, name)[~keep] = bad
    actual = rasterize(cloud, cam)
    assert np.array_equal(actual.image, expected.image)
    defined = rasterize(cloud, cam, backend="reference")
    assert np.abs(actual.image - defined.image).max() < 1e-4


def test_order_is_by_depth_not_by_index():
    near_red = Gaussians(
        np.float32([[0, 0, 0.1], [0, 0, 0]]),
        np.float32([[1, 0, 0, 0]] * 2),
        np.full((2, 3), 0.01, np.float32),
        np.float32([0.9, 0.9]),
        np.float32([[1, 0, 0], [0, 1, 0]]),
    )
    flipped = Gaussians(*(a[::-1] for a in arrays(near_red)))
    cam = Camera.orbit(width=33, height=33)
    a, b = rasterize(near_red, cam).image, rasterize(flipped, cam).image
    assert np.array_equal(a, b)
    assert a[16, 16, 0] > 5 * a[16, 16, 1]


def test_many_channels_agree_with_rgb():
    cloud, cam = random_cloud(400, 35), camera(77, 53)
    rgb = Gaussians(*arrays(cloud)[:4], np.ascontiguousarray(cloud.features[:, 5:8]))
    assert np.abs(rasterize(cloud, cam).image[..., 5:8] - rasterize(rgb, cam).image).max() < 1e-6


def test_depth_is_optional_and_changes_nothing_else():
    cloud, cam = random_cloud(300, 3), camera(65, 40)
    with_depth, without = rasterize(cloud, cam), rasterize(cloud, cam, depth=False)
    assert without.depth is None
    assert np.array_equal(with_depth.image, without.image)


def test_mistakes_are_told_in_a_sentence():
    cloud = random_cloud(10, 3)
    with pytest.raises(HeadsplatError, match="background"):
        rasterize(cloud, camera(8, 8), background=[1.0, 2.0])
    with pytest.raises(HeadsplatError, match="pixels"):
        cpu.forward(cloud, Camera(np.eye(4), np.eye(3), 0, 5))
    with pytest.raises(HeadsplatError, match="fit together"):
        rasterize(Gaussians(*arrays(cloud)[:4], cloud.features[:5]), camera(8, 8))
    with pytest.raises(HeadsplatError, match="K"):
        cpu.forward(cloud, Camera(np.eye(4), np.eye(2), 8, 8))
    frame = cpu.forward(cloud, camera(8, 8))
    for wrong in [(np.ones((8, 7, 3)),), (frame.image, np.ones(8)), (frame.image, None, np.ones((8, 8, 1)))]:
        with pytest.raises(HeadsplatError, match="agree"):
            cpu.backward(frame, *wrong)
    with pytest.raises(HeadsplatError, match="metal"):
        rasterize(cloud, camera(8, 8), backend="metal")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("wrong", [{"alpha_min": 0.0}, {"alpha_max": 1.0}, {"near": np.nan}, {"eps2d": -1.0}])
def test_rules_that_make_no_picture_are_refused(wrong):
    with pytest.raises(HeadsplatError, match=next(iter(wrong))):
        dataclasses.replace(THREE_DGS, **wrong)
