"""Bad input at the command line: exit 2, one sentence that says what to do, nothing left behind."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headsplat.avatar_file import save_avatar
from headsplat.cli import main
from headsplat.data.arkit_csv import write_arkit_csv
from headsplat.takes import take
from synthetic import make_avatar

Maker = Callable[[Path], None]


def astronaut() -> Image.Image:
    from skimage.data import astronaut as picture

    return Image.fromarray(picture())


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def small_face(path: Path) -> None:
    """A picture in which the face is about 30 pixels high."""
    picture = Image.new("RGB", (512, 512), (90, 120, 90))
    picture.paste(astronaut().resize((110, 110)), (200, 200))
    picture.save(path)


def two_faces(path: Path) -> None:
    face = astronaut().crop((100, 0, 350, 300))
    picture = Image.new("RGB", (500, 300))
    picture.paste(face, (0, 0))
    picture.paste(face, (250, 0))
    picture.save(path)


def animal(path: Path) -> None:
    from skimage.data import chelsea

    Image.fromarray(chelsea()).save(path)


PHOTOS: dict[str, tuple[str, Maker | None]] = {
    "missing": ("photo.png", None),
    "empty": ("photo.png", lambda p: p.write_bytes(b"") and None),
    "text": ("photo.jpg", lambda p: p.write_text("not a picture") and None),
    "truncated": (
        "photo.jpg",
        lambda p: (astronaut().save(p), p.write_bytes(p.read_bytes()[:9000])) and None,
    ),
    "header only": ("photo.png", lambda p: p.write_bytes(png_header(640, 480)) and None),
    "bomb": ("photo.png", lambda p: p.write_bytes(png_header(60_000, 60_000)) and None),
    "one pixel": ("photo.png", lambda p: noise(1, 1).save(p)),
    "a line": ("photo.png", lambda p: noise(20_000, 10).save(p)),
    "noise": ("photo.png", lambda p: noise(300, 300).save(p)),
    "black": ("photo.png", lambda p: Image.new("RGB", (400, 300)).save(p)),
    "transparent": ("photo.png", lambda p: Image.new("RGBA", (300, 300)).save(p)),
    "16 bit noise": (
        "photo.png",
        lambda p: Image.fromarray(np.random.default_rng(0).integers(0, 65535, (90, 90), np.uint16)).save(p),
    ),
    "animated": (
        "photo.gif",
        lambda p: noise(80, 80).save(p, save_all=True, append_images=[noise(80, 80)] * 3),
    ),
    "animal": ("photo.png", animal),
    "small face": ("photo.png", small_face),
    "two faces": ("photo.png", two_faces),
    "a folder": ("photo.png", lambda p: p.mkdir()),
    "a video": ("photo.mp4", lambda p: p.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500)) and None),
    "an avatar": ("photo.png", lambda p: save_avatar(make_avatar(9), p)),
}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run, and return the one sentence; everything else about the refusal is checked here."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(words)
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("headsplat: ")]
    assert len(lines) == 1 and "Traceback" not in err
    assert lines[0].endswith(".") and len(lines[0]) < 300
    assert out == ""
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before, (
        "something was left behind"
    )
    return lines[0]


@pytest.mark.parametrize("case", PHOTOS)
def test_photos_that_cannot_become_avatars(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    name, make = PHOTOS[case]
    if make is not None:
        make(tmp_path / name)
    refused(tmp_path, capsys, "create", str(tmp_path / name), "-o", str(tmp_path / "a.avatar"))


def test_several_faces_say_how_to_pick_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_faces(tmp_path / "photo.png")
    photo, out = str(tmp_path / "photo.png"), str(tmp_path / "a.avatar")
    assert "--face" in refused(tmp_path, capsys, "create", photo, "-o", out)
    assert "3" in refused(tmp_path, capsys, "create", photo, "-o", out, "--face", "3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good and damaged files in it."""
    from safetensors.numpy import save_file

    save_avatar(make_avatar(60), tmp_path / "a.avatar")
    whole = (tmp_path / "a.avatar").read_bytes()
    (tmp_path / "short.avatar").write_bytes(whole[:-7])
    (tmp_path / "header.avatar").write_bytes(whole[:100])
    (tmp_path / "empty.avatar").write_bytes(b"")
    (tmp_path / "newer.avatar").write_bytes(whole.replace(b'"version":"1"', b'"version":"9"'))
    (tmp_path / "zip.avatar").write_bytes(b"PK\x03\x04" + bytes(200))
    save_file({"weight": np.zeros((3, 3), np.float32)}, str(tmp_path / "foreign.avatar"))
    write_arkit_csv(take("hello", 10.0), tmp_path / "take.csv")
    lines = (tmp_path / "take.csv").read_text().splitlines()
    columns = [line.split(",") for line in lines]
    (tmp_path / "columns.csv").write_text("\n".join(",".join(c[:20]) for c in columns))
    (tmp_path / "cut.csv").write_text("\n".join(lines[:9])[:-40])
    columns[5][columns[0].index("JawOpen")] = "NaN"
    (tmp_path / "nan.csv").write_text("\n".join(",".join(c) for c in columns))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bad.json").write_text('{"names": ["jawOpen"]')
    other = {"names": ["flame_0"], "frames": [{"weights": [1.0], "time": 0}]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    (tmp_path / "file.txt").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.JPG").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


RENDER = "render a.avatar -o o.png --size 32"
ANIMATE = "animate a.avatar -o o.mp4 --size 32 --fps 4"
CASES = {
    "no such avatar": ("info b.avatar", "no file"),
    "a folder for an avatar": ("info .", "not a tracked recording"),
    "a text for an avatar": ("info file.txt", "not an avatar"),
    "truncated avatar": ("info short.avatar", "cut off"),
    "only its header": ("info header.avatar", "cut off"),
    "empty avatar": ("info empty.avatar", "not an avatar"),
    "avatar of a newer version": ("render newer.avatar -o o.png", "pip install --upgrade"),
    "a zip": ("render zip.avatar -o o.png", "not an avatar"),
    "foreign safetensors": ("animate foreign.avatar -o o.mp4", "not an avatar"),
    "unknown expression": (f"{RENDER} --expression jawOpne=1", "jawOpne"),
    "expression that is NaN": (f"{RENDER} --expression jawOpen=nan", "finite"),
    "expression without a number": (f"{RENDER} --expression jawOpen", "write it like"),
    "no colour": (f"{RENDER} --background blurple", "colour"),
    "no size": ("render a.avatar -o o.png --size 0", "--size"),
    "a huge size": ("render a.avatar -o o.png --size 100000", "--size"),
    "yaw that is NaN": (f"{RENDER} --yaw nan", "yaw"),
    "pitch over the top": (f"{RENDER} --pitch 90", "pitch"),
    "picture of no kind": ("render a.avatar -o o.xyz", ".png"),
    "transparent JPEG": ("render a.avatar -o o.jpg --size 32 --background transparent", "JPEG"),
    "sheet with a view": (f"{RENDER} --contact --yaw 30", "--yaw"),
    "no such motion": (f"{ANIMATE} --motion dance", "hello, speak, range"),
    "sound for a motion": (f"{ANIMATE} --motion speech.wav", "--audio"),
    "missing CSV": (f"{ANIMATE} --motion none.csv", "no file"),
    "CSV with columns missing": (f"{ANIMATE} --motion columns.csv", "lacks the columns"),
    "CSV cut off": (f"{ANIMATE} --motion cut.csv", "line 9"),
    "CSV with NaN": (f"{ANIMATE} --motion nan.csv", "line 6"),
    "empty CSV": (f"{ANIMATE} --motion empty.csv", "Live Link Face"),
    "JSON cut off": (f"{ANIMATE} --motion bad.json", "not JSON"),
    "motion of another head": (f"{ANIMATE} --motion other.json", "flame_0"),
    "damaged video": (f"{ANIMATE} --motion bad.mp4", "bad.mp4"),
    "missing video": (f"{ANIMATE} --motion none.mp4", "no file"),
    "frame rate of zero": ("animate a.avatar -o o.mp4 --fps 0", "--fps"),
    "video of no kind": ("animate a.avatar -o o.avi", ".mp4"),
    "transparent MP4": (f"{ANIMATE} --background transparent", "transparency"),
    "pattern without a number": ("animate a.avatar -o %s.png --size 32", "%05d.png"),
    "place under a file": ("render a.avatar -o file.txt/o.png --size 32", "Cannot write"),
    "place that is a folder": ("render a.avatar -o . --size 32", "."),
    "system folder as a place": ("export a.avatar /proc/o.ply", "Cannot write"),
    "device as a place": ("render a.avatar -o /dev/null --size 32", ".png"),
    "export of no kind": ("export a.avatar o.doc", ".ply"),
    "create to the wrong name": ("create file.txt -o o.png", ".avatar"),
    "method that is none": ("evaluate stills --data . --method copy lifft", "'lifft'"),
    "benchmark of nothing": ("bench raster --sizes 0", "--sizes"),
    "benchmark of no time": ("bench raster --seconds 0", "--seconds"),
    "folder of pictures": ("create pictures -o o.avatar", "folder of pictures"),
    "place known before the film is tracked": (
        "animate a.avatar --motion bad.mp4 --audio none -o file.txt/o.mp4",
        "Cannot write",
    ),
    "negative refinement": ("create file.txt -o o.avatar --refine -1", "refine"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    words, hint = CASES[case]
    assert hint in refused(here, capsys, *words.split())


@pytest.mark.parametrize("words", [RENDER, ANIMATE, "export a.avatar o.ply"])
def test_a_full_disk_leaves_nothing(here: Path, words: str) -> None:
    """A limit on the size of files stands for a full disk."""
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of files")
    assert resource
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900));"
        "from headsplat.cli import main; main(sys.argv[1:])"
    )
    before = sorted(p.name for p in here.iterdir())
    command = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "Cannot write" in done.stderr
    assert sorted(p.name for p in here.iterdir()) == before


def test_a_missing_package_is_named(here: Path) -> None:
    code = "import sys; sys.modules['mediapipe'] = None;from headsplat.cli import main; main(sys.argv[1:])"
    astronaut().save("photo.png")
    command = [sys.executable, "-c", code, "create", "photo.png", "-o", "o.avatar"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'headsplat[create]'" in done.stderr.splitlines()[-1]
    assert not Path("o.avatar").exists()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    """A photo stored turned, with the tag that says so, is seen upright (and so has a face at all)."""
    from headsplat.data.image import read_image

    upright = astronaut().crop((90, 0, 360, 300))
    turned = upright.transpose(
        {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[
            orientation
        ]
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "photo.png"), np.asarray(upright) / 255, atol=1e-6)
