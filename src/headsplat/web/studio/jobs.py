"""The studio's work: one avatar after the other, each made by a process of its own that can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headsplat.files import writing
from headsplat.web.studio.uploads import Refused, Upload, restore_upload

State = Literal["queued", "running", "done", "failed", "cancelled"]
DOWNLOADS = (".avatar", ".html", ".mp4", ".ply", ".spz", ".glb", ".mesh.glb")
MAX_JOBS = 50
MAX_REFINE = 400
WORKER = (sys.executable, "-m", "headsplat.web.studio.worker")
_KILL_AFTER = 3.0


@dataclass
class Job:
    """One avatar in the making.

    Attributes:
        id: random hex, also the name of its folder.
        name: for display.
        uploads: what it is made from.
        gaussians: "5k", "20k" or "80k".
        refine: steps of refinement wanted.
        face: which face of several, from the left; None = the only one.
        folder: holds `avatar.avatar`, `poster.jpg` and exports once they exist.
        state: see `State`; a job keeps its last avatar while it is refined.
        stage: what it does now, for display.
        progress: 0..1.
        message: one sentence when it failed.
        figures: what the reconstruction measured.
        version: grows with each new avatar, so that the page knows to load it again.
        created: Unix seconds.
    """

    id: str
    name: str
    uploads: list[Upload]
    gaussians: str
    refine: int
    face: int | None
    folder: Path
    state: State = "queued"
    stage: str = "waiting"
    progress: float = 0.0
    message: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    created: float = field(default_factory=time.time)

    @property
    def avatar(self) -> Path:
        """Where its avatar is or will be."""
        return self.folder / "avatar.avatar"

    def public(self) -> dict[str, Any]:
        """What the page may know: no paths."""
        keys = (
            "id",
            "name",
            "gaussians",
            "refine",
            "face",
            "state",
            "stage",
            "progress",
            "message",
            "figures",
            "version",
        )
        shown = {key: getattr(self, key) for key in keys}
        return {**shown, "created": self.created, "photos": [u.id for u in self.uploads if u.preview]}

    def save(self) -> None:
        """Write what the job is to its folder, so that a studio started there again knows it."""
        kept = ("name", "gaussians", "refine", "face", "state", "message", "figures", "version", "created")
        uploads = [{"id": u.id, "name": u.name, "kind": u.kind} for u in self.uploads]
        record = {key: getattr(self, key) for key in kept} | {"uploads": uploads}
        with writing(self.folder / "job.json") as temporary:
            temporary.write_text(json.dumps(record))

    @staticmethod
    def restore(folder: Path, uploads: Path) -> Job | None:
        """The job that lies in `folder`, its uploads in `uploads`; None if there is none or it is damaged."""
        try:
            record = json.loads((folder / "job.json").read_text())
            files = [restore_upload(uploads, **upload) for upload in record.pop("uploads")]
            job = Job(id=folder.name, uploads=files, folder=folder, **record)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        if job.state in {"queued", "running"}:
            job.state = "cancelled"
        job.progress = 1.0 if job.state == "done" else 0.0
        return job


class Jobs:
    """All jobs of a studio, and the task that works through the queue."""

    def __init__(self, folder: Path, uploads: Path, worker: Sequence[str] = WORKER) -> None:
        self._folder = folder
        self._worker = worker
        found = (Job.restore(path, uploads) for path in sorted(folder.iterdir()))
        self._jobs: dict[str, Job] = {job.id: job for job in found if job is not None}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._running: str | None = None
        self._exports = asyncio.Lock()

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        return sorted(self._jobs.values(), key=lambda job: -job.created)

    def get(self, identifier: str) -> Job:
        """The job with this id.

        Raises:
            Refused: there is none.
        """
        if identifier not in self._jobs:
            raise Refused(404, "There is no such avatar; it may have been deleted.")
        return self._jobs[identifier]

    def add(self, uploads: list[Upload], gaussians: str, refine: int, face: int | None) -> Job:
        """Queue a new avatar.

        Raises:
            Refused: too many avatars are kept already.
        """
        if len(self._jobs) >= MAX_JOBS:
            raise Refused(507, f"The studio keeps at most {MAX_JOBS} avatars; delete one first.")
        identifier = secrets.token_hex(8)
        folder = self._folder / identifier
        folder.mkdir()
        name = uploads[0].name.rsplit(".", 1)[0]
        job = Job(identifier, name, uploads, gaussians, refine, face, folder)
        self._jobs[identifier] = job
        job.save()
        self._queue.put_nowait(identifier)
        return job

    def again(self, identifier: str, refine: int, face: int | None) -> Job:
        """Queue a finished, failed or cancelled job once more, with `refine` steps on face `face`.

        Raises:
            Refused: no such job, or it is in the queue already.
        """
        job = self.get(identifier)
        if job.state in {"queued", "running"}:
            raise Refused(409, "This avatar is being worked on; wait for it or cancel it first.")
        job.state, job.stage, job.progress, job.message, job.refine = "queued", "waiting", 0.0, "", refine
        job.face = face
        self._queue.put_nowait(identifier)
        return job

    async def cancel(self, identifier: str) -> Job:
        """Stop a job; an avatar it had before stays.

        Raises:
            Refused: no such job.
        """
        job = self.get(identifier)
        if job.state in {"queued", "running"}:
            job.state, job.stage = "cancelled", "cancelled"
            job.save()
            if self._running == identifier:
                await _stop(self._process)
        return job

    async def delete(self, identifier: str) -> None:
        """Cancel a job and remove it, its uploads and everything made from them.

        Raises:
            Refused: no such job.
        """
        job = await self.cancel(identifier)
        del self._jobs[identifier]
        for upload in job.uploads:
            upload.delete()
        await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)

    async def export(self, identifier: str, suffix: str) -> Path:
        """The file to download, made on first request.

        Raises:
            Refused: no such job or format, no avatar yet, or the export failed.
        """
        job = self.get(identifier)
        if suffix not in DOWNLOADS:
            raise Refused(404, f"There is no such download; choose one of {', '.join(DOWNLOADS)}.")
        if not job.avatar.exists():
            raise Refused(409, "This avatar is not ready yet; wait until it is.")
        if suffix == ".avatar":
            return job.avatar
        path = job.folder / f"export-{job.version}{suffix}"
        async with self._exports:
            if not path.exists():
                process = await self._spawn({"task": "export", "avatar": str(job.avatar), "out": str(path)})
                try:
                    error = await self._follow(process, None)
                finally:
                    await _stop(process)
                if error:
                    raise Refused(500, error)
        return path

    async def work(self) -> None:
        """Make queued avatars one by one until cancelled; start it once, as a task."""
        while True:
            job = self._jobs.get(await self._queue.get())
            if job is None or job.state != "queued":
                continue
            try:
                await self._make(job)
            except Exception as error:  # a full disk, say; whatever it was, the next avatar must be made
                job.state, job.stage = "failed", "failed"
                job.message = f"The avatar could not be kept ({error}); check the disk and try again."

    async def _make(self, job: Job) -> None:
        job.state, job.stage, self._running = "running", "starting", job.id
        fresh = job.folder / "fresh.avatar"
        request = {
            "task": "create",
            "photos": [str(upload.path) for upload in job.uploads if upload.kind == "photo"],
            "clips": [str(upload.path) for upload in job.uploads if upload.kind == "clip"],
            "gaussians": job.gaussians,
            "refine": job.refine,
            "face": job.face,
            "out": str(fresh),
            "poster": str(job.folder / "poster.jpg"),
        }
        try:
            self._process = await self._spawn(request)
            error = await self._follow(self._process, job)
        finally:
            await _stop(self._process)  # still running only if the studio is being closed
            self._process = self._running = None
        if job.state != "running":  # cancelled, and perhaps in the queue again since
            fresh.unlink(missing_ok=True)
        elif error:
            job.state, job.message = "failed", error
        else:
            os.replace(fresh, job.avatar)
            for stale in job.folder.glob("export-*"):
                stale.unlink()
            job.state, job.stage, job.progress, job.version = "done", "done", 1.0, job.version + 1
        if job.id in self._jobs:
            job.save()

    async def _spawn(self, request: dict[str, Any]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._worker,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the studio, which then ends its worker
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        process.stdin.close()
        return process

    async def _follow(self, process: asyncio.subprocess.Process, job: Job | None) -> str:
        """Read a worker's lines until it ends; return its error sentence, or "" when all went well."""
        assert process.stdout is not None
        error = "The work stopped unexpectedly; the file may be damaged or the memory too small."
        async for line in process.stdout:
            try:
                report = json.loads(line)
            except ValueError:
                continue  # some library printed to stdout
            if not isinstance(report, dict):
                continue
            if "error" in report:
                error = str(report["error"])
            if job is not None and "stage" in report:
                job.stage, job.progress = str(report["stage"]), float(report["progress"])
            if "done" in report:
                error = ""
                if job is not None:
                    job.figures = report["done"]
        await process.wait()
        return error


async def _stop(process: asyncio.subprocess.Process | None) -> None:
    """End a worker: politely, then not."""
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _KILL_AFTER)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
