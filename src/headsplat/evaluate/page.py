"""Runs as one HTML page without outside resources: figures at a glance, tables, the worst cases' pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from headsplat.evaluate import plots, summary
from headsplat.evaluate.cases import Case
from headsplat.evaluate.judge import METRICS
from headsplat.evaluate.runner import Run
from headsplat.evaluate.tables import SHOWN, Table, about, number, tables, title

_CAPTION = ("face_psnr", "mouth_psnr", "akd", "aed")


def page(runs: Sequence[Run]) -> str:
    """The whole page."""
    links = "".join(f"<a href='#run{i}'>{html.escape(title(run))}</a>" for i, run in enumerate(runs))
    body = ["<header><h1>Benchmark</h1>", f"<nav>{links}</nav></header>" if len(runs) > 1 else "</header>"]
    for i, run in enumerate(runs):
        body.append(f"<section class=run id=run{i}><h2>{html.escape(title(run))}</h2>")
        body.append(f"<p class=about>{_code(about(run))}</p>")
        body.append(_legend(run) + plots.overview(run))
        means, *others = tables(run)
        body += [_table(means), plots.by_case(run), *map(_table, others), _pictures(run), "</section>"]
    return _PAGE.replace("{body}", "\n".join(body))


def _table(table: Table) -> str:
    def line(number: int, row: list[str], tag: str) -> str:
        cells = [
            f"<{tag}><b>{html.escape(text)}</b></{tag}>"
            if (number, k) in table.best
            else f"<{tag}>{html.escape(text)}</{tag}>"
            for k, text in enumerate(row)
        ]
        return "<tr>" + "".join(cells) + "</tr>"

    body = "".join(line(i, row, "td") for i, row in enumerate(table.rows) if i)
    head = line(0, table.rows[0], "th")
    inner = f"<div class=scroll><table><thead>{head}</thead><tbody>{body}</tbody></table></div>"
    if table.notes:
        inner += "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in table.notes) + "</ul>"
    heading = html.escape(table.heading)
    if table.folded:
        return f"<details><summary>{heading}</summary>{inner}</details>"
    return f"<h3>{heading}</h3>{inner}"


def _legend(run: Run) -> str:
    names = (f"<span class=m{k % 6}>{html.escape(method)}</span>" for k, method in enumerate(run.methods))
    return f"<p class=legend>{''.join(names)}</p>"


def _pictures(run: Run) -> str:
    """The worst cases of the last method: source and targets, and every method's answers."""
    parts = [f"<h3>Pictures, worst first by {html.escape(run.methods[-1])}</h3>"]
    for result in summary.worst_first(run, run.methods[-1])[:SHOWN]:
        case = next(case for case in run.manifest.cases if case.name == result["case"])
        parts.append(f"<article><h4>{html.escape(case.name)}</h4>{_answers(run, case)}</article>")
    return "".join(parts)


def _answers(run: Run, case: Case) -> str:
    """The case's strips of pictures, each with its name and main figures."""
    own = [r for r in run.results if r["case"] == case.name]
    lines = [("source, target" if len(case.targets) == 1 else "source, targets", "", own[0]["truth"])]
    lines += [(r["method"], r["failed"] or _figures(r), r["key"]) for r in own]
    strips = [
        (html.escape(name), html.escape(said), _image(run.folder / "pictures" / f"{key}.jpg", name))
        for name, said, key in lines
    ]
    if len(case.targets) == 1:
        figures = (
            f"<figure>{image}<figcaption><b>{name}</b><br>{said}</figcaption></figure>"
            for name, said, image in strips
        )
        return f"<div class='scroll row'>{''.join(figures)}</div>"
    rows = [
        # The first strip begins with the source, so the others begin with a gap.
        f"<tr><th>{name}<small>{said}</small></th><td>{'<i></i>' if i else ''}{image}</td></tr>"
        for i, (name, said, image) in enumerate(strips)
    ]
    return f"<div class=scroll><table class=strips>{''.join(rows)}</table></div>"


