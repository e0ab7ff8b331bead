"""Refine a recording's poses and expressions by comparing every picture with an avatar of the person.

Landmarks are biased, differently on every face; an avatar lifted from one frame of the film and drawn in the
others shows by how much. See `headsplat.track.photometric`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.clip import Frame
from headsplat.data.dataset import Dataset, View
from headsplat.track.evidence import Picture, Scene
from headsplat.track.frames import best_views, frames_of
from headsplat.track.ledger import Ledger, in_blocks
from headsplat.track.likeness import Likeness, Posture
from headsplat.track.photometric import FILM, fit_film
from headsplat.track.sequence import smooth
from headsplat.track.solver import Fit, Pose
from headsplat.track.stages import pack, unpack

_SOLID = 0.95


def compare(
    dataset: Dataset,
    fit: Fit,
    make_avatar: Callable[[Frame], Avatar],
    ledger: Ledger,
    report: Callable[[str, float], None],
) -> tuple[Fit, float, float]:
    """Fit every trusted picture of a recording to an avatar made from its best frame; others stay.

    Args:
        dataset: the recording as tracked by landmarks, its pictures written.
        fit: the same poses in the camera.
        make_avatar: turns a frame into an avatar with the free head's names.
        ledger: of the job.
        report: told how far it is.

    Returns:
        The refined fit, and the mean difference of picture and avatar inside the face before and after.

    Raises:
        HeadsplatError: no view can be trusted, or the avatar cannot be fitted.
    """
    report("Making the avatar to compare with", 0.0)
    path = ledger.folder / "compare.avatar"
    if not path.exists():
        best = best_views(dataset, 1)
        save_avatar(make_avatar(frames_of(dataset, best)[0]), path)
    # What the file holds is a little coarser than what was made: always work with the same.
    likeness = Likeness(load_avatar(path))
    done = ledger.blocks("compare")
    poses = [pose for block in done for pose in unpack(block)]
    differences = [block["differences"] for block in done]
    for number, views in in_blocks(zip(dataset.views, fit.poses, strict=True), len(done)):
        fitted = []
        for pose, difference in _refined(list(views), dataset, likeness):
            fitted.append((pose, difference))
            report("Comparing with the avatar", (len(poses) + len(fitted)) / len(dataset))
        differences.append(np.array([difference for _, difference in fitted]))
        ledger.save("compare", number, **pack(tuple(p for p, _ in fitted)), differences=differences[-1])
        poses += [pose for pose, _ in fitted]
    before, after = np.nanmean(np.concatenate(differences), axis=0)
    refined = smooth(dataset.expressions, tuple(poses), dataset.fps)
    return replace(fit, poses=refined), float(before), float(after)


def _refined(
    views: list[tuple[View, Pose]], dataset: Dataset, likeness: Likeness
) -> Iterator[tuple[Pose, tuple[float, float]]]:
    """The pose of each view, with the differences before and after; NaN where nothing was compared."""
    sure = (
        (_picture(dataset, view), _posture(dataset, view, likeness.avatar))
        for view, _ in views
        if view.trusted
    )
    answers = fit_film(likeness, sure)
    for view, pose in views:
        if not view.trusted:
            yield pose, (np.nan, np.nan)
            continue
        answer, start = next(answers), _posture(dataset, view, likeness.avatar)
        scene = Scene.of(_picture(dataset, view), view.camera, FILM.face)
        before = scene.difference(likeness, start)
        rotation, translation = likeness.head_in_camera(answer.posture)
        expression, _ = answer.posture.in_names(
            likeness.avatar, dataset.expressions, view.expression, dataset.joints, view.rotations
        )
        refined = replace(
            pose, rotation=rotation, translation=translation, expression=expression.astype(np.float64)
        )
        yield refined, (before, scene.difference(likeness, answer.posture))


def _picture(dataset: Dataset, view: View) -> Picture:
    image, alpha = dataset.load(view)
    landmarks = np.zeros((478, 2)) if view.landmarks is None else view.landmarks
    return Picture(image, alpha > _SOLID, np.asarray(landmarks, np.float64))


def _posture(dataset: Dataset, view: View, avatar: Avatar) -> Posture:
    return Posture.named(
        avatar,
        dataset.expressions,
        view.expression,
        dataset.joints,
        view.rotations,
        view.T_world_root,
        view.camera,
    )
