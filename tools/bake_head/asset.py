"""Write the free head's asset: one side only, in half precision; `headsplat.head.free` reads it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headsplat.files import writing

from .anny_body import JOINTS, PARENTS, PARTS
from .bust import Bust


def write_asset(
    path: Path,
    bust: Bust,
    symmetric: np.ndarray,
    joints: np.ndarray,
    joint_basis: np.ndarray,
    expression_names: tuple[str, ...],
    uv: np.ndarray,
    uv_faces: np.ndarray,
    landmark_faces: np.ndarray,
    landmark_barycentrics: np.ndarray,
) -> None:
    """Store the vertices of the left half and the sagittal plane; the rest follows by `mirror`.

    The origin moves to the head joint. Faces are sorted by part, expressions by name.
    """
    origin = joints[JOINTS.index("head")]
    half = np.flatnonzero((bust.template[:, 0] > 0) | (bust.mirror == np.arange(len(bust.mirror))))
    names = sorted(expression_names)
    order = [expression_names.index(name) for name in names]
    with writing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            half=half.astype(np.uint16),
            mirror=bust.mirror.astype(np.uint16),
            template=(bust.template[half] - origin).astype(np.float32),
            shape_basis=bust.basis[:, half].astype(np.float16),
            shape_symmetric=symmetric,
            expression_basis=bust.expressions[order][:, half].astype(np.float16),
            expression_names=np.array(names),
            joint_template=(joints - origin).astype(np.float32),
            joint_shape=joint_basis.astype(np.float32),
            joint_names=np.array(JOINTS),
            parents=np.array(PARENTS, np.int8),
            skin_weights=np.round(bust.skin_weights[half] * 65535).astype(np.uint16),
            faces=bust.faces.astype(np.uint16),
            uv=np.round((uv - [0.5, 0]) * 65534).astype(np.int32),
            uv_faces=uv_faces.astype(np.uint16),
            face_part=bust.face_part,
            part_names=np.array(PARTS),
            landmark_faces=landmark_faces.astype(np.uint16),
            landmark_barycentrics=landmark_barycentrics.astype(np.float32),
        )
