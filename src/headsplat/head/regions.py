"""Regions of the free head: scalp, ears, lids, lips; once per model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial import KDTree

from headsplat.head.model import HeadModel

# Heights (y) and depths (z) of the template in head space, metres.
HAIR_PLANE = ((0.1004, 0.0974), (-0.0566, -0.0426))
"""Two points (y, z) of the sagittal plane; the plane through them and the x axis parts face from scalp."""
NAPE = -0.053
CROWN = 0.083
EAR_WIDTH, EAR_REACH = 0.0775, 0.0105


@dataclass(frozen=True)
class Regions:
    """Per-vertex (V) and per-face (F) facts of a head model's template.

    Attributes:
        head: (V,) bool, skin of head and neck.
        body: (V,) bool, skin of the torso.
        behind: (V,) metres behind the hair plane (negative on the face side).
        scalp: (V,) bool, where hair grows.
        ear: (V,) bool.
        lid: (V,) 0..1, how much a blink moves the vertex.
        lip_margin: (n,) indices where skin meets the mouth cavity.
        eye_margin: (n,) indices where skin meets the eye sockets.
        laplacian: (V, V) sparse graph Laplacian (degree minus adjacency) of the whole mesh.
        skin_faces: (F,) bool, faces of head, neck and torso skin.
    """

    head: np.ndarray
    body: np.ndarray
    behind: np.ndarray
    scalp: np.ndarray
    ear: np.ndarray
    lid: np.ndarray
    lip_margin: np.ndarray
    eye_margin: np.ndarray
    laplacian: sp.csr_matrix
    skin_faces: np.ndarray

    def faces(self, model: HeadModel, *parts: str) -> np.ndarray:
        """(F,) bool, faces that belong to any of the named parts."""
        return np.isin(model.face_part, [model.part_names.index(name) for name in parts])


_KNOWN: list[tuple[HeadModel, Regions]] = []


def find_regions(model: HeadModel) -> Regions:
    """The regions of a head model; computed once per model and remembered."""
    for known, regions in _KNOWN:
        if known is model:
            return regions
    regions = _find(model)
    _KNOWN[:] = [*_KNOWN[-3:], (model, regions)]
    return regions


def _find(model: HeadModel) -> Regions:
    v, count = model.template, len(model.template)
    part = {name: model.face_part == i for i, name in enumerate(model.part_names)}

    def touched(faces: np.ndarray) -> np.ndarray:
        mask = np.zeros(count, bool)
        mask[model.faces[faces]] = True
        return mask

    body = touched(part["body"])
    head = touched(part["head"]) & ~body
    (y1, z1), (y0, z0) = HAIR_PLANE
    slope = (z1 - z0) / (y1 - y0)
    behind = ((v[:, 1] - y0) * slope + z0 - v[:, 2]) / np.hypot(1, slope)
    lobe = head & (abs(v[:, 0]) > EAR_WIDTH) & (v[:, 1] < 0.0754) & (v[:, 1] > -0.0066)
    ear = head & (KDTree(v[lobe]).query(v)[0] < EAR_REACH) & (abs(v[:, 0]) > 0.062)
    scalp = head & ~ear & (behind > 0) & (v[:, 1] > NAPE + 0.006)
    names = list(model.expression_names)
    blink = (
        model.expression_basis[names.index("eyeBlinkLeft")]
        + model.expression_basis[names.index("eyeBlinkRight")]
    )
    moved = np.linalg.norm(blink, axis=1) * head
    f = model.faces
    i, j = np.concatenate([f[:, 0], f[:, 1], f[:, 2]]), np.concatenate([f[:, 1], f[:, 2], f[:, 0]])
    adjacency = sp.coo_matrix((np.ones(len(i)), (i, j)), (count, count)).tocsr()
    adjacency = ((adjacency + adjacency.T) > 0).astype(np.float64)
    laplacian = (sp.diags(np.asarray(adjacency.sum(1))[:, 0]) - adjacency).tocsr()
    return Regions(
        head=head,
        body=body,
        behind=behind,
        scalp=scalp,
        ear=ear,
        lid=(moved / moved.max()).astype(np.float32),
        lip_margin=np.flatnonzero(touched(part["mouth_cavity"]) & touched(part["head"])),
        eye_margin=np.flatnonzero(touched(part["eye_socket"]) & touched(part["head"])),
        laplacian=laplacian,
        skin_faces=part["head"] | part["body"],
    )
