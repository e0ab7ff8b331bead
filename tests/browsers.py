"""A headless Chromium for the tests that need a real browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--autoplay-policy=no-user-gesture-required",
]


def _chromium_path() -> str | None:
    """Where Debian's Chromium or Chrome is, if anywhere."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def browsers() -> Iterator[Callable[..., Any]]:
    """A function that starts a browser with extra flags: the system's Chromium, else Playwright's, else skip.

    While one such context is open in a thread, neither another nor `asyncio.run` works there.
    """
    module = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = _chromium_path()
    with module.sync_playwright() as driver:

        def start(*flags: str) -> Any:
            try:
                return driver.chromium.launch(executable_path=path, args=[*_FLAGS, *flags])
            except module.Error as error:
                if path is None:
                    pytest.skip(f"no Chromium: install it, or run `playwright install chromium` ({error})")
                raise

        yield start
