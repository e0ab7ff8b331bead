"""The avatar: laws of animation, and a slow reader and animator written from docs/avatar-format.md alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.avatar import Avatar, SparseOffsets
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import (
    Gaussians,
    axis_angle_to_matrix,
    concat,
    matrix_to_quat,
    quat_to_matrix,
    subset,
    transform,
)
from synthetic import make_avatar

POSE: dict[str, Any] = {
    "expression": {"jawOpen": 0.6, "mouthSmileLeft": 1.0, "eyeBlinkRight": 0.3},
    "rotations": {"neck": (0.1, -0.2, 0.05), "head": (0.2, 0.5, -0.1), "left_eye": (0.1, 0.2, 0.0)},
}


def covariances(g: Gaussians) -> np.ndarray:
    axes = quat_to_matrix(g.quats.astype(np.float64)) * g.scales[:, None, :]
    return axes @ axes.transpose(0, 2, 1)


def assert_same_cloud(a: Gaussians, b: Gaussians, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(a.means, b.means, atol=atol)
    np.testing.assert_allclose(covariances(a), covariances(b), atol=atol * 0.1)
    np.testing.assert_allclose(a.opacities, b.opacities, atol=atol)
    np.testing.assert_allclose(a.features, b.features, atol=atol)


def test_no_weights_and_no_rotations_change_nothing(avatar: Avatar) -> None:
    rotations = {joint: (0.0, 0.0, 0.0) for joint in avatar.joints}
    assert_same_cloud(avatar.animate(), avatar.gaussians, 0)
    assert_same_cloud(avatar.animate({"jawOpen": 0.0}, rotations, np.eye(4)), avatar.gaussians)


def test_posing_commutes_with_a_rigid_motion(avatar: Avatar) -> None:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = axis_angle_to_matrix(np.array([0.3, -0.8, 0.4])), [0.1, -0.2, 0.3]
    assert_same_cloud(avatar.animate(**POSE, root=T), transform(avatar.animate(**POSE), T), 2e-6)


def test_a_joint_moves_only_what_hangs_on_it(avatar: Avatar) -> None:
    moved = avatar.animate(rotations={"jaw": (0.4, 0.0, 0.0)})
    jaw = avatar.joints.index("jaw")
    share = np.where(avatar.skin_joints == jaw, avatar.skin_weights, 0).sum(1)
    np.testing.assert_allclose(moved.means[share == 0], avatar.gaussians.means[share == 0], atol=1e-6)
    assert np.abs(moved.means[share > 0.2] - avatar.gaussians.means[share > 0.2]).max() > 0.005


def test_a_turn_to_the_left_turns_the_nose_to_the_left() -> None:
    avatar = make_avatar(400, frames=False, appearance=False, moved=0)
    nose = avatar.gaussians.means[:, 2].argmax()
    left = avatar.animate(rotations={"root": (0.0, 0.5, 0.0)}).means[nose] - avatar.gaussians.means[nose]
    down = avatar.animate(rotations={"root": (0.5, 0.0, 0.0)}).means[nose] - avatar.gaussians.means[nose]
    assert left[0] > 0.02 and down[1] < -0.02


def test_weights_come_by_name_or_in_order(avatar: Avatar) -> None:
    array = np.zeros(len(avatar.expressions))
    array[avatar.expressions.index("jawOpen")] = 0.7
    assert_same_cloud(avatar.animate(array), avatar.animate({"jawOpen": 0.7}), 0)
    for bad in ({"jawOpne": 1.0}, np.zeros(3), {"jawOpen": math.nan}, {"jawOpen": math.inf}):
        with pytest.raises(HeadsplatError):
            avatar.animate(bad)
    with pytest.raises(HeadsplatError, match="tail"):
        avatar.animate(rotations={"tail": (0, 0, 1)})


def test_sparse_offsets_are_the_dense_ones() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(5, 37, 3)).astype(np.float32)
    dense[rng.uniform(size=(5, 37)) < 0.6] = 0
    dense[2] = 0
    sparse = SparseOffsets.from_dense(dense, 0.0)
    np.testing.assert_allclose(sparse.to_dense(37), dense)
    weights = np.array([0.5, 0, 1, -1, 2], np.float32)
    np.testing.assert_allclose(sparse.blend(weights, 37), np.tensordot(weights, dense, 1), atol=1e-6)
    chosen = np.array([1, 4, 5, 20, 36])
    np.testing.assert_allclose(sparse.subset(chosen, 37).to_dense(5), dense[:, chosen])


def test_concat_and_subset_give_the_parts_back(avatar: Avatar) -> None:
    first, second = subset(avatar.gaussians, np.arange(7)), subset(avatar.gaussians, np.arange(7, 30))
    whole = concat([first, second])
    assert_same_cloud(subset(whole, np.arange(30) < 7), first, 0)
    assert_same_cloud(subset(whole, np.arange(30) >= 7), second, 0)


def test_rotation_forms_agree() -> None:
    matrices = axis_angle_to_matrix(np.random.default_rng(0).normal(0, 2, (500, 3)))
    np.testing.assert_allclose(quat_to_matrix(matrix_to_quat(matrices)), matrices, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(matrices), 1)


def test_cameras_keep_what_they_see() -> None:
    points = np.random.default_rng(0).normal(0, 0.1, (20, 3))
    camera = Camera.orbit(0.4, -0.2, target=(0.01, 0.02, 0.03), width=300, height=200)
    seen = camera.project(points)
    np.testing.assert_allclose(camera.unproject(seen[:, :2], seen[:, 2]), points, atol=1e-6)
    np.testing.assert_allclose(
        camera.crop(30, 20, 99, 77).project(points)[:, :2], seen[:, :2] - [30, 20], atol=1e-4
    )
    np.testing.assert_allclose(
        camera.resize(150, 400).project(points)[:, :2], seen[:, :2] * [0.5, 2], atol=1e-3
    )
    np.testing.assert_allclose(camera.project(np.array([[0.01, 0.02, 0.03]]))[0, :2], [150, 100], atol=1e-4)
    assert camera.position @ [0, 0, 1] > 1


@pytest.mark.parametrize("side", [1, -1])
def test_a_camera_may_look_straight_up_or_down(side: int) -> None:
    camera = Camera.look_at([0, side, 0], [0, 0, 0], 100, 32, 32)
    almost = Camera.look_at([0, side, 1e-4], [0, 0, 0], 100, 32, 32)
    np.testing.assert_allclose(camera.viewmat, almost.viewmat, atol=1e-3)
    with pytest.raises(HeadsplatError, match="two different points"):
        Camera.look_at([0, side, 0], [0, side, 0], 100, 32, 32)


# --- What follows knows nothing of headsplat.avatar_file: it is the page, read slowly. ---

TYPES = {"U8": "u1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "F32": "<f4"}


def read_slowly(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body, tensors = data[8 + length :], {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[start:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, {
        k: json.loads(v) if k not in ("format", "method", "source") else v for k, v in metadata.items()
    }


def change(t: dict[str, np.ndarray], name: str, weights: list[float], i: int) -> np.ndarray:
    """Sum over expressions of weight times the row of Gaussian i, found by counting bits."""
    mask, values, row = t[f"{name}.mask"], t[f"{name}.values"], 0
    total = np.zeros(values.shape[1])
    for e, weight in enumerate(weights):
        for n in range(len(t["means"])):
            if mask[e, n // 8] >> (n % 8) & 1:
                if n == i:
                    total += weight * values[row].astype(np.float64)
                row += 1
    return total


def exp_matrix(r: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = np.linalg.norm(r)
    K = np.array([[0, -r[2], r[1]], [r[2], 0, -r[0]], [-r[1], r[0], 0]])
    if angle < 1e-12:
        return np.eye(3)
    return np.eye(3) + math.sin(angle) / angle * K + (1 - math.cos(angle)) / angle**2 * K @ K


def rigid(rotation: np.ndarray, move: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, move
    return T


def test_the_page_is_enough_to_read_and_animate(tmp_path: Path) -> None:
    avatar = make_avatar(19, expressions=("jawOpen", "mouthSmileLeft", "eyeBlinkRight"), seed=5)
    save_avatar(avatar, tmp_path / "a.avatar")
    t, m = read_slowly(tmp_path / "a.avatar")
    fast = load_avatar(tmp_path / "a.avatar").animate(**POSE)

    weights = [POSE["expression"].get(name, 0.0) for name in m["expressions"]]
    rest, world, A = t["joints.rest"].astype(np.float64), [], []
    for j, (name, parent) in enumerate(zip(m["joints"], m["parents"], strict=True)):
        turn = rigid(exp_matrix(np.array(POSE["rotations"].get(name, (0, 0, 0)), float)), np.zeros(3))
        if parent < 0:
            world.append(rigid(np.eye(3), rest[j]) @ turn)
        else:
            world.append(world[parent] @ rigid(np.eye(3), rest[j] - rest[parent]) @ turn)
        A.append(world[j] @ rigid(np.eye(3), -rest[j]))
    lo, hi = t["means.bounds"].astype(np.float64)
    for i in range(19):
        mean = lo + t["means"][i] / 65535 * (hi - lo) + change(t, "expression.means", weights, i) / 1000
        frame = change(t, "expression.frames", weights, i)
        quat = t["quats"][i] / 32767
        axes = exp_matrix(frame[:3]) @ quat_to_matrix(quat) * t["scales"][i] / 1000 * np.exp(frame[3:])
        look = change(t, "expression.appearance", weights, i)
        share = t["skin.weights"][i] / 255
        blended = sum(w * A[j] for w, j in zip(share, t["skin.joints"][i], strict=True))
        quats = [matrix_to_quat(A[j][:3, :3]) for j in t["skin.joints"][i]]
        quats = [q if q @ quats[0] >= 0 else -q for q in quats]
        turn = quat_to_matrix(np.sum([w * q for w, q in zip(share, quats, strict=True)], 0))
        np.testing.assert_allclose(fast.means[i], (blended @ [*mean, 1])[:3], atol=2e-6)
        axes = turn @ axes
        np.testing.assert_allclose(covariances(fast)[i], axes @ axes.T, atol=2e-8)
        np.testing.assert_allclose(
            fast.features[i], np.clip(t["features"][i] / 255 + look[:3], 0, 1), atol=2e-6
        )
        assert fast.opacities[i] == pytest.approx(np.clip(t["opacities"][i] / 255 + look[3], 0, 1), abs=2e-6)
