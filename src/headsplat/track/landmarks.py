"""Which of MediaPipe's 478 face points mean what (indices of the FaceMesh topology with irises)."""

from __future__ import annotations

import numpy as np

COUNT = 478
"""Points per face: 468 of the mesh, then five of the right and five of the left iris."""
MESH = 468

FOREHEAD, CHIN, NOSE_TIP = 10, 152, 1
OUTER_EYE_RIGHT, OUTER_EYE_LEFT = 33, 263
IRIS_RIGHT, IRIS_LEFT = slice(468, 473), slice(473, 478)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), int)


OVAL = _numbers(
    "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 152 148 176 149 150 136 172 58 "
    "132 93 234 127 162 21 54 103 67 109"
)
"""The outline of the face, clockwise in the picture from the middle of the forehead."""
LIPS_OUTER = np.array(
    [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
)
LIPS_INNER = np.array(
    [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
)
EYE_RIGHT = np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7])
EYE_LEFT = np.array([263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249])
BROW_RIGHT = np.array([70, 63, 105, 66, 107, 55, 65, 52, 53, 46])
BROW_LEFT = np.array([300, 293, 334, 296, 336, 285, 295, 282, 283, 276])

LID_PAIRS = _numbers(
    "159 145  158 153  160 144  157 154  161 163  386 374  385 380  387 373  384 381  388 390"
).reshape(-1, 2)
"""Upper and lower lid, one above the other."""
LIP_PAIRS = np.array([(13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318)])
"""Upper and lower lip at the mouth's opening, one above the other."""

RIGID = np.array([33, 133, 362, 263, 1, 4, 5, 6, 168, 197, 10, 152, 61, 291, 199, 94, 127, 356, 234, 454])
"""Points that expressions move little, all around the face: enough to place a rigid head."""


def face_height(landmarks: np.ndarray) -> float:
    """Distance from the forehead to the chin point, in the units of `landmarks` (478, 2)."""
    return float(np.linalg.norm(landmarks[FOREHEAD] - landmarks[CHIN]))


def lid_openings(landmarks: np.ndarray) -> np.ndarray:
    """(2,) gap between the lids over the width of the eye, right and left; under .12 an eye is closed."""
    right = np.linalg.norm(landmarks[159] - landmarks[145]) / np.linalg.norm(landmarks[33] - landmarks[133])
    left = np.linalg.norm(landmarks[386] - landmarks[374]) / np.linalg.norm(landmarks[263] - landmarks[362])
    return np.array([right, left])
