"""The queue: jobs in order, progress, cancelling, refining, downloads, and nothing left after deleting."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from studio_helpers import BASE, TOKEN, png

from headsplat.avatar_file import load_avatar


def test_a_photo_becomes_an_avatar(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict], tmp_path
) -> None:
    job = wait(create(gaussians="20k")["id"], "done", "failed")
    assert (job["state"], job["version"], job["progress"]) == ("done", 1, 1.0)
    assert job["figures"] == {"gaussians": 60}
    assert job["gaussians"] == "20k"
    answer = client.get(f"api/jobs/{job['id']}/avatar.avatar")
    assert 'filename="me.avatar"' in answer.headers["content-disposition"]
    (tmp_path / "got.avatar").write_bytes(answer.content)
    assert len(load_avatar(tmp_path / "got.avatar")) == 60
    assert client.get(f"api/jobs/{job['id']}/poster.jpg").content == b"poster"
    preview = client.get(f"api/uploads/{job['photos'][0]}")
    assert preview.content.startswith(b"\xff\xd8\xff")


def test_jobs_wait_for_each_other_and_survive_a_reload(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict]
) -> None:
    slow, next_one = create(refine=15), create()
    running = wait(slow["id"], "running")
    assert wait(next_one["id"], "queued")["stage"] == "waiting"
    while running["stage"] != "fitting":
        running = wait(slow["id"], "running")
    assert running["progress"] == 0.3
    # A reloaded page asks anew, and sees both, newest first.
    assert [job["id"] for job in client.get("api/jobs").json()] == [next_one["id"], slow["id"]]
    begin = time.monotonic()
    assert client.post(f"api/jobs/{slow['id']}/cancel").json()["state"] == "cancelled"
    assert wait(next_one["id"], "done")["version"] == 1
    assert time.monotonic() - begin < 30  # not the minute that the cancelled one would have slept
    assert wait(slow["id"], "cancelled")["version"] == 0


def test_a_waiting_job_can_be_cancelled(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict]
) -> None:
    slow, waiting = create(refine=15), create()
    client.post(f"api/jobs/{waiting['id']}/cancel")
    client.post(f"api/jobs/{slow['id']}/cancel")
    third = create()
    assert wait(third["id"], "done")
    assert wait(waiting["id"], "cancelled")["version"] == 0


def test_failures_are_told_in_the_reconstructions_own_words(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict]
) -> None:
    assert wait(create(refine=13)["id"], "failed")["message"] == "No face was found; choose another photo."
    crashed = wait(create(refine=14)["id"], "failed")
    assert "stopped unexpectedly" in crashed["message"]
    early = client.get(f"api/jobs/{crashed['id']}/avatar.ply")
    assert early.status_code == 409 and "not ready" in early.text


def test_a_job_that_cannot_be_kept_does_not_stop_the_next(
    create: Callable[..., dict], wait: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headsplat.web.studio import jobs

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "os", SimpleNamespace(replace=full))
        failed = wait(create()["id"], "failed", "done")
    assert failed["state"] == "failed" and "No space left" in failed["message"]
    assert wait(create()["id"], "done")["version"] == 1


def test_a_cancelled_job_may_be_queued_again_before_its_work_has_ended(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict]
) -> None:
    job = create(refine=15)
    while wait(job["id"], "running")["stage"] != "fitting":
        pass
    client.post(f"api/jobs/{job['id']}/cancel")
    client.post(f"api/jobs/{job['id']}/refine", json={"refine": 100})
    assert wait(job["id"], "done", "failed")["version"] == 1


def test_refining_keeps_the_avatar_until_the_better_one_is_there(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict]
) -> None:
    job = wait(create()["id"], "done")
    old = client.get(f"api/jobs/{job['id']}/avatar.ply")
    assert old.content == b"exported ply"
    client.post(f"api/jobs/{job['id']}/refine", json={"refine": 15})
    wait(job["id"], "running")
    assert client.get(f"api/jobs/{job['id']}/avatar.avatar").status_code == 200
    assert client.post(f"api/jobs/{job['id']}/refine", json={}).status_code == 409
    client.post(f"api/jobs/{job['id']}/cancel")
    assert wait(job["id"], "cancelled")["version"] == 1
    client.post(f"api/jobs/{job['id']}/refine", json={"refine": 100})
    assert wait(job["id"], "done")["version"] == 2


def test_deleting_removes_photo_avatar_and_exports(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict], folder: Path
) -> None:
    job = wait(create()["id"], "done")
    for suffix in ("html", "mp4", "ply", "spz", "glb", "mesh.glb"):
        content = client.get(f"api/jobs/{job['id']}/avatar.{suffix}").content
        assert content == b"exported " + suffix.rsplit(".", 1)[-1].encode()
    assert client.get(f"api/jobs/{job['id']}/avatar.exe").status_code == 404
    assert [path for path in folder.rglob("*") if path.is_file()]
    assert client.delete(f"api/jobs/{job['id']}").status_code == 204
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert client.get("api/jobs").json() == []
    assert client.delete(f"api/jobs/{job['id']}").status_code == 404


def test_deleting_a_running_job_stops_it(
    client: Any, create: Callable[..., dict], wait: Callable[..., dict], folder: Path
) -> None:
    job = create(refine=15)
    wait(job["id"], "running")
    assert client.delete(f"api/jobs/{job['id']}").status_code == 204
    assert wait(create()["id"], "done")
    assert not (folder / "jobs" / job["id"]).exists()


def test_a_studio_started_again_in_its_folder_knows_its_avatars(
    create: Callable[..., dict], wait: Callable[..., dict], folder: Path
) -> None:
    from headsplat.web.studio.jobs import Jobs

    job = wait(create()["id"], "done")
    unfinished = create(refine=15)
    wait(unfinished["id"], "running")
    (folder / "jobs" / "damaged").mkdir()
    (folder / "jobs" / "damaged" / "job.json").write_text("{")
    restored = {found.id: found for found in Jobs(folder / "jobs", folder / "uploads").list()}
    assert set(restored) == {job["id"], unfinished["id"]}
    assert restored[unfinished["id"]].state == "cancelled"
    again = restored[job["id"]]
    assert again.public() | {"stage": "done"} == job
    assert again.avatar.exists() and again.uploads[0].path.exists()


def test_a_folder_with_other_things_in_it_keeps_them(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    from headsplat.web.studio.app import studio_app

    folder = tmp_path / "mine"
    (folder / "uploads" / "album").mkdir(parents=True)
    (folder / "uploads" / "wedding.jpg").write_bytes(b"dear to somebody")
    forgotten = folder / "uploads" / "0123456789abcdef"
    forgotten.write_bytes(b"dropped, but no avatar was made of it")
    (folder / "jobs" / "x").mkdir(parents=True)
    uploads = [{"id": "../../outside", "name": "a", "kind": "clip"}]
    (folder / "jobs" / "x" / "job.json").write_text(json.dumps({"name": "a", "uploads": uploads}))
    studio_app(folder, TOKEN, 8123)
    assert (folder / "uploads" / "wedding.jpg").exists() and (folder / "uploads" / "album").is_dir()
    assert not forgotten.exists()


def test_closing_the_studio_ends_the_work(app: Any, folder: Path) -> None:
    from starlette.testclient import TestClient

    with TestClient(app, base_url=f"{BASE}/{TOKEN}") as client:
        upload = client.post("api/uploads?name=me.png", content=png()).json()["id"]
        job = client.post("api/jobs", json={"uploads": [upload], "refine": 15}).json()
        while client.get("api/jobs").json()[0]["stage"] != "fitting":
            time.sleep(0.02)
    pid = int((folder / "jobs" / job["id"] / "poster.jpg.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_several_photos_make_one_avatar(
    client: Any, send: Callable[..., Any], wait: Callable[..., dict]
) -> None:
    ids = [send(png(), f"{i}.png").json()["id"] for i in range(3)]
    job = client.post("api/jobs", json={"uploads": ids, "refine": 0}).json()
    assert job["name"] == "0"
    assert wait(job["id"], "done")["photos"] == ids


def test_clips_are_known_by_their_bytes(send: Callable[..., Any]) -> None:
    assert send(bytes(4) + b"ftypisom" + bytes(50), "clip.jpg").json()["kind"] == "clip"
    assert send(b"\x1aE\xdf\xa3" + bytes(50), "clip").json()["kind"] == "clip"


def test_a_taken_port_is_told_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from headsplat.errors import HeadsplatError
    from headsplat.web.studio import studio

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(HeadsplatError, match="not free"):
            studio(port=other.getsockname()[1], browser=False)
    assert not list(tmp_path.iterdir())
