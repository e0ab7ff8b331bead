"""Read and write video as a stream of pictures: one frame in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from headsplat.data.image import to_uint8, write_image
from headsplat.data.sound import Sound, SoundCopy
from headsplat.errors import HeadsplatError
from headsplat.files import check_pattern, writing

_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
_LONGEST_PAUSE = 600.0  # seconds; a longer gap between time stamps is damage, and not shown


@dataclass(frozen=True)
class Video:
    """A video file; iterate over it for its frames, upright, as often as you like.

    Attributes:
        path: the file.
        fps: frames per second of the iteration.
        width: pixels, after rotation.
        height: pixels, after rotation.
        rotation: quarter turns counter-clockwise that the recorder asks for, 0..3; already applied.
        frames: how many frames there are about to be, from the file's own account; 0 if it gives none.
    """

    path: Path
    fps: float
    width: int
    height: int
    rotation: int
    frames: int

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 RGB frames at a constant rate.

        A recording with an uneven rate is resampled: each moment shows the latest frame, so a frame may be
        repeated or left out. Gaps of more than ten minutes are cut out.

        Raises:
            HeadsplatError: the file turns out to be damaged before its first frame.
        """
        import av
        from av.error import FFmpegError

        step, due, last = 1 / self.fps, None, None
        try:
            with av.open(str(self.path)) as container:
                for frame in container.decode(video=0):
                    image = np.rot90(_to_rgb(frame), self.rotation)
                    time = frame.time
                    if time is None:
                        yield np.ascontiguousarray(image)
                        continue
                    due = time if due is None else due
                    if last is not None and time > due + _LONGEST_PAUSE:
                        yield last
                        due = time
                    # Half a step of slack keeps the jitter of time stamps from dropping frames.
                    while last is not None and due < time - step / 2:
                        yield last
                        due += step
                    last = np.ascontiguousarray(image)
        except FFmpegError as error:
            if last is None:
                raise HeadsplatError(f"{self.path.name} is damaged; export the video again.") from error
        if last is not None:
            yield last


