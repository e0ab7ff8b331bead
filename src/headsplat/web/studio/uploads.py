"""Take in files from the page: size-limited while they arrive, known by their bytes, named by us."""

from __future__ import annotations

import asyncio
import re
import secrets
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headsplat.data.image import is_heic, learn_heic, read_image, write_image
from headsplat.errors import HeadsplatError

MEGABYTE = 1 << 20
MAX_PHOTO_BYTES = 40 * MEGABYTE
MAX_CLIP_BYTES = 400 * MEGABYTE
MAX_PIXELS = 64_000_000
MAX_STORED_BYTES = 4000 * MEGABYTE
MAX_NAME = 200
_STALL_SECONDS = 30
_PREVIEW = 256
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "MPO", "HEIF", "AVIF")

Kind = Literal["photo", "clip"]


class Refused(HeadsplatError):
    """An upload or request that the studio will not take; carries the HTTP status to answer with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """One accepted file.

    Attributes:
        id: random hex; also the stem of the files on disk, so no name from outside ever becomes a path.
        name: the user's name for it, for display only.
        kind: photo or clip.
        path: where the bytes lie.
        preview: a small JPEG of a photo; None for clips.
    """

    id: str
    name: str
    kind: Kind
    path: Path
    preview: Path | None

    def delete(self) -> None:
        """Remove the file and its preview from disk."""
        self.path.unlink(missing_ok=True)
        if self.preview is not None:
            self.preview.unlink(missing_ok=True)


async def receive_upload(folder: Path, name: str, length: int | None, body: AsyncIterator[bytes]) -> Upload:
    """Store a request body as an upload.

    Args:
        folder: where uploads lie.
        name: as the browser gave it.
        length: the Content-Length header, if any; only used to refuse early.
        body: chunks of the body.

    Raises:
        Refused: a name that is a path, an empty, oversized or stalled body, or bytes that are neither a photo
            nor a clip. Nothing is left on disk then.
    """
    check_name(name)
    if length is not None and length > MAX_CLIP_BYTES:
        raise _too_large(name, MAX_CLIP_BYTES)
    room = MAX_STORED_BYTES - sum(path.stat().st_size for path in folder.iterdir())
    identifier = secrets.token_hex(8)
    path = folder / identifier
    try:
        kind = await _store(path, name, body, room)
        preview = None
        if kind == "photo":
            preview = folder / f"{identifier}.jpg"
            await asyncio.to_thread(_check_photo, path, name, preview)
        return Upload(identifier, name, kind, path, preview)
    except BaseException:
        path.unlink(missing_ok=True)
        (folder / f"{identifier}.jpg").unlink(missing_ok=True)
        raise


def is_upload(name: str) -> bool:
    """Whether a file of this name is an upload or its preview; others are none of the studio's business."""
    return re.fullmatch(r"[0-9a-f]{16}(\.jpg)?", name) is not None


def restore_upload(folder: Path, id: str, name: str, kind: Kind) -> Upload:
    """An upload that already lies in `folder` under its id.

    Raises:
        ValueError: this is no id.
    """
    if not is_upload(id):
        raise ValueError(f"{id} is no upload")
    return Upload(id, name, kind, folder / id, folder / f"{id}.jpg" if kind == "photo" else None)


def check_name(name: str) -> None:
    """Refuse names that could be taken for a path or that cannot be shown.

    Raises:
        Refused: with the reason.
    """
    if not name.strip() or name in {".", ".."}:
        raise Refused(400, "The upload has no file name.")
    if len(name) > MAX_NAME:
        raise Refused(400, f"The file name is longer than {MAX_NAME} characters; shorten it.")
    if any(character in "/\\:" or not character.isprintable() for character in name):
        raise Refused(
            400, "The file name contains a path or characters that cannot be shown; rename the file."
        )


def sniff(start: bytes) -> Kind | None:
    """Photo or clip by the first 16 bytes, whatever the name says; None for everything else."""
    if start.startswith(
        (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM", b"GIF87a", b"GIF89a")
    ):
        return "photo"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "photo"
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return "clip"
    if is_heic(start) or start[4:12] == b"ftypavif":
        return "photo"
    if start[4:8] == b"ftyp" or start.startswith(b"\x1aE\xdf\xa3"):  # MP4, MOV; Matroska, WebM
        return "clip"
    return None


async def _store(path: Path, name: str, body: AsyncIterator[bytes], room: int) -> Kind:
    """Write the chunks to `path` while the limits hold; the kind shows in the first 16 bytes."""
    head, size, kind = b"", 0, None
    with open(path, "xb") as file:
        async for chunk in _without_stalls(body, name):
            size += len(chunk)
            file.write(chunk)
            if kind is None:
                head += chunk[:16]
                if len(head) < 16:
                    continue
                kind = sniff(head)
                if kind is None:
                    raise _unknown(name)
            limit = MAX_PHOTO_BYTES if kind == "photo" else MAX_CLIP_BYTES
            if size > limit:
                raise _too_large(name, limit)
            if size > room:
                raise Refused(507, "The studio's folder is full; delete an avatar and try again.")
    if size == 0:
        raise Refused(400, f"{name} is empty; choose another file.")
    if kind is None:
        raise _unknown(name)
    return kind


async def _without_stalls(body: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    iterator = body.__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(iterator.__anext__(), _STALL_SECONDS)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused(408, f"The upload of {name} stalled; try again.") from None


def _check_photo(path: Path, name: str, preview: Path) -> None:
    """Decode the whole photo once, so that a damaged one is refused now, and keep a small preview."""
    from PIL import Image

    learn_heic()
    Image.init()
    try:
        # Opening reads the header only: a picture that would fill the memory is refused before it is decoded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=[kind for kind in _FORMATS if kind in Image.OPEN]) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels(name) from None
    except Exception:  # Pillow's parsers raise almost anything on damaged files
        raise Refused(
            415, f"{name} starts like a picture but is damaged; save it again as PNG or JPEG."
        ) from None
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name)
    if min(width, height) < 64:
        raise Refused(415, f"{name} has only {width} x {height} pixels; choose a larger photo.")
    try:
        small = read_image(path, longest=_PREVIEW)
    except HeadsplatError as error:
        raise Refused(415, str(error).replace(path.name, name)) from None
    write_image(preview, small, quality=85)


def _unknown(name: str) -> Refused:
    return Refused(
        415, f"{name} is neither a photo (JPEG, PNG, WebP, HEIC, TIFF) nor a clip (MP4, MOV, WebM, AVI)."
    )


def _too_large(name: str, limit: int) -> Refused:
    return Refused(413, f"{name} is larger than {limit // MEGABYTE} MB; choose a smaller file.")


def _too_many_pixels(name: str) -> Refused:
    return Refused(413, f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; shrink it first.")
