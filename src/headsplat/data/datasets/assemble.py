"""Join the views that a reader found into a `Dataset`: what cannot be used is left out, and said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.untrusted import read_json
from headsplat.errors import HeadsplatError

GL_TO_CV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes of OpenGL (y up, looking along -z) to OpenCV's, and back."""
MOST_PIXELS = 16384
"""A picture wider or higher than this is a mistake."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".PNG", ".JPG")


def camera_of(T_camera_world: np.ndarray, K: np.ndarray, width: float, height: float) -> Camera:
    """A `Camera` in float32 from float64 matrices in OpenCV axes.

    Entries under 1e-8 become 0: they are the rounding of an inversion, and would differ after the next one.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite then is found later
        viewmat = np.where(np.abs(T_camera_world) < 1e-8, 0, T_camera_world).astype(np.float32)
        return Camera(viewmat, K.astype(np.float32), int(width), int(height))


def invert(T: np.ndarray) -> np.ndarray:
    """The inverse (4, 4), or all NaN of a matrix that has none."""
    try:
        return np.linalg.inv(np.asarray(T, np.float64))
    except np.linalg.LinAlgError:
        return np.full((4, 4), np.nan)


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """(3, 3) float64 camera matrix, pixels."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def intrinsic_fields(camera: Camera) -> dict[str, Any]:
    """A camera's intrinsics under the names of VHAP's and NeRF's indices; sizes are whole numbers."""
    K = np.asarray(camera.K, np.float64)
    angles = 2 * np.arctan([camera.width / (2 * K[0, 0]), camera.height / (2 * K[1, 1])])
    return {
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
        "w": camera.width,
        "h": camera.height,
        "camera_angle_x": float(angles[0]),
        "camera_angle_y": float(angles[1]),
    }


def is_there(path: Path) -> bool:
    """Whether there is such a file; also answers for names that no file can have."""
    return os.path.isfile(path)


def picture(path: Path) -> Path:
    """The picture that is meant: `path` itself, or the one that differs in its suffix if only that exists."""
    if is_there(path):
        return path
    stem = path.with_suffix("") if path.suffix in _SUFFIXES else path
    found = (candidate for s in _SUFFIXES if is_there(candidate := stem.with_name(stem.name + s)))
    return next(found, path if path.suffix else path.with_name(path.name + ".png"))


def picture_in(root: Path, folders: Sequence[str], stem: str) -> Path | None:
    """The first picture called `stem` in one of the folders of `root`."""
    for folder in folders:
        path = picture(root / folder / stem)
        if is_there(path):
            return path
    return None


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture from its first bytes; None if there is no such picture."""
    from PIL import Image

    try:
        if not is_there(path):
            return None
        with Image.open(path) as image:
            return image.size
    except Exception:  # Pillow's parsers raise almost anything on damaged files
        return None


def index_json(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A JSON file that lists frames, and its frames.

    Raises:
        HeadsplatError: missing, damaged, or without a list of objects called `frames`.
    """
    content = read_json(path)
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise HeadsplatError(f"{path} has no list of frames; it is not the index of a recording.")
    return content, frames


class Problems:
    """What is wrong with a recording, counted: one sentence for each kind, however many frames have it."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Note that the frame or file `name` has a problem of a kind, such as "lacks its picture"."""
        self._found.setdefault(kind, []).append(name)

    def sentences(self) -> list[str]:
        """One sentence for each kind."""
        return [
            f"{names[0]} {kind}."
            if len(names) == 1
            else f"{names[0]} {kind}, and {len(names) - 1} more like it."
            for kind, names in self._found.items()
        ]


