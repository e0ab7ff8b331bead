"""Small corrections of tracked poses, learned along with the network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from headsplat.head import lbs
from headsplat.methods.lam.rig import Pose

EXPRESSION_RATE = 4.0
"""How many times faster expression weights are corrected than radians and metres."""
STIFFNESS = 10.0
"""Weight of squared radians and metres against squared expression weights in the penalty."""


class Corrections(nn.Module):
    """What is added to the pose of each learned frame of each person.

    Without them the network has to blur what the tracker put astray. The mean over a person's frames is taken
    out: it belongs into the Gaussians, and held-out frames, which are not corrected, would suffer from it. So
    a single photo has none.
    """

    def __init__(self, frames: Sequence[int], expressions: int, joints: int) -> None:
        """No correction yet, for people with so many learned frames each."""
        super().__init__()

        def zeros(*size: int) -> nn.ParameterList:
            return nn.ParameterList(nn.Parameter(torch.zeros(count, *size)) for count in frames)

        self.expression, self.rotations = zeros(expressions), zeros(joints, 3)
        self.turn, self.move = zeros(3), zeros(3)

    def groups(self, rate: float) -> list[dict]:
        """Parameter groups for the optimiser; `rate` is a factor on the network's."""
        slow = [*self.rotations, *self.turn, *self.move]
        return [
            {"params": [*self.expression], "weight_decay": 0.0, "factor": EXPRESSION_RATE * rate},
            {"params": slow, "weight_decay": 0.0, "factor": rate},
        ]

    def corrected(self, pose: Pose, person: int, frames: Sequence[int]) -> Pose:
        """The pose of some learned frames of a person."""
        numbers = list(frames)
        expression, rotations, turn, move = (
            (part[person] - part[person].mean(0))[numbers]
            for part in (self.expression, self.rotations, self.turn, self.move)
        )
        matrices = lbs.axis_angle_to_matrix(turn)
        top = torch.cat([matrices, move[..., None]], -1)
        last = pose.T_world_root[:, 3:]
        return Pose(
            pose.expression + expression,
            pose.rotations + rotations,
            torch.cat([top, last], 1) @ pose.T_world_root,
        )

    def penalty(self, person: int) -> Tensor:
        """Mean square of a person's corrections."""
        weights = (1.0, STIFFNESS, STIFFNESS, STIFFNESS)
        parts = (self.expression, self.rotations, self.turn, self.move)
        squares = [
            w * (p[person] - p[person].mean(0)).square().mean() for w, p in zip(weights, parts, strict=True)
        ]
        return torch.stack(squares).sum()
