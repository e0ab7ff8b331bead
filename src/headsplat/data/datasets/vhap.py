"""Read recordings in the layout of VHAP, which GaussianAvatars and LAM learn from, and unions of several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    GL_TO_CV,
    Problems,
    assemble,
    camera_of,
    index_json,
    intrinsics,
    invert,
    is_there,
    picture,
)
from headsplat.data.datasets.flame_pose import (
    ABOUT_NOTE,
    JOINTS,
    expression_names,
    open_flame,
    rest_joints,
    skull_pose,
)
from headsplat.data.datasets.untrusted import inside, numbers, read_npz
from headsplat.errors import HeadsplatError
from headsplat.head.model import HeadModel

SPLITS = ("train", "val", "test")
FRONT_CAMERA = 8
"""The camera that VHAP keeps for validation: NeRSemble's frontal one, or the last if there are fewer."""
OFFSETS = ("static_offset", "dynamic_offset")
"""What a frame may move its vertices by: 5023, or 5143 with VHAP's teeth."""
_WIDTHS = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6}


def read_vhap(
    folder: str | os.PathLike[str], *, flame: HeadModel | str | os.PathLike[str] | None = None
) -> Dataset:
    """Read a recording exported by VHAP, or a union of such recordings.

    Principal points of a calibrated rig (more than one camera) are stored as measured from the lower edge,
    those of a single camera from the upper one. `info` says which meshes and offsets the frames carry.

    Args:
        folder: holds transforms.json or transforms_{train,val,test}.json, and flame_param/*.npz.
        flame: FLAME, for the exact place of the neck joint; without it that of an average head is taken.

    Raises:
        HeadsplatError: no frame can be used; the reason is said.
    """
    root, model = Path(folder), open_flame(flame)
    top, frames = _all_frames(root)
    problems, parameters = Problems(), {}
    rig = len({str(frame.get("camera_index", 0)) for frame in frames}) > 1
    views, kept, betas, meshes = [], [], [], {}
    for number, frame in enumerate(frames):
        name = str(frame.get("file_path") or frame.get("flame_param_path") or f"frame {number}")
        try:
            path = parameter_path(root, frame, number)
            if path not in parameters:
                parameters[path], offsets = split_offsets(read_parameters(path))
                for kind, offset in offsets.items():
                    meshes.setdefault(kind, set()).add(len(offset))
            view = _view(root, {**top, **frame}, number, parameters[path], rig, model)
        except (HeadsplatError, ValueError, TypeError, KeyError, OverflowError) as error:
            problems.add(f"is left out ({_short(error)})", name)
            continue
        views.append(view)
        betas.append(parameters[path]["shape"])
        kept.append(number)
    expressions = max((len(view.expression) for view in views), default=0)
    several = any(str(frame.get("file_path", "")).startswith("../") for frame in frames)
    splits, notes = _splits(root, [frames[i] for i in kept], views)
    if model is None:
        notes.append(ABOUT_NOTE)
    return assemble(
        root,
        "union" if several else "vhap",
        views,
        head="flame",
        shape=_shape(root, betas, problems),
        expressions=expression_names(expressions),
        joints=JOINTS,
        splits=splits,
        notes=notes,
        problems=problems,
        info={**{kind: sorted(sizes) for kind, sizes in meshes.items()}, **_identities(frames)},
    )


def read_parameters(path: Path) -> dict[str, np.ndarray]:
    """The flat float32 arrays of one flame_param/*.npz: six poses and translations, expr, shape, offsets.

    Raises:
        HeadsplatError: the file is missing or damaged, or an array is of another size.
    """
    arrays = read_npz(path)
    missing = [name for name in (*_WIDTHS, "expr") if name not in arrays]
    if missing:
        raise HeadsplatError(f"{path} lacks {', '.join(missing)}; it is no frame of VHAP.")
    values = {name: np.asarray(arrays[name], np.float32).reshape(-1) for name in (*_WIDTHS, "expr")}
    for name, width in _WIDTHS.items():
        if len(values[name]) != width:
            raise HeadsplatError(f"{path} has {len(values[name])} numbers of {name}, not {width}.")
    values["shape"] = np.asarray(arrays.get("shape", np.zeros(0)), np.float32).reshape(-1)
    for name in OFFSETS:
        if name in arrays:
            offset = np.asarray(arrays[name], np.float32)
            if offset.ndim < 2 or offset.shape[-1] != 3:
                raise HeadsplatError(f"{path} has a {name} of shape {offset.shape}, not (1, V, 3).")
            values[name] = offset.reshape(-1, 3)
    return values


