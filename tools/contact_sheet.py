"""Look at lift: people in rows, views and expressions in columns, and how much each view lets through.

    python tools/contact_sheet.py OUT.png PHOTO... [--size 224] [--gaussians 80k] [--refine 80]

Prints one line per person with the figures of the reconstruction, then the share of pixels inside the closed
outline of head and neck that are not opaque, per angle (mean and worst).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro
from scipy.ndimage import binary_erosion, binary_fill_holes

from headsplat.avatar import Avatar
from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.data.image import write_image
from headsplat.errors import HeadsplatError
from headsplat.methods.lift.model import photo_pose
from headsplat.raster import Render, rasterize
from headsplat.reconstruct import reconstruct
from headsplat.track import track_photo

BACKGROUND = np.array([0.36, 0.38, 0.42], np.float32)
YAWS = (0, 30, -30, 60, -60, 90, 180)
EXPRESSIONS = {
    "jawOpen .7": {"jawOpen": 0.7},
    "smile": {"mouthSmile": 0.9, "cheekSquint": 0.5, "eyeSquint": 0.2},
    "blink": {"eyeBlink": 1.0},
    "brows": {"browInnerUp": 1.0, "browOuterUp": 1.0},
    "tongue": {"jawOpen": 0.5, "tongueOut": 0.9},
}


def main(
    out: tyro.conf.Positional[Path],
    photos: tyro.conf.Positional[tuple[Path, ...]],
    size: int = 224,
    gaussians: Literal["5k", "20k", "80k"] = "80k",
    refine: int = 80,
) -> None:
    """Make the sheet.

    Args:
        out: picture to write.
        photos: one portrait per row.
        size: pixels of a cell.
        gaussians: size of the avatars.
        refine: refinement steps.
    """
    rows, holes = [], []
    for photo in photos:
        try:
            frame = track_photo(photo)
        except HeadsplatError as error:
            print(f"{photo.name}: {error}")
            continue
        avatar = reconstruct(frame, gaussians=gaussians, refine=refine)
        numbers = {key: value for key, value in avatar.info.items() if isinstance(value, float)}
        figures = "  ".join(f"{key} {value:.3f}" for key, value in numbers.items())
        print(f"{photo.name}: {len(avatar)} Gaussians  {figures}", flush=True)
        rows.append(row(avatar, frame, size))
        holes.append([see_through(avatar, yaw) for yaw in YAWS])
    for k, yaw in enumerate(YAWS):
        column = [h[k] for h in holes]
        print(f"see-through at {yaw:4d}: mean {np.mean(column):.2f} %, worst {np.max(column):.2f} %")
    names = ["photo", "same view", *(f"{yaw} deg" for yaw in YAWS), *EXPRESSIONS]
    head = np.zeros((18, size * len(names), 3), np.uint8)
    for k, name in enumerate(names):
        cv2.putText(head, name, (k * size + 4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1)
    write_image(out, np.concatenate([head.astype(np.float32) / 255, *rows]))


def row(avatar: Avatar, frame: Frame, size: int) -> np.ndarray:
    """One person's cells side by side, (size, columns * size, 3)."""
    over = frame.foreground * frame.alpha[..., None] + (1 - frame.alpha[..., None]) * BACKGROUND
    same = rasterize(photo_pose(avatar, frame), frame.camera, background=BACKGROUND, depth=False).image
    cells = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in (over, same)]
    cells += [draw(avatar, yaw, size).image for yaw in YAWS]
    cells += [draw(avatar, 0, size, both_sides(e, avatar)).image for e in EXPRESSIONS.values()]
    return np.clip(np.concatenate(cells, 1), 0, 1)


def draw(avatar: Avatar, yaw: float, size: int, expression: dict[str, float] | None = None) -> Render:
    """The avatar from `yaw` degrees to its left."""
    camera = Camera.orbit(
        np.radians(yaw),
        target=avatar.view_target,
        width=size,
        height=size,
        focal=size * 1.3 / avatar.view_height,
    )
    return rasterize(avatar.animate(expression), camera, background=BACKGROUND, depth=False)


def both_sides(expression: dict[str, float], avatar: Avatar) -> dict[str, float]:
    """Weights by full names: `eyeBlink` becomes `eyeBlinkLeft` and `eyeBlinkRight`."""
    out = {}
    for name, weight in expression.items():
        names = [name] if name in avatar.expressions else [f"{name}Left", f"{name}Right"]
        out.update(dict.fromkeys(names, weight))
    return out


def see_through(avatar: Avatar, yaw: float) -> float:
    """Percent of the pixels well inside the outline of head and neck whose opacity is under 0.9."""
    alpha = draw(avatar, yaw, 256).alpha
    closed = cv2.morphologyEx((alpha > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7)))
    inner = binary_erosion(binary_fill_holes(closed), iterations=4)
    inner[175:] = False
    return 100 * float((alpha[inner] < 0.9).mean())


if __name__ == "__main__":
    tyro.cli(main)