def _figures(result: dict) -> str:
    texts = []
    for metric in (m for m in METRICS if m.name in _CAPTION):
        score = summary.case_score(result, metric.name)
        if score is not None:
            texts.append(f"{metric.heading} {number(score, metric.digits)}")
    return " · ".join(texts)


def _image(path: Path, alt: str) -> str:
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{html.escape(alt)}' src='data:image/jpeg;base64,{data}'>"


def _code(text: str) -> str:
    """Markdown's `code` as HTML."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmark</title>
<style>
:root { color-scheme: light dark; --line: light-dark(#0002, #fff3); --soft: light-dark(#f5f5f3, #1d1e20);
  --paper: light-dark(#fff, #131416); --ink: light-dark(#1c1c1a, #e6e6e3);
  --dim: light-dark(#6b6b66, #9b9b95); }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; background: var(--paper); color: var(--ink); }
header, .run { max-width: 1240px; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.2rem; }
h1 { font-size: 2rem; margin: 0 0 .5rem; letter-spacing: -.02em; }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; } nav a { color: inherit; }
.run { padding-top: 2.5rem; padding-bottom: 1rem; }
h2 { font-size: 1.4rem; margin: 0; letter-spacing: -.01em; border-top: 2px solid; padding-top: .8rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; } h4 { margin: 0 0 .4rem; font-size: .95rem; }
.about, ul, figcaption, small, summary { color: var(--dim); }
.about { margin: .2rem 0 1rem; } ul { font-size: 13px; padding-left: 1.1rem; margin: .5rem 0; }
code { font-size: .92em; }
details { margin: 1.2rem 0; } summary { cursor: pointer; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--dim); border-bottom: 1px solid var(--ink); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
td b { color: var(--ink); border-bottom: 2px solid #2c8a4b; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0 0 .6rem; font-size: 14px; }
.legend span::before { content: ""; display: inline-block; width: .7em; height: .7em; border-radius: 50%;
  background: currentColor; margin-right: .4em; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: .8rem; }
.plots figure { background: var(--soft); border-radius: 8px; padding: .6rem .7rem .4rem; }
figure { margin: 0; } figcaption { font-size: 12.5px; line-height: 1.35; margin-top: .25rem; }
.plots figcaption { margin: 0 0 .2rem; } .plots figcaption b { color: var(--ink); }
svg { width: 100%; display: block; } svg text { font-size: 10px; fill: var(--dim); }
svg .axis { stroke: var(--line); stroke-width: 1; }
polyline, .range { fill: none; stroke: currentColor; stroke-width: 1.6; } circle { fill: currentColor; }
.range { stroke-width: 3; opacity: .35; }
article { background: var(--soft); border-radius: 8px; padding: .8rem .9rem; margin: .8rem 0; }
article th:first-child { background: var(--soft); font-weight: 600; }
.row { display: flex; gap: 6px; align-items: flex-start; } .row img { height: 146px; border-radius: 4px; }
.row figure { flex: none; } .row figcaption { width: 0; min-width: 100%; overflow-wrap: anywhere; }
.strips th, .strips td { border: 0; padding: 1px 8px 1px 0; }
.strips td { position: static; text-align: left; }
.strips th small { display: block; font-weight: 400; white-space: normal; width: 11rem; }
.strips img { height: 128px; vertical-align: top; }
.strips i { display: inline-block; width: 128px; height: 128px; }
.m0 { color: light-dark(#8b8b85, #a5a59f); } .m1 { color: light-dark(#c0691a, #e39a4f); }
.m2 { color: light-dark(#a6418a, #d987c2); } .m3 { color: light-dark(#2f78c4, #74b0ee); }
.m4 { color: light-dark(#2a8a50, #62c489); } .m5 { color: light-dark(#b3362f, #ef857e); }
</style>
<body>
{body}
</body>
</html>
"""
