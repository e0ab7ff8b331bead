"""Takes of Epic's Live Link Face app (ARKit on an iPhone) as CSV: read by column name, and written.

Columns: Timecode, BlendShapeCount, the 52 ARKit expressions and nine angles (HeadYaw ... RightEyeRoll).
Apps and exporters differ in the order, the spelling (BlendshapeCount), the count, and whether angles are in
radians or degrees; nothing here depends on those.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.files import writing
from headsplat.gaussians import axis_angle_to_quat, quat_to_matrix
from headsplat.head.arkit import ARKIT
from headsplat.motion import Motion, head_turn, interpolate, split_head_turn, turn_of_angles
from headsplat.takes import JOINTS, eye_turns

ANGLES = tuple(
    f"{part}{angle}" for part in ("Head", "LeftEye", "RightEye") for angle in ("Yaw", "Pitch", "Roll")
)
OPTIONAL = ("tongueOut",)  # apps from before 2019 have no tongue
LONGEST_GAP = 600.0
MOST_FRAMES = 432_000  # two hours at 60 per second
FRAME_RATES = (24.0, 25.0, 30.0, 60.0, 120.0, 240.0)


def read_arkit_csv(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    angles: Literal["auto", "radians", "degrees"] = "auto",
) -> Motion:
    """Read a Live Link Face take; rows that repeat or were dropped are evened out by their timecode.

    Head angles follow ARKit's axes, which are ours: yaw about y, pitch about x, roll about z. Eyes take their
    size from the eye angles and, where the two disagree, their direction from the eyeLook expressions.

    Args:
        path: the CSV.
        fps: frames per second wanted; None keeps the app's.
        angles: unit of the angle columns; "auto" takes them for radians while none exceeds 1.6.

    Raises:
        HeadsplatError: not such a file, missing columns, no rows, a cell that is not a number, or a take of
            more than 432,000 frames.
    """
    name = Path(path).name
    columns = _read_columns(path, name)
    times, rate = _times(columns.pop("timecode"), name)
    table = {key: _numbers(key, cells, name) for key, cells in columns.items()}
    weights = np.stack([table.get(e.lower(), np.zeros(len(times))) for e in ARKIT], 1)
    turns = {a: table.get(a.lower(), np.zeros(len(times))) for a in ANGLES}
    largest = max(np.abs(values).max() for values in turns.values())
    if angles == "degrees" or (angles == "auto" and largest >= 1.6):
        turns = {key: np.deg2rad(values) for key, values in turns.items()}
    rotations = np.zeros((len(times), len(JOINTS), 3))
    rotations[:, 0], rotations[:, 1] = split_head_turn(_rotation(turns, "Head"))
    rotations[:, 2], rotations[:, 3] = _eyes(turns, weights)
    keep = np.concatenate([[True], np.diff(times) > 1e-6])
    raw = Motion(
        weights[keep].astype(np.float32), ARKIT, rotations[keep].astype(np.float32), JOINTS, fps or rate
    )
    times = times[keep] - times[0]
    count = int(times[-1] * raw.fps + 1e-3) + 1
    if count > MOST_FRAMES:
        raise HeadsplatError(f"{name} lasts for {count} frames, over {MOST_FRAMES}; cut the take into parts.")
    wanted = np.arange(count) / raw.fps
    at = np.interp(wanted, times, np.arange(len(times)))
    return interpolate(raw, at, raw.fps).check(name)


def write_arkit_csv(motion: Motion, path: str | os.PathLike[str]) -> None:
    """Write a motion as a Live Link Face take, angles in radians.

    Raises:
        HeadsplatError: `path` cannot be written.
    """
    names = {e.lower(): i for i, e in enumerate(motion.expressions)}
    weights = np.zeros((len(motion), len(ARKIT)))
    for column, expression in enumerate(ARKIT):
        if expression.lower() in names:
            weights[:, column] = motion.weights[:, names[expression.lower()]]
    parts = [head_turn(motion)]
    for joint in ("left_eye", "right_eye"):
        known = joint in motion.joints
        parts.append(motion.rotations[:, motion.joints.index(joint)] if known else np.zeros((len(motion), 3)))
    angles = np.concatenate([_yaw_pitch_roll(part) for part in parts], 1)
    base = motion.fps if motion.fps in FRAME_RATES else 60.0
    with writing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        pascal = [e[0].upper() + e[1:] for e in ARKIT]
        writer.writerow(["Timecode", "BlendShapeCount", *pascal, *ANGLES])
        for t, row in enumerate(np.concatenate([weights, angles], 1)):
            whole, frame = divmod(round(t / motion.fps * base, 3), base)
            hours, minutes = divmod(int(whole) // 60, 60)
            stamp = f"{hours:02}:{minutes:02}:{int(whole) % 60:02}:{frame:06.3f}"
            writer.writerow([stamp, len(row), *(f"{value:.7g}" for value in row)])


def _read_columns(path: str | os.PathLike[str], name: str) -> dict[str, list[str]]:
    """Cells of the columns we know, by lower-case name."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise HeadsplatError(f"There is no file {path}; check the name.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise HeadsplatError(f"Cannot read {name} as text; give a CSV from Live Link Face.") from error
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise HeadsplatError(f"{name} is not a CSV file ({error}); export the take again.") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    wanted = ["timecode", *(e.lower() for e in ARKIT), *(a.lower() for a in ANGLES)]
    if len(set(header) & set(wanted)) < 10:
        raise HeadsplatError(
            f"{name} is not a Live Link Face take: its first line does not name ARKit expressions."
        )
    needed = ["timecode", *(e.lower() for e in ARKIT if e not in OPTIONAL)]
    missing = [column for column in needed if column not in header]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise HeadsplatError(
            f"{name} lacks the columns {', '.join(missing[:3])}{more}; export the take again."
        )
    if len(rows) < 2:
        raise HeadsplatError(f"{name} has a header but no frames; record the take again.")
    for number, row in enumerate(rows[1:], 2):
        if len(row) < len(header):
            raise HeadsplatError(f"{name} is cut off in line {number}; export the take again.")
    return {c: [row[header.index(c)] for row in rows[1:]] for c in wanted if c in header}


