"""VHAP's and GaussianAvatars' layout: what is written is what was read, field by field; unions; refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recordings
from PIL import Image
from recordings import FRAMES, HEIGHT, WIDTH

from headsplat.data.dataset import Dataset
from headsplat.data.datasets import read_dataset
from headsplat.data.datasets.native import write_index
from headsplat.data.datasets.vhap import default_splits
from headsplat.data.datasets.vhap_write import write_union, write_vhap
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return recordings.little_flame()


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def index(folder: Path, name: str = "transforms") -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def assert_same(a: Dataset, b: Dataset) -> None:
    assert (a.train, a.val, a.test, a.expressions, a.joints) == (
        b.train,
        b.val,
        b.test,
        b.expressions,
        b.joints,
    )
    np.testing.assert_array_equal(a.shape, b.shape)
    for v, w in zip(a.views, b.views, strict=True):
        assert (v.timestep, v.camera_index) == (w.timestep, w.camera_index)
        for name in ("expression", "rotations", "T_world_root", "T_world_head"):
            np.testing.assert_array_equal(getattr(v, name), getattr(w, name), err_msg=name)
        np.testing.assert_array_equal(v.camera.viewmat, w.camera.viewmat)
        np.testing.assert_array_equal(v.camera.K, w.camera.K)
        for x, y in zip(a.load(v), b.load(w), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("cameras", "vertices"), [(1, 5143), (3, 5023), (2, None)])
def test_writing_what_was_read_gives_the_same_bytes(
    tmp_path: Path, model: HeadModel, cameras: int, vertices: int | None
) -> None:
    recordings.vhap(tmp_path / "given", model, cameras, vertices)
    write_vhap(read_dataset(tmp_path / "given"), tmp_path / "a")
    write_vhap(read_dataset(tmp_path / "a"), tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert_same(read_dataset(tmp_path / "a"), read_dataset(tmp_path / "b"))


def test_nothing_is_lost_on_the_way(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path / "given", model, cameras=3)
    given, written = read_dataset(tmp_path / "given"), tmp_path / "written"
    write_vhap(given, written)
    again = read_dataset(written)
    assert (again.train, again.val, again.test) == (given.train, given.val, given.test)
    assert again.info["camera_ids"] == {"0": "222200", "1": "222201", "2": "222202"}
    assert again.info["static_offset"] == again.info["dynamic_offset"] == [5143]
    for a, b in zip(given.views, again.views, strict=True):
        # The world was moved as a whole: what the camera sees is the same.
        np.testing.assert_allclose(a.T_camera_head, b.T_camera_head, atol=1e-6)
        np.testing.assert_array_equal(a.camera.K, b.camera.K)
        np.testing.assert_array_equal(a.expression, b.expression)
        np.testing.assert_array_equal(a.rotations, b.rotations)
        assert b.mask is not None and a.image.read_bytes() == b.image.read_bytes()
    moves = [v.T_world_root[:3, 3] for v in again.views]
    assert np.abs(np.mean(moves, axis=0)).max() < 1e-6
    for t in range(FRAMES):
        with (
            np.load(tmp_path / f"given/flame_param/{t:05d}.npz") as a,
            np.load(written / f"flame_param/{t:05d}.npz") as b,
        ):
            for name in ("static_offset", "dynamic_offset"):
                np.testing.assert_array_equal(a[name], b[name])


def test_every_field_is_as_the_field_writes_it(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path / "given", model, cameras=2)
    write_vhap(read_dataset(tmp_path / "given"), tmp_path / "out")
    out, top = tmp_path / "out", index(tmp_path / "out")
    assert top["timestep_indices"] == list(range(FRAMES)) and top["camera_indices"] == [0, 1]
    kinds = {
        "timestep_index": int, "timestep_index_original": int, "timestep_id": str, "camera_index": int,
        "camera_id": str, "cx": float, "cy": float, "fl_x": float, "fl_y": float, "h": int, "w": int,
        "camera_angle_x": float, "camera_angle_y": float, "transform_matrix": list, "file_path": str,
        "fg_mask_path": str, "flame_param_path": str,
    }  # fmt: skip
    for frame in top["frames"]:
        assert {name: type(value) for name, value in frame.items()} == kinds
        stem = f"{frame['timestep_index']:05d}_{frame['camera_index']:02d}"
        assert frame["file_path"] == f"images/{stem}.png" and frame["fg_mask_path"] == f"fg_masks/{stem}.png"
        assert frame["flame_param_path"] == f"flame_param/{frame['timestep_index']:05d}.npz"
        assert np.tan(frame["camera_angle_x"] / 2) * frame["fl_x"] * 2 == pytest.approx(WIDTH)
        assert np.tan(frame["camera_angle_y"] / 2) * frame["fl_y"] * 2 == pytest.approx(HEIGHT)
        pose = np.array(frame["transform_matrix"])
        assert pose.shape == (4, 4) and np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        # The head is in front: along -z of the camera.
        assert (np.linalg.inv(pose) @ [0, 0, 0, 1])[2] < 0
        with Image.open(out / frame["file_path"]) as image, Image.open(out / frame["fg_mask_path"]) as mask:
            assert (image.mode, mask.mode, image.size) == ("RGB", "L", (WIDTH, HEIGHT))
    shapes = {
        "translation": (1, 3), "rotation": (1, 3), "neck_pose": (1, 3), "jaw_pose": (1, 3),
        "eyes_pose": (1, 6), "shape": (300,), "expr": (1, 100), "static_offset": (1, 5143, 3),
        "dynamic_offset": (1, 5143, 3),
    }  # fmt: skip
    for path in (out / "flame_param").iterdir():
        with np.load(path) as arrays:
            assert {name: arrays[name].shape for name in arrays} == shapes
            assert all(arrays[name].dtype == np.float32 for name in arrays)
    with np.load(out / "canonical_flame_param.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            k: s for k, s in shapes.items() if k != "dynamic_offset"
        }
        np.testing.assert_array_equal(arrays["jaw_pose"], np.float32([[0.3, 0, 0]]))
        for name in ("translation", "rotation", "neck_pose", "eyes_pose", "expr"):
            assert not arrays[name].any()
        assert arrays["shape"].any()
    parts = [index(out, f"transforms_{part}")["frames"] for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [FRAMES - 1, FRAMES - 1, 2]
    assert sorted(f["file_path"] for part in parts for f in part) == sorted(
        f["file_path"] for f in top["frames"]
    )


def test_pictures_with_their_own_background_come_out_over_white(tmp_path: Path, model: HeadModel) -> None:
    recordings.insta(tmp_path / "insta", model)
    dataset = read_dataset(tmp_path / "insta")
    write_vhap(dataset, tmp_path / "out")
    written = read_dataset(tmp_path / "out")
    for a, b in zip(dataset.views, written.views, strict=True):
        (colour, alpha), (over_white, matte) = dataset.load(a), written.load(b)
        np.testing.assert_allclose(matte, alpha, atol=1e-6)
        np.testing.assert_allclose(over_white, colour * alpha[..., None] + 1 - alpha[..., None], atol=0.003)
        np.testing.assert_array_equal(a.camera.viewmat, b.camera.viewmat)
    with np.load(tmp_path / "out/flame_param/00000.npz") as arrays:
        assert arrays["shape"].shape == (300,) and not arrays["shape"].any()


def test_the_same_person_before_any_background(tmp_path: Path, model: HeadModel) -> None:
    recordings.insta(tmp_path / "insta", model)
    dataset = read_dataset(tmp_path / "insta")
    write_vhap(dataset, tmp_path / "out")
    written = read_dataset(tmp_path / "out")
    backdrop = np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
    for background in (0.0, 0.5, np.array([0.2, 0.9, 0.4]), backdrop):
        for a, b in zip(dataset.views, written.views, strict=True):
            (image, matte), alpha = dataset.load_over(a, background), dataset.load(a)[1][..., None]
            np.testing.assert_allclose(
                image, dataset.load(a)[0] * alpha + background * (1 - alpha), atol=1e-6
            )
            again, same = written.load_over(b, background)
            np.testing.assert_allclose(again, image, atol=0.003)
            np.testing.assert_allclose(same, matte, atol=1e-6)


def test_a_turn_about_another_point_needs_flame_and_then_is_the_same(
    tmp_path: Path, model: HeadModel
) -> None:
    recordings.cap4d(tmp_path / "fit", model)
    dataset = read_dataset(tmp_path / "fit", flame=model)
    with pytest.raises(HeadsplatError, match="FLAME's file"):
        write_vhap(dataset, tmp_path / "out")
    write_vhap(dataset, tmp_path / "out", flame=model)
    again = read_dataset(tmp_path / "out", flame=model)
    for a, b in zip(dataset.views, again.views, strict=True):
        np.testing.assert_allclose(a.T_camera_head, b.T_camera_head, atol=2e-6)
        assert not b.expression[65:].any()


def test_other_heads_are_refused_with_what_to_do(tmp_path: Path, model: HeadModel) -> None:
    recordings.nerfblendshape(tmp_path / "a")
    with pytest.raises(HeadsplatError, match="--flame"):
        write_vhap(read_dataset(tmp_path / "a"), tmp_path / "out")
    recordings.vhap(tmp_path / "b", model)
    dataset = read_dataset(tmp_path / "b")
    with pytest.raises(HeadsplatError, match="another folder"):
        write_vhap(dataset, tmp_path / "b")
    free = replace(dataset, head="free", root=tmp_path / "elsewhere")
    with pytest.raises(HeadsplatError, match="--flame"):
        write_vhap(free, tmp_path / "out")
    assert not (tmp_path / "out/transforms.json").exists()


@pytest.mark.parametrize(("cameras", "front"), [(12, 8), (3, 2)])
def test_the_rule_for_parts(tmp_path: Path, model: HeadModel, cameras: int, front: int) -> None:
    recordings.vhap(tmp_path, model, cameras, None, frames=10 if cameras == 3 else 4)
    for part in ("train", "val", "test"):
        (tmp_path / f"transforms_{part}.json").unlink()
    dataset = read_dataset(tmp_path)
    moments = 7 if cameras == 3 else 2
    for part in ("train", "val", "test"):
        for view in (dataset.views[i] for i in getattr(dataset, part)):
            assert (view.timestep < moments) == (part != "test")
            assert part == "test" or (view.camera_index == front) == (part == "val")
    assert len(dataset.train) == moments * (cameras - 1) and len(dataset.val) == moments
    alone = default_splits([view for view in dataset.views if view.camera_index == 0])
    assert len(alone["train"]) == moments and alone["val"] == []


def test_without_transforms_json_the_parts_are_joined(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path, model, cameras=2)
    whole = read_dataset(tmp_path)
    (tmp_path / "transforms.json").unlink()
    assert_same(whole, read_dataset(tmp_path))


def test_lams_driving_folders_have_no_numbers(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path, model, vertices=None)
    content = index(tmp_path)
    kept = ("flame_param_path", "transform_matrix", "fl_x", "fl_y", "cx", "cy")
    content["frames"] = [{k: f[k] for k in kept} for f in reversed(content["frames"])]
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    for part in ("train", "val", "test"):
        (tmp_path / f"transforms_{part}.json").unlink()
    dataset = read_dataset(tmp_path)
    assert [v.timestep for v in dataset.views] == list(range(FRAMES)) and dataset.views[0].camera.width == 38
    for t, view in enumerate(dataset.views):
        np.testing.assert_allclose(view.expression, recordings.pose_of(t)["expr"], rtol=1e-6)


def make_sequences(folder: Path, model: HeadModel) -> list[Path]:
    paths = [folder / name for name in ("306_EMO-1", "306_EMO-2", "306_FREE")]
    for count, path in enumerate(paths, 2):
        recordings.vhap(path, model, cameras=2, vertices=5023, frames=count)
    return paths


def test_a_union_refers_to_its_sequences(tmp_path: Path, model: HeadModel) -> None:
    paths = make_sequences(tmp_path, model)
    write_union(tmp_path / "UNION_306", paths, test=["306_FREE"])
    union = read_dataset(tmp_path / "UNION_306")
    assert union.layout == "union" and len(union) == 2 * (2 + 3 + 4) and not union.info["problems"]
    assert union.info["sequences"] == [path.name for path in paths]
    parts = [read_dataset(path) for path in paths]
    for view, source in zip(union.views, [v for part in parts for v in part.views], strict=True):
        assert view.image.samefile(source.image) and view.mask is not None
        np.testing.assert_array_equal(view.T_camera_head, source.T_camera_head)
    assert [v.timestep for v in union.views[::2]] == list(range(9))
    assert {union.views[i].timestep for i in union.test} == {5, 6, 7, 8}
    assert {union.views[i].camera_index for i in union.val} == {1} and len(union.val) == 5
    assert (tmp_path / "UNION_306/sequences_train.txt").read_text() == "306_EMO-1\n306_EMO-2\n"
    assert (tmp_path / "UNION_306/sequences_test.txt").read_text() == "306_FREE\n"
    top = index(tmp_path / "UNION_306")
    assert top["timestep_indices"] == list(range(9))
    for frame in top["frames"]:
        assert "timestep_id" not in frame and "timestep_index_original" not in frame
        assert frame["file_path"].startswith("../306_") and frame["flame_param_path"].startswith("../306_")


def test_a_union_is_drawn_from_its_name_and_written_alike(tmp_path: Path, model: HeadModel) -> None:
    paths = make_sequences(tmp_path, model)
    for name in ("UNION_A", "UNION_B"):
        write_union(tmp_path / name, paths)
        first = content(tmp_path / name)
        write_union(tmp_path / name, paths)
        assert content(tmp_path / name) == first
        assert len((tmp_path / name / "sequences_test.txt").read_text().split()) == 1
    # A union written out on its own is an ordinary recording with the same views.
    union = read_dataset(tmp_path / "UNION_A")
    write_vhap(union, tmp_path / "whole")
    whole = read_dataset(tmp_path / "whole")
    assert whole.layout == "vhap" and (whole.train, whole.val, whole.test) == (
        union.train,
        union.val,
        union.test,
    )
    for a, b in zip(union.views, whole.views, strict=True):
        np.testing.assert_allclose(a.T_camera_head, b.T_camera_head, atol=1e-6)
    assert whole.info["static_offset"] == [5023]


def test_unions_that_cannot_be_are_refused(tmp_path: Path, model: HeadModel) -> None:
    paths = make_sequences(tmp_path, model)
    shutil.copytree(paths[0], tmp_path / "deeper/306_EMO-1")
    for sequences, test in (
        (paths[:1], None),
        ([paths[0], tmp_path / "deeper/306_EMO-1"], None),
        (paths, ["nobody"]),
        (paths, [path.name for path in paths]),
    ):
        with pytest.raises(HeadsplatError):
            write_union(tmp_path / "UNION", sequences, test=test)
    assert not (tmp_path / "UNION").exists()


def test_our_own_recording_is_converted_if_flame_was_fitted_to_it(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path / "given", model, vertices=None)
    fitted = read_dataset(tmp_path / "given")
    joints = ("root", "neck", "head", "jaw", "left_eye", "right_eye")
    views = tuple(replace(v, expression=np.zeros(2), rotations=np.zeros((6, 3))) for v in fitted.views)
    ours = replace(
        fitted, layout="headsplat", head="free", expressions=("a", "b"), joints=joints, views=views
    )
    write_index(ours)
    recording = read_dataset(tmp_path / "given")
    assert recording.layout == "headsplat" and recording.head == "free"
    write_vhap(recording, tmp_path / "out")
    again = read_dataset(tmp_path / "out")
    assert again.layout == "vhap" and (again.train, again.test) == (fitted.train, fitted.test)
    for a, b in zip(fitted.views, again.views, strict=True):
        np.testing.assert_array_equal(a.expression, b.expression)
        np.testing.assert_allclose(a.T_camera_head, b.T_camera_head, atol=1e-6)
    shutil.rmtree(tmp_path / "given/flame_param")
    with pytest.raises(HeadsplatError, match="--flame"):
        write_vhap(read_dataset(tmp_path / "given"), tmp_path / "other")
