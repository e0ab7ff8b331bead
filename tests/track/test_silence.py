"""While models load, neither C++ nor Python's loggers reach the terminal; before and after, all do."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from headsplat.track.detect import silence


def test_chatter_is_kept_off_and_our_words_are_not(capfd: pytest.CaptureFixture[str]) -> None:
    print("before", file=sys.stderr)
    with silence():
        os.write(2, b"chatter of C++\n")
        print("chatter of Python", file=sys.stderr)
        logging.lastResort.handle(logging.makeLogRecord({"msg": "chatter of a logger", "levelno": 40}))  # type: ignore[union-attr]
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "before\nafter\n"


def test_a_failure_in_silence_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), silence():
        raise ValueError
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
