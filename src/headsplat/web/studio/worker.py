"""One piece of the studio's work in its own process: a request on stdin, reports as JSON lines on stdout."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.clip import Frame
from headsplat.errors import HeadsplatError

Report = Callable[[str, float], None]

_CLIP_LOOKS = 6
_CLIP_FRAMES = 900
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
    """Reconstruct from the clearest of the request's photos and clips; write avatar and poster.

    Returns:
        The figures of the reconstruction, for display.

    Raises:
        HeadsplatError: no picture shows a usable face, or as `reconstruct`.
    """
    from headsplat.avatar_file import save_avatar
    from headsplat.data.image import write_image
    from headsplat.playback import draw, portrait_camera
    from headsplat.reconstruct import reconstruct

    report("looking for the face", 0.02)
    photo, note = clearest(request["photos"], request["clips"], request["face"], report)
    avatar = reconstruct(
        photo,
        gaussians=request["gaussians"],
        refine=request["refine"],
        face=request["face"],
        progress=lambda done: report(_stage(done), 0.15 + 0.8 * done),
    )
    report("saving", 0.96)
    save_avatar(avatar, request["out"])
    poster = draw(avatar.gaussians, portrait_camera(avatar, 0.3, size=_POSTER_SIZE), (0.085, 0.09, 0.105))
    write_image(request["poster"], poster, quality=88)
    names = ("landmark_error", "source_psnr", "matte_iou", "confidence", "seconds")
    figures = {name: avatar.info[name] for name in names if isinstance(avatar.info.get(name), int | float)}
    return {"gaussians": len(avatar), "bytes": Path(request["out"]).stat().st_size, "note": note, **figures}


def clearest(
    photos: list[str], clips: list[str], face: int | None, report: Report
) -> tuple[str | Frame, str]:
    """The picture to use: of one photo that photo, of several pictures the one tracked with most confidence.

    Returns:
        A path or a tracked frame, and a sentence for the user ("" for a single photo).

    Raises:
        HeadsplatError: none of them shows a usable face; the last reason is given.
    """
    if len(photos) == 1 and not clips:
        return photos[0], ""
    from headsplat.track import track_photo

    pictures: list[str | np.ndarray] = [*photos]
    for clip in clips:
        pictures += _looks(clip)
    best, number, reason = None, 0, "it shows nothing"
    for i, picture in enumerate(pictures):
        report(f"looking at picture {i + 1} of {len(pictures)}", 0.02 + 0.12 * i / len(pictures))
        try:
            frame = track_photo(picture, face=face)
        except HeadsplatError as error:
            reason = str(error)
            continue
        if best is None or frame.confidence > best.confidence:
            best, number = frame, i + 1
    if best is None:
        raise HeadsplatError(f"None of the {len(pictures)} pictures can be used; the last one: {reason}")
    return best, f"Made from picture {number} of {len(pictures)}, the clearest one."


def _stage(done: float) -> str:
    return "fitting the head" if done < 0.3 else "building hair and skin" if done < 0.6 else "refining"


def _looks(clip: str) -> list[np.ndarray]:
    """A few frames (H, W, 3) uint8, evenly spread over a clip's first half minute."""
    from headsplat.data.video import read_video

    video = read_video(clip)
    count = min(video.frames or _CLIP_FRAMES, _CLIP_FRAMES)
    wanted = {int(count * (i + 0.5) / _CLIP_LOOKS) for i in range(_CLIP_LOOKS)}
    return [image for i, image in enumerate(itertools.islice(video, count)) if i in wanted]


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
