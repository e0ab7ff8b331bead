"""Play an avatar: with a motion and a camera path it becomes pictures; a rig by numpy and the CPU kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.camera import LENS, Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.motion import Motion, select
from headsplat.networks import Network, refine
from headsplat.raster import Render, rasterize
from headsplat.raster.rig import RigRenderer

Color = tuple[float, float, float]


def portrait_camera(
    avatar: Avatar, yaw: float = 0.0, pitch: float = 0.0, *, size: int = 512, zoom: float = 1.0
) -> Camera:
    """A square camera that shows head and shoulders.

    Args:
        avatar: its view says where to look and how much to show.
        yaw: radians; positive moves the camera to the subject's left.
        pitch: radians; positive moves the camera up.
        size: side of the picture, pixels.
        zoom: how much closer than head and shoulders, by a longer lens.
    """
    return Camera.orbit(
        yaw,
        pitch,
        target=avatar.view_target,
        distance=LENS * avatar.view_height,
        focal=LENS * size * zoom,
        width=size,
        height=size,
    )


def orbit_path(frames: int, degrees: float) -> np.ndarray:
    """(frames,) yaw in radians of a camera path that ends where it began, so that it loops.

    Below 180 degrees the camera swings that far to either side; from 180 on it goes round: once for 360.
    """
    phase = np.arange(frames) / max(frames, 1)
    if abs(degrees) < 180:
        return np.radians(degrees) * np.sin(2 * np.pi * phase)
    return np.radians(degrees) * phase


def draw(
    gaussians: Gaussians,
    camera: Camera,
    background: Color | None = (1.0, 1.0, 1.0),
    refiner: Network | None = None,
) -> np.ndarray:
    """Picture (H, W, 3) of Gaussians over a colour, or (H, W, 4) with straight alpha over None.

    Args:
        gaussians: with RGB features, or with the features that the avatar's `refiner` turns into RGB.
        camera: where from.
        background: RGB 0..1, or None.
        refiner: of the avatar.
    """
    direct = refiner is None and background is not None
    behind = np.array(background, np.float32) if direct else None
    render = rasterize(gaussians, camera, background=behind, depth=False)
    return _picture(render, background, refiner)


def shot(
    avatar: Avatar, camera: Camera, background: Color | None = (1.0, 1.0, 1.0), **pose: Any
) -> np.ndarray:
    """Picture of an avatar in one pose, whatever networks it has; `pose` as for `Avatar.animate`."""
    return draw(avatar.animate(**pose, camera=camera), camera, background, avatar.refiner)


def _picture(render: Render, background: Color | None, refiner: Network | None = None) -> np.ndarray:
    """The image of a render; over no background, unmultiplied and with its alpha."""
    if refiner is not None:
        color, alpha = np.split(refine(refiner, render.image, render.alpha), [3], -1)
        if background is not None:
            return np.clip(color * alpha + np.array(background, np.float32) * (1 - alpha), 0, 1)
    elif background is not None:
        return np.clip(render.image, 0, 1)
    else:
        alpha = render.alpha[..., None]
        color = render.image / np.maximum(alpha, 1e-6)
    return np.clip(np.concatenate([color, alpha], -1), 0, 1)


def play(
    avatar: Avatar,
    motion: Motion,
    *,
    size: int = 512,
    orbit: float = 0.0,
    background: Color | None = (1.0, 1.0, 1.0),
) -> Iterator[np.ndarray]:
    """The frames of a motion, one picture at a time.

    Args:
        avatar: with RGB features or a refiner.
        motion: what the avatar does; names that it does not have are left out (`select` tells which).
        size: side of the pictures, pixels.
        orbit: how far the camera travels, degrees; see `orbit_path`.
        background: RGB 0..1, or None for transparent.

    Yields:
        (size, size, 3) float32 0..1, or (size, size, 4) with straight alpha.

    Raises:
        HeadsplatError: the motion is damaged or drives nothing that the avatar has.
    """
    motion, _ = select(motion.check(), avatar.expressions, avatar.joints)
    paths = zip(motion.poses(), orbit_path(len(motion), orbit), strict=True)
    if avatar.deformer is not None:
        for pose, yaw in paths:
            yield shot(avatar, portrait_camera(avatar, yaw, size=size), background, **pose)
        return
    renderer = RigRenderer(avatar)
    direct = avatar.refiner is None and background is not None
    behind = np.array(background, np.float32) if direct else None
    for pose, yaw in paths:
        weights = avatar.weights(pose["expression"])
        transforms = avatar.joint_transforms(pose["rotations"], pose["root"])
        camera = portrait_camera(avatar, yaw, size=size)
        render = renderer.render(weights, transforms, camera, background=behind)
        yield _picture(render, background, avatar.refiner)


def turntable(
    avatar: Avatar,
    frames: int,
    *,
    size: int = 512,
    pose: dict[str, Any] | None = None,
    background: Color | None = (1.0, 1.0, 1.0),
) -> Iterator[np.ndarray]:
    """One turn of the camera around the avatar in one pose; pictures as from `play`."""
    gaussians = None if avatar.deformer else avatar.animate(**(pose or {}))
    for yaw in orbit_path(frames, 360.0):
        camera = portrait_camera(avatar, yaw, size=size)
        if gaussians is None:
            yield shot(avatar, camera, background, **(pose or {}))
        else:
            yield draw(gaussians, camera, background, avatar.refiner)


# What `seen` paints: from guessed (0) to photographed (1). Ordered in lightness too, for colour-blind eyes.
SEEN_COLORS = np.array(
    [[0.35, 0.10, 0.33], [0.75, 0.22, 0.33], [0.96, 0.52, 0.30], [0.75, 0.70, 0.42], [0.45, 0.93, 0.80]],
    np.float32,
)


def seen_colors(seen: np.ndarray) -> np.ndarray:
    """(..., 3) RGB of (...) confidences 0..1."""
    at = np.clip(seen, 0, 1) * (len(SEEN_COLORS) - 1)
    low = np.minimum(at.astype(int), len(SEEN_COLORS) - 2)
    t = (at - low)[..., None]
    return SEEN_COLORS[low] * (1 - t) + SEEN_COLORS[low + 1] * t


def paint_seen(avatar: Avatar) -> Avatar:
    """The avatar coloured by how much of each Gaussian the source showed, its own shading kept faintly.

    Raises:
        HeadsplatError: the avatar runs a network per frame, which decides the colours.
    """
    avatar.need_rig("painting what was seen")
    light = avatar.gaussians.features[:, :3].mean(1, keepdims=True)
    colors = seen_colors(avatar.seen) * (0.65 + 0.5 * light)
    painted = replace(avatar.gaussians, features=np.clip(colors, 0, 1).astype(np.float32))
    return replace(avatar, gaussians=painted, expression_appearance=None)


def parse_color(text: str) -> Color | None:
    """RGB 0..1 of a colour's name or #rrggbb; None for "transparent".

    Raises:
        HeadsplatError: neither.
    """
    from PIL import ImageColor

    if text.strip().lower() in ("transparent", "none"):
        return None
    try:
        r, g, b = ImageColor.getrgb(text.strip())[:3]
    except ValueError as error:
        raise HeadsplatError(
            f"{text!r} is not a colour; give a name like white, #rrggbb, or transparent."
        ) from error
    return (r / 255, g / 255, b / 255)


def parse_expression(text: str) -> dict[str, float]:
    """Weights by name of "jawOpen=.7,mouthSmileLeft=1".

    Raises:
        HeadsplatError: not of that form.
    """
    weights = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError as error:
            raise HeadsplatError(
                f"Cannot read {part!r} as an expression; write it like jawOpen=0.7,mouthSmileLeft=1."
            ) from error
    return weights
