"""Make a portrait look drawn, painted or graded, offline, with classical image processing.

Each style maps an (H, W, 3) image to one of the same size; sizes of strokes go with the size of the image, so
that a picture and its enlargement look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from headsplat.clip import Frame
from headsplat.errors import HeadsplatError


def pencil(image: np.ndarray) -> np.ndarray:
    """Graphite on paper: dark where the picture is darker than its surroundings, with light hatching."""
    import cv2

    unit = _unit(image)
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    lines = np.clip(grey / np.maximum(cv2.GaussianBlur(grey, (0, 0), 9 * unit), 1e-3), 0, 1) ** 1.5
    tone = cv2.bilateralFilter(grey, 0, 0.1, 3 * unit)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32) / unit
    hatching = 0.5 + 0.5 * np.sin(2.1 * (x + 0.6 * y) + 1.5 * np.sin(0.13 * (x - y)))
    shade = 1 - 0.22 * np.clip(1.1 - 2 * tone, 0, 1) * hatching
    drawn = lines * (0.72 + 0.28 * tone**0.5) * shade
    return _clip(drawn[..., None] * np.array([0.98, 0.97, 0.94], np.float32))


def oil(image: np.ndarray) -> np.ndarray:
    """Oil paint: every pixel takes the mean colour of the commonest brightness in a round brush."""
    import cv2

    radius = max(1, round(3 * _unit(image)))
    levels = 12
    image = _vivid(image, 1.35)
    grey = np.minimum((image.mean(-1) * levels).astype(np.int32), levels - 1)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    most, paint = np.zeros(grey.shape, np.float32), np.zeros_like(image)
    for level in np.unique(grey):
        here = (grey == level).astype(np.float32)
        count = cv2.filter2D(here, -1, brush, borderType=cv2.BORDER_REFLECT)
        total = cv2.filter2D(image * here[..., None], -1, brush, borderType=cv2.BORDER_REFLECT)
        wins = count > most + 1e-3
        paint[wins] = total[wins] / count[wins, None]
        most[wins] = count[wins]
    smooth = cv2.GaussianBlur(paint, (0, 0), 0.5 * _unit(image))
    relief = cv2.Sobel(cv2.GaussianBlur(smooth.mean(-1), (0, 0), _unit(image)), -1, 1, 1)
    return _clip(smooth + 0.8 * relief[..., None])


def cartoon(image: np.ndarray) -> np.ndarray:
    """Flat colours and ink: smoothed until few tones are left, with dark lines along the strongest edges."""
    import cv2

    unit = _unit(image)
    image = _bright(image)
    flat = image
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 0, 0.12, 3 * unit)
    tone = flat.mean(-1, keepdims=True)
    steps = 7
    level = tone * steps
    # A soft staircase: flat treads, short slopes, so that no tone border is jagged.
    soft = np.floor(level) + np.clip((level % 1 - 0.5) * 4 + 0.5, 0, 1)
    # In the dark a tread may be many times as bright as its pixels: that would only show their noise.
    flat = _vivid(flat * np.minimum((soft / steps + 0.02) / np.maximum(tone, 1e-3), 1.5), 1.25)
    grey = cv2.GaussianBlur(image.mean(-1), (0, 0), unit)
    line = grey - cv2.GaussianBlur(grey, (0, 0), 1.6 * unit)
    ink = np.clip((-line - 0.006) / 0.02, 0, 1)
    return _clip(flat * (1 - 0.85 * cv2.GaussianBlur(ink, (0, 0), 0.4 * unit)[..., None]))


def film(image: np.ndarray) -> np.ndarray:
    """A graded film still: teal shadows, warm lights, a soft S-curve, no change of shapes."""
    light = (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    curved = image * (1 - 0.35) + 0.35 * (3 * image**2 - 2 * image**3)
    teal, warm = np.array([-0.05, 0.02, 0.06], np.float32), np.array([0.06, 0.02, -0.06], np.float32)
    return _clip(_vivid(curved, 1.1) + teal * (1 - light) ** 2 + warm * light**2)


STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pencil": pencil,
    "oil": oil,
    "cartoon": cartoon,
    "film": film,
}
"""Name of a style to its function."""


def restyle(image: np.ndarray, style: str) -> np.ndarray:
    """An image in a style.

    Args:
        image: (H, W, 3) float32 0..1.
        style: a key of `STYLES`.

    Raises:
        HeadsplatError: there is no such style.
    """
    if style not in STYLES:
        raise HeadsplatError(f"There is no style {style!r}; choose one of {', '.join(STYLES)}.")
    return STYLES[style](np.ascontiguousarray(image, np.float32))


def restyle_frame(frame: Frame, style: str) -> Frame:
    """A tracked picture in a style: same person, same pose, same outline, other colours.

    Tracking comes first, so a style may be as wild as it likes without the face being lost.

    Raises:
        HeadsplatError: there is no such style.
    """
    # Strokes must not pick up the old background: where nobody is, the person's colours go on.
    alpha = frame.alpha[..., None]
    over = frame.foreground * alpha + _spread(frame.foreground, frame.alpha) * (1 - alpha)
    return replace(frame, image=restyle(frame.image, style), foreground=restyle(over, style))


def _spread(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The person's colours carried on outside of the matte, ever more blurred."""
    import cv2

    total, weight = np.zeros_like(colours), np.full(alpha.shape, 1e-6, np.float32)
    for sigma in (1, 4, 16, 64):
        share = np.float32(0.01 ** np.log2(sigma))
        total += share * cv2.GaussianBlur(colours * alpha[..., None], (0, 0), sigma)
        weight += share * cv2.GaussianBlur(alpha, (0, 0), sigma)
    mean = (colours * alpha[..., None]).sum((0, 1)) / max(float(alpha.sum()), 1e-6)
    return (total + 1e-6 * mean) / (weight[..., None])


def _unit(image: np.ndarray) -> float:
    """Size of a stroke: one pixel in an image of 512."""
    return max(image.shape[:2]) / 512


def _bright(image: np.ndarray) -> np.ndarray:
    """A dark picture with its shadows opened, so that they show something to draw; a light one as it is."""
    mean = float(np.clip(image.mean(), 0.02, 0.98))
    power = float(np.clip(np.log(0.38) / np.log(mean), 0.45, 1))
    grey = image.mean(-1, keepdims=True)
    gain = (grey + np.float32(0.03)) ** (power - 1)
    # Colours gain less than brightness: black hair, which is a little blue, must not become blue hair.
    return np.clip(grey * gain + (image - grey) * np.minimum(gain, 1.3), 0, 1).astype(np.float32)


def _vivid(image: np.ndarray, by: float) -> np.ndarray:
    grey = image.mean(-1, keepdims=True)
    return grey + by * (image - grey)


def _clip(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 1).astype(np.float32)
