"""The sound of a driving film goes into the new one: in any container, in time, as long as its pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.avatar_file import save_avatar
from headsplat.cli import main
from headsplat.data.sound import Sound, find_sound
from headsplat.data.video import VideoWriter
from headsplat.errors import HeadsplatError
from headsplat.shoot import choose_sound

av = pytest.importorskip("av")
RATE, BEEP = 16_000, (0.9, 1.1)


def make_film(path: Path, codec: str = "aac", pictures_from: float = 0.0, seconds: float = 2.0) -> Path:
    """A film of grey pictures that begin at some second of its clock, and a beep at `BEEP` by that clock."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = (0.5 * np.sin(2 * np.pi * 440 * t) * ((t >= BEEP[0]) & (t < BEEP[1]))).astype(np.float32)
    with av.open(str(path), "w") as container:
        audio = container.add_stream(codec, rate=48000 if codec == "libopus" else RATE, layout="mono")
        film = container.add_stream("libx264" if path.suffix != ".webm" else "libvpx-vp9", rate=10)
        film.width = film.height = 32
        film.pix_fmt = "yuv420p"
        for start in range(0, len(wave), 1000):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1000], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
        for number in range(int((seconds - pictures_from) * 10)):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number + round(pictures_from * 10), Fraction(1, 10)
            container.mux(film.encode(picture))
        container.mux(film.encode(None))
    return path


def beep(path: Path) -> tuple[float, float, str]:
    """First and last second of the beep, counted from the first picture, and the codec."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        times, loud = [], []
        resample = av.AudioResampler("flt", "mono", RATE)
        for frame in container.decode(stream):
            for part in resample.resample(frame):
                samples = part.to_ndarray()[0]
                times.append(part.time + np.arange(len(samples)) / RATE)
                loud.append(np.abs(samples) > 0.2)
        heard = np.concatenate(times)[np.concatenate(loud)] - picture
        return float(heard.min()), float(heard.max()), stream.codec_context.name


def film_with(path: Path, sound: Sound | None, seconds: float = 2.0) -> Path:
    with VideoWriter(path, fps=25, sound=sound) as film:
        for _ in range(round(seconds * 25)):
            film.write(np.zeros((32, 32, 3), np.uint8))
    return path


@pytest.mark.parametrize("late", [0.0, 0.4])
@pytest.mark.parametrize(
    ("source", "codec", "suffix", "kept"),
    [
        (".mp4", "aac", ".mp4", "aac"),
        (".mp4", "aac", ".mkv", "aac"),
        (".mp4", "aac", ".webm", "opus"),
        (".webm", "libopus", ".webm", "opus"),
        (".webm", "libopus", ".mp4", "aac"),
        (".mkv", "pcm_s16le", ".mov", "pcm_s16le"),
        (".mkv", "flac", ".mp4", "aac"),
    ],
)
def test_the_beep_stays_with_its_picture(
    tmp_path: Path, source: str, codec: str, suffix: str, kept: str, late: float
) -> None:
    sound = find_sound(make_film(tmp_path / f"in{source}", codec, pictures_from=late))
    assert sound is not None and sound.start == pytest.approx(late, abs=0.01)
    first, last, codec_now = beep(film_with(tmp_path / f"out{suffix}", sound))
    assert codec_now == kept
    assert first == pytest.approx(BEEP[0] - late, abs=0.02)
    assert last == pytest.approx(BEEP[1] - late, abs=0.02)


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    sound = find_sound(make_film(tmp_path / "long.mp4", seconds=2.0))
    out = film_with(tmp_path / "short.mp4", sound, seconds=0.5)
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) < 0.6


def test_sound_lies_beside_the_pictures_in_the_file(tmp_path: Path) -> None:
    """Else a player on the web has to load all of the film before it can begin."""
    out = film_with(tmp_path / "out.mp4", find_sound(make_film(tmp_path / "in.mp4")))
    with av.open(str(out)) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.dts is not None]
    middle = kinds[len(kinds) // 4 : len(kinds) // 2]
    assert {"audio", "video"} <= set(middle)


def test_a_source_that_is_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    whole = make_film(tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: int(len(whole) * 0.8)])
    sound = find_sound(tmp_path / "cut.mkv")
    assert beep(film_with(tmp_path / "out.mp4", sound))[0] == pytest.approx(BEEP[0], abs=0.02)


def test_what_is_chosen(tmp_path: Path) -> None:
    heard, mute = make_film(tmp_path / "heard.mp4"), film_with(tmp_path / "mute.mp4", None)
    film, pictures = tmp_path / "o.mp4", tmp_path / "%03d.png"
    assert choose_sound("keep", str(heard), film) == Sound(heard)
    assert choose_sound("none", str(heard), film) is None
    assert choose_sound("keep", str(mute), film) is None
    assert choose_sound("keep", "hello", film) is None
    assert choose_sound("keep", str(heard), pictures) is None
    assert choose_sound(str(heard), "hello", film) == Sound(heard)
    for audio, output, hint in (
        (str(mute), film, "no sound"),
        (str(tmp_path / "none.wav"), film, "no file"),
        (str(heard), pictures, "Numbered"),
        (__file__, film, "Cannot read"),
    ):
        with pytest.raises(HeadsplatError, match=hint):
            choose_sound(audio, "hello", output)


def test_animate_says_whose_sound_it_took(
    tmp_path: Path, avatar: Avatar, capsys: pytest.CaptureFixture[str]
) -> None:
    save_avatar(avatar, tmp_path / "a.avatar")
    heard = make_film(tmp_path / "heard.mp4")
    words = ["animate", str(tmp_path / "a.avatar"), "-o", str(tmp_path / "o.mp4"), "--size", "32"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--audio", str(heard)])
    assert end.value.code == 0
    assert f"with the sound of {heard}" in capsys.readouterr().out
    assert beep(tmp_path / "o.mp4")[0] == pytest.approx(BEEP[0], abs=0.02)
