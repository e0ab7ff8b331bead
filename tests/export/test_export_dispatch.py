"""One verb for all formats: the suffix decides, and options that do not fit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.errors import HeadsplatError
from headsplat.export import export, export_frames
from headsplat.motion import resample
from headsplat.takes import take

MAGIC = {".ply": b"ply\nformat", ".spz": b"\x1f\x8b", ".glb": b"glTF\x02", ".zip": b"PK\x03\x04"}


@pytest.mark.parametrize("suffix", [".ply", ".spz", ".splat", ".glb", ".zip", ".PLY"])
def test_the_suffix_picks_the_format(suffix: str, avatar: Avatar, tmp_path: Path) -> None:
    export(avatar, tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    assert data.startswith(MAGIC.get(suffix.lower(), b""))
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.fbx", {}, "end its name in"),
        ("avatar", {}, "end its name in"),
        ("a.spz", {"axes": "y-down"}, "fixed axes"),
        ("a.zip", {"expression": {"jawOpen": 1.0}}, "carries every pose"),
        ("a.ply", {"expression": {"jawOpenn": 1.0}}, "no expression named"),
        ("a.ply", {"rotations": {"elbow": (0, 0, 1)}}, "no joint named"),
        ("a.glb", {"glb": "mesh"}, "does not carry the free head"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, options: dict, message: str, avatar: Avatar, tmp_path: Path
) -> None:
    with pytest.raises(HeadsplatError, match=message):
        export(avatar, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_an_expression_changes_the_still(avatar: Avatar, tmp_path: Path) -> None:
    export(avatar, tmp_path / "neutral.ply")
    export(avatar, tmp_path / "open.ply", expression={"jawOpen": 1.0})
    neutral, opened = ((tmp_path / f"{name}.ply").read_bytes() for name in ("neutral", "open"))
    assert len(neutral) == len(opened)
    assert neutral != opened


def test_a_motion_becomes_one_still_per_frame(avatar: Avatar, tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    motion = resample(take("hello"), 2.0)
    paths = export_frames(avatar, tmp_path / "f" / "%03d.ply", motion)
    assert [path.name for path in paths] == [f"{i:03}.ply" for i in range(len(motion))]
    for i in (0, len(motion) // 2):
        np.testing.assert_array_equal(
            gsply.plyread(str(paths[i])).means, avatar.animate(**motion.pose(i)).means
        )


@pytest.mark.parametrize("pattern", ["a.ply", "%d.html", "%d%d.ply", "%"])
def test_patterns_without_a_number_are_refused(pattern: str, avatar: Avatar, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="does not number"):
        export_frames(avatar, tmp_path / pattern, take("hello"))
    assert not list(tmp_path.iterdir())


def test_a_sequence_appears_complete_or_not_at_all(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import headsplat.export as package

    whole, written = package.export, []

    def stopped(a: Avatar, path: Path, **pose: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        whole(a, path, **pose)
        written.append(path)

    monkeypatch.setattr(package, "export", stopped)
    with pytest.raises(KeyboardInterrupt):
        package.export_frames(avatar, tmp_path / "%03d.ply", take("hello"))
    assert len(written) == 3 and not list(tmp_path.iterdir())
