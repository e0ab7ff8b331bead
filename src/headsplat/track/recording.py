"""A film of one person into a recording to learn from: follow, frame, cut out, fit, smooth, write.

The film is read twice and never held: once to follow the face, once to cut the person out. Every stage leaves
its blocks on disk (see `headsplat.track.ledger`), so a stopped job goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from headsplat.avatar import Avatar
from headsplat.camera import Camera, intrinsics
from headsplat.clip import Frame
from headsplat.data.dataset import TRUSTED, Dataset, View
from headsplat.data.datasets.native import (
    first_seven_tenths,
    is_native,
    last_tenth,
    picture_paths,
    read_pixels,
    write_index,
)
from headsplat.errors import HeadsplatError
from headsplat.head.flame import load_flame
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.track import landmarks as lm
from headsplat.track.fit import landmark_errors
from headsplat.track.footage import Footage, open_footage
from headsplat.track.ledger import Ledger, forget
from headsplat.track.points import FacePoints, face_points
from headsplat.track.silhouette import calm_frames, improve_by_outlines
from headsplat.track.solver import Fit, Pose
from headsplat.track.stages import Followed, Progress, cut_out, fit_film, follow_film
from headsplat.track.window import Window, choose_window

_WORST, _FINE = 0.028, 0.014
"""Landmark errors from which a frame of a known person is worth nothing, and up to which it is good."""
_NO_FACE, _FACE = 0.62, 0.84
"""Scores of the box detector: half covered faces get .65 to .85, free ones with any expression more."""


@dataclass(frozen=True)
class Options:
    """How to make a recording.

    Attributes:
        face: which face if there are several, counted from the left.
        shot: which shot of a film with cuts, from 1; None takes the one that shows the face longest.
        fps: frames per second; None keeps the film's.
        most: at most so many frames.
        size: side of the pictures, pixels.
        flame: FLAME's file; its parameters are written too, and 70 % of the frames are to learn from, as VHAP
            does.
    """

    face: int | None = None
    shot: int | None = None
    fps: float | None = None
    most: int | None = None
    size: int = 512
    flame: Path | None = None


@dataclass(frozen=True)
class Summary:
    """What came of it.

    Attributes:
        frames: how many.
        landmark_error: mean distance of this person's points of the model to the detected ones, per cent of
            the outer-eye distance, over the frames that can be trusted.
        jitter: mean second difference in time of the model's points, per cent of the outer-eye distance.
        low_confidence_frames: numbers of the frames that should not be trusted.
        shots: first frame and frame after the last of each shot in the film.
        shot: which of them was tracked, from 1.
        differences: mean difference of pictures and avatar inside the face before and after they were
            compared, 0..1; None if they were not.
        flame_error: mean distance of FLAME's face to the tracked one, millimetres; None without FLAME.
        seconds: time taken by this run.
    """

    frames: int
    landmark_error: float
    jitter: float
    low_confidence_frames: tuple[int, ...]
    shots: tuple[tuple[int, int], ...]
    shot: int
    differences: tuple[float, float] | None
    flame_error: float | None
    seconds: float


def track_recording(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options | None = None,
    progress: Progress | None = None,
    make_avatar: Callable[[Frame], Avatar] | None = None,
) -> Summary:
    """Track a film and write the recording; goes on with one that was stopped.

    Args:
        source: a video, or a folder of pictures.
        out: folder to write.
        options: how.
        progress: called with a step's name and the share done.
        make_avatar: turns a frame into an avatar; then every picture is compared with one made from the best
            frame, which corrects what landmarks get wrong. None trusts the landmarks.

    Raises:
        HeadsplatError: the film cannot be read, shows no face or several, or the folder holds something else.
    """
    start, root = perf_counter(), Path(out)
    options, report = options or Options(), progress or (lambda step, share: None)
    if not 64 <= options.size <= 2048:
        raise HeadsplatError(f"--size is {options.size}; give 64 to 2048 pixels.")
    if is_native(root):
        forget(root)  # a kill may have come between the last file and tidying up
        raise HeadsplatError(f"{root} holds a finished recording; delete it or choose another name.")
    flame = None if options.flame is None else load_flame(options.flame)
    footage = open_footage(source, fps=options.fps, most=options.most)
    flame_file = None if options.flame is None else str(options.flame.resolve())
    job = {"source": footage.digest, "fps": footage.fps, "most": options.most, "size": options.size}
    ledger = Ledger(
        root, {**job, "face": options.face, "shot": options.shot, "flame": flame_file, "version": 1}
    )
    by_points = 0.4 if make_avatar is not None else 0.9 if flame is not None else 1.0
    by_pictures = 0.9 if flame is not None else 1.0
    basic = _part(report, 0.0, by_points)
    followed = follow_film(footage, ledger, options.face, options.shot, basic)
    present, scores = followed.present, followed.scores
    window = choose_window(followed.landmarks[present], footage.width, footage.height, options.size)
    centre, landmarks = np.full(2, options.size / 2), window.points(followed.landmarks)
    covers = cut_out(footage, followed, landmarks, window, root, ledger, basic)

    def improve(found: Fit) -> Fit:
        valid = window.inside(footage.width, footage.height)
        numbers = calm_frames(landmarks, present)
        return improve_by_outlines(
            face_points(), found, landmarks, numbers, lambda t: read_pixels(root, t), valid
        )

    fit, points = fit_film(face_points(), landmarks, present, centre, footage.fps, ledger, improve, basic)
    errors = landmark_errors(points, fit, landmarks, centre).mean(1)
    confidence = _confidence(fit, landmarks / window.scale, errors, covers, scores) * present
    dataset = _describe(root, footage, followed, window, fit, landmarks, confidence)
    differences = None
    if make_avatar is not None:
        from headsplat.track.compare import compare

        comparing = _part(report, by_points, by_pictures)
        fit, *differences = compare(dataset, fit, make_avatar, ledger, comparing)
        dataset = _describe(root, footage, followed, window, fit, landmarks, confidence)
        errors = landmark_errors(points, fit, landmarks, centre).mean(1)
    fitted = None
    if flame is not None:
        from headsplat.track.flame import fit_flame

        fitted = fit_flame(dataset, load_free_head(), flame, _part(report, by_pictures, 1.0))
        train, test = first_seven_tenths(len(dataset))
        info = {**dataset.info, "flame_error_mm": 1e3 * float(fitted.errors.mean())}
        dataset = replace(dataset, train=train, test=test, info=info)
    sure = confidence >= TRUSTED
    error = 100 * float(errors[sure].mean()) if sure.any() else float("nan")
    jitter = 100 * jitter_of(points, fit, centre, sure)
    info = {
        "landmark_error_percent": round(error, 4) if sure.any() else None,
        "jitter_percent": round(jitter, 4),
    }
    dataset = replace(dataset, info={**dataset.info, **info})
    write_index(dataset, None if fitted is None else fitted.dataset)
    ledger.close()
    report("Done", 1.0)
    return Summary(
        frames=len(landmarks),
        landmark_error=error,
        jitter=jitter,
        low_confidence_frames=tuple(np.flatnonzero(~sure).tolist()),
        shots=followed.shots,
        shot=followed.shot,
        differences=None if differences is None else (differences[0], differences[1]),
        flame_error=None if fitted is None else 1e3 * float(fitted.errors.mean()),
        seconds=perf_counter() - start,
    )


def _part(report: Progress, low: float, high: float) -> Progress:
    """A report about a part of the work that goes from one share of the whole to another."""
    return lambda step, share: report(step, low + (high - low) * share)


def jitter_of(points: FacePoints, fit: Fit, centre: np.ndarray, sure: np.ndarray) -> float:
    """Mean second difference in time of the model's points over the outer-eye distance.

    True motion is in it, too; frames that are not sure, and their neighbours, are left out.
    """
    from headsplat.track.solver import project

    corners, last, before, total = [lm.OUTER_EYE_RIGHT, lm.OUTER_EYE_LEFT], None, None, []
    for t, pose in enumerate(fit.poses):
        view = project(points, fit.shape, fit.focal, pose, centre)
        if last is not None and before is not None and sure[t - 2 : t + 1].all():
            width = np.linalg.norm(view.turned[corners[0]] - view.turned[corners[1]])
            unit = fit.focal * width / view.camera[corners, 2].mean()
            total.append(np.linalg.norm(view.pixels - 2 * last + before, axis=1).mean() / unit)
        before, last = last, view.pixels
    return float(np.mean(total)) if total else 0.0


def _confidence(
    fit: Fit, landmarks: np.ndarray, errors: np.ndarray, covers: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """(T,) 0..1 how far each frame can be trusted, if the face was found in it.

    Args:
        fit: of all frames.
        landmarks: (T, 478, 2) pixels of the film.
        errors: (T,) landmark errors.
        covers: (T,) from `headsplat.track.occlusion.cover`.
        scores: (T,) of the box detector.
    """
    from headsplat.track.photo import confidence_of
    from headsplat.track.torso import head_angles

    looks = np.array(
        [
            confidence_of(0.0, head_angles(pose.rotation)[0], lm.face_height(x), covered)
            for pose, x, covered in zip(fit.poses, landmarks, covers, strict=True)
        ]
    )
    by_error = np.clip((_WORST - errors) / (_WORST - _FINE), 0, 1)
    return looks * by_error * np.clip((scores - _NO_FACE) / (_FACE - _NO_FACE), 0, 1)


def _describe(
    root: Path,
    footage: Footage,
    followed: Followed,
    window: Window,
    fit: Fit,
    landmarks: np.ndarray,
    confidence: np.ndarray,
) -> Dataset:
    """The recording as it will be read back."""
    from headsplat.track.stance import take_stance

    model = load_free_head()
    shape = np.zeros(len(model.shape_basis), np.float32)
    shape[: len(fit.shape)] = fit.shape
    joints = model.with_shape(shape).joints
    shoulders = followed.shoulders.copy()
    shoulders[:, :4] = window.points(shoulders[:, :4].reshape(-1, 2, 2)).reshape(-1, 4)
    stance = take_stance(fit, joints, list(model.joint_names), footage.fps, shoulders)
    K = intrinsics(fit.focal, window.size, window.size)
    camera = Camera(stance.viewmat.astype(np.float32), K, window.size, window.size)
    T_world_camera = np.linalg.inv(stance.viewmat)
    views = []
    for t, pose in enumerate(fit.poses):
        measured = np.eye(4)
        measured[:3, :3], measured[:3, 3] = pose.rotation, pose.translation
        image, mask = picture_paths(root, t)
        views.append(
            View(
                image=image,
                mask=mask,
                camera=camera,
                timestep=t,
                camera_index=0,
                expression=pose.expression.astype(np.float32),
                rotations=_rotations(model, stance.neck[t], stance.head[t], pose),
                T_world_root=stance.T_world_root[t].astype(np.float32),
                T_world_head=(T_world_camera @ measured).astype(np.float32),
                landmarks=landmarks[t].astype(np.float32),
                confidence=float(confidence[t]),
            )
        )
    train, test = last_tenth(len(views))
    return Dataset(
        root=root,
        layout="headsplat",
        head="free",
        shape=shape,
        expressions=tuple(model.expression_names),
        joints=tuple(model.joint_names),
        views=tuple(views),
        train=train,
        val=(),
        test=test,
        fps=footage.fps,
        info={"source": footage.digest, "first_frame": followed.first, "crop": window.affine.tolist()},
    )


def _rotations(model: HeadModel, neck: np.ndarray, head: np.ndarray, pose: Pose) -> np.ndarray:
    """(J, 3) rotation vectors of all joints."""
    from headsplat.track.gaze import eye_rotations

    names = list(model.joint_names)
    rotations = np.zeros((len(names), 3), np.float32)
    rotations[names.index("neck")], rotations[names.index("head")] = neck, head
    rotations[[names.index("right_eye"), names.index("left_eye")]] = eye_rotations(pose.gaze)
    return rotations
