"""Verbs about files and recordings: track, convert and info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from headsplat.cli.app import Output, verb
from headsplat.errors import HeadsplatError
from headsplat.terminal import Status, counted, finish

if TYPE_CHECKING:
    from headsplat.avatar import Avatar
    from headsplat.clip import Frame


@verb
def track(
    source: Positional[Path],
    output: Output,
    *,
    face: int | None = None,
    shot: int | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    size: int = 512,
    refine: bool = False,
    flame: Path | None = None,
    json: bool = False,
) -> None:
    """Turn a film of one person into a recording to learn from: pictures, mattes, poses and expressions.

    A job that was stopped goes on where it was when it is started again.

    Args:
        source: a video, or a folder of pictures.
        output: the folder to write.
        face: which face, counted from the left, if there are several.
        shot: which shot of a film with cuts, from 1; default the one that shows the face longest.
        fps: frames per second to take; default all, and 25 for pictures.
        max_frames: stop after so many frames.
        size: side of the pictures, pixels.
        refine: compare every picture with an avatar made from the best one; slower and more exact.
        flame: flame2023.pkl or the like; FLAME's parameters are then written as well.
        json: print one machine-readable line last.
    """
    from headsplat.track.recording import Options, track_recording

    options = Options(face=face, shot=shot, fps=fps, most=max_frames, size=size, flame=flame)
    with Status("Following the face") as status:
        done = track_recording(source, output, options, status, _lifted if refine else None)
    unsure = len(done.low_confidence_frames)
    facts = {
        "output": str(output),
        "frames": done.frames,
        "landmark_error": round(done.landmark_error, 3),
        "jitter": round(done.jitter, 3),
        "low_confidence_frames": unsure,
        "shots": len(done.shots),
        **({} if done.differences is None else {"difference": [round(d, 5) for d in done.differences]}),
        **({} if done.flame_error is None else {"flame_error_mm": round(done.flame_error, 3)}),
        "seconds": round(done.seconds, 2),
    }
    lines = [
        f"{output}: {counted(done.frames, 'frame')}, landmarks off by {done.landmark_error:.2f} % of the "
        f"distance of the outer eye corners, jitter {done.jitter:.2f} %, in {done.seconds:.1f} s"
    ]
    if done.differences is not None:
        before, after = done.differences
        lines.append(
            f"  compared with its avatar: the face differs by {before:.4f} before, {after:.4f} after"
        )
    if done.flame_error is not None:
        lines.append(f"  FLAME's face lies {done.flame_error:.2f} mm off the tracked one")
    if len(done.shots) > 1:
        spans = ", ".join(f"{number}: frames {a} to {b - 1}" for number, (a, b) in enumerate(done.shots, 1))
        lines.append(f"  the film is cut; this is shot {done.shot}, --shot chooses another ({spans})")
    if unsure:
        lines.append(f"  {counted(unsure, 'frame')} cannot be trusted: marked, and not learned from")
    finish(facts, "\n".join(lines), json)


@verb
def convert(
    recordings: Positional[tuple[Path, ...]], output: Output, *, flame: Path | None = None, json: bool = False
) -> None:
    """Write a recording with FLAME's parameters for GaussianAvatars and LAM, or join several of one person.

    Args:
        recordings: a folder in any layout of docs/datasets.md; or several in that of GaussianAvatars, beside
            each other, which the output will refer to.
        output: the folder to write; for several beside them.
        flame: FLAME's file, for recordings that need its joints.
        json: print one machine-readable line last.
    """
    from headsplat.data.datasets import read_dataset
    from headsplat.data.datasets.vhap_write import write_union, write_vhap

    folders = list(recordings)
    if not folders:
        raise HeadsplatError("Give the folder of a recording to convert.")
    if len(folders) > 1:
        write_union(output, folders)
    else:
        with Status("Writing the recording") as status:
            write_vhap(read_dataset(folders[0], flame=flame), output, flame=flame, progress=status)
    written = read_dataset(output, flame=flame)
    facts = {"output": str(output), "layout": written.layout, "views": len(written)}
    finish(facts, f"{output}: {len(written)} views in the layout of {written.layout}", json)


def _lifted(frame: Frame) -> Avatar:
    """An avatar good enough to be compared with."""
    from headsplat.reconstruct import reconstruct

    return reconstruct(frame, gaussians="20k")


@verb
def info(path: Positional[Path], *, flame: Path | None = None, json: bool = False) -> None:
    """Say what is in an avatar file, or in a tracked recording and what is wrong with it.

    Args:
        path: the .avatar file, or the folder of a recording in any layout of docs/datasets.md.
        flame: FLAME's file, for recordings that need its joints.
        json: print one machine-readable line last.
    """
    if path.is_dir() or path.suffix.lower() in (".json", ".npz", ".pkl"):
        _recording(path, flame, json)
    else:
        _avatar(path, json)


def _recording(folder: Path, flame: Path | None, json: bool) -> None:
    from headsplat.data.datasets import read_dataset
    from headsplat.data.datasets.check import describe, examine, summary

    with Status("Reading the recording") as status:
        dataset = read_dataset(folder, flame=flame)
        problems = examine(dataset, flame=flame, progress=status)
    facts = {
        "dataset": str(dataset.root),
        **summary(dataset),
        "notes": dataset.info.get("notes", []),
        "problems": problems,
    }
    finish(facts, describe(dataset, problems), json)


def _avatar(avatar: Path, json: bool) -> None:
    import numpy as np

    from headsplat.avatar_file import load_avatar

    a = load_avatar(avatar)
    networks = {"deformer": a.deformer, "refiner": a.refiner}
    moved = np.diff(a.expression_means.starts).tolist()
    facts = {
        "avatar": str(avatar),
        "bytes": avatar.stat().st_size,
        "gaussians": len(a),
        "channels": int(a.gaussians.features.shape[1]),
        "method": a.method,
        "source": a.source,
        "joints": list(a.joints),
        "expressions": dict(zip(a.expressions, moved, strict=True)),
        "networks": {role: n.kind for role, n in networks.items() if n is not None},
        "seen": round(float(a.seen.mean()), 4),
        "view_target": [round(float(v), 5) for v in a.view_target],
        "view_height": a.view_height,
        "info": a.info,
    }
    lines = [
        f"{avatar}: {len(a):,} Gaussians, {facts['bytes'] / 1e6:.2f} MB, by {a.method or 'nobody knows'}",
        f"  joints          {', '.join(a.joints) or 'none'}",
        f"  expressions     {', '.join(a.expressions) or 'none'}",
        *(f"  {role:<15} {kind}, a network per frame" for role, kind in facts["networks"].items()),
        f"  seen            {facts['seen']:.0%} of it was in the photo",
        *(f"  {key:<15} {_brief(value)}" for key, value in a.info.items()),
    ]
    finish(facts, "\n".join(lines), json)


def _brief(value: Any) -> str:
    """A value for reading: numbers rounded, and long lists only counted (`--json` has them whole)."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(part)}" for key, part in value.items())
    if isinstance(value, list):
        if len(value) <= 8 and not any(isinstance(part, (dict, list)) for part in value):
            return ", ".join(_brief(part) for part in value)
        return f"({len(value)} {'entry' if len(value) == 1 else 'entries'})"
    return str(value)
