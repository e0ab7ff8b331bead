"""Recordings in the field's layouts, by hand from the definitions, with points whose pixels are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from headsplat.head.flame import flame_from_arrays
from headsplat.head.model import HeadModel, PosedHead

WIDTH, HEIGHT = 40, 28
FRAMES = 4


def little_flame() -> HeadModel:
    """A head with FLAME's joint tree and sizes, and 60 vertices; its joints stand about where FLAME's do."""
    return flame_from_arrays(flame_arrays())


def flame_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Its arrays under the names of FLAME's file."""
    rng = np.random.default_rng(seed)
    count = 60
    template = rng.normal(size=(count, 3)) * 0.05
    template[:5] = [
        [0, -0.14, -0.02],
        [0, -0.07, -0.01],
        [0, -0.02, 0.01],
        [0.03, 0.03, 0.03],
        [-0.03, 0.03, 0.03],
    ]
    regressor = np.zeros((5, count))
    regressor[np.arange(5), np.arange(5)] = 1
    weights = rng.uniform(size=(count, 5))
    weights[30:] = np.eye(5)[1]
    faces = np.array([(k, k + 1, k + 2) for k in range(count - 2)], np.uint32)
    return {
        "v_template": template,
        "shapedirs": rng.normal(size=(count, 3, 400)) * 1e-3,
        "posedirs": np.zeros((count, 3, 36)),
        "J_regressor": regressor,
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": faces,
    }


@dataclass(frozen=True)
class Known:
    """What a reader must find.

    Attributes:
        pixels: (views, P, 2) where the format itself shows the points, in views' order.
        posed: (views,) the head by FLAME's own maths in metres, or None where there is no FLAME.
        points: (views, P, 3) the points in the reader's world.
    """

    pixels: np.ndarray
    points: np.ndarray
    posed: tuple[PosedHead, ...] | None = None


def rotation(vector: Any) -> np.ndarray:
    """(3, 3) by the exponential series."""
    x, y, z = np.asarray(vector, np.float64)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    total, term = np.eye(3), np.eye(3)
    for k in range(1, 30):
        term = term @ cross / k
        total = total + term
    return total


