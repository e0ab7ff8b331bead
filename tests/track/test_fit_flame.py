"""A head of FLAME's layout follows the tracked surface, and says how far off it stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headsplat.camera import Camera, intrinsics
from headsplat.data.dataset import Dataset, View
from headsplat.errors import HeadsplatError
from headsplat.head.flame import flame_from_arrays
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.track.flame import FlameFit, fit_flame

pytest.importorskip("scipy")

FRAMES = 6
OFFSET = np.array([0.01, 0.25, -0.03])


@pytest.fixture(scope="module")
def flame() -> HeadModel:
    """FLAME's keys, tree and sizes over another mesh of a head: parts of the free one, elsewhere."""
    free = load_free_head()
    faces = free.faces[free.faces_of("head", "body", "left_eye", "right_eye")]
    vertices, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    template = free.template[vertices] + OFFSET
    expressions = np.zeros((100, len(vertices), 3))
    # Each of FLAME's expressions moves many things at once; the jaw has a joint of its own.
    mix = np.random.default_rng(0).normal(size=(100, 52)) * 0.3
    mix[:52] += np.eye(52)
    expressions[:] = np.tensordot(mix, free.expression_basis[:, vertices], 1)
    shapes = np.concatenate([free.shape_basis[:, vertices], np.zeros((200, len(vertices), 3))])[:300]
    joint = {name: free.skin_weights[vertices, free.joint_names.index(name)] for name in free.joint_names}
    weights = np.stack(
        [joint["root"], joint["neck"] + joint["head"], joint["jaw"], joint["left_eye"], joint["right_eye"]], 1
    )
    places = free.joint_template[[free.joint_names.index(n) for n in ("root", "neck", "jaw", "left_eye")]]
    places = np.concatenate([places, free.joint_template[[free.joint_names.index("right_eye")]]]) + OFFSET
    # A regressor that gives these joints: the least-norm affine combination of all vertices.
    whole = np.vstack([template.T, np.ones(len(template))])
    regressor = (np.linalg.pinv(whole) @ np.vstack([places.T, np.ones(5)])).T
    arrays = {
        "v_template": template,
        "shapedirs": np.concatenate([shapes, expressions]).transpose(1, 2, 0),
        "posedirs": np.zeros((len(template), 3, 36)),
        "J_regressor": regressor,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": faces.astype(np.uint32),
    }
    return flame_from_arrays(arrays)


@pytest.fixture(scope="module")
def recording() -> Dataset:
    """A person who turns, opens the mouth and smiles."""
    free, rng = load_free_head(), np.random.default_rng(5)
    shape = np.zeros(len(free.shape_basis), np.float32)
    shape[:20] = rng.normal(0, 0.7, 20)
    joints = list(free.joint_names)
    views = []
    for t in range(FRAMES):
        expression = free.expression_weights({"jawOpen": 0.15 * t, "mouthSmileLeft": 0.1 * t})
        rotations = np.zeros((len(joints), 3), np.float32)
        rotations[joints.index("neck")] = [0, 0.03 * t, 0]
        rotations[joints.index("head")] = [0.02 * t, 0.05 * t, 0]
        rotations[joints.index("left_eye")] = [0.1, 0.2, 0]
        root = np.eye(4, dtype=np.float32)
        root[:3, 3] = [0.01 * t, 0, 0]
        camera = Camera(np.diag([1, -1, -1, 1]).astype(np.float32), intrinsics(500, 64, 64), 64, 64)
        head = free.with_shape(shape).with_pose(expression, rotations, root).transforms[joints.index("head")]
        views.append(View(Path("a.png"), None, camera, t, 0, expression, rotations, root, head))
    return Dataset(
        root=Path("."),
        layout="headsplat",
        head="free",
        shape=shape,
        expressions=tuple(free.expression_names),
        joints=tuple(joints),
        views=tuple(views),
        train=tuple(range(FRAMES)),
        val=(),
        test=(),
        fps=25.0,
    )


@pytest.fixture(scope="module")
def fitted(recording: Dataset, flame: HeadModel) -> FlameFit:
    shares: list[float] = []
    fit = fit_flame(recording, load_free_head(), flame, lambda _, share: shares.append(share))
    assert shares == sorted(shares) and shares[-1] == 1
    return fit


def test_the_surface_is_followed(fitted: FlameFit, recording: Dataset, flame: HeadModel) -> None:
    assert fitted.errors.shape == (FRAMES,) and fitted.errors.max() < 1.5e-3
    assert fitted.dataset.head == "flame" and fitted.dataset.shape.shape == (100,)
    free = load_free_head()
    nose = np.linalg.norm(flame.template - flame.template[flame.template[:, 2].argmax()], axis=1).argmin()
    person, other = free.with_shape(recording.shape), flame.with_shape(fitted.dataset.shape)
    tip = np.linalg.norm(free.template + OFFSET - flame.template[nose], axis=1).argmin()
    for a, b in zip(recording.views, fitted.dataset.views, strict=True):
        wanted = person.with_pose(a.expression, a.rotations, a.T_world_root).vertices[tip]
        got = other.with_pose(b.expression, b.rotations, b.T_world_root).vertices[nose]
        assert np.linalg.norm(wanted - got) < 4e-3


def test_parameters_are_flames(fitted: FlameFit, recording: Dataset) -> None:
    first, last = fitted.dataset.views[0], fitted.dataset.views[-1]
    assert first.expression.shape == (100,) and first.rotations.shape == (5, 3)
    np.testing.assert_allclose(last.T_world_root[:3, :3], np.eye(3))
    turned = np.linalg.norm(last.rotations[1] - first.rotations[1])
    assert turned == pytest.approx(np.linalg.norm([0.1, 0.4]), abs=0.08)
    eye = recording.joints.index("left_eye")
    np.testing.assert_allclose(last.rotations[3], recording.views[-1].rotations[eye], atol=1e-6)
    assert np.abs(last.expression).max() < 6


def test_what_is_no_face_is_refused(recording: Dataset, flame: HeadModel) -> None:
    from dataclasses import replace

    ball = np.random.default_rng(0).normal(size=flame.template.shape)
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    wrong = replace(flame, template=(0.5 * ball).astype(np.float32))
    with pytest.raises(HeadsplatError, match="FLAME"):
        fit_flame(recording, load_free_head(), wrong, lambda *_: None)
    with pytest.raises(HeadsplatError, match="free head"):
        fit_flame(replace(recording, head="none"), load_free_head(), flame, lambda *_: None)
