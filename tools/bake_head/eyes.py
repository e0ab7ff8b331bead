"""Proper eyeballs: a sphere each, dense over the iris, in the place of MakeHuman's coarse eyes."""

from __future__ import annotations

import numpy as np

from .bust import Bust

# Degrees from the front pole: pupil to 8, iris to 21.5 (a radius of 5.9 mm on MakeHuman's 16 mm eyeballs).
RINGS = (2.5, 5, 8, 11, 14, 17, 19.5, 21.5, 24, 28, 34, 42, 52, 64, 78, 94, 112, 132, 154)
SEGMENTS = 24


def eyeball(rings: tuple[float, ...] = RINGS, segments: int = SEGMENTS) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere about the z axis: (N, 3) points (front pole, rings, back pole) and (M, 3) faces."""
    polar = np.radians(rings)[:, None]
    turn = 2 * np.pi * np.arange(segments)[None] / segments
    ring = np.stack(
        [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar) + 0 * turn], -1
    )
    points = np.concatenate([[[0, 0, 1]], ring.reshape(-1, 3), [[0, 0, -1]]])
    faces = []
    last = len(points) - 1
    for s in range(segments):
        t = (s + 1) % segments
        faces.append((0, 1 + s, 1 + t))
        for r in range(len(rings) - 1):
            a, b = 1 + r * segments + s, 1 + r * segments + t
            c, d = a + segments, b + segments
            faces += [(a, c, b), (b, c, d)]
        top = 1 + (len(rings) - 1) * segments
        faces.append((top + s, last, top + t))
    return points, np.array(faces)


def replace_eyes(bust: Bust, shrink: float = 0.99) -> Bust:
    """Exchange both eyes; they move rigidly and grow evenly with the shape, and no expression moves them."""
    unit, faces = eyeball()
    left_old = bust.part_vertices("left_eye")
    centre, radius = _fit_sphere(bust.template[left_old].astype(np.float64))
    pieces = []
    for part, joint, side in (("left_eye", 4, 1), ("right_eye", 5, -1)):
        flip = np.array([side, 1, 1])
        old = bust.part_vertices(part)
        rays = bust.template[old] - centre * flip
        drift = bust.basis[:, old].mean(1)
        spread = rays - rays.mean(0)
        growth = ((bust.basis[:, old] - drift[:, None]) * spread).sum((1, 2)) / (spread**2).sum()
        # `drift` moves the mean of the old vertices, which is not quite the centre of the ball.
        centre_drift = drift - growth[:, None] * rays.mean(0)
        local = unit * radius * shrink * flip
        basis = centre_drift[:, None] + growth[:, None, None] * local
        weights = np.tile(np.eye(6, dtype=np.float32)[joint], (len(unit), 1))
        still = np.zeros((len(bust.expressions), len(unit), 3), np.float32)
        pieces.append((part, centre * flip + local, basis, still, weights, faces[:, ::side]))
    bust = bust.without("left_eye", "right_eye")
    count, size = len(bust.template), len(unit)
    # Vertex k of one eye is the mirror image of vertex k of the other.
    bust = bust.plus(*pieces[0], count + size + np.arange(size))
    return bust.plus(*pieces[1], count + np.arange(size))


def eye_centres(bust: Bust) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the left and the right eyeball: (2, 3), and (S, 2, 3) per sigma; the eye joints go there."""
    poles = [bust.part_vertices(part)[[0, -1]] for part in ("left_eye", "right_eye")]
    return (
        np.stack([bust.template[pair].mean(0) for pair in poles]),
        np.stack([bust.basis[:, pair].mean(1) for pair in poles], axis=1),
    )


def _fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the least-squares sphere through (N, 3) points."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))
