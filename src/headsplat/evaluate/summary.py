"""From the figures of single pictures to those of a run: means, who beats whom, the worst cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headsplat.evaluate.judge import METRICS, Metric
from headsplat.evaluate.runner import Run

YAW_BOUNDS = (15, 30, 45, 60, 90, 135, 181)
"""Degrees at which the table over views begins a new row."""


@dataclass(frozen=True)
class Cell:
    """A figure of a table: its value, or None and why; and how many cases it is the mean of."""

    value: float | None
    cases: int
    reason: str = ""


def columns(run: Run) -> list[Metric]:
    """The metrics that at least one picture has, then those that miss only their network."""
    present = {name for r in run.results for t in r["targets"] for name in t["scores"]}
    networks = ("lpips", "csim") if "psnr" in present else ("csim",)
    absent = [m for m in METRICS if m.name in networks and m.name not in present]
    return [m for m in METRICS if m.name in present] + absent


def case_score(result: dict[str, Any], metric: str) -> float | None:
    """Mean over the targets of a case that have the metric."""
    values = [t["scores"][metric] for t in result["targets"] if metric in t["scores"]]
    return float(np.mean(values)) if values else None


def cell(run: Run, method: str, metric: str) -> Cell:
    """Mean over the cases (each the mean of its targets)."""
    own = [r for r in run.results if r["method"] == method]
    values = [v for v in (case_score(r, metric) for r in own) if v is not None]
    if values:
        return Cell(float(np.mean(values)), len(values))
    gaps = [t["missing"] for r in own for t in r["targets"]]
    reasons = [gap[key] for key in (metric, "all") for gap in gaps if key in gap]
    reasons += [r["failed"] for r in own if r["failed"]]
    return Cell(None, 0, reasons[0] if reasons else "not measured")


def lost(run: Run, method: str) -> tuple[int, int]:
    """Pictures without an answer or without a face that should be there, and all pictures of the run."""
    total = max(sum(len(r["targets"]) for r in run.results if r["method"] == m) for m in run.methods)
    gone = 0
    for result in (r for r in run.results if r["method"] == method):
        peers = [len(r["targets"]) for r in run.results if r["case"] == result["case"]]
        gone += max(peers) - len(result["targets"])
        for target in result["targets"]:
            gone += "all" in target["missing"] or "no face found" in target["missing"].get("aed", "")
    return gone, total


def failed(run: Run, method: str) -> tuple[int, int]:
    """Cases in which a method made no avatar at all, and all cases."""
    own = [r for r in run.results if r["method"] == method]
    return sum(r["failed"] is not None for r in own), len(own)


def shared(run: Run) -> Run | None:
    """The run with only those figures that every method has of a picture; None if that drops nothing.

    A method is not made better by the hard pictures that it fails at. A metric that a method never has is no
    reason to drop the others' figures.
    """
    measured = {
        (r["method"], name) for r in run.results for target in r["targets"] for name in target["scores"]
    }
    wanted = {name: {m for m, other in measured if other == name} for _, name in measured}
    holders: dict[tuple[str, str, str], set[str]] = {}
    for r in run.results:
        for target in r["targets"]:
            for name in target["scores"]:
                holders.setdefault((r["case"], target["target"], name), set()).add(r["method"])
    results, dropped = [], False
    for r in run.results:
        targets = []
        for target in r["targets"]:
            kept = {
                name: value
                for name, value in target["scores"].items()
                if holders[r["case"], target["target"], name] == wanted[name]
            }
            dropped |= len(kept) < len(target["scores"])
            targets.append(target | {"scores": kept})
        results.append(r | {"targets": targets})
    return replace(run, results=tuple(results)) if dropped else None


def wins(run: Run, method: str, other: str, metric: Metric) -> tuple[int, int] | None:
    """In how many cases a method beats another, of those that both have; None if there are none."""
    sign = 1 if metric.more_is_better else -1
    pairs = [sign * (own - theirs) > 0 for _, own, theirs in _pairs(run, method, other, metric.name)]
    return (sum(pairs), len(pairs)) if pairs else None


def defeats(run: Run, method: str, other: str, metric: Metric) -> list[tuple[float, str, float, float]]:
    """Cases in which a method is worse than another: by how much, the case, its own figure, the other's."""
    sign = 1 if metric.more_is_better else -1
    found = []
    for case, own, theirs in _pairs(run, method, other, metric.name):
        if sign * (theirs - own) > 0:
            found.append((sign * (theirs - own), case, own, theirs))
    return sorted(found, reverse=True)


def _pairs(run: Run, method: str, other: str, metric: str) -> list[tuple[str, float, float]]:
    """Case and the figures of two methods, where both have one."""
    scores: dict[str, dict[str, float]] = {}
    for result in run.results:
        if result["method"] in (method, other):
            score = case_score(result, metric)
            if score is not None:
                scores.setdefault(result["case"], {})[result["method"]] = score
    return [(case, s[method], s[other]) for case, s in scores.items() if len(s) == 2]


def by_yaw(run: Run, method: str, metric: str) -> list[tuple[str, Cell]]:
    """Means over pictures whose head is turned so far from the camera, for the ranges that occur."""
    out, low = [], 0
    for high in YAW_BOUNDS:
        values = [
            t["scores"][metric]
            for r in run.results
            if r["method"] == method
            for t in r["targets"]
            if low <= abs(t["yaw"]) < high and metric in t["scores"]
        ]
        out.append(
            (f"{low}–{min(high, 180)}°", Cell(float(np.mean(values)) if values else None, len(values)))
        )
        low = high
    return out


def worst_first(run: Run, method: str) -> list[dict[str, Any]]:
    """The results of a method: failures, then by face PSNR (or AED where there is no true picture)."""

    def rank(result: dict[str, Any]) -> float:
        psnr, aed = case_score(result, "face_psnr"), case_score(result, "aed")
        if result["failed"] or (psnr is None and aed is None):
            return -np.inf
        return psnr if psnr is not None else -float(aed or 0)

    return sorted((r for r in run.results if r["method"] == method), key=rank)


def costs(run: Run, method: str) -> dict[str, float]:
    """Median seconds to make an avatar and to draw a picture, and the highest peak of memory."""
    own = [r["cost"] for r in run.results if r["method"] == method and r["cost"]]
    if not own:
        return {}
    return {
        "make_seconds": float(np.median([c["make_seconds"] for c in own])),
        "picture_seconds": float(np.median([c["picture_seconds"] for c in own])),
        "peak_mb": max(c["peak_mb"] for c in own),
    }


def facts(run: Run) -> dict[str, Any]:
    """The means of a run as JSON: metric by method, None where missing, and why."""
    rows = {}
    for method in run.methods:
        cells = {m.name: cell(run, method, m.name) for m in METRICS}
        gone, total = lost(run, method)
        rows[method] = {
            "scores": {name: round(c.value, 5) for name, c in cells.items() if c.value is not None},
            "missing": {name: c.reason for name, c in cells.items() if c.value is None},
            "failed": failed(run, method)[0],
            "lost": gone,
            "pictures": total,
        }
    return {"protocol": run.manifest.protocol, "cases": len(run.manifest.cases), "methods": rows}
