"""What a figure depends on besides its data: the code that can run for it, that code's assets, libraries."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_ASSETS = (".so", ".pyd", ".npz", ".csv", ".safetensors", ".onnx")
_LIBRARIES = ("numpy", "scipy", "mediapipe", "torch")


@cache
def code_hash(*modules: str, method: str | None = None) -> str:
    """SHA-256 of all code of this package that some of its modules can reach, by import statements anywhere.

    Figures of other code are then not taken from the cache, and a change to the browser's player or to
    another method does not throw them away.

    Args:
        modules: full names, such as `headsplat.track.photo`.
        method: the only method whose code counts; None = all that are reached.
    """
    from headsplat.evaluate.cases import file_hash

    files = reached(*modules, method=method)
    for folder in {file.parent for file in files} - {_PACKAGE}:
        files |= {p for p in folder.rglob("*") if p.suffix in _ASSETS}
    lines = [f"{p.relative_to(_PACKAGE).as_posix()} {file_hash(p)}" for p in sorted(files)]
    lines += [f"{name} {_version(name)}" for name in _LIBRARIES]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reached(*modules: str, method: str | None = None) -> set[Path]:
    """The files of some modules, of their packages, and of all modules of this package they import.

    Args:
        modules: full names.
        method: do not follow imports of other methods than this one; None = follow all.
    """
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if method is not None and name.split(".")[1:2] == ["methods"] and name.split(".")[2:3] != [method]:
            continue
        file = _file_of(name)
        if file is not None and file not in found:
            found.add(file)
            waiting += [name.rpartition(".")[0], *_imports(file)]
    return found


def _file_of(name: str) -> Path | None:
    """The file of a module of this package; None for other names and for the root, which only lists names."""
    root, *parts = name.split(".")
    if root != _PACKAGE.name or not parts:
        return None
    path = _PACKAGE.joinpath(*parts)
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    """Names that a module imports, at its top or in its functions; names in a module come with the module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"
