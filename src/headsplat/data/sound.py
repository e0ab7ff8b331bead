"""The sound of a film, carried over to another: as it is where the new file can hold it, else re-encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headsplat.errors import HeadsplatError

# Suffix -> what browsers and players expect to find in such a file, and what sound is encoded to otherwise.
_CODECS = {
    ".mp4": (("aac", "mp3", "ac3", "eac3"), "aac"),
    ".mov": (("aac", "mp3", "alac", "pcm_s16le"), "aac"),
    ".mkv": (("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "flac"), "aac"),
    ".webm": (("opus", "vorbis"), "libopus"),
}


@dataclass(frozen=True)
class Sound:
    """The first sound track of a film or of a sound file.

    Attributes:
        path: the file.
        start: second of the file, by its own clock, that belongs to the beginning of the new film: the time
            of the file's first picture, or 0 where it has none.
    """

    path: Path
    start: float = 0.0


def find_sound(path: str | os.PathLike[str]) -> Sound | None:
    """The sound of a file; None if it has none.

    Raises:
        HeadsplatError: missing, or neither film nor sound.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    if not path.is_file():
        raise HeadsplatError(f"There is no file {path}; check the name.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                return None
            if not container.streams.video:
                return Sound(path)
            first = next(container.decode(video=0), None)
            return Sound(path, float(first.time) if first is not None and first.time is not None else 0.0)
    except FFmpegError as error:
        raise HeadsplatError(f"Cannot read the sound of {path.name}; save it again as MP4 or WAV.") from error


class SoundCopy:
    """Carries a sound into an open film, step by step beside its pictures; close it at the end."""

    def __init__(self, container: Any, suffix: str, sound: Sound):
        """Add the sound's stream to a film of which nothing is written yet.

        Args:
            container: the film, an output of PyAV.
            suffix: of the film's name, `.mp4`, `.mov`, `.mkv` or `.webm`.
            sound: what to carry over.
        """
        import av

        self._container, self._start = container, sound.start
        self._source = av.open(str(sound.path))
        self._from = self._source.streams.audio[0]
        kept, codec = _CODECS[suffix]
        if self._from.codec_context.name in kept:
            self._to = container.add_stream_from_template(self._from)
            packets = self._copied()
        else:
            rate = 48000 if codec == "libopus" else self._from.codec_context.sample_rate
            self._to = container.add_stream(codec, rate=rate, layout=_layout(self._from))
            packets = self._encoded()
        self._packets = _until_damaged(packets)
        self._next: tuple[float, Any] | None = next(self._packets, None)

    def until(self, seconds: float) -> None:
        """Write the sound up to this time of the new film."""
        while self._next is not None and self._next[0] < seconds:
            self._container.mux(self._next[1])
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()

    def _copied(self) -> Iterator[tuple[float, Any]]:
        """Times in the new film and packets, those before its beginning left out."""
        for packet in self._source.demux(self._from):
            if packet.dts is None or packet.pts is None:
                continue
            shift, base = round(self._start / packet.time_base), packet.time_base
            if (packet.pts + (packet.duration or 0) - shift) * base <= 0:
                continue
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, self._to
            yield float(packet.pts * base), packet

    def _encoded(self) -> Iterator[tuple[float, Any]]:
        """The same, through a decoder and an encoder."""
        for frame in self._source.decode(self._from):
            if frame.pts is None or frame.time_base is None:
                continue
            frame.pts -= round(self._start / frame.time_base)
            if frame.pts * frame.time_base + frame.samples / frame.sample_rate <= 0:
                continue
            yield from self._timed(self._to.encode(frame))
        yield from self._timed(self._to.encode(None))

    def _timed(self, packets: list[Any]) -> Iterator[tuple[float, Any]]:
        for packet in packets:
            yield float((packet.pts or 0) * packet.time_base), packet


def _layout(stream: Any) -> str:
    """Mono stays mono; everything else becomes stereo, which every player knows."""
    return "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"


def _until_damaged(packets: Iterator[tuple[float, Any]]) -> Iterator[tuple[float, Any]]:
    """The packets up to where the source is cut off or damaged."""
    from av.error import FFmpegError

    try:
        yield from packets
    except FFmpegError:
        return
