"""`headsplat view`: one avatar, live in the browser, optionally driven by an iPhone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headsplat.avatar_file import load_avatar
from headsplat.web.live_link import PORT, LiveLinkFrame, listen
from headsplat.web.server import App, local_app, serve

_WEB = Path(__file__).parent
_BACKLOG = 2


def view(
    avatar: Path, port: int = 0, live_link: bool = False, live_link_port: int = PORT, browser: bool = True
) -> None:
    """Show an avatar live in the browser: orbit, sliders, takes, webcam.

    Args:
        avatar: the .avatar file.
        port: local port; 0 = any free one.
        live_link: let the Live Link Face app on an iPhone drive it, by UDP to any address of this machine.
        live_link_port: the UDP port set in the app.
        browser: open the page in the default browser.

    Raises:
        HeadsplatError: the avatar cannot be read, a port is taken, or the web packages are not installed.
    """
    # A damaged file is refused here, in words, and not in the browser.
    load_avatar(avatar).need_rig("a page in a browser")
    udp_port = live_link_port if live_link else None
    title = f"{avatar.name}, waiting for Live Link Face on UDP port {udp_port}," if live_link else avatar.name
    serve(
        lambda token, port: view_app(avatar, token, port, udp_port),
        port=port,
        open_browser=browser,
        title=title,
    )


def view_app(avatar: Path, token: str, port: int, live_link_port: int | None = None) -> App:
    """The viewer as an ASGI application that answers only `127.0.0.1:port/<token>/`.

    Args:
        avatar: the .avatar file.
        token: the secret in the address.
        port: the port that the browser uses.
        live_link_port: UDP port to hear an iPhone on, or None.
    """
    from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles
    from starlette.websockets import WebSocket, WebSocketDisconnect

    listeners: set[asyncio.Queue[str]] = set()

    def on_frame(frame: LiveLinkFrame) -> None:
        text = json.dumps(asdict(frame))
        for queue in listeners:
            if queue.full():
                queue.get_nowait()  # a slow page gets the newest face, not a growing delay
            queue.put_nowait(text)

    async def start(request: Any) -> Response:
        return RedirectResponse(f"page/index.html?src=../avatar/{quote(avatar.name)}")

    async def page(request: Any) -> Response:
        text = (_WEB / "page" / "index.html").read_text("utf-8")
        if live_link_port is not None:
            text = text.replace(
                "</body>", '<script type="module" src="../live-link/live-link.js"></script></body>'
            )
        return HTMLResponse(text)

    async def file(request: Any) -> Response:
        return FileResponse(avatar, media_type="application/octet-stream")

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue(_BACKLOG)
        listeners.add(queue)
        gone = asyncio.create_task(socket.receive())
        try:
            while not gone.done():
                news = asyncio.create_task(queue.get())
                await asyncio.wait({news, gone}, return_when=asyncio.FIRST_COMPLETED)
                if news.done():
                    await socket.send_text(news.result())
                else:
                    news.cancel()
        except WebSocketDisconnect:
            pass
        finally:
            gone.cancel()
            listeners.discard(queue)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        transport = None if live_link_port is None else await listen(on_frame, port=live_link_port)
        yield
        if transport is not None:
            transport.close()

    routes = [
        Route("/", start),
        Route("/page/index.html", page),
        Route("/avatar/{name}", file),
        WebSocketRoute("/live", live),
        Mount("/page", StaticFiles(directory=_WEB / "page")),
        Mount("/player", StaticFiles(directory=_WEB / "player")),
        Mount("/live-link", StaticFiles(directory=_WEB / "live")),
    ]
    return local_app(routes, token, port, lifespan)
