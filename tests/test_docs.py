"""The pages: every link between files of the project leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar

REPO = Path(__file__).resolve().parent.parent
PAGES = sorted([*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("src/headsplat/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_code_runs(tmp_path: Path, avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, but with an avatar that is there already instead of one from a photo."""
    (code,) = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
    assert 'reconstruct("me.jpg")' in code
    save_avatar(avatar, tmp_path / "given.avatar")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace('reconstruct("me.jpg")', 'load_avatar("given.avatar")'), names)
    assert (tmp_path / "me.mp4").stat().st_size > 1000
    assert len(load_avatar("me.avatar")) == len(names["gaussians"])
    assert not np.array_equal(names["gaussians"].means, avatar.gaussians.means)


def test_the_readme_shows_a_picture_first() -> None:
    picture = re.search(r"!\[[^\]]+\]\(([^)]+)\)", (REPO / "README.md").read_text())
    assert picture is not None
    assert 20_000 < (REPO / picture[1]).stat().st_size < 500_000
