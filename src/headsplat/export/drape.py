"""Pull a bald head mesh out to the hair and clothes of an avatar, so that it has the avatar's outline."""

from __future__ import annotations

import numpy as np

from headsplat.gaussians import Gaussians, quat_to_matrix
from headsplat.head.model import ShapedHead
from headsplat.head.normals import vertex_normals
from headsplat.head.regions import find_regions

# How far hair may stand off the scalp and clothes off the torso, metres.
_HAIR_REACH, _CLOTHES_REACH = 0.11, 0.04
_STEP = 0.003
_NEIGHBOURS = 12
_SOLID = 0.4
_SMOOTHING = 8


def drape(shaped: ShapedHead, gaussians: Gaussians) -> np.ndarray:
    """(V, 3) vertices at rest, scalp and torso moved along their normals to the outermost Gaussians.

    Face, ears, eyes and mouth stay as they are; the way between is smooth. Fringes and long hair that hang in
    front of skin stay paint.

    Args:
        shaped: the head under the avatar.
        gaussians: the avatar at rest.
    """
    model, regions = shaped.model, find_regions(shaped.model)
    normals = vertex_normals(shaped.vertices, model.faces)
    reach = np.where(regions.scalp & ~regions.ear, _HAIR_REACH, np.where(regions.body, _CLOTHES_REACH, 0.0))
    moving = np.flatnonzero(reach)
    distance = np.zeros(len(reach))
    distance[moving] = outermost(gaussians, shaped.vertices[moving], normals[moving], reach[moving])
    # Neighbours agree; the still ones hold the hairline where it is.
    laplacian = regions.laplacian
    degree = laplacian.diagonal()
    for _ in range(_SMOOTHING):
        mean = distance - (laplacian @ distance) / np.maximum(degree, 1)
        distance[moving] = 0.5 * (distance[moving] + mean[moving])
    return (shaped.vertices + distance[:, None] * normals).astype(np.float32)


def outermost(
    gaussians: Gaussians, points: np.ndarray, directions: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """How far out along rays the last solid Gaussians lie.

    Args:
        gaussians: the cloud.
        points: (P, 3) starts, metres.
        directions: (P, 3) unit.
        reach: (P,) how far to look, metres.

    Returns:
        (P,) metres from 0 to `reach`; 0 where the ray meets nothing.
    """
    from scipy.spatial import KDTree

    solid = np.flatnonzero(gaussians.opacities > _SOLID)
    if not len(solid):
        return np.zeros(len(points))
    means = gaussians.means[solid]
    scales = np.maximum(gaussians.scales[solid], _STEP)  # thin shells must not slip between two steps
    whiten = np.swapaxes(quat_to_matrix(gaussians.quats[solid]), 1, 2) / scales[:, :, None]
    tree, count = KDTree(means), min(_NEIGHBOURS, len(solid))
    distance, open_rays = np.zeros(len(points)), np.arange(len(points))
    for t in np.arange(reach.max(), 0, -_STEP):
        rays = open_rays[reach[open_rays] >= t]
        at = points[rays] + t * directions[rays]
        near = tree.query(at, k=count)[1].reshape(len(rays), count)
        offset = np.einsum("pkij,pkj->pki", whiten[near], at[:, None] - means[near])
        density = (gaussians.opacities[solid][near] * np.exp(-0.5 * (offset**2).sum(-1))).sum(1)
        hit = rays[density > _SOLID]
        distance[hit] = t
        open_rays = np.setdiff1d(open_rays, hit, assume_unique=True)
    return distance
