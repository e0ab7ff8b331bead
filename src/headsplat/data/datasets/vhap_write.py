"""Write recordings in the layout of VHAP and GaussianAvatars, field by field, and unions of several."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.data.dataset import OVER_WHITE, Dataset, View
from headsplat.data.datasets.assemble import GL_TO_CV, camera_of, index_json, intrinsic_fields
from headsplat.data.datasets.flame_pose import JOINTS, MOUTH_OPEN, SHAPES, open_flame, rest_joints, rigid
from headsplat.data.datasets.vhap import (
    FRONT_CAMERA,
    OFFSETS,
    SPLITS,
    parameter_path,
    read_parameters,
    read_vhap,
    split_offsets,
)
from headsplat.errors import HeadsplatError
from headsplat.files import writing
from headsplat.gaussians import axis_angle_to_matrix, matrix_to_quat, quat_to_axis_angle
from headsplat.head.model import HeadModel

EXPRESSIONS = 100
_OFF_CENTRE = 1e-3  # metres


def write_vhap(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    flame: HeadModel | str | os.PathLike[str] | None = None,
    progress: Callable[[str, float], None] = lambda step, fraction: None,
) -> None:
    """Write a recording for GaussianAvatars, LAM and whatever else reads VHAP's export.

    Pictures come out over white with the matte beside; the world is moved so that the mean translation of the
    head is at the origin; static and dynamic offsets are carried over from a recording that has them.

    Args:
        dataset: with FLAME's parameters.
        folder: to write into.
        flame: FLAME, needed where the parameters turn the head about another point than FLAME's root joint.
        progress: called with what is being done and how much of it is.

    Raises:
        HeadsplatError: the parameters are not FLAME's, a picture is missing, or the folder cannot be written.
    """
    root = Path(folder)
    dataset, offsets = _with_flame(dataset)
    if root.absolute() == dataset.root.absolute():
        raise HeadsplatError(f"{root} is the recording itself; give another folder to write it to.")
    parameters, shift = _parameters(dataset, open_flame(flame))
    frames = []
    ids = dataset.info.get("camera_ids", {})
    rig = len({view.camera_index for view in dataset.views}) > 1
    for number, view in enumerate(dataset.views):
        progress("Writing pictures", number / len(dataset))
        frame = _frame(view, shift, rig, str(ids.get(str(view.camera_index), f"{view.camera_index:02d}")))
        _write_pixels(dataset, view, root / frame["file_path"], root / frame["fg_mask_path"])
        frames.append(frame)
    for timestep, arrays in parameters.items():
        whole = {**arrays, **_offsets(offsets.get(timestep))}
        _write_npz(root / "flame_param" / f"{timestep:05d}.npz", whole)
        if timestep == 0:
            _write_npz(root / "canonical_flame_param.npz", _canonical(whole))
    parts = {name: [frames[i] for i in getattr(dataset, name)] for name in SPLITS}
    _write_indices(root, frames, parts)


def write_union(
    folder: str | os.PathLike[str],
    sequences: Sequence[str | os.PathLike[str]],
    *,
    test: Iterable[str] | None = None,
) -> None:
    """Join recordings of one person, which lie beside each other, into one that refers to their files.

    Moments are numbered through. Whole sequences are set aside for testing; of the others, cameras that a
    rig holds back for validation stay held back.

    Args:
        folder: to write into, beside the sequences.
        sequences: folders in VHAP's layout.
        test: names of the sequences to test on; None chooses one of four by a draw from the folder's name.

    Raises:
        HeadsplatError: fewer than two sequences, one one elsewhere, or an unknown name in `test`.
    """
    root, paths = Path(folder), [Path(sequence) for sequence in sequences]
    names = [path.absolute().name for path in paths]
    beside = root.absolute().parent
    if len(set(names)) < 2 or any(path.absolute().parent != beside for path in paths):
        raise HeadsplatError("A union needs two or more sequences that lie in the folder it is written to.")
    if test is None:
        count = max(1, len(names) // 4)
        tested = set(random.Random(root.absolute().name).sample(sorted(names), count))
    else:
        tested = set(test)
    if not tested < set(names):
        raise HeadsplatError(f"The sequences to test on must be some of {', '.join(names)}, not all.")
    frames: list[dict[str, Any]] = []
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    first = 0
    for path, name in zip(paths, names, strict=True):
        _, listed = index_json(path / "transforms.json")
        cameras = {frame.get("camera_index", 0) for frame in listed}
        held = (FRONT_CAMERA if FRONT_CAMERA in cameras else max(cameras)) if len(cameras) > 1 else None
        moments = {t: i for i, t in enumerate(sorted({int(frame["timestep_index"]) for frame in listed}))}
        for frame in listed:
            joined = _join(frame, name, first + moments[int(frame["timestep_index"])])
            part = "test" if name in tested else "val" if frame.get("camera_index") == held else "train"
            frames.append(joined)
            parts[part].append(joined)
        first += len(moments)
    root.mkdir(parents=True, exist_ok=True)
    with writing(root / "canonical_flame_param.npz") as temporary:
        shutil.copyfile(paths[0] / "canonical_flame_param.npz", temporary)
    for part, chosen in (("train", set(names) - tested), ("test", tested)):
        with writing(root / f"sequences_{part}.txt") as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names if name in chosen))
    _write_indices(root, frames, parts)


def _with_flame(dataset: Dataset) -> tuple[Dataset, dict[int, Path]]:
    """The recording under FLAME's parameters, and the files of the moments if they have offsets."""
    if dataset.head != "flame" and (dataset.root / "flame_param").is_dir():
        dataset = read_vhap(dataset.root)
    if dataset.head != "flame" or dataset.joints != JOINTS:
        raise HeadsplatError(
            f"{dataset.root} has no FLAME parameters, which this layout is made of; track the video again "
            "with `headsplat track --flame FLAME_FILE`."
        )
    offsets: dict[int, Path] = {}
    if any(name in dataset.info for name in OFFSETS):
        paths = {}
        for frame in index_json(dataset.root / "transforms.json")[1]:
            if "timestep_index" in frame:
                timestep = int(frame["timestep_index"])
                paths[timestep] = parameter_path(dataset.root, frame, timestep)
        # Moments that were left out are numbered over; only a whole recording keeps its offsets.
        if sorted(paths) == sorted({view.timestep for view in dataset.views}):
            offsets = paths
    return dataset, offsets


