"""Known cameras: aligning spaces, the files, and the painted heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.evaluate import truth
from headsplat.evaluate.cases import make_shot, shot_hash
from headsplat.evaluate.views import View, ViewSet, camera_through, read_views
from headsplat.gaussians import axis_angle_to_matrix


def _similarity() -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = 1.7 * axis_angle_to_matrix(np.array([0.3, -0.5, 0.2]))
    out[:3, 3] = [0.1, -0.2, 0.05]
    return out


def test_camera_through_sees_the_same_picture() -> None:
    camera = Camera.orbit(0.4, 0.1, distance=3.0)
    points, T = np.random.default_rng(2).normal(0, 0.1, (40, 3)), _similarity()
    seen = camera_through(camera, T)
    np.testing.assert_allclose(
        seen.project(points)[:, :2], camera.project(points @ T[:3, :3].T + T[:3, 3])[:, :2], atol=1e-3
    )
    np.testing.assert_allclose(seen.viewmat[:3, :3] @ seen.viewmat[:3, :3].T, np.eye(3), atol=1e-6)


def test_views_survive_the_file(tmp_path: Path) -> None:
    camera = Camera.orbit(0.2)
    view = View(
        "a.png", "m.png", camera.viewmat.tolist(), camera.K.tolist(), 512, 512, 11.5, {"jawOpen": 0.5}
    )
    views = ViewSet(0, np.zeros((468, 3)).tolist(), (view,))
    views.save(tmp_path)
    assert read_views(tmp_path / "views.json") == views
    np.testing.assert_allclose(read_views(tmp_path / "views.json").views[0].camera.viewmat, camera.viewmat)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1, "source": 0, "points": [], "views": []}'])
def test_damaged_views_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "views.json").write_text(text)
    with pytest.raises(HeadsplatError, match=r"views\.json"):
        read_views(tmp_path / "views.json")


def test_a_view_is_hashed_with_its_pictures(tmp_path: Path) -> None:
    view = View("a.png", "m.png", np.eye(4).tolist(), np.eye(3).tolist(), 9, 9, 0.0, {})
    ViewSet(0, np.zeros((468, 3)).tolist(), (view, replace(view, picture="b.png"))).save(tmp_path)
    for name in "abm":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    first = make_shot(tmp_path, tmp_path / "views.json", 0)
    assert first.sha256 != make_shot(tmp_path, tmp_path / "views.json", 1).sha256
    from headsplat.evaluate.cases import file_hash

    file_hash.cache_clear()
    (tmp_path / "a.png").write_bytes(b"other")
    assert shot_hash(tmp_path, first.file, 0) != first.sha256


def test_painted_people_are_repeatable_and_differ() -> None:
    camera = Camera.orbit(0.5, distance=1.3, focal=200, width=64, height=48)
    person = truth.random_person(3)
    drawing = truth.draw(person, {"jawOpen": 0.6}, camera)
    again = truth.draw(truth.random_person(3), {"jawOpen": 0.6}, camera)
    np.testing.assert_array_equal(drawing.image, again.image)
    assert np.abs(drawing.image - truth.draw(truth.random_person(4), {}, camera).image).max() > 0.1
    assert drawing.image.shape == (48, 64, 3) and 0.1 < drawing.alpha.mean() < 0.9


def test_what_another_view_sees() -> None:
    person = truth.random_person(0)
    front, left, back = (
        Camera.orbit(yaw, distance=1.3, focal=220, width=64, height=64) for yaw in np.radians([0, 60, 180])
    )
    drawings = [truth.draw(person, {}, camera) for camera in (front, left, back)]

    def share(k: int) -> float:
        seen = truth.seen_from(drawings[k], drawings[0], front)
        assert seen[drawings[k].alpha == 0].max() == 0
        return float(seen.sum() / drawings[k].alpha.sum())

    assert share(0) > 0.98
    assert 0.3 < share(1) < 0.85
    assert share(2) < 0.15


def test_a_set_of_views_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "YAWS", (90,))
    monkeypatch.setattr(truth, "EXPRESSIONS", {"jaw": {"jawOpen": 0.7}})
    (folder,) = truth.write_truth(tmp_path, people=1, size=40)
    views = read_views(folder / "views.json")
    assert [Path(v.picture).stem for v in views.views] == ["yaw_000", "yaw_p090", "jaw_000", "jaw_030"]
    for view in views.views:
        assert (folder / view.picture).is_file() and (folder / view.matte).is_file()
        assert bool(view.seen) == (not view.expression)
    # The face points are in front of the source's camera, within its picture.
    pixels = views.views[0].camera.project(np.array(views.points))
    assert (pixels[:, :2] > 0).all() and (pixels[:, :2] < 40).all() and (pixels[:, 2] > 1).all()


def test_the_tracked_head_is_brought_into_the_true_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mediapipe")
    from headsplat.evaluate.predict import head_points
    from headsplat.evaluate.protocols import build
    from headsplat.evaluate.stage import set_up

    monkeypatch.setattr(truth, "YAWS", (30, 180))
    monkeypatch.setattr(truth, "EXPRESSIONS", {"jaw": {"jawOpen": 0.7}})
    truth.write_truth(tmp_path, people=1, seed=7, size=360)
    (case,) = build("novel", tmp_path).cases
    stage = set_up(case, tmp_path, tmp_path / "kept")
    (source,) = stage.sources
    targets = {target.label: target for target in stage.targets}
    assert targets.keys() == {"yaw_p030", "yaw_p180", "jaw_000", "jaw_030"}
    assert targets["yaw_p180"].goal.points is None and targets["yaw_p180"].truth.reading is None
    assert (targets["yaw_p180"].truth.seen is not None) and targets["jaw_000"].truth.seen is None
    size = np.ptp(source.points[:, 1])
    for name, most in (("yaw_p030", 0.03), ("jaw_000", 0.03), ("jaw_030", 0.04)):
        goal = targets[name].goal
        assert goal.points is not None
        fitted = head_points(source.frame, goal.pose)
        away = np.linalg.norm(fitted - goal.points[:468], axis=1).mean() / size
        before = np.linalg.norm(source.points - goal.points, axis=1).mean() / size
        assert away < min(most, 0.6 * before), name
