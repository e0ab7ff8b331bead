"""The protocols of docs/benchmark.md: which pictures methods see, and what they are then driven to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TypeVar

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.evaluate.cases import Case, Manifest, Shot, make_shot
from headsplat.evaluate.recordings import parts, read_recording
from headsplat.evaluate.views import VIEWS_FILE, read_views

T = TypeVar("T")

INDEX = "headsplat.json"
"""What makes a folder a tracked recording."""
FRAMES = 10
"""Targets per clip."""
SOURCES = 8
"""Pictures of a clip that `video` and the longest `fewshot` case may look at."""
HELD_OUT = 0.2
"""Share at the end of a clip that `video` is judged on."""
_SKIP_END = 3
"""Last frames of a video that are never used: files count them differently."""
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


def build(protocol: str, data: Path, *, limit: int = 0, frames: int = FRAMES) -> Manifest:
    """Find the cases in a folder.

    Args:
        protocol: a key of `PROTOCOLS`.
        data: the folder; docs/benchmark.md says what each protocol finds in it.
        limit: use at most so many people or clips, evenly spread; 0 for all.
        frames: targets per clip.

    Raises:
        HeadsplatError: no such folder, or nothing in it.
    """
    if not data.is_dir():
        raise HeadsplatError(f"There is no folder {data}; give one with --data.")
    if limit < 0 or frames < 1:
        raise HeadsplatError("Give a limit of 0 (all) or more, and at least one frame per clip.")
    skipped: dict[str, str] = {}
    cases = PROTOCOLS[protocol](data, limit, frames, skipped)
    if not cases:
        why = "".join(f" ({name}: {reason})" for name, reason in list(skipped.items())[:1])
        raise HeadsplatError(f"{data} holds nothing for `{protocol}`{why}; see docs/benchmark.md.")
    return Manifest(protocol, tuple(cases), skipped)


def stills(data: Path, limit: int, frames: int, skipped: dict[str, str]) -> list[Case]:
    """Every photo of a person to every other one; files are named PERSON_LABEL.jpg."""
    people: dict[str, list[Path]] = {}
    for path in _files(data, _PICTURES):
        people.setdefault(path.stem.rpartition("_")[0], []).append(path)
    for name in [name for name, photos in people.items() if len(photos) < 2 or not name]:
        skipped[name or people[name][0].name] = "no second photo PERSON_LABEL of the same person"
        del people[name]
    cases = []
    for name in spread(sorted(people), limit):
        for source, target in permutations(people[name], 2):
            labels = [p.stem.rpartition("_")[2] for p in (source, target)]
            title = f"{name} {labels[0]} to {labels[1]}"
            cases.append(Case(title, "stills", (make_shot(data, source),), (make_shot(data, target),)))
    return cases


def self_reenactment(data: Path, limit: int, frames: int, skipped: dict[str, str]) -> list[Case]:
    """The first frame of a clip to frames of the rest."""
    cases = []
    for clip in spread(_clips(data, skipped, least=4), limit):
        targets = [clip.shot(i) for i in middles(1, clip.count, frames)]
        cases.append(Case(clip.name, "self", (clip.shot(0),), tuple(targets), clip.in_time))
    return cases


def cross_reenactment(data: Path, limit: int, frames: int, skipped: dict[str, str]) -> list[Case]:
    """The first frame of each clip, driven by frames of each other clip."""
    cases = []
    for source, driver in permutations(spread(_clips(data, skipped, least=4), limit), 2):
        targets = tuple(driver.shot(i) for i in middles(1, driver.count, frames))
        name = f"{source.name} by {driver.name}"
        cases.append(Case(name, "cross", (source.shot(0),), targets, driver.in_time))
    return cases


def novel_view(data: Path, limit: int, frames: int, skipped: dict[str, str]) -> list[Case]:
    """The source view of a multi-view set to all its other views."""
    cases = []
    for path in spread(sorted(data.rglob(VIEWS_FILE)), limit):
        views = read_views(path)
        others = [i for i in range(len(views.views)) if i != views.source]
        name = path.parent.relative_to(data).as_posix()
        shots = tuple(make_shot(data, path, i) for i in others)
        cases.append(Case(name, "novel", (make_shot(data, path, views.source),), shots))
    return cases


def few_shot(data: Path, limit: int, frames: int, skipped: dict[str, str]) -> list[Case]:
    """One, two, four and eight frames of the first half of a clip to frames of its second half."""
    cases = []
    for clip in spread(_clips(data, skipped, least=2 * SOURCES + 2), limit):
        half = clip.count // 2
        targets = tuple(clip.shot(i) for i in middles(half, clip.count, frames))
        # Nested: each set holds the smaller ones, and all begin with the first frame.
        order = [even(0, half - 1, SOURCES)[i] for i in (0, 7, 3, 5, 1, 2, 4, 6)]
        for count in (1, 2, 4, 8):
            sources = tuple(clip.shot(i) for i in order[:count])
            cases.append(Case(f"{clip.name} from {count}", "fewshot", sources, targets))
    return cases


def monocular_video(data: Path, limit: int, frames: int, skipped: dict[str, str]) -> list[Case]:
    """Frames of the first four fifths of a clip to frames of the last; a recording divides itself."""
    cases = []
    for clip in spread(_clips(data, skipped, least=2 * SOURCES + 2), limit):
        learn, judge = clip.parts()
        sources = tuple(clip.shot(learn[i]) for i in even(0, len(learn) - 1, SOURCES))
        targets = tuple(clip.shot(judge[i]) for i in middles(0, len(judge), frames))
        cases.append(Case(clip.name, "video", sources, targets, clip.in_time))
    return cases


PROTOCOLS: dict[str, Callable[[Path, int, int, dict[str, str]], list[Case]]] = {
    "stills": stills,
    "self": self_reenactment,
    "cross": cross_reenactment,
    "novel": novel_view,
    "fewshot": few_shot,
    "video": monocular_video,
}


def spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` items, evenly spread over all; 0 = all."""
    if not limit or len(items) <= limit:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).astype(int)]


