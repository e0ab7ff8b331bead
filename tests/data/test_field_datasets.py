"""Every layout of the field: a point of the head must fall on the pixel where the format itself puts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import recordings
import torch
from recordings import FRAMES, Known

from headsplat.data.dataset import Dataset
from headsplat.data.datasets import read_dataset
from headsplat.data.datasets.gagavatar import read_gagavatar, read_tracks, split_key
from headsplat.data.datasets.nersemble import SERIALS, read_cameras
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return recordings.little_flame()


def tensors(content: object, path: Path) -> None:
    """torch.save with the arrays as tensors."""

    def convert(item: object) -> object:
        if isinstance(item, dict):
            return {key: convert(value) for key, value in item.items()}
        return torch.from_numpy(np.array(item)) if isinstance(item, np.ndarray) else item

    torch.save(convert(content), path)


MAKERS: dict[str, Callable[[Path, HeadModel], Known]] = {
    "vhap": recordings.vhap,
    "vhap rig": lambda folder, model: recordings.vhap(folder, model, cameras=3, vertices=5023),
    "vhap old": lambda folder, model: recordings.vhap(folder, model, vertices=None),
    "insta": recordings.insta,
    "imavatar": recordings.imavatar,
    "imavatar old": lambda folder, model: recordings.imavatar(folder, model, old=True),
    "imavatar subject": lambda folder, model: recordings.imavatar(folder / "yufeng/MVI_1810", model),
    "nerfblendshape": lambda folder, _: recordings.nerfblendshape(folder),
    "gaussianhead": lambda folder, _: recordings.nerfblendshape(folder, shifted=True),
    "adnerf": lambda folder, _: recordings.adnerf(folder),
    "gagavatar": recordings.gagavatar,
    "cap4d": recordings.cap4d,
    "metrical": lambda folder, model: recordings.metrical(folder, model, torch.save),
    "metrical tensors": lambda folder, model: recordings.metrical(folder, model, tensors),
    "pixel3dmm": lambda folder, model: recordings.pixel3dmm(folder, model, torch.save),
    "nersemble": lambda folder, _: recordings.nersemble(folder),
    "nersemble old": lambda folder, _: recordings.nersemble(folder, old=True),
}


def read(folder: Path, model: HeadModel | None = None) -> Dataset:
    deeper = folder / "sequences/EMO-1"
    return read_dataset(deeper if deeper.is_dir() else folder, flame=model)


@pytest.mark.parametrize("layout", MAKERS)
def test_points_fall_on_the_pixels_that_the_format_says(
    tmp_path: Path, model: HeadModel, layout: str
) -> None:
    known = MAKERS[layout](tmp_path, model)
    dataset = read(tmp_path, model)
    wanted = {"gaussianhead": "nerfblendshape"}.get(layout, layout.split()[0])
    assert dataset.layout == wanted and len(dataset) == len(known.pixels)
    assert not dataset.info["problems"]
    for view, points, pixels in zip(dataset.views, known.points, known.pixels, strict=True):
        found = view.camera.project(points.astype(np.float64))
        np.testing.assert_allclose(found[:, :2], pixels, atol=2e-3)
        assert (found[:, 2] > 0).all()
        picture, matte = dataset.load(view)
        assert (
            picture.shape == (view.camera.height, view.camera.width, 3) and matte.shape == picture.shape[:2]
        )


@pytest.mark.parametrize("layout", [name for name in MAKERS if not name.startswith(("ner", "gau", "adn"))])
def test_the_parameters_pose_flame_as_the_format_does(tmp_path: Path, model: HeadModel, layout: str) -> None:
    known = MAKERS[layout](tmp_path, model)
    dataset = read(tmp_path, model)
    shaped = model.with_shape(dataset.shape)
    for view, points in zip(dataset.views, known.points, strict=True):
        expression = np.zeros(100, np.float32)
        expression[: len(view.expression)] = view.expression
        posed = shaped.with_pose(expression, view.rotations, view.T_world_root)
        np.testing.assert_allclose(posed.vertices, points, atol=2e-6)


@pytest.mark.parametrize("layout", ["vhap", "vhap rig", "imavatar", "cap4d", "pixel3dmm", "gagavatar"])
def test_the_skull_follows_the_neck_joint(tmp_path: Path, model: HeadModel, layout: str) -> None:
    MAKERS[layout](tmp_path, model)
    dataset = read(tmp_path, model)
    shaped, rest = model.with_shape(dataset.shape), np.array([0.02, 0.1, 0.08])
    for view in dataset.views:
        expression = np.zeros(100, np.float32)
        expression[: len(view.expression)] = view.expression
        posed = shaped.with_pose(expression, view.rotations, view.T_world_root)
        in_world = posed.transforms[1] @ np.append(rest, 1)
        by_view = view.T_world_head @ np.append(rest, 1)
        np.testing.assert_allclose(by_view, in_world, atol=2e-6)


@pytest.mark.parametrize("layout", ["vhap", "imavatar"])
def test_without_flame_the_turn_is_exact_and_the_place_about_right(
    tmp_path: Path, model: HeadModel, layout: str
) -> None:
    MAKERS[layout](tmp_path, model)
    exact, about = read(tmp_path, model), read(tmp_path)
    assert any("average head" in note for note in about.info["notes"])
    assert not any("average head" in note for note in exact.info["notes"])
    for a, b in zip(exact.views, about.views, strict=True):
        np.testing.assert_allclose(a.T_world_head[:3, :3], b.T_world_head[:3, :3], atol=1e-6)
        assert np.abs(a.T_world_head[:3, 3] - b.T_world_head[:3, 3]).max() < 0.06


def test_still_heads_have_the_identity(tmp_path: Path, model: HeadModel) -> None:
    for layout in ("insta", "nerfblendshape", "adnerf", "gagavatar", "metrical"):
        MAKERS[layout](tmp_path / layout, model)
        dataset = read(tmp_path / layout)
        assert all(np.array_equal(view.T_world_head, np.eye(4)) for view in dataset.views)
        assert len({view.camera.viewmat.tobytes() for view in dataset.views}) == len(dataset)


def test_gaussianhead_mattes_are_numbered_one_higher(tmp_path: Path) -> None:
    recordings.nerfblendshape(tmp_path / "plain")
    recordings.nerfblendshape(tmp_path / "shifted", shifted=True)
    plain, shifted = read_dataset(tmp_path / "plain"), read_dataset(tmp_path / "shifted")
    assert [v.mask.stem for v in plain.views if v.mask] == ["0", "1", "2", "3"]
    assert [v.mask.stem for v in shifted.views if v.mask] == ["1", "2", "3", "4"]
    assert any("one higher" in note for note in shifted.info["notes"])
    for a, b in zip(plain.views, shifted.views, strict=True):
        np.testing.assert_array_equal(plain.load(a)[1], shifted.load(b)[1])


def test_nerfblendshape_reads_expressions_landmarks_and_parsing_in_order(tmp_path: Path) -> None:
    recordings.nerfblendshape(tmp_path)
    for path in (tmp_path / "mask").iterdir():
        path.unlink()
    labels = np.zeros((28, 40, 3), np.uint8)
    labels[3:9, 5:11] = [0, 0, 255]
    labels[9:20, 5:11] = [255, 0, 0]
    from PIL import Image

    (tmp_path / "parsing").mkdir()
    for t in range(FRAMES):
        Image.fromarray(labels).save(tmp_path / f"parsing/{t}.png")
    dataset = read_dataset(tmp_path)
    assert len(dataset.expressions) == 46 and dataset.head == "none"
    np.testing.assert_allclose([v.expression[5] for v in dataset.views], [0, 0.1, 0.2, 0.3], atol=1e-6)
    marks = dataset.views[2].landmarks
    assert marks is not None
    np.testing.assert_allclose(marks, np.random.default_rng(2).uniform(0, 30, (478, 2)), atol=1e-3)
    matte = dataset.load(dataset.views[0])[1]
    assert matte.sum() == 36 and matte[3:9, 5:11].all()
    assert (dataset.train, dataset.test) == ((0, 1, 2), (3,))


def test_adnerf_keeps_its_parts(tmp_path: Path) -> None:
    recordings.adnerf(tmp_path)
    dataset = read_dataset(tmp_path)
    assert dataset.train == tuple(range(10)) and dataset.test == (10,) and dataset.fps == 25


def test_insta_takes_jaw_and_shape_from_the_trackers_files(tmp_path: Path, model: HeadModel) -> None:
    recordings.insta(tmp_path, model)
    bare = read_dataset(tmp_path)
    assert len(bare.shape) == 0 and any("meshes" in note for note in bare.info["notes"])
    recordings.metrical(tmp_path, model, torch.save)
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "insta" and dataset.shape.shape == (300,)
    jaw = dataset.joints.index("jaw")
    for t, view in enumerate(dataset.views):
        np.testing.assert_allclose(view.rotations[jaw], recordings.pose_of(t)["jaw"], atol=1e-6)


def test_gagavatar_sorts_parts_and_reads_a_database(tmp_path: Path, model: HeadModel) -> None:
    lmdb = pytest.importorskip("lmdb")
    recordings.gagavatar(tmp_path, model, pictures=False)
    keys = list(read_tracks(tmp_path))
    assert keys == [f"014554_{100 + t}" for t in range(FRAMES)]
    recordings.paint(tmp_path / "a.png", size=(512, 512), seed=5)
    with (
        lmdb.open(str(tmp_path / "img_lmdb"), map_size=1 << 24) as database,
        database.begin(write=True) as writing,
    ):
        for key in keys[:3]:
            writing.put(key.encode(), (tmp_path / "a.png").read_bytes())
    dataset = read_gagavatar(tmp_path)
    assert (dataset.train, dataset.val, dataset.test) == ((0, 1), (2,), (3,))
    from PIL import Image

    picture = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.round(dataset.load(dataset.views[2])[0] * 255), picture)
    with pytest.raises(HeadsplatError, match="103"):
        dataset.load(dataset.views[3])
    with pytest.raises(HeadsplatError, match="014554"):
        read_gagavatar(tmp_path, video="other")
    assert len(read_gagavatar(tmp_path, video="014554")) == FRAMES
    assert split_key("img_00012_7") == ("00012", 7) and split_key("obama") == ("obama", 0)


def test_nersemble_cameras_come_in_the_fields_order(tmp_path: Path) -> None:
    content = {"world_2_cam": {s: np.eye(4) for s in reversed(SERIALS)}, "intrinsics": np.diag([9.0, 9, 1])}
    recordings.dump(tmp_path / "camera_params.json", content)
    cameras = read_cameras(tmp_path / "camera_params.json")
    assert tuple(cameras) == SERIALS and len(SERIALS) == 16
    assert (cameras[SERIALS[8]].width, cameras[SERIALS[8]].height) == (2200, 3208)
    with pytest.raises(HeadsplatError, match="ffmpeg"):
        read_dataset(tmp_path)


def test_several_videos_of_a_subject_are_asked_about(tmp_path: Path, model: HeadModel) -> None:
    for video in ("MVI_1810", "MVI_1814"):
        recordings.imavatar(tmp_path / "yufeng" / video, model)
    with pytest.raises(HeadsplatError, match="MVI_1814"):
        read_dataset(tmp_path)
