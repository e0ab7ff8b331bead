"""Recordings from strangers: nothing in them runs, leaves its folder, fills memory or crashes."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recordings
import torch
from test_field_datasets import MAKERS

from headsplat.data.datasets import read_dataset
from headsplat.data.datasets.check import describe, examine
from headsplat.data.datasets.native import write_index
from headsplat.data.datasets.untrusted import inside, read_json, read_npz
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return recordings.little_flame()


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_pickles_that_run_commands_are_refused(tmp_path: Path, model: HeadModel) -> None:
    marker = tmp_path / "executed"
    recordings.gagavatar(tmp_path / "a", model)
    (tmp_path / "a/optim.pkl").write_bytes(pickle.dumps({"v_1": {"transform_matrix": Runs(marker)}}))
    with pytest.raises(HeadsplatError, match="do not trust"):
        read_dataset(tmp_path / "a")
    recordings.metrical(tmp_path / "b", model, torch.save)
    for path in (tmp_path / "b/checkpoint").iterdir():
        torch.save({"flame": Runs(marker)}, path)
    with pytest.raises(HeadsplatError, match="system"):
        read_dataset(tmp_path / "b")
    assert not marker.exists()


def test_one_bad_checkpoint_does_not_cost_the_others(tmp_path: Path, model: HeadModel) -> None:
    recordings.metrical(tmp_path, model, torch.save)
    torch.save({"flame": Runs(tmp_path / "executed")}, tmp_path / "checkpoint/00001.frame")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 3 and any("00001.frame is left out" in p for p in dataset.info["problems"])
    assert not (tmp_path / "executed").exists()


def test_shared_and_endless_pickles_stay_small(tmp_path: Path) -> None:
    nested: list[object] = [1.0]
    for _ in range(18):
        nested = [nested] * 50  # 50 to the 18th, if it were unfolded
    (tmp_path / "optim.pkl").write_bytes(pickle.dumps({"a_1": {"transform_matrix": nested}}))
    with pytest.raises(HeadsplatError):
        read_dataset(tmp_path)
    endless: list[object] = []
    endless.append(endless)
    (tmp_path / "optim.pkl").write_bytes(pickle.dumps({"a_1": {"transform_matrix": endless}}))
    with pytest.raises(HeadsplatError):
        read_dataset(tmp_path)


def test_tensors_larger_than_their_content_are_refused(tmp_path: Path, model: HeadModel) -> None:
    recordings.metrical(tmp_path, model, torch.save)
    vast = torch.zeros(1).as_strided((100_000, 100_000), (0, 0))
    for path in (tmp_path / "checkpoint").iterdir():
        torch.save({"flame": {"exp": vast}}, path)
    with pytest.raises(HeadsplatError, match="larger than its content"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "images/../../../x.png",
        "C:\\x.png",
        "..\\..\\x.png",
        "a\0b",
        "",
        7,
        "../../" + "x" * 5000,
    ],
)
def test_paths_that_leave_the_folder_are_left_out(tmp_path: Path, model: HeadModel, name: object) -> None:
    folder = tmp_path / "deep/recording"
    recordings.vhap(folder, model)
    for field in ("file_path", "fg_mask_path", "flame_param_path"):
        content = json.loads((folder / "transforms.json").read_text())
        original = content["frames"][2][field]
        content["frames"][2][field] = name
        (folder / "transforms.json").write_text(json.dumps(content))
        dataset = read_dataset(folder)
        paths = [p for view in dataset.views for p in (view.image, view.mask) if p is not None]
        assert all(p.is_relative_to(folder) for p in paths)
        if name:
            assert len(dataset) == 3 and dataset.info["problems"]
        content["frames"][2][field] = original
        (folder / "transforms.json").write_text(json.dumps(content))


def test_a_union_may_reach_its_neighbours_only(tmp_path: Path) -> None:
    root = tmp_path / "data/union"
    assert inside(root, "../other/a.png", root.parent) == tmp_path / "data/other/a.png"
    for name in ("../../a.png", "../other/../../a.png", "../union/../../../a.png"):
        with pytest.raises(HeadsplatError, match="outside"):
            inside(root, name, root.parent)
    with pytest.raises(HeadsplatError, match="outside"):
        inside(root, "../other/a.png")


def npy(shape: tuple[int, ...], body: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


def test_arrays_that_promise_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for shape in ((1 << 40,), (1 << 31, 1 << 31), (-1, 3)):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("expr.npy", npy(shape, bytes(12)))
        with pytest.raises(HeadsplatError, match=r"a\.npz"):
            read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("expr.npy", npy((1000,), bytes(4000)))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the entry claims to unpack to four gigabytes
    data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    with pytest.raises(HeadsplatError, match="gigabyte"):
        read_npz(path)
    np.savez(path, expr=np.array([Runs(tmp_path / "executed")], object), rotation=np.zeros(3), neck="a")
    assert (
        set(read_npz(path)) == {"rotation"}
        and set(read_npz(path, text=True)) == {"rotation", "neck"}
        and not (tmp_path / "executed").exists()
    )


def test_our_own_recordings_are_read_as_carefully(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path, model)
    dataset = replace(read_dataset(tmp_path), layout="headsplat")
    write_index(dataset)
    path = tmp_path / "head_param/00001.npz"
    good = dict(np.load(path))
    for shape in ((1 << 40,), (100, 1 << 40)):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("expression.npy", npy(shape, bytes(12)))
        with pytest.raises(HeadsplatError, match="00001"):
            read_dataset(tmp_path)
    np.savez(path, **{**good, "expression": np.array(["a"] * 100)})
    with pytest.raises(HeadsplatError, match="00001"):
        read_dataset(tmp_path)
    np.savez(path, **good)
    (tmp_path / "images").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "images").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    assert examine(read_dataset(tmp_path)) == []


def test_json_that_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    for text in (
        "",
        "[]",
        "{",
        "7",
        '{"frames": 3}',
        '{"frames": [3]}',
        "[" * 100_000,
        '{"frames": []}',
        "\x00",
    ):
        path.write_text(text)
        with pytest.raises(HeadsplatError):
            read_dataset(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HeadsplatError):
        read_json(path)


@pytest.mark.parametrize("value", ["1e999", "-1", "0", "null", '"x"', "[]", "{}", "NaN", "1e300", "true"])
def test_numbers_that_cannot_be(tmp_path: Path, model: HeadModel, value: str) -> None:
    for layout, names in {
        "vhap": ("fl_x", "w", "cx", "timestep_index", "camera_index", "transform_matrix"),
        "insta": ("w", "fl_x", "transform_matrix"),
        "nerfblendshape": ("w", "fx", "img_id", "exp_ori"),
        "imavatar": ("intrinsics", "pose", "world_mat", "shape_params"),
        "adnerf": ("focal_len", "img_id"),
        "nersemble old": ("width", "intrinsics", "world_2_cam"),
    }.items():
        folder = tmp_path / layout
        MAKERS[layout](folder, model)
        index = next(p for p in sorted(folder.glob("*.json")) if p.name != "transforms_test.json")
        good = index.read_text()
        for name in names:
            content = json.loads(good)
            places = [p for p in (content, *content.get("frames", [])[1:2]) if name in p] or [content]
            for place in places:
                place[name] = "HERE"
            index.write_text(json.dumps(content).replace('"HERE"', value))
            try:
                describe(dataset := read_dataset(folder), examine(dataset))
            except HeadsplatError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("value", [np.inf, np.nan, -1.0, 1e300])
def test_arrays_of_numbers_that_cannot_be(tmp_path: Path, model: HeadModel, value: float) -> None:
    recordings.cap4d(tmp_path, model)
    with np.load(tmp_path / "fit.npz") as file:
        good = dict(file)
    for name in ("resolutions", "fx", "extr", "rot", "tra", "expr", "shape", "fps"):
        wrong = good[name].astype(float)
        wrong.flat[0] = value
        np.savez(tmp_path / "fit.npz", **{**good, name: wrong})
        try:
            describe(dataset := read_dataset(tmp_path), examine(dataset))
        except HeadsplatError as error:
            assert "\n" not in str(error)


def test_links_and_pipes(tmp_path: Path, model: HeadModel) -> None:
    folder = tmp_path / "recording"
    recordings.vhap(folder, model)
    # Pictures on another disk are the user's own business.
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    assert examine(read_dataset(folder)) == []
    # Reading these would never end.
    (tmp_path / "elsewhere/00001_00.png").unlink()
    os.mkfifo(tmp_path / "elsewhere/00001_00.png")
    (folder / "fg_masks/00002_00.png").unlink()
    (folder / "fg_masks/00002_00.png").symlink_to("00002_00.png")
    (folder / "flame_param/00003.npz").unlink()
    (folder / "flame_param/00003.npz").symlink_to("/dev/zero")
    dataset = read_dataset(folder)
    problems = examine(dataset)
    assert len(dataset) == 3
    for name in ("images/00001_00.png", "fg_masks/00002_00.png", "images/00003_00.png"):
        assert any(name in problem for problem in problems), problems


@pytest.mark.parametrize("layout", sorted(MAKERS))
def test_damaged_bytes_give_a_sentence_or_a_recording(tmp_path: Path, model: HeadModel, layout: str) -> None:
    MAKERS[layout](tmp_path, model)
    folder = tmp_path / "sequences/EMO-1"
    folder = folder if folder.is_dir() else tmp_path
    kinds = (".json", ".npz", ".pkl", ".frame", ".txt", ".lms", ".jpg", ".png")
    files = sorted(p for p in tmp_path.rglob("*") if p.suffix in kinds)
    files = sorted(files, key=lambda p: kinds.index(p.suffix))[:8]
    rng = np.random.default_rng(len(layout))
    refused = 0
    for trial in range(24):
        path = files[trial % len(files)]
        good = path.read_bytes()
        bad = bytearray(good)
        if trial % 3 == 0:
            bad = bad[: rng.integers(len(bad))]
        else:
            for position in rng.integers(0, len(bad), 4):
                bad[position] = rng.integers(256)
        path.write_bytes(bytes(bad))
        try:
            dataset = read_dataset(folder)
            describe(dataset, examine(dataset))
        except HeadsplatError as error:
            refused += 1
            assert "\n" not in str(error)
        path.write_bytes(good)
    assert refused < 24
    assert not read_dataset(folder).info["problems"]
