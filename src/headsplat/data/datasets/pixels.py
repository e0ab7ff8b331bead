"""The pixels behind a view of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headsplat.errors import HeadsplatError

if TYPE_CHECKING:
    from headsplat.data.dataset import View


def load_pixels(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) and matte (H, W) of a view, float32 0..1; see `Dataset.load`."""
    pixels = _read(view.image)
    if view.mask is not None:
        alpha = _read(view.mask)[..., 0]
    elif pixels.shape[-1] == 4:
        alpha = pixels[..., 3]
    else:
        alpha = np.ones(pixels.shape[:2], np.float32)
    size = (view.camera.height, view.camera.width)
    for path, shape in ((view.image, pixels.shape[:2]), (view.mask, alpha.shape)):
        if shape != size:
            raise HeadsplatError(
                f"{path} has {shape[1]} x {shape[0]} pixels but its camera {size[1]} x {size[0]}; "
                "repair the recording or track it again."
            )
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(alpha)


def _read(path: Path) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 0..1 as stored; alpha is not multiplied in."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            wanted = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
            pixels = np.asarray(wanted, np.float32) / 255
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise HeadsplatError(
            f"{path} is missing or no picture; repair the recording or track it again."
        ) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]
