"""A film of one person into a recording to learn from: follow, frame, fit, smooth, cut out, write.

The film is read twice and never held: once to follow the face, once to cut the person out. Every stage leaves
its blocks on disk (see `headsplat.track.ledger`), so a stopped job goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from headsplat.camera import Camera, intrinsics
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.native import is_native, last_tenth, picture_paths, write_index, write_pixels
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel
from headsplat.track import landmarks as lm
from headsplat.track.footage import Footage, open_footage
from headsplat.track.ledger import BLOCK, Ledger, in_blocks
from headsplat.track.points import FacePoints, face_points
from headsplat.track.sequence import moved
from headsplat.track.solver import Fit, Pose
from headsplat.track.window import Window, choose_window

Progress = Callable[[str, float], None]

UNSURE = 0.3
"""Frames with less confidence should not be learned from."""
_MIN_SHARE = 0.25
"""At least so many of the frames must show the face."""
_FOLLOWED, _FITTED = 0.25, 0.6
"""Shares of the whole work at which these stages end."""


@dataclass(frozen=True)
class Options:
    """How to make a recording.

    Attributes:
        face: which face if there are several, counted from the left.
        fps: frames per second; None keeps the film's.
        most: at most so many frames.
        size: side of the pictures, pixels.
    """

    face: int | None = None
    fps: float | None = None
    most: int | None = None
    size: int = 512


@dataclass(frozen=True)
class Summary:
    """What came of it.

    Attributes:
        frames: how many.
        landmark_error: mean distance of this person's points of the model to the detected ones, per cent of
            the outer-eye distance, over the frames that can be trusted.
        jitter: mean second difference in time of the model's points, per cent of the outer-eye distance.
        low_confidence_frames: numbers of the frames that should not be trusted.
        seconds: time taken by this run.
    """

    frames: int
    landmark_error: float
    jitter: float
    low_confidence_frames: tuple[int, ...]
    seconds: float


def track_recording(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Track a film and write the recording; goes on with one that was stopped.

    Args:
        source: a video, or a folder of pictures.
        out: folder to write.
        options: how.
        progress: called with a step's name and the share done.

    Raises:
        HeadsplatError: the film cannot be read, shows no face or several, or the folder holds something else.
    """
    start, root = perf_counter(), Path(out)
    options, report = options or Options(), progress or (lambda step, share: None)
    if not 64 <= options.size <= 2048:
        raise HeadsplatError(f"--size is {options.size}; give 64 to 2048 pixels.")
    if is_native(root):
        raise HeadsplatError(f"{root} holds a finished recording; delete it or choose another name.")
    footage = open_footage(source, fps=options.fps, most=options.most)
    job = {"source": footage.digest, "fps": footage.fps, "most": options.most, "size": options.size}
    ledger = Ledger(root, {**job, "face": options.face, "version": 1})
    landmarks, present = _follow(footage, ledger, options.face, report)
    window = choose_window(landmarks[present], footage.width, footage.height, options.size)
    points, centre = face_points(), np.full(2, options.size / 2)
    landmarks = window.points(landmarks)
    fit, offsets = _fit(points, landmarks, present, centre, footage.fps, ledger, report)
    points = moved(points, offsets)
    covers = _cut_out(footage, ledger, window, landmarks, root, report)
    errors = _errors(points, fit, landmarks, centre)
    confidence = _confidence(fit, landmarks, errors, covers, present, window.scale)
    dataset = _describe(root, footage, window, fit, landmarks, confidence)
    write_index(dataset)
    ledger.close()
    report("Done", 1.0)
    sure = confidence >= UNSURE
    return Summary(
        frames=len(landmarks),
        landmark_error=100 * float(errors[sure].mean()) if sure.any() else float("nan"),
        jitter=100 * jitter_of(points, fit, centre, sure),
        low_confidence_frames=tuple(np.flatnonzero(~sure).tolist()),
        seconds=perf_counter() - start,
    )


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


