"""Track a video of one person: shared identity, a pose and an expression per frame, smooth in time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.motion import Motion, neutral_of, retarget, split_head_turn
from headsplat.track import landmarks as lm
from headsplat.track.points import face_points
from headsplat.track.sequence import fill_gaps, fit_each, meet, moved, smooth
from headsplat.track.solver import Fit

Progress = Callable[[str, float], None]

_MIN_SHARE = 0.25
"""At least so many of the frames must show the face."""


@dataclass(frozen=True)
class VideoTrack:
    """A tracked video.

    Attributes:
        fit: identity, focal length and one pose per frame.
        landmarks: (T, 478, 2) pixels; interpolated where the face was not found.
        errors: (T,) mean landmark error, against this person's own points, over the outer-eye distance.
        confidence: (T,) 0..1; 0 where the face was not found.
        fps: frames per second.
        width: pixels.
        height: pixels.
    """

    fit: Fit
    landmarks: np.ndarray
    errors: np.ndarray
    confidence: np.ndarray
    fps: float
    width: int
    height: int


def track_video(
    path: str | os.PathLike[str], *, face: int | None = None, progress: Progress | None = None
) -> Motion:
    """The motion of the person in a video, ready to drive any avatar.

    Expressions are relative to the driver's own neutral face, head turns to the mean stance, blinks reach 1
    when the lids meet.

    Args:
        path: video file.
        face: which face if there are several, counted from the left.
        progress: called with a step's name and the share done.

    Raises:
        HeadsplatError: unreadable, no face, or several faces and none chosen.
    """
    track = track_parameters(path, face=face, progress=progress)
    motion = to_motion(track)
    return with_blinks(retarget(motion, neutral_of(motion)), track.landmarks)


def track_parameters(
    path: str | os.PathLike[str], *, face: int | None = None, progress: Progress | None = None
) -> VideoTrack:
    """Track a video file frame by frame; see `track_video` for the arguments."""
    from headsplat.data.video import read_video
    from headsplat.track.fit import landmark_errors
    from headsplat.track.follow import follow_face

    video = read_video(path)
    report = progress or (lambda step, share: None)
    found = list(follow_face(_counted(video, video.frames, report), face))
    present = np.array([points is not None for points in found])
    if not present.any() or present.mean() < _MIN_SHARE:
        missing = f"in {100 * (1 - present.mean()):.0f} % of its frames" if present.any() else "at all"
        raise HeadsplatError(
            f"{video.path.name} shows no face that can be tracked {missing}; use a video of one person "
            "facing the camera."
        )
    landmarks = np.array([np.zeros((lm.COUNT, 2)) if points is None else points for points in found])
    landmarks = fill_gaps(landmarks, present)
    points, centre = face_points(), np.array([video.width, video.height]) / 2
    report("Fitting the head", 0.5)
    start, offsets = meet(points, landmarks[present], centre)
    points, poses = moved(points, offsets), []
    for pose in fit_each(points, landmarks, centre, start):
        poses.append(pose)
        report("Fitting the head", 0.5 + 0.5 * len(poses) / len(landmarks))
    fit = replace(start, poses=smooth(points.names, tuple(poses), video.fps))
    errors = landmark_errors(points, fit, landmarks, centre).mean(1)
    confidence = np.clip((0.035 - errors) / 0.02, 0, 1) * present
    return VideoTrack(fit, landmarks, errors, confidence, video.fps, video.width, video.height)


def to_motion(track: VideoTrack) -> Motion:
    """The track as a motion: head turns against its mean stance, split over neck and head joints."""
    from headsplat.track.gaze import eye_rotations
    from headsplat.track.torso import mean_rotation, rotation_vector

    poses = track.fit.poses
    stance = mean_rotation(np.array([pose.rotation for pose in poses]))
    turns = np.array([rotation_vector(stance.T @ pose.rotation) for pose in poses])
    neck, head = split_head_turn(turns)
    eyes = np.array([eye_rotations(pose.gaze) for pose in poses])
    rotations = np.stack([neck, head, eyes[:, 0], eyes[:, 1]], 1).astype(np.float32)
    return Motion(
        weights=np.array([pose.expression for pose in poses], np.float32),
        expressions=face_points().names,
        rotations=rotations,
        joints=("neck", "head", "right_eye", "left_eye"),
        fps=track.fps,
    ).check("The tracked video")


def with_blinks(motion: Motion, landmarks: np.ndarray) -> Motion:
    """Raise blinks to what the gap between the lids says, between the person's own open and closed eyes.

    Args:
        motion: T frames with `eyeBlinkLeft` and `eyeBlinkRight`.
        landmarks: (T, 478, 2) pixels.
    """
    gaps = np.array([lm.lid_openings(x) for x in landmarks])
    weights = motion.weights.copy()
    for side, name in enumerate(("eyeBlinkRight", "eyeBlinkLeft")):
        closing = 1 - gaps[:, side] / max(float(np.quantile(gaps[:, side], 0.8)), 1e-3)
        # Lids follow a downward glance by up to 40 %; someone who never blinks must not get stretched ones.
        full = np.clip(closing.max(), 0.7, 0.9)
        column = motion.expressions.index(name)
        weights[:, column] = np.maximum(weights[:, column], np.clip((closing - 0.4) / (full - 0.4), 0, 1))
    return replace(motion, weights=weights)


def _counted(frames: Iterable[np.ndarray], total: int, report: Progress) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames):
        report("Following the face", min(0.999, number / max(total, 1)) * 0.5)
        yield frame
