"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headsplat.errors import HeadsplatError
from headsplat.files import expect_writable, writing


def test_the_file_appears_at_the_end_with_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with writing(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    (tmp_path / "b.txt").touch()
    assert target.stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_permissions_need_no_change_of_the_whole_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(_: int) -> int:
        raise AssertionError("other threads would make files that everybody may write")

    monkeypatch.setattr(os, "umask", umask)
    with writing(tmp_path / "a.txt") as temporary:
        temporary.write_text("done")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), writing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("place", ["file.txt/a.png", "file.txt/sub/a.png", ".", "/proc/a.png"])
def test_impossible_places_are_known_before_work_is_done_for_them(tmp_path: Path, place: str) -> None:
    (tmp_path / "file.txt").touch()
    if place.startswith("/proc") and os.access("/proc", os.W_OK):
        pytest.skip("the administrator may write everywhere, it seems")
    with pytest.raises(HeadsplatError, match=r"choose another place|name of a file"):
        expect_writable(tmp_path / place)
    expect_writable(tmp_path / "new" / "folder" / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("place", ["file.txt/a.png", ".", "/dev/null", "/proc/a.png"])
def test_impossible_places_are_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file.txt").touch()
    with (
        pytest.raises(HeadsplatError, match=r"choose another place|name of a file"),
        writing(tmp_path / place),
    ):
        pass
    assert Path("/dev/null").is_char_device()
