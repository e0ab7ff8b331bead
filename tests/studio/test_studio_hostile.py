"""Files and requests that mean no good: each is refused in one sentence, and the studio lives on."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_helpers import BASE, PORT, TOKEN, png

from headsplat.web.studio import uploads as limits


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed_png(width: int, height: int) -> bytes:
    """A tiny file that claims to unpack to width x height pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def text_bomb_png() -> bytes:
    """A picture with a comment that unpacks to 100 MB."""
    good = png()
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 << 20), 9))
    return good[:33] + comment + good[33:]


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("face.png", bytes(50 << 20))
    return file.getvalue()


FILES: dict[str, tuple[bytes | Callable[[], bytes], int]] = {
    "empty": (b"", 400),
    "three bytes": (b"\xff\xd8\xff", 415),
    "text": (b"I am a picture, honestly." * 10, 415),
    "html": (b"<!doctype html><script>alert(1)</script>", 415),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', 415),
    "pdf": (b"%PDF-1.7\n" + bytes(100), 415),
    "program": (b"\x7fELF" + bytes(200), 415),
    "zip bomb": (zip_bomb, 415),
    "gzip bomb": (lambda: gzip.compress(bytes(30 << 20)), 415),
    "pickle": (b"\x80\x04\x95" + bytes(40), 415),
    "avatar": (struct.pack("<Q", 60) + b'{"__metadata__":{"format":"headsplat.avatar"}}' + bytes(60), 415),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(100), 415),
    "truncated png": (lambda: png()[:200], 415),
    "png header only": (b"\x89PNG\r\n\x1a\n" + bytes(8), 415),
    "jpeg of noise": (b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20, 415),
    "webp of nothing": (b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(100), 415),
    "tiff that points outside": (b"II*\0" + b"\xff\xff\xff\x7f" + bytes(100), 415),
    "200 megapixels": (lambda: claimed_png(20_000, 10_000), 413),
    "four gigapixels": (lambda: claimed_png(65_000, 65_000), 413),
    "ribbon": (lambda: claimed_png(60_000, 2), 415),
    "one pixel": (lambda: png(1, 1), 415),
    "comment bomb": (text_bomb_png, 415),
    "tar": (b"../../etc/passwd" + bytes(300), 415),
}


def assert_refused(answer: Any, status: int) -> None:
    """One sentence, the right status, nothing about our insides."""
    assert answer.status_code == status, answer.text
    assert answer.text.endswith(".") and "\n" not in answer.text and len(answer.text) < 300
    assert "Traceback" not in answer.text and "/tmp" not in answer.text


