"""Static splat formats, read back by programs that are not ours."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export.gaussian_glb import export_gaussian_glb
from headsplat.export.ply import export_ply
from headsplat.export.splat import export_splat
from headsplat.export.spz import export_spz
from headsplat.export.still import SH_C0, logit
from headsplat.gaussians import Gaussians, quat_to_matrix
from synthetic import make_avatar

Convert = Callable[[Path, Path], None]


def read_csv(path: Path) -> dict[str, np.ndarray]:
    with open(path) as file:
        rows = list(csv.reader(file))
    return dict(zip(rows[0], np.array(rows[1:], np.float64).T, strict=True))


def columns(table: dict[str, np.ndarray], prefix: str, count: int) -> np.ndarray:
    return np.stack([table[f"{prefix}{i}"] for i in range(count)], 1)


def assert_same_cloud(
    table: dict[str, np.ndarray], ours: Gaussians, *, log: float, color: float, alpha: float, turn: float
):
    """Compare 3DGS columns with our Gaussians; `turn` bounds the elements of the rotation matrices."""
    np.testing.assert_allclose(np.log(ours.scales), columns(table, "scale_", 3), atol=log)
    np.testing.assert_allclose(ours.features, columns(table, "f_dc_", 3) * SH_C0 + 0.5, atol=color)
    np.testing.assert_allclose(ours.opacities, 1 / (1 + np.exp(-table["opacity"])), atol=alpha)
    np.testing.assert_allclose(
        quat_to_matrix(ours.quats), quat_to_matrix(columns(table, "rot_", 4)), atol=turn
    )


def test_ply_is_exact_for_gsply_and_plyfile(avatar: Avatar, tmp_path: Path) -> None:
    gsply, plyfile = pytest.importorskip("gsply"), pytest.importorskip("plyfile")
    weights = {"jawOpen": 0.7, "mouthSmileLeft": 0.4}
    turn = {"head": (0.1, 0.4, 0.0)}
    export_ply(avatar, tmp_path / "a.ply", expression=weights, rotations=turn)
    ours = avatar.animate(weights, turn)

    read = gsply.plyread(str(tmp_path / "a.ply"))
    np.testing.assert_array_equal(read.means, ours.means)
    np.testing.assert_allclose(np.exp(read.scales), ours.scales, rtol=1e-5)
    np.testing.assert_allclose(read.sh0 * SH_C0 + 0.5, ours.features, atol=1e-6)
    np.testing.assert_allclose(quat_to_matrix(read.quats), quat_to_matrix(ours.quats), atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-read.opacities)), ours.opacities, atol=2e-6)

    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    assert len(vertex) == len(avatar)
    assert len(vertex.properties) == 17
    np.testing.assert_array_equal(np.asarray(vertex["y"]), ours.means[:, 1])


def test_splat_transform_reads_our_ply(avatar: Avatar, tmp_path: Path, splat_transform: Convert) -> None:
    export_ply(avatar, tmp_path / "a.ply")
    splat_transform(tmp_path / "a.ply", tmp_path / "a.csv")
    table = read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(np.stack([table[k] for k in "xyz"], 1), avatar.gaussians.means, atol=1e-7)
    assert_same_cloud(table, avatar.gaussians, log=1e-5, color=1e-6, alpha=2e-6, turn=1e-5)


def test_spz_agrees_with_gsply_and_splat_transform(
    avatar: Avatar, tmp_path: Path, splat_transform: Convert
) -> None:
    gsply = pytest.importorskip("gsply")
    export_spz(avatar, tmp_path / "a.spz")
    ours = avatar.gaussians
    read = gsply.read_spz(str(tmp_path / "a.spz"))
    np.testing.assert_allclose(read.means, ours.means, atol=6e-7)
    np.testing.assert_allclose(quat_to_matrix(read.quats), quat_to_matrix(ours.quats), atol=6e-3)
    np.testing.assert_allclose(read.scales, np.log(ours.scales), atol=1 / 32 + 1e-6)

    splat_transform(tmp_path / "a.spz", tmp_path / "a.csv")
    table = read_csv(tmp_path / "a.csv")
    # It turns SPZ's axes (right, up, back) into those of PLY scenes (right, down, front).
    flip = np.array([1, -1, -1])
    np.testing.assert_allclose(np.stack([table[k] for k in "xyz"], 1) * flip, ours.means, atol=6e-7)
    table["rot_2"], table["rot_3"] = -table["rot_2"], -table["rot_3"]
    assert_same_cloud(
        table, ours, log=1 / 32 + 1e-6, color=0.5 / 255 / 0.15 * SH_C0 + 1e-6, alpha=0.004, turn=6e-3
    )


def test_splat_agrees_with_splat_transform(avatar: Avatar, tmp_path: Path, splat_transform: Convert) -> None:
    export_splat(avatar, tmp_path / "a.splat")
    assert (tmp_path / "a.splat").stat().st_size == 32 * len(avatar)
    splat_transform(tmp_path / "a.splat", tmp_path / "a.csv")
    table = read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(np.stack([table[k] for k in "xyz"], 1), avatar.gaussians.means, atol=1e-7)
    assert_same_cloud(table, avatar.gaussians, log=1e-5, color=0.5 / 255 + 1e-6, alpha=0.0025, turn=0.025)


def test_gaussian_glb_is_valid_but_for_the_unknown_extension(
    avatar: Avatar, tmp_path: Path, gltf_report: Callable[[Path], dict]
) -> None:
    export_gaussian_glb(avatar, tmp_path / "a.glb")
    report = gltf_report(tmp_path / "a.glb")
    found = sorted((m["code"], m["pointer"].rsplit("/", 1)[-1]) for m in report["issues"]["messages"])
    names = ("OPACITY", "ROTATION", "SCALE", "SH_DEGREE_0_COEF_0")
    known = [("MESH_PRIMITIVE_INVALID_ATTRIBUTE", f"KHR_gaussian_splatting:{name}") for name in names]
    assert found == [*known, ("UNSUPPORTED_EXTENSION", "0")]
    assert report["info"]["totalVertexCount"] == len(avatar)


def test_gaussian_glb_values_equal_ours(avatar: Avatar, tmp_path: Path) -> None:
    read_glb = pytest.importorskip("pygltflib").GLTF2.load
    export_gaussian_glb(avatar, tmp_path / "a.glb", expression={"jawOpen": 1.0})
    document, ours = read_glb(str(tmp_path / "a.glb")), avatar.animate({"jawOpen": 1.0})
    primitive = document.meshes[0].primitives[0]
    assert primitive.mode == 0
    assert primitive.extensions["KHR_gaussian_splatting"]["colorSpace"] == "srgb_rec709_display"

    def values(name: str, width: int) -> np.ndarray:
        accessor = document.accessors[getattr(primitive.attributes, name)]
        view = document.bufferViews[accessor.bufferView]
        start = view.byteOffset
        return np.frombuffer(document.binary_blob()[start : start + view.byteLength], "<f4").reshape(
            -1, width
        )

    np.testing.assert_array_equal(values("POSITION", 3), ours.means)
    quats = np.roll(values("KHR_gaussian_splatting:ROTATION", 4), 1, axis=1)
    np.testing.assert_allclose(quat_to_matrix(quats), quat_to_matrix(ours.quats), atol=1e-5)
    np.testing.assert_array_equal(values("KHR_gaussian_splatting:SCALE", 3), ours.scales)
    np.testing.assert_array_equal(values("KHR_gaussian_splatting:OPACITY", 1)[:, 0], ours.opacities)
    rgb = values("KHR_gaussian_splatting:SH_DEGREE_0_COEF_0", 3) * SH_C0 + 0.5
    np.testing.assert_allclose(rgb, ours.features, atol=1e-6)


def test_y_down_is_a_half_turn_that_keeps_the_shape(avatar: Avatar, tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    export_ply(avatar, tmp_path / "down.ply", axes="y-down")
    down = gsply.plyread(str(tmp_path / "down.ply"))
    turn = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(down.means, avatar.gaussians.means @ turn, atol=1e-7)
    np.testing.assert_allclose(
        quat_to_matrix(down.quats), turn @ quat_to_matrix(avatar.gaussians.quats), atol=1e-5
    )


@pytest.mark.parametrize("write", [export_ply, export_spz, export_splat, export_gaussian_glb])
def test_extreme_values_stay_finite_and_repeat_bit_for_bit(write, avatar: Avatar, tmp_path: Path) -> None:
    rest = avatar.gaussians
    opacities, scales = rest.opacities.copy(), rest.scales.copy()
    opacities[:2], scales[0] = (0.0, 1.0), 0.0
    edge = replace(avatar, gaussians=replace(rest, opacities=opacities, scales=scales))
    write(edge, tmp_path / "a.bin")
    write(edge, tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert np.isfinite(logit(opacities)).all()
    if write is export_ply:
        body = (tmp_path / "a.bin").read_bytes().split(b"end_header\n", 1)[1]
        assert np.isfinite(np.frombuffer(body, "<f4")).all()


@pytest.mark.parametrize("write", [export_ply, export_spz, export_splat, export_gaussian_glb])
def test_feature_channels_that_are_not_colours_are_refused(write, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="32 feature channels"):
        write(make_avatar(9, channels=32), tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


def test_nan_is_refused_and_leaves_nothing(avatar: Avatar, tmp_path: Path) -> None:
    means = avatar.gaussians.means.copy()
    means[3, 1] = np.nan
    broken = replace(avatar, gaussians=replace(avatar.gaussians, means=means))
    with pytest.raises(HeadsplatError, match="not finite"):
        export_ply(broken, tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())
