"""Our own recordings on disk: the folder layout of VHAP, with the parameters of the head beside the cameras.

```
headsplat.json                       what the folder is; written last, so a folder without it is unfinished
transforms.json  transforms_{train,val,test}.json
images/<t:05d>_<cam:02d>.png         8-bit RGB over white, the person's own colours un-mixed from the backdrop
fg_masks/<t:05d>_<cam:02d>.png       8-bit matte
head_param/<t:05d>.npz               expression, rotations, T_world_root, T_world_head, landmarks, confidence
flame_param/<t:05d>.npz  canonical_flame_param.npz      FLAME's parameters as VHAP has them, if asked for
```

Readers of the VHAP layout find cameras, pictures and mattes where they expect them; `transform_matrix` is
camera to world with OpenGL axes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from headsplat.camera import Camera
from headsplat.data.dataset import Dataset, View
from headsplat.data.datasets.assemble import (
    GL_TO_CV,
    MOST_PIXELS,
    intrinsic_fields,
    intrinsics,
    is_rigid,
)
from headsplat.data.datasets.flame_pose import MOUTH_OPEN, SHAPES
from headsplat.data.datasets.untrusted import inside, read_npz
from headsplat.data.image import read_image
from headsplat.errors import HeadsplatError
from headsplat.files import writing

INDEX = "headsplat.json"
FORMAT, VERSION = "headsplat.recording", 1
_SPLITS = ("train", "val", "test")


def picture_paths(root: Path, timestep: int, camera: int = 0) -> tuple[Path, Path]:
    """Where the picture and the matte of one view belong."""
    name = f"{timestep:05d}_{camera:02d}.png"
    return root / "images" / name, root / "fg_masks" / name


def write_pixels(
    root: Path, timestep: int, foreground: np.ndarray, alpha: np.ndarray, camera: int = 0
) -> None:
    """Write one picture and its matte; call it for each view, then `write_index` once.

    Args:
        root: folder of the recording.
        timestep: number of the frame.
        foreground: (H, W, 3) float32 0..1, the person's own colours.
        alpha: (H, W) float32 0..1.
        camera: number of the camera.

    Raises:
        HeadsplatError: the folder cannot be written.
    """
    from PIL import Image

    matte = (np.clip(alpha, 0, 1) * 255 + 0.5).astype(np.uint8)
    # With the matte that will be read back, so that un-mixing gives these colours again.
    a = matte[..., None].astype(np.float32) / 255
    over_white = ((np.clip(foreground, 0, 1) * a + 1 - a) * 255 + 0.5).astype(np.uint8)
    for path, pixels in zip(picture_paths(root, timestep, camera), (over_white, matte), strict=True):
        with writing(path) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG", compress_level=1)


def read_pixels(root: Path, timestep: int, camera: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What `write_pixels` wrote, to within rounding: the person's own colours where she is, and the matte.

    Raises:
        HeadsplatError: a file is missing or broken.
    """
    image, mask = picture_paths(root, timestep, camera)
    over_white, alpha = read_image(image), read_image(mask)[..., 0]
    a = alpha[..., None]
    return np.where(a > 0, np.clip((over_white - 1 + a) / np.maximum(a, 1 / 255), 0, 1), 1.0), alpha


def write_index(dataset: Dataset, flame: Dataset | None = None) -> None:
    """Write everything but the pixels of a recording into its folder, `headsplat.json` last.

    Args:
        dataset: layout "headsplat"; its pictures lie in `dataset.root` already.
        flame: the same views with FLAME's parameters, to be written beside.

    Raises:
        HeadsplatError: the folder cannot be written.
    """
    root, frames = dataset.root, [_frame(dataset.root, view) for view in dataset.views]
    for view in dataset.views:
        _write_parameters(root, view)
    if flame is not None:
        _write_flame(root, flame)
        for frame in frames:
            frame["flame_param_path"] = f"flame_param/{frame['timestep_index']:05d}.npz"
    first = dataset.views[0]
    shared = {
        **intrinsic_fields(first.camera),
        "timestep_indices": sorted({view.timestep for view in dataset.views}),
        "camera_indices": sorted({view.camera_index for view in dataset.views}),
    }
    for name in _SPLITS:
        chosen = getattr(dataset, name)
        _write_json(root / f"transforms_{name}.json", {**shared, "frames": [frames[i] for i in chosen]})
    _write_json(root / "transforms.json", {**shared, "frames": frames})
    _write_json(
        root / INDEX,
        {
            "format": FORMAT,
            "version": VERSION,
            "head": dataset.head,
            "shape": [float(value) for value in dataset.shape],
            "expressions": list(dataset.expressions),
            "joints": list(dataset.joints),
            "fps": dataset.fps,
            "views": len(dataset.views),
            "info": dataset.info,
        },
    )