def _parameters(
    dataset: Dataset, model: HeadModel | None
) -> tuple[dict[int, dict[str, np.ndarray]], np.ndarray]:
    """FLAME's arrays of each moment, and (3,) by how much the world is moved."""
    rows: dict[int, View] = {}
    for view in dataset.views:
        rows.setdefault(view.timestep, view)
    placed = {t: _about_the_root(view, dataset.shape, model) for t, view in rows.items()}
    mean = np.mean([translation for _, translation in placed.values()], axis=0)
    shift = -mean if np.linalg.norm(mean) > _OFF_CENTRE else np.zeros(3)
    table = {}
    for timestep, view in rows.items():
        rotations, translation = placed[timestep]
        arrays = {
            "translation": (translation + shift)[None],
            "rotation": rotations[:1],
            "neck_pose": rotations[1:2],
            "jaw_pose": rotations[2:3],
            "eyes_pose": rotations[3:].reshape(1, 6),
            "shape": _fill(dataset.shape, SHAPES),
            "expr": _fill(view.expression, EXPRESSIONS)[None],
        }
        table[timestep] = {name: value.astype(np.float32) for name, value in arrays.items()}
    return table, shift


def _offsets(path: Path | None) -> dict[str, np.ndarray]:
    """The offsets in a frame's file, (1, V, 3)."""
    if path is None:
        return {}
    return {name: value[None] for name, value in split_offsets(read_parameters(path))[1].items()}


def _about_the_root(view: View, shape: np.ndarray, model: HeadModel | None) -> tuple[np.ndarray, np.ndarray]:
    """(5, 3) joint rotations and (3,) translation that put FLAME where the view has it."""
    T = np.asarray(view.T_world_root, np.float64)
    rotations = np.asarray(view.rotations, np.float64)
    if np.abs(T[:3, :3] - np.eye(3)).max() < 1e-9:
        return rotations, T[:3, 3]
    if model is None:
        raise HeadsplatError(
            "This recording turns the head about another point than FLAME's root joint; give FLAME's file."
        )
    root = rest_joints(model, shape, view.expression)[0]
    turn = T[:3, :3] @ axis_angle_to_matrix(rotations[0])
    rotations = np.concatenate([quat_to_axis_angle(matrix_to_quat(turn))[None], rotations[1:]])
    return rotations, T[:3, :3] @ root + T[:3, 3] - root


