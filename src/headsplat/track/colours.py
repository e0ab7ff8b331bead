"""A small mixture of Gaussians over colours: what a background or a head of hair looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAMPLES = 6000
_NOISE = np.diag([9.0, 4.0, 4.0])
"""Covariance added to every component: camera noise in 8-bit Lab."""


@dataclass(frozen=True)
class ColourMixture:
    """Components of a colour distribution in OpenCV's 8-bit Lab.

    Attributes:
        weights: (K,) sum to 1.
        means: (K, 3).
        precisions: (K, 3, 3) inverse covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    precisions: np.ndarray

    def log_density(self, lab: np.ndarray) -> np.ndarray:
        """(...) natural log of the density at colours (..., 3)."""
        out = np.full(lab.shape[:-1], -np.inf, np.float32)
        for weight, mean, precision in zip(self.weights, self.means, self.precisions, strict=True):
            root = np.linalg.cholesky(precision).astype(np.float32)
            scale = np.log(weight) + np.log(np.diag(root)).sum() - 1.5 * np.log(2 * np.pi)
            away = (lab.astype(np.float32) - mean.astype(np.float32)) @ root
            np.logaddexp(out, np.float32(scale) - 0.5 * (away * away).sum(-1), out=out)
        return out


def fit_colours(lab: np.ndarray, components: int = 5) -> ColourMixture:
    """The mixture of up to `components` clusters (k-means) of colours (N, 3), N at least 8."""
    import cv2

    lab = np.asarray(lab, np.float32)
    if len(lab) > _SAMPLES:
        lab = lab[np.random.default_rng(0).choice(len(lab), _SAMPLES, replace=False)]
    components = max(1, min(components, len(lab) // 50))
    cv2.setRNGSeed(1)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.1)
    _, labels, _ = cv2.kmeans(lab, components, np.empty(0), stop, 2, cv2.KMEANS_PP_CENTERS)
    groups = [lab[labels[:, 0] == k] for k in range(components)]
    groups = [group for group in groups if len(group) >= 8]
    total = sum(len(group) for group in groups)
    return ColourMixture(
        np.array([len(group) / total for group in groups]),
        np.array([group.mean(0) for group in groups]),
        np.array([np.linalg.inv(np.cov(group.T) + _NOISE) for group in groups]),
    )


def to_lab(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 colours of an image 0..1 in OpenCV's 8-bit Lab scale (each channel 0..255)."""
    import cv2

    from headsplat.data.image import to_uint8

    return cv2.cvtColor(to_uint8(image), cv2.COLOR_RGB2LAB).astype(np.float32)
