"""Tracked recordings as data: nothing is tracked again, their own division counts, avatars may be given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.avatar_file import save_avatar
from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.native import picture_paths, write_index, write_pixels
from headsplat.errors import HeadsplatError
from headsplat.evaluate import summary
from headsplat.evaluate.cases import Shot, file_hash, shot_hash
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.observe import observe
from headsplat.evaluate.predict import Method
from headsplat.evaluate.protocols import build
from headsplat.evaluate.recordings import read_recording
from headsplat.evaluate.runner import evaluate, load_run
from headsplat.evaluate.stage import set_up
from headsplat.evaluate.truth import draw, random_person
from headsplat.head.free import load_free_head
from synthetic import make_avatar

pytest.importorskip("mediapipe")

SIZE, VIEWS = 160, 20


def write_recording(folder: Path, seed: int, views: int, tested: int = 3) -> None:
    """A painted person who opens the mouth, on a bust that stands half a metre aside in its world."""
    model, person = load_free_head(), random_person(seed)
    T_world_root = np.eye(4, dtype=np.float32)
    T_world_root[0, 3] = 0.5
    camera = Camera.orbit(0.1, target=(0, 0.04, 0), focal=3.4 * SIZE, width=SIZE, height=SIZE)
    shifted = replace(camera, viewmat=(camera.viewmat @ np.linalg.inv(T_world_root)).astype(np.float32))
    listed = []
    for t in range(views):
        expression = {"jawOpen": t / views}
        drawing = draw(person, expression, camera)
        write_pixels(folder, t, drawing.image, drawing.alpha)
        posed = model.with_shape(person.shape).with_pose(expression, None)
        points = np.zeros((478, 2), np.float32)
        points[:468] = camera.project(model.landmarks(posed.vertices))[:, :2]
        points[468:] = points[[468 - 1] * 10]
        image, mask = picture_paths(folder, t)
        weights = model.expression_weights(expression).astype(np.float32)
        joints = np.zeros((len(model.joint_names), 3), np.float32)
        listed.append(
            View(image, mask, shifted, t, 0, weights, joints, T_world_root, T_world_root, points, 0.9)
        )
    numbers = tuple(range(views))
    dataset = Dataset(
        root=folder,
        layout="headsplat",
        head="free",
        shape=person.shape,
        expressions=model.expression_names,
        joints=model.joint_names,
        views=tuple(listed),
        train=numbers[: views - tested],
        val=(),
        test=numbers[views - tested :],
        fps=25.0,
    )
    write_index(dataset)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_recording(folder / "ann", 5, VIEWS)
    (folder / "unfinished").mkdir()
    return folder


def never(frame: Any, name: str, **options: Any) -> Avatar:
    raise AssertionError("a given avatar is not made")


def test_a_recording_divides_itself(data: Path) -> None:
    manifest = build("video", data, frames=2)
    (case,) = manifest.cases
    assert case.name == "ann" and "unfinished" in manifest.skipped
    assert len(case.sources) == 8 and max(s.frame or 0 for s in case.sources) == VIEWS - 4
    assert [s.frame for s in case.targets] == [VIEWS - 3, VIEWS - 1] and case.neighbours
    assert case.sources[0] == Shot("ann/headsplat.json", case.sources[0].sha256, 0)
    assert case.sources[0].label == "ann:0" and case.sources[0].clip == "ann"
    # The recording itself may be the data folder.
    (alone,) = build("video", data / "ann", frames=2).cases
    assert alone.name == "ann" and alone.sources[0].file == "headsplat.json"


def test_views_are_taken_as_they_were_tracked(data: Path, tmp_path: Path) -> None:
    (case,) = build("self", data, frames=3).cases
    stage = set_up(case, data, tmp_path / "kept")
    assert not (tmp_path / "kept").exists() and len(stage.targets) == 3
    jaw = load_free_head().expression_names.index("jawOpen")
    for shot, target in zip(case.targets, stage.targets, strict=True):
        assert shot.frame is not None and target.goal.points is not None
        assert target.goal.pose.expression[jaw] == pytest.approx(shot.frame / VIEWS)
        near = [goal.pose.expression[jaw] for goal, _ in target.beside]
        assert near == pytest.approx([(shot.frame - 1) / VIEWS, (shot.frame + 1) / VIEWS])
        # The bust is at rest: the camera carries its place in the world.
        np.testing.assert_allclose(target.goal.pose.T_world_root, np.eye(4))
        fitted = target.goal.pose.camera.project(np.array([[0, 0.04, 0]]))
        np.testing.assert_allclose(fitted[0, :2], [SIZE / 2, SIZE / 2], atol=1e-2)


def test_a_doubtful_view_is_left_out(tmp_path: Path) -> None:
    write_recording(tmp_path / "bob", 6, 5, tested=0)
    with np.load(tmp_path / "bob" / "head_param" / "00003.npz") as parameters:
        changed = {**parameters, "confidence": np.float32(0.1)}
    np.savez(tmp_path / "bob" / "head_param" / "00003.npz", **changed)
    shots = [Shot("bob/headsplat.json", "", number) for number in (2, 3)]
    good, bad = observe(tmp_path, shots, neighbours=True)
    assert isinstance(bad, str) and "trusted" in bad
    assert not isinstance(good, str) and good.before is not None and good.after is None


def test_a_view_is_hashed_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    write_recording(tmp_path / "bob", 6, 4, tested=0)

    def hashes() -> list[str]:
        file_hash.cache_clear()
        return [shot_hash(tmp_path, "bob/headsplat.json", number) for number in (0, 1)]

    before = hashes()
    assert before[0] != before[1] and before == hashes()
    path = tmp_path / "bob" / "head_param" / "00001.npz"
    path.write_bytes(path.read_bytes() + b" ")
    assert hashes()[0] == before[0] and hashes()[1] != before[1]


def test_other_recordings_are_refused(tmp_path: Path) -> None:
    write_recording(tmp_path / "bob", 6, 4, tested=0)
    index = tmp_path / "bob" / "headsplat.json"
    index.write_text(index.read_text().replace('"free"', '"flame"'))
    with pytest.raises(HeadsplatError, match="another head"):
        read_recording(tmp_path / "bob")
    with pytest.raises(HeadsplatError, match="another head"):
        build("self", tmp_path)


def test_a_given_avatar_is_judged(data: Path, tmp_path: Path) -> None:
    manifest = build("self", data, frames=1)
    methods = [Method.parse("copy"), Method.parse(f"mine:file={tmp_path}/{{clip}}.avatar")]
    absent = evaluate(manifest, data, methods, tmp_path / "run", never, Networks())
    assert "ann.avatar" in absent.results[1]["failed"]
    save_avatar(make_avatar(60, seed=2), tmp_path / "ann.avatar")
    file_hash.cache_clear()
    present = evaluate(manifest, data, methods, tmp_path / "run", never, Networks())
    assert present.results[0] == absent.results[0]
    assert present.results[1]["failed"] is None
    assert summary.cell(present, str(methods[1]), "psnr").value is not None
    assert load_run(tmp_path / "run").methods[1] == str(methods[1])
