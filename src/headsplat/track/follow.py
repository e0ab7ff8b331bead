"""Follow one face through a video: 478 points per frame, found again when lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headsplat.track import landmarks as lm
from headsplat.track.detect import choose_face, detect_in, face_box, load_mesh, refine_face, restart

_CROP = 3.2
"""Side of the picture part that the follower sees, over the extent of the face."""
_DISAGREE = 0.15
"""If the mirrored picture's points differ by more than this share of the face's height, they are not used."""
_JUMP = 0.15
"""A change of the face's size between two frames by more than this share is a glitch."""


@dataclass(frozen=True)
class Whereabouts:
    """What a follower remembers from one frame to the next.

    Attributes:
        last: (478, 2) points where the face was last seen, or None before it ever was.
        box: (x0, y0, x1, y1) part of the picture that is looked at.
    """

    last: np.ndarray | None = None
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


class Follower:
    """Finds one person's face in frame after frame.

    The detector's tracking mode runs on a part of the picture that moves only when the face comes near its
    border, which keeps it calm; a lost or jumping face is looked for again in the whole frame. A second
    detector sees the mirrored picture, and the mean of both is less noisy than either.
    """

    def __init__(self, face: int | None = None, start: Whereabouts | None = None) -> None:
        """Prepare to follow.

        Args:
            face: which face if the first frames show several, counted from the left.
            start: where an earlier follower left off.
        """
        self.face, self.state = face, start or Whereabouts()
        self._meshes = (load_mesh(1, still=False), load_mesh(1, still=False))
        self._fresh = True

    def forget(self) -> None:
        """Drop what the detector remembers beyond `state`, so that a follower started from `state` agrees."""
        for mesh in self._meshes:
            restart(mesh)
        self._fresh = True

    def look(self, pixels: np.ndarray) -> np.ndarray | None:
        """The points (478, 2) in the next frame (H, W, 3) uint8 RGB, None where the face cannot be found.

        Raises:
            HeadsplatError: several faces and none chosen.
        """
        last, box = self.state.last, self.state.box
        points = self._tracked(pixels, box) if last is not None else None
        if points is None or last is None or _jumps(points, last):
            points = _search(pixels, last, self.face)
            if points is not None:
                box = face_box(points, pixels.shape, _CROP)
        elif not _well_inside(points, box):
            box = face_box(points, pixels.shape, _CROP)
        self.state = Whereabouts(points if points is not None else last, box)
        return points

    def _tracked(self, pixels: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray | None:
        if self._fresh:  # the first answer comes from a coarse box; the second, from the first, is steady
            self._fresh = False
            for mirror, mesh in enumerate(self._meshes):
                _first(mesh, pixels, box, bool(mirror))
        straight = _first(self._meshes[0], pixels, box, False)
        mirrored = _first(self._meshes[1], pixels, box, True)
        if straight is None or mirrored is None:
            return straight
        if np.abs(mirrored - straight).max() > _DISAGREE * lm.face_height(straight):
            return straight
        return (straight + mirrored) / 2


def follow_face(frames: Iterable[np.ndarray], face: int | None = None) -> Iterator[np.ndarray | None]:
    """Yield the points (478, 2) of one person in every frame, None where the face cannot be found.

    Args:
        frames: (H, W, 3) uint8 RGB pictures of the same size.
        face: which face if the first frames show several, counted from the left.

    Raises:
        HeadsplatError: several faces and none chosen.
    """
    follower = Follower(face)
    for pixels in frames:
        yield follower.look(pixels)


def _first(mesh: Any, pixels: np.ndarray, box: tuple[int, int, int, int], mirror: bool) -> np.ndarray | None:
    found = detect_in(mesh, pixels, box, mirror)
    return found[0] if found else None


def _search(pixels: np.ndarray, last: np.ndarray | None, face: int | None) -> np.ndarray | None:
    """The face in the whole frame: the one nearest to where it was, or the chosen one if it never was."""
    points = choose_face(pixels, face, near=last)
    return None if points is None else refine_face(pixels, points)


def _jumps(points: np.ndarray, last: np.ndarray) -> bool:
    """Whether the face cannot have moved or grown so much in one frame."""
    size, before = np.ptp(points[: lm.MESH], axis=0).max(), np.ptp(last[: lm.MESH], axis=0).max()
    moved = np.linalg.norm(points.mean(0) - last.mean(0))
    return bool(abs(size / before - 1) > _JUMP or moved > 0.5 * before)


def _well_inside(points: np.ndarray, box: tuple[int, int, int, int]) -> bool:
    """Whether the face stays clear of the border of the box, and the box has a fitting size."""
    low, high = np.array(box[:2]), np.array(box[2:])
    at = (points.mean(0) - low) / np.maximum(high - low, 1)
    share = np.ptp(points, axis=0).max() / max((high - low).max(), 1)
    return bool((at > 0.25).all() and (at < 0.75).all() and 0.2 < share < 0.5)
