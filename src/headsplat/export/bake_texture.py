"""Paint a mesh with the colours of the Gaussians around it: one texture for all tools that know no splats."""

from __future__ import annotations

import numpy as np

from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians, quat_to_matrix

_NEIGHBOURS = 12
# Surface splats are thinner than their gap to the mesh; they count as at least this thick, metres.
_MIN_THICKNESS = 1e-3
_MIN_OPACITY = 0.1
_CHUNK = 100_000


def bake_texture(
    gaussians: Gaussians,
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray,
    uv_faces: np.ndarray,
    size: int,
) -> np.ndarray:
    """The (size, size, 3) float32 sRGB texture that paints a mesh like `gaussians`; row 0 is v = 1.

    Each texel becomes a point on the surface and takes the mean colour of the Gaussians around it, weighted
    by opacity and by each Gaussian's own falloff. Texels outside all islands take the nearest one's colour.

    Args:
        gaussians: N Gaussians with RGB features, in the mesh's space.
        vertices: (V, 3) metres.
        faces: (F, 3).
        uv: (U, 2) 0..1, v up.
        uv_faces: (F, 3) into `uv`.
        size: texels per side.

    Raises:
        HeadsplatError: there is nothing opaque to sample.
    """
    from scipy.ndimage import distance_transform_edt

    from headsplat.raster.mesh import rasterize_mesh

    pixels = np.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size, np.ones(len(uv))], 1).astype(np.float32)
    _, face, barycentrics = rasterize_mesh(pixels, uv_faces.astype(np.int32), size, size)
    covered = face >= 0
    corners = vertices[faces[face[covered]]]
    points = (corners * barycentrics[covered][..., None]).sum(1)
    texture = np.zeros((size, size, 3), np.float32)
    texture[covered] = colors_at(gaussians, points)
    nearest = np.asarray(distance_transform_edt(~covered, return_distances=False, return_indices=True))
    return texture[nearest[0], nearest[1]]


def colors_at(gaussians: Gaussians, points: np.ndarray) -> np.ndarray:
    """(P, 3) float32 colours at (P, 3) `points`: mean of the neighbours by opacity and falloff.

    Raises:
        HeadsplatError: no Gaussian is opaque enough to have a colour.
    """
    from scipy.spatial import KDTree

    solid = np.flatnonzero(gaussians.opacities > _MIN_OPACITY)
    if not len(solid):
        raise HeadsplatError(
            "The avatar is transparent everywhere, so there are no colours to paint on a mesh."
        )
    means, features = gaussians.means[solid], gaussians.features[solid]
    scales = np.maximum(gaussians.scales[solid], _MIN_THICKNESS)
    # whiten[i] @ (p - mean_i) has the squared length of the Mahalanobis distance.
    whiten = np.swapaxes(quat_to_matrix(gaussians.quats[solid]), 1, 2) / scales[:, :, None]
    log_opacity = np.log(gaussians.opacities[solid])
    tree, count = KDTree(means), min(_NEIGHBOURS, len(solid))
    colors = np.empty((len(points), 3), np.float32)
    for start in range(0, len(points), _CHUNK):
        chunk = points[start : start + _CHUNK]
        near = tree.query(chunk, k=count, workers=-1)[1].reshape(len(chunk), count)
        offset = np.einsum("pkij,pkj->pki", whiten[near], chunk[:, None] - means[near])
        score = log_opacity[near] - 0.5 * (offset**2).sum(-1)
        # The best neighbour always counts fully, so that a gap between mesh and splats cannot turn black.
        weights = np.exp(score - score.max(1, keepdims=True))
        colors[start : start + _CHUNK] = (
            np.einsum("pk,pkc->pc", weights, features[near]) / weights.sum(1)[:, None]
        )
    return colors
