"""Open the head model's eyes as far down as the photo shows them open.

With its lids' points where the photo has them, the model's lower lid still covers a pixel and a half of the
eyeball in a portrait. Everybody would look sleepy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headsplat.clip import Frame
from headsplat.head.model import HeadModel
from headsplat.methods.lift.numeric import fill_polygon
from headsplat.methods.lift.view import LEFT_EYE, RIGHT_EYE
from headsplat.raster.mesh import rasterize_mesh
from headsplat.track.landmarks import lid_openings

_LOWER = {"right_eye": [144, 145, 153], "left_eye": [373, 374, 380]}
_FARTHEST = 0.6
"""Of the travel of a squint."""
_CLOSED = 0.14
"""Lids nearer than this share of the eye's width leave nothing to measure."""


def open_lids(frame: Frame, model: HeadModel) -> HeadModel:
    """The model with lower lids, at rest, where the photo shows them; closed lids meet where they did.

    Both eyes are opened alike, by undoing a part of `eyeSquint`.

    Args:
        frame: the tracked photo.
        model: the head model it was fitted with.
    """
    amount = _too_high(frame, model)
    if amount <= 0:
        return model
    template, expressions = model.template.copy(), model.expression_basis.copy()
    for side in ("Left", "Right"):
        names = model.expression_names
        down = -amount * model.expression_basis[names.index("eyeSquint" + side)]
        template += down
        expressions[names.index("eyeBlink" + side)] -= down
    return replace(model, template=template, expression_basis=expressions)


def _too_high(frame: Frame, model: HeadModel) -> float:
    """How much of a squint lies between the model's lower lids and the photo's, 0.._FARTHEST."""
    shaped = model.with_shape(frame.shape)
    posed = shaped.with_pose(frame.expression, frame.rotations, frame.T_world_root).vertices
    pixels = frame.camera.project(posed).astype(np.float32)
    parts = [model.part_names.index(name) for name in _LOWER]
    faces = np.flatnonzero(model.face_part != model.part_names.index("lashes"))
    drawn = rasterize_mesh(pixels, model.faces[faces], frame.camera.width, frame.camera.height)
    part = np.where(drawn.face >= 0, model.face_part[faces[drawn.face]], 255)
    squint = frame.expression.copy()
    for side in ("Left", "Right"):
        squint[model.expression_names.index("eyeSquint" + side)] += 1
    squinted = shaped.with_pose(squint, frame.rotations, frame.T_world_root).vertices
    raised = [frame.camera.project(model.landmarks(v))[:, 1] for v in (posed, squinted)]
    found, travel = 0.0, 0.0
    for number, polygon, points, opening in zip(
        parts, (RIGHT_EYE, LEFT_EYE), _LOWER.values(), lid_openings(frame.landmarks), strict=True
    ):
        if opening < _CLOSED:
            continue
        own = _lower_edge(part == number)
        wanted = _lower_edge(fill_polygon(frame.landmarks[list(polygon)], *part.shape) > 0)
        common = np.flatnonzero((own >= 0) & (wanted >= 0))
        found += float((wanted - own)[common].sum())
        travel += float((raised[0] - raised[1])[points].mean()) * len(common)
    return float(np.clip(found / travel, 0, _FARTHEST)) if travel > 0 else 0.0


def _lower_edge(mask: np.ndarray) -> np.ndarray:
    """(W,) the lowest row of a mask in the middle half of its columns, -1 elsewhere."""
    columns = np.flatnonzero(mask.any(0))
    out = np.full(mask.shape[1], -1)
    if len(columns):
        quarter = (columns[-1] - columns[0]) / 4
        columns = columns[(columns > columns[0] + quarter) & (columns < columns[-1] - quarter)]
        out[columns] = mask.shape[0] - mask[::-1].argmax(0)[columns]
    return out
