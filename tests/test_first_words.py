"""What newcomers type, and terminals that cannot take the answer: a way on, and the right exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headsplat.avatar import Avatar
from headsplat.avatar_file import save_avatar
from headsplat.cli import main
from headsplat.cli.app import VERBS, app


@pytest.fixture
def here(tmp_path: Path, avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_avatar(avatar, tmp_path / "a.avatar")
    (tmp_path / "me.jpg").write_bytes(b"whatever")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(words)
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def process(*words: str, code: str = "pass", **options: object) -> subprocess.CompletedProcess[bytes]:
    call = f"import sys; from headsplat.cli import main\n{code}\nmain(sys.argv[1:])"
    return subprocess.run([sys.executable, "-c", call, *words], check=False, **options)  # type: ignore[call-overload]


def test_every_verb_is_known_by_its_name() -> None:
    assert set(app._subcommands) == set(VERBS)


def test_nothing_and_help_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("help",), ("--help",)):
        status, out, _ = said(capsys, *words)
        assert status == 0 and "animate" in out
    status, out, _ = said(capsys, "help", "render")
    assert status == 0 and "--yaw" in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from headsplat import __version__

    assert said(capsys, "--version") == (0, f"headsplat {__version__}\n", "")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("creat", "did you mean create?"),
        ("Export", "did you mean export?"),
        ("qqq", "render"),
        ("me.jpg", "headsplat create me.jpg -o me.avatar"),
        ("a.avatar", "headsplat view a.avatar"),
    ],
)
def test_a_word_that_is_no_verb_leads_on(
    here: Path, capsys: pytest.CaptureFixture[str], word: str, hint: str
) -> None:
    status, out, err = said(capsys, word, "x")
    assert (status, out) == (2, "") and hint in err and err.count("\n") == 1


def test_export_takes_its_output_with_and_without_a_dash(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "export", "a.avatar", "one.ply")[0] == 0
    assert said(capsys, "export", "a.avatar", "-o", "two.ply")[0] == 0
    assert Path("one.ply").read_bytes() == Path("two.ply").read_bytes()


def test_info_is_short_for_people_and_whole_for_programs(
    here: Path, avatar: Avatar, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    info = {"head": {"model": "free", "shape": [0.123456789] * 100}, "seconds": 1.23456789, "poses": [{}]}
    save_avatar(replace(avatar, info=info), here / "b.avatar")
    _, out, _ = said(capsys, "info", "b.avatar")
    assert "1.235" in out and "1.23456789" not in out and "0.123" not in out
    assert json.loads(said(capsys, "info", "b.avatar", "--json")[1])["info"] == info


def test_numbers_that_json_lacks_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    from headsplat.terminal import finish

    finish({"psnr": float("inf"), "each": [(1.5, float("nan"))]}, "", as_json=True)
    line = capsys.readouterr().out
    assert json.loads(line, parse_constant=pytest.fail) == {"psnr": None, "each": [[1.5, None]]}


def test_a_reader_that_has_seen_enough_is_no_error(here: Path) -> None:
    """As with `| head -1`: standard output is a pipe that nobody reads."""
    for words in (("--help",), ("info", "a.avatar")):
        read, write = os.pipe()
        os.close(read)
        done = process(*words, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_output_that_cannot_be_printed_is_said(here: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = process("info", "a.avatar", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith(b"headsplat: ") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["\u00fc \u2013 1.avatar", "\udcff.avatar"])
def test_names_that_the_terminal_cannot_show(here: Path, name: str) -> None:
    try:
        Path("a.avatar").rename(name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    for coding in ("ascii", "utf-8"):
        environment = {**os.environ, "PYTHONIOENCODING": coding}
        done = process("info", name, "--json", capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.decode(coding))["avatar"] == name
        assert process("info", name, capture_output=True, env=environment).returncode == 0


def test_only_our_own_words_reach_the_terminal(here: Path) -> None:
    """MediaPipe talks to standard error below Python, at moments of its own choosing."""
    code = (
        "import os, headsplat.doctor as d; from headsplat.errors import HeadsplatError\n"
        "def talk(): os.write(2, b'W0000 chatter'); raise HeadsplatError('Ours.')\n"
        "d.examine = talk\n"
    )
    done = process("doctor", code=code, capture_output=True)
    assert (done.returncode, done.stderr) == (2, b"headsplat: Ours.\n")


def test_a_crash_below_python_is_still_seen(here: Path) -> None:
    code = "import faulthandler, headsplat.doctor as d; d.examine = faulthandler._sigabrt"
    done = process("doctor", code=code, capture_output=True)
    assert done.returncode < 0 and b"Abort" in done.stderr


def test_a_place_that_refuses_is_named_in_one_sentence(here: Path) -> None:
    """Whatever part of a verb meets the refusal; here it is the one that knows least about files."""
    done = process(
        "doctor",
        code="import headsplat.doctor as d; d.examine = lambda: open('none/such')",
        capture_output=True,
    )
    assert done.returncode == 2
    assert b"none/such" in done.stderr and b"Traceback" not in done.stderr


def test_a_missing_system_library_is_named(here: Path) -> None:
    code = (
        "import headsplat.doctor as d\n"
        "def examine(): raise ImportError('libGL.so.1: cannot open shared object file: No such file')\n"
        "d.examine = examine"
    )
    done = process("doctor", code=code, capture_output=True)
    assert done.returncode == 2
    assert b"apt install libgl1" in done.stderr and done.stderr.count(b"\n") == 1


def test_too_little_memory_is_said(here: Path) -> None:
    code = "import headsplat.doctor as d; d.examine = lambda: bytearray(1 << 62)"
    done = process("doctor", code=code, capture_output=True)
    assert done.returncode == 2 and b"memory" in done.stderr and b"Traceback" not in done.stderr