def read_video(path: str | os.PathLike[str]) -> Video:
    """Open a video for reading.

    Raises:
        HeadsplatError: missing, empty, damaged, or without a picture track.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    if not path.is_file():
        raise HeadsplatError(f"There is no file {path}; check the name.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise HeadsplatError(f"{path.name} holds no pictures; give a video.")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            first = next(container.decode(video=0), None)
            if first is None:
                raise HeadsplatError(f"{path.name} holds no frame; record it again.")
            rotation = round(getattr(first, "rotation", 0) / 90) % 4
            width, height = first.width, first.height
            if rotation % 2:
                width, height = height, width
            length = stream.frames or _guess_length(container, stream, float(rate))
            return Video(path, float(rate), width, height, rotation, length)
    except FFmpegError as error:
        raise HeadsplatError(f"Cannot read {path.name} as a video; export it again as MP4.") from error


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(path).suffix.lower() in (*_SUFFIXES, ".avi", ".m4v", ".gif")


class VideoWriter:
    """Write frames one by one; use it as a context manager, and the result appears complete or not at all.

    The name chooses the kind: `.mp4` (H.264, plays everywhere), `.mov` and `.mkv` (the same), `.webm` (VP9,
    keeps transparency), or a pattern such as `frames/%05d.png` for numbered pictures.

    Example:
        with VideoWriter("turn.mp4", fps=25) as video:
            for image in images:
                video.write(image)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float = 25.0,
        *,
        quality: int = 18,
        sound: Sound | None = None,
    ):
        """Prepare to write.

        Args:
            path: file or pattern.
            fps: frames per second.
            quality: constant rate factor, lower is better: 18 cannot be told from the source.
            sound: to go with the pictures, as long as they last; numbered pictures have none.

        Raises:
            HeadsplatError: an unknown suffix, or a pattern without a place for one number.
        """
        self.path, self.fps, self.quality = check_pattern(path), fps, quality
        self._sound = sound
        self._copy: SoundCopy | None = None
        self._numbered = "%" in self.path.name
        self._count = 0
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._temporary: Path | None = None
        self._written: list[Path] = []
        suffix = self.path.suffix.lower()
        if not self._numbered and suffix not in _SUFFIXES:
            raise HeadsplatError(
                f"Cannot write {self.path.name}: a video's name must end in .mp4, .mov, .mkv or .webm, "
                "or be a pattern such as frames/%05d.png."
            )

    def __enter__(self) -> VideoWriter:
        if not self._numbered:
            self._temporary = self._stack.enter_context(writing(self.path))
        return self

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) or (H, W, 4), float 0..1 or uint8; only webm and PNG keep (straight) alpha.

        Raises:
            HeadsplatError: alpha for a format without, or a frame of another size than the first.
        """
        if self._numbered:
            name = self.path.with_name(self.path.name % self._count)
            write_image(name, image)
            self._written.append(name)
        else:
            self._encode(to_uint8(image))
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            if self._container is not None:
                self._close()
            for name in self._written:
                name.unlink(missing_ok=True)
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._numbered:
                return
            if self._container is None:
                raise HeadsplatError(f"There is no frame to write into {self.path.name}; check the motion.")
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._carry_sound()
            self._close()

    def _close(self) -> None:
        self._container.close()
        if self._copy is not None:
            self._copy.close()

    def _carry_sound(self) -> None:
        """The sound of the pictures so far; beside them, so that players need not search for it."""
        if self._copy is not None:
            self._copy.until(self._count / float(self._rate))

    def _encode(self, image: np.ndarray) -> None:
        import av

        stream = self._stream or self._open(image)
        if image.shape[2] != self._channels or image.shape[:2] != self._size:
            raise HeadsplatError("All frames of a video must have the same size and channels.")
        # 4:2:0 colour needs even sides: repeat the last row or column.
        image = np.pad(image, [(0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)], mode="edge")
        frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
        frame = frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = self._count, 1 / self._rate
        for packet in stream.encode(frame):
            self._container.mux(packet)
        self._carry_sound()

    def _open(self, image: np.ndarray) -> Any:
        import av

        self._channels, self._size = image.shape[2], image.shape[:2]
        webm = self.path.suffix.lower() == ".webm"
        if self._channels == 4 and not webm:
            raise HeadsplatError(
                f"{self.path.suffix} has no transparency; write .webm or %05d.png, or give a background."
            )
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
        self._container = av.open(str(self._temporary), "w", options=options)
        self._rate = rate = Fraction(self.fps).limit_denominator(1001)
        if webm:
            codec, settings = (
                "libvpx-vp9",
                {"crf": str(self.quality + 6), "b": "0", "row-mt": "1", "cpu-used": "5"},
            )
        elif "libx264" in av.codecs_available:
            codec, settings = "libx264", {"crf": str(self.quality), "preset": "fast"}
        else:
            codec, settings = "libopenh264", {"b": "8000000"}
        stream = self._container.add_stream(codec, rate=rate, options=settings)
        stream.height, stream.width = (n + n % 2 for n in self._size)
        stream.pix_fmt = "yuva420p" if self._channels == 4 else "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # studio swing
        if self._sound is not None:
            self._copy = SoundCopy(self._container, self.path.suffix.lower(), self._sound)
        self._stream = stream
        return stream


def _to_rgb(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded frame, by the colour matrix and range that it names."""
    known = {1: "ITU709", 5: "ITU601", 6: "ITU601"}
    matrix = known.get(int(frame.colorspace), "ITU709" if frame.height >= 720 else "ITU601")
    swing = "JPEG" if int(frame.color_range) == 2 else "MPEG"
    picture = frame.reformat(
        format="rgb24", src_colorspace=matrix, src_color_range=swing, dst_color_range="JPEG"
    )
    return picture.to_ndarray()


def _guess_length(container: Any, stream: Any, fps: float) -> int:
    """Frames by duration, for containers that do not count them."""
    import av

    if stream.duration is not None and stream.time_base is not None:
        return round(float(stream.duration * stream.time_base) * fps)
    return round(container.duration / av.time_base * fps) if container.duration else 0
