"""From a shot to what is known about it: the tracked crop of a picture, and its fit with a known identity."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.evaluate.cases import Shot
from headsplat.evaluate.views import read_views

if TYPE_CHECKING:
    from headsplat.track.points import FacePoints
    from headsplat.track.solver import Fit

GREY = 0.38
"""Everything is judged over this even grey: a background is no merit of an avatar."""
CROP_SIZE = 512
PIXELS = ("image", "alpha", "foreground")
"""What of a frame is rounded to 8 bits, so that it is the same before and after it is kept on disk."""


@dataclass(frozen=True)
class Observed:
    """A tracked shot.

    Attributes:
        frame: the tracked crop.
        before: the same crop out of the frame before, with its face points and the matte of `frame`; None =
            not asked for or no face found.
        after: that of the frame after.
        posed: whether pose and expression of all three were tracked over time with the person's identity,
            so that they are taken as they are; otherwise only their face points are.
    """

    frame: Frame
    before: Frame | None = None
    after: Frame | None = None
    posed: bool = False


def observe(data: Path, shots: Sequence[Shot], *, neighbours: bool = False) -> list[Observed | str]:
    """Track shots; a video is decoded once for all of its frames.

    Args:
        data: the folder that shots are relative to.
        shots: pictures and frames of videos.
        neighbours: also find the face in the frames before and after.

    Returns:
        For every shot what was seen, or in a sentence why it cannot be used.
    """
    out: list[Observed | str] = ["not looked at"] * len(shots)
    for file in dict.fromkeys(shot.file for shot in shots):
        own = [i for i, shot in enumerate(shots) if shot.file == file]
        numbers = {shots[i].frame for i in own if shots[i].kind == "video"}
        pictures: dict[int, np.ndarray] = {}
        if numbers:
            reach = (-1, 0, 1) if neighbours else (0,)
            pictures = _video_frames(data / file, {n + d for n in numbers if n is not None for d in reach})
        for i in own:
            try:
                out[i] = _observe_one(data, shots[i], pictures, neighbours)
            except Exception as error:
                out[i] = reason_of(error)
    return out


def reason_of(error: Exception) -> str:
    """A failure in a sentence: what the user is told, or for other errors what they are and where."""
    if isinstance(error, HeadsplatError):
        return str(error)
    steps = traceback.extract_tb(error.__traceback__)
    where = f"{Path(steps[-1].filename).name}:{steps[-1].lineno}" if steps else "an unknown place"
    return " ".join(f"{type(error).__name__} in {where}: {error}".split())


def to_levels(values: np.ndarray) -> np.ndarray:
    """0..1 as 8 bits."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _observe_one(data: Path, shot: Shot, pictures: dict[int, np.ndarray], neighbours: bool) -> Observed:
    from headsplat.track import track_photo
    from headsplat.track.photo import warp

    path, number = data / shot.file, shot.frame
    if number is None:
        return Observed(_rounded(track_photo(path, size=CROP_SIZE)))
    if shot.kind == "views":
        picture = path.parent / read_views(path).views[number].picture
        return Observed(_rounded(track_photo(picture, size=CROP_SIZE)))
    if shot.kind == "recording":
        return _observe_view(path.parent, number, neighbours)
    if number not in pictures:
        raise HeadsplatError(f"{shot.file} has no frame {number}; make the manifest anew.")
    frame = _rounded(track_photo(pictures[number], size=CROP_SIZE))
    beside: list[Frame | None] = [None, None]
    if neighbours:
        for k, other in enumerate((number - 1, number + 1)):
            if other in pictures:
                crop = warp(pictures[other].astype(np.float32) / 255, frame.crop, CROP_SIZE)[0]
                points = find_points(crop, frame.landmarks)
                if points is not None:
                    crop = to_levels(crop).astype(np.float32) / 255
                    beside[k] = replace(frame, image=crop, foreground=crop, landmarks=points)
    return Observed(frame, beside[0], beside[1])


