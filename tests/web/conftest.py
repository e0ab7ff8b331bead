"""A headless Chromium, a server for the player's files, and pages to run JavaScript in."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from synthetic_head import synthetic_head

from browsers import browsers
from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar

WEB = Path(__file__).parents[2] / "src" / "headsplat" / "web"


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Any]]:
    """Start a headless browser with extra flags."""
    with browsers() as start:
        yield start


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    """One browser for all tests."""
    browser = launch()
    yield browser
    browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
    }

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a local server; `/web` in it is the package's web folder."""
    folder = tmp_path_factory.mktemp("site")
    os.symlink(WEB, folder / "web")
    (folder / "blank.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>test</title><body></body>'
    )
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()


@pytest.fixture(scope="session")
def avatar_path(site: tuple[str, Path]) -> Path:
    """The synthetic head as a file on the server."""
    path = site[1] / "head.avatar"
    save_avatar(synthetic_head(), path)
    return path


@pytest.fixture(scope="session")
def avatar(avatar_path: Path) -> Avatar:
    """The synthetic head as Python reads it back: what the browser must agree with."""
    return load_avatar(avatar_path)


@pytest.fixture
def page(browser: Any, site: tuple[str, Path]) -> Iterator[Any]:
    """A blank page on the server; any uncaught error in it fails the test."""
    page = browser.new_page(viewport={"width": 320, "height": 320})
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site[0] + "/blank.html")
    yield page
    page.close()
    assert not errors, errors


@pytest.fixture
def player_page(page: Any, avatar_path: Path) -> Any:
    """A page with the synthetic head in `window.player`, still (no idle life), on a 192 × 160 canvas."""
    page.evaluate(
        """async () => {
          const { Player } = await import("/web/player/player.js");
          const canvas = document.body.appendChild(document.createElement("canvas"));
          Object.assign(canvas, { width: 192, height: 160 }).style.cssText = "width:192px;height:160px";
          window.player = await Player.create(canvas, "/head.avatar", { idle: false });
        }"""
    )
    return page
