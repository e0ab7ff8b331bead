"""Runs as a page to read: Markdown tables, and HTML with pictures, worst cases first."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headsplat.evaluate import summary
from headsplat.evaluate.cases import Case
from headsplat.evaluate.judge import METRICS, Metric
from headsplat.evaluate.printed import PRINTED
from headsplat.evaluate.runner import Run
from headsplat.files import writing

TITLES = {
    "stills": "From one photo to another of the same person",
    "self": "Self-reenactment: first frame to the rest",
    "cross": "Cross-reenactment: driven by another person",
    "novel": "Novel views: one view to all sides",
    "fewshot": "Few-shot: one to eight pictures",
    "video": "Monocular video: first four fifths to the last",
}
_SHOWN = 12
"""Cases with pictures per method, worst first."""
_NOT_COMPARABLE = "their data, their trackers, their metric code: not comparable with the tables above"

Row = list[str]


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
        parts += [f"## {_title(run)}", "", _about(run), ""]
        for heading, table, notes in tables(run):
            parts += [f"### {heading}", "", *_markdown_table(table), "", *(f"- {note}" for note in notes)]
            parts += [""] if notes else []
    return "\n".join(parts)


def page(runs: Sequence[Run]) -> str:
    """One HTML page without any outside resources."""
    body = ["<h1>Benchmark</h1>"]
    for run in runs:
        body += [f"<h2>{html.escape(_title(run))}</h2><p>{html.escape(_about(run))}</p>"]
        for heading, table, notes in tables(run):
            body.append(f"<h3>{html.escape(heading)}</h3>{_html_table(table)}")
            if notes:
                body.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>")
        body += [_plots(run), _pictures(run)]
    return _PAGE.replace("{body}", "\n".join(body))


def tables(run: Run) -> list[tuple[str, list[Row], list[str]]]:
    """(heading, rows with the column headings first, notes) of a run."""
    out = [("Means over cases", *_means(run))]
    shared = summary.shared(run)
    if shared is not None:
        rows, _ = _means(shared)
        out.append(("Means over the pictures that every method has", [row[:-2] for row in rows], []))
    duels = _duels(run)
    if len(duels) > 1:
        out.append(("Cases won", duels, ["won / cases that both methods have"]))
    for name in ("face_psnr", "akd", "unseen_psnr", "csim"):
        rows = _by_yaw(run, name)
        if len(rows) > 2:
            metric = next(m for m in METRICS if m.name == name)
            out.append((f"{metric.heading} by the turn of the head", rows, ["means over pictures"]))
    if len(run.manifest.cases) <= 80:
        out.append(("Cases", _by_case(run), ["worst first, by the last method"]))
    out.append(("Time and memory", _costs(run), ["medians; peak of the whole process, tracker included"]))
    printed = _printed(run)
    if len(printed) > 1:
        out.append(("Printed in the papers", printed, [_NOT_COMPARABLE]))
    return out


def _means(run: Run) -> tuple[list[Row], list[str]]:
    columns = summary.columns(run)
    rows, notes = [["method", *(_heading(m) for m in columns), "failed", "lost"]], {}
    for method in run.methods:
        row = [method]
        for metric in columns:
            cell = summary.cell(run, method, metric.name)
            row.append(_number(cell.value, metric.digits))
            if cell.value is None:
                notes.setdefault(f"{metric.heading}: {cell.reason}", []).append(method)
        counts = (summary.failed(run, method), summary.lost(run, method))
        rows.append([*row, *(f"{gone}/{total}" for gone, total in counts)])
    texts = [f"– {why} ({', '.join(methods)})" for why, methods in notes.items()]
    failures = {(r["case"], r["failed"]): None for r in run.results if r["failed"]}
    texts += [f"failed: {case}: {why}" for case, why in list(failures)[:_SHOWN]]
    texts += [f"left out: {name}: {why}" for name, why in list(run.manifest.skipped.items())[:_SHOWN]]
    return rows, texts


def _duels(run: Run) -> list[Row]:
    columns = [m for m in summary.columns(run) if m.more_is_better is not None]
    rows = [["", *(m.heading for m in columns)]]
    for i, other in enumerate(run.methods):
        for method in run.methods[i + 1 :]:
            counts = [summary.wins(run, method, other, m) for m in columns]
            if any(counts):
                texts = ["–" if c is None else f"{c[0]}/{c[1]}" for c in counts]
                rows.append([f"{method} beats {other}", *texts])
    return rows


def _by_yaw(run: Run, name: str) -> list[Row]:
    metric = next(m for m in METRICS if m.name == name)
    columns = {method: summary.by_yaw(run, method, name) for method in run.methods}
    rows: list[Row] = [["turn", "pictures", *run.methods]]
    for i in range(len(summary.YAW_BOUNDS)):
        cells = [columns[method][i] for method in run.methods]
        count = max(cell.cases for _, cell in cells)
        if count:
            values = [_number(cell.value, metric.digits) for _, cell in cells]
            rows.append([cells[0][0], str(count), *values])
    return rows


def _by_case(run: Run) -> list[Row]:
    wanted = ("face_psnr", "mouth_psnr", "akd", "aed")
    metrics = [m for m in summary.columns(run) if m.name in wanted]
    rows = [["case", *(f"{m.heading}, {method}" for m in metrics for method in run.methods)]]
    for result in summary.worst_first(run, run.methods[-1]):
        own = {r["method"]: r for r in run.results if r["case"] == result["case"]}
        values = [
            _number(summary.case_score(own[method], m.name), m.digits)
            for m in metrics
            for method in run.methods
        ]
        rows.append([result["case"], *values])
    return rows


def _costs(run: Run) -> list[Row]:
    rows = [["method", "making, s", "one picture, ms", "peak, MB"]]
    for method in run.methods:
        cost = summary.costs(run, method)
        if cost:
            made, drawn = f"{cost['make_seconds']:.2f}", f"{1000 * cost['picture_seconds']:.1f}"
            rows.append([method, made, drawn, f"{cost['peak_mb']:.0f}"])
    return rows


def _printed(run: Run) -> list[Row]:
    own = [p for p in PRINTED if p.protocol == run.manifest.protocol]
    columns = [m for m in METRICS if any(m.name in p.scores for p in own)]
    rows = [["method", "printed in", "data", *(_heading(m) for m in columns)]]
    for p in own:
        rows.append(
            [
                p.method,
                p.where,
                p.data,
                *(f"{p.scores[m.name]:g}" if m.name in p.scores else "–" for m in columns),
            ]
        )
    return rows


def _title(run: Run) -> str:
    return TITLES[run.manifest.protocol]


def _about(run: Run) -> str:
    targets = sum(len(case.targets) for case in run.manifest.cases)
    return f"{len(run.manifest.cases)} cases, {targets} pictures; protocol `{run.manifest.protocol}`."


def _heading(metric: Metric) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[metric.more_is_better]
    return metric.heading + arrow


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _markdown_table(rows: list[Row]) -> list[str]:
    escaped = [[text.replace("|", "\\|") for text in row] for row in rows]
    return [
        "| " + " | ".join(escaped[0]) + " |",
        "|" + "|".join(["---"] + ["---:"] * (len(rows[0]) - 1)) + "|",
        *("| " + " | ".join(row) + " |" for row in escaped[1:]),
    ]


def _html_table(rows: list[Row]) -> str:
    def line(row: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in row) + "</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    return f"<div class=scroll><table><thead>{line(rows[0], 'th')}</thead><tbody>{body}</tbody></table></div>"


def _plots(run: Run) -> str:
    """For cases with several targets: face PSNR (or AED) of every target, a line per method."""
    many = [case for case in run.manifest.cases if len(case.targets) > 2]
    if not many:
        return ""
    has_psnr = any("face_psnr" in t["scores"] for r in run.results for t in r["targets"])
    metric = next(m for m in METRICS if m.name == ("face_psnr" if has_psnr else "aed"))
    figures = [_plot(run, case, metric) for case in many[:_SHOWN]]
    return f"<h3>{metric.heading} of every picture</h3><div class=plots>{''.join(figures)}</div>"


def _plot(run: Run, case: Case, metric: Metric) -> str:
    width, height, left, bottom = 320, 150, 34, 16
    lines = {
        r["method"]: [t["scores"].get(metric.name) for t in r["targets"]]
        for r in run.results
        if r["case"] == case.name
    }
    values = [v for line in lines.values() for v in line if v is not None]
    if not values:
        return ""
    low, high = np.floor(min(values)), np.ceil(max(values))
    high = max(high, low + 1)

    def x(i: int, count: int) -> float:
        return left + (width - left - 6) * i / max(count - 1, 1)

    def y(value: float) -> float:
        return 6 + (height - bottom - 6) * (high - value) / (high - low)

    drawn = []
    for k, (method, line) in enumerate(lines.items()):
        dots = [(x(i, len(line)), y(v)) for i, v in enumerate(line) if v is not None]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in dots)
        drawn.append(f"<g class=m{k % 5}><title>{html.escape(method)}</title><polyline points='{path}'/>")
        drawn += [f"<circle cx='{a:.1f}' cy='{b:.1f}' r='2'/>" for a, b in dots]
        drawn.append("</g>")
    axis = f"<text x='2' y='{y(high) + 8:.0f}'>{high:g}</text><text x='2' y='{y(low):.0f}'>{low:g}</text>"
    key = " · ".join(f"<span class=m{k % 5}>{html.escape(method)}</span>" for k, method in enumerate(lines))
    return (
        f"<figure><svg viewBox='0 0 {width} {height}'>{axis}{''.join(drawn)}</svg>"
        f"<figcaption>{html.escape(case.name)}<br>{key}</figcaption></figure>"
    )


def _pictures(run: Run) -> str:
    """The worst cases of the last method: source and targets, and every method's answers."""
    parts = [f"<h3>Worst first, by {html.escape(run.methods[-1])}</h3>"]
    for result in summary.worst_first(run, run.methods[-1])[:_SHOWN]:
        own = {r["method"]: r["key"] for r in run.results if r["case"] == result["case"]}
        strips = {"source, targets": result["truth"], **own}
        lines = [(name, _image(run.folder / "pictures" / f"{key}.jpg", name)) for name, key in strips.items()]
        parts.append(f"<section><h4>{html.escape(result['case'])}</h4>")
        if result["failed"]:
            parts.append(f"<p>{html.escape(result['failed'])}</p>")
        parts.append(_side_by_side(lines) if len(result["targets"]) == 1 else _stacked(lines))
        parts.append("</section>")
    return "".join(parts)