def _numbers(column: str, cells: Sequence[str], name: str) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = float(cell)
        except ValueError:
            values[i] = np.nan
        if not np.isfinite(values[i]):
            raise HeadsplatError(
                f"{name} has {cell.strip()!r} for {column} in line {i + 2}, which is not a number."
            )
    if column not in {a.lower() for a in ANGLES} and np.abs(values).max() > 5:
        raise HeadsplatError(
            f"{name} has {column} up to {np.abs(values).max():g}; expressions must be 0 to 1."
        )
    return values


def _times(cells: Sequence[str], name: str) -> tuple[np.ndarray, float]:
    """Seconds of each row, and the take's frame rate.

    A timecode is HH:MM:SS:FF.fff, where FF counts frames; how many there are in a second is not written down,
    so the smallest usual rate above every FF seen is taken. Plain seconds are accepted too.
    """
    try:
        fields = [[float(part) for part in cell.replace(";", ":").split(":")] for cell in cells]
        shapes = {len(row) for row in fields}
        if shapes == {1}:
            times = np.array([row[0] for row in fields])
        elif shapes == {4}:
            most = max(row[3] for row in fields)
            base = next((r for r in FRAME_RATES if most < r), 60.0)
            base = 60.0 if len(fields) < base else base  # under a second, most says little
            times = np.array([h * 3600 + m * 60 + s + f / base for h, m, s, f in fields])
        else:
            raise ValueError("not a timecode")
    except ValueError as error:
        raise HeadsplatError(
            f"{name} has a Timecode that is not HH:MM:SS:FF; export the take again."
        ) from error
    if not np.isfinite(times).all():
        raise HeadsplatError(f"{name} has a Timecode that is not a number; export the take again.")
    times = times + 86400.0 * np.cumsum(np.concatenate([[0], np.diff(times) < -43200]))
    if np.diff(times, prepend=times[0]).max() > LONGEST_GAP:
        raise HeadsplatError(f"{name} has a gap of more than ten minutes; cut the take in two.")
    steps = np.diff(times)
    steps = steps[steps > 1e-6]
    rate = float(np.clip(round(1 / np.median(steps)), 1, 240)) if len(steps) else 60.0
    return np.maximum.accumulate(times), rate


def _rotation(turns: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    """(T, 3) rotation vectors of the head or an eye."""
    return turn_of_angles(np.stack([turns[f"{part}{angle}"] for angle in ("Yaw", "Pitch", "Roll")], 1))


def _yaw_pitch_roll(vectors: np.ndarray) -> np.ndarray:
    """(T, 3) yaw, pitch, roll of (T, 3) rotation vectors: the inverse of `turn_of_angles`."""
    m = quat_to_matrix(axis_angle_to_quat(np.asarray(vectors, np.float64)))
    pitch = np.arcsin(np.clip(-m[:, 1, 2], -1, 1))
    return np.stack([np.arctan2(m[:, 0, 2], m[:, 2, 2]), pitch, np.arctan2(m[:, 1, 0], m[:, 1, 1])], 1)


def _eyes(turns: Mapping[str, np.ndarray], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spoken = eye_turns(ARKIT, weights)
    eyes = []
    for part, vectors in zip(("LeftEye", "RightEye"), spoken, strict=True):
        yaw, pitch = turns[f"{part}Yaw"], turns[f"{part}Pitch"]
        if not (yaw.any() or pitch.any()):
            eyes.append(vectors)  # the app wrote no eye angles
            continue
        flip_yaw = -1.0 if yaw @ vectors[:, 1] < 0 else 1.0
        flip_pitch = -1.0 if pitch @ vectors[:, 0] < 0 else 1.0
        agreed = {f"{part}Yaw": yaw * flip_yaw, f"{part}Pitch": pitch * flip_pitch}
        eyes.append(_rotation({**turns, **agreed}, part))
    return eyes[0], eyes[1]
