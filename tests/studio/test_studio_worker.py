"""The studio's worker: all pictures of a request go into one avatar, and what was left out is told."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from headsplat.avatar import Avatar
from headsplat.web.studio import worker


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, avatar: Avatar) -> dict[str, Any]:
    """What the reconstruction was asked for; it answers with `info` and the synthetic avatar."""
    seen: dict[str, Any] = {"info": {}}

    def reconstruct(photo: Any, **options: Any) -> Avatar:
        seen.update(photo=photo, options=options)
        options["progress"](0.5)
        return replace(avatar, info=seen["info"])

    def track_clip(clip: str, count: int, **options: Any) -> list[str]:
        options["progress"](0.5)
        return [f"{clip} frame {i}" for i in range(count)]

    monkeypatch.setattr(import_module("headsplat.reconstruct"), "reconstruct", reconstruct)
    monkeypatch.setattr("headsplat.track.photos.track_clip", track_clip)
    return seen


def request(tmp_path: Path, photos: list[str], clips: list[str]) -> dict[str, Any]:
    return {
        "photos": photos,
        "clips": clips,
        "gaussians": "20k",
        "refine": 7,
        "face": None,
        "out": str(tmp_path / "a.avatar"),
        "poster": str(tmp_path / "poster.jpg"),
    }


def test_one_photo_is_used_as_it_is(asked: dict[str, Any], tmp_path: Path) -> None:
    reports: list[tuple[str, float]] = []
    made = worker.create(request(tmp_path, ["me"], []), lambda stage, done: reports.append((stage, done)))
    assert asked["photo"] == "me" and made["note"] == "" and made["gaussians"] == 400
    assert asked["options"]["refine"] == 7 and (tmp_path / "poster.jpg").exists()
    assert [done for _, done in reports] == sorted(done for _, done in reports)


def test_photos_and_clips_are_fused(asked: dict[str, Any], tmp_path: Path) -> None:
    asked["info"] = {"photos": 8, "left_out": []}
    reports: list[float] = []
    made = worker.create(request(tmp_path, ["a", "b"], ["c"]), lambda _, done: reports.append(done))
    assert asked["photo"][:3] == ["a", "b", "c frame 0"] and len(asked["photo"]) == 8
    assert made["note"] == "Made from 8 pictures together."
    assert asked["options"]["tolerant"] and reports == sorted(reports)


@pytest.mark.parametrize(
    ("info", "note"),
    [
        ({"left_out": ["x1.png: There is no face."]}, "Another could not be used: There is no face."),
        ({"photos": 2, "left_out": ["a: No.", "b: Yes."]}, "2 more could not be used: No."),
    ],
)
def test_what_was_left_out_is_told(
    asked: dict[str, Any], tmp_path: Path, info: dict[str, Any], note: str
) -> None:
    asked["info"] = info
    made = worker.create(request(tmp_path, ["a", "b"], []), lambda *_: None)
    assert made["note"].endswith(note) and made["note"].startswith("Made from ")