def _follow(
    footage: Footage, ledger: Ledger, face: int | None, report: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, 478, 2) in pixels of the source, gaps filled, and (T,) where the face was found."""
    from headsplat.track.follow import Follower, Whereabouts
    from headsplat.track.sequence import fill_gaps, glitches

    done = ledger.blocks("follow")
    if ledger.load("followed", 0) is None:
        follower = Follower(face)
        if done and done[-1]["seen"]:
            follower.state = Whereabouts(done[-1]["last"], tuple(done[-1]["box"].tolist()))
        for number, frames in in_blocks(footage, len(done)):
            follower.forget()
            found = []
            for frame in frames:
                found.append(follower.look(frame))
                at = number * BLOCK + len(found)
                report("Following the face", _FOLLOWED * min(1.0, at / max(footage.frames, at)))
            last = follower.state.last
            block = {
                "points": np.array([np.zeros((lm.COUNT, 2)) if p is None else p for p in found], np.float32),
                "present": np.array([p is not None for p in found]),
                "seen": np.array(last is not None),
                "last": np.zeros((lm.COUNT, 2)) if last is None else last,
                "box": np.array(follower.state.box),
            }
            ledger.save("follow", number, **block)
            done.append(block)
        ledger.save("followed", 0, frames=np.array(sum(len(block["present"]) for block in done)))
    if not done:
        raise HeadsplatError(f"{footage.path.name} holds no frame; record it again.")
    present = np.concatenate([block["present"] for block in done])
    if present.mean() < _MIN_SHARE:
        raise HeadsplatError(
            f"{footage.path.name} shows no face that can be tracked in {100 * (1 - present.mean()):.0f} % of "
            "its frames; use a video of one person facing the camera."
        )
    points = fill_gaps(np.concatenate([block["points"] for block in done]).astype(np.float64), present)
    present &= ~glitches(points, present)
    return fill_gaps(points, present), present


def _fit(
    points: FacePoints,
    landmarks: np.ndarray,
    present: np.ndarray,
    centre: np.ndarray,
    fps: float,
    ledger: Ledger,
    report: Progress,
) -> tuple[Fit, np.ndarray]:
    """Identity, focal length, a smooth pose per frame; and (468, 3) this person's offsets of the points."""
    from headsplat.track.sequence import fit_each, meet, smooth

    report("Fitting the head", _FOLLOWED)
    if (person := ledger.load("person", 0)) is None:
        found, offsets = meet(points, landmarks[present], centre)
        person = {**_pack(found.poses), "shape": found.shape, "focal": np.array(found.focal)}
        person["offsets"] = offsets
        ledger.save("person", 0, **person)
    start, points = (
        Fit(person["shape"], float(person["focal"]), _unpack(person)),
        moved(points, person["offsets"]),
    )
    poses = [pose for block in ledger.blocks("fit") for pose in _unpack(block)]
    for number, block in in_blocks(landmarks, len(poses) // BLOCK):
        fitted = []
        at = replace(start, poses=(poses[-1],)) if poses else start
        for pose in fit_each(points, block, centre, at):
            fitted.append(pose)
            share = (len(poses) + len(fitted)) / len(landmarks)
            report("Fitting the head", _FOLLOWED + (_FITTED - _FOLLOWED) * share)
        ledger.save("fit", number, **_pack(tuple(fitted)))
        poses += fitted
    return replace(start, poses=smooth(points.names, tuple(poses), fps)), person["offsets"]


def _cut_out(
    footage: Footage,
    ledger: Ledger,
    window: Window,
    landmarks: np.ndarray,
    root: Path,
    report: Progress,
) -> np.ndarray:
    """Write every picture with its matte; (T,) how foreign something before the face looks."""
    from headsplat.track.film_matte import FilmMatte
    from headsplat.track.occlusion import cover

    report("Cutting out", _FITTED)
    done = ledger.blocks("cut")
    covers = [block["cover"] for block in done]
    if sum(map(len, covers)) == len(landmarks):
        return np.concatenate(covers)
    matte = FilmMatte({k: done[-1][k] for k in ("picture", "matte")} if done else None)
    for number, frames in in_blocks(footage, len(done)):
        covered = []
        for at, frame in enumerate(frames, number * BLOCK):
            pixels, valid = window.cut(frame)
            alpha, foreground = matte.cut(pixels, landmarks[at], valid)
            write_pixels(root, at, foreground, alpha)
            covered.append(cover(pixels.astype(np.float32) / 255, landmarks[at]))
            report("Cutting out", _FITTED + (1 - _FITTED) * min(1.0, (at + 1) / len(landmarks)))
        covers.append(np.array(covered))
        ledger.save("cut", number, cover=covers[-1], **matte.state)
    return np.concatenate(covers)


def _errors(points: FacePoints, fit: Fit, landmarks: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(T,) mean landmark error of each frame."""
    from headsplat.track.fit import landmark_errors

    return landmark_errors(points, fit, landmarks, centre).mean(1)


def _confidence(
    fit: Fit,
    landmarks: np.ndarray,
    errors: np.ndarray,
    covers: np.ndarray,
    present: np.ndarray,
    scale: float,
) -> np.ndarray:
    """(T,) 0..1 how far each frame can be trusted; 0 where no face was found."""
    from headsplat.track.photo import confidence_of
    from headsplat.track.torso import head_angles

    return np.array(
        [
            confidence_of(error, head_angles(pose.rotation)[0], lm.face_height(x) / scale, covered) * there
            for pose, x, error, covered, there in zip(
                fit.poses, landmarks, errors, covers, present, strict=True
            )
        ]
    )


def _describe(
    root: Path,
    footage: Footage,
    window: Window,
    fit: Fit,
    landmarks: np.ndarray,
    confidence: np.ndarray,
) -> Dataset:
    """The recording as it will be read back."""
    from headsplat.head.free import load_free_head
    from headsplat.track.stance import take_stance

    model = load_free_head()
    shape = np.zeros(len(model.shape_basis), np.float32)
    shape[: len(fit.shape)] = fit.shape
    joints = model.with_shape(shape).joints
    stance = take_stance(fit.poses, joints, list(model.joint_names), footage.fps)
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
        info={"source": footage.digest, "crop": window.affine.tolist()},
    )


def _rotations(model: HeadModel, neck: np.ndarray, head: np.ndarray, pose: Pose) -> np.ndarray:
    """(J, 3) rotation vectors of all joints."""
    from headsplat.track.gaze import eye_rotations

    names = list(model.joint_names)
    rotations = np.zeros((len(names), 3), np.float32)
    rotations[names.index("neck")], rotations[names.index("head")] = neck, head
    rotations[[names.index("right_eye"), names.index("left_eye")]] = eye_rotations(pose.gaze)
    return rotations


def _pack(poses: tuple[Pose, ...]) -> dict[str, np.ndarray]:
    return {
        name: np.array([getattr(pose, name) for pose in poses])
        for name in ("rotation", "translation", "expression", "gaze")
    }


def _unpack(block: dict[str, np.ndarray]) -> tuple[Pose, ...]:
    rows: Iterator[tuple[np.ndarray, ...]] = zip(
        block["rotation"], block["translation"], block["expression"], block["gaze"], strict=True
    )
    return tuple(Pose(*row) for row in rows)
