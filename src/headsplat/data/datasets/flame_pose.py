"""Where FLAME's parameters put a head: the pose of its skull, with FLAME's file or about without."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.model import HeadModel

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
SHAPES = 300
MOUTH_OPEN = 0.3
"""Jaw rotation about x of VHAP's canonical pose, radians."""
ABOUT = np.array([[0.0, -0.15, -0.01], [0.0, -0.06, -0.01]])
"""(2, 3) root and neck joint of an average head in FLAME's frame, metres, to some two centimetres."""
ABOUT_NOTE = (
    "Without FLAME's file the head turns about the joints of an average head, which puts it off by about a "
    "centimetre at 30 degrees; give the file with --flame."
)


def expression_names(count: int) -> tuple[str, ...]:
    """The names of FLAME's first expressions."""
    return tuple(f"expr{i}" for i in range(count))


def open_flame(flame: HeadModel | str | os.PathLike[str] | None) -> HeadModel | None:
    """FLAME as given: a model, its file, or nothing.

    Raises:
        HeadsplatError: the file is missing or not FLAME.
    """
    if flame is None or isinstance(flame, HeadModel):
        return flame
    from headsplat.head.flame import load_flame

    return load_flame(Path(flame))


def rest_joints(model: HeadModel | None, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """(2, 3) the root and the neck joint before posing, metres.

    Args:
        model: FLAME; None takes an average head's.
        shape: (S,) identity weights; those that the model lacks must be 0.
        expression: (E,) expression weights, which move the joints a little.
    """
    if model is None:
        return ABOUT
    joints = model.joint_template.astype(np.float64)
    count = min(len(shape), len(model.joint_shape))
    joints = joints + np.tensordot(shape[:count], model.joint_shape[:count], 1)
    if model.joint_expression is not None:
        count = min(len(expression), len(model.joint_expression))
        joints = joints + np.tensordot(expression[:count], model.joint_expression[:count], 1)
    return joints[:2]


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(4, 4) of a (3, 3) rotation and a (3,) translation."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, translation
    return T


def skull_pose(rotations: np.ndarray, T_world_root: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """`T_world_head`: from a point of the skull in FLAME's frame at rest to the world.

    FLAME's skull hangs on the neck joint, and this is that joint's skinning matrix; the root joint turns the
    whole. Both turn about themselves and not the origin.

    Args:
        rotations: (5, 3) rotation vectors, root and neck first.
        T_world_root: (4, 4) what follows the skinning; VHAP's translation.
        joints: (2, 3) from `rest_joints`.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # numbers that are not finite are found later
        return _skull_pose(rotations, T_world_root, joints)


def _skull_pose(rotations: np.ndarray, T_world_root: np.ndarray, joints: np.ndarray) -> np.ndarray:
    root, neck = axis_angle_to_matrix(np.asarray(rotations, np.float64)[:2])
    about_root = rigid(root, joints[0] - root @ joints[0])
    about_neck = rigid(neck, joints[1] - neck @ joints[1])
    return np.asarray(T_world_root, np.float64) @ about_root @ about_neck


def matrix_of_6d(values: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of (..., 6): the first two rows, made orthonormal (Zhou et al. 2019)."""
    a, b = values[..., :3], values[..., 3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = a / np.linalg.norm(a, axis=-1, keepdims=True)
        b = b - (x * b).sum(-1, keepdims=True) * x
        y = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], -2)
