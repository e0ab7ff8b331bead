"""Pages for this machine only: bound to 127.0.0.1, opened by a secret address, deaf to every other site."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence
from typing import Any

from headsplat.errors import HeadsplatError

HOST = "127.0.0.1"
# Workers come from blobs, and the webcam's face tracker compiles WebAssembly; the tracker itself comes from a
# public CDN once the page has asked. Nothing else may come from, or go, anywhere.
_TRACKER = "https://cdn.jsdelivr.net/npm/@mediapipe/"
_CONTENT_POLICY = (
    f"default-src 'self' blob: data:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval' {_TRACKER};"
    f" style-src 'self' 'unsafe-inline'; connect-src 'self' blob: data: {_TRACKER}; object-src 'none';"
    " base-uri 'none'; frame-ancestors 'self'; form-action 'none'"
)
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": _CONTENT_POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the address is the key: never tell it to another site
    "x-content-type-options": "nosniff",
}

App = Callable[..., Any]  # an ASGI application


def local_app(routes: Sequence[Any], token: str, port: int, lifespan: Any = None) -> App:
    """An ASGI app with `routes` under `/<token>/` that answers only this machine's own browser.

    Requests with another Host (DNS rebinding), another Origin (a foreign page) or without the token get one
    sentence and status 403, websockets are closed; all answers carry headers that keep the page to itself.

    Args:
        routes: Starlette routes, relative to the token.
        token: the secret in the address.
        port: the port that the browser uses.
        lifespan: Starlette lifespan context, or None.
    """
    from starlette.applications import Starlette
    from starlette.routing import Mount

    inner = Starlette(routes=[Mount(f"/{token}", routes=list(routes))], lifespan=lifespan)
    hosts = {f"{HOST}:{port}".encode(), f"localhost:{port}".encode()}
    origins = {b"http://" + host for host in hosts}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await inner(scope, receive, send)
            return
        headers, key = dict(scope["headers"]), scope["path"].removeprefix("/").split("/")[0]
        refusal = None
        if headers.get(b"host") not in hosts:
            refusal = f"This page answers only at http://{HOST}:{port}."
        elif headers.get(b"origin") not in {None, *origins}:
            refusal = "Another site tried to use this page, which answers only itself."
        elif not secrets.compare_digest(key.encode(), token.encode()):
            refusal = "The address lacks the right key; use the link that headsplat printed."
        if refusal is None:
            await inner(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _sentence(_with_headers(send), 403, refusal)

    return app


def _with_headers(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sending


async def _sentence(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def serve(build: Callable[[str, int], App], *, port: int, open_browser: bool, title: str) -> None:
    """Run a local app until Ctrl-C, and print the address that opens it.

    Args:
        build: makes the app from (token, port).
        port: 0 = any free port.
        open_browser: open the page in the default browser.
        title: what runs, for the line that is printed.

    Raises:
        HeadsplatError: the port is taken, or the web packages are not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise HeadsplatError('The local page needs the web packages: pip install "headsplat[web]".') from None
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # now, so that a browser that is quicker than the server waits
    except OSError as error:
        listener.close()
        raise HeadsplatError(
            f"Port {port} is not free ({error.strerror}); choose another with --port."
        ) from error
    port, token = listener.getsockname()[1], secrets.token_urlsafe(24)
    address = f"http://{HOST}:{port}/{token}/"
    print(f"{title} at {address}\nIt answers only this machine; Ctrl-C stops it.", flush=True)
    config = uvicorn.Config(
        build(token, port), log_level="warning", ws_max_size=1 << 16, timeout_graceful_shutdown=2
    )
    if open_browser:
        webbrowser.open(address)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
