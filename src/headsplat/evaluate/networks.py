"""Metrics that are networks: LPIPS and the identity similarity CSIM. Without its weights a metric says so.

Nothing is downloaded and nothing is replaced: `None` and a reason is the answer where a model is missing.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.evaluate.metrics import cosine_similarity
from headsplat.track import landmarks as lm

ARCFACE_VARIABLE = "HEADSPLAT_ARCFACE"
LPIPS_VARIABLE = "HEADSPLAT_LPIPS"
# Where the five points lie in the 112-pixel pictures that ArcFace networks are trained on (Deng et al. 2019):
# the eye on the left of the picture, the other eye, tip of the nose, the mouth's corners in the same order.
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_ARCFACE_SIZE = 112
_LPIPS_FILES = ("alexnet-owt-7be5be79.pth", "alex.pth")


@dataclass(frozen=True)
class Networks:
    """The networks to judge with.

    Attributes:
        arcface: ONNX file of an ArcFace network: (1, 3, 112, 112) RGB in -1..1 to an embedding; None = no
            CSIM.
        alexnet: AlexNet trained on ImageNet, under torchvision's names.
        linear: the linear layers of LPIPS on AlexNet, v0.1; without both files no LPIPS.
    """

    arcface: str | None = None
    alexnet: str | None = None
    linear: str | None = None

    @staticmethod
    def found(arcface: str | os.PathLike[str] | None = None) -> Networks:
        """The networks that are given, named by the environment, or lie where their makers put them.

        Raises:
            HeadsplatError: a file is named and missing.
        """
        arcface = arcface or os.environ.get(ARCFACE_VARIABLE)
        folder = os.environ.get(LPIPS_VARIABLE)
        if arcface is not None and not Path(arcface).is_file():
            raise HeadsplatError(f"There is no ArcFace network {arcface}; give the path of an ONNX file.")
        files = _places_of_lpips() if folder is None else [Path(folder) / name for name in _LPIPS_FILES]
        if folder is not None and not all(file.is_file() for file in files):
            raise HeadsplatError(f"{LPIPS_VARIABLE} names {folder}; put {' and '.join(_LPIPS_FILES)} there.")
        names = [str(file.resolve()) if file.is_file() else None for file in files]
        return Networks(None if arcface is None else str(Path(arcface).resolve()), *names)

    def identity(self) -> dict[str, str]:
        """What the figures depend on, for the cache: hashes of the files."""
        from headsplat.evaluate.cases import file_hash

        return {
            name: "none" if file is None else file_hash(Path(file)) for name, file in asdict(self).items()
        }

    def why_no_csim(self) -> str | None:
        """Why CSIM cannot be measured, or None."""
        if self.arcface is None:
            return f"no ArcFace network: set {ARCFACE_VARIABLE} or --arcface to an ONNX file"
        return None

    def why_no_lpips(self) -> str | None:
        """Why LPIPS cannot be measured, or None."""
        if self.alexnet is None or self.linear is None:
            return f"no LPIPS weights: set {LPIPS_VARIABLE} to a folder with {' and '.join(_LPIPS_FILES)}"
        return None

    def lpips(self, image: np.ndarray, target: np.ndarray) -> float:
        """Learned perceptual distance (Zhang et al. 2018, AlexNet, v0.1) of (H, W, 3) pictures in 0..1."""
        import torch

        assert self.alexnet is not None and self.linear is not None
        distance = _lpips(self.alexnet, self.linear)
        pair = (torch.from_numpy(np.ascontiguousarray(a, np.float32))[None] for a in (image, target))
        with torch.no_grad():
            return float(distance(*pair))

    def csim(
        self, image: np.ndarray, points: np.ndarray, other: np.ndarray, other_points: np.ndarray
    ) -> float:
        """Cosine similarity of the identities in two pictures (H, W, 3) with face points (478, 2)."""
        assert self.arcface is not None
        network = _arcface(self.arcface)
        return cosine_similarity(
            *(_embed(network, align_face(i, p)) for i, p in ((image, points), (other, other_points)))
        )


def _places_of_lpips() -> list[Path]:
    """Where torch keeps AlexNet, and where the package `lpips`, which is not imported, has its layers."""
    from importlib.util import find_spec

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cache = Path(os.environ.get("TORCH_HOME", cache / "torch"))
    package = find_spec("lpips")
    origin = Path("lpips") if package is None or package.origin is None else Path(package.origin).parent
    return [cache / "hub" / "checkpoints" / _LPIPS_FILES[0], origin / "weights" / "v0.1" / _LPIPS_FILES[1]]


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
def _lpips(alexnet: str, linear: str) -> Any:
    from headsplat.losses import perceptual

    return perceptual(alexnet, linear).distance
