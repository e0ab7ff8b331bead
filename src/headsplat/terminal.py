"""What the command line shows: progress on stderr, results on stdout, mistakes in one line."""

from __future__ import annotations

import faulthandler
import json
import math
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from headsplat.errors import HeadsplatError


def progress(items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
    """The items, with a bar and the time left while stderr is a terminal."""
    from rich.progress import track

    console = _console()
    return track(items, label, total, console=console, transient=True, disable=not console.is_terminal)


class Status:
    """A context that shows what is being done, how much of it is and the time left; call it to tell it."""

    def __init__(self, label: str) -> None:
        from rich.progress import Progress

        console = _console()
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(label, total=1.0)

    def __enter__(self) -> Status:
        self._bar.start()
        return self

    def __call__(self, step: str, fraction: float) -> None:
        """Show the name of the step and that this fraction, 0..1, is done."""
        self._bar.update(self._task, description=step, completed=fraction)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def finish(facts: dict[str, Any], text: str, as_json: bool) -> None:
    """Print what was done: for reading, or as one line of JSON.

    Raises:
        HeadsplatError: standard output takes no more, as on a full disk.
    """
    if sys.stdout is None or not (as_json or text):
        return
    facts = _plain(facts)
    line = json.dumps(facts, ensure_ascii=False) if as_json else text
    coding = sys.stdout.encoding or "utf-8"
    shown = line.encode(coding, "backslashreplace").decode(coding)
    if as_json and shown != line:  # names of files may hold what the terminal cannot show
        shown = json.dumps(facts)
    try:
        print(shown, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        mute()
        raise HeadsplatError(
            f"It is done, but the result cannot be printed ({error.strerror}); free some space."
        ) from error


def _plain(value: Any) -> Any:
    """The value with null for numbers that JSON does not know, such as the PSNR of equal pictures."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def mute() -> None:
    """Send the rest of standard output nowhere, so that Python can exit without complaint."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        pass


def hush() -> None:
    """Keep what compiled libraries write to standard error off the terminal; Python's own words stay.

    MediaPipe's models load in threads of their own and talk long after they were asked for; only a crash is
    let through. Does nothing where standard error is no file of this process, as in notebooks and tests.
    """
    try:
        if sys.stderr.fileno() != 2:
            return
        ours = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):
        return
    coding = sys.stderr.encoding
    sys.stderr = os.fdopen(ours, "w", buffering=1, encoding=coding, errors="backslashreplace")
    faulthandler.enable(sys.stderr)


def say(text: str) -> None:
    """Print a line on the way to the result."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """A number of things: 1 frame, 2 frames."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def fail(sentence: str) -> NoReturn:
    """Print what is wrong as one line on stderr and exit with status 2."""
    print(f"headsplat: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(2)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
