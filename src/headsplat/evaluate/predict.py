"""What a method answers: the picture of a person, driven to a target, from one or more sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar
from headsplat.clip import Frame
from headsplat.errors import HeadsplatError
from headsplat.evaluate.baselines import nearest, warp
from headsplat.evaluate.observe import GREY, over_grey

Maker = Callable[..., Avatar]
"""`headsplat.reconstruct.reconstruct`: a frame, a method's name and its options, to an avatar."""
Made = dict[str, tuple[Avatar, float]]
"""Avatars of the same sources by the written method, and the seconds that each took."""
BASELINES = ("copy", "warp", "warp-fit")
SEVERAL = ("lift",)
"""Methods that make use of several photos."""
FILES = ("weights", "flame", "file")
"""Options that name files."""
DRIVES = ("points", "picture")
"""How an avatar is told a target: by what was fitted to its face points, or by a fit to its picture."""
_KINDS: dict[str, Callable[[str], Any]] = {
    "refine": int,
    "gaussians": str,
    "drive": str,
    **dict.fromkeys(FILES, str),
}


@dataclass(frozen=True)
class Method:
    """A method with its options, written as `lift` or `lift:refine=0,gaussians=20k`.

    Attributes:
        name: copy, warp, warp-fit, or a method of `headsplat.reconstruct`; with the option `file` any name.
        options: keyword arguments for it, and two more. `file` is an avatar that was made before, and
            replaces the making; `{clip}` in it stands for the name of the clip that the sources are from.
            `drive` is one of `DRIVES`, points unless it is given.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @staticmethod
    def parse(text: str) -> Method:
        """Read the written form.

        Raises:
            HeadsplatError: an option that methods do not have.
        """
        name, _, rest = text.partition(":")
        options = []
        for part in filter(None, rest.split(",")):
            match = re.fullmatch(r"(\w+)=(.+)", part)
            try:
                assert match is not None
                options.append((match[1], _KINDS[match[1]](match[2])))
            except (AssertionError, KeyError, ValueError) as error:
                raise HeadsplatError(
                    f"Cannot read the option {part!r} of {text!r}; write it like lift:refine=0,gaussians=20k."
                ) from error
        if dict(options).get("drive", "points") not in DRIVES:
            raise HeadsplatError(f"Cannot drive as {text!r} says; write drive={' or drive='.join(DRIVES)}.")
        if name in BASELINES and options:
            raise HeadsplatError(f"The baseline {name} has no options; write just {name}.")
        return Method(name, tuple(sorted(options)))

    @property
    def drive(self) -> str:
        """One of `DRIVES`."""
        return dict(self.options).get("drive", DRIVES[0])

    @property
    def making(self) -> tuple[tuple[str, Any], ...]:
        """The options that the avatar depends on."""
        return tuple(option for option in self.options if option[0] != "drive")

    def file(self, option: str, clip: str) -> Path | None:
        """The file that an option names, if it is given."""
        text = dict(self.options).get(option)
        return None if text is None else Path(str(text).replace("{clip}", clip))

    def __str__(self) -> str:
        return self.name + (":" + ",".join(f"{k}={v}" for k, v in self.options) if self.options else "")


@dataclass(frozen=True)
class Source:
    """A picture that a method may look at: its tracked frame, and the picture as the baselines show it.

    For a photo the picture is the frame's own crop; for a calibrated view it is that view.

    Attributes:
        frame: tracked crop.
        image: (H, W, 3) over grey.
        alpha: (H, W).
        points: (478, 2) detected points, pixels of `image`.
        fitted: (468, 2) where the fitted head has them, pixels of `image`.
    """

    frame: Frame
    image: np.ndarray
    alpha: np.ndarray
    points: np.ndarray
    fitted: np.ndarray

    @staticmethod
    def of_frame(frame: Frame) -> Source:
        """The source that a tracked photo is."""
        return Source(frame, over_grey(frame), frame.alpha, frame.landmarks, head_points(frame, frame))


@dataclass(frozen=True)
class Goal:
    """Where a method is asked to bring the person.

    Attributes:
        pose: camera, expression and rotations of the free head to draw.
        points: (478, 2) where the target's face points are in that picture, for the warp; None = unknown.
        to_fit: whether the picture in `pose` is the target's own and of the avatar's person, so that pose and
            expression may be fitted to it.
    """

    pose: Frame
    points: np.ndarray | None
    to_fit: bool = False


@dataclass(frozen=True)
class Prediction:
    """An answer: (H, W, 3) over grey, and (H, W) how much of a pixel is the person."""

    image: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A method that has seen its sources.

    Attributes:
        draw: goal to prediction; None where the method cannot answer.
        seconds: what looking at the sources cost.
    """

    draw: Callable[[Goal], Prediction | None]
    seconds: float


