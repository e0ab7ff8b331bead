"""Find faces in a picture and their 478 points, with the MediaPipe models that come inside its wheel."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from io import StringIO
from typing import Any
from weakref import WeakSet

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.track import landmarks as lm
from headsplat.track.points import face_points

MIN_FACE = 64
"""Smallest face that is worth an avatar: pixels between the forehead and the chin point (10 and 152)."""
_WORKING_SIZE = 512
# The mesh model draws a face on anything, the back of a head included. The box detector tells them apart: it
# gave 376 portraits between the front and about 60 degrees at least .77, and the back of a head .56.
_LEAST_SCORE = 0.66
_MAX_FACES = 8


def detect_face(image: np.ndarray, *, face: int | None = None) -> np.ndarray:
    """The points of the one face in a picture, or of the chosen one.

    Args:
        image: (H, W, 3) float32 0..1 or uint8 RGB.
        face: which face if there are several: 1 is the leftmost in the picture.

    Returns:
        (478, 2) float64 pixels.

    Raises:
        HeadsplatError: no face, several and none chosen, no such face, or a face under `MIN_FACE` pixels.
    """
    pixels = _as_uint8(image)
    coarse = choose_face(pixels, face)
    if coarse is None or face_score(pixels, coarse) < _LEAST_SCORE:
        raise HeadsplatError(
            "There is no face in the picture that can be tracked; use one that shows a face from the front, "
            "upright and in focus."
        )
    points = refine_face(pixels, coarse)
    height = lm.face_height(points)
    if height < MIN_FACE:
        raise HeadsplatError(
            f"The face is too small ({height:.0f} pixels from forehead to chin, {MIN_FACE} are needed); "
            "use a larger picture or a closer one."
        )
    return points


def choose_face(
    pixels: np.ndarray, face: int | None = None, near: np.ndarray | None = None
) -> np.ndarray | None:
    """Coarse points (478, 2) of the one face in a (H, W, 3) uint8 picture, or of the chosen one.

    Args:
        pixels: the picture.
        face: which face if there are several: 1 is the leftmost.
        near: (478, 2) points of a known face; of several, the nearest to it is taken.

    Returns:
        The points, or None if there is no face.

    Raises:
        HeadsplatError: several faces and none chosen, or no such face.
    """
    faces = find_faces(pixels)
    if not faces:
        return None
    if near is not None:
        return min(faces, key=lambda points: float(np.linalg.norm(points.mean(0) - near.mean(0))))
    if face is None and len(faces) > 1:
        raise HeadsplatError(
            f"There are {len(faces)} faces in the picture; choose one with --face 1 (the leftmost) "
            f"to --face {len(faces)} (the rightmost), or crop the picture."
        )
    if face is not None and not 1 <= face <= len(faces):
        raise HeadsplatError(
            f"There is no face number {face}; the picture has {len(faces)}, counted from left to right."
        )
    return faces[(face or 1) - 1]


def find_faces(pixels: np.ndarray) -> list[np.ndarray]:
    """Coarse (478, 2) points of every face in a (H, W, 3) uint8 RGB picture, from left to right.

    Looks at the whole picture first, and only if that shows nothing at overlapping tiles for small faces.
    Faces less than a third as high as the largest are people in the background and are left out.
    """
    if min(pixels.shape[:2]) < 32:
        return []
    height, width = pixels.shape[:2]
    found = detect_in(_still_mesh(_MAX_FACES), pixels, (0, 0, width, height))
    if not found:
        found = _search_boxes(pixels)
    for share in (0.6, 0.4):
        if found:
            break
        step = int(max(height, width) * share)
        for y in range(0, max(1, height - step // 2), step // 2):
            for x in range(0, max(1, width - step // 2), step // 2):
                found += detect_in(
                    _still_mesh(_MAX_FACES), pixels, (x, y, min(width, x + step), min(height, y + step))
                )
    found = _distinct(found)
    if len(found) > 1:  # a pattern that looks like a face once does not stand a second look
        found = [points for points in found if _confirmed(pixels, points)] or found[:1]
    if found:
        largest = max(lm.face_height(points) for points in found)
        found = [points for points in found if lm.face_height(points) > largest / 3]
    return sorted(found, key=lambda points: points[:, 0].mean())


def _confirmed(pixels: np.ndarray, points: np.ndarray) -> bool:
    """Whether a closer look finds the same face again."""
    again = detect_in(_still_mesh(1), pixels, face_box(points, pixels.shape, 2.0))
    return bool(again) and bool(
        np.linalg.norm(again[0].mean(0) - points.mean(0)) < 0.3 * lm.face_height(points)
    )


def refine_face(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Detect again in a square of twice the face's size, enlarged to 512 pixels.

    The detector is also shown the mirrored square; the mean of both answers is free of its left-right bias
    and less noisy than either.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        points: (478, 2) coarse points.

    Returns:
        (478, 2) points in pixels of the whole picture.
    """
    box = face_box(points, pixels.shape, 2.0)
    answers = detect_in(_still_mesh(1), pixels, box)
    if not answers:
        return points
    straight = answers[0]
    if np.linalg.norm(straight.mean(0) - points.mean(0)) > 0.5 * lm.face_height(points):
        return points  # the square also holds a neighbour's face, and the detector preferred it
    mirrored = detect_in(_still_mesh(1), pixels, box, mirror=True)
    if not mirrored or np.abs(mirrored[0] - straight).max() > 0.15 * lm.face_height(points):
        return straight
    return (straight + mirrored[0]) / 2


