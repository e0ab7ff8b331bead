"""Tracked recordings as data: their parameters are taken as they are, and nothing is tracked again."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from headsplat.data.dataset import Dataset
from headsplat.errors import HeadsplatError


@cache
def read_recording(folder: Path) -> Dataset:
    """A recording that `headsplat track` wrote.

    Raises:
        HeadsplatError: it is damaged, was tracked with another head, or has several cameras.
    """
    from headsplat.data.datasets import read_dataset

    dataset = read_dataset(folder)
    if dataset.head != "free" or any(view.camera_index for view in dataset.views):
        raise HeadsplatError(
            f"{folder} has another head or several cameras; evaluate recordings of `headsplat track`."
        )
    return dataset


def files_of_view(folder: Path, number: int) -> list[Path]:
    """The files that a view is made of, besides the recording's index.

    Raises:
        HeadsplatError: the recording has no such view.
    """
    dataset = read_recording(folder)
    if not 0 <= number < len(dataset):
        raise HeadsplatError(f"{folder} has no view {number}; make the manifest anew.")
    view = dataset.views[number]
    parameters = folder / "head_param" / f"{view.timestep:05d}.npz"
    return [folder / "transforms.json", view.image, *([view.mask] if view.mask else []), parameters]


def parts(folder: Path, held_out: float) -> tuple[list[int], list[int]]:
    """Numbers of the views to learn from and of those to judge by, as the recording divides itself.

    Args:
        folder: of the recording.
        held_out: share at the end to judge by where the recording does not say.
    """
    dataset = read_recording(folder)
    if dataset.test:
        return list(dataset.train), list(dataset.test)
    cut = round(len(dataset) * (1 - held_out))
    return list(range(cut)), list(range(cut, len(dataset)))
