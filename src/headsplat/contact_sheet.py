"""Contact sheets: one avatar from all sides and in several expressions, labelled, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.playback import Color, portrait_camera, seen_colors, shot

Tile = tuple[str, np.ndarray]

YAWS = (0, 30, -30, 60, -60, 90, 180)
"""Degrees; positive shows the subject's left side."""

EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "mouth open": {"jawOpen": 0.7},
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "brows": {"browInnerUp": 0.9, "browOuterUpLeft": 0.9, "browOuterUpRight": 0.9},
    "tongue": {"jawOpen": 0.6, "tongueOut": 1.0},
    "pucker": {"mouthPucker": 0.9},
    "turned": {},
}
_TURNED: dict[str, Any] = {"neck": (0.0, 0.15, 0.0), "head": (0.05, 0.3, 0.1)}


def sheet_tiles(
    avatar: Avatar,
    *,
    size: int = 256,
    background: Color | None = (1.0, 1.0, 1.0),
) -> list[Tile]:
    """The avatar from the angles of `YAWS` and with the expressions of `EXPRESSIONS` that it has.

    Args:
        avatar: with RGB features or a refiner.
        size: side of a tile, pixels.
        background: RGB 0..1 or None for transparent.
    """
    expressions = {k: v for k, v in EXPRESSIONS.items() if set(v) <= set(avatar.expressions)}
    tiles = []
    for label in [*(f"{yaw}°" for yaw in YAWS), *expressions]:
        yaw, pose = 0.0, {}
        if label in expressions:
            turned = {j: r for j, r in _TURNED.items() if label == "turned" and j in avatar.joints}
            pose = {"expression": expressions[label], "rotations": turned}
        else:
            yaw = np.radians(float(label[:-1]))
        tiles.append((label, shot(avatar, portrait_camera(avatar, yaw, size=size), background, **pose)))
    return tiles


def arrange(tiles: Sequence[Tile], columns: int = 7) -> np.ndarray:
    """One picture of equally large tiles in rows, each with its label underneath.

    Returns:
        (H, W, C) float32 0..1; C as in the tiles.
    """
    height, width, channels = tiles[0][1].shape
    caption = max(16, height // 12)
    rows = -(-len(tiles) // columns)
    sheet = np.ones((rows * (height + caption), min(columns, len(tiles)) * width, channels), np.float32)
    for i, (label, tile) in enumerate(tiles):
        y, x = i // columns * (height + caption), i % columns * width
        sheet[y : y + height, x : x + width] = tile
        _write(sheet[y + height : y + height + caption, x : x + width], label)
    return sheet


def with_seen_legend(picture: np.ndarray) -> np.ndarray:
    """The picture with a bar underneath that says what the colours of `paint_seen` mean."""
    height, width, channels = picture.shape
    bar = max(24, height // 14)
    legend = np.ones((bar, width, channels), np.float32)
    half = bar // 2
    legend[:half, :, :3] = seen_colors(np.linspace(0, 1, width, dtype=np.float32))
    _write(legend[half:], "guessed", align="left")
    _write(legend[half:], "photographed", align="right")
    return np.concatenate([picture, legend])


def _write(area: np.ndarray, text: str, align: str = "middle") -> None:
    """Write black text into an (H, W, C) area of a picture, in place."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = area.shape[:2]
    image = Image.new("L", (width, height), 0)
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(8, int(height * 0.72)))
    length = canvas.textlength(text, font=font)
    x = {"left": 3.0, "middle": (width - length) / 2, "right": width - length - 3}[align]
    canvas.text((x, height / 2), text, fill=255, font=font, anchor="lm")
    ink = np.asarray(image, np.float32)[..., None] / 255
    area[..., :3] *= 1 - ink
    if area.shape[-1] == 4:
        area[..., 3:] = np.maximum(area[..., 3:], ink)