def _observe_view(folder: Path, number: int, neighbours: bool) -> Observed:
    """A view of a recording, which is tracked already."""
    from headsplat.evaluate.recordings import read_recording
    from headsplat.track.frames import frames_of

    dataset = read_recording(folder)
    if not dataset.views[number].trusted:
        raise HeadsplatError("The recording marks this view as not to be trusted.")
    beside: list[Frame | None] = [None, None]
    if neighbours:
        for k, other in enumerate((number - 1, number + 1)):
            if 0 <= other < len(dataset) and dataset.views[other].trusted:
                beside[k] = frames_of(dataset, [other])[0]
    return Observed(frames_of(dataset, [number])[0], beside[0], beside[1], posed=True)


def _rounded(frame: Frame) -> Frame:
    return replace(
        frame, **{name: to_levels(getattr(frame, name)).astype(np.float32) / 255 for name in PIXELS}
    )


def _video_frames(path: Path, numbers: set[int]) -> dict[int, np.ndarray]:
    """Frames (H, W, 3) uint8 by number, as many of them as the video has."""
    from headsplat.data.video import read_video

    out = {}
    for number, frame in enumerate(read_video(path)):
        if number in numbers:
            out[number] = frame
        if number >= max(numbers):
            break
    return out


@dataclass(frozen=True)
class Reading:
    """Expression and pose read off a picture with a known identity.

    Attributes:
        expression: (52,) weights.
        rotation: (3,) rotation vector from head to camera, radians.
    """

    expression: np.ndarray
    rotation: np.ndarray


def drive_frame(identity: Frame, target: Frame, *, focal: float | None = None) -> Frame:
    """The target's frame with pose and expression fitted anew to a person known from another frame.

    Args:
        identity: another picture of the same person: its shape is kept, and expressions are measured against
            the brows, lids and lips that she has there.
        target: whose points are fitted.
        focal: focal length of the target's crop in pixels, if known; estimated otherwise.
    """
    from headsplat.head.free import load_free_head
    from headsplat.track.photo import build_frame

    points, fit = _fit(identity, target.landmarks, target.camera.width, focal)
    return build_frame(
        load_free_head(),
        points,
        fit,
        target.image,
        target.alpha,
        target.foreground,
        target.valid,
        target.landmarks,
        target.crop,
        target.source,
    )


def read_points(person: Frame, landmarks: np.ndarray, focal: float, size: int = CROP_SIZE) -> Reading:
    """Expression and pose of a face (478, 2) of a person with another photo; focal length in pixels."""
    from headsplat.track.torso import rotation_vector

    pose = _fit(person, landmarks, size, focal)[1].poses[0]
    return Reading(np.asarray(pose.expression), rotation_vector(pose.rotation))


def same_lens(source: Frame, target: Frame) -> float:
    """Focal length of the target's crop if both are crops of pictures through one lens, pixels."""
    return float(source.camera.K[0, 0] * target.crop[0, 0] / source.crop[0, 0])


def over_grey(frame: Frame) -> np.ndarray:
    """(H, W, 3) the person over even grey."""
    alpha = frame.alpha[..., None]
    return (frame.foreground * alpha + (1 - alpha) * GREY).astype(np.float32)


def find_points(image: np.ndarray, near: np.ndarray | None = None) -> np.ndarray | None:
    """(478, 2) points of the face in a picture, the nearest to `near` if there are several, or None."""
    from headsplat.data.image import to_uint8
    from headsplat.track.detect import choose_face, find_faces, refine_face

    pixels = to_uint8(image)
    if near is None:
        faces = find_faces(pixels)
        coarse = faces[0] if faces else None
    else:
        coarse = choose_face(pixels, near=near)
    return None if coarse is None else refine_face(pixels, coarse)


def _fit(person: Frame, landmarks: np.ndarray, size: int, focal: float | None) -> tuple[FacePoints, Fit]:
    """Pose and expression of a known person, and the face points as they are on her."""
    from headsplat.track.fit import fit_frames, fit_pose
    from headsplat.track.photo import points_of
    from headsplat.track.points import face_points

    points, centre = points_of(person, face_points()), np.full(2, size / 2)
    start = fit_frames(points, landmarks[None], centre, focal=focal)
    start = replace(start, shape=np.asarray(person.shape[: len(start.shape)], np.float64))
    return points, fit_pose(points, landmarks, centre, start, iterations=15)
