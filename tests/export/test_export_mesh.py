"""The rigged mesh: valid, moving like the head model, painted like the Gaussians."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export import export
from headsplat.export.bake_texture import colors_at
from headsplat.export.drape import drape
from headsplat.export.mesh_glb import export_mesh_glb, fitted_head
from headsplat.gaussians import Gaussians
from headsplat.head.free import load_free_head
from headsplat.head.normals import vertex_normals
from headsplat.head.regions import find_regions
from headsplat.takes import GAZE
from synthetic import make_avatar

SHAPE = np.random.default_rng(5).normal(0, 0.6, 12).tolist()


@pytest.fixture(scope="module")
def painted() -> Avatar:
    """An avatar whose Gaussians lie on a free head: skin above the origin is red, below it blue."""
    head = load_free_head().with_shape(SHAPE)
    rng = np.random.default_rng(0)
    face = rng.integers(0, len(head.model.faces), 3000)
    corners = head.vertices[head.model.faces[face]]
    means = (corners * rng.dirichlet([1, 1, 1], 3000)[..., None]).sum(1).astype(np.float32)
    egg = make_avatar(3000, moved=0.01)
    cloud = replace(
        egg.gaussians,
        means=means,
        features=np.where(means[:, 1:2] > 0, [[1.0, 0.2, 0.1]], [[0.1, 0.2, 1.0]]).astype(np.float32),
        opacities=np.ones(3000, np.float32),
    )
    return replace(egg, gaussians=cloud, info={"head": {"model": "free", "shape": SHAPE}})


@pytest.fixture(scope="module")
def mesh_file(painted: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mesh") / "head.glb"
    export_mesh_glb(painted, path, texture=128, hair=False)
    return path


class Glb:
    """Arrays of a `.glb` as pygltflib sees them."""

    def __init__(self, path: Path) -> None:
        self.document = pytest.importorskip("pygltflib").GLTF2.load(str(path))
        self.blob = self.document.binary_blob()

    def view(self, index: int) -> bytes:
        view = self.document.bufferViews[index]
        return self.blob[view.byteOffset : view.byteOffset + view.byteLength]

    def array(self, index: int) -> np.ndarray:
        accessor = self.document.accessors[index]
        dtype = {5126: "<f4", 5121: "u1", 5125: "<u4"}[accessor.componentType]
        return np.frombuffer(self.view(accessor.bufferView), dtype).reshape(accessor.count, -1)


@pytest.fixture(scope="module")
def glb(mesh_file: Path) -> Glb:
    return Glb(mesh_file)


def test_the_khronos_validator_has_nothing_to_say(
    mesh_file: Path, gltf_report: Callable[[Path], dict]
) -> None:
    report = gltf_report(mesh_file)
    assert report["issues"]["messages"] == []
    assert report["info"]["hasMorphTargets"] and report["info"]["hasSkins"] and report["info"]["hasTextures"]


def test_morphs_and_skin_pose_the_mesh_as_the_head_model_does(glb: Glb) -> None:
    head = load_free_head().with_shape(SHAPE)
    mesh = glb.document.meshes[0]
    primitive, names = mesh.primitives[0], mesh.extras["targetNames"]
    assert names == list(head.model.expression_names)
    rest = glb.array(primitive.attributes.POSITION)
    morphed = rest.astype(np.float64)
    for name, weight in {"jawOpen": 0.6, "mouthSmileLeft": 1.0}.items():
        morphed += weight * glb.array(primitive.targets[names.index(name)]["POSITION"])

    rotations = {"head": np.array([0.1, 0.5, 0.2]), "jaw": np.array([0.2, 0, 0])}
    posed = head.with_pose({"jawOpen": 0.6, "mouthSmileLeft": 1.0}, rotations)
    # glTF's formula: joint matrix = global transform of the joint, times the inverse bind matrix.
    nodes, skin = glb.document.nodes, glb.document.skins[0]
    bind = glb.array(skin.inverseBindMatrices).reshape(-1, 4, 4).swapaxes(1, 2)
    globals_ = {}

    def walk(node: int, parent: np.ndarray) -> None:
        from headsplat.gaussians import axis_angle_to_matrix

        local = np.eye(4)
        local[:3, 3] = nodes[node].translation
        local[:3, :3] = axis_angle_to_matrix(rotations.get(nodes[node].name, np.zeros(3)))
        globals_[node] = parent @ local
        for child in nodes[node].children or []:
            walk(child, globals_[node])

    walk(skin.skeleton, np.eye(4))
    matrices = np.stack([globals_[node] for node in skin.joints]) @ bind
    joints, weights = glb.array(primitive.attributes.JOINTS_0), glb.array(primitive.attributes.WEIGHTS_0)
    blended = np.einsum("vk,vkij->vij", weights, matrices[joints])
    ours = np.einsum("vij,vj->vi", blended[:, :3, :3], morphed) + blended[:, :3, 3]
    # Vertices are split at texture seams: find each among the model's own by its place at rest.
    source = np.array([np.abs(head.vertices - p).sum(1).argmin() for p in rest[::37]])
    np.testing.assert_allclose(ours[::37], posed.vertices[source], atol=2e-4)


def test_gaze_morphs_turn_the_eyeballs(painted: Avatar, glb: Glb, tmp_path: Path) -> None:
    export_mesh_glb(painted, tmp_path / "joints.glb", texture=16, gaze="joints", hair=False)
    head = load_free_head().with_shape(SHAPE)
    ball = head.vertices[head.model.vertices_of("left_eye")]
    radius = np.ptp(ball[:, 2]) / 2

    def shift(file: Glb) -> float:
        mesh = file.document.meshes[0]
        rest = file.array(mesh.primitives[0].attributes.POSITION)
        target = mesh.extras["targetNames"].index("eyeLookOutLeft")
        moved = file.array(mesh.primitives[0].targets[target]["POSITION"])
        pupil = np.abs(rest - ball[ball[:, 2].argmax()]).sum(1).argmin()
        return float(moved[pupil, 0])

    assert shift(glb) == pytest.approx(radius * np.sin(GAZE), rel=0.35)  # to the subject's left
    assert shift(Glb(tmp_path / "joints.glb")) == 0.0


def test_the_texture_has_the_colours_of_the_gaussians_around(glb: Glb) -> None:
    from PIL import Image

    primitive = glb.document.meshes[0].primitives[0]
    picture = Image.open(io.BytesIO(glb.view(glb.document.images[0].bufferView))).convert("RGB")
    pixels = np.asarray(picture) / 255
    uv = glb.array(primitive.attributes.TEXCOORD_0)
    rows, cols = (np.clip((uv[:, ::-1] * 128).astype(int), 0, 127)).T
    height = glb.array(primitive.attributes.POSITION)[:, 1]
    red, blue = pixels[rows, cols, 0], pixels[rows, cols, 2]
    clear = np.abs(height) > 0.03
    assert ((red > blue) == (height > 0))[clear].mean() > 0.97


def test_colours_are_a_weighted_mean_and_never_black_in_a_gap() -> None:
    cloud = Gaussians(
        np.array([[0.0, 0, 0], [0.1, 0, 0]], np.float32),
        np.array([[1.0, 0, 0, 0]] * 2, np.float32),
        np.full((2, 3), 0.002, np.float32),
        np.array([1.0, 1.0], np.float32),
        np.array([[1.0, 0, 0], [0, 1.0, 0]], np.float32),
    )
    at = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.05, 0, 0], [0.03, 5.0, 0]])
    colors = colors_at(cloud, at)
    np.testing.assert_allclose(colors[:3], [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], atol=1e-5)
    assert colors[3].sum() == pytest.approx(1.0)
    with pytest.raises(HeadsplatError, match="transparent everywhere"):
        colors_at(replace(cloud, opacities=np.zeros(2, np.float32)), at)


def test_hair_pulls_the_scalp_out_and_leaves_the_face() -> None:
    head = load_free_head().with_shape(SHAPE)
    regions = find_regions(head.model)
    rng = np.random.default_rng(2)
    normals = vertex_normals(head.vertices, head.model.faces)
    scalp = np.flatnonzero(regions.scalp & ~regions.ear)
    thickness = 0.03
    from_vertex = np.repeat(scalp, 6)
    means = (
        head.vertices[from_vertex]
        + thickness * normals[from_vertex]
        + rng.normal(0, 0.002, (len(from_vertex), 3))
    )
    n = len(means)
    shell = Gaussians(
        means.astype(np.float32),
        np.tile(np.array([[1.0, 0, 0, 0]], np.float32), (n, 1)),
        np.full((n, 3), 0.004, np.float32),
        np.full(n, 0.9, np.float32),
        np.zeros((n, 3), np.float32),
    )
    moved = np.linalg.norm(drape(head, shell) - head.vertices, axis=1)
    inner = scalp[regions.behind[scalp] > 0.05]
    # The outline of a cloud lies up to two standard deviations outside its centres.
    assert thickness < np.median(moved[inner]) < thickness + 0.01
    still = ~regions.scalp & ~regions.body
    assert moved[still].max() < 1e-6
    bald = replace(shell, opacities=np.zeros(n, np.float32))
    np.testing.assert_array_equal(drape(head, bald), head.vertices)


@pytest.mark.parametrize("info", [{}, {"head": {"model": "flame", "shape": []}}, {"head": "free"}])
def test_an_avatar_without_the_free_head_is_refused(info: dict, painted: Avatar, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="does not carry the free head"):
        export(replace(painted, info=info), tmp_path / "a.glb", glb="mesh")
    assert not list(tmp_path.iterdir())


def test_a_damaged_shape_is_refused(painted: Avatar) -> None:
    with pytest.raises(HeadsplatError, match="not a list of numbers"):
        fitted_head(replace(painted, info={"head": {"model": "free", "shape": [float("nan")]}}))
