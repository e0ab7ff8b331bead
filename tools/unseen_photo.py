"""Judge lift by a photo it never saw: a neutral portrait, driven to the same person's smile.

For every person with `NNN_neutral.jpg` and `NNN_smiling.jpg` in a folder, an avatar is made from the neutral
photo and driven by the smiling one in two ways: with the pose and expression that the tracker finds, and with
those that `headsplat.track.photometric` finds by comparing the drawn avatar with the photo. Only pose and
expression are taken. The baseline warps the neutral photo onto the smile by all 468 face points. PSNR and
SSIM count inside the hull of the face points; AKD is the mean distance of the face points in pixels of the
crop.

    python tools/unseen_photo.py PHOTOS [--people 8] [--refine 80] [--gaussians 80k] [--sheet OUT.png]
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from headsplat.clip import Frame
from headsplat.data.image import write_image
from headsplat.evaluate import metrics
from headsplat.evaluate.baselines import warp
from headsplat.evaluate.judge import regions
from headsplat.evaluate.observe import drive_frame, find_points, over_grey
from headsplat.evaluate.predict import Prediction, draw_avatar
from headsplat.reconstruct import reconstruct
from headsplat.track import landmarks as lm
from headsplat.track import track_photo
from headsplat.track.photometric import fit_frame

WAYS = ("tracked", "fitted", "warp")
COLUMNS = ("PSNR", "SSIM", "mouth", "eyes", "AKD", "IoU")


def main(
    photos: tyro.conf.Positional[Path],
    people: int = 0,
    highest: int = 0,
    refine: int = 80,
    gaussians: Literal["5k", "20k", "80k"] = "80k",
    sheet: Path | None = None,
) -> None:
    """Print one row per person and way of driving, and the means.

    Args:
        photos: folder of NNN_neutral.jpg and NNN_smiling.jpg.
        people: how many people, evenly spread over the folder; 0 for all.
        highest: largest number NNN to take; 0 for all.
        refine: refinement steps of the avatar.
        gaussians: size of the avatar.
        sheet: also write pictures: neutral, smiling, tracked, fitted, warped.
    """
    names = sorted(p.name[: -len("_neutral.jpg")] for p in photos.glob("*_neutral.jpg"))
    names = [n for n in names if (photos / f"{n}_smiling.jpg").exists()]
    if highest:
        names = [n for n in names if int(n) <= highest]
    if people:
        names = [names[i] for i in np.linspace(0, len(names) - 1, people).astype(int)]
    rows, pictures = [], []
    print("person   way      " + "".join(f"{column:>8s}" for column in COLUMNS))
    for name in names:
        neutral = track_photo(photos / f"{name}_neutral.jpg")
        smile = track_photo(photos / f"{name}_smiling.jpg")
        answers = answer(neutral, smile, gaussians, refine)
        rows.append([scores(prediction, smile) for prediction in answers])
        for way, row in zip(WAYS, rows[-1], strict=True):
            print(f"{name:8s} {way:8s} " + "".join(f"{score:8.3f}" for score in row), flush=True)
        if sheet:
            shown = [over_grey(neutral), over_grey(smile), *(prediction.image for prediction in answers)]
            pictures.append(np.concatenate(shown, 1)[60:452])
    for way, row in zip(WAYS, np.mean(rows, 0), strict=True):
        print(f"{'mean':8s} {way:8s} " + "".join(f"{score:8.3f}" for score in row))
    if sheet:
        write_image(sheet, np.concatenate(pictures, 0))


def answer(
    neutral: Frame, smile: Frame, gaussians: Literal["5k", "20k", "80k"], refine: int
) -> list[Prediction]:
    """The smile as each of `WAYS` draws it."""
    avatar = reconstruct(neutral, gaussians=gaussians, refine=refine)
    tracked = drive_frame(neutral, smile)
    points = neutral.landmarks[: lm.MESH], smile.landmarks[: lm.MESH]
    return [
        draw_avatar(avatar, tracked),
        draw_avatar(avatar, fit_frame(avatar, tracked)),
        Prediction(warp(over_grey(neutral), *points), warp(neutral.alpha, *points)),
    ]


def scores(prediction: Prediction, smile: Frame) -> list[float]:
    """What `COLUMNS` name."""
    target = over_grey(smile)
    parts = {name: mask & smile.valid for name, mask in regions(smile.landmarks, smile.alpha.shape).items()}
    found = find_points(prediction.image, smile.landmarks)
    return [
        metrics.psnr(prediction.image, target, parts["face"]),
        metrics.ssim(prediction.image, target, parts["face"]),
        metrics.psnr(prediction.image, target, parts["mouth"]),
        metrics.psnr(prediction.image, target, parts["eyes"]),
        np.nan if found is None else metrics.keypoint_distance(found[: lm.MESH], smile.landmarks[: lm.MESH]),
        metrics.matte_iou(prediction.alpha, smile.alpha, smile.valid),
    ]


if __name__ == "__main__":
    tyro.cli(main)
