"""What is told of a run: its tables, whatever they are then written as."""

from __future__ import annotations

from dataclasses import dataclass

from headsplat.evaluate import summary
from headsplat.evaluate.judge import METRICS, Metric
from headsplat.evaluate.predict import BASELINES
from headsplat.evaluate.printed import PRINTED
from headsplat.evaluate.runner import Run

TITLES = {
    "stills": "From one photo to another of the same person",
    "self": "Self-reenactment: first frame to the rest",
    "cross": "Cross-reenactment: driven by another person",
    "novel": "Novel views: one view to all sides",
    "fewshot": "Few-shot: one to eight pictures",
    "video": "Monocular video: first four fifths to the last",
}
SHOWN = 12
"""Cases, failures and defeats that are listed one by one, worst first."""
_NOT_COMPARABLE = "of the papers: their data, their trackers, their metric code; not comparable with this run"
_DUELLED = ("face_psnr", "mouth_psnr", "akd", "aed")

Row = list[str]


@dataclass(frozen=True)
class Table:
    """A table of a run.

    Attributes:
        heading: above it.
        rows: the first has the headings of the columns.
        notes: below it.
        best: (row, column) of the best figure of each column that has one.
        folded: whether a page opens it only when asked.
    """

    heading: str
    rows: list[Row]
    notes: tuple[str, ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    folded: bool = False


def tables(run: Run) -> list[Table]:
    """All tables of a run, the means first."""
    out = [_means(run, "Means over cases")]
    shared = summary.shared(run)
    if shared is not None:
        out.append(_means(shared, "Means over the pictures that every method has", whole=False))
    duels = _duels(run)
    if len(duels) > 1:
        out.append(Table("Cases won", duels, ("won / cases that both methods have",)))
    defeats = _defeats(run)
    if len(defeats) > 1:
        note = f"the {SHOWN} largest gaps of each metric; figures: {run.methods[-1]} / the other"
        out.append(Table(f"Where {run.methods[-1]} loses to a baseline", defeats, (note,), folded=True))
    for name in ("face_psnr", "akd", "unseen_psnr", "csim"):
        rows = _by_yaw(run, name)
        if len(rows) > 2:
            metric = next(m for m in METRICS if m.name == name)
            out.append(Table(f"{metric.heading} by the turn of the head", rows, ("means over pictures",)))
    if len(run.manifest.cases) <= 80:
        out.append(Table("Cases", _by_case(run), ("worst first, by the last method",), folded=True))
    note = "medians; peak of the whole process, tracker included"
    out.append(Table("Time and memory", _costs(run), (note,), folded=True))
    printed = _printed(run)
    if len(printed) > len(run.methods) + 1:
        out.append(Table("Beside what the papers print", printed, (_NOT_COMPARABLE,)))
    return out


def title(run: Run) -> str:
    """What the run is about."""
    return TITLES[run.manifest.protocol]


def about(run: Run) -> str:
    """How much was evaluated, and the hashes by which to repeat it."""
    targets = sum(len(case.targets) for case in run.manifest.cases)
    return (
        f"{len(run.manifest.cases)} cases, {targets} pictures; protocol `{run.manifest.protocol}`, "
        f"manifest `{run.manifest.hash[:12]}`, code `{run.code[:12]}`."
    )


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def _means(run: Run, heading: str, *, whole: bool = True) -> Table:
    """Means by method and metric; `whole` also with what failed and why figures are missing."""
    columns, best, notes = summary.columns(run), set(), {}
    cells = {m: [summary.cell(run, m, metric.name) for metric in columns] for m in run.methods}
    rows = [["method", *(_heading(m) for m in columns), *(["failed", "lost"] if whole else [])]]
    for method, own in cells.items():
        row = [method, *(number(c.value, m.digits) for c, m in zip(own, columns, strict=True))]
        for cell, metric in zip(own, columns, strict=True):
            if cell.value is None:
                notes.setdefault(f"{metric.heading}: {cell.reason}", []).append(method)
        if whole:
            counts = (summary.failed(run, method), summary.lost(run, method))
            row += [f"{gone}/{total}" for gone, total in counts]
        rows.append(row)
    for k, metric in enumerate(columns):
        values = {i: own[k].value for i, own in enumerate(cells.values())}
        known = {i: v for i, v in values.items() if v is not None}
        if metric.more_is_better is not None and len(known) > 1:
            top = (max if metric.more_is_better else min)(known.values())
            best |= {(i + 1, k + 1) for i, v in known.items() if v == top}
    texts = []
    if whole:
        for why, methods in notes.items():
            who = "all" if len(methods) == len(run.methods) else ", ".join(methods)
            texts.append(f"– {why} ({who})")
        failures = {(r["case"], r["failed"]): None for r in run.results if r["failed"]}
        texts += [f"failed: {case}: {why}" for case, why in list(failures)[:SHOWN]]
        texts += [f"left out: {name}: {why}" for name, why in list(run.manifest.skipped.items())[:SHOWN]]
    return Table(heading, rows, tuple(texts), frozenset(best))


def _defeats(run: Run) -> list[Row]:
    method = run.methods[-1]
    rows = [["case", "metric", "against", "figures"]]
    for metric in (m for m in METRICS if m.name in _DUELLED):
        found = []
        for other in (m for m in run.methods[:-1] if m in BASELINES):
            found += [
                (gap, case, other, a, b) for gap, case, a, b in summary.defeats(run, method, other, metric)
            ]
        for _, case, other, own, better in sorted(found, key=lambda f: -f[0])[:SHOWN]:
            figures = f"{number(own, metric.digits)} / {number(better, metric.digits)}"
            rows.append([case, metric.heading, other, figures])
    return rows


def _duels(run: Run) -> list[Row]:
    columns = [m for m in summary.columns(run) if m.more_is_better is not None]
    rows = [["", *(m.heading for m in columns)]]
    judged = [m for m in run.methods if m not in BASELINES] or run.methods
    for i, other in enumerate(run.methods):
        for method in (m for m in run.methods[i + 1 :] if m in judged):
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
            values = [number(cell.value, metric.digits) for _, cell in cells]
            rows.append([cells[0][0], str(count), *values])
    return rows


def _by_case(run: Run) -> list[Row]:
    metrics = [m for m in summary.columns(run) if m.name in _DUELLED]
    rows = [["case", *(f"{m.heading}, {method}" for m in metrics for method in run.methods)]]
    for result in summary.worst_first(run, run.methods[-1]):
        own = {r["method"]: r for r in run.results if r["case"] == result["case"]}
        values = [
            number(summary.case_score(own[method], m.name), m.digits)
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
    """This run's means above what the papers print."""
    own = [p for p in PRINTED if p.protocol == run.manifest.protocol]
    columns = [m for m in METRICS if any(m.name in p.scores for p in own)]
    rows = [["method", "printed in", "data", *(_heading(m) for m in columns)]]
    for method in run.methods:
        values = [number(summary.cell(run, method, m.name).value, m.digits) for m in columns]
        rows.append([method, "this run", "", *values])
    for p in own:
        values = [f"{p.scores[m.name]:g}" if m.name in p.scores else "–" for m in columns]
        rows.append([p.method, p.where, p.data, *values])
    return rows


def _heading(metric: Metric) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[metric.more_is_better]
    return metric.heading + arrow
