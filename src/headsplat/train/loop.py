"""One training loop for all methods: steps, logs, previews, judgements, checkpoints, and an exact resume.

The folder of a run holds `settings.json`, `checkpoint.pt` (the newest, always whole), `log.jsonl` (one line
per logged iteration and per judgement), `previews/*.png` and `events/` for TensorBoard where it is installed.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from headsplat.data.image import write_image
from headsplat.errors import HeadsplatError
from headsplat.files import writing

VERSION = 1
"""Of the checkpoint; a reader refuses others."""

Reason = Literal["finished", "minutes", "interrupted", "terminated"]
Progress = Callable[[str, float], None]


class Trainable(Protocol):
    """What a method gives the loop: everything that it learns, and how one step is done."""

    @property
    def iterations(self) -> int:
        """How many steps make a finished model."""
        ...

    def step(self, iteration: int) -> dict[str, float]:
        """Do one step of optimisation, number 0..iterations-1; return the scalars to log."""
        ...

    def state(self) -> dict[str, Any]:
        """All that decides the steps to come: parameters, optimisers, schedules, samplers, own generators.

        Nested dicts, lists and tuples of tensors, strings and plain numbers, so that
        `torch.load(weights_only=True)` reads it. The loop keeps torch's global generators itself.
        """
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        ...

    def preview(self, iteration: int) -> np.ndarray:
        """(H, W, 3) float32 0..1 picture of how far it is."""
        ...

    def judge(self) -> dict[str, float]:
        """Figures on what is not learned from; empty where nothing was held out."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a call of `run` ended.

    Attributes:
        iteration: steps done since the beginning of the run, earlier calls included.
        reason: finished, or why it stopped; the same call goes on where it was.
        seconds: spent on steps since the beginning of the run.
        scalars: of the last step.
        judged: the last figures of `judge`.
    """

    iteration: int
    reason: Reason
    seconds: float
    scalars: dict[str, float]
    judged: dict[str, float]


def run(
    trainable: Trainable,
    out: str | os.PathLike[str],
    *,
    minutes: float | None = None,
    checkpoint_every: int = 500,
    preview_every: int = 250,
    judge_every: int = 1000,
    log_every: int = 10,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Train until the end, the time limit, Ctrl-C or a polite kill; go on where the last call stopped.

    An interrupted and resumed run takes the same steps as an uninterrupted one, to the bit on one device with
    deterministic kernels (the CPU's are).

    Args:
        trainable: freshly made, the same way in every call.
        out: folder of the run.
        minutes: stop this call after so much time; None for no limit.
        checkpoint_every: steps between checkpoints.
        preview_every: steps between pictures; 0 for none.
        judge_every: steps between judgements; 0 for one at the end only.
        log_every: steps between lines of the log.
        settings: JSON-able description of what is trained on what; a folder begun with another is refused.
        progress: told the state in words and the share done, 0..1.

    Raises:
        HeadsplatError: the folder belongs to another run or is damaged, or a loss is no longer a number.
    """
    folder = Path(out)
    _claim(folder, settings)
    start, spent, judged = _resume(folder, trainable)
    tell = progress or (lambda *_: None)
    limit = math.inf if minutes is None else 60 * minutes
    began, done, reason = time.perf_counter(), start, "finished"
    scalars: dict[str, float] = {}

    def seconds() -> float:
        return spent + time.perf_counter() - began

    with _heed_signals() as stop, _Log(folder, start) as log:
        while done < trainable.iterations:
            if stop or time.perf_counter() - began >= limit:
                reason = stop[0] if stop else "minutes"
                break
            scalars = trainable.step(done)
            for name, value in scalars.items():
                if not math.isfinite(value):
                    raise HeadsplatError(
                        f"Training diverged: {name} is {value} in iteration {done}; {folder} keeps the last "
                        "checkpoint from before."
                    )
            done += 1
            if done % log_every == 0:
                log.scalars(done, "train", scalars)
                share = done / trainable.iterations
                tell(f"Iteration {done} of {trainable.iterations}{_brief(scalars)}", share)
            if preview_every and done % preview_every == 0:
                with torch.random.fork_rng():
                    write_image(folder / "previews" / f"{done:06d}.png", trainable.preview(done))
            if judge_every and done % judge_every == 0 and done < trainable.iterations:
                judged = _judge(trainable, log, done)
            if done % checkpoint_every == 0:
                _save(folder, trainable, done, seconds(), judged, log)
        if reason == "finished" and start < trainable.iterations:
            judged = _judge(trainable, log, done)
        if done > start:
            _save(folder, trainable, done, seconds(), judged, log)
    return Outcome(done, reason, seconds() if done > start else spent, scalars, judged)


