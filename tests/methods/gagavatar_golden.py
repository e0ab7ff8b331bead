"""The golden numbers of GAGAvatar: how to rebuild their inputs, and how to hold something against them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from golden_recipe import FOLDER, recipe

from headsplat.camera import Camera
from headsplat.methods.gagavatar.flame import FlameWithEye, flame_with_eye
from headsplat.methods.gagavatar.geometry import camera_of

INDEX: dict[str, Any] = json.loads((FOLDER / "gagavatar" / "index.json").read_text())
SEED = INDEX["seed"]


@lru_cache
def gold(file: str) -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / "gagavatar" / file))


def draw(name: str, shape: tuple[int, ...], scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(recipe().draw(f"in.{name}", SEED, shape, scale))


def picture(name: str, size: int) -> torch.Tensor:
    return torch.from_numpy(recipe().picture(f"in.{name}", SEED, size))


def made(prefix: str = "", without: str = "\0") -> dict[str, torch.Tensor]:
    """The weights by the recipe whose keys start so, and do not start otherwise."""
    rules = recipe().GAGAVATAR
    return {
        key: torch.from_numpy(recipe().weight(rules, key, shape, SEED))
        for key, shape in INDEX["keys"].items()
        if key.startswith(prefix) and not key.startswith(without)
    }


@lru_cache
def head() -> FlameWithEye:
    return flame_with_eye(recipe().gagavatar_flame(SEED))


def camera(number: int) -> Camera:
    return camera_of(gold("geometry.npz")["transforms"][number])


def rotations_of(pose: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """(..., 5, 3) joint rotations of the field's (..., 6) pose, root and jaw, and (..., 6) eyes, radians."""
    pose, eyes = np.asarray(pose, np.float32), np.asarray(eyes, np.float32)
    parts = [pose[..., :3], np.zeros_like(pose[..., :3]), pose[..., 3:], eyes[..., :3], eyes[..., 3:]]
    return np.stack(parts, -2)


def vertices(number: int) -> np.ndarray:
    """(5023, 3) of one of the three heads, in the network's units."""
    given = gold("flame.npz")
    shaped = head().head.with_shape(given["in.shape"][number])
    turned = rotations_of(given["in.pose"][number], given["in.eyes"][number])
    return 5 * shaped.with_pose(given["in.exp"][number], turned).vertices


def compare(found: dict[str, Any], file: str, *starts: str) -> None:
    """Check that `found` has every array of a golden file, or those that start so, within its tolerance."""
    for name, note in INDEX["arrays"][file].items():
        if starts and not name.startswith(starts):
            continue
        stage, _, kind = name.rpartition(".")
        whole = "of" not in note
        value = found[name if whole else stage]
        value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        assert list(value.shape) == (note["shape"] if whole else note["of"]), name
        value = value.astype(np.float64)
        if kind == "part" and not whole:
            value = recipe().take(value, note["cut"])
        elif not whole:
            value = getattr(value, kind)(tuple(note["over_axes"]))
        error = np.abs(value - gold(file)[name]).max()
        assert error <= note["bar"], f"{name}: off by {error:.2e}, allowed {note['bar']:.2e}"


class Watch:
    """Keeps what modules put out while it is open."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._handles: list[Any] = []

    def __call__(self, module: Any, name: str) -> None:
        self._handles.append(
            module.register_forward_hook(lambda m, args, out: self.found.__setitem__(name, out))
        )

    def inputs(self, module: Any, name: str) -> None:
        self._handles.append(
            module.register_forward_hook(lambda m, args, out: self.found.__setitem__(name, args[0]))
        )

    def close(self) -> dict[str, Any]:
        for handle in self._handles:
            handle.remove()
        return self.found


def splat_slowly(
    means: np.ndarray,
    colours: np.ndarray,
    opacities: np.ndarray,
    scales: np.ndarray,
    quats: np.ndarray,
    camera: Camera,
    *,
    tiles: bool,
) -> np.ndarray:
    view, K = np.asarray(camera.viewmat, np.float64), np.asarray(camera.K, np.float64)
    width, height = camera.width, camera.height
    focal, tangent = K[0, 0], width / 2 / K[0, 0]
    w, x, y, z = quats.astype(np.float64).T
    R = np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )
    root = R * scales[:, None, :].astype(np.float64)
    cov3 = root @ root.transpose(0, 2, 1)
    p = means @ view[:3, :3].T + view[:3, 3]
    image, T = np.zeros((height, width, colours.shape[1])), np.ones((height, width))
    closed = np.zeros((height, width), bool)
    for i in np.argsort(p[:, 2].astype(np.float32), kind="stable"):
        if p[i, 2] <= 0.2:
            continue
        ndc = p[i, :2] / p[i, 2] / tangent
        centre = ((ndc + 1) * [width, height] - 1) / 2
        u, v = np.clip(p[i, :2] / p[i, 2], -1.3 * tangent, 1.3 * tangent)
        J = focal / p[i, 2] * np.array([[1, 0, -u], [0, 1, -v]])
        M = J @ view[:3, :3]
        cov = M @ cov3[i] @ M.T + 0.3 * np.eye(2)
        det, mid = np.linalg.det(cov), 0.5 * np.trace(cov)
        radius = np.ceil(3 * np.sqrt(mid + np.sqrt(max(0.1, mid * mid - det)))) if tiles else width
        low = np.clip((centre - radius) // 16, 0, width // 16).astype(int) * 16
        high = np.clip((centre + radius + 15) // 16, 0, width // 16).astype(int) * 16
        if (high <= low).any():
            continue
        where = np.s_[low[1] : high[1], low[0] : high[0]]
        dy, dx = np.mgrid[where] - centre[::-1, None, None]
        a, b, c = np.array([cov[1, 1], -cov[0, 1], cov[0, 0]]) / det
        power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
        alpha = np.minimum(0.99, opacities[i] * np.exp(power))
        alpha[(power > 0) | (alpha < 1 / 255)] = 0
        after = T[where] * (1 - alpha)
        closed[where] |= after < 1e-4
        weight = np.where(closed[where], 0, alpha * T[where])
        image[where] += weight[..., None] * colours[i]
        T[where] = np.where(closed[where], T[where], after)
    return image
