"""The bundled head keeps the promises of its own definition."""

import subprocess
import sys

import numpy as np
import pytest

from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.arkit import ARKIT, swap_sides
from headsplat.head.free import ASSET, load_free_head, read_asset
from headsplat.head.normals import face_crosses, face_normals, vertex_normals

FLIP = np.array([-1, 1, 1], np.float32)


@pytest.fixture(scope="module")
def head():
    return load_free_head()


def test_the_asset_is_small_and_loads_with_numpy_alone():
    assert ASSET.stat().st_size < 4_000_000
    code = (
        "import sys; from headsplat.head.free import load_free_head;"
        "load_free_head(1).with_shape([1.0]).with_pose({'jawOpen': 1});"
        "print([m for m in ('torch', 'scipy', 'cv2', 'mediapipe', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_expressions_are_arkits_52(head):
    assert head.expression_names == ARKIT == tuple(sorted(set(ARKIT)))
    assert len(ARKIT) == 52
    assert {swap_sides(name) for name in ARKIT} == set(ARKIT)
    assert (np.abs(head.expression_basis).max((1, 2)) > 1e-3).all()


def test_arrays_have_the_promised_shapes_and_types(head):
    v, f, s = len(head), len(head.faces), len(head.shape_basis)
    assert s == 100
    assert head.shape_basis.shape == (s, v, 3) and head.joint_shape.shape == (s, 6, 3)
    assert head.joint_names == ("root", "neck", "head", "jaw", "left_eye", "right_eye")
    assert head.parents.tolist() == [-1, 0, 1, 2, 2, 2]
    assert head.faces.dtype == head.uv_faces.dtype == np.int32 and head.uv_faces.shape == (f, 3)
    assert head.faces.max() == v - 1 and np.unique(head.faces).size == v
    assert head.template.dtype == head.shape_basis.dtype == head.skin_weights.dtype == np.float32
    assert np.isfinite(head.template).all() and np.isfinite(head.shape_basis).all()


def test_the_origin_is_the_head_joint_and_the_axes_are_the_convention(head):
    np.testing.assert_allclose(head.joint_template[2], 0, atol=1e-7)
    eyes = head.joint_template[4:]
    assert eyes[0, 0] > 0.02 > 0 > eyes[1, 0]  # the subject's left is +x
    assert (eyes[:, 2] > 0.05).all() and (eyes[:, 1] > 0).all()
    assert head.joint_template[0, 1] < head.joint_template[1, 1] < 0
    height = np.ptp(head.template[head.vertices_of("head"), 1])
    assert 0.2 < height < 0.3


def test_skin_weights_sum_to_one(head):
    np.testing.assert_allclose(head.skin_weights.sum(1), 1, atol=1e-6)
    assert head.skin_weights.min() >= 0
    for part, joint in (("left_eye", 4), ("right_eye", 5), ("teeth_lower", 3), ("teeth_upper", 2)):
        np.testing.assert_allclose(head.skin_weights[head.vertices_of(part), joint], 1)


def test_mirror_is_an_involution_that_maps_the_mesh_onto_itself(head):
    m = head.mirror
    assert np.array_equal(m[m], np.arange(len(head)))
    np.testing.assert_array_equal(head.template[m] * FLIP, head.template)
    triangles = {tuple(sorted(face)) for face in head.faces.tolist()}
    assert {tuple(sorted(face)) for face in m[head.faces].tolist()} == triangles
    sign = np.where(head.shape_symmetric, 1, -1)[:, None, None]
    np.testing.assert_array_equal(head.shape_basis[:, m] * FLIP * sign, head.shape_basis)
    swapped = [ARKIT.index(swap_sides(name)) for name in ARKIT]
    np.testing.assert_array_equal(head.expression_basis[swapped][:, m] * FLIP, head.expression_basis)
    np.testing.assert_array_equal(head.skin_weights[m][:, [0, 1, 2, 3, 5, 4]], head.skin_weights)


def test_neutral_is_the_template_and_zero_pose_is_the_identity(head):
    posed = head.with_shape().with_pose()
    np.testing.assert_allclose(posed.vertices, head.template, atol=1e-7)
    np.testing.assert_allclose(posed.transforms, np.broadcast_to(np.eye(4), (6, 4, 4)), atol=1e-7)


def test_posing_commutes_with_a_rigid_motion(head):
    pose = ({"jawOpen": 0.4, "mouthSmileLeft": 1}, {"head": (0.1, 0.4, 0), "neck": (0.1, 0, 0.2)})
    shaped = head.with_shape(np.linspace(1, -1, 20))
    T_world_root = np.eye(4)
    T_world_root[:3, :3] = axis_angle_to_matrix(np.array([0.3, -0.7, 0.2]))
    T_world_root[:3, 3] = 0.1, 0.2, -0.3
    moved = shaped.with_pose(*pose, T_world_root=T_world_root).vertices
    still = shaped.with_pose(*pose).vertices
    np.testing.assert_allclose(moved, still @ T_world_root[:3, :3].T + T_world_root[:3, 3], atol=1e-6)


def test_joints_turn_what_hangs_on_them_the_right_way(head):
    shaped = head.with_shape()
    nose = head.template[head.vertices_of("head")][:, 2].argmax()
    nose = head.vertices_of("head")[nose]
    left = shaped.with_pose(rotations={"head": (0, 0.5, 0)}).vertices
    down = shaped.with_pose(rotations={"head": (0.5, 0, 0)}).vertices
    tilt = shaped.with_pose(rotations={"head": (0, 0, 0.5)}).vertices
    crown = head.template[:, 1].argmax()
    assert left[nose, 0] > 0.03 and down[nose, 1] < head.template[nose, 1] - 0.03 and tilt[crown, 0] < -0.03
    bottom = head.template[:, 1].argmin()
    for vertices in (left, down, tilt):
        np.testing.assert_allclose(vertices[bottom], head.template[bottom], atol=1e-6)
    looking = shaped.with_pose(rotations={"left_eye": (0, 0.4, 0)}).vertices
    moved = np.flatnonzero(np.abs(looking - head.template).max(1) > 1e-6)
    assert set(moved) <= set(head.vertices_of("left_eye"))


def test_batches_of_people_and_poses_are_the_single_results(head):
    rng = np.random.default_rng(0)
    betas, weights = rng.normal(size=(3, 30)), rng.uniform(size=(3, 52)) * (rng.random((3, 52)) < 0.2)
    rotations = 0.2 * rng.normal(size=(3, 6, 3))
    together = head.with_shape(betas).with_pose(weights, rotations)
    one = head.with_shape(betas[1]).with_pose(weights[1], rotations[1])
    np.testing.assert_allclose(together.vertices[1], one.vertices, atol=1e-6)
    assert together.landmarks().shape == (3, 468, 3)


def test_eyes_are_spheres_for_everybody_and_no_expression_moves_them(head):
    betas = np.random.default_rng(3).normal(size=100)
    for vertices in (head.template, head.with_shape(betas).vertices):
        for part, joint in (("left_eye", 4), ("right_eye", 5)):
            ball = vertices[head.vertices_of(part)].astype(np.float64)
            system = np.concatenate([2 * ball, np.ones((len(ball), 1))], 1)
            solution = np.linalg.lstsq(system, (ball**2).sum(1), rcond=None)[0]
            distance = np.linalg.norm(ball - solution[:3], axis=1)
            assert np.ptp(distance) < 2e-5
            joints = head.joint_template if vertices is head.template else head.with_shape(betas).joints
            np.testing.assert_allclose(solution[:3], joints[joint], atol=2e-5)
    eyes = head.vertices_of("left_eye", "right_eye")
    assert 600 <= len(eyes) <= 1200
    assert not head.expression_basis[:, eyes].any()


def test_expressions_do_what_their_names_say(head):
    neutral = head.landmarks(head.template)

    def points(**weights):
        return head.with_shape().with_pose(weights).landmarks()

    lid_gap = neutral[386, 1] - neutral[374, 1]
    closed = points(eyeBlinkLeft=1)
    assert abs(closed[386, 1] - closed[374, 1]) < 0.15 * lid_gap  # the subject's left eye
    np.testing.assert_allclose(closed[159], neutral[159], atol=1e-4)  # the right one stays open
    opened = points(jawOpen=1)
    assert (opened[13] - opened[14])[1] > 0.02
    assert points(mouthSmileRight=1)[61, 1] > neutral[61, 1] + 0.003
    assert points(browInnerUp=1)[[55, 285], 1].mean() > neutral[[55, 285], 1].mean() + 0.002
    tongue = head.vertices_of("tongue")
    out = head.with_shape().with_pose({"tongueOut": 1}).vertices
    lips = head.template[head.vertices_of("head")][:, 2].max() - 0.015
    assert head.template[tongue, 2].max() < lips < out[tongue, 2].max()


def test_lips_touch_at_rest_for_everybody(head):
    for seed in range(5):
        betas = np.random.default_rng(seed).normal(size=100) * head.shape_symmetric
        marks = head.landmarks(head.with_shape(betas).vertices)
        assert np.linalg.norm(marks[13] - marks[14]) < 0.004


def test_landmarks_are_on_the_face_and_symmetric(head):
    assert head.landmark_faces.shape == (468,) and head.landmark_barycentrics.shape == (468, 3)
    np.testing.assert_allclose(head.landmark_barycentrics.sum(1), 1, atol=1e-6)
    assert head.landmark_barycentrics.min() >= 0
    assert (head.face_part[head.landmark_faces] == head.part_names.index("head")).all()
    marks = head.landmarks(head.template)
    for right, left in ((33, 263), (61, 291), (234, 454), (105, 334)):
        assert marks[left, 0] > 0 > marks[right, 0]
        np.testing.assert_allclose(marks[left] * FLIP, marks[right], atol=2e-3)
    assert marks[10, 1] > marks[1, 1] > marks[152, 1]
    middle = np.abs(marks[[10, 1, 152, 13, 14, 168], 0])
    assert middle.max() < 1e-3


def test_the_surface_is_closed_but_for_the_rim_the_gums_and_the_throat(head):
    sides = {(int(face[k]), int(face[(k + 1) % 3])) for face in head.faces for k in range(3)}
    assert len(sides) == head.faces.size  # every directed edge once: the orientation is consistent
    border = np.unique([a for a, b in sides if (b, a) not in sides])
    skin = head.vertices_of("head", "body", "eye_socket")
    rim = np.intersect1d(border, skin)
    assert (head.template[rim, 1] < head.joint_template[1, 1]).all()
    assert np.linalg.norm(face_crosses(head.template, head.faces), axis=1).min() > 0


def test_normals_point_outwards(head):
    normals = vertex_normals(head.template, head.faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    for part, joint in (("left_eye", 4), ("right_eye", 5)):
        eye = head.vertices_of(part)
        assert ((head.template[eye] - head.joint_template[joint]) * normals[eye]).sum(1).min() > 0
    skull = head.vertices_of("head")
    skull = skull[head.template[skull, 1] > 0.09]
    assert ((head.template[skull] - [0, 0.06, 0.01]) * normals[skull]).sum(1).min() > 0
    triangle = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], np.float32)
    assert face_normals(triangle, np.array([[0, 1, 2]])).tolist() == [[0, 0, 1]]


def test_wrong_names_and_sizes_are_refused_in_a_sentence(head):
    for wrong in (
        lambda: head.with_shape(np.zeros(101)),
        lambda: head.with_shape().with_pose({"smile": 1}),
        lambda: head.with_shape().with_pose(np.zeros(51)),
        lambda: head.with_shape().with_pose(None, {"elbow": (0, 0, 0)}),
        lambda: head.with_shape().with_pose(None, np.zeros((5, 3))),
        lambda: head.faces_of("hair"),
        lambda: load_free_head(3),
    ):
        with pytest.raises(HeadsplatError):
            wrong()


def test_a_damaged_asset_is_refused(tmp_path):
    data = ASSET.read_bytes()
    for content in (b"", data[: len(data) // 2], b"not a head"):
        path = tmp_path / "head.npz"
        path.write_bytes(content)
        with pytest.raises(HeadsplatError):
            read_asset(path)
