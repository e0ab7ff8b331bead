"""Animation in torch against Avatar.animate; tile lists against a loop; CUDA where there is a GPU."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.evaluate import bench_scenes
from headsplat.gaussians import Gaussians, quat_to_matrix
from headsplat.raster import GSPLAT, Rules, cuda, rasterize
from headsplat.raster.rig_torch import Poses, TorchRig, animate, animate_plain
from headsplat.raster.tile_lists import TILE, grid_of, tile_lists

HAS_GPU = torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None
gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA GPU and gsplat")


def avatar_and_poses(count=700, expressions=6, active=4):
    avatar = bench_scenes.rig(count, expressions)
    poses = bench_scenes.poses(avatar, active, count=3)
    poses[1] = (np.zeros(expressions, np.float32), poses[1][1])  # one neutral face
    weights, transforms = (np.stack([p[k] for p in poses]) for k in (0, 1))
    return avatar, weights, transforms


def cloud_of(moved, b):
    return Gaussians(*(t[b].cpu().numpy() for t in moved))


def assert_same_cloud(actual, expected, tolerance=1e-5):
    assert np.abs(actual.means - expected.means).max() < tolerance
    assert np.abs(quat_to_matrix(actual.quats) - quat_to_matrix(expected.quats)).max() < tolerance
    assert np.allclose(actual.scales, expected.scales, rtol=1e-4)
    assert np.abs(actual.features - expected.features).max() < tolerance
    assert np.abs(actual.opacities - expected.opacities).max() < tolerance


def turns():
    return {"neck": [0.1, 0.2, 0.0], "head": [0.0, -0.4, 0.1], "jaw": [0.3, 0.0, 0.0]}


def test_animation_in_torch_is_that_of_the_avatar():
    avatar, weights, _ = avatar_and_poses()
    transforms = np.stack([avatar.joint_transforms(turns())] * 3)
    moved = animate(TorchRig.of(avatar), Poses.of(weights, transforms))
    for b in range(3):
        assert_same_cloud(cloud_of(moved, b), avatar.animate(weights[b], turns()))


def test_poses_of_wrong_shapes_are_refused():
    with pytest.raises(HeadsplatError, match="Poses"):
        Poses.of(np.zeros((2, 5)), np.zeros((3, 4, 4, 4)))


def test_tile_lists_hold_every_splat_of_every_tile_by_depth():
    r = np.random.default_rng(0)
    width, height, images, count, capacity = 70, 45, 2, 60, 1000
    columns, rows = grid_of(width, height)
    centers = torch.from_numpy(r.uniform(-20, 90, (images, count, 2)).astype(np.float32))
    radii = torch.from_numpy(r.integers(0, 25, (images, count, 2)).astype(np.int32))
    depths = torch.from_numpy(r.uniform(0.5, 2, (images, count)).astype(np.float32))
    begins, ids, pairs = tile_lists(centers, radii, depths, columns, rows, capacity)
    starts = begins.flatten().tolist()
    found = 0
    for image in range(images):
        for y in range(rows - 1):
            for x in range(columns):
                tile = (image * rows + y) * columns + x
                got = ids[starts[tile] : starts[tile + 1]].tolist()
                low, high = np.array([x, y]) * TILE, np.array([x + 1, y + 1]) * TILE
                c, e = centers[image].numpy(), radii[image].numpy()
                touching = ((c + e > low) & (c - e < high) & (e > 0).all(1, keepdims=True)).all(1)
                wanted = np.flatnonzero(touching)
                wanted = wanted[np.argsort(depths[image].numpy()[wanted], kind="stable")]
                assert got == (image * count + wanted).tolist()
                found += len(got)
    assert found == int(pairs) <= capacity


def test_without_a_gpu_the_cuda_backend_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(HeadsplatError, match="GPU"):
        rasterize(bench_scenes.cloud(5), Camera.orbit(width=16, height=16), backend="cuda")


def test_rules_that_gsplat_does_not_have_are_refused():
    cuda.check_rules(GSPLAT)
    with pytest.raises(HeadsplatError, match="gsplat"):
        cuda.check_rules(Rules(alpha_min=0.01))


@pytest.mark.cuda
@gpu
@pytest.mark.parametrize("channels", [3, 7, 32])
def test_gsplat_draws_the_definition(channels):
    cloud = bench_scenes.cloud(800, channels)
    cam = Camera.orbit(0.2, width=75, height=51, distance=1.0, focal=3.0 * 75)
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(51, 75, channels)))

    def draw(dtype, device, backend):
        arrays = (cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.features)
        leaves = [torch.tensor(a, dtype=dtype, device=device).requires_grad_() for a in arrays]
        out = rasterize(Gaussians(*leaves), cam, background=0.5, backend=backend, rules=GSPLAT)
        (out.image * weight.to(device, dtype)).sum().backward()
        return [t.detach().cpu().double() for t in (out.image, out.alpha, out.depth)], [
            leaf.grad.cpu().double() for leaf in leaves
        ]

    expected, expected_grads = draw(torch.float64, "cpu", "reference")
    actual, actual_grads = draw(torch.float32, "cuda", "cuda")
    for a, e in zip(actual, expected, strict=True):
        assert ((a - e).abs() > 1e-4).double().mean() < 2e-3  # threshold ties aside
    for a, e in zip(actual_grads, expected_grads, strict=True):
        assert (a - e).norm() < 1e-2 * e.norm()


@pytest.mark.cuda
@gpu
def test_the_fused_kernel_is_the_plain_animation():
    avatar, weights, transforms = avatar_and_poses()
    rig, poses = TorchRig.of(avatar, "cuda"), Poses.of(weights, transforms, "cuda")
    fused, plain = animate(rig, poses), animate_plain(rig, poses)
    for b in range(3):
        assert_same_cloud(cloud_of(fused, b), cloud_of(plain, b))


@pytest.mark.cuda
@gpu
@pytest.mark.parametrize("batch", [1, 4])
def test_replayed_frames_are_those_of_the_cpu(batch):
    from headsplat.raster.cuda_frame import FrameRenderer
    from headsplat.raster.rig import RigRenderer

    avatar = bench_scenes.rig(2000, 12)
    poses = bench_scenes.poses(avatar, 6, count=6)
    cams = bench_scenes.cameras(size=130, count=6)
    renderer = FrameRenderer(avatar, 130, 130, batch=batch, rules=GSPLAT, background=np.float32([1, 1, 1]))
    frames = [(w, T, c) for (w, T), c in zip(poses, cams, strict=True)]
    drawn = [r.image.cpu().numpy() for r in renderer.stream(frames)]
    cpu_renderer = RigRenderer(avatar)
    assert len(drawn) == len(frames)
    for image, (w, T, cam) in zip(drawn, frames, strict=True):
        expected = cpu_renderer.render(w, T, cam, background=np.float32([1, 1, 1]), rules=GSPLAT).image
        assert (np.abs(image - expected) > 2e-3).mean() < 5e-3
