"""Where the shoulders are: MediaPipe's body pose model, whose landmarks say how the torso moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from headsplat.track import landmarks as lm
from headsplat.track.detect import silence

RATE = 6.0
"""How often per second shoulders need to be looked for: torsos are slow."""
_LEFT, _RIGHT, _NOSE = 11, 12, 0
_VISIBLE = 0.5
_WORKING_SIZE = 512


class ShoulderFinder:
    """Finds the shoulders that belong to a face, in frame after frame of a film."""

    def __init__(self) -> None:
        """Load the model, which comes inside MediaPipe's wheel."""
        with silence():
            from mediapipe.python.solutions.pose import Pose

            self._model: Any = Pose(model_complexity=1, smooth_landmarks=False)
            self._model.process(np.zeros((64, 64, 3), np.uint8))

    def forget(self) -> None:
        """Drop what the model remembers of earlier frames."""
        with silence():
            self._model.reset()

    def look(self, pixels: np.ndarray, face: np.ndarray) -> np.ndarray:
        """The shoulders below a face.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            face: (478, 2) points of the face, pixels.

        Returns:
            (5,): x and y of the left, then of the right shoulder in pixels, and the turn of the line between
            them about the upright axis, radians, positive to the subject's left; all NaN if not found.
        """
        import cv2

        height, width = pixels.shape[:2]
        shrink = min(1.0, _WORKING_SIZE / max(height, width))
        small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        with silence():
            answer = self._model.process(np.ascontiguousarray(small))
        if not answer.pose_landmarks:
            return np.full(5, np.nan)
        marks, world = answer.pose_landmarks.landmark, answer.pose_world_landmarks.landmark
        nose = np.array([marks[_NOSE].x * width, marks[_NOSE].y * height])
        ours = np.linalg.norm(nose - face[lm.NOSE_TIP]) < 0.5 * lm.face_height(face)
        if not ours or min(marks[_LEFT].visibility, marks[_RIGHT].visibility) < _VISIBLE:
            return np.full(5, np.nan)
        # The model's depth grows away from the camera.
        turn = np.arctan2(world[_LEFT].z - world[_RIGHT].z, world[_LEFT].x - world[_RIGHT].x)
        left, right = ((marks[k].x * width, marks[k].y * height) for k in (_LEFT, _RIGHT))
        return np.array([*left, *right, turn])
