"""The people that LAM learns from: photos and tracked recordings, as frames of the size to learn at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.data.dataset import OVER_WHITE, Dataset
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel
from headsplat.methods.lam.preprocess import resize_area

HELD_OUT = 0.1
"""Share of a recording that is set aside, its end, where the recording itself sets nothing aside."""
PHOTOS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic")


class Person:
    """Pictures of one person; they are read and reduced when they are first asked for, then kept.

    Attributes:
        name: of the file or folder.
        learned: how many frames to learn from; they come first.
        held_out: how many are set aside; they come last.
        best: number of the frame that shows the person best: trusted, at rest, seen from the front.
    """

    def __init__(
        self, name: str, data: Dataset | Frame, size: int, head: HeadModel | None = None, most: int = 0
    ) -> None:
        """A recording or a single tracked photo.

        Args:
            name: what to call it.
            data: where the pictures come from.
            size: side to reduce the pictures to, pixels.
            head: FLAME, for recordings tracked with it; None for the free head.
            most: learn from at most so many views, evenly chosen; 0 for all.

        Raises:
            HeadsplatError: the recording has another head, or no view that can be trusted.
        """
        self.name, self._data, self._size, self._head = name, data, size, head
        self._kept: dict[int, Frame] = {}
        self._numbers: list[int] = [0]
        self.learned, self.held_out, self.best = 1, 0, 0
        if isinstance(data, Dataset):
            self._choose(data, most)

    def __len__(self) -> int:
        return self.learned + self.held_out

    def __getitem__(self, index: int) -> Frame:
        """Frame number `index`, 0 <= index < len(self)."""
        if index not in self._kept:
            number = self._numbers[index]
            frame = self._data if isinstance(self._data, Frame) else self._read(self._data, number)
            self._kept[index] = reduced(frame, self._size)
        return self._kept[index]

    def _choose(self, data: Dataset, most: int) -> None:
        wanted = "free" if self._head is None else "flame"
        if data.head != wanted:
            raise HeadsplatError(
                f"{data.root} was not tracked with the head that this LAM is on ({wanted}); "
                "run headsplat track on its pictures, or choose another preset."
            )
        learned = [i for i in data.train if data.views[i].trusted]
        held = [i for i in (data.test or data.val) if data.views[i].trusted]
        if not held and len(learned) > 1:
            kept = len(learned) - max(1, round(HELD_OUT * len(learned)))
            learned, held = learned[:kept], learned[kept:]
        if not learned:
            raise HeadsplatError(f"{data.root} has no view that can be trusted; track the recording again.")
        if most and len(learned) > most:
            learned = [learned[i] for i in np.linspace(0, len(learned) - 1, most).round().astype(int)]
        self._numbers, self.learned, self.held_out = learned + held, len(learned), len(held)
        self.best = int(np.argmax([_plainness(data, i) for i in learned]))

    def _read(self, data: Dataset, number: int) -> Frame:
        if self._head is None:
            from headsplat.track.frames import frames_of

            return frames_of(data, [number])[0]
        return _flame_frame(data, number, self._head)


def people_of(
    paths: Sequence[str | os.PathLike[str]], size: int, head: HeadModel | None = None, most: int = 0
) -> list[Person]:
    """The people of photos and recordings, one each.

    Args:
        paths: pictures, which are tracked now, and folders of tracked recordings.
        size: side of the pictures to learn from, pixels.
        head: FLAME, for recordings tracked with it; None for the free head.
        most: views to learn from of each recording; 0 for all.

    Raises:
        HeadsplatError: something cannot be read, or does not fit the head.
    """
    from headsplat.data.datasets import read_dataset

    people = []
    for path in map(Path, paths):
        if path.suffix.lower() not in PHOTOS or path.is_dir():
            people.append(Person(path.name, read_dataset(path, flame=head), size, head, most))
            continue
        if head is not None:
            raise HeadsplatError(f"{path} is a photo, which is tracked with the free head; give a recording.")
        from headsplat.track import track_photo

        people.append(Person(path.name, track_photo(path, size=max(size, 256)), size))
    return people


def reduced(frame: Frame, size: int) -> Frame:
    """The same frame in `size` x `size` pixels, if it is larger: each the mean of the area that it covers."""
    if frame.image.shape[0] <= size:
        return frame
    alpha = resize_area(frame.alpha, size)
    own = resize_area(frame.foreground * frame.alpha[..., None], size)
    plain = resize_area(frame.foreground, size)
    foreground = np.where(alpha[..., None] > 1e-3, own / np.maximum(alpha[..., None], 1e-3), plain)
    scale = size / frame.image.shape[0]
    return replace(
        frame,
        image=resize_area(frame.image, size),
        alpha=alpha,
        foreground=foreground.astype(np.float32),
        valid=resize_area(frame.valid.astype(np.float32), size) > 0.99,
        camera=frame.camera.resize(size, size),
        landmarks=(frame.landmarks * scale).astype(np.float32),
        crop=(frame.crop * scale).astype(np.float32),
    )


def _plainness(data: Dataset, number: int) -> float:
    """Higher for views that are trusted, at rest and seen from the front."""
    view = data.views[number]
    expression = np.asarray(view.expression, np.float64)
    # Half a radian off the front counts like one expression at its full weight.
    turn = np.arccos(np.clip(-view.T_camera_head[2, 2], -1, 1))
    return float(view.confidence - 0.35 * (expression**2).sum() - 1.4 * turn**2)


def _flame_frame(data: Dataset, number: int, head: HeadModel) -> Frame:
    """A view tracked with FLAME; of an oblong picture the middle square."""
    view = data.views[number]
    image, alpha = data.load(view)
    matte = alpha[..., None]
    own = image
    if data.layout in OVER_WHITE:
        own = np.clip((image - (1 - matte)) / np.maximum(matte, 1e-3), 0, 1)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    rows, columns = slice(top, top + side), slice(left, left + side)
    camera: Camera = view.camera.crop(left, top, side, side)
    expression = np.zeros(len(head.expression_names), np.float32)
    count = min(len(expression), len(view.expression))
    expression[:count] = view.expression[:count]
    rotations = np.zeros((len(head.joint_names), 3), np.float32)
    for joint, turn in zip(data.joints, view.rotations, strict=True):
        if joint in head.joint_names:
            rotations[head.joint_names.index(joint)] = turn
    shape = np.zeros(len(head.shape_basis), np.float32)
    shape[: len(data.shape)] = data.shape[: len(shape)]
    return Frame(
        image=np.ascontiguousarray(image[rows, columns]),
        alpha=np.ascontiguousarray(alpha[rows, columns]),
        foreground=np.ascontiguousarray(own[rows, columns]),
        valid=np.ones((side, side), bool),
        camera=camera,
        shape=shape,
        expression=expression,
        rotations=rotations,
        T_world_root=np.asarray(view.T_world_root, np.float32),
        landmarks=np.zeros((478, 2), np.float32),
        confidence=float(view.confidence),
        source=str(data.info.get("source", "")),
        landmark_error=0.0,
        crop=np.array([[1.0, 0, -left], [0, 1.0, -top]], np.float32),
    )
