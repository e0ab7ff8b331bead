"""Runs as files to read: Markdown with the tables, and a page that also has pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headsplat.evaluate.page import page
from headsplat.evaluate.runner import Run
from headsplat.evaluate.tables import Table, about, tables, title
from headsplat.files import writing


def write_report(runs: Sequence[Run], output: Path) -> tuple[Path, Path]:
    """Write `output`.md and `output`.html (one file with its pictures); returns both paths."""
    pages = output.with_suffix(".md"), output.with_suffix(".html")
    with writing(pages[0]) as temporary:
        temporary.write_text(markdown(runs), encoding="utf-8")
    with writing(pages[1]) as temporary:
        temporary.write_text(page(runs), encoding="utf-8")
    return pages


def markdown(runs: Sequence[Run]) -> str:
    """All tables of some runs."""
    parts = ["# Benchmark", ""]
    for run in runs:
        parts += [f"## {title(run)}", "", about(run), ""]
        for table in tables(run):
            notes = [f"- {note}" for note in table.notes]
            parts += [f"### {table.heading}", "", *_markdown_table(table), "", *notes]
            parts += [""] if notes else []
    return "\n".join(parts)


def _markdown_table(table: Table) -> list[str]:
    lines = []
    for i, row in enumerate(table.rows):
        texts = [f"**{text}**" if (i, k) in table.best else text for k, text in enumerate(row)]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    rule = "|" + "|".join(["---"] + ["---:"] * (len(table.rows[0]) - 1)) + "|"
    return [lines[0], rule, *lines[1:]]
