"""The verb that learns: train."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from headsplat.cli.app import verb
from headsplat.errors import HeadsplatError
from headsplat.terminal import Status, finish, say

# Method -> the module that trains it. Such a module has
#   PRESETS                              name -> function that makes the settings, the first is the default
#   trainable(data, settings, device)    what the loop trains, of the folders given with --data
#   deliver(trainable, out)              writes the finished model into the folder; facts to print
METHODS = {
    "gaussianhead": "headsplat.methods.gaussianhead.learn",
    "gagavatar": "headsplat.methods.gagavatar.learn",
    "lam": "headsplat.methods.lam.learn",
}


@verb
def train(
    method: Positional[Literal["gaussianhead", "lam", "gagavatar"]],
    *,
    data: Annotated[tuple[Path, ...], arg(aliases=("-d",))],
    output: Annotated[Path, arg(aliases=("-o",))],
    preset: str = "",
    set: tuple[str, ...] = (),
    minutes: float | None = None,
    iterations: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Train a method on recordings; a stopped or killed run goes on where it was when called again.

    Args:
        method: what to train.
        data: folder(s) of tracked recordings, as `headsplat track` writes them; lam also takes photos.
        output: folder of the run: checkpoint, log, pictures, and at the end the model.
        preset: such as small or paper; each method's README lists its own.
        set: change settings of the preset, such as derivations=8 sh_degree=0.
        minutes: stop after so much time.
        iterations: steps of the whole training; default as the preset says.
        device: cpu, cuda or cuda:1.
        json: print one machine-readable line last.
    """
    facts, text = run_training(method, data, output, preset, set, minutes, iterations, device)
    finish(facts, text, json)


def run_training(
    method: str,
    data: tuple[Path, ...],
    out: Path,
    preset: str,
    changes: tuple[str, ...],
    minutes: float | None,
    iterations: int | None,
    device: str,
) -> tuple[dict[str, Any], str]:
    """Do what `train` says; ends the process with 130 or 143 when told to stop.

    Returns:
        The facts, and a sentence that says them.

    Raises:
        HeadsplatError: of the settings, the data, the device or the folder.
    """
    from headsplat.nets.device import check_device
    from headsplat.train import loop
    from headsplat.train.settings import override

    module = import_module(METHODS[method])
    preset = preset or next(iter(module.PRESETS))
    if preset not in module.PRESETS:
        raise HeadsplatError(f"{method} has no preset {preset!r}; it has {', '.join(module.PRESETS)}.")
    if minutes is not None and minutes <= 0:
        raise HeadsplatError(f"--minutes is {minutes:g}; give more than 0.")
    if iterations is not None and iterations < 1:
        raise HeadsplatError(f"--iterations is {iterations}; give 1 or more.")
    steps = () if iterations is None else (f"iterations={iterations}",)
    settings = override(module.PRESETS[preset](), (*changes, *steps))
    check_device(device)
    said = {"method": method, "preset": preset, "data": [str(d) for d in data], **asdict(settings)}
    with Status("Reading the recording") as status:
        subject = module.trainable(data, settings, device)
        outcome = loop.run(subject, out, minutes=minutes, settings=said, progress=status)
    facts: dict[str, Any] = {
        "run": str(out),
        "iteration": outcome.iteration,
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 1),
        **{name: round(value, 4) for name, value in outcome.judged.items()},
    }
    if outcome.reason in ("interrupted", "terminated"):
        say(f"Stopped after iteration {outcome.iteration}; the same command goes on from there.")
        raise SystemExit(130 if outcome.reason == "interrupted" else 143)
    facts |= module.deliver(subject, out)
    judged = "".join(f", {name} {value:.4g}" for name, value in outcome.judged.items())
    left = "" if outcome.reason == "finished" else " (out of time; the same command goes on)"
    return facts, f"{out}: {outcome.iteration} iterations in {outcome.seconds:.0f} s{judged}{left}"
