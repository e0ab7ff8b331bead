"""What is written comes back: frames, rate, size, colours, transparency; bad files are refused."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from headsplat.data.image import read_image
from headsplat.data.video import VideoWriter, is_video, read_video
from headsplat.errors import HeadsplatError

av = pytest.importorskip("av")


def _frames(count: int = 6, height: int = 48, width: int = 64) -> list[np.ndarray]:
    x = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 3))
    return [np.clip(x * [1.0, 0.5, 0.2] + 0.08 * i, 0, 1).astype(np.float32) for i in range(count)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_round_trip(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    frames = _frames(6, *size)
    with VideoWriter(tmp_path / f"a{suffix}", fps=12.5) as writer:
        for frame in frames:
            writer.write(frame)
    video = read_video(tmp_path / f"a{suffix}")
    got = list(video)
    assert video.fps == pytest.approx(12.5) and len(got) == 6
    assert got[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    for frame, back in zip(frames, got, strict=True):
        error = back[: size[0], : size[1]] / 255 - frame
        assert np.abs(error).mean() < 0.015
        assert np.abs(error.mean((0, 1))).max() < 0.012  # no tint: matrix and range agree
    assert [len(list(video)), len(list(video))] == [6, 6]


def test_numbered_pictures_keep_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([_frames(1)[0], np.full((48, 64), 0.5, np.float32)])
    with VideoWriter(tmp_path / "out" / "%03d.png") as writer:
        writer.write(rgba)
        writer.write(rgba)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000.png", "001.png"]
    # Read back over white: half of the colour, half of white.
    np.testing.assert_allclose(read_image(tmp_path / "out" / "001.png"), rgba[..., :3] / 2 + 0.5, atol=0.01)


def test_a_folder_may_have_a_percent_in_its_name(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "100%" / "%d.png") as writer:
        writer.write(np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "100%" / "0.png").is_file()


@pytest.mark.parametrize("name", ["100%.png", "%d-%d.png", "%%.png", "%(a)d.png"])
def test_patterns_must_number(tmp_path: Path, name: str) -> None:
    with pytest.raises(HeadsplatError, match=r"does not number.*%05d\.png"):
        VideoWriter(tmp_path / name)


def test_webm_keeps_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([_frames(1)[0], np.linspace(0, 1, 48 * 64).reshape(48, 64).astype(np.float32)])
    with VideoWriter(tmp_path / "a.webm") as writer:
        for _ in range(2):
            writer.write(rgba)
    with av.open(str(tmp_path / "a.webm")) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"


def test_mp4_refuses_alpha_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="transparency"), VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((32, 32, 4), np.float32))
    assert not list(tmp_path.iterdir())


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    for name in ("a.mp4", "frames/%02d.png"):
        with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / name) as writer:
            writer.write(_frames(1)[0])
            raise KeyboardInterrupt
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_sizes_must_agree(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="same size"), VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(_frames(1)[0])
        writer.write(_frames(1, 32, 32)[0])


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="no frame"), VideoWriter(tmp_path / "a.mp4"):
        pass
    assert not list(tmp_path.iterdir())


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="must end in"):
        VideoWriter(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([0, 1, 2, 5, 6], [0, 50, 100, 100, 100, 150, 200]),  # filled with the frame before the gap
        ([0, 1, 2, 6100, 6101], [0, 50, 100, 150, 200]),  # ten minutes: cut out
    ],
)
def test_uneven_rate_becomes_even(tmp_path: Path, times: list[int], wanted: list[int]) -> None:
    # Frames at tenths of a second and a nominal 10 per second.
    levels = [0, 50, 100, 150, 200]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for level, time in zip(levels, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = read_video(tmp_path / "a.mkv")
    got = [int(frame.mean()) for frame in type(video)(video.path, 10.0, 32, 32, 0, 0)]
    assert len(got) == len(wanted)
    np.testing.assert_allclose(got, wanted, atol=4)


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"\x00" * 4096])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(HeadsplatError, match=r"a\.mp4"):
        read_video(tmp_path / "a.mp4")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="no file"):
        read_video(tmp_path / "a.mp4")


def test_sound_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(HeadsplatError, match="no pictures"):
        read_video(tmp_path / "a.mp4")


def test_names_of_videos() -> None:
    assert is_video("a.MP4") and is_video("x/b.webm") and not is_video("c.png")
