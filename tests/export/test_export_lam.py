"""LAM's web archive: the four files, in the conventions its viewer expects."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export.lam_zip import export_lam_zip
from synthetic import make_avatar


@pytest.fixture(scope="module")
def archive(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lam")
    export_lam_zip(avatar, folder / "egg.zip")
    with zipfile.ZipFile(folder / "egg.zip") as file:
        assert file.testzip() is None
        assert file.namelist()[0] == "egg/"  # the viewer refuses archives without an entry for the folder
        file.extractall(folder)
    return folder / "egg"


def test_the_four_files_lie_in_one_folder(archive: Path) -> None:
    names = {path.name for path in archive.iterdir()}
    assert names == {"skin.glb", "offset.ply", "animation.glb", "vertex_order.json"}


def test_offsets_hold_raw_rgb_and_clamped_logits(archive: Path, avatar: Avatar) -> None:
    plyfile = pytest.importorskip("plyfile")
    vertex = plyfile.PlyData.read(archive / "offset.ply")["vertex"]
    rgb = np.stack([vertex[f"f_dc_{i}"] for i in range(3)], 1)
    np.testing.assert_array_equal(rgb, avatar.gaussians.features)
    assert not np.stack([vertex[axis] for axis in "xyz"]).any()
    limit = np.log(0.999 / 0.001) + 1e-4
    assert np.abs(vertex["opacity"]).max() <= limit


def test_glbs_pass_the_khronos_validator(archive: Path, gltf_report: Callable[[Path], dict]) -> None:
    for name, clips in (("skin.glb", 0), ("animation.glb", 12)):
        report = gltf_report(archive / name)
        assert report["issues"]["messages"] == []
        assert report["info"]["animationCount"] == clips
        assert report["info"]["hasSkins"]


def test_skin_carries_every_named_expression(archive: Path, avatar: Avatar) -> None:
    document = pytest.importorskip("pygltflib").GLTF2.load(str(archive / "skin.glb"))
    mesh = document.meshes[0]
    assert mesh.extras["targetNames"] == list(avatar.expressions)
    blob, e = document.binary_blob(), avatar.expressions.index("jawOpen")
    accessor = document.accessors[mesh.primitives[0].targets[e]["POSITION"]]

    def raw(view: int, dtype: str) -> np.ndarray:
        start = document.bufferViews[view].byteOffset
        return np.frombuffer(blob[start : start + document.bufferViews[view].byteLength], dtype)

    moved = np.zeros((len(avatar), 3), np.float32)
    index = raw(accessor.sparse.indices.bufferView, "<u4")
    moved[index] = raw(accessor.sparse.values.bufferView, "<f4").reshape(-1, 3)
    expected = avatar.animate({"jawOpen": 1.0}).means - avatar.gaussians.means
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    bones = [document.nodes[node].name for node in document.skins[0].joints]
    assert {"chestUpper", "neckLower", "neckUpper", "head"} <= set(bones)


def test_vertex_order_ascends_in_height(archive: Path, avatar: Avatar) -> None:
    order = json.loads((archive / "vertex_order.json").read_text())
    assert sorted(order) == list(range(len(avatar)))
    assert (np.diff(avatar.gaussians.means[order, 1]) >= 0).all()


def test_too_few_gaussians_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="fewer than 3"):
        export_lam_zip(make_avatar(2), tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())
