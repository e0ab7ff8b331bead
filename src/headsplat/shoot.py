"""Take pictures of an avatar file: stills, contact sheets, turntables and driven videos, as files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar
from headsplat.contact_sheet import arrange, sheet_tiles, with_seen_legend
from headsplat.data.image import write_image
from headsplat.data.sound import Sound, find_sound
from headsplat.errors import HeadsplatError
from headsplat.files import check_pattern, expect_writable
from headsplat.motion import Motion, resample, select
from headsplat.playback import (
    Color,
    paint_seen,
    parse_color,
    parse_expression,
    play,
    portrait_camera,
    shot,
    turntable,
)

VIDEOS = (".mp4", ".webm", ".mov", ".mkv")
TURN_FRAMES, TURN_FPS = 120, 30.0

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


@dataclass(frozen=True)
class Look:
    """How to show an avatar.

    Attributes:
        size: side of the picture (of one tile of a sheet), pixels.
        background: a colour's name, #rrggbb, or transparent.
        show: the colours as they are, or what the source showed (see `paint_seen`).
    """

    size: int = 512
    background: str = "white"
    show: Literal["color", "seen"] = "color"

    def check(self) -> Color | None:
        """The background as RGB 0..1, or None for transparent.

        Raises:
            HeadsplatError: no such colour, or a size out of range.
        """
        if not 16 <= self.size <= 4096:
            raise HeadsplatError(f"--size is {self.size}; give 16 to 4096 pixels.")
        return parse_color(self.background)

    def load(self, path: Path) -> Avatar:
        """The avatar, painted as this look wants it."""
        avatar = load_avatar(path)
        return paint_seen(avatar) if self.show == "seen" else avatar

    def finish(self, picture: np.ndarray) -> np.ndarray:
        """The picture with the legend it needs."""
        return with_seen_legend(picture) if self.show == "seen" else picture


def still(path: Path, output: Path, look: Look, yaw: float, pitch: float, expression: str) -> None:
    """One picture; yaw and pitch of the camera in degrees, expression as "jawOpen=0.7,...".

    Raises:
        HeadsplatError: of the avatar, the options or the output.
    """
    background, weights = look.check(), parse_expression(expression)
    if not (np.isfinite(yaw) and abs(pitch) < 90):
        raise HeadsplatError("Cannot look from there; give a yaw in degrees and a pitch between -90 and 90.")
    avatar = look.load(path)
    camera = portrait_camera(avatar, np.radians(yaw), np.radians(pitch), size=look.size)
    write_image(output, look.finish(shot(avatar, camera, background, expression=weights)))


def contact_sheet(path: Path, output: Path, look: Look) -> None:
    """All sides and some expressions in one labelled picture.

    Raises:
        HeadsplatError: of the avatar, the options or the output.
    """
    background = look.check()
    tiles = sheet_tiles(look.load(path), size=look.size, background=background)
    write_image(output, look.finish(arrange(tiles)))


def turn(path: Path, output: Path, look: Look, expression: str, progress: Progress) -> None:
    """A video, or numbered pictures, of the camera going round once.

    Raises:
        HeadsplatError: of the avatar, the options or the output.
    """
    background, pose = look.check(), {"expression": parse_expression(expression)}
    check_pattern(output)
    frames = turntable(look.load(path), TURN_FRAMES, size=look.size, pose=pose, background=background)
    _film(output, frames, TURN_FRAMES, TURN_FPS, progress)


def drive(
    path: Path,
    output: Path,
    look: Look,
    read: Callable[[], Motion],
    *,
    orbit: float,
    fps: float | None,
    progress: Progress,
    warn: Callable[[str], None],
    sound: Sound | None = None,
) -> dict[str, Any]:
    """A video, or numbered pictures, of the avatar following a motion.

    Args:
        path: the .avatar file.
        output: video file or pattern such as out/%05d.png.
        look: how to show it.
        read: gives the motion; called after everything else has been checked, because it may take long.
        orbit: how far the camera travels, degrees.
        fps: frames per second, or None for the motion's.
        progress: wraps the frames.
        warn: told what the motion does that the avatar cannot.
        sound: to go with the video.

    Returns:
        `output`, `frames`, `fps`, the `seconds` of drawing and encoding, and the file of the `sound` or None.

    Raises:
        HeadsplatError: of the avatar, the options, the motion or the output.
    """
    background, avatar = look.check(), look.load(path)
    check_pattern(output)
    if fps is not None and not 1 <= fps <= 240:
        raise HeadsplatError(f"--fps is {fps:g}; give 1 to 240.")
    expect_writable(output)
    motion, lost = select(read(), avatar.expressions, avatar.joints)
    if lost:
        warn(f"The avatar has no {', '.join(lost)}; left out.")
    if fps is not None:
        motion = resample(motion, fps)
    start = time.perf_counter()
    frames = play(avatar, motion, size=look.size, orbit=orbit, background=background)
    _film(output, frames, len(motion), motion.fps, progress, sound)
    return {
        "output": str(output),
        "frames": len(motion),
        "fps": motion.fps,
        "seconds": round(time.perf_counter() - start, 2),
        "sound": None if sound is None else str(sound.path),
    }


def choose_sound(audio: str, motion: str, output: Path) -> Sound | None:
    """The sound that belongs to a film of a motion.

    Args:
        audio: "keep" for that of the driving video if there is any, "none", or a film or sound file.
        motion: what drives, as `headsplat.drive.read_motion` takes it.
        output: the film; numbered pictures have no sound.

    Raises:
        HeadsplatError: the file cannot be read or has no sound, or numbered pictures are to have some.
    """
    from headsplat.data.video import is_video

    if audio == "none":
        return None
    if audio == "keep":
        drives = is_video(motion) and Path(motion).is_file() and "%" not in output.name
        return find_sound(motion) if drives else None
    if "%" in output.name:
        raise HeadsplatError("Numbered pictures have no sound; write an .mp4, or leave out --audio.")
    sound = find_sound(audio)
    if sound is None:
        raise HeadsplatError(f"{audio} has no sound; give another file, or leave out --audio.")
    return sound


def is_film(output: Path) -> bool:
    """Whether the name stands for more than one picture: a video, or a pattern of numbered files."""
    return output.suffix.lower() in VIDEOS or "%" in output.name


def _film(
    output: Path,
    frames: Iterable[np.ndarray],
    count: int,
    fps: float,
    progress: Progress,
    sound: Sound | None = None,
) -> None:
    from headsplat.data.video import VideoWriter

    with VideoWriter(output, fps=fps, sound=sound) as video:
        for image in progress(frames, "Drawing", count):
            video.write(image)
