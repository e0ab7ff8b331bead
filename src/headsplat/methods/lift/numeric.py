"""Numerical pieces that several steps of lift share: soft thresholds, look-ups, splat frames."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from headsplat.gaussians import matrix_to_quat


def smoothstep(x: np.ndarray | float, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; `low` may exceed `high` for a falling step."""
    t = np.clip((np.asarray(x) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., k) vectors scaled to length one; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def look_up(picture: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear look-up, edges repeated.

    Args:
        picture: (H, W) or (H, W, C) float32.
        pixels: (N, 2 or more) x and y, where pixel (0, 0) has its centre at (0.5, 0.5).

    Returns:
        (N,) or (N, C) float32.
    """
    xy = np.ascontiguousarray(pixels[:, :2], np.float32) - np.float32(0.5)
    picture = np.ascontiguousarray(picture, np.float32)
    block = 30_000  # OpenCV's remap cannot address more rows than a 16-bit integer
    parts = [
        cv2.remap(
            picture,
            xy[i : i + block, None, 0],
            xy[i : i + block, None, 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[:, 0]
        for i in range(0, len(xy), block)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, *picture.shape[2:]), np.float32)


def nearest_index(pixels: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixel that holds each (N, 2 or more) position, clamped into the picture."""
    x = np.clip(np.floor(pixels[:, 0]), 0, width - 1).astype(np.int32)
    y = np.clip(np.floor(pixels[:, 1]), 0, height - 1).astype(np.int32)
    return y, x


def inside(pixels: np.ndarray, height: int, width: int, margin: float = 0.0) -> np.ndarray:
    """(N,) bool: positions at least `margin` pixels inside the picture."""
    x, y = pixels[:, 0], pixels[:, 1]
    return (x > margin) & (y > margin) & (x < width - margin) & (y < height - margin)


def nearest_true(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column (H, W) of the nearest true pixel of a mask that has one."""
    indices = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return indices[0], indices[1]  # type: ignore[index]


def splat_frames(
    t1: np.ndarray, t2: np.ndarray, thickness: np.ndarray | float, longest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat Gaussians whose in-plane covariance is t1 t1ᵀ + t2 t2ᵀ.

    Args:
        t1: (N, 3) vector in the plane, metres.
        t2: (N, 3) another; they need not be orthogonal.
        thickness: standard deviation along the normal, as a fraction of the shorter axis.
        longest: bound on the ratio of the long to the short axis.

    Returns:
        quats (N, 4), scales (N, 3), axes (N, 3, 3) whose columns are long axis, short axis, normal.
    """
    a, b, d = (t1 * t1).sum(1), (t1 * t2).sum(1), (t2 * t2).sum(1)
    mean, spread = (a + d) / 2, np.sqrt(np.maximum(((a - d) / 2) ** 2 + b * b, 1e-24))
    angle = 0.5 * np.arctan2(2 * b, a - d)
    long = np.sqrt(mean + spread)
    short = np.maximum(np.sqrt(np.maximum(mean - spread, 1e-16)), long / longest)
    u = unit(np.cos(angle)[:, None] * t1 + np.sin(angle)[:, None] * t2)
    normal = unit(np.cross(t1, t2))
    axes = np.stack([u, np.cross(normal, u), normal], -1)
    return matrix_to_quat(axes), np.stack([long, short, short * thickness], -1), axes


def lab(image: np.ndarray) -> np.ndarray:
    """CIE Lab scaled to 0..255 per channel, float32, of an sRGB image (H, W, 3) in 0..1."""
    return cv2.cvtColor((np.clip(image, 0, 1) * 255).astype(np.uint8), cv2.COLOR_RGB2LAB).astype(np.float32)


def disk(radius: int) -> np.ndarray:
    """A round structuring element of the given radius in pixels."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def fill_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) uint8 mask, 1 inside the polygon of (N, 2) pixel positions."""
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [np.asarray(points).astype(np.int32)], (1,))


def fill_hull(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) uint8 mask, 1 inside the convex hull of (N, 2) pixel positions."""
    return fill_polygon(cv2.convexHull(np.asarray(points).astype(np.int32))[:, 0], height, width)
