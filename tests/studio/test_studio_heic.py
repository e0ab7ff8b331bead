"""Photos of iphones, whose files begin like a film's, are photos; damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HEIC = Path(__file__).resolve().parent.parent / "golden" / "pictures" / "astronaut.heic"


def test_a_photo_of_an_iphone_is_a_photo(client: Any, send: Callable[..., Any]) -> None:
    pytest.importorskip("pi_heif")
    answer = send(HEIC.read_bytes(), "IMG_0001.HEIC")
    assert answer.status_code == 201 and answer.json()["kind"] == "photo"
    assert client.get(f"api/uploads/{answer.json()['id']}").content.startswith(b"\xff\xd8\xff")


def test_a_damaged_one_is_refused(client: Any, send: Callable[..., Any], folder: Path) -> None:
    for data in (HEIC.read_bytes()[:400], b"\0\0\0\x1cftypheic" + bytes(300)):
        answer = send(data, "IMG_0001.HEIC")
        assert answer.status_code == 415 and answer.text.endswith(".")
    assert not list((folder / "uploads").iterdir())
