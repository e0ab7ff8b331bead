"""How good a picture of a head is: plain functions of pictures, points and poses, none of them a network.

Pictures are (H, W, 3) float arrays in 0..1; masks (H, W) are weights, 0 = ignore. Metrics that need a network
(LPIPS, CSIM) live in `networks.py` and say so when its weights are missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix

# Wang et al. 2004: an 11 x 11 Gaussian window of sigma 1.5, and the two constants for a range of 1.
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2
# Wang, Simoncelli and Bovik 2003, the weights of the five scales.
_MS_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def psnr(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB over the masked pixels; infinite for equal pictures.

    Args:
        image: (H, W, C) in 0..1.
        target: (H, W, C) in 0..1.
        mask: (H, W) weights; None = every pixel.

    Returns:
        dB; NaN when the mask is empty.
    """
    error = np.square(image.astype(np.float64) - target).mean(-1)
    mean = _mean(error, mask)
    return float(np.inf) if mean == 0 else float(-10 * np.log10(mean))


@dataclass(frozen=True)
class Similarity:
    """The two factors of structural similarity at every pixel, from which all its means are taken.

    Attributes:
        luminance: (H, W, C) of the means in the window.
        structure: (H, W, C) contrast and structure.
    """

    luminance: np.ndarray
    structure: np.ndarray

    @property
    def map(self) -> np.ndarray:
        """(H, W, C) structural similarity at every pixel."""
        return self.luminance * self.structure

    def mean(self, mask: np.ndarray | None = None) -> float:
        """Mean over channels and pixels; 1 for equal pictures.

        Without a mask (H, W) a border of 5 pixels, where the window leaves the picture, does not count (as
        in scikit-image); with one the mask alone decides.
        """
        if mask is None:
            return float(_inner(self.map).mean())
        return float(_mean(self.map.mean(-1), mask))


def similarity(image: np.ndarray, target: np.ndarray) -> Similarity:
    """Structural similarity (Wang et al. 2004) of pictures (H, W, C) at every pixel."""
    import cv2

    x, y = (np.ascontiguousarray(a, np.float64) for a in (image, target))
    kernel = cv2.getGaussianKernel(2 * _RADIUS + 1, _SIGMA, cv2.CV_64F)

    def blur(a: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(a, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT).reshape(a.shape)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return Similarity(luminance, (2 * covariance + _C2) / (var_x + var_y + _C2))


def ssim(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean structural similarity of pictures (H, W, C): `Similarity.mean`."""
    return similarity(image, target).mean(mask)


def ms_ssim(image: np.ndarray, target: np.ndarray, finest: Similarity | None = None) -> float:
    """Multi-scale structural similarity (Wang et al. 2003), five scales, mean over channels.

    Pictures must be at least 176 pixels wide and high, so that the smallest scale still holds the window.

    Args:
        image: (H, W, C) in 0..1.
        target: (H, W, C) in 0..1.
        finest: their `similarity`, if it is known already.

    Raises:
        ValueError: smaller pictures.
    """
    if min(image.shape[:2]) < 176:
        raise ValueError(f"MS-SSIM needs pictures of at least 176 x 176 pixels, not {image.shape[:2]}.")
    x, y = image.astype(np.float64), target.astype(np.float64)
    product = np.ones(x.shape[-1])
    for scale, weight in enumerate(_MS_WEIGHTS):
        level = similarity(x, y) if scale or finest is None else finest
        last = scale == len(_MS_WEIGHTS) - 1
        value = _inner(level.map if last else level.structure).mean((0, 1))
        product *= np.maximum(value, 0) ** weight
        x, y = _halve(x), _halve(y)
    return float(product.mean())


def matte_iou(alpha: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Intersection over union of two mattes cut at one half; 1 when both are empty.

    Args:
        alpha: (H, W) in 0..1.
        target: (H, W) in 0..1.
        valid: (H, W) bool, pixels that count.
    """
    a, b = alpha > 0.5, target > 0.5
    if valid is not None:
        a, b = a & valid, b & valid
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def keypoint_distance(points: np.ndarray, target: np.ndarray) -> float:
    """AKD: mean distance of matching points (..., P, 2), in the pixels they are given in."""
    return float(np.linalg.norm(points - target, axis=-1).mean())


def expression_distance(weights: np.ndarray, target: np.ndarray) -> float:
    """AED: Euclidean distance of two (..., E) vectors of expression weights, mean over leading axes.

    The unit is a weight: 1 = one full expression apart. The published AED uses the coefficients of some 3D
    morphable model: only figures with the same model compare.
    """
    return float(np.linalg.norm(np.asarray(weights, np.float64) - target, axis=-1).mean())


def pose_distance(rotation: np.ndarray, target: np.ndarray) -> float:
    """APD: angle in degrees between head rotations, (..., 3) rotation vectors in radians; mean."""
    relative = np.swapaxes(axis_angle_to_matrix(np.asarray(rotation, np.float64)), -1, -2)
    relative = relative @ axis_angle_to_matrix(np.asarray(target, np.float64))
    # atan2 of the antisymmetric part stays exact near zero, where arccos of the trace loses half the digits.
    axis = np.stack(
        [
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ],
        -1,
    )
    sine, cosine = np.linalg.norm(axis, axis=-1) / 2, (np.trace(relative, axis1=-2, axis2=-1) - 1) / 2
    return float(np.degrees(np.arctan2(sine, cosine)).mean())


def jitter(points: np.ndarray) -> float:
    """Mean length of the second difference in time of (T, P, 2) points: shake, plus true acceleration.

    In the unit of the points; 0 for fewer than three frames.
    """
    if len(points) < 3:
        return 0.0
    return float(np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1).mean())


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two embeddings, the form in which CSIM compares identities; -1..1."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _inner(a: np.ndarray) -> np.ndarray:
    """The pixels whose window lies in the picture."""
    return a[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _halve(a: np.ndarray) -> np.ndarray:
    """(H // 2, W // 2, C) means of 2 x 2 pixels; an odd last row or column is dropped."""
    h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
    return a[:h, :w].reshape(h // 2, 2, w // 2, 2, -1).mean((1, 3))


def _mean(values: np.ndarray, mask: np.ndarray | None) -> float:
    if mask is None:
        return float(values.mean())
    total = float(mask.sum())
    return float((values * mask).sum() / total) if total else float("nan")
