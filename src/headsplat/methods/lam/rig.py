"""Pose LAM's Gaussians with the head model that their points came from, in torch, for training and parity.

FLAME's animation on subdivided attributes: expression offsets, then linear blend skinning of centres. In the
released model the joints follow the expression, there are no pose correctives and Gaussians are not turned;
the paper's text differs, and both are settings. Playback needs none of this: `reconstruct` bakes an `Avatar`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headsplat.gaussians import Gaussians
from headsplat.head import lbs
from headsplat.head.model import HeadModel
from headsplat.head.subdivide import subdivide
from headsplat.methods.lam.config import LamConfig
from headsplat.methods.lam.model import Prediction
from headsplat.methods.lam.teeth import add_teeth


class Pose(NamedTuple):
    """F frames of one person's head parameters, in the order of the head model.

    Attributes:
        expression: (F, E) weights.
        rotations: (F, J, 3) rotation vectors relative to the parent joint, radians.
        T_world_root: (F, 4, 4) pose of the whole head, applied last.
    """

    expression: Tensor
    rotations: Tensor
    T_world_root: Tensor


@dataclass(frozen=True)
class Rig:
    """The head model's arrays as tensors, at the density of the Gaussians.

    N points, S shape components, E expressions, J joints.

    Attributes:
        head: the subdivided head model.
        config: decides what follows what.
        template: (N, 3).
        basis: (N, 3, S + E) blendshapes, identity first.
        joint_template: (J, 3).
        joint_shape: (S, J, 3).
        skin_weights: (N, J).
        joint_expression: (E, J, 3), or None: joints stay.
        pose_basis: (9 (J - 1), N, 3), or None: no pose correctives.
    """

    head: HeadModel
    config: LamConfig
    template: Tensor
    basis: Tensor
    joint_template: Tensor
    joint_shape: Tensor
    skin_weights: Tensor
    joint_expression: Tensor | None
    pose_basis: Tensor | None

    @staticmethod
    def of(head: HeadModel, config: LamConfig) -> Rig:
        """The rig of a head model at its own density, subdivided as often as the settings say."""
        fine = subdivide(add_teeth(head) if config.teeth else head, config.subdivisions)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32))

        follow = fine.joint_expression if config.joints_follow_expression else None
        correctives = fine.pose_basis if config.pose_correctives else None
        return Rig(
            fine,
            config,
            tensor(fine.template),
            tensor(np.moveaxis(np.concatenate([fine.shape_basis, fine.expression_basis]), 0, -1)),
            tensor(fine.joint_template),
            tensor(fine.joint_shape),
            tensor(fine.skin_weights),
            None if follow is None else tensor(follow),
            None if correctives is None else tensor(correctives),
        )

    def to(self, device: torch.device | str) -> Rig:
        """The same rig with its tensors on another device."""
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def points(self, betas: Tensor) -> Tensor:
        """(..., N, 3) points of the neutral head with (..., <= S) shape weights."""
        # The sines of the eighth octave magnify the last digit of a coordinate 400 times: summed in this
        # layout, the points agree with the released model's to the bit.
        return self.template + torch.einsum("...s,ncs->...nc", betas, self.basis[..., : betas.shape[-1]])

    def rest(self) -> Pose:
        """One frame without expression or rotation."""
        like = self.template
        return Pose(
            like.new_zeros(1, len(self.head.expression_names)),
            like.new_zeros(1, len(self.joint_template), 3),
            torch.eye(4, device=like.device)[None],
        )

    def transforms(self, betas: Tensor, pose: Pose) -> Tensor:
        """(F, J, 4, 4) skinning matrices of a head with (<= S,) shape weights in F poses."""
        joints = lbs.blend(self.joint_template, self.joint_shape[: betas.shape[-1]], betas)
        joints = joints.expand(len(pose.expression), -1, -1)
        if self.joint_expression is not None:
            joints = lbs.blend(joints, self.joint_expression, pose.expression)
        matrices = lbs.axis_angle_to_matrix(pose.rotations)
        return lbs.joint_transforms(matrices, joints, tuple(self.head.parents.tolist()), pose.T_world_root)

    def pose_points(self, means: Tensor, betas: Tensor, pose: Pose) -> Tensor:
        """Move rest points to F poses.

        Args:
            means: (N, 3) one per point of the rig, neutral.
            betas: (<= S,) the person's shape weights, for the joints.
            pose: F frames.

        Returns:
            (F, N, 3).
        """
        moved = means + self._offsets(pose)
        return lbs.skin(moved, self.transforms(betas, pose), self.skin_weights)

    def unpose_points(self, means: Tensor, betas: Tensor, pose: Pose) -> Tensor:
        """Undo `pose_points` for (1, N, 3) points posed in one frame: (1, N, 3) neutral points."""
        transforms = self.transforms(betas, pose)[:, :, :3]
        blended = (self.skin_weights @ transforms.flatten(2)).unflatten(-1, (3, 4))
        back = torch.linalg.solve(blended[..., :3], (means - blended[..., 3])[..., None])[..., 0]
        return back - self._offsets(pose)

    def unturn(self, quats: Tensor, betas: Tensor, pose: Pose) -> Tensor:
        """Undo the turning of (1, N, 4) Gaussians posed in one frame; as they are if none is turned."""
        if not self.config.rotate_gaussians:
            return quats
        turns = _blend_quats(self.transforms(betas, pose), self.skin_weights)
        return _quat_multiply(turns * turns.new_tensor([1, -1, -1, -1]), quats)

    def gaussians(self, prediction: Prediction, betas: Tensor, pose: Pose, index: int = 0) -> list[Gaussians]:
        """The Gaussians of one image of a prediction in each of F poses.

        Args:
            prediction: neutral Gaussians of B images.
            betas: (<= S,) shape weights of the person in image `index`.
            pose: F frames.
            index: which image.
        """
        means = self.pose_points(prediction.means[index], betas, pose)
        quats = prediction.quats[index].expand(len(means), -1, -1)
        if self.config.rotate_gaussians:
            turns = _blend_quats(self.transforms(betas, pose), self.skin_weights)
            quats = _quat_multiply(turns, quats)
        frames = []
        for frame in range(len(means)):
            colours = prediction.colours[index]
            if prediction.wrinkles is not None:
                change = torch.einsum("e,nec->nc", pose.expression[frame], prediction.wrinkles[index])
                colours = (colours + change).clamp(0, 1)
            frames.append(
                Gaussians(
                    means[frame],
                    quats[frame],
                    prediction.scales[index],
                    prediction.opacities[index],
                    colours,
                )
            )
        return frames

    def _offsets(self, pose: Pose) -> Tensor:
        expressions = self.basis[..., len(self.head.shape_basis) :]
        offsets = torch.einsum("fe,nce->fnc", pose.expression, expressions)
        if self.pose_basis is not None:
            feature = lbs.pose_feature(lbs.axis_angle_to_matrix(pose.rotations))
            offsets = lbs.blend(offsets, self.pose_basis, feature)
        return offsets


def _blend_quats(transforms: Tensor, weights: Tensor) -> Tensor:
    """(F, N, 4) rotations blended from those of (F, J, 4, 4) transforms with (N, J) weights."""
    from headsplat.gaussians import matrix_to_quat

    quats = matrix_to_quat(transforms[..., :3, :3].detach().cpu().numpy().astype(np.float64))
    # q and -q are one rotation: put all on the side of the first joint.
    quats *= np.where((quats * quats[:, :1]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    blended = weights @ torch.from_numpy(quats).to(weights)
    return torch.nn.functional.normalize(blended, dim=-1)


def _quat_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of (..., 4) wxyz quaternions, differentiable: first b, then a."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    w = aw * bw - (av * bv).sum(-1, keepdim=True)
    return torch.cat([w, aw * bv + bw * av + torch.cross(av, bv.expand_as(av), dim=-1)], -1)