def face_box(points: np.ndarray, shape: tuple[int, ...], size: float) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the square `size` times the extent of the points, cut to a picture of `shape`."""
    low, high = points.min(0), points.max(0)
    centre, radius = (low + high) / 2, (high - low).max() * size / 2
    x0, y0 = np.maximum(centre - radius, 0).astype(int)
    x1, y1 = np.minimum(centre + radius, (shape[1], shape[0])).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def detect_in(
    mesh: Any, pixels: np.ndarray, box: tuple[int, int, int, int], mirror: bool = False
) -> list[np.ndarray]:
    """All faces that a mesh model finds in a box of the picture.

    Args:
        mesh: from `load_mesh`.
        pixels: (H, W, 3) uint8 RGB.
        box: (x0, y0, x1, y1) pixels.
        mirror: show it the mirrored box, and mirror the answer back.

    Returns:
        (478, 2) points of each face, pixels of the whole picture.
    """
    import cv2

    x0, y0, x1, y1 = box
    part = pixels[y0:y1, x0:x1]
    if min(part.shape[:2]) < 16:
        return []
    scale = _WORKING_SIZE / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if mirror:
        part = part[:, ::-1]
    result = _process(mesh, part)
    found = []
    for answer in result.multi_face_landmarks or ():
        points = np.array([(p.x, p.y) for p in answer.landmark])
        if mirror:
            points = points[face_points().mirror] * [-1, 1] + [1, 0]
        found.append(points * [x1 - x0, y1 - y0] + [x0, y0])
    return found


_spoken: WeakSet[Any] = WeakSet()
"""Models that have seen a face: only then all of their parts are loaded and have said so."""


def _process(mesh: Any, part: np.ndarray) -> Any:
    """Run the mesh model; quietly until it has spoken."""
    if mesh in _spoken:
        return mesh.process(np.ascontiguousarray(part))
    with silence():
        result = mesh.process(np.ascontiguousarray(part))
    if result.multi_face_landmarks:
        _spoken.add(mesh)
    return result


def restart(mesh: Any) -> None:
    """Let a mesh model forget the frames it has seen; it loads its parts anew."""
    with silence():
        mesh.reset()
    _spoken.discard(mesh)


def _search_boxes(pixels: np.ndarray) -> list[np.ndarray]:
    """Faces from the full-range box detector, which sees smaller ones than the mesh model's own."""
    result = _boxes(near=False).process(np.ascontiguousarray(pixels))
    height, width = pixels.shape[:2]
    found = []
    for answer in result.detections or ():
        box = answer.location_data.relative_bounding_box
        corners = np.array([(box.xmin, box.ymin), (box.xmin + box.width, box.ymin + box.height)])
        found += detect_in(_still_mesh(1), pixels, face_box(corners * [width, height], pixels.shape, 2.0))
    return found


def face_score(pixels: np.ndarray, points: np.ndarray) -> float:
    """How sure the short-range box detector is of a face in twice the extent of the points, 0..1."""
    x0, y0, x1, y1 = face_box(points, pixels.shape, 2.0)
    result = _boxes(near=True).process(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    return max((answer.score[0] for answer in result.detections or ()), default=0.0)


def _distinct(faces: list[np.ndarray]) -> list[np.ndarray]:
    """The faces without repeats: two whose centres are nearer than half a face are one."""
    kept: list[np.ndarray] = []
    for points in sorted(faces, key=lm.face_height, reverse=True):
        near = (np.linalg.norm(points.mean(0) - k.mean(0)) < 0.5 * lm.face_height(k) for k in kept)
        if not any(near):
            kept.append(points)
    return kept


def _as_uint8(image: np.ndarray) -> np.ndarray:
    from headsplat.data.image import to_uint8

    return to_uint8(image)


def load_mesh(faces: int, still: bool = True) -> Any:
    """The face mesh model for at most so many faces; unless `still`, it remembers the last frame."""
    with silence():
        from mediapipe.python.solutions.face_mesh import FaceMesh

        mesh = FaceMesh(
            static_image_mode=still, refine_landmarks=True, max_num_faces=faces, min_detection_confidence=0.3
        )
        mesh.process(np.zeros((64, 64, 3), np.uint8))  # the models load, and talk, at the first picture
        return mesh


@cache
def _still_mesh(faces: int) -> Any:
    return load_mesh(faces)


@cache
def _boxes(near: bool) -> Any:
    with silence():
        from mediapipe.python.solutions.face_detection import FaceDetection

        boxes = FaceDetection(model_selection=0 if near else 1, min_detection_confidence=0.3 if near else 0.5)
        boxes.process(np.zeros((64, 64, 3), np.uint8))
        return boxes


@contextmanager
def silence() -> Iterator[None]:
    """Keep off standard error what the C++ libraries, and Python's for them, say while models load."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        with redirect_stderr(StringIO()):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
