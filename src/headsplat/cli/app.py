"""The command-line application that the verbs join, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import arg

from headsplat.errors import HeadsplatError
from headsplat.files import expect_writable
from headsplat.terminal import Status

if TYPE_CHECKING:
    from headsplat.motion import Motion

Output = Annotated[Path, arg(aliases=("-o",))]

app = tyro.extras.SubcommandApp()
VERBS: list[str] = []
"""The names of all verbs, in the order in which `headsplat --help` lists them."""


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a verb of the command line; its signature is its options."""
    VERBS.append(function.__name__)
    return app.command(function)


def expect_suffix(path: Path, suffix: str) -> None:
    """Refuse an output whose name does not end in `suffix`, or that cannot be written."""
    if path.suffix.lower() != suffix:
        raise HeadsplatError(f"{path} should end in {suffix}; rename the output.")
    expect_writable(path)


def read_motion(source: str) -> Motion:
    """The motion that `--motion` names, with a bar while it is read."""
    from headsplat import drive

    with Status("Reading the motion") as status:
        return drive.read_motion(source, status)
