"""Re-make the tracker's offsets on neutral faces: `python tools/calibrate_tracker.py PHOTO...`.

The photos show many people with neutral faces from the front. Each is fitted with all expressions held at
rest; what is then left over, on average and on both sides alike, is where the detector puts its points on the
free head's resting face. Half of it is taken at the lids and the lips, whose edges must stay on the edges
seen, and none at the outline of the face, which the detector lets slide. Only these means are kept. Run it
again whenever the head or its landmarks change.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from headsplat.data.image import read_image
from headsplat.track import landmarks as lm
from headsplat.track.detect import detect_face
from headsplat.track.fit import fit_frames
from headsplat.track.photo import crop_around
from headsplat.track.points import face_points, neutral_offsets
from headsplat.track.priors import Priors
from headsplat.track.solver import project

TABLE = Path(__file__).parents[1] / "src/headsplat/track/assets/neutral_offsets.csv"
SIZE = 512
ROUNDS = 3
AT_REST = Priors(expression=5000.0)


def cropped_landmarks(path: Path) -> np.ndarray:
    """(478, 2) points in the face crop of a photo."""
    points = detect_face(read_image(path))
    crop = crop_around(points, SIZE)
    return points @ crop[:, :2].T + crop[:, 2]


def offsets(landmarks: list[np.ndarray]) -> np.ndarray:
    """(468, 3) metres from the head model's correspondences to the detector's points."""
    centre = np.full(2, SIZE / 2)
    points = face_points()
    bare = points.base - neutral_offsets()
    points = replace(points, base=bare)
    for _ in range(ROUNDS):
        moves = []
        for detected in landmarks:
            fit = fit_frames(points, detected[None], centre, belief=AT_REST)
            pose = fit.poses[0]
            view = project(points, fit.shape, fit.focal, pose, centre)
            across = (detected[: lm.MESH] - view.pixels) * view.camera[:, 2:] / fit.focal
            moves.append(np.column_stack([across, np.zeros(lm.MESH)]) @ pose.rotation)
        move = np.median(moves, 0)
        move = (move + move[points.mirror[: lm.MESH]] * [-1, 1, 1]) / 2
        points = replace(points, base=points.base + move)
    total = points.base - bare
    total[np.r_[lm.EYE_LEFT, lm.EYE_RIGHT, lm.LIPS_INNER, lm.LIPS_OUTER]] *= 0.5
    total[lm.OVAL] = 0
    return total


def main(arguments: list[str]) -> None:
    """Calibrate on the photos named on the command line and replace the table."""
    result = offsets([cropped_landmarks(Path(name)) for name in arguments])
    header = "micrometres x,y,z; made by tools/calibrate_tracker.py"
    np.savetxt(TABLE, result * 1e6, fmt="%d", delimiter=",", header=header)
    print(
        f"mean {np.linalg.norm(result, axis=1).mean() * 1e3:.2f} mm over {len(arguments)} photos -> {TABLE}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
