"""Cut a person out of a portrait, down to single curls: coarse segmentation, then closed-form matting."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from headsplat.track import landmarks as lm
from headsplat.track.closed_form import closed_form_matte, own_colours
from headsplat.track.colours import fit_colours, to_lab
from headsplat.track.detect import silence

_EVEN = 8.0
"""A backdrop whose robust spread in Lab stays below this is even, and its colours are trusted."""
_TOO_ALIKE = 0.10
"""If more of the sure person than this has the backdrop's colours, those colours tell nothing."""
_HAZE_NEAR, _HAZE_FAR = 0.15, 0.25
"""Half-transparency fades out between these distances from the solid person, over the face's height."""


def estimate_matte(
    image: np.ndarray, landmarks: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Opacity and own colour of the person in a square crop around a face.

    Closed-form matting (Levin, Lischinski, Weiss 2008) in a band around the edge of a coarse segmentation,
    then multi-level foreground estimation (Germer et al. 2020).

    Args:
        image: (H, W, 3) float32 0..1, about 512 pixels.
        landmarks: (478, 2) pixels.
        valid: (H, W) bool, inside the original picture.

    Returns:
        alpha: (H, W) float32 0..1, zero where not valid.
        foreground: (H, W, 3) float32 0..1.
    """
    coarse = segment_person(image)
    trimap = _trimap(coarse, image, landmarks, valid)
    alpha = closed_form_matte(image, trimap)
    # Matting rarely reaches exactly 0 and 1; stretch the ends.
    alpha = np.clip((alpha - 0.03) / 0.94, 0, 1) * valid
    alpha = _connected(alpha, landmarks)
    return alpha.astype(np.float32), own_colours(image, alpha)


def segment_person(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 probability of a person, from MediaPipe's selfie segmentation (256 px)."""
    from headsplat.data.image import to_uint8

    return np.array(_segmenter().process(to_uint8(image)).segmentation_mask, np.float32)


def face_mask(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8, 1 inside the convex outline of the face."""
    import cv2

    mask = np.zeros(shape, np.uint8)
    hull = cv2.convexHull(landmarks[lm.OVAL].astype(np.float32)).astype(np.int32)
    return cv2.fillConvexPoly(mask, hull, (1,))


def _trimap(coarse: np.ndarray, image: np.ndarray, landmarks: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(H, W) float64: 1 = surely the person, 0 = surely not, 0.5 = to be decided."""
    import cv2

    person = cv2.erode((coarse > 0.9).astype(np.uint8), np.ones((9, 9)))
    empty = cv2.erode((coarse < 0.1).astype(np.uint8), np.ones((17, 17)))
    face = face_mask(landmarks, coarse.shape)
    inner_face = cv2.erode(face, np.ones((9, 9))) > 0
    trimap = np.full(coarse.shape, 0.5)
    trimap[person > 0] = 1
    trimap[empty > 0] = 0
    trimap[inner_face] = 1

    near = cv2.dilate((coarse > 0.5).astype(np.uint8), np.ones((71, 71))) > 0
    backdrop = (empty > 0) & near & valid
    lab = to_lab(image)
    if backdrop.sum() > 500 and _spread(lab[backdrop]) < _EVEN:
        _open_gaps(trimap, lab, backdrop, cv2.dilate(face, np.ones((9, 9))) > 0, landmarks)
        trimap[inner_face] = 1
    return trimap


def _spread(lab: np.ndarray) -> float:
    """The largest robust standard deviation of the channels."""
    return float((1.4826 * np.median(np.abs(lab - np.median(lab, 0)), 0)).max())


def _open_gaps(
    trimap: np.ndarray, lab: np.ndarray, backdrop: np.ndarray, face: np.ndarray, landmarks: np.ndarray
) -> None:
    """Before an even backdrop, reopen gaps between strands that the segmentation filled (in place)."""
    import cv2

    density = fit_colours(lab[backdrop], 5).log_density(lab)
    doubtful, sure = np.percentile(density[backdrop], [2, 12])
    suspect = (density > doubtful) & (trimap > 0) & ~face & (height_above_chin(landmarks, lab.shape) > -0.33)
    suspect = cv2.morphologyEx(suspect.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2)))
    if suspect[trimap == 1].mean() > _TOO_ALIKE:
        return
    around = cv2.dilate(suspect, np.ones((7, 7))) > 0
    trimap[around & (trimap == 1)] = 0.5
    trimap[(suspect > 0) & (density > sure)] = 0


def height_above_chin(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) position along the face's axis: 0 at the chin point, 1 at the forehead point."""
    up = landmarks[lm.FOREHEAD] - landmarks[lm.CHIN]
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return ((x - landmarks[lm.CHIN, 0]) * up[0] + (y - landmarks[lm.CHIN, 1]) * up[1]) / (up @ up)


def _connected(alpha: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The matte without islands, and without haze too far from the solid person to be hair."""
    import cv2

    alpha = alpha * cv2.dilate(_with_nose(alpha > 0.15, landmarks), np.ones((5, 5)))
    solid = _with_nose(alpha > 0.6, landmarks)
    away = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 5) / lm.face_height(landmarks)
    return alpha * np.clip((_HAZE_FAR - away) / (_HAZE_FAR - _HAZE_NEAR), 0, 1)


def _with_nose(mask: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the connected part of a mask that holds the nose; all of it if none does."""
    import cv2

    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    x, y = np.clip(landmarks[lm.NOSE_TIP].astype(int), 0, np.array(mask.shape[::-1]) - 1)
    return (labels == labels[y, x] if labels[y, x] else mask).astype(np.uint8)


@cache
def _segmenter() -> Any:
    with silence():
        from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

        segmenter = SelfieSegmentation(model_selection=0)
        segmenter.process(np.zeros((64, 64, 3), np.uint8))
        return segmenter
