"""Write the player's table of how each expression moves face landmarks, from the bundled free head.

Run after the head asset changes: `python tools/bake_face_basis.py`. The webcam driver (web/player/face.js)
fits expression weights to MediaPipe's landmarks with it.
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from headsplat.head.free import load_free_head
from headsplat.track import landmarks as lm

OUT = Path(__file__).parents[1] / "src" / "headsplat" / "web" / "player" / "face-basis.js"
STEP = 0.4  # millimetres per unit of the table
STABLE = (
    10,
    151,
    9,
    8,
    168,
    6,
    197,
    33,
    133,
    362,
    263,
    127,
    356,
    234,
    454,
    21,
    251,
    54,
    284,
    103,
    332,
    67,
    297,
)
NOSE_AND_CHEEKS = (129, 358, 98, 327, 205, 425, 50, 280)
CHIN = (152, 148, 377, 199)
LIDS = (159, 145, 158, 153, 160, 144, 386, 374, 385, 380, 387, 373)
# Gaze comes from the irises, and tongue, puffed cheeks and a jaw pushed forward do not show in a front view.
LEFT_OUT = ("eyeLook", "tongueOut", "cheekPuff", "jawForward")


def main() -> None:
    """Write the module."""
    head = load_free_head()
    lips = [int(i) for i in np.unique(np.r_[lm.LIPS_OUTER, lm.LIPS_INNER])]
    brows = [int(i) for i in (*lm.BROW_LEFT, *lm.BROW_RIGHT)]
    points = [*lips, *brows, *LIDS, *NOSE_AND_CHEEKS, *CHIN]
    rest = head.landmarks(head.template) * 1e4
    names = [n for n in head.expression_names if not n.startswith(LEFT_OUT)]
    moves = np.stack([head.landmarks(head.expression_basis[head.expression_names.index(n)]) for n in names])
    table = np.rint(moves[:, points, :2] * 1e3 / STEP)
    assert np.abs(table).max() <= 127
    encoded = base64.b64encode(table.astype(np.int8).tobytes()).decode()
    stable = np.rint(rest[list(STABLE)]).astype(int).ravel().tolist()
    lines = [encoded[i : i + 110] for i in range(0, len(encoded), 110)]
    OUT.write_text(
        "/** How expressions move face landmarks on the free head; made by tools/bake_face_basis.py. */\n\n"
        "/** MediaPipe landmarks that hardly move in any expression, and where (0.1 mm, head space). */\n"
        f"export const STABLE = {list(STABLE)};\nexport const STABLE_REST = {stable};\n\n"
        "/** The landmarks and expressions of the table below. */\n"
        f"export const POINTS = {points};\nexport const NAMES = {' '.join(names)!r}.split(' ');\n\n"
        f"/** Expressions × points × (x, y): movement at weight 1 in {STEP} mm, signed bytes, base64. */\n"
        f"export const STEP = {STEP};\nexport const TABLE = `\n" + "\n".join(lines) + "`;\n",
        encoding="utf-8",
    )
    print(f"{OUT.name}: {len(names)} expressions, {len(points)} points, {OUT.stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
