"""What the command line shows: progress on stderr, results on stdout, mistakes in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, NoReturn


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
    """Print what was done: for reading, or as one line of JSON."""
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
    elif text:
        print(text)


def say(text: str) -> None:
    """Print a line on the way to the result."""
    print(text, file=sys.stderr, flush=True)


def fail(sentence: str) -> NoReturn:
    """Print what is wrong as one line on stderr and exit with status 2."""
    print(f"headsplat: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(2)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
