"""Bake the free head: `PYTHONPATH=src:tools python -m bake_head`, a minute or two."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.spatial import cKDTree

from headsplat.head.free import ASSET, read_asset
from headsplat.head.model import HeadModel

from . import landmarks
from .anny_body import read_bust
from .asset import write_asset
from .bust import exactly_symmetric, smooth_rim, start
from .chart import build_chart
from .eyes import eye_centres, replace_eyes
from .landmarks import COUNT
from .mouth import label_gums, replace_teeth, rest_tongue, seal_lips
from .people import build_people

_RENDERS, _HELD_OUT = 240, 60


def main(find_landmarks: bool = False) -> None:
    """Sample people, build the mesh and its chart, write the asset, print the figures.

    Args:
        find_landmarks: find MediaPipe's landmarks anew on renders instead of taking them from landmarks.csv;
            `bake_head.calibrate` should follow.
    """
    source = read_bust()
    people = build_people(source)
    bust = smooth_rim(start(source, people))
    bust = replace_teeth(replace_eyes(bust))
    names = source.expression_names
    bust = rest_tongue(seal_lips(bust, bust.expressions[names.index("jawOpen")]), names)
    bust = exactly_symmetric(bust, people.symmetric, names)
    joints, joint_basis = people.joints.copy(), people.joint_basis.copy()
    joints[4:], joint_basis[:, 4:] = eye_centres(bust)
    _, face = cKDTree(bust.template).query(people.template[people.face])
    uv, uv_faces = build_chart(bust, face)
    bust = label_gums(bust)

    def write(path: Path, faces: np.ndarray, barycentrics: np.ndarray) -> None:
        write_asset(
            path,
            bust,
            people.symmetric,
            joints,
            joint_basis,
            names,
            uv,
            uv_faces,
            faces,
            barycentrics,
        )

    figures: dict[str, float] = {}
    if find_landmarks:
        # The renders that find the landmarks need a head to render.
        with TemporaryDirectory() as folder:
            draft = Path(folder) / "draft.npz"
            write(draft, np.zeros(COUNT, int), np.tile(np.eye(3)[0], (COUNT, 1)))
            figures = _find_landmarks(read_asset(draft))
    write(ASSET, *landmarks.read_table(bust.faces))
    figures = {
        **people.report,
        **figures,
        "vertices": len(bust.template),
        "triangles": len(bust.faces),
        "megabytes": round(ASSET.stat().st_size / 1e6, 3),
    }
    print(json.dumps(figures, indent=1))


def _find_landmarks(model: HeadModel) -> dict[str, float]:
    """Find the landmarks on renders, keep them, and say how well they close on renders held out."""
    portraits = landmarks.make_portraits(model, _RENDERS + _HELD_OUT, seed=0)
    points, found = landmarks.detect([portrait.image for portrait in portraits])
    train = [k for k in np.flatnonzero(found) if k < _RENDERS]
    test = [k for k in np.flatnonzero(found) if k >= _RENDERS]
    faces, weights = landmarks.find_landmarks(model, [portraits[k] for k in train], points[train])
    landmarks.write_table(model, faces, weights)
    error = landmarks.closure(model, faces, weights, [portraits[k] for k in test], points[test])
    return {
        "detected_on_renders": float(found.mean()),
        "landmark_closure_mean": float(error.mean()),
        "landmark_closure_median": float(np.median(error)),
    }


if __name__ == "__main__":
    main(find_landmarks="--find-landmarks" in sys.argv[1:])
