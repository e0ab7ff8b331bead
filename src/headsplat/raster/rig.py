"""Animate and draw a rigged avatar in one pass of the CPU kernel, without a cloud in between."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import Gaussians
from headsplat.raster import Render
from headsplat.raster.cpu import _kernel, camera_arrays, float_array
from headsplat.raster.rules import THREE_DGS, Rules


class Offsets(Protocol):
    """Per-expression changes of some Gaussians, as `headsplat.avatar.SparseOffsets` holds them."""

    @property
    def starts(self) -> np.ndarray: ...  # noqa: D102
    @property
    def index(self) -> np.ndarray: ...  # noqa: D102
    @property
    def values(self) -> np.ndarray: ...  # noqa: D102


class Rigged(Protocol):
    """What drawing needs of an avatar; `headsplat.avatar.Avatar` has it."""

    @property
    def gaussians(self) -> Gaussians: ...  # noqa: D102
    @property
    def skin_joints(self) -> np.ndarray: ...  # noqa: D102
    @property
    def skin_weights(self) -> np.ndarray: ...  # noqa: D102
    @property
    def joint_rest(self) -> np.ndarray: ...  # noqa: D102
    @property
    def expressions(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def expression_means(self) -> Offsets: ...  # noqa: D102
    @property
    def expression_frames(self) -> Offsets | None: ...  # noqa: D102
    @property
    def expression_appearance(self) -> Offsets | None: ...  # noqa: D102


class RigRenderer:
    """An avatar packed once for drawing many frames.

    Each frame adds the changes of the expressions whose weight is not zero, skins centres and rotations, and
    projects, block by block in the cache. The picture is that of `rasterize(avatar.animate(...), camera)`
    with expression changes kept as half floats (a change of 1 cm is true to 4 micrometres) and otherwise
    float32.

        renderer = RigRenderer(avatar)
        weights = avatar.weights({"jawOpen": 0.5})
        render = renderer.render(weights, avatar.joint_transforms({"head": [0, 0.3, 0]}), camera)
    """

    def __init__(self, avatar: Rigged):
        """Pack `avatar` (a few milliseconds for 80,000 Gaussians); it is copied and not kept.

        Raises:
            HeadsplatError: arrays of the avatar do not fit together.
        """
        g = avatar.gaussians.check()
        self._count, self._channels = g.features.shape
        self._expressions, self._joints = len(avatar.expressions), len(avatar.joint_rest)
        skin_joints = np.ascontiguousarray(avatar.skin_joints, np.uint8)
        skin_weights = float_array(avatar.skin_weights)
        if skin_joints.shape != (self._count, 4) or skin_weights.shape != (self._count, 4):
            raise HeadsplatError("The avatar's skin does not belong to its Gaussians; it is damaged.")
        if self._count and skin_joints.max() >= self._joints:
            raise HeadsplatError("The avatar's skin names a joint that does not exist; it is damaged.")
        self._rig = _kernel.pack_rig(
            float_array(g.means),
            float_array(g.quats),
            float_array(g.scales),
            float_array(g.opacities),
            float_array(g.features),
            skin_joints,
            skin_weights,
            self._table(avatar.expression_means, 3),
            self._table(avatar.expression_frames, 6),
            self._table(avatar.expression_appearance, self._channels + 1),
        )

    def render(
        self,
        weights: np.ndarray | None,
        joint_transforms: np.ndarray | None,
        camera: Camera,
        *,
        background: np.ndarray | None = None,
        depth: bool = False,
        rules: Rules = THREE_DGS,
        threads: int | None = None,
    ) -> Render:
        """Draw one pose.

        Args:
            weights: (E,) expression weights in the avatar's order, from `avatar.weights`; None = neutral.
            joint_transforms: (J, 4, 4) `T_world_rest` from `avatar.joint_transforms`; None = at rest.
            camera: where from.
            background: (C,), default zeros.
            depth: also draw the depth.
            rules: the compositing rules.
            threads: at most this many; default all.

        Raises:
            HeadsplatError: wrong shapes or an impossible picture size.
        """
        w = np.zeros(self._expressions, np.float32) if weights is None else float_array(weights)
        T = None if joint_transforms is None else float_array(joint_transforms)
        color = np.zeros(self._channels, np.float32) if background is None else float_array(background)
        if w.shape != (self._expressions,):
            raise HeadsplatError(
                f"Expected {self._expressions} expression weights, got an array of {w.shape}."
            )
        if T is not None and T.shape != (self._joints, 4, 4):
            raise HeadsplatError(
                f"Expected {self._joints} joint transforms of 4 x 4, got an array of {T.shape}."
            )
        if color.shape != (self._channels,):
            raise HeadsplatError(f"The background has shape {color.shape}; give ({self._channels},) numbers.")
        return Render(
            *_kernel.render_rig(
                self._rig,
                w,
                T,
                *camera_arrays(camera),
                camera.width,
                camera.height,
                color,
                rules.as_array(),
                depth,
                threads or 0,
            )
        )

    def _table(self, offsets: Offsets | None, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        if offsets is None or len(offsets.index) == 0:
            return None
        starts = np.ascontiguousarray(offsets.starts, np.int64)
        index = np.ascontiguousarray(offsets.index, np.int32)
        values = np.ascontiguousarray(offsets.values, np.float16)
        rows = len(index)
        fits = (
            starts.shape == (self._expressions + 1,) and values.shape == (rows, k) and index.shape == (rows,)
        )
        fits = fits and starts[0] == 0 and starts[-1] == rows and (np.diff(starts) >= 0).all()
        if not fits or index.min() < 0 or index.max() >= self._count:
            raise HeadsplatError("The avatar's expression tables do not fit its Gaussians; it is damaged.")
        return starts, index, values.view(np.uint16)
