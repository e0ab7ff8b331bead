"""Join the player's ES modules into one script that runs from a `file://` page, and strip its comments.

Only the forms of import and export that our own modules use are understood: named imports from relative
paths, named exports in front of a declaration, and `export { a, b };`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

_IMPORT = re.compile(r'^import\s*(?:\{([^}]*)\}\s*from\s*)?"(\.[^"]+)";[ \t]*$', re.MULTILINE)
_DECLARATION = re.compile(
    r"^export\s+(?=(?:async\s+)?(?:const|let|function\*?|class)\s+([A-Za-z_$][\w$]*))", re.MULTILINE
)
_LIST = re.compile(r"^export\s*\{([^}]*)\};[ \t]*$", re.MULTILINE)
_TOKEN = re.compile(
    r"""
    (?P<comment>/\*.*?\*/|//[^\n]*)
  | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<template>`)
  | (?P<regex>(?<=[(,=:\[!&|?{};])\s*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/[a-z]*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def bundle_modules(entry: Path, replacements: Mapping[str, str] | None = None) -> str:
    """One classic script of `entry` and all that it imports, each module in a function of its own.

    Args:
        entry: the module to run; its own exports are dropped.
        replacements: file name to other source text for that module.

    Raises:
        ValueError: a module uses a form of import or export that this does not understand.
    """
    parts: list[str] = []
    done: dict[Path, str] = {}

    def add(path: Path) -> str:
        path = path.resolve()
        if path in done:
            return done[path]
        source = (replacements or {}).get(path.name)
        source = strip_comments(path.read_text("utf-8") if source is None else source)
        imports = []
        for names, target in _IMPORT.findall(source):
            module = add(path.parent / target)
            if names.strip():
                imports.append(f"const {{{_renamed(names, ' as ', ':')}}} = {module};")
        body = _IMPORT.sub("", source)
        exports = _DECLARATION.findall(body)
        exports += [n.strip() for names in _LIST.findall(body) for n in names.split(",") if n.strip()]
        body = _LIST.sub("", _DECLARATION.sub("", body))
        if re.search(r"^(?:import\b(?!\()|export\b)", body, re.MULTILINE):
            raise ValueError(f"{path.name} imports or exports in a way that the bundler does not know.")
        name = f"$m{len(done)}"
        done[path] = name
        inside = "\n".join([*imports, _squeeze(body)])
        parts.append(f"const {name} = (() => {{\n{inside}\nreturn {{{', '.join(exports)}}};\n}})();")
        return name

    add(entry)
    return "(() => {\n" + "\n".join(parts) + "\n})();\n"


def bundle_player(entry: Path, player: Path) -> str:
    """`bundle_modules` for a page of the player: its sort worker starts from a Blob, not from a file."""
    worker = json.dumps(bundle_modules(player / "sort-worker.js"), ensure_ascii=False)
    spawn = (
        f"const source = {worker};\n"
        'const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));\n'
        "export const spawnSortWorker = () => new Worker(address);\n"
    )
    return bundle_modules(entry, {"spawn-worker.js": spawn})


def strip_comments(source: str) -> str:
    """JavaScript without its comments; strings, templates and regular expressions stay as they are."""
    out: list[str] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:  # the last alternative matches anything
            raise AssertionError(source[at : at + 20])
        at = match.end()
        if match.lastgroup == "comment":
            continue
        out.append(match.group())
        if match.lastgroup == "template":
            end = _template_end(source, at)
            out.append(source[at:end])
            at = end
    return "".join(out)


def _template_end(source: str, at: int) -> int:
    """Position after the backtick that ends the template literal whose text starts at `at`."""
    depth = 0
    while at < len(source):
        if source[at] == "\\":
            at += 1
        elif source.startswith("${", at):
            depth += 1
            at += 1
        elif depth and source[at] == "}":
            depth -= 1
        elif source[at] == "`":
            if not depth:
                return at + 1
            at = _template_end(source, at + 1) - 1
        at += 1
    raise ValueError("A template literal does not end.")


def _squeeze(source: str) -> str:
    """No indentation and no empty lines; the line breaks themselves stay, because they end statements."""
    return "\n".join(line.strip() for line in source.splitlines() if line.strip())


def _renamed(names: str, before: str, after: str) -> str:
    return ", ".join(part.strip().replace(before, after) for part in names.split(",") if part.strip())
