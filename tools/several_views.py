"""Judge lift by how much more views help: avatars from 1, 2, 4 .. views of a recording, on views held out.

The views are chosen by `best_views` from the views to learn from, a smaller choice being the beginning of a
larger one. Every avatar is driven with the tracked parameters of held-out views; PSNR and SSIM count inside
their mattes, `face` inside the hull of the face points.

    python tools/several_views.py RECORDING [--views 1 2 4 8] [--held 8] [--gaussians 80k] [--sheet OUT.png]
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.data.datasets import read_dataset
from headsplat.data.image import write_image
from headsplat.methods import lift
from headsplat.methods.lift.model import GREY, measure_fit, photo_pose
from headsplat.raster import rasterize
from headsplat.track.frames import best_views, frames_of


def main(
    recording: tyro.conf.Positional[Path],
    views: tuple[int, ...] = (1, 2, 4, 8),
    held: int = 8,
    gaussians: Literal["5k", "20k", "80k"] = "80k",
    refine: int = 80,
    sheet: Path | None = None,
) -> None:
    """Print one row per number of views.

    Args:
        recording: folder of a tracked recording with views to judge by.
        views: how many views to make avatars of.
        held: how many held-out views to judge by.
        gaussians: size of the avatars.
        refine: refinement steps for one view.
        sheet: also write pictures: held-out views above, every avatar below.
    """
    dataset = read_dataset(recording)
    judged = [dataset.test[i] for i in np.linspace(0, len(dataset.test) - 1, held).astype(int)]
    truth = frames_of(dataset, judged)
    chosen = frames_of(dataset, best_views(dataset, max(views)))
    config = {"5k": lift.lift_5k, "20k": lift.lift_20k, "80k": lift.lift_80k}[gaussians](refine)
    rows = [[_over_grey(frame) for frame in truth]]
    print("views    PSNR    SSIM     IoU    face   their own views")
    for count in views:
        avatar = lift.reconstruct(chosen[:count], config)
        fits = [measure_fit(avatar, frame) for frame in truth]
        mean = [np.mean([fit[k] for fit in fits]) for k in ("source_psnr", "source_ssim", "matte_iou")]
        pictures = [draw(avatar, frame) for frame in truth]
        face = np.mean([face_psnr(p, frame) for p, frame in zip(pictures, truth, strict=True)])
        own = np.mean([measure_fit(avatar, frame)["source_psnr"] for frame in chosen[:count]])
        print(f"{count:5d}  " + "  ".join(f"{x:6.3f}" for x in (*mean, face)) + f"  {own:6.2f}", flush=True)
        rows.append(pictures)
    if sheet:
        write_image(sheet, np.concatenate([np.concatenate(row, 1)[::2, ::2] for row in rows], 0))


def draw(avatar: Avatar, frame: Frame) -> np.ndarray:
    """(H, W, 3) the avatar in the pose of a frame."""
    return rasterize(photo_pose(avatar, frame), frame.camera, background=GREY, depth=False).image


def face_psnr(picture: np.ndarray, frame: Frame) -> float:
    """Decibels inside the hull of a frame's face points."""
    hull = cv2.convexHull(frame.landmarks[:468].astype(np.int32))
    inside = cv2.fillConvexPoly(np.zeros(frame.alpha.shape, np.uint8), hull, (1,)) > 0
    return float(-10 * np.log10(((picture - _over_grey(frame)) ** 2).mean(-1)[inside].mean()))


def _over_grey(frame: Frame) -> np.ndarray:
    return frame.foreground * frame.alpha[..., None] + (1 - frame.alpha[..., None]) * np.float32(GREY)


if __name__ == "__main__":
    tyro.cli(main)
