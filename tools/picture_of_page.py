"""Take a picture of an exported page in headless Chromium: `picture_of_page.py me.html me.png`."""

from __future__ import annotations

import shutil
from pathlib import Path

import tyro

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def main(
    page: tyro.conf.Positional[Path],
    picture: tyro.conf.Positional[Path],
    width: int = 1280,
    height: int = 800,
    take: str = "hello",
    second: float = 1.6,
    panel: bool = True,
) -> None:
    """Open the page, hold a moment of a take, and save what is seen.

    Args:
        page: a file from `headsplat export me.avatar me.html`.
        picture: the `.png` to write.
        width: pixels of the window.
        height: pixels of the window.
        take: the built-in take to show.
        second: the moment of it.
        panel: with the sliders open.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        window = browser.new_page(viewport={"width": width, "height": height})
        window.goto(f"{page.resolve().as_uri()}?sharp")
        window.wait_for_function("() => window.player?.order.length > 0", timeout=60_000)
        window.evaluate("() => { player.idle = null; player.lookAt('camera'); }")
        if panel:
            window.click("#sliders")
        window.click(f"[data-take={take}]")
        window.evaluate("(t) => { player.playback.paused = true; player.playback.seek(t); }", second)
        window.wait_for_timeout(2500)  # the gaze settles
        window.evaluate("() => player.settle()")
        window.wait_for_timeout(1000)
        window.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    tyro.cli(main)
