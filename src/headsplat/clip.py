"""What the tracker knows about one picture (Frame) and about a sequence of one person (Clip)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headsplat.camera import Camera


@dataclass(frozen=True)
class Frame:
    """One tracked picture: a square crop around the head, and the head model's parameters in it.

    World = the bust of the head model at rest, so a still torso has a still `camera` and the head turns by
    its neck and head joints. All arrays are numpy.

    Attributes:
        image: (H, W, 3) float32 sRGB 0..1, as photographed; repeated edge pixels where `valid` is False.
        alpha: (H, W) float32 0..1, how much of a pixel is the person.
        foreground: (H, W, 3) float32 0..1, the person's own colour, un-mixed from the background.
        valid: (H, W) bool, inside the original picture.
        camera: the camera of the crop.
        shape: (S,) identity coefficients of the head model, in sigmas.
        expression: (E,) expression weights in the head model's order.
        rotations: (J, 3) joint rotation vectors, radians, in the head model's order of joints.
        T_world_root: (4, 4) pose of the bust; the identity for a photo.
        landmarks: (478, 2) detected MediaPipe face points, pixels of the crop.
        confidence: 0..1, how far to trust the parameters; under 0.3 something covers the face or the fit
            failed.
        source: SHA-256 of the source file, hex, or "".
        landmark_error: mean distance of the model's 468 face points to `landmarks`, as a fraction of the
            distance between the outer corners of the eyes (seen straight on).
        crop: (2, 3) affine map from pixels of the original picture to pixels of the crop.
    """

    image: np.ndarray
    alpha: np.ndarray
    foreground: np.ndarray
    valid: np.ndarray
    camera: Camera
    shape: np.ndarray
    expression: np.ndarray
    rotations: np.ndarray
    T_world_root: np.ndarray
    landmarks: np.ndarray
    confidence: float
    source: str
    landmark_error: float
    crop: np.ndarray


@dataclass(frozen=True)
class Clip:
    """Frames of one person over time; a photo is a clip of length one.

    Attributes:
        frames: in order of time.
        fps: frames per second.
    """

    frames: tuple[Frame, ...]
    fps: float

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)
