"""The order in which parts of the house may know each other, and what importing it must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from headsplat.avatar import Avatar
from headsplat.avatar_file import save_avatar

SOURCE = Path(__file__).resolve().parent.parent / "src" / "headsplat"

# Each part may import only parts to its left. A new part has to be given its place here.
ORDER = (
    "errors files tensor_file pickled camera gaussians head losses motion takes raster nets clip "
    "networks avatar avatar_rounding avatar_file playback bake contact_sheet data track drive shoot methods "
    "evaluate train reconstruct export web doctor terminal cli __main__"
).split()

HEAVY = {
    "torch", "mediapipe", "cv2", "scipy", "skimage", "pymatting", "matplotlib", "jax", "numba", "gsplat",
}  # fmt: skip


def parts_imported(path: Path) -> set[str]:
    """The headsplat parts, and full method paths, named by the import statements of one module."""
    package = ["headsplat", *path.relative_to(SOURCE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("headsplat.")}


MODULES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_import_order(path: Path) -> None:
    own = path.relative_to(SOURCE).with_suffix("").parts
    assert own[0] in ORDER, f"{own[0]} has no place in ORDER"
    for name in parts_imported(path):
        parts = name.split(".")[1:]
        if parts[0] not in ORDER:
            continue  # a public name of headsplat itself, such as `from headsplat import Camera`
        assert ORDER.index(parts[0]) <= ORDER.index(own[0]), (
            f"{path} imports {name}, which stands to its right"
        )
        if own[0] == parts[0] == "methods" and len(own) > 2 and len(parts) > 1:
            assert parts[1] == own[1], f"{path} imports another method: {name}"


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_headsplat_is_light() -> None:
    assert not loaded_after("import headsplat") & (HEAVY | {"numpy", "PIL", "av"})


@pytest.mark.parametrize("first", ["", "import headsplat.reconstruct", "from headsplat.takes import TAKES"])
def test_public_names_are_what_they_say(first: str) -> None:
    code = f"""
{first}
import headsplat
from headsplat import reconstruct, take
assert callable(reconstruct) and callable(headsplat.reconstruct) and headsplat.take is take
for name in headsplat.__all__:
    if name != "rasterize":
        assert getattr(headsplat, name).__name__ == name
"""
    assert "headsplat" in loaded_after(code)


def test_nouns_are_light() -> None:
    assert not loaded_after("from headsplat import Avatar, Camera, Gaussians, Motion") & HEAVY


def test_playing_an_avatar_is_light(tmp_path: Path, avatar: Avatar) -> None:
    save_avatar(avatar, tmp_path / "a.avatar")
    code = f"""
import numpy as np
from headsplat.avatar_file import load_avatar
from headsplat.playback import play
from headsplat.takes import take
avatar = load_avatar({str(tmp_path / "a.avatar")!r})
assert next(play(avatar, take("hello"), size=32)).shape == (32, 32, 3)
"""
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize("verb", ["--help", "info", "render", "animate", "export"])
def test_showing_verbs_are_light(tmp_path: Path, avatar: Avatar, verb: str) -> None:
    save_avatar(avatar, tmp_path / "a.avatar")
    words = {
        "--help": ["--help"],
        "info": ["info", "a.avatar"],
        "render": ["render", "a.avatar", "-o", "a.png", "--size", "32"],
        "animate": ["animate", "a.avatar", "-o", "a.mp4", "--size", "32", "--fps", "2"],
        "export": ["export", "a.avatar", "a.ply"],
    }[verb]
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from headsplat.cli import main
try:
    main({words!r})
except SystemExit as end:
    assert end.code == 0, end.code
print()
"""
    assert not loaded_after(code) & HEAVY


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        doc = ast.get_docstring(ast.parse(path.read_text()))
        assert doc, f"{path} has no docstring"
        assert doc.splitlines()[0].endswith("."), f"{path}: the first line of the docstring is not a sentence"
