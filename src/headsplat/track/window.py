"""The one square part of a recording that holds a person's head and shoulders in every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.track import landmarks as lm

_SIDE = 2.8
"""Side of the window over the height of the face, for a head that keeps still."""
_ABOVE, _BELOW, _BESIDE = 1.15, 1.35, 1.15
"""What the window must hold around the middle of the face, over the height of the face."""
_HEAD_ABOVE, _HEAD_BELOW, _HEAD_BESIDE = 1.05, 0.75, 0.65
"""The same for the head alone; only for it does the window reach beyond the picture."""


@dataclass(frozen=True)
class Window:
    """A square of whole pixels, scaled to the size of the recording's pictures.

    Attributes:
        x: left edge in the source, pixels; may be negative.
        y: top edge.
        side: pixels of the source.
        size: pixels of the result.
    """

    x: int
    y: int
    side: int
    size: int

    @property
    def scale(self) -> float:
        """Pixels of the result per pixel of the source."""
        return self.size / self.side

    @property
    def affine(self) -> np.ndarray:
        """(2, 3) map from pixels of the source to pixels of the result."""
        k = self.scale
        return np.array([[k, 0, -k * self.x], [0, k, -k * self.y]])

    def points(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) points of the source in pixels of the result."""
        return (points - np.array([self.x, self.y], points.dtype)) * points.dtype.type(self.scale)

    def cut(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The window of a frame.

        Args:
            pixels: (H, W, 3) uint8.

        Returns:
            (size, size, 3) uint8 with repeated edges beyond the frame, and (size, size) bool: inside it.
        """
        import cv2

        height, width = pixels.shape[:2]
        x0, y0, x1, y1 = self.x, self.y, self.x + self.side, self.y + self.side
        part = pixels[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
        pads = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
        if any(pads):
            part = cv2.copyMakeBorder(part, *pads, cv2.BORDER_REPLICATE)
        how = cv2.INTER_AREA if self.side > self.size else cv2.INTER_CUBIC
        out = part if self.side == self.size else cv2.resize(part, (self.size, self.size), interpolation=how)
        return np.ascontiguousarray(out), self.inside(width, height)

    def inside(self, width: int, height: int) -> np.ndarray:
        """(size, size) bool: which pixels of the window lie inside a source of this size."""
        at = (np.arange(self.size) + 0.5) / self.scale
        inside_x, inside_y = ((at + p >= 0) & (at + p <= n) for p, n in ((self.x, width), (self.y, height)))
        return inside_y[:, None] & inside_x[None]


def choose_window(landmarks: np.ndarray, width: int, height: int, size: int = 512) -> Window:
    """The window for a recording.

    It holds head and shoulders in every frame and stays inside the picture if that shows the whole head.

    Args:
        landmarks: (T, 478, 2) pixels of the source.
        width: of the source, pixels.
        height: of the source, pixels.
        size: of the result, pixels.
    """
    faces = np.linalg.norm(landmarks[:, lm.FOREHEAD] - landmarks[:, lm.CHIN], axis=1)
    middles = landmarks[:, : lm.MESH].mean(1)

    def around(left: float, above: float, below: float) -> tuple[np.ndarray, np.ndarray]:
        low = np.quantile(middles - np.array([left, above]) * faces[:, None], 0.01, axis=0)
        return low, np.quantile(middles + np.array([left, below]) * faces[:, None], 0.99, axis=0)

    low, high = around(_BESIDE, _ABOVE, _BELOW)
    wanted = max(_SIDE * float(np.median(faces)), float((high - low).max()))
    seen = np.clip(around(_HEAD_BESIDE, _HEAD_ABOVE, _HEAD_BELOW), 0, [width, height])
    head = np.ptp(seen, axis=0).max()
    side = round(min(wanted, max(min(width, height), head)))
    middle = (low + high) / 2
    corner = np.clip(middle - side / 2, np.minimum(seen[1] - side, seen[0]), seen[0])
    corner = np.round(corner).astype(int)
    room = np.array([width, height]) - side
    # Inside the picture where it is large enough, else centred on it.
    corner = np.where(room >= 0, np.clip(corner, 0, np.maximum(room, 0)), room // 2)
    return Window(int(corner[0]), int(corner[1]), side, size)
