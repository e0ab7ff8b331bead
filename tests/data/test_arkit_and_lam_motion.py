"""Motion files: Live Link Face CSV and LAM JSON, written, read back, misspelt and broken."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.data.arkit_csv import ANGLES, read_arkit_csv, write_arkit_csv
from headsplat.data.lam_json import read_lam_json, write_lam_json
from headsplat.errors import HeadsplatError
from headsplat.head.arkit import ARKIT
from headsplat.motion import Motion, head_turn
from headsplat.takes import JOINTS, take

Rows = list[list[str]]


@pytest.fixture(scope="module")
def speak() -> Motion:
    return take("speak")


def rows_of(motion: Motion, folder: Path) -> Rows:
    write_arkit_csv(motion, folder / "full.csv")
    with (folder / "full.csv").open() as file:
        return list(csv.reader(file))


def read_rows(rows: Rows, folder: Path, **options: Any) -> Motion:
    with (folder / "take.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return read_arkit_csv(folder / "take.csv", **options)


def test_csv_round_trip(tmp_path: Path, speak: Motion) -> None:
    write_arkit_csv(speak, tmp_path / "take.csv")
    back = read_arkit_csv(tmp_path / "take.csv")
    assert (len(back), back.fps, back.expressions, back.joints) == (len(speak), 30.0, ARKIT, JOINTS)
    np.testing.assert_allclose(back.weights, speak.weights, atol=1e-5)
    np.testing.assert_allclose(back.rotations, speak.rotations, atol=1e-5)


def test_columns_go_by_name_not_by_place(tmp_path: Path, speak: Motion) -> None:
    rows = rows_of(speak, tmp_path)
    order = np.random.default_rng(0).permutation(len(rows[0]))
    shuffled = [[row[i] for i in order] for row in rows]
    shuffled[0] = [name.upper() for name in shuffled[0]]
    np.testing.assert_allclose(read_rows(shuffled, tmp_path).weights, speak.weights, atol=1e-5)


def test_degrees_are_noticed(tmp_path: Path) -> None:
    motion = take("range")
    rows = rows_of(motion, tmp_path)
    at = [rows[0].index(angle) for angle in ANGLES]
    degrees = [
        rows[0],
        *([f"{np.rad2deg(float(c))}" if i in at else c for i, c in enumerate(r)] for r in rows[1:]),
    ]
    np.testing.assert_allclose(read_rows(degrees, tmp_path).rotations, motion.rotations, atol=1e-4)
    forced = head_turn(read_rows(rows, tmp_path, angles="degrees"))
    np.testing.assert_allclose(forced, head_turn(motion) * np.pi / 180, atol=2e-4)


def test_eyes_follow_their_weights_when_signs_disagree_or_angles_are_absent(tmp_path: Path) -> None:
    motion = take("speak")
    rows = rows_of(motion, tmp_path)
    eye = [i for i, name in enumerate(rows[0]) if "Eye" in name and name in ANGLES]
    flipped = [rows[0], *([f"{-float(c)}" if i in eye else c for i, c in enumerate(r)] for r in rows[1:])]
    zeroed = [rows[0], *(["0" if i in eye else c for i, c in enumerate(r)] for r in rows[1:])]
    for changed in (flipped, zeroed):
        np.testing.assert_allclose(read_rows(changed, tmp_path).rotations, motion.rotations, atol=3e-3)


def test_dropped_and_repeated_rows_are_evened_out(tmp_path: Path, speak: Motion) -> None:
    rows = rows_of(speak, tmp_path)
    uneven = [rows[0], *rows[1:40], rows[39], rows[39], *rows[41:]]
    back = read_rows(uneven, tmp_path)
    assert len(back) == len(speak)
    filled = np.delete(np.arange(len(speak)), 39)
    np.testing.assert_allclose(back.weights[filled], speak.weights[filled], atol=1e-5)
    np.testing.assert_allclose(back.weights[39], (speak.weights[38] + speak.weights[40]) / 2, atol=1e-5)


def test_rate_is_read_from_the_timecode(tmp_path: Path) -> None:
    for fps in (7.0, 10.0, 24.0, 30.0, 60.0):
        assert read_rows(rows_of(take("hello", fps), tmp_path), tmp_path).fps == fps
    halved = read_rows(rows_of(take("hello", 60.0), tmp_path), tmp_path, fps=30.0)
    np.testing.assert_allclose(halved.weights, take("hello", 60.0).weights[::2][: len(halved)], atol=1e-5)


def test_a_take_may_pass_midnight_and_lack_the_tongue(tmp_path: Path) -> None:
    motion = take("hello")
    rows = rows_of(motion, tmp_path)
    tongue = rows[0].index("TongueOut")
    late = [[cell for i, cell in enumerate(row) if i != tongue] for row in rows]
    for row in late[1:]:
        *_, seconds, frame = row[0].split(":")
        total = (23 * 3600 + 59 * 60 + 58 + int(seconds)) % 86400
        row[0] = f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}:{frame}"
    back = read_rows(late, tmp_path)
    assert len(back) == len(motion)
    assert not back.weights[:, ARKIT.index("tongueOut")].any()


def drop_column(name: str) -> Callable[[Rows], Rows]:
    return lambda rows: [[c for i, c in enumerate(row) if rows[0][i] != name] for row in rows]


def set_cell(line: int, name: str, value: str) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        rows = [list(row) for row in rows]
        rows[line][rows[0].index(name)] = value
        return rows

    return change


BAD_CSV: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "no rows": (lambda rows: rows[:1], "no frames"),
    "no header": (lambda rows: rows[1:], "not a Live Link Face take"),
    "another table": (lambda rows: [["a", "b"], ["1", "2"]], "not a Live Link Face take"),
    "no jaw": (drop_column("JawOpen"), "lacks the columns jawopen"),
    "no time": (drop_column("Timecode"), "lacks the columns timecode"),
    "a word": (set_cell(5, "JawOpen", "wide"), "'wide' for jawopen in line 6"),
    "NaN": (set_cell(5, "BrowInnerUp", "nan"), "not a number"),
    "an empty cell": (set_cell(5, "BrowInnerUp", ""), "not a number"),
    "percent": (set_cell(5, "JawOpen", "85"), "0 to 1"),
    "half a line": (lambda rows: [*rows[:5], rows[5][:9], *rows[6:]], "cut off in line 6"),
    "bad time": (set_cell(3, "Timecode", "noon"), "HH:MM:SS:FF"),
    "short time": (set_cell(3, "Timecode", "10:12"), "HH:MM:SS:FF"),
    "infinite time": (set_cell(3, "Timecode", "00:00:inf:00"), "not a number"),
    "a long gap": (set_cell(-1, "Timecode", "07:00:00:00.0"), "gap"),
    "many gaps": (
        lambda rows: [rows[0], *([f"{i / 240 + i // 12 * 599}", *r[1:]] for i, r in enumerate(rows[1:]))],
        "lasts for",
    ),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_named(tmp_path: Path, speak: Motion, case: str) -> None:
    damage, message = BAD_CSV[case]
    rows = damage(rows_of(speak, tmp_path)[:60])
    with pytest.raises(HeadsplatError, match=message):
        read_rows(rows, tmp_path)


def test_csv_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "take.csv").write_bytes(b"\xff\xd8\xff\x00" * 9)
    with pytest.raises(HeadsplatError, match="as text"):
        read_arkit_csv(tmp_path / "take.csv")
    (tmp_path / "take.csv").write_bytes(b"")
    with pytest.raises(HeadsplatError, match="Live Link Face"):
        read_arkit_csv(tmp_path / "take.csv")
    with pytest.raises(HeadsplatError, match="no file"):
        read_arkit_csv(tmp_path / "absent.csv")


def test_json_round_trip(tmp_path: Path, speak: Motion) -> None:
    write_lam_json(speak, tmp_path / "take.json")
    back = read_lam_json(tmp_path / "take.json")
    assert (len(back), back.fps, back.expressions) == (len(speak), 30.0, ARKIT)
    np.testing.assert_allclose(back.weights, speak.weights, atol=1e-5)
    np.testing.assert_allclose(back.rotations, speak.rotations, atol=2e-5)


def test_json_in_its_other_spellings(tmp_path: Path) -> None:
    frames = [{"weights": [0.5, 0.1], "time": t / 25, "rotation": []} for t in range(4)]
    data = {"metadata": {"blendshape_names": ["JawOpen", "browInnerUp"]}, "frames": frames}
    (tmp_path / "a.json").write_text(json.dumps(data))
    motion = read_lam_json(tmp_path / "a.json")
    assert motion.expressions == ("jawOpen", "browInnerUp")
    assert motion.fps == pytest.approx(25)
    frames[0]["rotation"] = [0.0, np.sin(0.15), 0.0, np.cos(0.15)]
    (tmp_path / "a.json").write_text(json.dumps(data))
    np.testing.assert_allclose(head_turn(read_lam_json(tmp_path / "a.json"))[0], [0, 0.3, 0], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"names": ["jawOpen"], "frames": []}',
        '{"names": ["jawOpen"], "frames": [{"weights": [1, 2]}]}',
        '{"names": ["jawOpen"], "frames": [{"weights": ["a"]}]}',
        '{"names": ["jawOpen"], "frames": [{"weights": [NaN]}]}',
        '{"names": ["jawOpen"], "frames": [{"weights": [1], "rotation": [1, 2]}]}',
        '{"names": ["jawOpen"], "metadata": {"fps": 0}, "frames": [{"weights": [1]}]}',
        '{"names": 5, "frames": [{"weights": [1]}]}',
        "[" * 100_000,
    ],
)
def test_bad_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "take.json").write_text(text)
    with pytest.raises(HeadsplatError, match=r"take\.json"):
        read_lam_json(tmp_path / "take.json")
