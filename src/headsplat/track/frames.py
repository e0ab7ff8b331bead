"""Views of a recording as the frames that methods for photos work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from headsplat.clip import Frame
from headsplat.data.dataset import Dataset, View
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head

_SURE = 0.7
"""Matte over which a pixel's own colour is taken from it; a film's matte errs by a pixel at its edge."""
_CUT = 0.06
"""A straight end of the matte longer than this share of the picture is the edge of the film."""


def frames_of(dataset: Dataset, numbers: Sequence[int]) -> list[Frame]:
    """Load views of a recording, each with its world moved so that the bust is at rest.

    Args:
        dataset: on the free head, with square pictures over white (`headsplat track` makes such).
        numbers: which views, in the order of the result.

    Raises:
        HeadsplatError: the recording has another head or another shape of pictures, a file is missing, or a
            view has no face points and shows no face.
    """
    model = load_free_head()
    if dataset.head != "free":
        raise HeadsplatError(
            f"{dataset.root} was not tracked with the free head; run headsplat track on its pictures first."
        )
    names, joints = model.expression_names, model.joint_names
    shape = np.zeros(len(model.shape_basis), np.float32)
    shape[: len(dataset.shape)] = dataset.shape[: len(shape)]
    out = []
    for number in numbers:
        view = dataset.views[number]
        if view.camera.width != view.camera.height:
            raise HeadsplatError(f"{view.image} is not square; run headsplat track on its pictures first.")
        picture, alpha = dataset.load(view)
        camera = replace(view.camera, viewmat=(view.camera.viewmat @ view.T_world_root).astype(np.float32))
        error = _landmark_error(view)
        out.append(
            Frame(
                image=picture,
                alpha=alpha,
                foreground=_unmixed(picture, alpha),
                valid=_inside_film(alpha),
                camera=camera,
                shape=shape,
                expression=_ordered(view.expression, dataset.expressions, names),
                rotations=_ordered(view.rotations, dataset.joints, joints),
                T_world_root=np.eye(4, dtype=np.float32),
                landmarks=_landmarks(view, picture),
                confidence=float(view.confidence),
                source=str(dataset.info.get("source", "")),
                landmark_error=error,
                crop=np.array([[1.0, 0, 0], [0, 1.0, 0]], np.float32),
            )
        )
    return out


def _landmark_error(view: View) -> float:
    """What the view's confidence says about the mean error of its face points."""
    return float(0.035 - 0.02 * np.clip(view.confidence, 0, 1))


def _ordered(values: np.ndarray, own: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Rows of `values` named by `own` in the order of `wanted`; zero where there is none."""
    out = np.zeros((len(wanted), *values.shape[1:]), np.float32)
    for i, name in enumerate(wanted):
        if name in own:
            out[i] = values[list(own).index(name)]
    return out


def _landmarks(view: View, picture: np.ndarray) -> np.ndarray:
    if view.landmarks is not None:
        return np.asarray(view.landmarks, np.float32)
    from headsplat.track.detect import detect_face

    try:
        return detect_face(picture).astype(np.float32)
    except HeadsplatError as error:
        raise HeadsplatError(f"{view.image} cannot be used: {error}") from None


def _unmixed(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) the person's own colours out of a picture over white; beyond the person the nearest ones."""
    from scipy.ndimage import distance_transform_edt

    a = alpha[..., None]
    own = np.clip((picture - (1 - a)) / np.maximum(a, 1e-3), 0, 1)
    sure = alpha > _SURE
    if not sure.any():
        return picture
    nearest = distance_transform_edt(~sure, return_distances=False, return_indices=True)
    return np.where(sure[..., None], own, own[tuple(nearest)]).astype(np.float32)  # type: ignore[arg-type]


def _inside_film(alpha: np.ndarray) -> np.ndarray:
    """(H, W) bool: where the film had pixels, told by straight ends of the matte inside the picture.

    A recording's crop may reach beyond the film, and there the matte is zero: a shoulder that ends along a
    whole column was cut by the film's edge.
    """
    valid = np.ones(alpha.shape, bool)
    for turns in range(4):
        solid = np.rot90(alpha > 0.5, turns)
        rows = solid.sum(1)
        used = np.flatnonzero(rows > 0)
        if len(used) and used[-1] < len(rows) - 1:
            # Along a true outline the rows before the last get longer only gradually.
            end = used[-1]
            if rows[max(end - 3, 0) : end + 1].max() > _CUT * solid.shape[1]:
                np.rot90(valid, turns)[end + 1 :] = False
    return valid


def best_views(dataset: Dataset, count: int) -> list[int]:
    """Of the views to learn from, those that say most about the person, the best frontal one first.

    Args:
        dataset: with face points.
        count: at most so many; a smaller choice is the beginning of a larger one.

    Raises:
        HeadsplatError: no view can be trusted.
    """
    from headsplat.data.image import to_uint8
    from headsplat.track.choose import LOOKS, calmness, choose_views, plainness, sharpness
    from headsplat.track.torso import head_angles

    pool = [i for i in dataset.train if dataset.views[i].trusted and dataset.views[i].landmarks is not None]
    if not pool:
        raise HeadsplatError(f"{dataset.root} has no view that can be trusted; track the recording again.")
    chosen = np.unique(np.linspace(0, len(pool) - 1, min(3 * LOOKS, len(pool))).astype(int))
    pool = [pool[i] for i in chosen]
    turns, quality = [], []
    for i in pool:
        view = dataset.views[i]
        points = np.asarray(view.landmarks, np.float64)
        turns.append(head_angles(view.T_camera_head[:3, :3])[:2])
        picture, _ = dataset.load(view)
        plain = plainness(dict(zip(dataset.expressions, view.expression.tolist(), strict=True)))
        quality.append(sharpness(to_uint8(picture), points) * calmness(points) * plain * view.confidence)
    worth = np.array(quality) / max(max(quality), 1e-9)
    return [pool[i] for i in choose_views(np.array(turns), worth, count)]
