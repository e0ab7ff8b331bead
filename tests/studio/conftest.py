"""A studio with a quick stand-in for the reconstruction, and a client that knows its address."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_helpers import BASE, PORT, STAND_IN, TOKEN, png

from headsplat.avatar_file import save_avatar
from synthetic import make_avatar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "studio"


@pytest.fixture
def app(folder: Path, tmp_path: Path) -> Any:
    pytest.importorskip("starlette")
    from headsplat.web.studio.app import studio_app

    save_avatar(make_avatar(60), tmp_path / "ready.avatar")
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return studio_app(folder, TOKEN, PORT, [sys.executable, str(script), str(tmp_path / "ready.avatar")])


@pytest.fixture
def client(app: Any) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient

    with TestClient(app, base_url=f"{BASE}/{TOKEN}") as client:
        yield client


@pytest.fixture
def send(client: Any) -> Callable[..., Any]:
    """Upload bytes under a name; returns the answer."""
    return lambda data, name="me.png", **more: client.post(
        "api/uploads", params={"name": name}, content=data, **more
    )


@pytest.fixture
def create(client: Any, send: Callable[..., Any]) -> Callable[..., dict]:
    """Upload one photo and queue an avatar of it; returns the job."""

    def make(**options: Any) -> dict:
        upload = send(png()).json()["id"]
        answer = client.post("api/jobs", json={"uploads": [upload], **options})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return make


@pytest.fixture
def wait(client: Any) -> Callable[..., dict]:
    """Poll until a job is in one of the states; returns the job."""

    def until(identifier: str, *states: str) -> dict:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            job = next(job for job in client.get("api/jobs").json() if job["id"] == identifier)
            if job["state"] in states:
                return job
            time.sleep(0.02)
        raise AssertionError(f"still {job['state']}, not {states}")

    return until
