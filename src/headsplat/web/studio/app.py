"""The studio's routes: uploads, jobs, downloads, and the page that uses them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from headsplat.web.server import App, local_app
from headsplat.web.studio.jobs import MAX_REFINE, WORKER, Jobs
from headsplat.web.studio.uploads import Refused, Upload, is_upload, receive_upload

PAGE = Path(__file__).parent / "page"
WEB = Path(__file__).parents[1]
MAX_UPLOADS_PER_JOB = 12
_MAX_REQUEST = 16 << 10
_SIZES = ("5k", "20k", "80k")

Handler = Callable[[Request], Awaitable[Response]]


def studio_app(folder: Path, token: str, port: int, worker: Sequence[str] = WORKER) -> App:
    """The studio as an ASGI application that answers only `127.0.0.1:port/<token>/`.

    Args:
        folder: where uploads and avatars are kept.
        token: the secret in the address.
        port: the port that the browser uses.
        worker: the command that does one piece of work; see `worker.py`.
    """
    uploads_folder, jobs_folder = folder / "uploads", folder / "jobs"
    uploads_folder.mkdir(parents=True, exist_ok=True)
    jobs_folder.mkdir(exist_ok=True)
    jobs = Jobs(jobs_folder, uploads_folder, worker)
    uploads: dict[str, Upload] = {upload.id: upload for job in jobs.list() for upload in job.uploads}
    for path in uploads_folder.iterdir():
        if is_upload(path.name) and path.stem not in uploads:
            path.unlink()  # dropped once, but no avatar was made of it

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def upload(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if length and not length.isdecimal():
            raise Refused(400, "The upload's length is not a number.")
        new = await receive_upload(
            uploads_folder,
            request.query_params.get("name", ""),
            int(length) if length else None,
            request.stream(),
        )
        uploads[new.id] = new
        return JSONResponse({"id": new.id, "name": new.name, "kind": new.kind}, 201)

    async def preview(request: Request) -> Response:
        found = uploads.get(request.path_params["id"])
        if found is None or found.preview is None or not found.preview.exists():
            raise Refused(404, "There is no such photo; it may have been deleted.")
        return FileResponse(found.preview)

    async def discard(request: Request) -> Response:
        found = uploads.pop(request.path_params["id"], None)
        if found is not None:
            found.delete()
        return Response(status_code=204)

    async def list_jobs(request: Request) -> Response:
        return JSONResponse([job.public() for job in jobs.list()])

    async def create(request: Request) -> Response:
        body = await _json_object(request)
        wanted = body.get("uploads")
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= MAX_UPLOADS_PER_JOB:
            raise Refused(400, f"An avatar needs 1 to {MAX_UPLOADS_PER_JOB} uploads.")
        if not all(isinstance(key, str) and key in uploads for key in wanted):
            raise Refused(404, "There is no such upload; drop the photo again.")
        size = body.get("gaussians", "80k")
        if size not in _SIZES:
            raise Refused(400, f"The number of Gaussians must be one of {', '.join(_SIZES)}.")
        job = jobs.add([uploads[key] for key in wanted], size, _refine_steps(body, 80), _face(body))
        return JSONResponse(job.public(), 201)

    async def refine(request: Request) -> Response:
        body = await _json_object(request)
        job = jobs.again(request.path_params["id"], _refine_steps(body, 120), _face(body))
        return JSONResponse(job.public())

    async def cancel(request: Request) -> Response:
        return JSONResponse((await jobs.cancel(request.path_params["id"])).public())

    async def delete(request: Request) -> Response:
        job = jobs.get(request.path_params["id"])
        await jobs.delete(job.id)
        for gone in job.uploads:
            uploads.pop(gone.id, None)
        return Response(status_code=204)

    async def poster(request: Request) -> Response:
        path = jobs.get(request.path_params["id"]).folder / "poster.jpg"
        if not path.exists():
            raise Refused(404, "There is no picture of this avatar yet.")
        return FileResponse(path)

    async def shown(request: Request) -> Response:
        path = await jobs.export(request.path_params["id"], ".avatar")
        return FileResponse(path, media_type="application/octet-stream")

    async def download(request: Request) -> Response:
        suffix = "." + request.path_params["suffix"]
        job = jobs.get(request.path_params["id"])
        path = await jobs.export(job.id, suffix)
        media = {".html": "text/html", ".mp4": "video/mp4", ".glb": "model/gltf-binary"}.get(suffix)
        return FileResponse(
            path, filename=f"{job.name}{suffix}", media_type=media or "application/octet-stream"
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        worker = asyncio.create_task(jobs.work())
        yield
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker

    routes = [
        Route("/", page),
        Route("/api/uploads", _plainly(upload), methods=["POST"]),
        Route("/api/uploads/{id}", _plainly(preview)),
        Route("/api/uploads/{id}", _plainly(discard), methods=["DELETE"]),
        Route("/api/jobs", _plainly(list_jobs)),
        Route("/api/jobs", _plainly(create), methods=["POST"]),
        Route("/api/jobs/{id}", _plainly(delete), methods=["DELETE"]),
        Route("/api/jobs/{id}/refine", _plainly(refine), methods=["POST"]),
        Route("/api/jobs/{id}/cancel", _plainly(cancel), methods=["POST"]),
        Route("/api/jobs/{id}/poster.jpg", _plainly(poster)),
        Route("/api/jobs/{id}/avatar.{suffix}", _plainly(download)),
        Route("/api/jobs/{id}/view/{version}/{name}", _plainly(shown)),
        Mount("/studio", StaticFiles(directory=PAGE)),
        Mount("/page", StaticFiles(directory=WEB / "page")),
        Mount("/player", StaticFiles(directory=WEB / "player")),
    ]
    return local_app(routes, token, port, lifespan)


def _plainly(handler: Handler) -> Handler:
    """Answer refusals as one sentence of plain text."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refusal:
            return PlainTextResponse(str(refusal), refusal.status)

    return answer


async def _json_object(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_REQUEST:
            raise Refused(413, "The request is too long.")
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refused(400, "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise Refused(400, "The request is not a JSON object.")
    return value


def _refine_steps(body: dict[str, Any], default: int) -> int:
    steps = body.get("refine", default)
    if not isinstance(steps, int) or isinstance(steps, bool) or not 0 <= steps <= MAX_REFINE:
        raise Refused(400, f"The refinement must be a whole number from 0 to {MAX_REFINE}.")
    return steps


def _face(body: dict[str, Any]) -> int | None:
    face = body.get("face")
    if face is not None and (not isinstance(face, int) or isinstance(face, bool) or not 1 <= face <= 20):
        raise Refused(400, "The face must be a number from 1, counted from the left.")
    return face
