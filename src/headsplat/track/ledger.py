"""The unfinished part of a recording on disk, in blocks of frames, so that a killed job goes on where it was.

Every stage works block after block and leaves one file per block, written under another name and renamed.
What a stage must remember between blocks goes into the file, and nothing else may matter for the next block:
then a job that was killed anywhere ends with the same bytes as one that was not.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.files import writing

BLOCK = 32
"""Frames per block: at most so many are done again after a kill."""
_FOLDER = ".tracking"
_UNFINISHED = re.compile(r"\.[\w-]+-\w{8}\.(png|npz|json)")
"""Temporary names of `headsplat.files.writing`, left behind by a kill."""


class Ledger:
    """Blocks of arrays by stage, in a hidden folder of the recording."""

    def __init__(self, root: Path, job: dict[str, Any]) -> None:
        """Open the ledger of a job, or start it.

        Args:
            root: folder of the recording.
            job: what is being done, JSON-serialisable; a ledger of another job is refused.

        Raises:
            HeadsplatError: the folder holds something else.
        """
        self.folder = root / _FOLDER
        said = json.dumps(job, sort_keys=True)
        try:
            before = (self.folder / "job.json").read_text() if self.folder.is_dir() else None
        except OSError:
            before = None  # killed before it had a name: nothing is lost
        if before is not None and before != said:
            raise HeadsplatError(
                f"{root} holds an unfinished recording of another video or with other options; "
                "delete it or choose another name."
            )
        if before is None:
            if root.is_dir() and any(p.name != _FOLDER for p in root.iterdir()):
                raise HeadsplatError(f"{root} is not empty; delete it or choose another name.")
            with writing(self.folder / "job.json") as temporary:
                temporary.write_text(said)
        for leftover in root.rglob(".*"):
            if _UNFINISHED.fullmatch(leftover.name):
                leftover.unlink()

    def save(self, stage: str, number: int, **arrays: Any) -> None:
        """Keep a block; once this returns, it is done for good."""
        with writing(self._path(stage, number)) as temporary:
            np.savez(temporary, **arrays)

    def load(self, stage: str, number: int) -> dict[str, np.ndarray] | None:
        """A block's arrays, or None if it is not done."""
        try:
            with np.load(self._path(stage, number), allow_pickle=False) as file:
                return dict(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise HeadsplatError(
                f"{self.folder} is damaged; delete the recording and start again."
            ) from error

    def blocks(self, stage: str) -> list[dict[str, np.ndarray]]:
        """All blocks of a stage that are done, in order."""
        found: list[dict[str, np.ndarray]] = []
        while (block := self.load(stage, len(found))) is not None:
            found.append(block)
        return found

    def close(self) -> None:
        """Throw the ledger away: the recording is finished."""
        forget(self.folder.parent)

    def _path(self, stage: str, number: int) -> Path:
        return self.folder / f"{stage}-{number:06d}.npz"


def forget(root: Path) -> None:
    """Throw away what an unfinished job left in a recording."""
    shutil.rmtree(root / _FOLDER, ignore_errors=True)


def in_blocks(frames: Iterable[Any], done: int) -> Iterator[tuple[int, Iterator[Any]]]:
    """Blocks of `BLOCK` items (the last may be shorter) with their numbers, without the first `done` ones.

    Items come one at a time and are not kept; use up each block before the next.
    """
    rest = islice(frames, done * BLOCK, None)
    for number, first in enumerate(rest, done):
        yield number, chain([first], islice(rest, BLOCK - 1))
