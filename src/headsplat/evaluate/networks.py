"""Metrics that are networks: LPIPS and the identity similarity CSIM. Without its weights a metric says so.

Nothing is downloaded and nothing is replaced: `None` and a reason is the answer where a model is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.evaluate.metrics import cosine_similarity
from headsplat.track import landmarks as lm

ARCFACE_VARIABLE = "HEADSPLAT_ARCFACE"
# Where the five points lie in the 112-pixel pictures that ArcFace networks are trained on (Deng et al. 2019):
# the eye on the left of the picture, the other eye, tip of the nose, the mouth's corners in the same order.
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_ARCFACE_SIZE = 112
_ALEXNET = "alexnet-owt-7be5be79.pth"


@dataclass(frozen=True)
class Networks:
    """The networks to judge with.

    Attributes:
        arcface: ONNX file of an ArcFace network: (1, 3, 112, 112) RGB in -1..1 to an embedding; None = no
            CSIM.
        lpips: whether to measure LPIPS if its weights are there.
    """

    arcface: str | None = None
    lpips: bool = True

    @staticmethod
    def found(arcface: str | os.PathLike[str] | None = None) -> Networks:
        """The networks that are given, or named by the environment.

        Raises:
            HeadsplatError: an ArcFace file is named and missing.
        """
        path = arcface or os.environ.get(ARCFACE_VARIABLE)
        if path is not None and not Path(path).is_file():
            raise HeadsplatError(f"There is no ArcFace network {path}; give the path of an ONNX file.")
        return Networks(None if path is None else str(Path(path).resolve()))

    def identity(self) -> dict[str, str]:
        """What the figures depend on, for the cache: hashes of the files."""
        from headsplat.evaluate.cases import file_hash

        arcface = "none" if self.arcface is None else file_hash(Path(self.arcface))
        return {"arcface": arcface, "lpips": why_no_lpips() or "alex"}

    def why_no_csim(self) -> str | None:
        """Why CSIM cannot be measured, or None."""
        if self.arcface is None:
            return f"no ArcFace network: set {ARCFACE_VARIABLE} or --arcface to an ONNX file"
        return None

    def csim(
        self, image: np.ndarray, points: np.ndarray, other: np.ndarray, other_points: np.ndarray
    ) -> float:
        """Cosine similarity of the identities in two pictures (H, W, 3) with face points (478, 2)."""
        assert self.arcface is not None
        network = _arcface(self.arcface)
        return cosine_similarity(
            *(_embed(network, align_face(i, p)) for i, p in ((image, points), (other, other_points)))
        )


def lpips(image: np.ndarray, target: np.ndarray) -> float:
    """Learned perceptual distance (Zhang et al. 2018, AlexNet, v0.1) of (H, W, 3) pictures in 0..1."""
    import torch

    def tensor(a: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1)[None], np.float32)) * 2 - 1

    with torch.no_grad():
        return float(_lpips()(tensor(image), tensor(target)))


def why_no_lpips() -> str | None:
    """Why LPIPS cannot be measured, or None."""
    from importlib.util import find_spec

    if find_spec("lpips") is None:
        return "the package lpips is not installed"
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    return None if weights.is_file() else f"no AlexNet weights: put {_ALEXNET} into {weights.parent}"


def align_face(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(112, 112, 3) the face moved to where ArcFace networks expect it, by the nearest similarity.

    Args:
        image: (H, W, 3) in 0..1.
        points: (478, 2) MediaPipe points, pixels.
    """
    import cv2

    # Pixel centres at .5 here, at whole numbers in the training pictures and in OpenCV.
    matrix = _similarity(five_points(points) - 0.5, ARCFACE_POINTS)
    return cv2.warpAffine(image, matrix, (_ARCFACE_SIZE, _ARCFACE_SIZE), flags=cv2.INTER_LINEAR)


def five_points(points: np.ndarray) -> np.ndarray:
    """(5, 2) eyes, nose and mouth corners of 478 points, the picture's left first."""
    eyes = [points[lm.EYE_RIGHT].mean(0), points[lm.EYE_LEFT].mean(0)]
    return np.array([*eyes, points[lm.NOSE_TIP], points[61], points[291]])


def _similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3) least-squares rotation, scale and shift in the plane."""
    z, w = points @ [1, 1j], target @ [1, 1j]
    centred = z - z.mean()
    turn = (centred.conj() @ (w - w.mean())) / (centred.conj() @ centred).real
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _embed(network: Any, face: np.ndarray) -> np.ndarray:
    network.setInput(np.ascontiguousarray(face.transpose(2, 0, 1)[None] * 2 - 1, np.float32))
    return network.forward().ravel().astype(np.float64)


@cache
def _arcface(path: str) -> Any:
    import cv2

    try:
        return cv2.dnn.readNetFromONNX(path)
    except cv2.error as error:
        raise HeadsplatError(f"{path} is not an ONNX network that OpenCV can run; give another.") from error


@cache
def _lpips() -> Any:
    import warnings

    import lpips as package  # pyright: ignore[reportMissingImports]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return package.LPIPS(net="alex", verbose=False).eval()
