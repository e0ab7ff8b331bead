"""A tracked recording on disk: every picture of one person with its camera, pose and expression."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.motion import Motion

OVER_WHITE = ("headsplat", "vhap", "union")
"""Layouts whose pictures lie over white already; those of the others are as photographed."""
TRUSTED = 0.3
"""Confidence under which a view is not learned from."""


@dataclass(frozen=True)
class View:
    """One picture of a recording; its pixels stay on disk until `Dataset.load`.

    Attributes:
        image: the picture's file.
        mask: file of the matte (8 bit, white = person); None where the picture has its own alpha or no matte.
        camera: the camera of the picture as stored, in the recording's world.
        timestep: moment of the recording, 0..T-1 without gaps; several cameras share one.
        camera_index: which camera, 0 for a recording with one.
        expression: (E,) weights in the order of `Dataset.expressions`.
        rotations: (J, 3) joint rotation vectors, radians, in the order of `Dataset.joints`.
        T_world_root: (4, 4) pose of the bust; FLAME's root joint (in `rotations`) turns it further.
        T_world_head: (4, 4) pose of the skull: takes a point of it at rest, in the head model's own frame
            (whose origin is the head joint of the free head, and near the middle of FLAME's), to the world,
            root, neck and head joints included. The identity where the camera does all the moving.
        landmarks: (478, 2) detected face points in pixels of the picture, or None.
        confidence: 0..1, how far to trust the parameters; see `trusted`.
    """

    image: Path
    mask: Path | None
    camera: Camera
    timestep: int
    camera_index: int
    expression: np.ndarray
    rotations: np.ndarray
    T_world_root: np.ndarray
    T_world_head: np.ndarray
    landmarks: np.ndarray | None = None
    confidence: float = 1.0

    @property
    def trusted(self) -> bool:
        """Whether its parameters are good enough to learn from."""
        return self.confidence >= TRUSTED

    @property
    def T_camera_head(self) -> np.ndarray:
        """(4, 4) `viewmat` of a camera that sees the head stand still."""
        return (self.camera.viewmat @ self.T_world_head).astype(np.float32)


@dataclass(frozen=True)
class Dataset:
    """Tracked pictures of one person, ready to learn from.

    Attributes:
        root: the folder.
        layout: what wrote it: headsplat, vhap, union, insta, metrical, pixel3dmm, imavatar, nerfblendshape,
            adnerf, gagavatar, cap4d or nersemble.
        head: whose parameters the views hold: the free head, FLAME, or none that we know.
        shape: (S,) identity coefficients of that head model.
        expressions: E names.
        joints: J names.
        views: in order of time, then camera.
        train: numbers of the views to learn from.
        val: numbers of the views to choose settings by; may be empty.
        test: numbers of the views to judge by; may be empty.
        fps: frames per second, or 0 where the layout does not say.
        info: free, JSON-serialisable: source, version, `notes` and `problems` (sentences of the reader).
    """

    root: Path
    layout: str
    head: Literal["free", "flame", "none"]
    shape: np.ndarray
    expressions: tuple[str, ...]
    joints: tuple[str, ...]
    views: tuple[View, ...]
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    fps: float
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.views)

    def load(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of a view.

        Returns:
            The picture (H, W, 3) float32 0..1 as stored, and the matte (H, W) float32 0..1, all ones where
            the recording has none.

        Raises:
            HeadsplatError: a file is missing, broken, or of another size than the camera says.
        """
        from headsplat.data.datasets.pixels import load_pixels

        return load_pixels(view)

    def load_over(self, view: View, background: Any = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of a view with the person before another background, however they are stored.

        Args:
            view: one of `views`.
            background: a grey 0..1, a colour (3,), or a picture (H, W, 3).

        Returns:
            The picture (H, W, 3) and the matte (H, W), float32 0..1.

        Raises:
            HeadsplatError: a file is missing, broken, or of another size than the camera says.
        """
        image, matte = self.load(view)
        a, behind = matte[..., None], np.asarray(background, np.float32)
        person = image - (1 - a) if self.layout in OVER_WHITE else image * a
        return np.clip(person + (1 - a) * behind, 0, 1), matte

    def motion(self, fps: float | None = None) -> Motion:
        """What drives an avatar of the same head model as this person moved, by the first camera's views.

        Args:
            fps: frames per second; None takes the recording's own, or 25 where the layout does not say.

        Raises:
            HeadsplatError: the layout holds no expressions.
        """
        if not self.expressions:
            raise HeadsplatError(f"{self.root} holds no expressions, so it drives nothing; track its video.")
        first = {view.timestep: view for view in reversed(self.views)}
        views = [first[timestep] for timestep in sorted(first)]
        return Motion(
            weights=np.stack([view.expression for view in views]),
            expressions=self.expressions,
            rotations=np.stack([view.rotations for view in views]),
            joints=self.joints,
            fps=fps or self.fps or 25.0,
            root=np.stack([view.T_world_root for view in views]).astype(np.float32),
        ).check(str(self.root))

    def only(self, numbers: tuple[int, ...]) -> Dataset:
        """The recording with some of its views, none of them set aside."""
        return replace(
            self,
            views=tuple(self.views[i] for i in numbers),
            train=tuple(range(len(numbers))),
            val=(),
            test=(),
        )