def prepare(method: Method, sources: Sequence[Source], make: Maker, made: Made, clip: str = "") -> Predictor:
    """Let a method see its sources. Methods that take one photo are given the first.

    Args:
        method: who.
        sources: what it sees.
        make: makes avatars.
        made: avatars of the same sources, which are not made again; a new one is added.
        clip: what the sources are from.

    Raises:
        HeadsplatError: the method failed, or its avatar is not driven by the free head's expressions.
    """
    match method.name:
        case "copy":
            return Predictor(lambda goal: _copy(sources, goal), 0.0)
        case "warp":
            return Predictor(lambda goal: _warp(sources, goal), 0.0)
        case "warp-fit":
            return Predictor(lambda goal: _warp_fit(sources, goal), 0.0)
        case _:
            key = str(replace(method, options=method.making))
            if key not in made:
                start = perf_counter()
                made[key] = _make(method, sources, make, clip), perf_counter() - start
            avatar, seconds = made[key]
            if method.drive == "picture":
                return Predictor(_fitting(avatar), seconds)
            return Predictor(lambda goal: draw_avatar(avatar, goal.pose), seconds)


def _make(method: Method, sources: Sequence[Source], make: Maker, clip: str) -> Avatar:
    file, frames = method.file("file", clip), [source.frame for source in sources]
    if file is not None:
        return load_avatar(file)
    seen = frames if method.name in SEVERAL and len(frames) > 1 else frames[0]
    return make(seen, method.name, **dict(method.making))


def _fitting(avatar: Avatar) -> Callable[[Goal], Prediction]:
    """Draw the avatar as it looks most like the target's picture; only pose and expression are taken from it.

    Raises:
        HeadsplatError: the avatar cannot be fitted.
    """
    from headsplat.track.likeness import Likeness
    from headsplat.track.photometric import fit_frame

    likeness = Likeness(avatar)

    def draw(goal: Goal) -> Prediction:
        pose = fit_frame(likeness, goal.pose) if goal.to_fit else goal.pose
        return draw_avatar(avatar, pose)

    return draw


def draw_avatar(avatar: Avatar, pose: Frame) -> Prediction:
    """The avatar in the pose, expression and camera of a frame on the free head.

    Raises:
        HeadsplatError: the avatar has none of ARKit's expressions.
    """
    from headsplat.head.free import load_free_head
    from headsplat.networks import refine
    from headsplat.raster import rasterize

    model = load_free_head()
    weights = dict(zip(model.expression_names, pose.expression.tolist(), strict=True))
    weights = {name: w for name, w in weights.items() if name in avatar.expressions}
    if not weights:
        raise HeadsplatError("This avatar has none of the ARKit expressions that the protocols drive by.")
    rotations = dict(zip(model.joint_names, pose.rotations, strict=True))
    rotations = {name: r for name, r in rotations.items() if name in avatar.joints}
    moved = avatar.animate(weights, rotations, pose.T_world_root, pose.camera)
    if avatar.refiner is not None:
        drawn = rasterize(moved, pose.camera, depth=False)
        color, alpha = np.split(refine(avatar.refiner, drawn.image, drawn.alpha), [3], -1)
        return Prediction(np.clip(color * alpha + GREY * (1 - alpha), 0, 1), alpha[..., 0])
    drawn = rasterize(moved, pose.camera, background=GREY, depth=False)
    return Prediction(np.clip(drawn.image, 0, 1), drawn.alpha)


def _copy(sources: Sequence[Source], goal: Goal) -> Prediction:
    chosen = sources[nearest([s.points for s in sources], goal.points)]
    return Prediction(chosen.image, chosen.alpha)


def _warp(sources: Sequence[Source], goal: Goal) -> Prediction | None:
    if goal.points is None:
        return None
    chosen = sources[nearest([s.points for s in sources], goal.points)]
    source, target = chosen.points[:468], goal.points[:468]
    return Prediction(warp(chosen.image, source, target), warp(chosen.alpha, source, target))


def _warp_fit(sources: Sequence[Source], goal: Goal) -> Prediction:
    """The warp with what avatars are told too: points of the head model in the target's pose."""
    moved = [head_points(s.frame, goal.pose) - s.fitted + s.points[:468] for s in sources]
    away = [np.linalg.norm(m - s.points[:468], axis=1).mean() for m, s in zip(moved, sources, strict=True)]
    chosen, target = sources[int(np.argmin(away))], moved[int(np.argmin(away))]
    points = chosen.points[:468]
    return Prediction(warp(chosen.image, points, target), warp(chosen.alpha, points, target))


def head_points(person: Frame, pose: Frame) -> np.ndarray:
    """(468, 2) pixels of a person's face points in the pose, expression and camera of a frame."""
    from headsplat.head.free import load_free_head

    model = load_free_head()
    shaped = model.with_shape(person.shape)
    posed = shaped.with_pose(pose.expression, pose.rotations, pose.T_world_root)
    return pose.camera.project(model.landmarks(posed.vertices))[:, :2]
