"""Track a video of one person: shared identity, a pose and an expression per frame, smooth in time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.gaussians import axis_angle_to_matrix
from headsplat.motion import Motion, neutral_of, retarget, split_head_turn
from headsplat.track import landmarks as lm
from headsplat.track.points import FacePoints, face_points
from headsplat.track.solver import Fit, Pose

Progress = Callable[[str, float], None]

_KEYFRAMES = 8
_MIN_SHARE = 0.25
"""At least so many of the frames must show the face."""
_SMOOTH_POSE, _SMOOTH_FACE = 0.25, 0.17
"""Length of the smoothing windows in seconds (Savitzky-Golay, second order)."""


@dataclass(frozen=True)
class VideoTrack:
    """A tracked video.

    Attributes:
        fit: identity, focal length and one pose per frame.
        landmarks: (T, 478, 2) pixels; interpolated where the face was not found.
        errors: (T,) mean landmark error as a share of the outer-eye distance.
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
    from headsplat.track.follow import follow_face

    video = read_video(path)
    report = progress or (lambda step, share: None)
    found = list(follow_face(_counted(video, video.frames, report), face))
    present = np.array([points is not None for points in found])
    if not present.any() or present.mean() < _MIN_SHARE:
        raise HeadsplatError(
            f"{video.path.name} shows no face that can be tracked in {100 * (1 - present.mean()):.0f} % of "
            "its frames; use a video of one person facing the camera."
        )
    landmarks = _fill([points for points in found if points is not None], present)
    points, centre = face_points(), np.array([video.width, video.height]) / 2
    report("Fitting the head", 0.5)
    start = _shared_identity(points, landmarks[present], centre)
    fit = _fit_each(points, landmarks, centre, start, report)
    fit = _smooth(fit, present, video.fps)
    errors = _errors(points, fit, landmarks, centre)
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


def _fill(found: list[np.ndarray], present: np.ndarray) -> np.ndarray:
    """(T, 478, 2) with gaps filled linearly in time, and by the nearest frame at the ends."""
    times, known = np.arange(len(present)), np.flatnonzero(present)
    flat = np.array(found).reshape(len(found), -1)
    after = np.clip(np.searchsorted(known, times), 0, len(known) - 1)
    before = np.clip(np.searchsorted(known, times, side="right") - 1, 0, len(known) - 1)
    gap = np.maximum(known[after] - known[before], 1)
    share = np.clip((times - known[before]) / gap, 0, 1)[:, None]
    return (flat[before] * (1 - share) + flat[after] * share).reshape(len(present), *found[0].shape)


def _shared_identity(points: FacePoints, landmarks: np.ndarray, centre: np.ndarray) -> Fit:
    """Identity and focal length from a few frames that differ most (farthest-point choice)."""
    from headsplat.track.fit import fit_frames

    normal = landmarks[:, : lm.MESH] - landmarks[:, : lm.MESH].mean(1, keepdims=True)
    normal = (normal / np.linalg.norm(normal, axis=(1, 2), keepdims=True)).reshape(len(landmarks), -1)
    chosen, distance = [0], np.linalg.norm(normal - normal[0], axis=1)
    while len(chosen) < min(_KEYFRAMES, len(landmarks)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(normal - normal[chosen[-1]], axis=1))
    return fit_frames(points, landmarks[chosen], centre)


def _fit_each(
    points: FacePoints, landmarks: np.ndarray, centre: np.ndarray, start: Fit, report: Progress
) -> Fit:
    """Pose and expression of every frame, each started from the one before."""
    from headsplat.track.fit import fit_pose

    current = replace(start, poses=start.poses[:1])
    poses: list[Pose] = []
    for number, x in enumerate(landmarks):
        current = fit_pose(points, x, centre, current, iterations=10 if number == 0 else 5)
        poses.append(current.poses[0])
        report("Fitting the head", 0.5 + 0.5 * (number + 1) / len(landmarks))
    return replace(start, poses=tuple(poses))


def _smooth(fit: Fit, present: np.ndarray, fps: float) -> Fit:
    """Zero-phase smoothing of pose and expression, outliers replaced first; lids and lips stay crisp."""
    from headsplat.track.torso import mean_rotation, rotation_vector

    names = face_points().names
    rotations = np.array([pose.rotation for pose in fit.poses])
    stance = mean_rotation(rotations[present])
    turns = np.array([rotation_vector(stance.T @ r) for r in rotations])
    places = np.array([pose.translation for pose in fit.poses])
    gazes = np.array([pose.gaze.reshape(-1) for pose in fit.poses])
    weights = np.array([pose.expression for pose in fit.poses])
    turns, places = (
        _savgol(_without_spikes(turns), _SMOOTH_POSE * fps),
        _savgol(_without_spikes(places), _SMOOTH_POSE * fps),
    )
    gazes = _savgol(gazes, _SMOOTH_FACE * fps)
    crisp = np.array([name.startswith(("eyeBlink", "eyeSquint", "mouth", "jaw")) for name in names])
    weights = np.where(crisp, weights, np.clip(_savgol(weights, _SMOOTH_FACE * fps), 0, None))
    poses = tuple(
        replace(
            pose,
            rotation=stance @ axis_angle_to_matrix(turn),
            translation=place,
            expression=weight,
            gaze=gaze.reshape(2, 2),
        )
        for pose, turn, place, weight, gaze in zip(fit.poses, turns, places, weights, gazes, strict=True)
    )
    return replace(fit, poses=poses)


def _without_spikes(values: np.ndarray) -> np.ndarray:
    """Replace frames much farther off the median of five neighbours than they usually move in one frame."""
    if len(values) < 5:
        return values
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0)
    median = np.median(windows, -1)
    away = np.abs(values - median)
    usual = np.median(np.abs(np.diff(values, axis=0)), 0) + 1e-9
    return np.where((away > 8 * usual).any(1, keepdims=True), median, values)


def _savgol(values: np.ndarray, length: float) -> np.ndarray:
    """Savitzky-Golay of second order over about `length` frames; unchanged if that is under five."""
    from scipy.signal import savgol_filter

    window = min(2 * round((length - 1) / 2) + 1, len(values) - 1 + len(values) % 2)
    return np.asarray(savgol_filter(values, window, 2, axis=0)) if window >= 5 else values


def _errors(points: FacePoints, fit: Fit, landmarks: np.ndarray, centre: np.ndarray) -> np.ndarray:
    from headsplat.track.fit import landmark_errors

    return landmark_errors(points, fit, landmarks, centre).mean(1)
