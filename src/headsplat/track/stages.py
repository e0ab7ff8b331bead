"""The long stages of making a recording: each goes once through the film, or its points, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from headsplat.data.datasets.native import write_pixels
from headsplat.errors import HeadsplatError
from headsplat.track import landmarks as lm
from headsplat.track.footage import Footage
from headsplat.track.ledger import BLOCK, Ledger, in_blocks
from headsplat.track.points import FacePoints
from headsplat.track.sequence import fill_gaps, fit_each, glitches, meet, moved, smooth
from headsplat.track.shots import change, find_shots, glimpse
from headsplat.track.solver import Fit, Pose
from headsplat.track.window import Window

Progress = Callable[[str, float], None]

_MIN_SHARE = 0.25
"""At least so many of the frames must show the face."""
_FOLLOWED, _CUT = 0.25, 0.8
"""Shares of the whole work at which the stages end."""


@dataclass(frozen=True)
class Followed:
    """The face in every frame of one shot.

    Attributes:
        first: number of the shot's first frame in the film.
        landmarks: (T, 478, 2) pixels of the film; gaps are filled.
        present: (T,) bool, where the face was found and did not jump.
        scores: (T,) how sure the box detector is of a face, 0..1.
        shoulders: (T, 5) see `headsplat.track.shoulders`; NaN in frames where nobody looked or none are seen.
        shots: first frame and frame after the last of each shot in the film.
        shot: which of them this is, from 1.
    """

    first: int
    landmarks: np.ndarray
    present: np.ndarray
    scores: np.ndarray
    shoulders: np.ndarray
    shots: tuple[tuple[int, int], ...]
    shot: int


def follow_film(
    footage: Footage, ledger: Ledger, face: int | None, shot: int | None, report: Progress
) -> Followed:
    """Follow the face through the film, and choose the shot.

    Args:
        footage: the film.
        ledger: of the job.
        face: which face if there are several, counted from the left.
        shot: which shot, from 1; None takes the one that shows the face longest.
        report: told how far it is.

    Raises:
        HeadsplatError: no frame, no face, several and none chosen, or no such shot.
    """
    done = ledger.blocks("follow")
    if ledger.load("followed", 0) is None:
        for block in _follow(footage, ledger, done, face, report):
            done.append(block)
        ledger.save("followed", 0)
    if not done:
        raise HeadsplatError(f"{footage.path.name} holds no frame; record it again.")
    points, present, scores, shoulders, changes = (
        np.concatenate([block[name] for block in done])
        for name in ("points", "present", "scores", "shoulders", "changes")
    )
    shots = find_shots(changes, footage.fps)
    if shot is not None and not 1 <= shot <= len(shots):
        raise HeadsplatError(f"There is no shot number {shot}; {footage.path.name} has {len(shots)}.")
    number = shot - 1 if shot is not None else int(np.argmax([present[a:b].sum() for a, b in shots]))
    start, end = shots[number]
    present = present[start:end]
    if present.mean() < _MIN_SHARE:
        missing = f"in {100 * (1 - present.mean()):.0f} % of its frames" if present.any() else "at all"
        raise HeadsplatError(
            f"{footage.path.name} shows no face that can be tracked {missing}; use a video of one person "
            "facing the camera."
        )
    filled = fill_gaps(points[start:end], present)
    present = present & ~glitches(filled, present)
    return Followed(
        first=start,
        landmarks=fill_gaps(filled, present),
        present=present,
        scores=scores[start:end],
        shoulders=shoulders[start:end],
        shots=tuple(shots),
        shot=number + 1,
    )


def _follow(
    footage: Footage,
    ledger: Ledger,
    done: list[dict[str, np.ndarray]],
    face: int | None,
    report: Progress,
) -> Iterator[dict[str, np.ndarray]]:
    """The blocks that are not done yet."""
    from headsplat.track.detect import face_score
    from headsplat.track.follow import Follower, Whereabouts
    from headsplat.track.shoulders import RATE, ShoulderFinder

    follower, finder, seen_before = Follower(face), ShoulderFinder(), None
    every = max(1, round(footage.fps / RATE))
    if done:
        last = done[-1]
        seen_before = last["glimpse"]
        follower.state = Whereabouts(last["last"] if last["seen"] else None, tuple(last["box"].tolist()))
    for number, frames in in_blocks(footage, len(done)):
        follower.forget()
        finder.forget()
        found, scores, shoulders, changes = [], [], [], []
        for frame in frames:
            points, seen = follower.look(frame), glimpse(frame)
            if points is None or len(found) % every:
                shoulders.append(np.full(5, np.nan))
            else:
                shoulders.append(finder.look(frame, points))
            found.append(np.zeros((lm.COUNT, 2)) if points is None else points)
            scores.append(np.nan if points is None else face_score(frame, points))
            changes.append(0.0 if seen_before is None else change(seen, seen_before))
            seen_before = seen
            at = number * BLOCK + len(found)
            report("Following the face", _FOLLOWED * min(1.0, at / max(footage.frames, at)))
        last = follower.state.last
        block = {
            "points": np.array(found, np.float32),
            "present": np.isfinite(scores),
            "scores": np.nan_to_num(scores),
            "shoulders": np.array(shoulders),
            "changes": np.array(changes),
            "glimpse": np.array(seen_before),
            "seen": np.array(last is not None),
            "last": np.zeros((lm.COUNT, 2)) if last is None else last,
            "box": np.array(follower.state.box),
        }
        ledger.save("follow", number, **block)
        yield block


def fit_film(
    points: FacePoints,
    landmarks: np.ndarray,
    present: np.ndarray,
    centre: np.ndarray,
    fps: float,
    ledger: Ledger,
    improve: Callable[[Fit], Fit],
    report: Progress,
) -> tuple[Fit, FacePoints]:
    """Identity, focal length and a smooth pose per frame.

    Args:
        points: face points of the head model.
        landmarks: (T, 478, 2) pixels, gaps filled.
        present: (T,) bool, where they can be trusted.
        centre: (2,) principal point, pixels.
        fps: frames per second.
        ledger: of the job.
        improve: what else than landmarks is known about the identity.
        report: told how far it is.

    Returns:
        The fit, and the points as they lie on this person's face.
    """
    report("Fitting the head", _CUT)
    if (person := ledger.load("person", 0)) is None:
        found, offsets = meet(points, landmarks[present], centre, improve)
        person = {
            **pack(found.poses),
            "shape": found.shape,
            "focal": np.array(found.focal),
            "offsets": offsets,
        }
        ledger.save("person", 0, **person)
    start = Fit(person["shape"], float(person["focal"]), unpack(person))
    points = moved(points, person["offsets"])
    done = ledger.blocks("fit")
    poses = [pose for block in done for pose in unpack(block)]
    for number, block in in_blocks(landmarks, len(done)):
        fitted = []
        for pose in fit_each(points, block, centre, replace(start, poses=(poses[-1],)) if poses else start):
            fitted.append(pose)
            share = (len(poses) + len(fitted)) / len(landmarks)
            report("Fitting the head", _CUT + (1 - _CUT) * share)
        ledger.save("fit", number, **pack(tuple(fitted)))
        poses += fitted
    return replace(start, poses=smooth(points.names, tuple(poses), fps)), points


def cut_out(
    footage: Footage,
    followed: Followed,
    landmarks: np.ndarray,
    window: Window,
    root: Path,
    ledger: Ledger,
    report: Progress,
) -> np.ndarray:
    """Write every picture of the shot with its matte.

    Args:
        footage: the film.
        followed: says which frames.
        landmarks: (T, 478, 2) pixels of the window.
        window: the part of the film to write.
        root: folder of the recording.
        ledger: of the job.
        report: told how far it is.

    Returns:
        (T,) how foreign something before the face looks; see `headsplat.track.occlusion`.
    """
    from headsplat.track.film_matte import FilmMatte
    from headsplat.track.occlusion import cover

    report("Cutting out", _FOLLOWED)
    done, count = ledger.blocks("cut"), len(landmarks)
    covers = [block["cover"] for block in done]
    if sum(map(len, covers)) == count:
        return np.concatenate(covers)
    matte = FilmMatte({k: done[-1][k] for k in ("picture", "matte")} if done else None)
    shot = islice(footage, followed.first, followed.first + count)
    for number, frames in in_blocks(shot, len(done)):
        covered = []
        for at, frame in enumerate(frames, number * BLOCK):
            pixels, valid = window.cut(frame)
            alpha, foreground = matte.cut(pixels, landmarks[at], valid)
            write_pixels(root, at, foreground, alpha)
            covered.append(cover(pixels.astype(np.float32) / 255, landmarks[at]))
            report("Cutting out", _FOLLOWED + (_CUT - _FOLLOWED) * (at + 1) / count)
        covers.append(np.array(covered))
        ledger.save("cut", number, cover=covers[-1], **matte.state)
    return np.concatenate(covers)


def pack(poses: tuple[Pose, ...]) -> dict[str, np.ndarray]:
    """Poses as arrays over frames."""
    return {
        name: np.array([getattr(pose, name) for pose in poses])
        for name in ("rotation", "translation", "expression", "gaze")
    }


def unpack(block: dict[str, np.ndarray]) -> tuple[Pose, ...]:
    """The inverse of `pack`."""
    rows: Iterator[tuple[np.ndarray, ...]] = zip(
        block["rotation"], block["translation"], block["expression"], block["gaze"], strict=True
    )
    return tuple(Pose(*row) for row in rows)
