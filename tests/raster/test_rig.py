"""The fused animation against Avatar.animate followed by rasterize."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.raster import rasterize
from headsplat.raster.rig import RigRenderer


def random_avatar(count=333, channels=3, expressions=7, frames=True, appearance=True):
    r = np.random.default_rng(0)
    f = np.float32

    def table(k, size):
        dense = r.normal(0, size, (expressions, count, k)) * (r.random((expressions, count, 1)) < 0.2)
        # Rounded to the half floats that the renderer keeps, so that both sides of a comparison get the same.
        return SparseOffsets.from_dense(dense.astype(np.float16).astype(f), 1e-6)

    weights = r.random((count, 4)) * (r.random((count, 4)) < 0.6)  # zeros anywhere, also in front
    weights[weights.sum(1) == 0] = [0, 0, 1, 0]
    quats = r.normal(size=(count, 4))
    return Avatar(
        gaussians=Gaussians(
            r.normal(0, 0.08, (count, 3)).astype(f),
            (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(f),
            (0.01 * np.exp(r.normal(0, 0.5, (count, 3)))).astype(f),
            r.uniform(0.1, 0.95, count).astype(f),
            r.random((count, channels)).astype(f),
        ),
        skin_joints=r.integers(0, 4, (count, 4)).astype(np.uint8),
        skin_weights=(weights / weights.sum(1, keepdims=True)).astype(f),
        joints=("root", "neck", "head", "jaw"),
        parents=np.array([-1, 0, 1, 2]),
        joint_rest=np.array([[0, -0.2, 0], [0, -0.1, 0], [0, 0, 0], [0, 0.02, 0.05]], f),
        expressions=tuple(f"e{i}" for i in range(expressions)),
        expression_means=table(3, 0.01),
        expression_frames=table(6, 0.4) if frames else None,
        expression_appearance=table(channels + 1, 0.5) if appearance else None,
        seen=np.ones(count, f),
        view_target=np.zeros(3, f),
        view_height=0.4,
        method="test",
    )


def root():
    T = np.eye(4)
    T[:3, 3] = [0.02, 0.01, -0.05]
    return T


ROTATIONS = {"neck": [0.1, 0.3, 0.0], "head": [0.0, -0.5, 0.2], "jaw": [2.5, 0.0, 0.4]}


@pytest.mark.parametrize("channels", [3, 5, 9])
@pytest.mark.parametrize("frames", [True, False])
@pytest.mark.parametrize("appearance", [True, False])
@pytest.mark.parametrize("pose", ["still", "weights", "joints", "all"])
def test_same_picture_as_animate_then_rasterize(channels, frames, appearance, pose):
    avatar = random_avatar(channels=channels, frames=frames, appearance=appearance)
    weights = np.array([0.9, 0, -0.2, 0, 1.0, 0.5, 0], np.float32) if pose in ("weights", "all") else None
    moved = pose in ("joints", "all")
    cam = Camera.orbit(0.3, 0.1, width=75, height=51, focal=150.0, distance=1.0)
    background = np.linspace(0, 1, channels)
    cloud = avatar.animate(weights, ROTATIONS if moved else None, root() if moved else None)
    expected = rasterize(cloud, cam, background=background)
    transforms = avatar.joint_transforms(ROTATIONS, root()) if moved else None
    actual = RigRenderer(avatar).render(weights, transforms, cam, background=background, depth=True)
    for a, e in (
        (actual.image, expected.image),
        (actual.alpha, expected.alpha),
        (actual.depth, expected.depth),
    ):
        # Rounding may push a sample over the 1/255 rule here and there.
        assert (np.abs(a - e) > 2e-5).mean() < 2e-3
        assert np.abs(a - e).max() < 5e-3
    assert expected.alpha.max() > 0.9


def test_bits_do_not_depend_on_threads():
    avatar = random_avatar(count=5000)
    cam = Camera.orbit(width=123, height=201, distance=1.0)
    weights, transforms = np.full(7, 0.3, np.float32), avatar.joint_transforms(ROTATIONS)
    renderer = RigRenderer(avatar)
    a, b = (renderer.render(weights, transforms, cam, threads=n).image for n in (1, 2))
    assert np.array_equal(a, b)


def test_mistakes_are_told_in_a_sentence():
    avatar = random_avatar(count=20)
    cam = Camera.orbit(width=16, height=16)
    with pytest.raises(HeadsplatError, match="weights"):
        RigRenderer(avatar).render(np.zeros(3), None, cam)
    with pytest.raises(HeadsplatError, match="joint"):
        RigRenderer(avatar).render(None, np.zeros((2, 4, 4)), cam)
    with pytest.raises(HeadsplatError, match="K"):
        RigRenderer(avatar).render(None, None, Camera(cam.viewmat, np.eye(2), 16, 16))
    avatar.expression_means.index[-1] = 99
    with pytest.raises(HeadsplatError, match="damaged"):
        RigRenderer(avatar)