def looking(position: Any) -> np.ndarray:
    """(4, 4) camera to world, x right, y down, z forward, of a camera that looks at the origin."""
    position = np.asarray(position, np.float64)
    z = -position / np.linalg.norm(position)
    x = np.cross(z, [0, 1, 0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 2], T[:3, 3] = x, np.cross(z, x), z, position
    return T


def to_camera(T_world_camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (P, 3) in the axes of a camera given camera to world."""
    return (points - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]


def opengl(T_world_camera: np.ndarray) -> np.ndarray:
    """The same camera with y up and z backward."""
    T = T_world_camera.copy()
    T[:3, 1:3] *= -1
    return T


def paint(path: Path, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 0) -> None:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], *({"L": (), "RGB": (3,), "RGBA": (4,)}[mode]))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels, mode).save(path)


def dump(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; arrays become lists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, default=lambda array: np.asarray(array).tolist()))


def pose_of(seed: int) -> dict[str, np.ndarray]:
    """Random FLAME parameters of a moment."""
    rng = np.random.default_rng(seed)
    return {
        "rotation": rng.normal(size=3) * 0.3,
        "neck": rng.normal(size=3) * 0.2,
        "jaw": np.array([abs(rng.normal()) * 0.2, 0, 0]),
        "eyes": rng.normal(size=6) * 0.1,
        "translation": rng.normal(size=3) * 0.05,
        "expr": rng.normal(size=100) * 0.5,
    }


def posed_by_flame(
    model: HeadModel, shape: np.ndarray, pose: Mapping[str, np.ndarray], **turns: Any
) -> PosedHead:
    """FLAME with these parameters, in metres; `turns` replace some of them."""
    p = {**pose, **turns}
    T = np.eye(4)
    T[:3, 3] = p["translation"]
    rotations = np.stack([p["rotation"], p["neck"], p["jaw"], p["eyes"][:3], p["eyes"][3:]])
    expression = np.zeros(100, np.float32)
    expression[: len(p["expr"])] = p["expr"]
    return model.with_shape(shape.astype(np.float32)).with_pose(expression, rotations, T)


def vhap(
    folder: Path, model: HeadModel, cameras: int = 1, vertices: int | None = 5143, frames: int = FRAMES
) -> Known:
    """VHAP's export: OpenGL cameras to world; a rig counts its principal points from the lower edge."""
    shape = np.random.default_rng(9).normal(size=300)
    listed, pixels, posed, points = [], [], [], []
    for t in range(frames):
        pose = pose_of(t)
        arrays = {
            "translation": pose["translation"][None], "rotation": pose["rotation"][None],
            "neck_pose": pose["neck"][None], "jaw_pose": pose["jaw"][None], "eyes_pose": pose["eyes"][None],
            "shape": shape, "expr": pose["expr"][None],
        }  # fmt: skip
        if vertices:
            arrays["static_offset"] = np.random.default_rng(1).normal(size=(1, vertices, 3))
            arrays["dynamic_offset"] = np.random.default_rng(2 + t).normal(size=(1, vertices, 3))
        path = folder / f"flame_param/{t:05d}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{k: v.astype(np.float32) for k, v in arrays.items()})
        head = posed_by_flame(model, shape, pose)
        for c in range(cameras):
            T = opengl(looking([0.3 * c, 0.05, 1 + 0.1 * c]))
            fx, fy, cx, cy = 60.0, 61.0, 19.0, 15.5
            x, y, z = to_camera(T, head.vertices).T
            down = HEIGHT - (cy + fy * y / -z) if cameras > 1 else cy - fy * y / -z
            pixels.append(np.stack([cx + fx * x / -z, down], -1))
            posed.append(head)
            points.append(head.vertices)
            name = f"{t:05d}_{c:02d}.png"
            paint(folder / "images" / name, seed=10 * t + c)
            paint(folder / "fg_masks" / name, "L", seed=10 * t + c)
            angles = 2 * np.arctan([WIDTH / 2 / fx, HEIGHT / 2 / fy])
            listed.append(
                {"timestep_index": t, "timestep_index_original": t, "timestep_id": f"{t:05d}",
                 "camera_index": c, "camera_id": f"22220{c}", "cx": cx, "cy": cy, "fl_x": fx, "fl_y": fy,
                 "h": HEIGHT, "w": WIDTH, "camera_angle_x": angles[0], "camera_angle_y": angles[1],
                 "transform_matrix": T, "file_path": f"images/{name}", "fg_mask_path": f"fg_masks/{name}",
                 "flame_param_path": f"flame_param/{t:05d}.npz"}
            )  # fmt: skip
    np.savez(folder / "canonical_flame_param.npz", shape=shape.astype(np.float32))
    top = {"timestep_indices": list(range(frames)), "camera_indices": list(range(cameras))}
    dump(folder / "transforms.json", {**top, "frames": listed})
    early = [f for f in listed if f["timestep_index"] < frames - 1]
    dump(folder / "transforms_train.json", {**top, "frames": [f for f in early if f["camera_index"] < 1]})
    dump(folder / "transforms_val.json", {**top, "frames": [f for f in early if f["camera_index"] >= 1]})
    dump(folder / "transforms_test.json", {**top, "frames": [f for f in listed if f not in early]})
    return Known(np.array(pixels), np.array(points), tuple(posed))


def insta(folder: Path, model: HeadModel) -> Known:
    """INSTA: OpenCV cameras to world, the head at rest, expressions as text."""
    listed, pixels, posed = [], [], []
    for t in range(FRAMES):
        expr = pose_of(t)["expr"]
        head = posed_by_flame(model, np.zeros(1), _still(t))
        T = looking([0.1 * t, 0.1, 0.8])
        x, y, z = to_camera(T, head.vertices).T
        pixels.append(np.stack([70 * x / z + 21, 71 * y / z + 13], -1))
        posed.append(head)
        paint(folder / f"images/{t:05d}.png", "RGBA")
        (folder / "flame/exp").mkdir(parents=True, exist_ok=True)
        exp_path = f"flame/exp/{t:05d}.txt"
        (folder / "meshes").mkdir(exist_ok=True)
        mesh = "".join(f"v {u:.6f} {v:.6f} {w:.6f}\n" for u, v, w in head.vertices)
        (folder / f"meshes/{t:05d}.obj").write_text(f"# tracked\n{mesh}f 1 2 3\n")
        (folder / exp_path).write_text("".join(f"{value:.8f}\n" for value in expr))
        listed.append({"transform_matrix": T, "file_path": f"images/{t:05d}.png",
                       "exp_path": exp_path, "mesh_path": f"meshes/{t:05d}.obj",
                       "seg_mask_path": f"seg_mask/{t:05d}.png",
                       "depth_path": f"depth/{t:05d}.png"})  # fmt: skip
    dump(folder / "transforms.json", {"w": WIDTH, "h": HEIGHT, "fl_x": 70, "fl_y": 71, "cx": 21, "cy": 13,
                                      "integer_depth_scale": 0.001, "frames": listed})  # fmt: skip
    return Known(np.array(pixels), np.array([p.vertices for p in posed]), tuple(posed))


def imavatar(folder: Path, model: HeadModel, old: bool = False) -> Known:
    """IMavatar: world to camera looking along -z, FLAME times four, the first focal length negative."""
    shape = np.random.default_rng(3).normal(size=100)
    size, listed, pixels, posed = 32, [], [], []
    intrinsics = np.array([-2.5, 2.6, 0.52, 0.47]) * (512 if old else 1)
    for t in range(FRAMES):
        pose = {**pose_of(t), "translation": np.zeros(3), "expr": pose_of(t)["expr"][:50]}
        head = posed_by_flame(model, shape, pose)
        world_mat = np.concatenate([np.eye(3), [[0.1], [-0.2], [-4 - 0.1 * t]]], 1)
        x, y, z = (4 * head.vertices @ world_mat[:, :3].T + world_mat[:, 3]).T
        fx, fy, cx, cy = intrinsics * size / (512 if old else 1)
        pixels.append(np.stack([fx * x / z + cx, fy * y / z + cy], -1))
        posed.append(head)
        paint(folder / f"image/{t + 1}.png", size=(size, size))
        paint(folder / f"mask/{t + 1}.png", "L", size=(size, size))
        pose15 = np.concatenate([pose[k] for k in ("rotation", "neck", "jaw", "eyes")])
        listed.append({"file_path": f"./image/{t + 1}", "world_mat": world_mat, "expression": pose["expr"],
                       "pose": pose15, "bbox": [-1, -1, 1, 1], "flame_keypoints": []})  # fmt: skip
    dump(folder / "flame_params.json", {"frames": listed, "intrinsics": intrinsics, "shape_params": shape})
    return Known(np.array(pixels), np.array([p.vertices for p in posed]), tuple(posed))


def nerfblendshape(folder: Path, shifted: bool = False) -> Known:
    """NeRFBlendShape: OpenGL cameras to world; GaussianHead's mattes are numbered one on."""
    points = np.random.default_rng(4).normal(size=(5, 3)) * 0.1
    listed, pixels = [], []
    for t in range(FRAMES):
        T = opengl(looking([0.05 * t, 0.02, 0.6]))
        x, y, z = to_camera(T, points).T
        pixels.append(np.stack([50 * x / -z + 20, 14.5 - 52 * y / -z], -1))
        paint(folder / f"ori_imgs/{t}.jpg")
        paint(folder / f"mask/{t + shifted}.png", "L", seed=t)
        marks = np.random.default_rng(t).uniform(0, 30, (478, 2))
        (folder / f"ori_imgs/{t}.lms").write_text("".join(f"{u:.3f} {v:.3f}\n" for u, v in marks))
        listed.append({"img_id": t, "transform_matrix": T, "exp_ori": np.full(46, 0.1 * t)})
    dump(folder / "transforms.json", {"h": HEIGHT, "w": WIDTH, "fx": 50, "fy": 52, "cx": 20, "cy": 14.5,
                                      "frames": listed[::-1]})  # fmt: skip
    return Known(np.array(pixels), np.broadcast_to(points, (FRAMES, 5, 3)))


def adnerf(folder: Path) -> Known:
    """AD-NeRF: OpenGL cameras to world; eleven frames in two files."""
    points = np.random.default_rng(5).normal(size=(5, 3)) * 0.1
    listed, pixels = [], []
    for t in range(11):
        T = opengl(looking([0.03 * t, 0.02, 0.9]))
        x, y, z = to_camera(T, points).T
        pixels.append(np.stack([80 * x / -z + 20, 14 - 80 * y / -z], -1))
        paint(folder / f"ori_imgs/{t}.jpg")
        listed.append({"img_id": t, "aud_id": t, "transform_matrix": T, "face_rect": [0, 0, 9, 9]})
    top = {"focal_len": 80, "cx": 20, "cy": 14}
    dump(folder / "transforms_train.json", {**top, "frames": listed[:10]})
    dump(folder / "transforms_val.json", {**top, "frames": listed[10:]})
    return Known(np.array(pixels), np.broadcast_to(points, (11, 5, 3)))


def gagavatar(folder: Path, model: HeadModel, pictures: bool = True) -> Known:
    """GAGAvatar's tracks: PyTorch3D cameras on row vectors, FLAME times five, focal length 12."""
    import pickle

    shape = np.random.default_rng(6).normal(size=300).astype(np.float32)
    tracks, pixels, posed = {}, [], []
    for t in range(FRAMES):
        pose = _still(t, jaw=True)
        head = posed_by_flame(model, shape, pose)
        # From a camera to world with x left, y up, z forward.
        T = looking([0.1 * t, 0.05, 2.0])
        T[:3, :2] *= -1
        R = T[:3, :3]
        translation = -5 * T[:3, 3] @ R
        x, y, z = (5 * head.vertices @ R + translation).T
        pixels.append(np.stack([(1 - 12 * x / z) * 256, (1 - 12 * y / z) * 256], -1))
        posed.append(head)
        values = {"bbox": [0, 0, 1, 1], "shapecode": shape, "expcode": pose["expr"], "eyecode": pose["eyes"],
                  "posecode": np.concatenate([np.zeros(3), pose["jaw"]]),
                  "transform_matrix": np.concatenate([R, translation[:, None]], 1)}  # fmt: skip
        # Written out of order, as trackers in parallel do.
        tracks[f"014554_{(7 * t) % FRAMES + 100}"] = {k: np.asarray(v, np.float32) for k, v in values.items()}
    order = np.argsort([int(key.split("_")[1]) for key in tracks])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "optim.pkl").write_bytes(pickle.dumps(tracks))
    keys = sorted(tracks)
    dump(folder / "dataset.json", {"train": keys[:2], "val": keys[2:3], "test": keys[3:]})
    if pictures:
        for key in keys:
            paint(folder / f"images/{key}.jpg", size=(512, 512))
    return Known(
        np.array(pixels)[order], np.array([posed[i].vertices for i in order]), tuple(posed[i] for i in order)
    )


def cap4d(folder: Path, model: HeadModel) -> Known:
    """cap4d: OpenCV cameras that see FLAME's world with y and z negated; rotation about FLAME's origin."""
    shape, cameras = np.random.default_rng(7).normal(size=150), 2
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    extrinsics = [np.linalg.inv(looking([0.4 * c, 0, 1.0])) @ flip for c in range(cameras)]
    arrays: dict[str, list[Any]] = {"rot": [], "tra": [], "expr": [], "eye_rot": []}
    seen: list[list[Any]] = [[] for _ in range(cameras)]
    for t in range(FRAMES):
        pose = pose_of(t)
        still = {**_still(t), "expr": pose["expr"][:65], "eyes": np.tile(pose["eyes"][:3], 2)}
        at_rest = posed_by_flame(model, shape, still)
        world = at_rest.vertices @ rotation(pose["rotation"]).T + pose["translation"]
        for name, value in zip(
            arrays, (pose["rotation"], pose["translation"], still["expr"], still["eyes"][:3]), strict=True
        ):
            arrays[name].append(value)
        for c in range(cameras):
            x, y, z = (world * [1, -1, -1] @ extrinsics[c][:3, :3].T + extrinsics[c][:3, 3]).T
            seen[c].append((np.stack([(60 + c) * x / z + 18, 62 * y / z + 12], -1), world))
            paint(folder / f"images/cam{c}/{t:04d}.png")
            paint(folder / f"bg/cam{c}/{t:04d}.png", "L")
    np.savez(
        folder / "fit.npz", shape=shape, extr=np.array(extrinsics), fps=np.array(30.0),
        fx=np.array([[60.0], [61]]), fy=np.array([[62.0], [62]]),
        cx=np.full((2, 1), 18.0), cy=np.full((2, 1), 12.0),
        resolutions=np.array([[HEIGHT, WIDTH]] * 2), camera_order=np.array(["cam0", "cam1"]),
        **{name: np.array(value) for name, value in arrays.items()},
    )  # fmt: skip
    both = [seen[c][t] for t in range(FRAMES) for c in range(cameras)]
    return Known(np.array([pixel for pixel, _ in both]), np.array([point for _, point in both]))


def metrical(folder: Path, model: HeadModel, save: Any) -> Known:
    """metrical-tracker: OpenCV extrinsics of each frame, the head at rest, rotations as two matrix rows."""
    shape, pixels, posed = np.random.default_rng(8).normal(size=300), [], []
    (folder / "checkpoint").mkdir(parents=True)
    for t in range(FRAMES):
        pose = _still(t, jaw=True)
        head = posed_by_flame(model, shape, pose)
        T = np.linalg.inv(looking([0.1 * t, 0, 0.7]))
        x, y, z = (head.vertices @ T[:3, :3].T + T[:3, 3]).T
        pixels.append(np.stack([66 * x / z + 20, 67 * y / z + 14], -1))
        posed.append(head)
        flame = {"exp": pose["expr"][None], "shape": shape[None], "tex": np.zeros((1, 140)),
                 "eyes": np.concatenate([_rows(pose["eyes"][:3]), _rows(pose["eyes"][3:])])[None],
                 "jaw": _rows(pose["jaw"])[None], "eyelids": np.zeros((1, 2))}  # fmt: skip
        K = np.array([[[66, 0, 20], [0, 67, 14], [0, 0, 1.0]]])
        opencv = {"R": T[None, :3, :3], "t": T[None, :3, 3], "K": K}
        content = {"flame": flame, "camera": {"fl": np.ones((1, 1))}, "opencv": opencv,
                   "img_size": np.array([HEIGHT, WIDTH]), "frame_id": t, "global_step": 0}  # fmt: skip
        save(content, folder / f"checkpoint/{t:05d}.frame")
        paint(folder / f"input/{t:05d}.png")
    return Known(np.array(pixels), np.array([p.vertices for p in posed]), tuple(posed))


def pixel3dmm(folder: Path, model: HeadModel, save: Any) -> Known:
    """pixel3dmm: OpenGL world to camera, FLAME with its neck, then R and t about the origin."""
    shape, pixels, points = np.random.default_rng(8).normal(size=300), [], []
    size = 64  # the pictures are four times smaller than those tracked
    (folder / "checkpoint").mkdir(parents=True)
    for t in range(FRAMES):
        pose = pose_of(t)
        still = {**pose, "rotation": np.zeros(3), "translation": np.zeros(3)}
        head = posed_by_flame(model, shape, still)
        R, move = rotation(pose["rotation"]), pose["translation"]
        world = head.vertices @ R.T + move
        T = np.linalg.inv(opengl(looking([0, 0.1, 1.0])))
        x, y, z = (world @ T[:3, :3].T + T[:3, 3]).T
        pp = np.array([0.05, -0.02])
        middle = (pp + 1) * (size / 2 + 0.5)
        pixels.append(np.stack([2.5 * size * x / -z + middle[0], middle[1] - 2.5 * size * y / -z], -1))
        points.append(world)
        flame = {"exp": pose["expr"][None], "shape": shape[None], "eyelids": np.zeros((1, 2)),
                 "eyes": np.concatenate([_rows(pose["eyes"][:3]), _rows(pose["eyes"][3:])])[None],
                 "jaw": _rows(pose["jaw"])[None], "neck": _rows(pose["neck"])[None],
                 "R": _rows(pose["rotation"])[None],
                 "R_rotation_matrix": R[None], "t": move[None]}  # fmt: skip
        camera = {
            "R_base_0": T[None, :3, :3],
            "t_base_0": T[None, :3, 3],
            "fl": np.full((1, 1), 2.5),
            "pp": pp[None],
        }
        content = {"flame": flame, "camera": camera, "joint_transforms": head.transforms[None],
                   "img_size": [256, 256], "frame_id": t, "global_step": 0}  # fmt: skip
        save(content, folder / f"checkpoint/{t:05d}.frame")
        paint(folder / f"cropped/{t:05d}.jpg", size=(size, size))
    return Known(np.array(pixels), np.array(points))


def nersemble(folder: Path, old: bool = False) -> Known:
    """NeRSemble: OpenCV world to camera at 2200 x 3208, pictures at a hundredth of it."""
    serials = ("222200037", "222200042")
    points = np.random.default_rng(5).normal(size=(5, 3)) * 0.1
    matrices = {s: np.linalg.inv(looking([0.5 * i, 0, 1.0])) for i, s in enumerate(serials)}
    content = {"world_2_cam": matrices, "intrinsics": [[8000, 0, 1100], [0, 8000, 1604], [0, 0, 1]]}
    sequence = folder if old else folder / "sequences/EMO-1"
    dump((sequence if old else folder / "calibration") / "camera_params.json", content)
    pixels = []
    for t in range(2):
        for serial in sorted(serials, key=["222200042", "222200037"].index):
            x, y, z = (points @ matrices[serial][:3, :3].T + matrices[serial][:3, 3]).T
            pixels.append(np.stack([(8000 * x / z + 1100) / 100, (8000 * y / z + 1604) / 3208 * 32], -1))
            paint(sequence / f"images/cam_{serial}_{t:05d}.jpg", size=(22, 32))
    return Known(np.array(pixels), np.broadcast_to(points, (4, 5, 3)))


def _still(t: int, jaw: bool = False) -> dict[str, np.ndarray]:
    pose = pose_of(t)
    zero = np.zeros(3)
    eyes = pose["eyes"] if jaw else np.zeros(6)
    return {
        **pose,
        "rotation": zero,
        "neck": zero,
        "translation": zero,
        "jaw": pose["jaw"] if jaw else zero,
        "eyes": eyes,
    }


def _rows(vector: np.ndarray) -> np.ndarray:
    """(6,) the first two rows of the rotation matrix."""
    return rotation(vector)[:2].reshape(6)
