"""What the studio's tests share: its address, a stand-in for the reconstruction, a picture."""

from __future__ import annotations

import io

import numpy as np

TOKEN = "the-secret-token"
PORT = 8123
BASE = f"http://127.0.0.1:{PORT}"

# Copies a ready avatar; a photo's file name cannot reach it, so the refinement steps say what to do.
STAND_IN = """
import json, pathlib, shutil, sys, time
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
