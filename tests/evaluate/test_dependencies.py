"""What a figure depends on: all code that can run for it, and none that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from headsplat.evaluate import dependencies
from headsplat.evaluate.dependencies import code_hash, reached


def names(*modules: str, method: str | None = None) -> set[str]:
    root = Path(dependencies.__file__).parents[1]
    return {path.relative_to(root).as_posix() for path in reached(*modules, method=method)}


def test_imports_are_followed_into_functions_and_packages() -> None:
    found = names("headsplat.evaluate.trial")
    # track.photo imports the fit in a function; the judge needs the drawing kernel.
    assert {"track/__init__.py", "track/photo.py", "track/fit.py", "evaluate/judge.py", "avatar.py"} <= found
    assert not any(name.startswith(("web/", "cli/", "export/")) or "report" in name for name in found)


def test_other_methods_do_not_count() -> None:
    found = names("headsplat.reconstruct", method="lift")
    assert "reconstruct.py" in found and "methods/lift/model.py" in found
    assert not any(name.startswith("methods/lam") for name in found)
    assert any(name.startswith("methods/lam") for name in names("headsplat.reconstruct"))
    assert names("headsplat.evaluate.baselines", method="lift") == names("headsplat.evaluate.baselines")


def test_other_names_reach_nothing() -> None:
    assert names("numpy", "headsplat") == set()
    assert names("headsplat.methods.egg") == set()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own: a imports b in a function; c is alone; b's folder has an asset."""
    root = tmp_path / "headsplat"
    for name, text in {
        "a.py": "def f():\n    from headsplat.parts.b import g\n    return g()\n",
        "parts/__init__.py": "",
        "parts/b.py": "def g():\n    return 1\n",
        "parts/assets/table.csv": "1,2",
        "c.py": "X = 1\n",
        "__init__.py": "from headsplat.c import X\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(dependencies, "_PACKAGE", root)
    return root


def hash_now() -> str:
    from headsplat.evaluate.cases import file_hash

    file_hash.cache_clear()
    code_hash.cache_clear()
    return code_hash("headsplat.a")


@pytest.mark.parametrize("name", ["a.py", "parts/b.py", "parts/__init__.py", "parts/assets/table.csv"])
def test_what_counts(package: Path, name: str) -> None:
    before = hash_now()
    assert hash_now() == before
    with (package / name).open("a") as file:
        file.write("\n# changed")
    assert hash_now() != before


@pytest.mark.parametrize("name", ["c.py", "__init__.py", "parts/notes.txt"])
def test_what_does_not_count(package: Path, name: str) -> None:
    before = hash_now()
    with (package / name).open("a") as file:
        file.write("\n# changed")
    assert hash_now() == before


@pytest.fixture(autouse=True)
def forget() -> object:
    """Hashes are remembered per process; those of the made-up package must not stay."""
    yield
    code_hash.cache_clear()
