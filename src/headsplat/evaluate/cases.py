"""What is evaluated: cases made of pictures that are named, hashed and written down in a manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from headsplat.errors import HeadsplatError
from headsplat.files import writing

MANIFEST_VERSION = 1
_LISTS: dict[str, Literal["views", "recording"]] = {"views.json": "views", "headsplat.json": "recording"}


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        file: picture, video, the `views.json` of a multi-view set or the `headsplat.json` of a tracked
            recording; relative to the data folder.
        sha256: of that file's bytes, and of all that belongs to the view where the file lists views.
        frame: number of the frame of a video or of the listed view, from 0; None for a picture.
    """

    file: str
    sha256: str
    frame: int | None = None

    @property
    def kind(self) -> Literal["picture", "video", "views", "recording"]:
        """What the file is."""
        if self.frame is None:
            return "picture"
        return _LISTS.get(Path(self.file).name, "video")

    @property
    def clip(self) -> str:
        """Name of the clip, photo or set of views that it belongs to."""
        path = Path(self.file)
        return path.parent.name if path.name in _LISTS else path.stem

    @property
    def label(self) -> str:
        """A short name for tables."""
        return self.clip if self.frame is None else f"{self.clip}:{self.frame}"


@dataclass(frozen=True)
class Case:
    """One reconstruction and what it has to show.

    Attributes:
        name: unique within a manifest.
        protocol: stills, self, cross, novel, fewshot or video.
        sources: pictures of one person from which the avatar is made, the most important first.
        targets: what it is driven to; for `cross` another person.
        neighbours: whether the frames before and after a target are drawn too, to measure jitter.
    """

    name: str
    protocol: str
    sources: tuple[Shot, ...]
    targets: tuple[Shot, ...]
    neighbours: bool = False


@dataclass(frozen=True)
class Manifest:
    """All cases of a run: with the data folder, enough to repeat it.

    Attributes:
        protocol: as in the cases.
        cases: in the order of the tables.
        skipped: name to reason, for data that was found and left out.
    """

    protocol: str
    cases: tuple[Case, ...]
    skipped: dict[str, str]

    @property
    def hash(self) -> str:
        """SHA-256 of all it says: two runs of one manifest judge the same pictures in the same way."""
        return content_key(MANIFEST_VERSION, asdict(self))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        with writing(path) as temporary:
            temporary.write_text(json.dumps({"version": MANIFEST_VERSION} | asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Manifest:
        """Read what `save` wrote.

        Raises:
            HeadsplatError: not such a file.
        """
        try:
            values = json.loads(path.read_text())
            if values["version"] != MANIFEST_VERSION:
                raise HeadsplatError(f"{path} has version {values['version']}; make the manifest anew.")
            cases = tuple(
                Case(
                    **case | {key: tuple(Shot(**s) for s in case[key]) for key in ("sources", "targets")},
                )
                for case in values["cases"]
            )
            return Manifest(values["protocol"], cases, values["skipped"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise HeadsplatError(f"{path} is no manifest of an evaluation; give one of a run.") from error

    def check_files(self, data: Path) -> None:
        """Compare every file with its hash.

        Raises:
            HeadsplatError: naming the first that is missing or differs.
        """
        for shot in {(s.file, s.frame): s for c in self.cases for s in c.sources + c.targets}.values():
            if shot_hash(data, shot.file, shot.frame) != shot.sha256:
                raise HeadsplatError(
                    f"{data / shot.file} is not the file of the manifest; its figures would not compare."
                )


def make_shot(data: Path, file: Path, frame: int | None = None) -> Shot:
    """The shot of a file within the data folder."""
    name = file.relative_to(data).as_posix()
    return Shot(name, shot_hash(data, name, frame), frame)


def shot_hash(data: Path, file: str, frame: int | None) -> str:
    """SHA-256 of a file, and for one that lists views also of all that belongs to the view."""
    path = data / file
    parts = [path]
    match Shot(file, "", frame).kind:
        case "views":
            from headsplat.evaluate.views import read_views

            assert frame is not None
            view = read_views(path).views[frame]
            parts += [path.parent / view.picture, path.parent / view.matte]
        case "recording":
            from headsplat.evaluate.recordings import files_of_view

            assert frame is not None
            parts += files_of_view(path.parent, frame)
        case _:
            return file_hash(path)
    return hashlib.sha256(" ".join(file_hash(p) for p in parts).encode()).hexdigest()


def content_key(*parts: Any) -> str:
    """SHA-256 of JSON-serialisable parts, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex; read once per process.

    Raises:
        HeadsplatError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path}; check the data folder.") from error
