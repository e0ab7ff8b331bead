"""Source images the way the released LAM expects them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head

MASK_THRESHOLD = 180
"""Matte values above this, of 255, are the person."""


def source_image(frame: Frame, size: int, background: float = 1.0) -> np.ndarray:
    """(size, size, 3) float32: the person of a tracked picture on grey of level `background`, whole crop."""
    alpha = frame.alpha[..., None]
    return resize_area(frame.foreground * alpha + np.float32(background) * (1 - alpha), size)


def head_square(frame: Frame, margin: float = 1.65) -> Frame:
    """The square around the head that the released weights were trained to see, cut from a tracked picture.

    Its side is `margin` times the geometric mean of the sides of the head's box, which is that of the tracked
    head model, not of the head detector that its authors used: the framing agrees only roughly.
    """
    head = load_free_head()
    shaped = head.with_shape(frame.shape)
    posed = shaped.with_pose(frame.expression, frame.rotations, frame.T_world_root)
    pixels = frame.camera.project(posed.vertices[head.vertices_of("head")])[:, :2]
    low, high = pixels.min(0), pixels.max(0)
    half = int(0.5 * margin * np.sqrt(np.prod(high - low)))
    left, top = (int(c) for c in np.round((low + high) / 2 - half))
    box = (top, top + 2 * half, left, left + 2 * half)
    return replace(
        frame,
        image=_cut(frame.image, box, 0.0),
        alpha=_cut(frame.alpha, box, 0.0),
        foreground=_cut(frame.foreground, box, 0.0),
        valid=_cut(frame.valid, box, 0.0) > 0,
        camera=frame.camera.crop(left, top, 2 * half, 2 * half),
        landmarks=frame.landmarks - np.array([left, top], np.float32),
        crop=frame.crop - np.array([[0, 0, left], [0, 0, top]], np.float32),
    )


def prepare_image(
    image: np.ndarray, alpha: np.ndarray | None, size: int, background: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The network's input: the person on white, cut out around the image centre, resized by area.

    The matte becomes binary; the square reaches from the image centre as far as the person does.

    Args:
        image: (H, W, 3) float32 0..1.
        alpha: (H, W) float32 0..1, or None for all of the picture.
        size: side of the result, pixels.
        background: grey level behind the person.

    Returns:
        (size, size, 3) float32 image and (size, size) float32 mask, both 0..1.

    Raises:
        HeadsplatError: the matte is empty.
    """
    height, width = image.shape[:2]
    mask = np.ones((height, width), np.float32)
    if alpha is not None:
        mask = (np.round(alpha * 255) > MASK_THRESHOLD).astype(np.float32)
    if not mask.any():
        raise HeadsplatError("There is nobody in the matte of the photo; give a photo with one clear face.")
    half = 0
    for axis, centre in ((0, height // 2), (1, width // 2)):
        inside = np.flatnonzero(mask.any(1 - axis))
        half = max(half, centre - inside[0], inside[-1] - centre)
    half = max(half, 1)
    on_white = image * mask[..., None] + background * (1 - mask[..., None])
    box = (height // 2 - half, height // 2 + half, width // 2 - half, width // 2 + half)
    return (
        resize_area(_cut(on_white, box, background), size),
        resize_area(_cut(mask, box, 0.0), size),
    )


def resize_area(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) or (H, W, C) to (size, size, ...), every pixel the mean of the area that it covers."""
    rows, columns = _area_weights(image.shape[0], size), _area_weights(image.shape[1], size)
    shrunk = np.tensordot(rows, image.astype(np.float64), axes=(1, 0))
    return np.moveaxis(np.tensordot(columns, shrunk, axes=(1, 1)), 0, 1).astype(np.float32)


def _cut(image: np.ndarray, box: tuple[int, int, int, int], fill: float) -> np.ndarray:
    """Rows and columns low <= i < high of an image, which may reach over its borders."""
    top, bottom, left, right = box
    height, width = image.shape[:2]
    out = np.full((bottom - top, right - left, *image.shape[2:]), fill, np.float32)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[rows, columns]
    return out


def _area_weights(old: int, new: int) -> np.ndarray:
    """(new, old) share of each old pixel in each new one."""
    edges = np.linspace(0, old, new + 1)
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(old)[None]
    cover = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, 1)
    return cover / (high - low)
