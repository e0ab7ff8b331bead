"""The pages as a person uses them, in a real browser."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_helpers import packet, running

from browsers import browsers
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.data.image import write_image
from synthetic import make_avatar


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsers() as start:
        browser = start()
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page whose uncaught errors, and requests to anywhere else, fail the test."""
    page = chromium.new_page(viewport={"width": 900, "height": 420})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda r: r.url.startswith(("http://127.0.0.1:", "blob:", "data:")) or wrong.append(r.url)
    )
    yield page
    page.close()
    assert not wrong, wrong


WEIGHTS = "() => globalThis.player?.avatar && player.getWeights({live: true})"


def test_the_view_shows_an_avatar_and_an_iphone_drives_it(page: Any, tmp_path: Path) -> None:
    from headsplat.web.view import view_app

    save_avatar(make_avatar(300), tmp_path / "my egg.avatar")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        udp = probe.getsockname()[1]
    with running(lambda token, port: view_app(tmp_path / "my egg.avatar", token, port, udp)) as address:
        page.goto(address)
        page.wait_for_function("globalThis.player?.avatar")
        assert page.inner_text("#title") == "my egg"
        page.evaluate("player.idle = null")
        done = threading.Event()

        def phone() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                while not done.is_set():
                    sender.sendto(packet({"jawOpen": 0.75}, head=(0.4, 0, 0)), ("127.0.0.1", udp))
                    time.sleep(0.05)

        thread = threading.Thread(target=phone)
        thread.start()
        try:
            page.wait_for_function(f"({WEIGHTS})().jawOpen > 0.74")
            turn = page.evaluate("player.liveRotations.head[1] + player.liveRotations.neck[1]")
            assert turn == pytest.approx(0.4, abs=0.01)
        finally:
            done.set()
            thread.join()
        page.wait_for_function(f"({WEIGHTS})().jawOpen < 0.01")  # the phone fell silent: back to rest


@pytest.mark.slow
def test_a_photo_dropped_in_the_studio_becomes_an_avatar_that_moves(page: Any, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    from skimage.data import astronaut

    from headsplat.web.studio.app import studio_app

    write_image(tmp_path / "Eileen.png", astronaut())
    (tmp_path / "essay.png").write_text("This is not a picture.")
    with running(lambda token, port: studio_app(tmp_path / "kept", token, port)) as address:
        page.goto(address)
        page.set_input_files("#files", str(tmp_path / "essay.png"))
        page.wait_for_selector("#toast.shown")
        assert page.inner_text("#toast").startswith("essay.png is neither a photo")

        page.check("input[value='5k']", force=True)
        page.check("input[name=refine][value='0']", force=True)
        page.set_input_files("#files", str(tmp_path / "Eileen.png"))
        page.wait_for_selector("#working:not([hidden])")
        page.reload()  # the job goes on, and the page finds it again
        page.wait_for_selector("#stage:not([hidden])", timeout=180_000)
        assert page.inner_text("#shelf b") == "Eileen"

        page.wait_for_function("() => document.getElementById('stage').contentWindow.player?.avatar")
        stage = next(frame for frame in page.frames if "/page/" in frame.url)
        moved = stage.evaluate(
            """async () => {
              player.idle = null;
              player.reset();
              const rest = (await player.still()).data.slice();
              player.setWeights({ jawOpen: 0.8 });
              const open = (await player.still()).data;
              let different = 0, seen = 0;
              for (let i = 3; i < rest.length; i += 4) {
                seen += rest[i] > 128;
                different += Math.abs(rest[i - 3] - open[i - 3]) > 40;
              }
              return { seen: seen / (rest.length / 4), different };
            }"""
        )
        assert moved["seen"] > 0.1  # a head fills a good part of the stage
        assert moved["different"] > 200  # and its mouth opened

        with page.expect_download() as waiting:
            page.click("[data-suffix=avatar]")
        waiting.value.save_as(tmp_path / "got.avatar")
        avatar = load_avatar(tmp_path / "got.avatar")
        assert avatar.method == "lift" and np.isfinite(avatar.gaussians.means).all()
        with page.expect_download(timeout=120_000) as waiting:
            page.click("[data-suffix=html]")
        assert waiting.value.suggested_filename == "Eileen.html"

        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#shelf [data-do=delete]")
        page.wait_for_selector("#start:not([hidden])")
        assert not [p for p in (tmp_path / "kept").rglob("*") if p.is_file()]
