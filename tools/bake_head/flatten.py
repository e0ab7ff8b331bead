"""Flatten disks of triangles: a fold-free start (Tutte 1963), then the least symmetric Dirichlet energy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Vertices along each border of the mesh, in the direction in which the faces pass it."""
    sides = {(int(f[k]), int(f[(k + 1) % 3])) for f in faces for k in range(3)}
    following = {a: b for a, b in sides if (b, a) not in sides}
    loops, seen = [], set()
    for start in sorted(following):
        if start in seen:
            continue
        loop = [start]
        while following[loop[-1]] != start:
            loop.append(following[loop[-1]])
            if len(loop) > len(following):
                raise ValueError("a border touches itself")
        seen.update(loop)
        loops.append(np.array(loop))
    return loops


def rest_triangles(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 2, 2) two edges of each triangle as columns, in a plane of its own, without distortion."""
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    base = np.linalg.norm(b - a, axis=1)
    x = ((c - a) * (b - a)).sum(1) / base
    y = np.linalg.norm(np.cross(b - a, c - a), axis=1) / base
    rest = np.zeros((len(faces), 2, 2))
    rest[:, 0, 0], rest[:, 0, 1], rest[:, 1, 1] = base, x, y
    return rest


def laplacian(faces: np.ndarray, count: int) -> coo_matrix:
    """(V, V) graph Laplacian with unit weights."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    adjacency = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(count, count)).tocsr()
    return (diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsc()


def tutte(faces: np.ndarray, count: int, border: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(V, 2): every vertex the mean of its neighbours, the `border` on a convex curve: free of folds."""
    matrix = laplacian(faces, count)
    inner = np.setdiff1d(np.arange(count), border)
    uv = np.zeros((count, 2))
    uv[border] = positions
    solver = splu(matrix[inner][:, inner].tocsc())
    uv[inner] = solver.solve(-(matrix[inner][:, border] @ positions))
    return uv


def relax(
    uv: np.ndarray,
    faces: np.ndarray,
    rest: np.ndarray,
    weights: np.ndarray,
    free: np.ndarray,
    iterations: int = 400,
) -> np.ndarray:
    """Move the free coordinates to the least weighted symmetric Dirichlet energy; no triangle ever flips.

    L-BFGS, preconditioned with the Laplacian; steps end before the first triangle would collapse
    (Smith & Schaefer 2015).

    Args:
        uv: (V, 2) start without folds.
        faces: (F, 3).
        rest: (F, 2, 2) wanted edges (`rest_triangles`).
        weights: (F,).
        free: (V, 2) bool, coordinates that may move.
        iterations: at most so many steps.
    """
    inverse = np.linalg.inv(rest)
    solvers = []
    stiff = laplacian(faces, len(uv))
    for axis in range(2):
        rows = np.flatnonzero(free[:, axis])
        matrix = stiff[rows][:, rows] + 1e-6 * diags(np.ones(len(rows)))
        solvers.append((rows, splu(matrix.tocsc())))

    def precondition(gradient: np.ndarray) -> np.ndarray:
        out = np.zeros_like(gradient)
        for axis, (rows, solver) in enumerate(solvers):
            out[rows, axis] = solver.solve(gradient[rows, axis])
        return out

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        return _energy(x, faces, inverse, weights, free)

    return _descend(uv, evaluate, precondition, lambda x, step: _largest_step(x, step, faces), iterations)


def _energy(
    uv: np.ndarray, faces: np.ndarray, inverse: np.ndarray, weights: np.ndarray, free: np.ndarray
) -> tuple[float, np.ndarray]:
    corner = uv[faces]
    edges = np.stack([corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]], -1)
    jacobian = edges @ inverse
    det = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
    if det.min() <= 0:
        return np.inf, np.zeros_like(uv)
    norm = (jacobian**2).sum((1, 2))
    energy = float((weights * norm * (1 + 1 / det**2)).sum())
    cofactor = np.stack(
        [
            np.stack([jacobian[:, 1, 1], -jacobian[:, 1, 0]], -1),
            np.stack([-jacobian[:, 0, 1], jacobian[:, 0, 0]], -1),
        ],
        1,
    )
    slope = (2 * (1 + 1 / det**2))[:, None, None] * jacobian - (2 * norm / det**3)[:, None, None] * cofactor
    pull = weights[:, None, None] * (slope @ inverse.transpose(0, 2, 1))
    gradient = np.zeros_like(uv)
    for axis in range(2):
        by_corner = [-(pull[:, axis, 0] + pull[:, axis, 1]), pull[:, axis, 0], pull[:, axis, 1]]
        gradient[:, axis] = np.bincount(faces.T.ravel(), np.concatenate(by_corner), minlength=len(uv))
    return energy, gradient * free


def _largest_step(uv: np.ndarray, step: np.ndarray, faces: np.ndarray) -> float:
    """The multiple of `step` at which the first triangle loses its area."""

    def cross(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]

    x, d = uv[faces], step[faces]
    a, b = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]
    da, db = d[:, 1] - d[:, 0], d[:, 2] - d[:, 0]
    c0, c1, c2 = cross(a, b), cross(a, db) + cross(da, b), cross(da, db)
    root = np.sqrt(np.maximum(c1 * c1 - 4 * c2 * c0, 0))
    q = -0.5 * (c1 + np.where(c1 >= 0, root, -root))
    with np.errstate(divide="ignore", invalid="ignore"):
        candidates = np.stack([q / c2, c0 / q])
    real = c1 * c1 - 4 * c2 * c0 >= 0
    candidates = np.where(real & np.isfinite(candidates) & (candidates > 0), candidates, np.inf)
    return float(candidates.min())


def _descend(
    x: np.ndarray,
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]],
    precondition: Callable[[np.ndarray], np.ndarray],
    largest_step: Callable[[np.ndarray, np.ndarray], float],
    iterations: int,
    memory: int = 8,
) -> np.ndarray:
    energy, gradient = evaluate(x)
    history: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(iterations):
        direction, stack = gradient.copy(), []
        for s, y, rho in reversed(history):
            alpha = rho * (s * direction).sum()
            direction -= alpha * y
            stack.append(alpha)
        direction = precondition(direction)
        if history:
            s, y, _rho = history[-1]
            direction *= (s * y).sum() / (y * precondition(y)).sum()
        for (s, y, rho), alpha in zip(history, reversed(stack), strict=True):
            direction += (alpha - rho * (y * direction).sum()) * s
        direction = -direction
        slope = (gradient * direction).sum()
        if slope >= 0:
            history.clear()
            direction = -precondition(gradient)
            slope = (gradient * direction).sum()
        length = min(1.0, 0.8 * largest_step(x, direction))
        while True:
            new_energy, new_gradient = evaluate(x + length * direction)
            if new_energy <= energy + 1e-4 * length * slope:
                break
            length *= 0.5
            if length < 1e-12:
                return x
        s, y = length * direction, new_gradient - gradient
        if (s * y).sum() > 0:
            history = [*history, (s, y, 1 / (s * y).sum())][-memory:]
        done = energy - new_energy < 1e-7 * energy
        x, energy, gradient = x + s, new_energy, new_gradient
        if done:
            break
    return x