def even(first: int, last: int, count: int) -> list[int]:
    """At most `count` different whole numbers, evenly spread from `first` to `last` (both included)."""
    return sorted({round(x) for x in np.linspace(first, last, count)})


def middles(first: int, end: int, count: int) -> list[int]:
    """The middle numbers of `count` equal parts of `first` to `end` (left out); fewer if there are fewer."""
    parts = min(count, end - first)
    return [first + int((2 * i + 1) * (end - first) / (2 * parts)) for i in range(parts)]


@dataclass(frozen=True)
class _Clip:
    """A video, a folder of numbered pictures, or a tracked recording.

    Attributes:
        data: the folder that shots are relative to.
        path: the video, or the list of the views of a recording, or the folder.
        name: of the case.
        count: frames that may be used.
        pictures: of a folder; None for the others.
    """

    data: Path
    path: Path
    name: str
    count: int
    pictures: tuple[Path, ...] | None = None

    @property
    def in_time(self) -> bool:
        """Whether frames before and after are known to follow each other."""
        return self.pictures is None

    def shot(self, number: int) -> Shot:
        if self.pictures is not None:
            return make_shot(self.data, self.pictures[number])
        return make_shot(self.data, self.path, number)

    def parts(self) -> tuple[list[int], list[int]]:
        """Numbers of the frames to learn from and of those to judge by."""
        if self.path.name == INDEX:
            return parts(self.path.parent, HELD_OUT)
        cut = round(self.count * (1 - HELD_OUT))
        return list(range(cut)), list(range(cut, self.count))


def _clips(data: Path, skipped: dict[str, str], least: int) -> list[_Clip]:
    """Videos, tracked recordings and folders of pictures with enough frames; sorted by name.

    The folder itself may be the one recording.
    """
    found = []
    for path in [data] if (data / INDEX).is_file() else sorted(data.iterdir()):
        try:
            clip = None if path.name.startswith(".") else _clip(data, path)
        except HeadsplatError as error:
            skipped[path.name] = str(error)
            continue
        if clip is not None and clip.count < least:
            skipped[path.name] = f"fewer than {least + _SKIP_END} frames"
        elif clip is not None:
            found.append(clip)
    return found


def _clip(data: Path, path: Path) -> _Clip | None:
    """The clip that a path is, if any."""
    from headsplat.data.video import is_video, read_video

    name = path.relative_to(data).with_suffix("").as_posix() if path != data else data.resolve().name
    if (path / INDEX).is_file():
        return _Clip(data, path / INDEX, name, len(read_recording(path)))
    if path.is_dir():
        pictures = tuple(_files(path, _PICTURES))
        return _Clip(data, path, name, len(pictures), pictures)
    if is_video(path):
        video = read_video(path)
        return _Clip(data, path, name, (video.frames or sum(1 for _ in video)) - _SKIP_END)
    return None


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
