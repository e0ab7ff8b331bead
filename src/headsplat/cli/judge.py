"""Verbs that measure: bench, evaluate and doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from tyro.conf import Positional, arg

from headsplat.cli.app import verb
from headsplat.errors import HeadsplatError
from headsplat.terminal import Status, finish


@verb
def bench(
    what: Positional[Literal["raster", "animate", "create", "memory", "cuda", "lam", "gagavatar"]],
    *,
    sizes: tuple[int, ...] | None = None,
    avatar: Path | None = None,
    photo: Path | None = None,
    preset: tuple[Literal["small", "lam_5k", "released_20k", "paper", "ours"], ...] = (),
    seconds: float = 4.0,
    json: bool = False,
) -> None:
    """Measure this machine, against baselines in the same run.

    Args:
        what: drawing, animating and drawing, a photo into an avatar, peak memory, a GPU, or
            the networks of LAM or GAGAvatar.
        sizes: numbers of Gaussians of the synthetic scene.
        avatar: an .avatar file to measure besides the synthetic scene.
        photo: the photo for create; default the bundled portrait.
        preset: of LAM (all but ours) or GAGAvatar (small, ours); default all on a GPU, and on a CPU small.
        seconds: about how long each comparison runs.
        json: print all rows as one JSON list in the last line.
    """
    if any(not 1 <= size <= 10_000_000 for size in sizes or ()):
        raise HeadsplatError("--sizes are numbers of Gaussians; give 1 to 10000000 each.")
    if not 0 < seconds <= 3600:
        raise HeadsplatError(f"--seconds is {seconds:g}; give more than 0 and at most 3600.")
    from headsplat.evaluate import bench as benches

    given = {"avatar": avatar, "photo": photo, "presets": preset, "seconds": seconds}
    benches.run(what, json=json, sizes=sizes or benches.SIZES, **given)


@verb
def evaluate(
    what: Positional[Literal["stills", "self", "cross", "novel", "fewshot", "video", "truth", "report"]],
    runs: Positional[tuple[Path, ...]] = (),
    *,
    data: Path | None = None,
    output: Annotated[Path | None, arg(aliases=("-o",))] = None,
    method: tuple[str, ...] = (),
    weights: Path | None = None,
    manifest: Path | None = None,
    limit: int = 0,
    frames: int = 10,
    workers: int = 0,
    arcface: Path | None = None,
    json: bool = False,
) -> None:
    """Measure how good avatars are, by a protocol of docs/benchmark.md; a stopped run goes on where it was.

    Args:
        what: a protocol; truth draws painted heads for novel; report joins finished runs.
        runs: folders of finished runs (report).
        data: folder with photos, clips, tracked recordings or views.
        output: folder of the run; default build/evaluate/PROTOCOL. For report the name without suffix.
        method: such as copy warp lift lift:drive=picture lift:refine=0,gaussians=20k
            lam:weights=model.safetensors gaussianhead:file=runs/{clip}/head.avatar.
        weights: checkpoint for methods that need one and name none.
        manifest: repeat the cases of this manifest.json.
        limit: at most so many people or clips, evenly spread; 0 for all.
        frames: pictures to judge per clip.
        workers: processes of one thread each; 0 for half of the cores.
        arcface: ONNX network for CSIM; default $HEADSPLAT_ARCFACE.
        json: print one machine-readable line last.
    """
    from headsplat.evaluate import command
    from headsplat.reconstruct import reconstruct

    output = output or Path("build/evaluate") / what
    if runs and what != "report":
        raise HeadsplatError("Only `evaluate report` takes folders of runs; give the data with --data.")
    if what == "report":
        paths, text = command.report_runs(runs, output)
        finish({"report": [str(p) for p in paths]}, text, json)
        return
    if what == "truth":
        with Status("Painting heads") as status:
            folders = command.write_truth(
                output,
                people=limit or 8,
                progress=lambda done, total: status(f"Painted {done} of {total} heads", done / total),
            )
        finish({"people": [str(p) for p in folders]}, f"{output}: {len(folders)} painted heads", json)
        return
    _know(method)
    if data is None:
        raise HeadsplatError(f"Give the folder for `{what}` with --data; see docs/benchmark.md.")
    with Status("Evaluating") as status:
        run, text = command.run_protocol(
            what,
            data,
            output,
            reconstruct,
            methods=method,
            weights=weights,
            manifest=manifest,
            limit=limit,
            frames=frames,
            workers=workers,
            arcface=arcface,
            progress=lambda done, total: status(f"Evaluated {done} of {total} cases", done / max(total, 1)),
        )
    finish(command.as_json(run), text, json)


def _know(methods: tuple[str, ...]) -> None:
    """Refuse a method that nobody knows before anything is tracked for it; made avatars may have any name."""
    from headsplat.evaluate.predict import BASELINES
    from headsplat.reconstruct import Method

    known = [*BASELINES, *get_args(Method)]
    for name, _, options in (method.partition(":") for method in methods):
        if name not in known and "file=" not in options:
            raise HeadsplatError(
                f"There is no method {name!r}; there are {', '.join(known)}, and NAME:file=A.avatar for "
                "avatars that are made already."
            )


@verb
def doctor(*, json: bool = False) -> None:
    """Say what is installed, which back ends work, and how fast this machine draws.

    Args:
        json: print one machine-readable line last.
    """
    from headsplat.doctor import describe, examine

    report = examine()
    finish(report, describe(report), json)
