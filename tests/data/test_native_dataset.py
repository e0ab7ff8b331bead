"""Our own recordings: what is written comes back, bytes repeat, others find their fields, damage is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headsplat.camera import Camera, intrinsics
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.native import (
    is_native,
    last_tenth,
    picture_paths,
    read_native,
    write_index,
    write_pixels,
)
from headsplat.data.datasets.vhap import read_vhap
from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix

FRAMES, SIZE = 7, 33


def _rigid(rng: np.random.Generator) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = axis_angle_to_matrix(rng.normal(size=3) * 0.2), rng.normal(size=3) * 0.1
    return out.astype(np.float32)


def _make(root: Path, cameras: int = 1) -> Dataset:
    rng = np.random.default_rng(3)
    cams = []
    for index in range(cameras):
        viewmat = _rigid(rng) @ np.diag([1, -1, -1, 1]).astype(np.float32)
        viewmat[2, 3] += 1
        K = intrinsics(60.0 + index, SIZE, SIZE)
        K[0, 2] += 0.7
        cams.append(Camera(viewmat.astype(np.float32), K, SIZE, SIZE))
    views = []
    for t in range(FRAMES):
        moment = {
            "expression": rng.uniform(0, 1, 4).astype(np.float32),
            "rotations": rng.normal(size=(3, 3)).astype(np.float32),
            "T_world_root": _rigid(rng),
            "T_world_head": _rigid(rng),
            "landmarks": rng.uniform(0, SIZE, (478, 2)).astype(np.float32) if t else None,
            "confidence": float(np.float32(rng.uniform())),
        }
        for index, camera in enumerate(cams):
            image, mask = picture_paths(root, t, index)
            write_pixels(root, t, rng.uniform(0, 1, (SIZE, SIZE, 3)), rng.uniform(0, 1, (SIZE, SIZE)), index)
            views.append(View(image, mask, camera, t, index, **moment))
    train, test = last_tenth(len(views))
    return Dataset(
        root=root,
        layout="headsplat",
        head="free",
        shape=rng.normal(size=5).astype(np.float32),
        expressions=("a", "b", "c", "d"),
        joints=("root", "neck", "head"),
        views=tuple(views),
        train=train,
        val=(),
        test=test,
        fps=24000 / 1001,
        info={"source": "ab" * 32, "crop": [[0.1, 0, -3.7], [0, 0.1, 2]]},
    )


@pytest.mark.parametrize("cameras", [1, 2])
def test_round_trip_is_exact(tmp_path: Path, cameras: int) -> None:
    wanted = _make(tmp_path / "a", cameras)
    assert not is_native(wanted.root)
    write_index(wanted)
    got = read_native(wanted.root)
    for name in ("layout", "head", "expressions", "joints", "train", "val", "test", "fps", "info", "root"):
        assert getattr(got, name) == getattr(wanted, name), name
    np.testing.assert_array_equal(got.shape, wanted.shape)
    for a, b in zip(got.views, wanted.views, strict=True):
        for name in ("expression", "rotations", "T_world_root", "T_world_head"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.camera.viewmat, b.camera.viewmat)
        np.testing.assert_array_equal(a.camera.K, b.camera.K)
        assert (a.landmarks is None) == (b.landmarks is None)
        if a.landmarks is not None and b.landmarks is not None:
            np.testing.assert_array_equal(a.landmarks, b.landmarks)
        assert (a.timestep, a.camera_index, a.confidence) == (b.timestep, b.camera_index, b.confidence)
        assert (a.image, a.mask) == (b.image, b.mask)
    before = {p.name: p.read_bytes() for p in wanted.root.rglob("*.*") if p.suffix != ".png"}
    write_index(got)
    assert {p.name: p.read_bytes() for p in wanted.root.rglob("*.*") if p.suffix != ".png"} == before


def test_colours_come_back_from_over_white(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    colours, alpha = rng.uniform(0, 1, (9, 11, 3)), rng.uniform(0, 1, (9, 11))
    alpha[0], alpha[1] = 0, 1
    write_pixels(tmp_path, 0, colours, alpha)
    dataset = replace(
        _make(tmp_path / "other"),
        root=tmp_path,
    )
    camera = Camera(np.eye(4, dtype=np.float32), intrinsics(9, 11, 9), 11, 9)
    image, mask = picture_paths(tmp_path, 0)
    picture, matte = dataset.load(replace(dataset.views[0], image=image, mask=mask, camera=camera))
    np.testing.assert_allclose(matte, alpha, atol=0.51 / 255)
    assert (picture[0] == 1).all()
    solid = matte > 0.3
    own = (picture - 1 + matte[..., None]) / np.maximum(matte[..., None], 1e-6)
    np.testing.assert_allclose(own[solid], colours[solid], atol=0.6 / 255 / 0.3)


def test_readers_of_vhap_find_their_fields(tmp_path: Path) -> None:
    dataset = _make(tmp_path)
    write_index(dataset)
    index = json.loads((tmp_path / "transforms.json").read_text())
    assert index["timestep_indices"] == list(range(FRAMES)) and index["camera_indices"] == [0]
    point = np.array([0.03, -0.02, 0.05])
    for frame, view in zip(index["frames"], dataset.views, strict=True):
        assert (tmp_path / frame["file_path"]).is_file() and (tmp_path / frame["fg_mask_path"]).is_file()
        # OpenGL camera to world: y up, looking along -z.
        x, y, z, _ = np.linalg.inv(frame["transform_matrix"]) @ np.append(point, 1)
        seen = [frame["fl_x"] * x / -z + frame["cx"], frame["fl_y"] * -y / -z + frame["cy"]]
        np.testing.assert_allclose(seen, view.camera.project(point)[:2], rtol=1e-5)
        assert frame["camera_angle_x"] == pytest.approx(2 * np.arctan(frame["w"] / 2 / frame["fl_x"]))
    splits = [json.loads((tmp_path / f"transforms_{n}.json").read_text()) for n in ("train", "val", "test")]
    assert [len(split["frames"]) for split in splits] == [FRAMES - 1, 0, 1]


def test_flame_beside_is_what_readers_of_vhap_want(tmp_path: Path) -> None:
    dataset, rng = _make(tmp_path), np.random.default_rng(2)
    views = []
    for view in dataset.views:
        T_world_root = np.eye(4, dtype=np.float32)
        T_world_root[:3, 3] = rng.normal(size=3)
        rotations = rng.normal(size=(5, 3)).astype(np.float32) * 0.2
        expression = rng.normal(size=100).astype(np.float32)
        views.append(replace(view, T_world_root=T_world_root, rotations=rotations, expression=expression))
    shape = rng.normal(size=100).astype(np.float32)
    flame = replace(dataset, head="flame", shape=shape, views=tuple(views))
    write_index(dataset, flame)
    np.testing.assert_array_equal(read_native(tmp_path).views[2].expression, dataset.views[2].expression)
    got = read_vhap(tmp_path)
    assert got.head == "flame" and len(got) == FRAMES
    np.testing.assert_array_equal(got.shape[:100], shape)
    for a, b in zip(got.views, views, strict=True):
        np.testing.assert_array_equal(a.expression, b.expression)
        np.testing.assert_array_equal(a.rotations, b.rotations)
        np.testing.assert_array_equal(a.T_world_root, b.T_world_root)
        np.testing.assert_allclose(a.camera.viewmat, b.camera.viewmat, atol=1e-6)
    canonical = dict(np.load(tmp_path / "canonical_flame_param.npz"))
    assert canonical["jaw_pose"].tolist() == [[pytest.approx(0.3), 0, 0]] and canonical["expr"].shape == (
        1,
        100,
    )
    assert all(value.dtype == np.float32 for value in canonical.values())


@pytest.mark.parametrize("count", [1, 2, 9, 10, 352])
def test_last_tenth(count: int) -> None:
    train, test = last_tenth(count)
    assert train + test == tuple(range(count)) and train
    assert len(test) == (max(1, round(count / 10)) if count > 1 else 0)


def _edit(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("headsplat.json", lambda c: c.update(version=99), "newer headsplat"),
        ("headsplat.json", lambda c: c.update(format="x"), "does not describe"),
        ("headsplat.json", lambda c: c.update(fps=float("nan")), "impossible"),
        ("headsplat.json", lambda c: c.pop("joints"), "damaged"),
        ("headsplat.json", lambda c: c.update(expressions=["a"]), "expression of shape"),
        ("transforms.json", lambda c: c.pop("frames"), "no list of frames"),
        ("transforms.json", lambda c: c["frames"].append(c["frames"][0]), "or one twice"),
        ("transforms.json", lambda c: c["frames"][0].update(file_path="../../etc/passwd"), "outside"),
        ("transforms.json", lambda c: c["frames"][0].update(head_param_path="/etc/passwd"), "outside"),
        ("transforms.json", lambda c: c["frames"][0].update(w=10**9), "impossible camera"),
        ("transforms.json", lambda c: c["frames"][0].update(fl_x=float("inf")), "impossible camera"),
        ("transforms.json", lambda c: c["frames"][0]["transform_matrix"][0].__setitem__(0, 7), "impossible"),
        ("transforms.json", lambda c: c["frames"][0].update(timestep_index="x"), "damaged frame"),
        ("transforms_test.json", lambda c: c["frames"][0].update(timestep_index=77), "does not have"),
    ],
)
def test_damage_is_named(tmp_path: Path, file: str, change, said: str) -> None:  # type: ignore[no-untyped-def]
    write_index(_make(tmp_path))
    _edit(tmp_path / file, change)
    with pytest.raises(HeadsplatError, match=said):
        read_native(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"\x80\x04\x95 a pickle"])
def test_damaged_parameters(tmp_path: Path, content: bytes) -> None:
    write_index(_make(tmp_path))
    (tmp_path / "head_param" / "00003.npz").write_bytes(content)
    with pytest.raises(HeadsplatError, match=r"00003\.npz is missing or damaged"):
        read_native(tmp_path)


def test_parameters_that_are_code_or_nan_are_refused(tmp_path: Path) -> None:
    write_index(_make(tmp_path))
    path = tmp_path / "head_param" / "00002.npz"
    whole = dict(np.load(path))
    np.savez(path, **{**whole, "expression": np.array([object()] * 4)})
    with pytest.raises(HeadsplatError, match="damaged"):
        read_native(tmp_path)
    np.savez(path, **{**whole, "rotations": np.full((3, 3), np.nan)})
    with pytest.raises(HeadsplatError, match="finite"):
        read_native(tmp_path)


def test_an_unfinished_recording_is_none(tmp_path: Path) -> None:
    write_index(_make(tmp_path))
    (tmp_path / "headsplat.json").unlink()
    assert not is_native(tmp_path)
    with pytest.raises(HeadsplatError, match="missing or damaged"):
        read_native(tmp_path)