def split_offsets(
    values: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The parameters of a frame without its offsets, which take up most of it, and the (V, 3) offsets."""
    offsets = {name: value for name, value in values.items() if name in OFFSETS}
    return {name: value for name, value in values.items() if name not in OFFSETS}, offsets


def default_splits(views: list[View]) -> dict[str, list[int]]:
    """VHAP's rule: the first 70 % of the moments to learn from, where several cameras leave one for val."""
    moments = sorted({view.timestep for view in views})
    cameras = sorted({view.camera_index for view in views})
    learned = set(moments[: max(1, int(0.7 * len(moments)))])
    held = None
    if len(cameras) > 1:
        held = FRONT_CAMERA if FRONT_CAMERA in cameras else cameras[-1]
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for number, view in enumerate(views):
        early = view.timestep in learned
        parts["test" if not early else "val" if view.camera_index == held else "train"].append(number)
    return parts


def _all_frames(root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fields shared by all frames, and the frames: of transforms.json, or of the splits without it."""
    if (root / "transforms.json").exists():
        top, frames = index_json(root / "transforms.json")
    else:
        found = [root / f"transforms_{s}.json" for s in SPLITS if (root / f"transforms_{s}.json").exists()]
        if not found:
            raise HeadsplatError(f"{root} has no transforms.json; give a folder exported by VHAP.")
        top, frames, seen = {}, [], set()
        for path in found:
            content, more = _split_frames(path)
            top = top or content
            for frame in more:
                if _key(frame) not in seen:
                    seen.add(_key(frame))
                    frames.append(frame)
    if not all("timestep_index" in frame for frame in frames):
        # LAM's driving sequences have no numbers; their parameter files are in order.
        frames = sorted(frames, key=lambda frame: str(frame.get("flame_param_path", "")))
    return {key: value for key, value in top.items() if key != "frames"}, frames


def _split_frames(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same of a file that may list no frame, as that of val does with one camera."""
    from headsplat.data.datasets.untrusted import read_json

    content = read_json(path)
    if content.get("frames") == []:
        return content, []
    return index_json(path)


def _key(frame: Mapping[str, Any]) -> tuple[str, ...]:
    if "file_path" in frame:
        return (str(frame["file_path"]),)
    return (str(frame.get("timestep_index")), str(frame.get("camera_index", 0)))


def _splits(
    root: Path, frames: list[dict[str, Any]], views: list[View]
) -> tuple[dict[str, list[int]], list[str]]:
    """The parts as the files say, by position, and remarks."""
    paths = {name: root / f"transforms_{name}.json" for name in SPLITS}
    if not paths["train"].exists():
        return default_splits(views), [
            "There is no transforms_train.json; the first 70 % of the moments are taken to learn from."
        ]
    places = {_key(frame): number for number, frame in enumerate(frames)}
    parts = {}
    for name, path in paths.items():
        listed = _split_frames(path)[1] if path.exists() else []
        parts[name] = [places[_key(frame)] for frame in listed if _key(frame) in places]
    return parts, []


def parameter_path(root: Path, frame: Mapping[str, Any], number: int) -> Path:
    """Where the FLAME parameters of a frame lie, which is the `number`th."""
    name = frame.get("flame_param_path") or f"flame_param/{int(frame.get('timestep_index', number)):05d}.npz"
    return inside(root, name, root.absolute().parent)


def _view(
    root: Path,
    frame: Mapping[str, Any],
    number: int,
    values: Mapping[str, np.ndarray],
    rig: bool,
    model: HeadModel | None,
) -> View:
    timestep, index = int(frame.get("timestep_index", number)), int(frame.get("camera_index", 0))
    if timestep < 0 or index < 0:
        raise ValueError("a negative number")
    image = inside(
        root, frame.get("file_path") or f"images/{timestep:05d}_{index:02d}.png", root.absolute().parent
    )
    if frame.get("fg_mask_path"):
        mask = inside(root, frame["fg_mask_path"], root.absolute().parent)
    else:
        beside = picture(image.parent.parent / "fg_masks" / image.with_suffix(".png").name)
        mask = beside if is_there(beside) else None
    K, width, height = _intrinsics(frame, rig)
    pose = numbers(frame["transform_matrix"], (4, 4))
    rotations = np.stack([values["rotation"], values["neck_pose"], values["jaw_pose"],
                          *values["eyes_pose"].reshape(2, 3)])  # fmt: skip
    T_world_root = np.eye(4)
    T_world_root[:3, 3] = values["translation"]
    joints = rest_joints(model, values["shape"], values["expr"])
    return View(
        image=picture(image),
        mask=mask,
        camera=camera_of(invert(pose @ GL_TO_CV), K, width, height),
        timestep=timestep,
        camera_index=index,
        expression=values["expr"],
        rotations=rotations,
        T_world_root=T_world_root,
        T_world_head=skull_pose(rotations, T_world_root, joints),
    )


def _intrinsics(frame: Mapping[str, Any], rig: bool) -> tuple[np.ndarray, float, float]:
    """Camera matrix with the principal point from the upper left, width and height."""
    cx, cy = frame.get("cx"), frame.get("cy")
    width = float(frame["w"] if "w" in frame else 2 * float(frame["cx"]))
    height = float(frame["h"] if "h" in frame else 2 * float(frame["cy"]))
    fx, fy = frame.get("fl_x"), frame.get("fl_y")
    if fx is None:
        fx = width / (2 * np.tan(float(frame["camera_angle_x"]) / 2))
    fy = fx if fy is None else fy
    cx = width / 2 if cx is None else float(cx)
    cy = height / 2 if cy is None else float(cy)
    return intrinsics(float(fx), float(fy), cx, height - cy if rig else cy), width, height


def _shape(root: Path, betas: list[np.ndarray], problems: Problems) -> np.ndarray:
    path = root / "canonical_flame_param.npz"
    if path.exists():
        try:
            shape = read_npz(path).get("shape")
            if shape is not None:
                return np.asarray(shape, np.float32).reshape(-1)
        except HeadsplatError as error:
            problems.add(f"is not used ({_short(error)})", path.name)
    return next((shape for shape in betas if len(shape)), np.zeros(300, np.float32))


def _identities(frames: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Names of the cameras and of the sequences that the frames come from."""
    frames = list(frames)
    cameras = {
        str(frame["camera_index"]): str(frame["camera_id"])
        for frame in frames
        if "camera_id" in frame and "camera_index" in frame
    }
    paths = [str(frame.get("file_path", "")).split("/") for frame in frames]
    sequences = sorted({parts[1] for parts in paths if len(parts) > 2 and parts[0] == ".."})
    found = {"camera_ids": dict(sorted(cameras.items())), "sequences": sequences}
    return {name: value for name, value in found.items() if value}


def _short(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error).rstrip(".").split("; ")[0]
