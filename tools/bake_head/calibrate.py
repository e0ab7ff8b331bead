"""Move the face landmarks to where photographs show them: `python -m bake_head.calibrate PHOTO...`.

Renders are not photographs: a detector trained on these puts brows and lips a little elsewhere. The mean
residual of the fits over many people, taken back to the surface, corrects the correspondences; only these
means are kept, in landmarks.csv; bake again afterwards.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from headsplat.data.image import read_image
from headsplat.head.free import load_free_head
from headsplat.head.model import HeadModel
from headsplat.track.detect import detect_face
from headsplat.track.fit import fit_frames, landmark_errors
from headsplat.track.photo import crop_around
from headsplat.track.points import FacePoints, neutral_offsets, reduce_to_points
from headsplat.track.solver import Fit, project

from .landmarks import COUNT, candidates, pair_sides, snap, write_table

_SIZE = 512
_CENTRE = np.full(2, _SIZE / 2)
_OUTER_EYES = [33, 263]


def photo_landmarks(paths: list[Path]) -> list[np.ndarray]:
    """(478, 2) landmarks of each photo in its square face crop of 512 pixels."""
    found = []
    for path in paths:
        points = detect_face(read_image(path))
        crop = crop_around(points, _SIZE)
        found.append(points @ crop[:, :2].T + crop[:, 2])
    return found


def mean_shift(
    points: FacePoints, fits: list[Fit], landmarks: list[np.ndarray], partner: np.ndarray
) -> np.ndarray:
    """(468, 3) metres: symmetric moves of the points, in the head's frame, that remove most residual."""
    pull, stiffness = np.zeros((COUNT, 3)), np.zeros((COUNT, 3, 3))
    for fit, detected in zip(fits, landmarks, strict=True):
        pose, focal = fit.poses[0], fit.focal
        view = project(points, fit.shape, focal, pose, _CENTRE)
        x, y, z = view.camera.T
        zero = np.zeros_like(z)
        lens = np.stack(
            [
                np.stack([focal / z, zero, -focal * x / z**2], -1),
                np.stack([zero, focal / z, -focal * y / z**2], -1),
            ],
            1,
        )
        scale = np.linalg.norm(view.pixels[_OUTER_EYES[0]] - view.pixels[_OUTER_EYES[1]])
        jacobian = lens @ pose.rotation / scale
        residual = (detected[:COUNT] - view.pixels) / scale
        sane = np.linalg.norm(residual, axis=1) < 0.08
        pull += np.einsum("lij,li,l->lj", jacobian, residual, sane)
        stiffness += np.einsum("lij,lik,l->ljk", jacobian, jacobian, sane)
    # Depth is hardly seen in frontal photographs: hold it.
    hold = 0.05 * np.trace(stiffness, axis1=1, axis2=2).mean() / 3
    shift = np.linalg.solve(stiffness + hold * np.eye(3), pull[..., None])[..., 0]
    shift = 0.5 * (shift + shift[partner] * np.array([-1, 1, 1]))
    length = np.linalg.norm(shift, axis=1, keepdims=True)
    return shift * np.minimum(1, 0.006 / np.maximum(length, 1e-9))


def face_points(model: HeadModel) -> FacePoints:
    """The tracker's points exactly at the model's own landmarks, without the tracker's own correction."""
    points = reduce_to_points(model)
    return replace(points, base=points.base - neutral_offsets())


def calibrate(
    model: HeadModel, landmarks: list[np.ndarray], rounds: int = 2
) -> tuple[HeadModel, list[float]]:
    """The model with corrected landmarks, and the mean error before each round."""
    errors = []
    pool = candidates(model, steps=9)
    for _ in range(rounds):
        points = face_points(model)
        fits = [fit_frames(points, found[None], _CENTRE) for found in landmarks]
        pairs = zip(fits, landmarks, strict=True)
        errors.append(float(np.mean([landmark_errors(points, f, x[None], _CENTRE) for f, x in pairs])))
        partner = pair_sides(points.base)
        places = points.base + mean_shift(points, fits, landmarks, partner)
        assert model.landmark_faces is not None and model.landmark_barycentrics is not None
        faces, weights = snap(model, pool, places, partner, model.landmark_faces, model.landmark_barycentrics)
        model = replace(model, landmark_faces=faces, landmark_barycentrics=weights)
    return model, errors


def main() -> None:
    """Calibrate the bundled head's landmarks on the photos named on the command line."""
    model = load_free_head()
    corrected, errors = calibrate(model, photo_landmarks([Path(name) for name in sys.argv[1:]]))
    print("mean landmark error before each round:", ", ".join(f"{100 * e:.2f} %" for e in errors))
    assert corrected.landmark_faces is not None and corrected.landmark_barycentrics is not None
    write_table(corrected, corrected.landmark_faces, corrected.landmark_barycentrics)


if __name__ == "__main__":
    main()
