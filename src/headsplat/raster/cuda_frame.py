"""Whole frames on an NVIDIA GPU, from pose to picture, as a CUDA graph, in batches or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from headsplat.camera import Camera
from headsplat.errors import HeadsplatError
from headsplat.gaussians import matrix_to_quat
from headsplat.raster import Render
from headsplat.raster.cuda import check_rules, gsplat
from headsplat.raster.rig import Rigged
from headsplat.raster.rig_torch import Poses, TorchRig
from headsplat.raster.rules import THREE_DGS, Rules
from headsplat.raster.tile_lists import TILE, grid_of, tile_lists

HOST_BUFFERS = 4  # frames that may be on their way to the GPU at once

Paint = Callable[[Tensor, Tensor], Tensor]


class FrameRenderer:
    """Draws `batch` poses of one avatar per call, all on the GPU, with one small copy to it and none back.

    The work of a frame is recorded once and replayed, so that the host has almost nothing to do. Results stay
    on the GPU, in the same tensors every time: copy what has to outlive the next call.

        renderer = FrameRenderer(avatar, 512, 512)
        for weights, transforms, camera in frames:
            render = renderer.render(weights[None], transforms[None], [camera])

    With `paint=headsplat.networks.painter(avatar.refiner, "cuda")` an avatar's neural renderer is part of the
    recording.
    """

    def __init__(
        self,
        avatar: Rigged,
        width: int,
        height: int,
        *,
        batch: int = 1,
        background: np.ndarray | None = None,
        paint: Paint | None = None,
        rules: Rules = THREE_DGS,
        device: str = "cuda",
    ):
        """Copy `avatar` to the GPU and set buffers aside.

        Args:
            avatar: with N Gaussians and C channels.
            width: of the pictures, pixels.
            height: pixels.
            batch: poses per call.
            background: (C,), or with `paint` (3,); default zeros.
            paint: turns (B, H, W, C) features over nothing and (B, H, W) coverage into (B, H, W, 4) straight
                colours and their coverage; it must not wait for the GPU.
            rules: see `headsplat.raster.cuda.check_rules`.
            device: a CUDA device.

        Raises:
            HeadsplatError: no CUDA, no gsplat, or rules that gsplat does not have.
        """
        self._gsplat = gsplat()
        check_rules(rules)
        from headsplat.raster import rig_triton

        self._animate = rig_triton.animate
        self.width, self.height, self.batch, self.rules = width, height, batch, rules
        self.rig = TorchRig.of(avatar, device)
        self._expressions, self._joints = len(avatar.expressions), self.rig.joints
        means, quats, scales, opacities, features = rig_triton.empty(self.rig, batch)
        self._cloud = (
            means.contiguous(),
            quats.contiguous(),
            scales.contiguous(),
            opacities.contiguous(),
            features.contiguous(),
        )
        self._paint, channels = paint, self.rig.features.shape[1]
        shown = channels if paint is None else 3
        color = np.zeros(shown, np.float32) if background is None else np.asarray(background, np.float32)
        if color.shape != (shown,):
            raise HeadsplatError(
                f"This avatar's pictures have {shown} channels; give a background of as many."
            )
        self._color = torch.from_numpy(color).to(device)
        behind = self._color if paint is None else self._color.new_zeros(channels)
        self._background = behind.expand(batch, 1, channels).contiguous()

        sizes = [self._expressions, 12 * self._joints, 4 * self._joints, 16, 9]
        self._ends = np.cumsum([size * batch for size in sizes])
        self._inputs = torch.zeros(int(self._ends[-1]), device=device)
        self._hosts = [torch.zeros(int(self._ends[-1])).pin_memory() for _ in range(HOST_BUFFERS)]
        self._copied = [torch.cuda.Event() for _ in range(HOST_BUFFERS)]
        self._pairs_host = torch.zeros(1, dtype=torch.int64).pin_memory()
        self._calls = 0
        self.capacity = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._out: tuple[Tensor, Tensor, Tensor] | None = None

    def render(
        self, weights: np.ndarray, transforms: np.ndarray, cameras: list[Camera], *, check: bool = False
    ) -> Render:
        """Draw B poses.

        Args:
            weights: (B, E) expression weights.
            transforms: (B, J, 4, 4) `T_world_rest` of the joints.
            cameras: B cameras of the renderer's picture size.
            check: wait for the result and draw again if splats did not all fit the tile lists. They are made
                half as long again as the fullest frame needed, and longer when a later frame comes near that;
                without the check a frame that jumps far beyond is drawn incompletely once.

        Returns:
            Images (B, H, W, C), painted ones (B, H, W, 3), and alpha (B, H, W) on the GPU, no depth.
        """
        self._upload(weights, transforms, cameras)
        if self._out is None or int(self._pairs_host) > 0.9 * self.capacity:
            self._record()
        self._replay()
        if check:
            torch.cuda.current_stream().synchronize()
            if int(self._pairs_host) > self.capacity:
                self._record()
                self._replay()
        assert self._out is not None
        return Render(self._out[0], self._out[1], None)

    def stream(self, frames: Iterable[tuple[np.ndarray, np.ndarray, Camera]]) -> Iterator[Render]:
        """Draw (weights (E,), transforms (J, 4, 4), camera) one after the other, `batch` in a launch.

        Yields:
            One picture (H, W, C) and its alpha (H, W) each, on the GPU, valid until `batch` later ones are
            asked for.
        """
        waiting: list[tuple[np.ndarray, np.ndarray, Camera]] = []
        for frame in frames:
            waiting.append(frame)
            if len(waiting) == self.batch:
                yield from self._draw_waiting(waiting)
                waiting = []
        if waiting:
            yield from self._draw_waiting(waiting)

    def _draw_waiting(self, waiting: list[tuple[np.ndarray, np.ndarray, Camera]]) -> Iterator[Render]:
        filled = waiting + [waiting[-1]] * (self.batch - len(waiting))
        weights = np.stack([f[0] for f in filled])
        transforms = np.stack([f[1] for f in filled])
        render = self.render(weights, transforms, [f[2] for f in filled])
        for i in range(len(waiting)):
            yield Render(render.image[i], render.alpha[i], None)

    def _upload(self, weights: np.ndarray, transforms: np.ndarray, cameras: list[Camera]) -> None:
        shapes = (weights.shape, transforms.shape, len(cameras))
        if shapes != ((self.batch, self._expressions), (self.batch, self._joints, 4, 4), self.batch):
            raise HeadsplatError(
                f"Expected {self.batch} cameras and as many poses of {self._expressions} weights and "
                f"{self._joints} joints, got arrays of {shapes[0]} and {shapes[1]} with {shapes[2]} cameras."
            )
        if any((c.width, c.height) != (self.width, self.height) for c in cameras):
            raise HeadsplatError(
                f"This renderer draws {self.width} x {self.height} pixels; make another for other sizes."
            )
        turn = self._calls % HOST_BUFFERS
        if self._calls >= HOST_BUFFERS:
            self._copied[turn].synchronize()
        self._calls += 1
        upper = np.asarray(transforms, np.float32)[:, :, :3]
        parts = (
            weights,
            upper,
            matrix_to_quat(upper[..., :3]),
            np.stack([np.asarray(c.viewmat, np.float32) for c in cameras]),
            np.stack([np.asarray(c.K, np.float32) for c in cameras]),
        )
        np.concatenate([np.asarray(p, np.float32).ravel() for p in parts], out=self._hosts[turn].numpy())
        self._inputs.copy_(self._hosts[turn], non_blocking=True)
        self._copied[turn].record()

    def _views(self) -> tuple[Poses, Tensor, Tensor]:
        """The uploaded inputs as poses, viewmats (B, 1, 4, 4) and intrinsics (B, 1, 3, 3)."""
        w, m, q, v, k = torch.tensor_split(self._inputs, [int(e) for e in self._ends[:-1]])
        b = self.batch
        poses = Poses(w.view(b, -1), m.view(b, -1, 12), q.view(b, -1, 4))
        return poses, v.view(b, 1, 4, 4), k.view(b, 1, 3, 3)

    @torch.no_grad()
    def _frame(self, capacity: int) -> tuple[Tensor, Tensor, Tensor]:
        """All device work of one call: images, alpha, number of pairs."""
        poses, viewmats, Ks = self._views()
        means, quats, scales, opacities, features = self._animate(self.rig, poses, self._cloud)
        radii, centers, depths, conics, _ = self._gsplat.fully_fused_projection(
            means,
            None,
            quats,
            scales,
            viewmats,
            Ks,
            self.width,
            self.height,
            eps2d=self.rules.eps2d,
            near_plane=self.rules.near,
            packed=False,
            opacities=opacities,
        )
        columns, rows = grid_of(self.width, self.height)
        begins, ids, pairs = tile_lists(centers[:, 0], radii[:, 0], depths[:, 0], columns, rows, capacity)
        colors, alphas = self._gsplat.rasterize_to_pixels(
            centers,
            conics,
            features[:, None],
            opacities[:, None],
            self.width,
            self.height,
            TILE,
            begins[:, None],
            ids,
            backgrounds=self._background,
        )
        images, cover = colors[:, 0], alphas[:, 0, ..., 0]
        if self._paint is not None:
            painted = self._paint(images, cover)
            colors, cover = painted[..., :3], painted[..., 3]
            images = torch.lerp(self._color.expand_as(colors), colors, cover[..., None])
        return images, cover, pairs

    def _record(self) -> None:
        """Choose how many pairs to make room for, and record the frame."""
        pairs = int(self._frame(1 << 16)[2])
        self.capacity = max(1 << 16, -(-pairs * 3 // 2 // 65536) * 65536)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # compiles and allocates what must not happen while recording
                self._frame(self.capacity)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = self._frame(self.capacity)
            self._pairs_host.copy_(self._out[2].reshape(1), non_blocking=True)
        self._pairs_host.fill_(pairs)

    def _replay(self) -> None:
        assert self._graph is not None
        self._graph.replay()
