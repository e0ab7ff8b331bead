"""`headsplat info DATASET`: what is wrong is said in a sentence, and only the useless is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recordings
from PIL import Image
from recordings import FRAMES

from headsplat.cli import main
from headsplat.data.datasets import read_dataset
from headsplat.data.datasets.check import examine
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return recordings.little_flame()


def change(folder: Path, edit: Callable[[dict[str, Any]], None], name: str = "transforms.json") -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


def change_parameters(folder: Path, timestep: int, **arrays: np.ndarray) -> None:
    path = folder / f"flame_param/{timestep:05d}.npz"
    with np.load(path) as old:
        np.savez(path, **{**old, **arrays})


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["info", *words])
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_a_sound_recording_has_no_problem(
    tmp_path: Path, model: HeadModel, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings.vhap(tmp_path, model, cameras=2)
    assert examine(read_dataset(tmp_path)) == []
    code, out, _ = run(capsys, str(tmp_path), "--json")
    facts = json.loads(out.splitlines()[-1])
    assert code == 0 and facts["problems"] == []
    wanted = {"layout": "vhap", "views": 8, "moments": 4, "cameras": 2, "width": 40, "height": 28,
              "head": "flame", "expressions": 100, "shape": 300, "train": 3, "val": 3, "test": 2,
              "moves": "head"}  # fmt: skip
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["focal"] == 60 and facts["distance"] == pytest.approx(1.1, abs=0.15)
    code, out, _ = run(capsys, str(tmp_path / "transforms.json"))
    assert code == 0 and "8 views (4 moments, 2 cameras)" in out and "problem" not in out


def forget_picture(folder: Path) -> None:
    (folder / "images/00001_00.png").unlink()


def forget_mattes(folder: Path) -> None:
    for path in (folder / "fg_masks").iterdir():
        path.unlink()


def shrink_picture(folder: Path) -> None:
    recordings.paint(folder / "images/00001_00.png", size=(20, 14))


def shrink_matte(folder: Path) -> None:
    recordings.paint(folder / "fg_masks/00001_00.png", "L", size=(20, 14))


def break_picture(folder: Path) -> None:
    (folder / "images/00001_00.png").write_bytes(b"no picture")


def drop_moment(folder: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["frames"] = [f for f in content["frames"] if f["timestep_index"] != 1]

    change(folder, edit)


def empty_test(folder: Path) -> None:
    change(folder, lambda content: content.update(frames=[]), "transforms_test.json")


def empty_train(folder: Path) -> None:
    change(folder, lambda content: content.update(frames=[]), "transforms_train.json")


def same_parts(folder: Path) -> None:
    (folder / "transforms_test.json").write_text((folder / "transforms_train.json").read_text())


def turn_camera(folder: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for frame in content["frames"]:  # as a writer does who takes the matrix for OpenCV's
            frame["transform_matrix"] = (
                np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
            ).tolist()

    change(folder, edit)


def shear_camera(folder: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["frames"][1]["transform_matrix"][0][0] = 3.0

    change(folder, edit)


def mirror_camera(folder: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for row in content["frames"][1]["transform_matrix"][:3]:
            row[0] *= -1

    change(folder, edit)


def lose_focal(folder: Path) -> None:
    change(folder, lambda content: content["frames"][1].update(fl_x=0))


def squeeze(folder: Path) -> None:
    change(folder, lambda content: content["frames"][1].update(fl_y=30))


def add_nan(folder: Path) -> None:
    change_parameters(folder, 1, expr=np.full((1, 100), np.nan, np.float32))


def other_flame(folder: Path) -> None:
    change_parameters(folder, 1, eyes_pose=np.zeros((1, 3), np.float32))


def fewer_expressions(folder: Path) -> None:
    change_parameters(folder, 1, expr=np.zeros((1, 50), np.float32))


def repeat_frame(folder: Path) -> None:
    change(folder, lambda content: content["frames"].append(content["frames"][1]))


def absurd_weights(folder: Path) -> None:
    for t in range(FRAMES):
        change_parameters(folder, t, expr=np.full((1, 100), 40, np.float32))


@pytest.mark.parametrize(
    ("damage", "sentence", "left"),
    [
        (forget_picture, "images/00001_00.png is missing", 4),
        (forget_mattes, "fg_masks/00000_00.png is a matte that is missing, and 3 more", 4),
        (shrink_picture, "images/00001_00.png has 20 x 14 pixels but its camera 40 x 28", 4),
        (shrink_matte, "fg_masks/00001_00.png is a matte of another size", 4),
        (break_picture, "images/00001_00.png is broken", 4),
        (drop_moment, "1 of 4 moments are missing", 3),
        (empty_test, "set aside for testing", 4),
        (empty_train, "No view is there to learn from", 4),
        (same_parts, "both to learn from and to judge by", 4),
        (turn_camera, "behind the camera in 4 of 4", 4),
        (shear_camera, "images/00001_00.png has a camera matrix that is no rotation", 3),
        (mirror_camera, "images/00001_00.png has a camera matrix that is no rotation", 3),
        (lose_focal, "images/00001_00.png has an impossible size or focal length", 3),
        (squeeze, "images/00001_00.png has pixels that are not square", 4),
        (add_nan, "images/00001_00.png has numbers that are not finite", 3),
        (other_flame, "3 numbers of eyes_pose, not 6", 3),
        (fewer_expressions, "another number of expressions", 3),
        (repeat_frame, "has the moment and the camera of another frame", 4),
        (absurd_weights, "expression weight over 12", 4),
    ],
)
def test_each_damage_is_said(
    tmp_path: Path,
    model: HeadModel,
    capsys: pytest.CaptureFixture[str],
    damage: Any,
    sentence: str,
    left: int,
) -> None:
    recordings.vhap(tmp_path, model)
    damage(tmp_path)
    code, out, _ = run(capsys, str(tmp_path), "--json")
    facts = json.loads(out.splitlines()[-1])
    assert code == 0 and facts["views"] == left
    assert any(sentence in problem for problem in facts["problems"]), facts["problems"]
    assert all(problem.endswith(".") and "\n" not in problem for problem in facts["problems"])
    assert [view.timestep for view in read_dataset(tmp_path).views] == list(range(left))
    code, out, _ = run(capsys, str(tmp_path))
    assert code == 0 and sentence in out


def test_pictures_without_any_matte_are_said(tmp_path: Path, model: HeadModel) -> None:
    recordings.gagavatar(tmp_path, model)
    assert any("no mattes" in problem for problem in examine(read_dataset(tmp_path)))
    recordings.insta(tmp_path / "alpha", model)
    assert not any("matte" in problem for problem in examine(read_dataset(tmp_path / "alpha")))
    picture = tmp_path / "alpha/images/00001.png"
    Image.open(picture).convert("RGB").save(picture)
    assert any("1 of 4 pictures have no matte" in p for p in examine(read_dataset(tmp_path / "alpha")))


def test_other_editions_of_flame_are_suspected(tmp_path: Path, model: HeadModel) -> None:
    recordings.gagavatar(tmp_path / "a", model)
    dataset = read_dataset(tmp_path / "a")
    assert any("FLAME 2020" in problem for problem in examine(dataset, flame="flame2023.pkl"))
    assert not any("FLAME" in problem for problem in examine(dataset, flame="generic_model.pkl"))
    assert not any("FLAME" in problem for problem in examine(dataset, flame="mine.pkl"))
    recordings.insta(tmp_path / "c", model)
    for seed in (0, 1):
        arrays = recordings.flame_arrays(seed)
        np.savez(tmp_path / f"{seed}.npz", **{**recordings.flame_arrays(), "shapedirs": arrays["shapedirs"]})
    insta = read_dataset(tmp_path / "c")
    assert not any("meshes move" in problem for problem in examine(insta, flame=tmp_path / "0.npz"))
    assert any("meshes move" in problem for problem in examine(insta, flame=tmp_path / "1.npz"))
    recordings.vhap(tmp_path / "b", model, vertices=None, frames=12)
    assert not any("jaw" in problem for problem in examine(read_dataset(tmp_path / "b")))
    for t in range(12):
        change_parameters(tmp_path / "b", t, jaw_pose=np.zeros((1, 3), np.float32))
    assert any("without jaw" in problem for problem in examine(read_dataset(tmp_path / "b")))


def test_only_the_useless_is_refused(
    tmp_path: Path, model: HeadModel, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    code, out, error = run(capsys, str(tmp_path / "empty"), "--json")
    assert (code, out) == (2, "") and "headsplat track" in error
    recordings.vhap(tmp_path / "lost", model)
    for t in range(FRAMES):
        change_parameters(tmp_path / "lost", t, translation=np.full((1, 3), np.inf, np.float32))
    code, _, error = run(capsys, str(tmp_path / "lost"))
    assert code == 2 and "no frame that can be used" in error and "not finite" in error
    assert run(capsys, str(tmp_path / "nowhere.json"))[0] == 2


def test_the_same_head_is_driven_by_the_first_camera(tmp_path: Path, model: HeadModel) -> None:
    recordings.vhap(tmp_path, model, cameras=2)
    dataset = read_dataset(tmp_path)
    motion = dataset.motion()
    assert len(motion) == FRAMES and motion.fps == 25 and dataset.motion(fps=50).fps == 50
    for t in range(FRAMES):
        np.testing.assert_array_equal(motion.weights[t], dataset.views[2 * t].expression)
        assert motion.root is not None
        np.testing.assert_array_equal(motion.root[t], dataset.views[2 * t].T_world_root)
    recordings.adnerf(tmp_path / "sound")
    with pytest.raises(HeadsplatError, match="no expressions"):
        read_dataset(tmp_path / "sound").motion()


def test_convert_writes_one_and_joins_several(
    tmp_path: Path, model: HeadModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recordings.gagavatar(tmp_path / "tracks", model)
    for name in ("first", "second"):
        recordings.vhap(tmp_path / name, model)
    for words, layout, views in (
        (["tracks", "-o", "out"], "vhap", 4),
        (["first", "second", "-o", "both"], "union", 8),
    ):
        with pytest.raises(SystemExit) as end:
            main(["convert", *words, "--json"])
        facts = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (end.value.code, facts["layout"], facts["views"]) == (0, layout, views)
    for words in ([], ["nowhere"]):
        with pytest.raises(SystemExit) as end:
            main(["convert", *words, "-o", "x"])
        assert end.value.code == 2 and not (tmp_path / "x").exists()
