"""Bend the fitted head so that jaw, cheeks and bald scalp meet the matte's outline and nothing is beyond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from headsplat.head.regions import NAPE
from headsplat.methods.lift.numeric import inside, look_up, nearest_index, smoothstep
from headsplat.methods.lift.segment import Sight
from headsplat.methods.lift.view import vertex_normals

REACH = 16
"""Pixels to either side within which the matte's outline is looked for."""
FARTHEST = 0.010
"""Largest change, metres."""
EAR_ROWS = (-0.012, 0.055)
"""Template heights between which the outline of a bare head is an ear's and not the cheek's, metres."""


def fit_outline(sights: Sequence[Sight]) -> np.ndarray | None:
    """How the head differs from the fitted shape where skin ends the mattes.

    Args:
        sights: the photos, the main one first.

    Returns:
        (V, 3) metres at rest, a smooth displacement along the normals; None where too little outline shows.
    """
    view = sights[0].view
    model, regions = view.model, view.regions
    weight, target = np.zeros(len(model.template)), np.zeros(len(model.template))
    facing = view.facing
    shown = 0
    for sight in sights:
        w, t, count = _ends_of_skin(sight)
        target = np.where(weight > 0, (weight * target + w * t) / np.maximum(weight + w, 1e-9), t)
        weight, shown = weight + w, shown + count
        facing = np.maximum(facing, sight.view.facing)
    if shown < 20:
        return None
    degree = np.maximum(regions.laplacian.diagonal(), 1)
    even = sp.diags(1 / degree) @ regions.laplacian
    still = np.where(facing > 0.55, 0.3, 0.01) + 5.0 * ~regions.head
    still = still + 1.0 * (model.template[:, 1] < NAPE - 0.02)
    system = (4.0 * (even.T @ even) + 0.05 * (even + even.T) + sp.diags(weight + still)).tocsc()
    height = np.asarray(spl.spsolve(system, weight * target)) * regions.head
    height *= smoothstep(model.template[:, 1], NAPE - 0.03, NAPE)
    normals = vertex_normals(view.posed, model.faces[regions.skin_faces])
    head = view.skin[model.joint_names.index("head"), :3, :3]
    return (height[:, None] * normals) @ head


def _ends_of_skin(sight: Sight) -> tuple[np.ndarray, np.ndarray, int]:
    """Weight and offset (V,), metres, of the matte's end along each normal; how many were looked at."""
    view, segments = sight.view, sight.segments
    model, regions, frame = view.model, view.regions, view.frame
    weight, target = np.zeros(len(model.template)), np.zeros(len(model.template))
    normals = vertex_normals(view.posed, model.faces[regions.skin_faces])
    edge_on = regions.head & ~regions.ear & (abs(view.facing) < 0.35) & (model.template[:, 1] > NAPE)
    row, column = nearest_index(view.pixels, *view.shape)
    edge_on &= inside(view.pixels, *view.shape, 4) & (view.pixels[:, 2] < view.depth[row, column] + 0.006)
    edge_on &= frame.valid[row, column]
    chosen = np.flatnonzero(edge_on)
    if not len(chosen):
        return weight, target, 0
    tip = frame.camera.project(view.posed[chosen] + 0.01 * normals[chosen])
    across = tip[:, :2] - view.pixels[chosen, :2]
    length = np.linalg.norm(across, axis=1)
    along = across / np.maximum(length, 1e-6)[:, None]
    steps = np.arange(-REACH, REACH + 0.25, 0.5)
    path = (view.pixels[chosen, None, :2] + along[:, None] * steps[None, :, None]).reshape(-1, 2)
    matte = look_up(frame.alpha, path).reshape(len(chosen), -1) > 0.5
    # Beside an ear the cheek ends at the face oval; the matte goes on to the ear's rim.
    beside_ear = (model.template[chosen, 1] > EAR_ROWS[0]) & (model.template[chosen, 1] < EAR_ROWS[1])
    on_face = look_up(view.oval.astype(np.float32), path).reshape(len(chosen), -1) > 0.5
    matte &= on_face | ~beside_ear[:, None]
    skin = look_up(segments.skin, path).reshape(len(chosen), -1)
    # The outline: the first place from inwards where the matte ends.
    ends = matte[:, :-1] & ~matte[:, 1:]
    found = ends.any(1) & matte[:, 0]
    at = np.argmax(ends, 1)
    before = np.clip(at - 8, 0, None)
    of_skin = np.take_along_axis(skin, before[:, None], 1)[:, 0] > 0.5
    offset = steps[at] / np.maximum(length, 1e-6) * 0.01
    # Hair stands off the head by an unknown height, but no head stands out of its hair.
    good = found & (of_skin | (offset < 0)) & (length > 4)
    weight[chosen[good]] = 1 - abs(view.facing[chosen[good]]) / 0.35
    target[chosen[good]] = np.clip(offset[good], -FARTHEST, FARTHEST)
    return weight, target, len(chosen)
