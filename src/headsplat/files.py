"""Write files so that nobody ever finds half of one: to a temporary name first, then rename."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headsplat.errors import HeadsplatError


def expect_writable(path: str | os.PathLike[str]) -> None:
    """Refuse at once a place that `writing` would refuse after long work; nothing is made there.

    Raises:
        HeadsplatError: it is a folder, or the folder it is to lie in cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise HeadsplatError(f"{target} is a folder; give the name of a file to write.")
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise HeadsplatError(
            f"Cannot write {target} ({folder} takes no files); choose another place for the output."
        )


def check_pattern(path: str | os.PathLike[str]) -> Path:
    """The path, if the % in its name (there need be none) numbers files.

    Raises:
        HeadsplatError: it does not.
    """
    path = Path(path)
    if "%" in path.name and not re.fullmatch(r"[^%]*%0?\d{0,2}d[^%]*", path.name):
        raise HeadsplatError(f"{path.name!r} does not number its files; write it like %05d{path.suffix}.")
    return path


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, delete it on any failure.

    The temporary name keeps the suffix, so that writers which choose a format by suffix work.

    Raises:
        HeadsplatError: the folder cannot be written, or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise HeadsplatError(f"{target} is a folder; give the name of a file to write.")
        if target.exists() and not target.is_file():
            # Renaming over /dev/null would replace the device.
            raise HeadsplatError(f"{target} is not an ordinary file; give the name of a file to write.")
        temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
        # Made as an ordinary file, so that it has the permissions of one; never on top of another.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise HeadsplatError(
            f"Cannot write {target} ({error.strerror}); choose another place for the output."
        ) from error
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise HeadsplatError(
            f"Cannot write {target} ({error.strerror}); free some space or choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
