"""Linear blend skinning against slow loops, and NumPy against torch."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headsplat.head import lbs

PARENTS = (-1, 0, 1, 1)


def problem(seed=0, batch=()):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(size=(7, 4))
    return {
        "rotations": rng.normal(size=(*batch, 4, 3)),
        "joints": rng.normal(size=(*batch, 4, 3)),
        "vertices": rng.normal(size=(*batch, 7, 3)),
        "weights": weights / weights.sum(1, keepdims=True),
        "root": np.eye(4) + np.pad(rng.normal(size=(3, 1)), ((0, 1), (3, 0))),
    }


def posed(p, root=None):
    matrices = lbs.axis_angle_to_matrix(p["rotations"])
    transforms = lbs.joint_transforms(matrices, p["joints"], PARENTS, root)
    return lbs.skin(p["vertices"], transforms, p["weights"])


def test_rotation_vectors_are_those_of_scipy_also_when_tiny_or_large():
    vectors = np.random.default_rng(1).normal(size=(50, 3)) * np.logspace(-9, 1, 50)[:, None]
    np.testing.assert_allclose(
        lbs.axis_angle_to_matrix(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12
    )


def test_skinning_is_what_a_chain_of_frames_gives_point_by_point():
    p = problem()
    expected = np.zeros((7, 3))
    for v in range(7):
        for j in range(4):
            point, joint = p["vertices"][v], j
            while joint >= 0:  # turn about the joint, then about its parent's, up to the root
                turn = Rotation.from_rotvec(p["rotations"][joint])
                point = turn.apply(point - p["joints"][joint]) + p["joints"][joint]
                joint = PARENTS[joint]
            expected[v] += p["weights"][v, j] * (p["root"] @ np.append(point, 1))[:3]
    np.testing.assert_allclose(posed(p, p["root"]), expected, atol=1e-12)


@pytest.mark.parametrize("batch", [(2,), (3, 2)])
def test_batches_are_the_single_results(batch):
    p = problem(3, batch)
    together = posed(p)
    for index in np.ndindex(*batch):
        one = {**p, **{k: p[k][index] for k in ("rotations", "joints", "vertices")}}
        np.testing.assert_allclose(together[index], posed(one), atol=1e-12)


def test_one_person_in_many_poses_needs_no_copies():
    p = problem(4)
    poses = np.random.default_rng(5).normal(size=(6, 4, 3))
    together = posed({**p, "rotations": poses})
    np.testing.assert_allclose(together[4], posed({**p, "rotations": poses[4]}), atol=1e-12)


def test_torch_gives_the_same_and_its_gradients_are_right():
    torch = pytest.importorskip("torch")
    p = problem(6)
    p["rotations"][2] = 0
    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in p.items()}
    np.testing.assert_allclose(posed(tensors).numpy(), posed(p), atol=1e-12)

    def of_pose(rotations, joints, vertices):
        return posed({**tensors, "rotations": rotations, "joints": joints, "vertices": vertices})

    inputs = [tensors[k].clone().requires_grad_() for k in ("rotations", "joints", "vertices")]
    assert torch.autograd.gradcheck(of_pose, inputs)


def test_blending_and_pose_features_match_loops_in_both_libraries():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    template, basis, weights = rng.normal(size=(5, 3)), rng.normal(size=(4, 5, 3)), rng.normal(size=(2, 4))
    expected = np.array([template + sum(w * b for w, b in zip(row, basis, strict=True)) for row in weights])
    np.testing.assert_allclose(lbs.blend(template, basis, weights), expected)
    as_tensors = [torch.tensor(a) for a in (template, basis, weights)]
    np.testing.assert_allclose(lbs.blend(*as_tensors).numpy(), expected)
    matrices = lbs.axis_angle_to_matrix(rng.normal(size=(3, 3)))
    np.testing.assert_allclose(lbs.pose_feature(matrices), (matrices[1:] - np.eye(3)).ravel())
    np.testing.assert_allclose(
        lbs.pose_feature(torch.tensor(matrices)).numpy(), (matrices[1:] - np.eye(3)).ravel()
    )
