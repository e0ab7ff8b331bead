"""Understand what people type at first: no verb, another one's name, a file alone, or a familiar option."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from headsplat.cli.app import VERBS
from headsplat.errors import HeadsplatError


def understand(words: Sequence[str]) -> list[str]:
    """The words as the application wants them; `--version` is answered at once.

    Raises:
        HeadsplatError: the first word is no verb; the sentence says which one may have been meant.
    """
    if not words or words[0] == "help":
        return [*words[1:2], "--help"]
    if words[0] in ("--version", "-V"):
        from headsplat import __version__

        print(f"headsplat {__version__}")
        sys.exit(0)
    if not words[0].startswith("-") and words[0] not in VERBS:
        raise HeadsplatError(f"There is no verb {words[0]!r}; {_meant(words[0])}")
    # The other verbs name their output with -o; whoever does so here, too, is right.
    if words[0] == "export" and words[-2:-1] and words[-2] in ("-o", "--output"):
        return [*words[:-2], words[-1]]
    return list(words)


def _meant(word: str) -> str:
    """Half a sentence that leads on from a word that is no verb."""
    if Path(word).is_file():
        if Path(word).suffix.lower() == ".avatar":
            return f"to see that avatar: headsplat view {word}."
        return f"to make an avatar of that: headsplat create {word} -o {Path(word).stem}.avatar."
    close = difflib.get_close_matches(word.lower(), VERBS, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose one of {', '.join(VERBS)}."
