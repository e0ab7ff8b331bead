"""Judge lift by a photo it never saw: a neutral portrait, driven to the same person's smile.

For every person with `NNN_neutral.jpg` and `NNN_smiling.jpg` in a folder, an avatar is made from the neutral
photo and driven with the expression and the pose that the tracker finds in the smiling one (identity from the
neutral one). The baseline copies the neutral photo, warped onto the smile by its face points. PSNR and SSIM
count inside the hull of the face points.

    python tools/unseen_photo.py PHOTOS [--people 8] [--refine 80] [--gaussians 80k] [--sheet OUT.png]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro
from scipy.spatial import Delaunay

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.data.image import write_image
from headsplat.head.free import load_free_head
from headsplat.methods.lift.model import photo_pose
from headsplat.methods.lift.refine import ssim_map
from headsplat.raster import rasterize
from headsplat.reconstruct import reconstruct
from headsplat.track import track_photo
from headsplat.track.fit import fit_frames, fit_pose
from headsplat.track.photo import build_frame
from headsplat.track.points import face_points

GREY = 0.38


def main(
    photos: tyro.conf.Positional[Path],
    people: int = 0,
    refine: int = 80,
    gaussians: Literal["5k", "20k", "80k"] = "80k",
    sheet: Path | None = None,
) -> None:
    """Print one row per person and the means.

    Args:
        photos: folder of NNN_neutral.jpg and NNN_smiling.jpg.
        people: how many people, evenly spread over the folder; 0 for all.
        refine: refinement steps of the avatar.
        gaussians: size of the avatar.
        sheet: also write pictures: neutral, smiling, the driven avatar.
    """
    names = sorted(p.name[: -len("_neutral.jpg")] for p in photos.glob("*_neutral.jpg"))
    names = [n for n in names if (photos / f"{n}_smiling.jpg").exists()]
    if people:
        names = [names[i] for i in np.linspace(0, len(names) - 1, people).astype(int)]
    rows, pictures = [], []
    print("person     PSNR    SSIM     IoU    copy    SSIM")
    for name in names:
        neutral, smile = (
            track_photo(photos / f"{name}_neutral.jpg"),
            track_photo(photos / f"{name}_smiling.jpg"),
        )
        avatar = reconstruct(neutral, gaussians=gaussians, refine=refine)
        scores, drawn = compare(avatar, neutral, smile)
        rows.append(scores)
        print(
            f"{name:8s} " + "  ".join(f"{score:6.3f}" for score in scores),
            flush=True,
        )
        if sheet:
            pictures.append(np.concatenate([over_grey(neutral), over_grey(smile), drawn], 1)[60:452])
    mean = np.mean(rows, 0)
    print("mean     " + "  ".join(f"{score:6.3f}" for score in mean))
    if sheet:
        write_image(sheet, np.concatenate(pictures, 0))


def compare(avatar: Avatar, neutral: Frame, smile: Frame) -> tuple[tuple[float, ...], np.ndarray]:
    """PSNR, SSIM, silhouette IoU of the driven avatar; PSNR, SSIM of the warped copy; the picture."""
    driven = drive_frame(neutral, smile)
    drawn = rasterize(photo_pose(avatar, driven), driven.camera, background=GREY, depth=False)
    target = over_grey(smile)
    hull = cv2.convexHull(smile.landmarks[:468].astype(np.int32))
    face = cv2.fillConvexPoly(np.zeros(smile.alpha.shape, np.uint8), hull, 1) > 0
    solid, matte = (drawn.alpha > 0.5) & smile.valid, (smile.alpha > 0.5) & smile.valid
    copy = warp(over_grey(neutral), neutral.landmarks[:468], smile.landmarks[:468])
    return (
        psnr(drawn.image, target, face),
        float(ssim_map(drawn.image, target).mean(-1)[face].mean()),
        float((solid & matte).sum() / (solid | matte).sum()),
        psnr(copy, target, face),
        float(ssim_map(copy, target).mean(-1)[face].mean()),
    ), drawn.image


def drive_frame(neutral: Frame, smile: Frame) -> Frame:
    """The smiling frame with pose and expression fitted anew around the identity of the neutral photo."""
    model, points = load_free_head(), face_points()
    centre = np.full(2, smile.camera.width / 2)
    start = fit_frames(points, smile.landmarks[None], centre)
    start = replace(start, shape=np.asarray(neutral.shape[: len(start.shape)], start.shape.dtype))
    fit = fit_pose(points, smile.landmarks, centre, start, iterations=15)
    return build_frame(
        model,
        points,
        fit,
        smile.image,
        smile.alpha,
        smile.foreground,
        smile.valid,
        smile.landmarks,
        smile.crop,
        smile.source,
    )


def over_grey(frame: Frame) -> np.ndarray:
    """(H, W, 3) the person over even grey."""
    return (frame.foreground * frame.alpha[..., None] + (1 - frame.alpha[..., None]) * GREY).astype(
        np.float32
    )


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Decibels between two pictures inside a mask."""
    return float(-10 * np.log10(((a - b) ** 2).mean(-1)[mask].mean()))


def warp(image: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Move `image` so that points `source` (N, 2) lie on `target`, linear over the target's triangles."""
    height, width = image.shape[:2]
    triangles = Delaunay(target)
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], -1)
    found = triangles.find_simplex(pixels)
    own = found >= 0
    transform = triangles.transform[found[own]]
    first = np.einsum("nij,nj->ni", transform[:, :2], pixels[own] - transform[:, 2])
    weights = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)
    moved = pixels.astype(np.float32)
    moved[own] = (source[triangles.simplices[found[own]]] * weights[..., None]).sum(1)
    moved = moved.reshape(height, width, 2) - 0.5
    return cv2.remap(image, moved[..., 0], moved[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


if __name__ == "__main__":
    tyro.cli(main)
