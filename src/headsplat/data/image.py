"""Read and write still pictures: whatever a camera, a phone or a designer saved, as sRGB in 0..1."""

from __future__ import annotations

import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.files import writing

MAX_PIXELS = 200_000_000
"""Pictures with more pixels are refused: decoding one would take gigabytes of memory."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def read_image(path: str | os.PathLike[str], *, longest: int | None = None) -> np.ndarray:
    """Read a picture upright and in sRGB.

    EXIF orientation and embedded colour profiles are applied; palettes, CMYK and 16-bit files are converted;
    transparency is laid over white; of an animation the first frame is taken.

    Args:
        path: a file in any format that Pillow reads, or HEIC.
        longest: shrink so that neither side exceeds this many pixels; None keeps the size.

    Returns:
        (H, W, 3) float32, display-referred sRGB 0..1.

    Raises:
        HeadsplatError: missing, empty, truncated, damaged, unknown or too large.
    """
    from PIL import Image, ImageOps

    name = Path(path).name
    data = _read_bytes(path)
    if is_heic(data[:12]) and not learn_heic():
        raise HeadsplatError(f"{name} is a HEIC picture; pip install pi-heif, or save it again as JPEG.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise HeadsplatError(
                        f"{name} has {image.width} x {image.height} pixels, more than "
                        f"{MAX_PIXELS // 1_000_000} million; shrink it first."
                    )
                if longest is not None and image.format == "JPEG":
                    # The JPEG decoder can skip detail while it decodes; ask for twice the size wanted.
                    image.draft(None, (2 * longest, 2 * longest))
                image.load()
                profile = image.info.get("icc_profile")
                image = ImageOps.exif_transpose(image)
                if longest is not None and max(image.size) > longest:
                    image.thumbnail((longest, longest), Image.Resampling.BOX, reducing_gap=None)
                return _to_rgb(image, profile)
    except HeadsplatError:
        raise
    except Image.DecompressionBombError as error:
        raise HeadsplatError(
            f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; shrink it first."
        ) from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise HeadsplatError(
            f"Cannot read {name} as a picture ({_reason(error)}); save it again as PNG or JPEG."
        ) from error


def read_focal(path: str | os.PathLike[str]) -> float | None:
    """The focal length that a camera noted in a picture, over the picture's diagonal; None if it did not.

    Cameras write it as the equivalent on 36 x 24 mm film, whose diagonal is 43.27 mm.
    """
    from PIL import Image

    learn_heic()
    try:
        with Image.open(path) as image:
            on_film = image.getexif().get_ifd(0x8769).get(0xA405)
        return float(on_film) / 43.27 if on_film and 5 < float(on_film) < 2000 else None
    except (OSError, ValueError, TypeError, SyntaxError):
        return None


def is_heic(start: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a HEIC picture, as iPhones take them."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS


@cache
def learn_heic() -> bool:
    """Teach Pillow to read HEIC; False where the package for it is not installed."""
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def write_image(path: str | os.PathLike[str], image: np.ndarray, *, quality: int = 95) -> None:
    """Write a picture; the suffix (.png, .jpg, .webp) chooses the format.

    Args:
        path: file to write; it appears complete or not at all.
        image: (H, W, 3) or (H, W, 4) float 0..1 or uint8; a fourth channel is straight alpha.
        quality: 1..100 for JPEG and WebP.

    Raises:
        HeadsplatError: an unknown suffix, alpha in a JPEG, or a place that cannot be written.
    """
    from PIL import Image

    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise HeadsplatError(
            f"Cannot write {Path(path).name}: a picture's name must end in .png, .jpg or .webp."
        )
    if image.shape[-1] == 4 and _WRITERS[suffix] == "JPEG":
        raise HeadsplatError(f"Cannot write {Path(path).name}: JPEG has no transparency; use .png or .webp.")
    with writing(path) as temporary:
        Image.fromarray(to_uint8(image)).save(temporary, _WRITERS[suffix], quality=quality)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """The picture in 8 bits: float 0..1 is clipped and rounded, uint8 passes through."""
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    name = Path(path).name
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise HeadsplatError(f"There is no file {path}; check the name.") from error
    except IsADirectoryError as error:
        raise HeadsplatError(f"{path} is a folder; give the name of a picture.") from error
    except OSError as error:
        raise HeadsplatError(f"Cannot read {name} ({error.strerror}); check its permissions.") from error
    if not data:
        raise HeadsplatError(f"{name} is empty; copy it again.")
    return data


def _to_rgb(image: Any, profile: bytes | None) -> np.ndarray:
    """(H, W, 3) float32 of a loaded Pillow image of any mode."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, np.float32)
        # Floats are 0..1 or 0..255; integers are 16 bits (Pillow calls some of them 32).
        top = 65535.0 if image.mode != "F" else 1.0 if grey.max() <= 1 else 255.0
        return np.repeat(np.clip(grey / top, 0, 1)[..., None], 3, -1)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    elif profile and image.mode in ("RGB", "CMYK", "L"):
        image = _from_profile(image, profile)
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def _from_profile(image: Any, profile: bytes) -> Any:
    """The image in sRGB if its colour profile can be understood, else unchanged."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _reason(error: Exception) -> str:
    """A short reason without the addresses of in-memory objects that Pillow puts into its messages."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "its format is not known"
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