def _judge(trainable: Trainable, log: _Log, done: int) -> dict[str, float]:
    with torch.random.fork_rng():
        judged = trainable.judge()
    log.scalars(done, "judge", judged)
    return judged


def _brief(scalars: Mapping[str, float]) -> str:
    return "".join(f", {name} {scalars[name]:.4g}" for name in ("loss", "psnr") if name in scalars)


def _claim(folder: Path, settings: Mapping[str, Any] | None) -> None:
    """Write what the run is, or compare it with what the folder was begun with."""
    if folder.exists() and not folder.is_dir():
        raise HeadsplatError(f"{folder} is a file; give the name of a folder for the run.")
    text = json.dumps(dict(settings or {}), indent=1, sort_keys=True, ensure_ascii=False)
    path = folder / "settings.json"
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise HeadsplatError(f"{path} is not readable JSON; give another folder for the run.") from error
        wanted = json.loads(text)
        keys = sorted({*found, *wanted} if isinstance(found, dict) else {"everything"})
        other = [k for k in keys if not isinstance(found, dict) or found.get(k) != wanted.get(k)]
        if other:
            raise HeadsplatError(
                f"{folder} holds a run with another {other[0]}; give the same options to go on with it, or "
                "another folder."
            )
    else:
        with writing(path) as temporary:
            temporary.write_text(text + "\n")
    for rest in folder.glob(".checkpoint-*.pt"):  # what a kill left half written
        rest.unlink(missing_ok=True)


def _save(
    folder: Path, trainable: Trainable, done: int, seconds: float, judged: dict[str, float], log: _Log
) -> None:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    checkpoint = {
        "version": VERSION,
        "iteration": done,
        "seconds": seconds,
        "judged": judged,
        "log_bytes": log.bytes(),
        "generator": torch.get_rng_state(),
        "cuda_generators": cuda,
        "state": trainable.state(),
    }
    with writing(folder / "checkpoint.pt") as temporary:
        torch.save(checkpoint, temporary)


def read_checkpoint(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The newest checkpoint of a run on the CPU, or None where there is none yet.

    Raises:
        HeadsplatError: it is damaged, or of another version.
    """
    path = Path(folder) / "checkpoint.pt"
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise HeadsplatError(
            f"{path} cannot be read ({type(error).__name__}); delete it to begin again."
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("version") != VERSION:
        raise HeadsplatError(
            f"{path} was not written by this version of headsplat; delete it to begin again."
        )
    return checkpoint


def _resume(folder: Path, trainable: Trainable) -> tuple[int, float, dict[str, float]]:
    """Give `trainable` its state back; return the steps done, the seconds spent and the last judgement."""
    checkpoint = read_checkpoint(folder)
    log = folder / "log.jsonl"
    if checkpoint is None:
        log.unlink(missing_ok=True)
        return 0, 0.0, {}
    try:
        trainable.load(checkpoint["state"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise HeadsplatError(
            f"{folder / 'checkpoint.pt'} does not fit what is to be trained ({error}); give another folder."
        ) from error
    torch.set_rng_state(checkpoint["generator"])
    if torch.cuda.is_available() and checkpoint["cuda_generators"]:
        torch.cuda.set_rng_state_all(checkpoint["cuda_generators"])
    if log.exists():  # lines written after the checkpoint will be written again
        os.truncate(log, min(checkpoint["log_bytes"], log.stat().st_size))
    return checkpoint["iteration"], checkpoint["seconds"], checkpoint["judged"]


class _Log:
    """The two logs of a run: lines of JSON, and TensorBoard's events where it is installed."""

    def __init__(self, folder: Path, start: int) -> None:
        self._file = open(folder / "log.jsonl", "a", encoding="utf-8")
        self._events: Any = None
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            return
        self._events = SummaryWriter(str(folder / "events"), purge_step=start or None)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()

    def scalars(self, iteration: int, kind: str, scalars: Mapping[str, float]) -> None:
        line = {"iteration": iteration, "kind": kind, **scalars}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in scalars.items():
                self._events.add_scalar(f"{kind}/{name}", value, iteration)

    def bytes(self) -> int:
        return self._file.tell()


@contextmanager
def _heed_signals() -> Iterator[list[Reason]]:
    """A list that stays empty until Ctrl-C or a polite kill; a second Ctrl-C stops at once."""
    stop: list[Reason] = []
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupted(*_: object) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append("interrupted")

    def terminated(*_: object) -> None:
        stop.append("terminated")

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, terminated)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
