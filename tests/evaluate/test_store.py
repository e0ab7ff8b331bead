"""Tracked shots on disk: what comes back is what was kept, to the bit; damage and refusals are handled."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.data.image import write_image
from headsplat.data.video import VideoWriter
from headsplat.evaluate import store
from headsplat.evaluate.cases import Shot
from headsplat.evaluate.observe import Observed, observe
from headsplat.evaluate.store import observe_once
from headsplat.evaluate.truth import draw, random_person

pytest.importorskip("mediapipe")

SIZE = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of three frames of a painted head, and a picture of nobody."""
    folder = tmp_path_factory.mktemp("shots")
    with VideoWriter(folder / "a.mp4", fps=25) as video:
        for yaw in (0.0, 0.05, 0.1):
            camera = Camera.orbit(yaw, target=(0, 0.04, 0), focal=3.4 * SIZE, width=SIZE, height=SIZE)
            video.write(draw(random_person(5), {}, camera).image)
    write_image(folder / "empty.png", np.full((120, 120, 3), 0.4))
    return folder


SHOTS = (Shot("a.mp4", "1", 1), Shot("empty.png", "2"))


def equal(a: Frame | None, b: Frame | None) -> bool:
    if a is None or b is None:
        return a is b
    for field in fields(Frame):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Camera):
            same = equal_camera(x, y)
        else:
            same = type(x) is type(y) and np.array_equal(x, y) and np.asarray(x).dtype == np.asarray(y).dtype
        if not same:
            return False
    return True


def equal_camera(a: Camera, b: Camera) -> bool:
    sizes = (a.width, a.height) == (b.width, b.height)
    return sizes and np.array_equal(a.viewmat, b.viewmat) and np.array_equal(a.K, b.K)


def test_what_is_kept_comes_back_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = observe_once(data, SHOTS, tmp_path, neighbours=True)
    seen, refused = first
    assert isinstance(seen, Observed) and isinstance(refused, str) and "face" in refused
    assert seen.before is not None and seen.after is not None

    def never(data: Path, shots: list[Shot], *, neighbours: bool) -> list[Observed | str]:
        assert not shots, "tracked again"
        return []

    monkeypatch.setattr(store, "observe", never)
    again, why = observe_once(data, SHOTS, tmp_path, neighbours=True)
    assert why == refused and isinstance(again, Observed)
    for name in ("frame", "before", "after"):
        assert equal(getattr(again, name), getattr(seen, name)), name


def test_other_content_and_damage_are_tracked_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Shot] = []

    def note(data: Path, shots: list[Shot], *, neighbours: bool) -> list[Observed | str]:
        asked.extend(shots)
        return observe(data, shots, neighbours=neighbours)

    monkeypatch.setattr(store, "observe", note)
    empty = SHOTS[1]
    observe_once(data, [empty], tmp_path)
    observe_once(data, [empty], tmp_path)
    assert asked == [empty]
    observe_once(data, [Shot(empty.file, "other")], tmp_path)
    assert len(asked) == 2
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    observe_once(data, [empty], tmp_path)
    assert len(asked) == 3
