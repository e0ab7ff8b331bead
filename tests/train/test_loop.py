"""The training loop: a resumed run is the uninterrupted one, to the bit; logs, limits, signals, damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headsplat.errors import HeadsplatError
from headsplat.train import loop


class Toy:
    """A line fitted by Adam to noisy samples drawn from torch's generator and from one of its own."""

    def __init__(self, iterations: int = 30, stop_at: int = -1, explode_at: int = -1) -> None:
        self.iterations = iterations
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.own = torch.Generator().manual_seed(5)
        self.stop_at, self.explode_at = stop_at, explode_at
        self.taken: list[int] = []

    def step(self, iteration: int) -> dict[str, float]:
        self.taken.append(iteration)
        x = torch.randn(8, 3) + torch.rand(1, generator=self.own)
        loss = (x @ (self.weight - torch.tensor([1.0, -2.0, 0.5]))).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if iteration == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return {"loss": float("nan") if iteration == self.explode_at else loss.item()}

    def state(self) -> dict[str, Any]:
        return {
            "weight": self.weight.detach(),
            "optimizer": self.optimizer.state_dict(),
            "own": self.own.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.weight.data.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.own.set_state(state["own"])

    def preview(self, iteration: int) -> np.ndarray:
        torch.rand(7)  # whatever a picture draws at random must not change the run
        return np.full((8, 8, 3), 0.5, np.float32)

    def judge(self) -> dict[str, float]:
        torch.rand(3)
        return {"norm": self.weight.norm().item()}


def train(folder: Path, toy: Toy | None = None, **options: Any) -> tuple[Toy, loop.Outcome]:
    toy = toy or Toy()
    if not (folder / "checkpoint.pt").exists():
        torch.manual_seed(0)
    options = {"checkpoint_every": 7, "preview_every": 9, "judge_every": 10, "log_every": 2, **options}
    return toy, loop.run(toy, folder, **options)


def test_interrupted_runs_are_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, end = train(tmp_path / "whole")
    assert (end.reason, end.iteration) == ("finished", 30)
    for stop_at in (2, 16):
        folder = tmp_path / f"stopped-{stop_at}"
        _, first = train(folder, Toy(stop_at=stop_at))
        assert (first.reason, first.iteration) == ("interrupted", stop_at + 1)
        torch.manual_seed(99)  # another process has another generator
        again, second = train(folder)
        assert again.taken == list(range(stop_at + 1, 30))
        assert torch.equal(again.weight, whole.weight)
        assert second.judged == end.judged
        assert (folder / "log.jsonl").read_bytes() == (tmp_path / "whole/log.jsonl").read_bytes()


def test_log_holds_every_line_once(tmp_path: Path) -> None:
    train(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [x["iteration"] for x in lines if x["kind"] == "train"] == list(range(2, 31, 2))
    assert [x["iteration"] for x in lines if x["kind"] == "judge"] == [10, 20, 30]
    names = ["000009.png", "000018.png", "000027.png"]
    assert sorted(p.name for p in (tmp_path / "previews").iterdir()) == names


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    _, end = train(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    toy, again = train(tmp_path)
    assert toy.taken == [] and again.judged == end.judged and again.iteration == 30
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_time_limit_stops_with_a_checkpoint(tmp_path: Path) -> None:
    toy, end = train(tmp_path, minutes=0)
    assert (end.reason, end.iteration, toy.taken) == ("minutes", 0, [])
    _, end = train(tmp_path)
    assert end.reason == "finished"


def test_killed_without_warning_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    code = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_loop import Toy, train
class Slow(Toy):
    def step(self, iteration):
        import time; time.sleep(0.02)
        return super().step(iteration)
train(Path({str(tmp_path / "run")!r}), Slow())
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/checkpoint.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    (tmp_path / "run" / ".checkpoint-half.pt").write_bytes(b"half")
    again, _ = train(tmp_path / "run")
    whole, _ = train(tmp_path / "whole")
    assert torch.equal(again.weight, whole.weight) and again.taken[0] % 7 == 0
    assert not (tmp_path / "run" / ".checkpoint-half.pt").exists()
    assert (tmp_path / "run/log.jsonl").read_bytes() == (tmp_path / "whole/log.jsonl").read_bytes()


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="diverged: loss is nan in iteration 17"):
        train(tmp_path, Toy(explode_at=17))
    checkpoint = loop.read_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint["iteration"] == 14


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    train(tmp_path, Toy(4), settings={"preset": "small", "data": "a"})
    with pytest.raises(HeadsplatError, match="another preset"):
        train(tmp_path, settings={"preset": "paper", "data": "a"})
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(HeadsplatError, match="another everything"):
        train(tmp_path, settings={"preset": "paper"})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_damaged_checkpoints_are_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(HeadsplatError, match="cannot be read"):
        train(tmp_path)


def test_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"version": 1, "iteration": 3, "state": {"other": 1}}, tmp_path / "checkpoint.pt")
    with pytest.raises(HeadsplatError, match="does not fit"):
        train(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(HeadsplatError, match="not written by this version"):
        train(tmp_path)


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(tmp_path, Toy(3))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
