"""Methods without a head model: show the source again, or bend it in the plane to the target's points."""

from __future__ import annotations

import numpy as np

_FADE = 0.5
"""Beyond the face the warp turns into the affine map of the whole face within this share of its height."""


def nearest(points: list[np.ndarray], target: np.ndarray | None) -> int:
    """Which of several faces (478, 2) lies nearest to the target's; the first if that is unknown."""
    if target is None:
        return 0
    return int(np.argmin([np.linalg.norm(p - target, axis=1).mean() for p in points]))


def warp(image: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Bend a picture so that face points `source` come to lie on `target`.

    Linear on each triangle of the Delaunay mesh of the target's points; beyond it the displacement at the rim
    fades into the affine map that fits all points best.

    Args:
        image: (H, W) or (H, W, C).
        source: (P, 2) pixels in `image`, centres at .5.
        target: (P, 2) pixels in the result.
    """
    import cv2
    from scipy.spatial import Delaunay

    height, width = image.shape[:2]
    mesh = Delaunay(target)
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], -1)
    affine = np.linalg.lstsq(np.column_stack([target, np.ones(len(target))]), source, rcond=None)[0]
    moved = np.column_stack([pixels, np.ones(len(pixels))]) @ affine
    found = mesh.find_simplex(pixels)
    inside = found >= 0
    if inside.any():
        transform = mesh.transform[found[inside]]
        first = np.einsum("nij,nj->ni", transform[:, :2], pixels[inside] - transform[:, 2])
        weights = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)
        exact = (source[mesh.simplices[found[inside]]] * weights[..., None]).sum(1)
        rest = exact - moved[inside]
        moved[inside] = exact
        away, label = cv2.distanceTransformWithLabels(
            (~inside).reshape(height, width).astype(np.uint8),
            cv2.DIST_L2,
            cv2.DIST_MASK_PRECISE,
            labelType=cv2.DIST_LABEL_PIXEL,
        )
        label = label.astype(int).ravel()
        at_rim = np.zeros((label.max() + 1, 2))
        at_rim[label[inside]] = rest
        fade = np.clip(1 - away.ravel() / (_FADE * max(np.ptp(target[:, 1]), 1.0)), 0, 1)[:, None]
        moved[~inside] += (at_rim[label] * fade)[~inside]
    grid = moved.reshape(height, width, 2).astype(np.float32) - 0.5
    return cv2.remap(image, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
