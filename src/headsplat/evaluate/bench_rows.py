"""What benchmarks measure with and what they give: turns, rows, a table.

What is compared runs alternately, so that whatever else the machine does hits both sides. Inputs rotate;
caches are warm. Tables state median and spread; the JSON has one row per line of them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.raster import cpu

Task = Callable[[int], Any]
"""Called with 0, 1, 2, … to rotate its inputs."""


@dataclass(frozen=True)
class Row:
    """One measurement; keys as in the JSON (`pass` for `pass_`)."""

    bench: str
    backend: str
    scene: str
    gaussians: int
    channels: int
    size: int
    pass_: str
    ms_median: float
    ms_min: float
    ms_p90: float
    fps: float
    ratio_to_reference: float | None
    threads: int
    machine: str
    load: float
    extra: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row with the names of the JSON."""
        values = asdict(self)
        extra = values.pop("extra")
        return {("pass" if key == "pass_" else key): value for key, value in values.items()} | extra


def as_json(rows: Sequence[Row]) -> str:
    """All rows as one JSON list on one line."""
    return json.dumps([row.as_json() for row in rows])


def machine() -> str:
    """Processor, cores and instruction set in a few words."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, {cpu.isa()}"


def load() -> float:
    """Load average of the last minute, or -1 where there is none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0


def alternate(tasks: dict[str, Task], seconds: float, rounds: int = 3) -> dict[str, np.ndarray]:
    """Milliseconds of every run of each task, the tasks taking turns.

    Each turn of a task lasts about as long as one run of the slowest (but at most 64 runs), so that quick
    tasks are run often. At least `rounds` turns, then until `seconds` have passed.
    """
    clock = time.perf_counter
    once = {}
    for name, task in tasks.items():
        task(0)
        start = clock()
        task(1)
        once[name] = clock() - start
    turn = min(max(once.values()), 0.3)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    end, done = clock() + seconds, 0
    while done < rounds or clock() < end:
        for name, task in tasks.items():
            time.sleep(0.005)  # lets the threads of the task before fall asleep
            task(done)
            for i in range(int(np.clip(turn / once[name], 1, 64))):
                start = clock()
                task(done + i)
                times[name].append((clock() - start) * 1e3)
        done += 1
    return {name: np.array(values) for name, values in times.items()}


def rows_of(
    times: dict[str, np.ndarray], reference: str | None, threads: dict[str, int], **common: Any
) -> list[Row]:
    """One row per task; ratios are of medians."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    extra = common.pop("extra", {})
    return [
        Row(
            backend=name,
            ms_median=round(medians[name], 3),
            ms_min=round(float(values.min()), 3),
            ms_p90=round(float(np.percentile(values, 90)), 3),
            fps=round(1000 / medians[name], 1),
            ratio_to_reference=round(medians[reference] / medians[name], 2) if reference in times else None,
            threads=threads.get(name, cpu.threads()),
            machine=machine(),
            load=round(load(), 2),
            extra=extra.get(name, {}),
            **common,
        )
        for name, values in times.items()
    ]


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    from rich.console import Console
    from rich.table import Table

    extras = list(dict.fromkeys(key for row in rows for key in row.extra))
    table = Table(title=f"{machine()}; load {load():.1f}", title_justify="left")
    columns = (
        "scene",
        "Gaussians",
        "channels",
        "pass",
        "backend",
        "threads",
        "ms",
        "min",
        "p90",
        "FPS",
        "ratio",
    )
    for name in (*columns, *extras):
        table.add_column(name, justify="left" if name in ("scene", "pass", "backend") else "right")
    for row in rows:
        ratio = "" if row.ratio_to_reference is None else f"{row.ratio_to_reference:.1f}"
        figures = [f"{v:.2f}" for v in (row.ms_median, row.ms_min, row.ms_p90)]
        table.add_row(
            row.scene,
            f"{row.gaussians:,}",
            str(row.channels),
            row.pass_,
            row.backend,
            str(row.threads),
            *figures,
            f"{row.fps:.1f}",
            ratio,
            *(str(row.extra.get(key, "")) for key in extras),
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def torch_or_reason() -> Any:
    """PyTorch, which the baselines need.

    Raises:
        HeadsplatError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise HeadsplatError("The baselines need PyTorch; pip install 'headsplat[torch]'.") from None
    return torch
