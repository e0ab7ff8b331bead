"""What the studio's tests share: its address, a stand-in for the reconstruction, a picture."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from headsplat.web.live_link import STREAM_NAMES

TOKEN = "the-secret-token"
PORT = 8123
BASE = f"http://127.0.0.1:{PORT}"

# Copies a ready avatar; a photo's file name cannot reach it, so the refinement steps say what to do.
STAND_IN = """
import json, os, pathlib, shutil, sys, time
request = json.loads(sys.stdin.readline())
def send(**report):
    print(json.dumps(report), flush=True)
if request["task"] == "export":
    pathlib.Path(request["out"]).write_bytes(b"exported " + request["out"].rsplit(".", 1)[1].encode())
    send(done={})
elif request["refine"] == 13:
    send(error="No face was found; choose another photo.")
elif request["refine"] == 14:
    sys.exit(9)
else:
    print("a library chats on stdout", flush=True)
    pathlib.Path(request["poster"] + ".pid").write_text(str(os.getpid()))
    send(stage="fitting", progress=0.3)
    time.sleep(60 if request["refine"] == 15 else 0.05)
    shutil.copy(sys.argv[1], request["out"])
    pathlib.Path(request["poster"]).write_bytes(b"poster")
    send(done={"gaussians": 60})
"""


def png(width: int = 96, height: int = 80) -> bytes:
    """A small picture."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def packet(
    weights: dict[str, float],
    head: tuple[float, float, float] = (0, 0, 0),
    *,
    frame: int = 0,
    rate: int = 60,
    count: int = 61,
) -> bytes:
    """A Live Link Face packet, written from the description of its layout; `head` is yaw, pitch, roll."""
    values = [*(weights.get(name, 0.0) for name in STREAM_NAMES), *head, *[0.0] * 6]
    device, subject = b"01234567-89AB-CDEF-0123-456789ABCDEF", b"Ada"
    texts = b"".join(struct.pack(">i", len(text)) + text for text in (device, subject))
    return b"\x06" + texts + struct.pack(">ifiiB61f", frame, 0.25, rate, 1, count, *values)


@contextlib.contextmanager
def running(build: Callable[[str, int], Any]) -> Iterator[str]:
    """Serve an app made from (token, port) in a thread; gives the address that opens it."""
    uvicorn = pytest.importorskip("uvicorn")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(build(TOKEN, port), log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}/{TOKEN}/"
    server.should_exit = True
    thread.join(20)
    listener.close()
