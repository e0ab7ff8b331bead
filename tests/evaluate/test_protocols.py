"""Protocols find the right pictures; manifests survive the file and notice changes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from headsplat.data.image import write_image
from headsplat.data.video import VideoWriter
from headsplat.errors import HeadsplatError
from headsplat.evaluate.cases import Manifest, content_key, file_hash
from headsplat.evaluate.predict import Method
from headsplat.evaluate.protocols import build, even, middles, spread


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in (
        "ann_neutral.png",
        "ann_smiling.png",
        "bob_neutral.png",
        "bob_smiling.png",
        "cid_neutral.png",
    ):
        write_image(tmp_path / name, np.full((4, 5, 3), len(name) / 20))
    return tmp_path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name, count in (("a.mp4", 40), ("b.mp4", 30), ("short.mp4", 3)):
        with VideoWriter(tmp_path / name, fps=25) as video:
            for t in range(count):
                video.write(np.full((32, 32, 3), t / 50, np.float32))
    (tmp_path / "pictures").mkdir()
    for t in range(24):
        write_image(tmp_path / "pictures" / f"{t:04d}.png", np.full((8, 8, 3), t / 30))
    (tmp_path / "notes.txt").write_text("no clip")
    return tmp_path


def test_stills_go_both_ways(photos: Path) -> None:
    manifest = build("stills", photos)
    assert [case.name for case in manifest.cases] == [
        "ann neutral to smiling",
        "ann smiling to neutral",
        "bob neutral to smiling",
        "bob smiling to neutral",
    ]
    assert manifest.skipped.keys() == {"cid"}
    first = manifest.cases[0]
    assert [s.file for s in first.sources + first.targets] == ["ann_neutral.png", "ann_smiling.png"]


def test_self_and_cross(clips: Path) -> None:
    own = build("self", clips, frames=5)
    assert [case.name for case in own.cases] == ["a", "b", "pictures"]
    assert "short.mp4" in own.skipped
    a = own.cases[0]
    assert a.sources[0].frame == 0 and len(a.targets) == 5 and a.neighbours
    numbers = [shot.frame for shot in a.targets]
    assert numbers == sorted(numbers) and min(numbers) > 1 and max(numbers) < 37
    assert own.cases[2].sources[0].file == "pictures/0000.png" and not own.cases[2].neighbours
    cross = build("cross", clips, frames=2)
    assert len(cross.cases) == 6
    assert all(c.sources[0].file != c.targets[0].file for c in cross.cases)
    assert build("cross", clips, limit=2).cases[0].name == "a by pictures"


def test_few_shot_sets_are_nested_and_apart_from_the_targets(clips: Path) -> None:
    cases = [c for c in build("fewshot", clips, frames=4).cases if c.name.startswith("a ")]
    assert [len(c.sources) for c in cases] == [1, 2, 4, 8]
    for small, large in pairwise(cases):
        assert large.sources[: len(small.sources)] == small.sources and large.targets == small.targets
    last = max(s.frame or 0 for s in cases[-1].sources)
    assert last < min(s.frame or 0 for s in cases[-1].targets)


def test_video_holds_out_the_end(clips: Path) -> None:
    case = build("video", clips, frames=3).cases[0]
    assert len(case.sources) == 8
    assert max(s.frame or 0 for s in case.sources) < 30 <= min(s.frame or 0 for s in case.targets)


def test_manifests_survive_the_file(clips: Path, tmp_path: Path) -> None:
    manifest = build("self", clips)
    manifest.save(tmp_path / "m.json")
    assert Manifest.load(tmp_path / "m.json") == manifest
    manifest.check_files(clips)


def test_changed_data_is_noticed(photos: Path) -> None:
    manifest = build("stills", photos)
    write_image(photos / "bob_smiling.png", np.zeros((4, 5, 3)))
    file_hash.cache_clear()
    with pytest.raises(HeadsplatError, match="bob_smiling"):
        manifest.check_files(photos)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 99}'])
def test_damaged_manifests_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(HeadsplatError, match="manifest"):
        Manifest.load(tmp_path / "m.json")


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    for protocol in ("stills", "self", "cross", "novel", "fewshot", "video"):
        with pytest.raises(HeadsplatError, match=protocol):
            build(protocol, tmp_path)
    with pytest.raises(HeadsplatError, match="no folder"):
        build("self", tmp_path / "none")


def test_numbers() -> None:
    assert even(0, 9, 4) == [0, 3, 6, 9]
    assert middles(0, 100, 4) == [12, 37, 62, 87]
    assert middles(3, 5, 10) == [3, 4]
    assert spread(list("abcde"), 3) == ["a", "c", "e"] and spread([1, 2], 0) == [1, 2]


def test_methods_are_read() -> None:
    method = Method.parse("lift:refine=0,gaussians=20k")
    assert method.name == "lift" and dict(method.options) == {"refine": 0, "gaussians": "20k"}
    assert Method.parse(str(method)) == method
    assert str(Method.parse("copy")) == "copy"
    driven = Method.parse("lift:drive=picture,gaussians=5k")
    assert (driven.drive, dict(driven.making)) == ("picture", {"gaussians": "5k"})
    assert method.drive == "points"
    assert Method.parse("a:file=x/{clip}.avatar").file("file", "ann") == Path("x/ann.avatar")
    for wrong in (
        "lift:drive=mind",
        "copy:file=x",
        "lift:steps=3",
        "lift:refine=many",
        "copy:refine=0",
        "lift:refine",
    ):
        with pytest.raises(HeadsplatError):
            Method.parse(wrong)


def test_keys_depend_on_content_only() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
