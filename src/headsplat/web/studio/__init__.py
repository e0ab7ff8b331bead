"""The studio: a local page that turns dropped photos into avatars; everything stays on this machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from headsplat.web.server import App, serve


def studio(port: int = 0, folder: Path | None = None, browser: bool = True) -> None:
    """Open the studio: drop a photo, watch the avatar appear, drive it, download it.

    Args:
        port: local port; 0 = any free one.
        folder: keep uploads and avatars there; by default they are deleted when the studio stops.
        browser: open the page in the default browser.

    Raises:
        HeadsplatError: the port is taken, or the web packages are not installed.
    """
    kept = folder if folder is not None else Path(tempfile.mkdtemp(prefix="headsplat-studio-"))

    def build(token: str, port: int) -> App:
        from headsplat.web.studio.app import studio_app

        return studio_app(kept, token, port)

    try:
        serve(build, port=port, open_browser=browser, title="headsplat studio")
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