def is_native(folder: Path) -> bool:
    """Whether a folder holds a finished recording in this layout."""
    return (folder / INDEX).is_file()


def read_native(folder: Path) -> Dataset:
    """Read a recording in this layout; the pictures stay on disk.

    Raises:
        HeadsplatError: something is missing or not what it should be; it is named.
    """
    index = _read_json(folder / INDEX)
    if index.get("format") != FORMAT:
        raise HeadsplatError(f"{folder / INDEX} does not describe a recording; track the video again.")
    version = index.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise HeadsplatError(
            f"{folder} was written by a newer headsplat (version {version}); update this one."
        )
    try:
        expressions, joints = tuple(map(str, index["expressions"])), tuple(map(str, index["joints"]))
        shape = np.array(index["shape"], np.float32).reshape(-1)
        fps, head, info = float(index["fps"]), index["head"], dict(index.get("info", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise HeadsplatError(f"{folder / INDEX} is damaged ({error}); track the video again.") from error
    if head not in ("free", "flame", "none") or not np.isfinite(shape).all() or not 0 <= fps < 1e4:
        raise HeadsplatError(f"{folder / INDEX} has an impossible head, shape or frame rate; track again.")
    frames = _frames_of(folder / "transforms.json")
    views = tuple(_view(folder, frame, len(expressions), len(joints)) for frame in frames)
    places = {(view.timestep, view.camera_index): i for i, view in enumerate(views)}
    if not views or len(places) < len(views):
        raise HeadsplatError(f"{folder / 'transforms.json'} lists no view, or one twice; track again.")
    splits = {name: _split(folder, name, places) for name in _SPLITS}
    return Dataset(
        root=folder,
        layout="headsplat",
        head=head,
        shape=shape,
        expressions=expressions,
        joints=joints,
        views=views,
        fps=fps,
        info=info,
        **splits,
    )


def first_seven_tenths(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of `count` frames in two parts as VHAP exports them: to learn from, and the rest."""
    kept = max(1, int(0.7 * count))
    return tuple(range(kept)), tuple(range(kept, count))


def last_tenth(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of `count` frames in two parts: to learn from, and the last tenth to judge by."""
    kept = count - max(1, round(count / 10)) if count > 1 else count
    return tuple(range(kept)), tuple(range(kept, count))


def _frame(root: Path, view: View) -> dict[str, Any]:
    T_world_camera = np.linalg.inv(np.asarray(view.camera.viewmat, np.float64)) @ GL_TO_CV
    return {
        "timestep_index": view.timestep,
        "timestep_index_original": view.timestep,
        "timestep_id": f"{view.timestep:05d}",
        "camera_index": view.camera_index,
        "camera_id": f"{view.camera_index:02d}",
        **intrinsic_fields(view.camera),
        "transform_matrix": T_world_camera.tolist(),
        "file_path": view.image.relative_to(root).as_posix(),
        **({} if view.mask is None else {"fg_mask_path": view.mask.relative_to(root).as_posix()}),
        "head_param_path": f"head_param/{view.timestep:05d}.npz",
    }


def _write_parameters(root: Path, view: View) -> None:
    """One file per timestep; a second camera of the same moment writes the same again."""
    arrays: dict[str, np.ndarray] = {
        "expression": np.asarray(view.expression, np.float32),
        "rotations": np.asarray(view.rotations, np.float32),
        "T_world_root": np.asarray(view.T_world_root, np.float32),
        "T_world_head": np.asarray(view.T_world_head, np.float32),
        "confidence": np.asarray(view.confidence, np.float32),
    }
    if view.landmarks is not None:
        arrays["landmarks"] = np.asarray(view.landmarks, np.float32)
    with writing(root / "head_param" / f"{view.timestep:05d}.npz") as temporary:
        np.savez(temporary, **arrays)


def _write_flame(root: Path, flame: Dataset) -> None:
    """FLAME's parameters of each moment, and the canonical pose: at rest with the mouth open."""
    arrays: dict[str, np.ndarray] = {}
    shape = np.zeros(SHAPES, np.float32)
    shape[: len(flame.shape)] = flame.shape
    for view in flame.views:
        rotations = np.asarray(view.rotations, np.float32)
        arrays = {
            "translation": np.asarray(view.T_world_root, np.float32)[None, :3, 3],
            "rotation": rotations[:1],
            "neck_pose": rotations[1:2],
            "jaw_pose": rotations[2:3],
            "eyes_pose": rotations[3:].reshape(1, 6),
            "shape": shape,
            "expr": np.asarray(view.expression, np.float32)[None],
        }
        with writing(root / "flame_param" / f"{view.timestep:05d}.npz") as temporary:
            np.savez(temporary, **arrays)
    canonical = {name: np.zeros_like(value) for name, value in arrays.items()}
    canonical["shape"], canonical["jaw_pose"][0, 0] = shape, MOUTH_OPEN
    with writing(root / "canonical_flame_param.npz") as temporary:
        np.savez(temporary, **canonical)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise HeadsplatError(f"{path} is missing or damaged; track the video again.") from error
    if not isinstance(content, dict):
        raise HeadsplatError(f"{path} is damaged; track the video again.")
    return content


def _frames_of(path: Path) -> Iterable[dict[str, Any]]:
    frames = _read_json(path).get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise HeadsplatError(f"{path} has no list of frames; track the video again.")
    return frames


def _split(folder: Path, name: str, places: dict[tuple[int, int], int]) -> tuple[int, ...]:
    path = folder / f"transforms_{name}.json"
    try:
        return tuple(places[f["timestep_index"], f["camera_index"]] for f in _frames_of(path))
    except (KeyError, TypeError) as error:
        raise HeadsplatError(
            f"{path} names a view that transforms.json does not have; track again."
        ) from error


def _view(folder: Path, frame: dict[str, Any], expressions: int, joints: int) -> View:
    source = folder / "transforms.json"
    try:
        timestep, index = int(frame["timestep_index"]), int(frame["camera_index"])
        width, height = int(frame["w"]), int(frame["h"])
        K = intrinsics(frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"])
        pose = np.array(frame["transform_matrix"], np.float64)
        image = inside(folder, frame["file_path"])
        mask = inside(folder, frame["fg_mask_path"]) if "fg_mask_path" in frame else None
        parameters = inside(folder, frame["head_param_path"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise HeadsplatError(f"{source} has a damaged frame ({error}); track the video again.") from error
    sizes = 0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS and timestep >= 0 and index >= 0
    if not (sizes and np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and is_rigid(pose, 1e-3)):
        raise HeadsplatError(f"{source} has an impossible camera at frame {timestep}; track the video again.")
    viewmat = np.linalg.inv(pose @ GL_TO_CV).astype(np.float32)
    shapes = {
        "expression": (expressions,),
        "rotations": (joints, 3),
        "T_world_root": (4, 4),
        "T_world_head": (4, 4),
        "confidence": (),
    }
    values = _read_parameters(parameters, shapes, {"landmarks": (478, 2)})
    return View(
        image=image,
        mask=mask,
        camera=Camera(viewmat, K.astype(np.float32), width, height),
        timestep=timestep,
        camera_index=index,
        expression=values["expression"],
        rotations=values["rotations"],
        T_world_root=values["T_world_root"],
        T_world_head=values["T_world_head"],
        landmarks=values.get("landmarks"),
        confidence=float(values["confidence"]),
    )


def _read_parameters(
    path: Path, shapes: dict[str, tuple[int, ...]], optional: dict[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """The named float arrays of an .npz with exactly these shapes, all finite."""
    arrays = read_npz(path)
    wanted = {**shapes, **{name: shape for name, shape in optional.items() if name in arrays}}
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise HeadsplatError(f"{path} is damaged (it lacks {', '.join(missing)}); track the video again.")
    values = {name: np.asarray(arrays[name], np.float32) for name in wanted}
    for name, shape in wanted.items():
        if values[name].shape != shape or not np.isfinite(values[name]).all():
            raise HeadsplatError(
                f"{path} has {name} of shape {values[name].shape}, not finite numbers of {shape}; "
                "track the video again."
            )
    return values