def assemble(
    root: Path,
    layout: str,
    views: Iterable[View],
    *,
    head: Literal["free", "flame", "none"],
    shape: np.ndarray,
    expressions: Sequence[str],
    joints: Sequence[str],
    splits: Mapping[str, Sequence[int]] | None = None,
    fps: float = 0.0,
    notes: Iterable[str] = (),
    problems: Problems | None = None,
    info: Mapping[str, Any] | None = None,
) -> Dataset:
    """Make a recording of the views that can be used, in order of time and then camera.

    A view is left out if a number of it is not finite, its camera or head is not a rigid transform, its size
    or focal length is impossible, or another view has its place; moments are numbered anew if some are
    missing. All of it is told in `info["problems"]`.

    Args:
        root: the folder.
        layout: its name.
        views: as found, with the moments that the files give; arrays of any float type.
        head: whose parameters they hold.
        shape: (S,).
        expressions: names.
        joints: names.
        splits: train, val and test as positions in `views`; None puts all into train.
        fps: frames per second, 0 for unknown.
        notes: what a user should know, full sentences.
        problems: what the reader found wrong so far.
        info: more facts for `Dataset.info`.

    Raises:
        HeadsplatError: no view can be used.
    """
    problems = problems or Problems()
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite then is found below
        views = [_as_float32(view) for view in views]
        shape = np.asarray(shape, np.float32).reshape(-1)
    usable: dict[tuple[int, int], int] = {}
    for number, view in enumerate(views):
        wrong = _fault(view, len(expressions), len(joints))
        place = (view.timestep, view.camera_index)
        if wrong is None and place in usable:
            wrong = "has the moment and the camera of another frame and is left out"
        if wrong is None:
            usable[place] = number
        else:
            problems.add(wrong, _name(view, root))
    said = problems.sentences()
    if not usable:
        raise HeadsplatError(f"{root} has no frame that can be used: {said[0] if said else 'it is empty.'}")
    moments = sorted({timestep for timestep, _ in usable})
    if moments != list(range(len(moments))):
        whole = moments[-1] - moments[0] + 1
        if whole > len(moments):
            said.append(f"{whole - len(moments)} of {whole} moments are missing; the rest is numbered anew.")
    renumbered = {moment: i for i, moment in enumerate(moments)}
    order = [usable[place] for place in sorted(usable)]
    kept = tuple(replace(views[i], timestep=renumbered[views[i].timestep]) for i in order)
    position = {old: new for new, old in enumerate(order)}
    chosen = splits if splits is not None else {"train": range(len(views))}
    parts = {
        name: tuple(sorted(position[i] for i in chosen.get(name, ()) if i in position))
        for name in ("train", "val", "test")
    }
    if not np.isfinite(shape).all():
        said.append("The shape of the head is not made of finite numbers; the average head is taken.")
        shape = np.zeros_like(shape)
    return Dataset(
        root=root,
        layout=layout,
        head=head,
        shape=shape,
        expressions=tuple(expressions),
        joints=tuple(joints),
        views=kept,
        fps=fps,
        info={**(info or {}), "notes": list(notes), "problems": said},
        **parts,
    )


def is_rigid(T: np.ndarray, tolerance: float = 1e-2) -> bool:
    """Whether a (4, 4) is a rotation and a translation."""
    T = np.asarray(T, np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return False
    turn = T[:3, :3]
    straight = np.abs(turn @ turn.T - np.eye(3)).max() < tolerance and np.linalg.det(turn) > 0
    return bool(straight and np.allclose(T[3], [0, 0, 0, 1], atol=1e-6))


def _fault(view: View, expressions: int, joints: int) -> str | None:
    """What keeps a view from being used, to follow its name."""
    camera = view.camera
    arrays = [view.expression, view.rotations, view.T_world_root, view.T_world_head, camera.viewmat, camera.K]
    if not all(np.isfinite(array).all() for array in arrays):
        return "has numbers that are not finite and is left out"
    if np.shape(view.expression) != (expressions,) or np.shape(view.rotations) != (joints, 3):
        return "has another number of expressions or joints than the others and is left out"
    if not is_rigid(camera.viewmat):
        return "has a camera matrix that is no rotation and is left out"
    if not (is_rigid(view.T_world_root) and is_rigid(view.T_world_head)):
        return "has a head pose that is no rotation and is left out"
    sizes = 0 < camera.width <= MOST_PIXELS and 0 < camera.height <= MOST_PIXELS
    if not sizes or camera.K[0, 0] <= 0 or camera.K[1, 1] <= 0:
        return "has an impossible size or focal length and is left out"
    return None


def _name(view: View, root: Path) -> str:
    try:
        return view.image.relative_to(root).as_posix()
    except ValueError:
        return view.image.name


def _as_float32(view: View) -> View:
    return replace(
        view,
        expression=np.asarray(view.expression, np.float32),
        rotations=np.asarray(view.rotations, np.float32),
        T_world_root=np.asarray(view.T_world_root, np.float32),
        T_world_head=np.asarray(view.T_world_head, np.float32),
    )
