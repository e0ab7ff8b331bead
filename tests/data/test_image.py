"""Pictures come in upright and in sRGB whatever they were saved as; bad ones are refused in a sentence."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headsplat.data.image import learn_heic, read_focal, read_image, to_uint8, write_image
from headsplat.errors import HeadsplatError


def _ramp(height: int = 20, width: int = 30) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x / width, y / height, (x + y) / (width + height)], -1).astype(np.float32)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0.002), (".jpg", 0.03), (".webp", 0.06)])
def test_round_trip(tmp_path: Path, suffix: str, tolerance: float) -> None:
    write_image(tmp_path / f"a{suffix}", _ramp())
    back = read_image(tmp_path / f"a{suffix}")
    assert back.dtype == np.float32 and back.shape == (20, 30, 3)
    assert np.abs(back - _ramp()).mean() < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(to_uint8(_ramp()))
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if inverse is None else upright.transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), np.asarray(upright) / 255, atol=1e-6)


@pytest.mark.parametrize(("noted", "wanted"), [(26, 26 / 43.27), (0, None), (None, None)])
def test_focal_length(tmp_path: Path, noted: int | None, wanted: float | None) -> None:
    exif = Image.Exif()
    if noted is not None:
        exif.get_ifd(0x8769)[0xA405] = noted
    Image.fromarray(to_uint8(_ramp())).save(tmp_path / "a.jpg", exif=exif)
    assert read_focal(tmp_path / "a.jpg") == (pytest.approx(wanted) if wanted else None)
    assert read_focal(tmp_path / "missing.jpg") is None


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(to_uint8(_ramp())).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg") - _ramp()).mean() < 0.03


def test_sixteen_bit_grey(tmp_path: Path) -> None:
    Image.fromarray((np.linspace(0, 65535, 600).reshape(20, 30)).astype(np.uint16)).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(got[..., 1], np.linspace(0, 1, 600).reshape(20, 30), atol=1e-4)


def test_dark_sixteen_bit_grey_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").max() < 0.01


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    got = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(got[0, 0], 1)  # transparent red over white
    np.testing.assert_allclose(got[1, 1], [0, 0, 1])


def test_alpha_over_white(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((5, 5, 4), [1, 0, 0, 0.5], np.float32))
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[2, 2], [1, 0.5, 0.5], atol=0.005)


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    for mode in ("L", "1", "LA"):
        Image.new(mode, (6, 6), 1 if mode == "1" else (255, 255) if mode == "LA" else 255).save(
            tmp_path / "a.png"
        )
        np.testing.assert_allclose(read_image(tmp_path / "a.png"), np.ones((6, 6, 3)))


def test_animation_gives_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read_image(tmp_path / "a.gif")[4, 4], [1, 0, 0])


def test_colour_profile_is_applied(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # A profile whose red and green primaries have changed places.
    swapped = profile.replace(b"rXYZ", b"tmp ", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tmp ", b"gXYZ", 1)
    for name, data, order in (
        ("a", profile, [0, 1, 2]),
        ("b", swapped, [1, 0, 2]),
        ("c", b"junk", [0, 1, 2]),
    ):
        Image.fromarray(to_uint8(_ramp())).save(tmp_path / f"{name}.png", icc_profile=data)
        np.testing.assert_allclose(read_image(tmp_path / f"{name}.png"), _ramp()[..., order], atol=0.012)


def test_longest_side(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", _ramp(600, 900))
    got = read_image(tmp_path / "a.jpg", longest=100)
    assert max(got.shape[:2]) == 100 and got.shape[0] in (66, 67)
    small = _ramp(600, 900)[4::9, 4::9]
    assert np.abs(got[: len(small), : small.shape[1]] - small[: len(got), :100]).mean() < 0.02


@pytest.mark.parametrize("height,width", [(1, 1), (10, 4000), (4000, 1)])
def test_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    write_image(tmp_path / "a.png", np.full((height, width, 3), 0.25, np.float32))
    assert read_image(tmp_path / "a.png").shape == (height, width, 3)


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(_ramp(64, 64))).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        _jpeg()[: len(_jpeg()) // 2],
        _jpeg()[:20],
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 64,
        b"GIF89a",
    ],
)
def test_bad_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(HeadsplatError, match=r"bad\.jpg") as caught:
        read_image(tmp_path / "bad.jpg")
    assert str(caught.value).count("\n") == 0 and "0x" not in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="no file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(HeadsplatError, match="folder"):
        read_image(tmp_path)


def test_too_many_pixels(tmp_path: Path) -> None:
    # A PNG header that promises 20000 x 20000 pixels; nothing of that size may be allocated.
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(HeadsplatError, match="million"):
        read_image(tmp_path / "bomb.png")


def test_refused_writes(tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="must end in"):
        write_image(tmp_path / "a.bmp", _ramp())
    with pytest.raises(HeadsplatError, match="JPEG has no transparency"):
        write_image(tmp_path / "a.jpg", np.zeros((4, 4, 4), np.float32))
    assert not list(tmp_path.iterdir())


def test_eight_bit_rounding() -> None:
    values = np.array([[[-1.0, 0.0, 0.5 / 255 + 1e-4], [1.0, 2.0, 127.4 / 255]]], np.float32)
    np.testing.assert_array_equal(to_uint8(values), [[[0, 0, 1], [255, 255, 127]]])


HEIC = Path(__file__).resolve().parent.parent / "golden" / "pictures" / "astronaut.heic"


def test_photos_of_iphones_are_read() -> None:
    """A crop of the astronaut, 180 x 200, with a focal length of 26 mm noted; made with libheif."""
    from PIL import Image
    from skimage.data import astronaut

    pytest.importorskip("pi_heif")
    picture = read_image(HEIC)
    small = Image.fromarray(astronaut()).crop((90, 0, 360, 300)).resize((180, 200))
    assert picture.shape == (200, 180, 3)
    assert np.abs(picture - np.asarray(small) / 255).mean() < 0.03
    assert read_focal(HEIC) == pytest.approx(26 / 43.27)


def test_without_its_package_heic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    learn_heic.cache_clear()
    try:
        with pytest.raises(HeadsplatError, match="pi-heif"):
            read_image(HEIC)
    finally:
        learn_heic.cache_clear()
