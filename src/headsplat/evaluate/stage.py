"""Set the stage of a case: its pictures observed, what methods are told, what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.evaluate.cases import Case, Shot
from headsplat.evaluate.judge import Truth
from headsplat.evaluate.observe import (
    GREY,
    Observed,
    drive_frame,
    find_points,
    over_grey,
    read_points,
    reason_of,
    same_lens,
)
from headsplat.evaluate.predict import Goal, Source, head_points
from headsplat.evaluate.store import observe_once
from headsplat.evaluate.views import ViewSet, camera_through, read_views
from headsplat.gaussians import axis_angle_to_matrix


@dataclass(frozen=True)
class Target:
    """One picture to come up with: what methods are told, what it is compared with, and how it is listed.

    Attributes:
        label: in tables.
        goal: what methods are told.
        truth: what their picture is compared with.
        shown: (H, W, 3) the picture that the contact sheet shows as the target.
        yaw: of the head against the camera, degrees; positive to the subject's left.
        beside: goals and true face points (478, 2) of the frames before and after; empty = no jitter.
    """

    label: str
    goal: Goal
    truth: Truth
    shown: np.ndarray
    yaw: float
    beside: tuple[tuple[Goal, np.ndarray], ...] = ()


@dataclass(frozen=True)
class Stage:
    """A case that is ready for methods.

    Attributes:
        sources: what they may look at.
        targets: what they are asked for.
        skipped: targets that cannot be used, and why.
        clip: name of what the first source is from.
    """

    sources: list[Source]
    targets: list[Target]
    skipped: dict[str, str]
    clip: str


def set_up(case: Case, data: Path, kept: Path) -> Stage:
    """Observe all pictures of a case.

    Args:
        case: its pictures and protocol.
        data: folder that they are relative to.
        kept: folder for what tracking finds.

    Raises:
        HeadsplatError: the first source shows no usable face, or no target does.
    """
    stage = (_set_up_views if case.protocol == "novel" else _set_up_faces)(case, data, kept)
    if not stage.targets:
        raise HeadsplatError(f"No target can be used: {next(iter(stage.skipped.values()))}")
    return stage


def _set_up_faces(case: Case, data: Path, kept: Path) -> Stage:
    """Sources and targets that are photos or frames with a face to track."""
    from headsplat.track.photos import share_identity

    source_seen = observe_once(data, case.sources, kept)
    first = source_seen[0]
    if isinstance(first, str):
        raise HeadsplatError(first)
    frames = [seen.frame for seen in source_seen if isinstance(seen, Observed)]
    if len(frames) > 1 and not first.posed:
        frames = share_identity(frames, same_camera=True)
    skipped, targets = {}, []
    driver: Frame | None = None
    observed = observe_once(data, case.targets, kept, neighbours=case.neighbours)
    for shot, seen in zip(case.targets, observed, strict=True):
        if isinstance(seen, str):
            skipped[shot.label] = seen
            continue
        driver = driver or seen.frame
        try:
            targets.append(_face_target(case, shot, seen, frames[0], driver))
        except Exception as error:
            skipped[shot.label] = reason_of(error)
    return Stage([Source.of_frame(frame) for frame in frames], targets, skipped, case.sources[0].clip)


def _face_target(case: Case, shot: Shot, seen: Observed, source: Frame, driver: Frame) -> Target:
    """A target of the same person, or with `cross` of a driver whose expression and pose are copied."""
    from headsplat.track.torso import head_angles

    same_person = case.protocol != "cross"
    identity, frame = source if same_person else driver, seen.frame
    # Frames of one video share a lens; two photos need not.
    lens = None if case.protocol == "stills" else same_lens(identity, frame)
    pose = frame if seen.posed else drive_frame(identity, frame, focal=lens)
    focal = float(pose.camera.K[0, 0])
    reading = read_points(identity, frame.landmarks, focal)
    image = over_grey(frame)
    truth = Truth(
        image=image if same_person else None,
        alpha=frame.alpha,
        valid=frame.valid,
        points=frame.landmarks,
        reading=reading,
        identity=source,
        focal=focal,
        person=(image, frame.landmarks) if same_person else (over_grey(source), source.landmarks),
    )

    def goal(near: Frame) -> Goal:
        pose = near if seen.posed else drive_frame(identity, near, focal=focal)
        return Goal(pose, near.landmarks, to_fit=same_person)

    beside = tuple((goal(near), near.landmarks) for near in (seen.before, seen.after) if near is not None)
    yaw = head_angles(axis_angle_to_matrix(reading.rotation))[0]
    return Target(
        label=shot.label,
        goal=Goal(pose, frame.landmarks, to_fit=same_person),
        truth=truth,
        shown=image,
        yaw=float(np.degrees(yaw)),
        beside=beside if len(beside) == 2 else (),
    )


def _set_up_views(case: Case, data: Path, kept: Path) -> Stage:
    """Sources and targets that are views from known cameras."""
    seen = observe_once(data, case.sources, kept)[0]
    if isinstance(seen, str):
        raise HeadsplatError(seen)
    path = data / case.sources[0].file
    views = read_views(path)
    assert case.sources[0].frame is not None
    image, alpha, _ = _read_view(path, views, case.sources[0].frame)
    # The lens of a known camera is known.
    focal = float(views.views[views.source].K[0][0]) * float(seen.frame.crop[0, 0])
    frame = drive_frame(seen.frame, seen.frame, focal=focal)
    similarity = _into_avatar(frame, views)
    crop = frame.crop.astype(np.float64)
    points, fitted = (
        (p - crop[:, 2]) / np.diag(crop[:, :2]) for p in (frame.landmarks, head_points(frame, frame))
    )
    source = Source(frame, image, alpha, points, fitted)
    targets = [_view_target(path, views, shot, source, similarity) for shot in case.targets]
    return Stage([source], targets, {}, case.sources[0].clip)


def _view_target(path: Path, views: ViewSet, shot: Shot, source: Source, similarity: np.ndarray) -> Target:
    from headsplat.track.photo import MAX_YAW

    assert shot.frame is not None
    view, own = views.views[shot.frame], views.views[views.source]
    image, alpha, seen = _read_view(path, views, shot.frame)
    frame = source.frame
    if view.expression != own.expression:
        from headsplat.head.free import load_free_head

        model = load_free_head()
        change = model.expression_weights(view.expression) - model.expression_weights(own.expression)
        frame = replace(frame, expression=np.clip(frame.expression + change, 0, None))
    pose = replace(frame, camera=camera_through(view.camera, similarity))
    points = find_points(image) if abs(view.yaw) <= np.degrees(MAX_YAW) else None
    focal = float(view.K[0][0])
    truth = Truth(
        image=image,
        alpha=alpha,
        valid=np.ones(alpha.shape, bool),
        points=points,
        reading=None if points is None else read_points(source.frame, points, focal, view.width),
        identity=source.frame,
        focal=focal,
        person=(source.image, source.points),
        seen=seen,
    )
    return Target(Path(view.picture).stem, Goal(pose, points), truth, image, view.yaw)


def _into_avatar(frame: Frame, views: ViewSet) -> np.ndarray:
    """(4, 4) similarity from the tracked head's space to that of the true cameras.

    The source view keeps its picture: the tracked camera, turned to where its crop was cut out, is the true
    one. Only how far away the head is comes from the face points.
    """
    from headsplat.head.free import load_free_head

    model, camera = load_free_head(), views.views[views.source].camera
    posed = model.with_shape(frame.shape).with_pose(frame.expression, frame.rotations)
    tracked = frame.camera.project(model.landmarks(posed.vertices))[:, 2].mean()
    true = camera.project(np.asarray(views.points, np.float64))[:, 2].mean()
    crop = frame.crop.astype(np.float64)
    centre = (np.full(2, frame.camera.width / 2) - crop[:, 2]) / np.diag(crop[:, :2])
    axis = np.append((centre - camera.K[:2, 2]) / np.diag(camera.K)[:2], 1)
    axis /= np.linalg.norm(axis)
    sideways = np.cross([0, 0, 1], axis)
    angle = np.arcsin(np.linalg.norm(sideways))
    turn = np.eye(4)
    turn[:3, :3] = axis_angle_to_matrix(sideways / max(np.sin(angle), 1e-12) * angle) * (true / tracked)
    return np.linalg.inv(camera.viewmat) @ turn @ np.asarray(frame.camera.viewmat, np.float64)


def _read_view(path: Path, views: ViewSet, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Picture over grey (H, W, 3), matte (H, W), and what the source saw of it (H, W) bool or None."""
    from headsplat.data.image import read_image

    view = views.views[index]
    alpha = read_image(path.parent / view.matte)[..., 0]
    image = read_image(path.parent / view.picture)
    image = (image * alpha[..., None] + (1 - alpha[..., None]) * GREY).astype(np.float32)
    seen = read_image(path.parent / view.seen)[..., 0] > 0.5 if view.seen else None
    return image, alpha, seen