def _side_by_side(lines: list[tuple[str, str]]) -> str:
    figures = (
        f"<figure>{image}<figcaption>{html.escape(name)}</figcaption></figure>" for name, image in lines
    )
    return f"<div class='scroll row'>{''.join(figures)}</div>"


def _stacked(lines: list[tuple[str, str]]) -> str:
    """One row per method; the first row begins with the source, so the others begin with a gap."""
    rows = [
        f"<tr><th>{html.escape(name)}</th><td>{'<i></i>' if i else ''}{image}</td></tr>"
        for i, (name, image) in enumerate(lines)
    ]
    return f"<div class=scroll><table class=strips>{''.join(rows)}</table></div>"


def _image(path: Path, alt: str) -> str:
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{html.escape(alt)}' src='data:image/jpeg;base64,{data}'>"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmark</title>
<style>
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
.strips td { text-align: left; padding: 1px; position: static; }
.strips img { height: 160px; vertical-align: top; }
.strips i { display: inline-block; width: 160px; height: 160px; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } .plots figure { width: 320px; } figcaption { font-size: 13px; }
.row { display: flex; gap: 4px; } .row img { height: 200px; }
svg { width: 100%; background: #8881; } svg text { font-size: 10px; fill: currentColor; }
polyline { fill: none; stroke: currentColor; stroke-width: 1.5; } circle { fill: currentColor; }
.m0 { color: #8a8a8a; } .m1 { color: #c77700; } .m2 { color: #1a73c9; } .m3 { color: #b1306b; }
.m4 { color: #2c8a4b; }
</style>
{body}
</html>
"""
