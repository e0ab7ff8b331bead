"""Source pictures the way the released GAGAvatar expects them: a square around the head, on black."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from headsplat.clip import Frame
from headsplat.head.free import load_free_head
from headsplat.methods.gagavatar.geometry import SIZE

MARGIN = 1.65
"""Side of the square over the geometric mean of the sides of the head's box."""


def released_square(frame: Frame, on_black: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a tracked picture to the square around the head.

    The head's box is that of the tracked head model, not of the detector that the authors use: the framing
    agrees roughly.

    Args:
        frame: the tracked picture.
        on_black: (H, W, 3) its person on black.

    Returns:
        Picture (512, 512, 3), matte (512, 512) and landmarks (478, 2) in pixels of the picture.
    """
    head = load_free_head()
    posed = head.with_shape(frame.shape).with_pose(frame.expression, frame.rotations, frame.T_world_root)
    pixels = frame.camera.project(posed.vertices[head.vertices_of("head")])[:, :2]
    low, high = pixels.min(0), pixels.max(0)
    return cut_square(on_black, frame.alpha, frame.landmarks, np.concatenate([low, high]))


def cut_square(
    image: np.ndarray, alpha: np.ndarray, points: np.ndarray, box: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The square around a (4,) box in pixels: left, top, right, bottom; black where it leaves the picture.

    Returns:
        Picture (512, 512, 3), matte (512, 512) and the (N, 2) points in it.
    """
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = MARGIN * float(np.sqrt(sides.prod())) / 2
    left, top, right, bottom = (int(v) for v in np.concatenate([centre - half, centre + half]))
    both = np.concatenate([image, alpha[..., None]], -1)
    out = np.zeros((bottom - top, right - left, 4), np.float32)
    height, width = alpha.shape
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = both[rows, columns]
    planes = torch.from_numpy(out).movedim(-1, 0)[None]
    small = F.interpolate(planes, size=(SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    pixels = small[0].movedim(0, -1).numpy()
    moved = (points - [left, top]) * [SIZE / out.shape[1], SIZE / out.shape[0]]
    return pixels[..., :3], pixels[..., 3], moved.astype(np.float32)
