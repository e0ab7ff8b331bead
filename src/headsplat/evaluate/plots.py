"""Small drawings of a run's figures as SVG: every metric at a glance, and every case or picture."""

from __future__ import annotations

import html

import numpy as np

from headsplat.evaluate import summary
from headsplat.evaluate.cases import Case
from headsplat.evaluate.judge import METRICS, Metric
from headsplat.evaluate.runner import Run
from headsplat.evaluate.tables import SHOWN, number

_SHOWN_METRICS = (
    "face_psnr", "face_ssim", "mouth_psnr", "eyes_psnr", "akd", "aed", "apd", "unseen_psnr", "csim", "lpips",
)  # fmt: skip
_WIDTH = 300.0


def overview(run: Run) -> str:
    """A panel per metric: for each method the mean over cases, and the middle half of the cases as a bar."""
    panels = [_panel(run, m) for m in METRICS if m.name in _SHOWN_METRICS]
    return f"<div class=plots>{''.join(panels)}</div>"


def by_case(run: Run) -> str:
    """What the means hide: clips picture by picture; many single pictures sorted from worst to best."""
    has_psnr = any("face_psnr" in t["scores"] for r in run.results for t in r["targets"])
    chosen = [m for m in METRICS if m.name in (("face_psnr", "akd") if has_psnr else ("aed", "apd"))]
    clips = [case for case in run.manifest.cases if len(case.targets) > 2]
    if clips:
        figures = [_plot(*_of_targets(run, case, chosen[0])) for case in clips[:SHOWN]]
        heading = f"{chosen[0].heading} of every picture"
    else:
        figures = [_plot(*_of_cases(run, metric)) for metric in chosen]
        heading = "Every case, each method's from worst to best"
    drawn = "".join(figures)
    return f"<h3>{heading}</h3><div class=plots>{drawn}</div>" if drawn else ""


def _of_targets(run: Run, case: Case, metric: Metric) -> tuple[str, dict[str, list[float | None]]]:
    lines = {
        r["method"]: [t["scores"].get(metric.name) for t in r["targets"]]
        for r in run.results
        if r["case"] == case.name
    }
    return case.name, {method: lines.get(method, []) for method in run.methods}


def _of_cases(run: Run, metric: Metric) -> tuple[str, dict[str, list[float | None]]]:
    lines: dict[str, list[float | None]] = {}
    for method in run.methods:
        own = _scores(run, method, metric)
        lines[method] = [*sorted(own, reverse=not metric.more_is_better)]
    return metric.heading, lines


def _scores(run: Run, method: str, metric: Metric) -> list[float]:
    scores = (summary.case_score(r, metric.name) for r in run.results if r["method"] == method)
    return [score for score in scores if score is not None]


def _panel(run: Run, metric: Metric) -> str:
    own = {method: _scores(run, method, metric) for method in run.methods}
    known = {method: np.percentile(v, [25, 75]) for method, v in own.items() if v}
    if not known:
        return ""
    means = {method: float(np.mean(own[method])) for method in known}
    low = min(*(q[0] for q in known.values()), *means.values())
    high = max(*(q[1] for q in known.values()), *means.values())
    reach, step, left, right = max(high - low, 1e-6), 17.0, 6.0, 44.0

    def x(value: float) -> float:
        return left + (_WIDTH - left - right - 6) * (value - low) / reach

    drawn = []
    for k, method in enumerate(run.methods):
        y = 10 + step * k
        said = number(means.get(method), metric.digits)
        drawn.append(f"<text x='{_WIDTH - right + 4:.0f}' y='{y + 3.5:.1f}'>{said}</text>")
        if method not in known:
            continue
        a, b = (x(float(q)) for q in known[method])
        drawn.append(
            f"<g class=m{k % 6}><title>{html.escape(method)}</title>"
            f"<path class=range d='M{a:.1f} {y:.1f}H{b:.1f}'/>"
            f"<circle cx='{x(means[method]):.1f}' cy='{y:.1f}' r='3.6'/></g>"
        )
    height = step * len(run.methods) + 4
    better = {True: "more is better", False: "less is better", None: ""}[metric.more_is_better]
    return (
        f"<figure><figcaption><b>{html.escape(metric.heading)}</b> {better}</figcaption>"
        f"<svg viewBox='0 0 {_WIDTH:g} {height:g}'>{''.join(drawn)}</svg></figure>"
    )


def _plot(name: str, lines: dict[str, list[float | None]]) -> str:
    """One line per method over equal steps; `lines` has the methods in the order of their colours."""
    height, left, bottom = 150.0, 30.0, 8.0
    values = [v for line in lines.values() for v in line if v is not None]
    if not values:
        return ""
    low, high = float(np.floor(min(values))), float(np.ceil(max(values)))
    high = max(high, low + 1)

    def x(i: int, count: int) -> float:
        return left + (_WIDTH - left - 6) * i / max(count - 1, 1)

    def y(value: float) -> float:
        return 6 + (height - bottom - 6) * (high - value) / (high - low)

    drawn = []
    for level in (low, (low + high) / 2, high):
        drawn.append(f"<path class=axis d='M{left:g} {y(level):.1f}H{_WIDTH - 6:g}'/>")
        drawn.append(f"<text x='2' y='{y(level) + 3.5:.1f}'>{level:g}</text>")
    for k, (method, line) in enumerate(lines.items()):
        dots = [(x(i, len(line)), y(v)) for i, v in enumerate(line) if v is not None]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in dots)
        drawn.append(f"<g class=m{k % 6}><title>{html.escape(method)}</title><polyline points='{path}'/>")
        if len(dots) <= 30:
            drawn += [f"<circle cx='{a:.1f}' cy='{b:.1f}' r='2'/>" for a, b in dots]
        drawn.append("</g>")
    return (
        f"<figure><figcaption><b>{html.escape(name)}</b></figcaption>"
        f"<svg viewBox='0 0 {_WIDTH:g} {height:g}'>{''.join(drawn)}</svg></figure>"
    )
