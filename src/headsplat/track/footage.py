"""What a recording is made from: a video file or a folder of pictures, streamed at a chosen rate."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from headsplat.data.image import read_image, to_uint8
from headsplat.data.video import Video, is_video, read_video
from headsplat.errors import HeadsplatError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
_PICTURE_FPS = 25.0


@dataclass(frozen=True)
class Footage:
    """Frames of one size at a constant rate; iterate over it as often as you like.

    Attributes:
        path: the video, or the folder of pictures.
        fps: frames per second.
        width: pixels.
        height: pixels.
        frames: how many there are about to be; exact for pictures, 0 if the video does not say.
        digest: SHA-256 of the source, hex.
        most: at most so many frames are given, or None.
    """

    path: Path
    fps: float
    width: int
    height: int
    frames: int
    digest: str
    most: int | None
    _video: Video | None
    _pictures: tuple[Path, ...]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 RGB frames.

        Raises:
            HeadsplatError: a picture is damaged or of another size than the first.
        """
        frames = self._read() if self._video is None else _at_rate(self._video, self.fps)
        return islice(frames, self.most)

    def _read(self) -> Iterator[np.ndarray]:
        for path in self._pictures:
            image = to_uint8(read_image(path))
            if image.shape[:2] != (self.height, self.width):
                raise HeadsplatError(
                    f"{path.name} has {image.shape[1]} x {image.shape[0]} pixels and the first picture "
                    f"{self.width} x {self.height}; give pictures of one size."
                )
            yield image


def open_footage(
    path: str | os.PathLike[str], *, fps: float | None = None, most: int | None = None
) -> Footage:
    """Open a video or a folder of pictures for reading.

    Args:
        path: the file or folder; pictures are taken in the order of the numbers in their names.
        fps: give frames at this rate; None keeps the video's own, and takes 25 for pictures.
        most: stop after so many frames.

    Raises:
        HeadsplatError: missing, unreadable, empty, or an impossible rate.
    """
    path = Path(path)
    if fps is not None and not 1 <= fps <= 240:
        raise HeadsplatError(f"--fps is {fps:g}; give 1 to 240.")
    if most is not None and most < 1:
        raise HeadsplatError(f"--max-frames is {most}; give at least 1.")
    if path.is_dir():
        pictures = tuple(sorted((p for p in path.iterdir() if _is_picture(p)), key=_by_number))
        if not pictures:
            raise HeadsplatError(f"{path} holds no pictures; give a folder of PNG or JPEG files, or a video.")
        height, width = read_image(pictures[0]).shape[:2]
        count = len(pictures) if most is None else min(most, len(pictures))
        return Footage(
            path, fps or _PICTURE_FPS, width, height, count, _digest(pictures), most, None, pictures
        )
    if path.exists() and not is_video(path) and _is_picture(path):
        raise HeadsplatError(f"{path.name} is a picture; give a video, or a folder of pictures.")
    video = read_video(path)
    rate = video.fps if fps is None else min(fps, video.fps)
    count = round(video.frames * rate / video.fps)
    count = count if most is None else min(most, count) if count else most
    return Footage(path, rate, video.width, video.height, count, _digest((path,)), most, video, ())


def _at_rate(video: Video, fps: float) -> Iterator[np.ndarray]:
    """The frames of a video at a rate no higher than its own: the nearest frame at each moment."""
    if abs(fps / video.fps - 1) < 1e-6:
        yield from video
        return
    due = 0
    for number, frame in enumerate(video):
        if round(due * video.fps / fps) == number:
            yield frame
            due += 1


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES and not path.name.startswith(".") and path.is_file()


def _by_number(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], path.name


def _digest(paths: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
        except OSError as error:
            raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check its permissions.") from error
    return digest.hexdigest()
