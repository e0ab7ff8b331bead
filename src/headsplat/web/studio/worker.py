"""One piece of the studio's work in its own process: a request on stdin, reports as JSON lines on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headsplat.errors import HeadsplatError

Report = Callable[[str, float], None]

_CLIP_VIEWS = 6
_POSTER_SIZE = 384
_VIDEO_SIZE = 512


def main() -> None:
    """Read one request from stdin, do it, and report; never a traceback."""
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like a report

    def send(message: dict[str, Any]) -> None:
        reports.write(json.dumps(message) + "\n")
        reports.flush()

    def report(stage: str, progress: float) -> None:
        send({"stage": stage, "progress": round(float(progress), 4)})

    try:
        request = json.loads(sys.stdin.readline())
        figures = create(request, report) if request["task"] == "create" else export_file(request)
        send({"done": figures})
    except HeadsplatError as error:
        send({"error": str(error)})
    except MemoryError:
        send({"error": "There is not enough memory for this; try fewer Gaussians."})
    except Exception as error:
        send({"error": f"Something in headsplat went wrong ({type(error).__name__}); please report it."})


def create(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Reconstruct from all of the request's photos and clips together; write avatar and poster.

    Returns:
        The figures of the reconstruction, for display, and a note on what it was made from.

    Raises:
        HeadsplatError: no picture shows a usable face, or as `reconstruct`.
    """
    from headsplat.avatar_file import save_avatar
    from headsplat.data.image import write_image
    from headsplat.playback import draw, portrait_camera
    from headsplat.reconstruct import reconstruct
    from headsplat.track.photos import track_clip

    report("looking for the face", 0.02)
    sources: list[Any] = [*request["photos"]]
    share = 0.4 / max(len(request["clips"]), 1)
    for i, clip in enumerate(request["clips"]):
        sources += track_clip(
            clip,
            _CLIP_VIEWS,
            face=request["face"],
            progress=lambda done, i=i: report("watching the clip", share * (i + done)),
        )
    begin = 0.4 if request["clips"] else 0.05
    avatar = reconstruct(
        sources[0] if len(sources) == 1 else sources,
        gaussians=request["gaussians"],
        refine=request["refine"],
        face=request["face"],
        tolerant=True,
        progress=lambda done: report(_stage(done), begin + (0.95 - begin) * done),
    )
    report("saving", 0.96)
    save_avatar(avatar, request["out"])
    poster = draw(avatar.gaussians, portrait_camera(avatar, 0.3, size=_POSTER_SIZE), (0.085, 0.09, 0.105))
    write_image(request["poster"], poster, quality=88)
    names = ("landmark_error", "source_psnr", "matte_iou", "confidence", "seconds")
    figures = {name: avatar.info[name] for name in names if isinstance(avatar.info.get(name), int | float)}
    size = Path(request["out"]).stat().st_size
    return {"gaussians": len(avatar), "bytes": size, "note": _note(avatar.info), **figures}


def _note(info: dict[str, Any]) -> str:
    """A sentence on the pictures that the avatar was made from; nothing for a single photo."""
    left_out = info.get("left_out", [])
    used = info.get("photos", 1)
    if used == 1 and not left_out:
        return ""
    made = f"Made from {used} pictures together." if used > 1 else "Made from one picture."
    if not left_out:
        return made
    others = f"{len(left_out)} more could not be used" if len(left_out) > 1 else "Another could not be used"
    return f"{made} {others}: {_nameless(left_out[0])}"


def _nameless(reason: str) -> str:
    """A reason without the name of the stored file, which means nothing to the user."""
    return reason.split(": ", 1)[-1]


def _stage(done: float) -> str:
    return "fitting the head" if done < 0.3 else "building hair and skin" if done < 0.6 else "refining"


def export_file(request: dict[str, Any]) -> dict[str, Any]:
    """Write one download of an avatar: a film of the take `hello` for `.mp4`, else as `headsplat.export`.

    Raises:
        HeadsplatError: as the writer of the format.
    """
    from headsplat.avatar_file import load_avatar
    from headsplat.export import export

    avatar, out = load_avatar(request["avatar"]), Path(request["out"])
    if out.suffix != ".mp4":
        export(avatar, out, glb="mesh" if out.name.endswith(".mesh.glb") else "splats")
        return {}
    from headsplat.data.video import VideoWriter
    from headsplat.playback import play
    from headsplat.takes import take

    motion = take("hello")
    with VideoWriter(out, fps=motion.fps) as video:
        for image in play(avatar, motion, size=_VIDEO_SIZE, orbit=20.0):
            video.write(image)
    return {}


if __name__ == "__main__":
    main()
