"""The examples run, in order, in an empty folder, and leave what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((REPO / "examples").glob("[0-9]*.py"))
LEAVES = {"01": "me.png", "02": "hello.mp4", "03": "driven.mp4", "04": "seen.png", "05": "me.ply", "06": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_runs(folder: Path, path: Path) -> None:
    if path.name[:2] != "01" and not (folder / "me.avatar").exists():
        pytest.skip("needs the avatar that 01_photo_to_avatar.py makes")
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = LEAVES[path.name[:2]]
    assert result is None or (folder / result).stat().st_size > 1000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 30


def test_the_readme_names_every_verb_and_nothing_else() -> None:
    from headsplat.cli import app

    text = (REPO / "README.md").read_text()
    spoken = {
        line.split("headsplat ")[1].split()[0] for line in text.splitlines() if "bin/headsplat " in line
    }
    verbs = set(app._subcommands)
    assert spoken <= verbs
    assert {"create", "animate", "render"} <= spoken
