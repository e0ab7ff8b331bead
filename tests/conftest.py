"""Fixtures used all over: a synthetic avatar, and the folder of real photos and clips where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headsplat.avatar import Avatar
from synthetic import make_avatar

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and clips, which are not part of the project."""
    folder = Path(os.environ.get("HEADSPLAT_SHARED", REPO.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real photos here: {folder} is missing (set HEADSPLAT_SHARED to where they are)")
    return folder


@pytest.fixture(scope="session")
def avatar() -> Avatar:
    """A few hundred Gaussians on an egg, with six joints and the 52 expressions."""
    return make_avatar(400, seed=1)
