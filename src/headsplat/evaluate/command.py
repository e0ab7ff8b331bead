"""What `headsplat evaluate` does, in functions that know nothing of the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headsplat.errors import HeadsplatError
from headsplat.evaluate.cases import Manifest
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.predict import BASELINES, Maker, Method
from headsplat.evaluate.protocols import FRAMES, build
from headsplat.evaluate.report import markdown, write_report
from headsplat.evaluate.runner import Run, evaluate, load_run
from headsplat.evaluate.summary import facts
from headsplat.evaluate.truth import write_truth

_USUAL = ("copy", "warp", "warp-fit", "lift:refine=0", "lift")
_FITTED = "lift:drive=picture"


def default_methods(protocol: str) -> tuple[str, ...]:
    """What is evaluated unless methods are named; a fit to the target's picture where there is a true one."""
    return _USUAL if protocol in ("cross", "novel") else (*_USUAL, _FITTED)


def run_protocol(
    protocol: str,
    data: Path,
    folder: Path,
    make: Maker,
    *,
    methods: Sequence[str] = (),
    weights: Path | None = None,
    manifest: Path | None = None,
    limit: int = 0,
    frames: int = FRAMES,
    workers: int = 0,
    arcface: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Run, str]:
    """Evaluate methods and write the run's own report.

    Args:
        protocol: a key of `protocols.PROTOCOLS`.
        data: folder with the data.
        folder: of the run.
        make: `headsplat.reconstruct.reconstruct`.
        methods: as `Method.parse` reads them; none = `default_methods`.
        weights: checkpoint for the methods that need one and name none.
        manifest: repeat this manifest instead of looking for cases.
        limit: at most so many people or clips.
        frames: targets per clip.
        workers: processes of one thread each; 0 for half of the cores.
        arcface: ONNX file for CSIM.
        progress: called with cases done and their number.

    Returns:
        The run, and its tables in Markdown.

    Raises:
        HeadsplatError: unknown method, no data, or a file that cannot be used.
    """
    if workers < 0:
        raise HeadsplatError(f"{workers} workers make no sense; give 0 (half of the cores) or more.")
    parsed = [Method.parse(text) for text in methods or default_methods(protocol)]
    if len(set(parsed)) < len(parsed):
        raise HeadsplatError("Give each method once.")
    if weights is not None:
        own = [m.name in (*BASELINES, "lift") or {"weights", "file"} & dict(m.options).keys() for m in parsed]
        added = [replace(m, options=(*m.options, ("weights", str(weights)))) for m in parsed]
        parsed = [m if keeps else new for m, new, keeps in zip(parsed, added, own, strict=True)]
    cases = build(protocol, data, limit=limit, frames=frames) if manifest is None else Manifest.load(manifest)
    if cases.protocol != protocol:
        raise HeadsplatError(f"{manifest} is a manifest of {cases.protocol}; run that, or give another.")
    run = evaluate(
        cases,
        data.resolve(),
        parsed,
        folder,
        make,
        Networks.found(arcface),
        workers=workers or max(1, (os.cpu_count() or 2) // 2),
        progress=progress,
    )
    write_report([run], folder / "report")
    return run, markdown([run])


def report_runs(folders: Sequence[Path], output: Path) -> tuple[list[Path], str]:
    """One report of several runs.

    Returns:
        The files written, and the tables in Markdown.

    Raises:
        HeadsplatError: no runs, or one that is not finished.
    """
    if not folders:
        raise HeadsplatError("Name the folders of the runs to report.")
    runs = [load_run(folder) for folder in folders]
    return list(write_report(runs, output)), markdown(runs)


def as_json(run: Run) -> dict[str, Any]:
    """The means of a run, and where it lies."""
    return facts(run) | {"run": str(run.folder)}


__all__ = ["as_json", "default_methods", "report_runs", "run_protocol", "write_truth"]
