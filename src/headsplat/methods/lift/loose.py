"""Gaussians that do not ride on the head's triangles: hair and clothes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from headsplat.methods.lift.numeric import smoothstep

SHOULDERS = (0.065, 0.14)
"""Metres from the middle between which shoulders may rise from below the chin to above it."""


@dataclass(frozen=True)
class Loose:
    """N Gaussians at rest, rigid mixtures of root, neck and head.

    Attributes:
        means: (N, 3) metres, in the photo's pose until `to_rest`.
        t1, t2: (N, 3) tangents whose outer products sum to the in-plane covariance.
        thickness: (N,) standard deviation along the normal over the shorter axis.
        colours: (N, 3).
        opacities: (N,).
        weights: (N, 3) of root, neck and head.
        seen: (N,) 0..1.
        trust: (N,) 0..1, how freely refinement may recolour.
    """

    means: np.ndarray
    t1: np.ndarray
    t2: np.ndarray
    thickness: np.ndarray
    colours: np.ndarray
    opacities: np.ndarray
    weights: np.ndarray
    seen: np.ndarray
    trust: np.ndarray

    def __len__(self) -> int:
        return len(self.means)


def join(parts: list[Loose]) -> Loose:
    """All Gaussians of several groups."""
    return Loose(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Loose)))


def pick(loose: Loose, mask: np.ndarray) -> Loose:
    """The Gaussians where `mask` (N,) holds."""
    return Loose(*(getattr(loose, f.name)[mask] for f in fields(Loose)))


def hair_weights(height: np.ndarray, aside: np.ndarray) -> np.ndarray:
    """(N, 3) of root, neck, head for hair: rigid with the head above the chin, on the shoulders below.

    Far out and low, what passes for hair is a dark shirt, or hair lying on it: when the head moves it stays
    with the clothes around it.

    Args:
        height: (N,) along the face, 0 at the chin and 1 at the top of the forehead.
        aside: (N,) metres from the middle.
    """
    head = smoothstep(height, -0.30, 0.0)
    neck = (1 - head) * smoothstep(height, -0.45, -0.15)
    hanging = np.stack([1 - head - neck, neck, head], -1)
    out = np.clip((aside - SHOULDERS[0]) / (SHOULDERS[1] - SHOULDERS[0]), 0, 1)
    lying = (smoothstep(out, 0, 0.4) * smoothstep(height - 0.25 * out, 0.05, -0.1))[:, None]
    return hanging * (1 - lying) + body_weights(height) * lying


def body_weights(height: np.ndarray) -> np.ndarray:
    """(N, 3) of root, neck, head for clothes and chest: a collar follows the neck a little, not the head."""
    neck = 0.6 * smoothstep(height, -0.34, -0.08)
    head = 0.25 * smoothstep(height, -0.10, 0.04)
    return np.stack([1 - np.minimum(neck + head, 1), np.minimum(neck, 1 - head), head], -1)


def to_rest(loose: Loose, skin: np.ndarray) -> Loose:
    """Undo the photo's pose.

    Args:
        loose: means and tangents as they stand in the photo.
        skin: (3, 4, 4) world-from-rest matrices of root, neck and head in the photo.
    """
    blended = np.einsum("nk,kij->nij", loose.weights, skin)
    inverse = np.linalg.inv(blended)
    turn = inverse[:, :3, :3]
    return Loose(
        means=np.einsum("nij,nj->ni", turn, loose.means) + inverse[:, :3, 3],
        t1=np.einsum("nij,nj->ni", turn, loose.t1),
        t2=np.einsum("nij,nj->ni", turn, loose.t2),
        thickness=loose.thickness,
        colours=loose.colours,
        opacities=loose.opacities,
        weights=loose.weights,
        seen=loose.seen,
        trust=loose.trust,
    )