def _fill(values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` values, with zeros if there are fewer."""
    if np.any(values[count:]):
        raise HeadsplatError(f"This layout holds {count} weights, and the recording has {len(values)}.")
    return np.pad(values[:count], (0, count - len(values[:count])))


def _canonical(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The pose that LAM and GaussianAvatars start from: at rest with the mouth open."""
    kept = ("shape", "static_offset")
    canonical = {n: v if n in kept else np.zeros_like(v) for n, v in arrays.items() if n != "dynamic_offset"}
    canonical["jaw_pose"][0, 0] = MOUTH_OPEN
    return canonical


def _frame(view: View, shift: np.ndarray, rig: bool, camera_id: str) -> dict[str, Any]:
    camera, stem = view.camera, f"{view.timestep:05d}_{view.camera_index:02d}"
    K = np.asarray(camera.K, np.float64)
    moved = np.asarray(camera.viewmat, np.float64) @ rigid(np.eye(3), -shift)
    # In the precision of a `Camera`, so that reading and writing again changes nothing.
    viewmat = np.asarray(camera_of(moved, K, camera.width, camera.height).viewmat, np.float64)
    T_world_camera = np.linalg.inv(viewmat) @ GL_TO_CV
    fields = intrinsic_fields(camera)
    if rig:  # counted from below
        fields["cy"] = float(camera.height - K[1, 2])
    return {
        "timestep_index": view.timestep,
        "timestep_index_original": view.timestep,
        "timestep_id": f"{view.timestep:05d}",
        "camera_index": view.camera_index,
        "camera_id": camera_id,
        **fields,
        "transform_matrix": T_world_camera.tolist(),
        "file_path": f"images/{stem}.png",
        "fg_mask_path": f"fg_masks/{stem}.png",
        "flame_param_path": f"flame_param/{view.timestep:05d}.npz",
    }


_SHARED = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y")


def _write_indices(
    root: Path, frames: list[dict[str, Any]], parts: Mapping[str, list[dict[str, Any]]]
) -> None:
    """transforms.json and the three of the parts; GaussianAvatars wants moments from 0 without gaps."""
    intrinsics = {name: frames[0][name] for name in _SHARED if name in frames[0]}
    for name, chosen in {**{f"_{part}": parts[part] for part in SPLITS}, "": frames}.items():
        content = {
            **intrinsics,
            "timestep_indices": sorted({frame["timestep_index"] for frame in chosen}),
            "camera_indices": sorted({frame["camera_index"] for frame in chosen}),
            "frames": chosen,
        }
        with writing(root / f"transforms{name}.json") as temporary:
            temporary.write_text(json.dumps(content, indent=4, allow_nan=False))


def _write_pixels(dataset: Dataset, view: View, image: Path, mask: Path) -> None:
    """The picture over white and the matte, byte for byte where they are so already."""
    from headsplat.data.image import write_image

    as_is = dataset.layout in OVER_WHITE and view.mask is not None
    if as_is and view.image.suffix == ".png" and view.mask is not None and view.mask.suffix == ".png":
        for source, target in ((view.image, image), (view.mask, mask)):
            if not source.is_file():
                raise HeadsplatError(f"{source} is missing; repair the recording or track it again.")
            with writing(target) as temporary:
                shutil.copyfile(source, temporary)
        return
    pixels, alpha = dataset.load_over(view, 1.0)
    write_image(image, pixels)
    with writing(mask) as temporary:
        from PIL import Image

        Image.fromarray((alpha * 255 + 0.5).astype(np.uint8)).save(temporary, "PNG")


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with writing(path) as temporary:
        np.savez(temporary, **arrays)


def _join(frame: Mapping[str, Any], sequence: str, timestep: int) -> dict[str, Any]:
    """A frame as the union lists it."""
    dropped = ("timestep_index_original", "timestep_id")
    joined = {key: value for key, value in frame.items() if key not in dropped}
    joined["timestep_index"] = timestep
    for key in ("file_path", "fg_mask_path", "flame_param_path"):
        if key in joined:
            joined[key] = f"../{sequence}/{joined[key]}"
    return joined