def assert_alive(client: Any, send: Callable[..., Any]) -> None:
    assert client.get("api/jobs").json() == []
    good = send(png())
    assert good.status_code == 201
    assert client.delete(f"api/uploads/{good.json()['id']}").status_code == 204


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_photo_or_clip(
    kind: str, client: Any, send: Callable[..., Any], folder: Path
) -> None:
    data, status = FILES[kind]
    assert_refused(send(data() if callable(data) else data), status)
    assert not list((folder / "uploads").iterdir())
    assert_alive(client, send)


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd", "..\\..\\boot.ini", "/etc/shadow", "C:\\me.png", "..", ".", "", "   ", "a\0b.png",
     "line\nbreak.png", "\x1b[31mred.png", "\u202egnp.exe", "x" * 300],
)  # fmt: skip
def test_names_that_are_paths_or_tricks(
    name: str, client: Any, send: Callable[..., Any], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert_refused(send(png(), name), 400)
    assert sorted(tmp_path.rglob("*")) == before
    assert_alive(client, send)


def test_a_body_over_the_limit_is_refused_without_an_announced_length(
    client: Any, send: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PHOTO_BYTES", 1 << 20)

    def long() -> Iterator[bytes]:
        yield png()
        for _ in range(20):
            yield bytes(1 << 17)

    assert_refused(send(long()), 413)
    assert not list((folder / "uploads").iterdir())
    assert_alive(client, send)


def test_an_announced_giant_is_refused_before_it_is_read(client: Any, send: Callable[..., Any]) -> None:
    assert_refused(send(png(), headers={"content-length": str(10**12)}), 413)
    assert_refused(send(png(), headers={"content-length": "many"}), 400)
    assert_alive(client, send)


def test_a_full_studio_takes_no_more(
    client: Any, send: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_STORED_BYTES", 1000)
    assert_refused(send(png()), 507)
    assert not list((folder / "uploads").iterdir())


@pytest.mark.parametrize("path", ["", "api/jobs", "studio/studio.js", "player/player.js"])
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "..", f"x/../{TOKEN}x"])
def test_without_the_token_nothing_is_shown(path: str, token: str, client: Any) -> None:
    assert_refused(client.get(f"{BASE}/{token}/{path}"), 403)


def test_a_path_that_is_none_is_refused() -> None:
    from headsplat.web.server import local_app

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "*", "headers": [(b"host", b"localhost:8123")]}
    asyncio.run(local_app([], TOKEN, PORT)(scope, None, send))
    assert sent[0]["status"] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:8123", ""]
)
def test_other_hosts_are_refused(host: str, client: Any, send: Callable[..., Any]) -> None:
    assert_refused(client.get("api/jobs", headers={"host": host}), 403)
    assert_refused(send(png(), headers={"host": host}), 403)
    assert client.get("api/jobs", headers={"host": "localhost:8123"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "file://"])
def test_other_origins_are_refused(origin: str, client: Any, send: Callable[..., Any]) -> None:
    assert_refused(send(png(), headers={"origin": origin}), 403)
    assert_refused(client.delete("api/jobs/0", headers={"origin": origin}), 403)
    assert send(png(), headers={"origin": BASE}).status_code == 201


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b'"upload"', 400),
        (b"[" * 10_000, 400),
        (b" " * 20_000, 413),
        (b'{"uploads": []}', 400),
        (b'{"uploads": "abc"}', 400),
        (b'{"uploads": [1]}', 404),
        (b'{"uploads": [["x"]]}', 404),
        (b'{"uploads": ["../../etc/passwd"]}', 404),
        (json.dumps({"uploads": ["0"] * 13}).encode(), 400),
    ],
)
def test_requests_for_jobs_that_make_no_sense(
    body: bytes, status: int, client: Any, send: Callable[..., Any]
) -> None:
    assert_refused(client.post("api/jobs", content=body), status)
    assert_alive(client, send)


@pytest.mark.parametrize(
    "options",
    [{"gaussians": "1b"}, {"gaussians": ["80k"]}, {"refine": -1}, {"refine": 10**9}, {"refine": 1.5},
     {"refine": "40; rm -rf /"}, {"refine": True}, {"refine": float("nan")}, {"face": 0}, {"face": "1"}],
)  # fmt: skip
def test_options_out_of_range(options: dict, client: Any, send: Callable[..., Any]) -> None:
    upload = send(png()).json()["id"]
    body = json.dumps({"uploads": [upload], **options}).encode()
    assert_refused(client.post("api/jobs", content=body), 400)
    assert client.get("api/jobs").json() == []


@pytest.mark.parametrize(
    "path",
    [
        "api/jobs/nothing/avatar.ply",
        "api/jobs/..%2f..%2fready/avatar.avatar",
        "api/uploads/..%2fready.avatar",
    ],
)
def test_ids_are_never_paths(path: str, client: Any) -> None:
    assert client.get(path).status_code == 404


def test_static_files_do_not_leave_their_folder(client: Any) -> None:
    for path in (
        "studio/../app.py",
        "studio/%2e%2e/app.py",
        "studio/..%2fapp.py",
        "player/..%2f..%2ferrors.py",
    ):
        assert client.get(path).status_code in (403, 404)


def test_every_answer_keeps_the_page_to_itself(client: Any) -> None:
    for answer in (client.get("api/jobs"), client.get(f"{BASE}/wrong/")):
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
