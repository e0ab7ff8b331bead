"""Refinement: gradient steps on what the photos show, held back where they would learn falsehoods.

A better fit is not a better avatar: without the locks below the fit gains 6 dB and the lids learn lashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from headsplat.camera import Camera
from headsplat.gaussians import Gaussians, quat_to_matrix, subset
from headsplat.raster import cpu

LEAST_SHARE = 0.02
"""Pixels of picture that a Gaussian must carry to be refined."""
RATES = {"colours": 0.03, "opacity": 0.08, "size": 0.03, "offset": 1e-4}
LONGEST = 6.5


@dataclass(frozen=True)
class Freedom:
    """How freely each of N Gaussians may change.

    Attributes:
        colour: (N,) 0..1 factor of the steps in colour.
        shape: (N,) 0..1 factor of the steps in opacity, size and place.
        stay: (N,) pull of the colour towards its start.
        reach: (N,) largest change of a colour channel.
    """

    colour: np.ndarray
    shape: np.ndarray
    stay: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class Changes:
    """Result for M refined Gaussians.

    Attributes:
        index: (M,) which.
        colours: (M, 3) new.
        opacities: (M,) new.
        log_scales: (M, 3) change of the log sizes.
        offsets: (M, 3) shift along the Gaussian's own axes, metres.
        share: (N,) pixels of picture that each of all N Gaussians carried at most at the start.
    """

    index: np.ndarray
    colours: np.ndarray
    opacities: np.ndarray
    log_scales: np.ndarray
    offsets: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Shot:
    """A picture to refine against.

    Attributes:
        posed: all N Gaussians as they stand in it, in the same order in every shot.
        camera: its camera.
        foreground: (H, W, 3) the person's own colours.
        alpha: (H, W) the matte.
        learn: (H, W) 0..1, how much to learn from each pixel.
    """

    posed: Gaussians
    camera: Camera
    foreground: np.ndarray
    alpha: np.ndarray
    learn: np.ndarray


def picture_share(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of picture that each Gaussian carries (N,), and how many of them can be learned from."""
    frame = cpu.forward(shot.posed, shot.camera, np.zeros(3, np.float32), depth=False)
    ones = np.ones_like(frame.image)
    ones[..., 1] = shot.learn
    share = cpu.backward(frame, ones).features
    return share[:, 0], share[:, 1]


def refine(shots: Sequence[Shot], freedom: Freedom, steps: int, seed: int = 0) -> Changes:
    """Adam on colour, opacity, size and place against photos over random greys, one photo per step.

    What is learned belongs to a Gaussian's own axes, so one change serves all shots.

    Args:
        shots: at least one; the photos take turns.
        freedom: of every Gaussian.
        steps: how many.
        seed: of the random greys.
    """
    shares = [picture_share(shot) for shot in shots]
    share = np.max([own for _, own in shares], 0)
    index = np.flatnonzero(share > LEAST_SHARE)
    # A Gaussian half outside what can be learnt would be bent to fit the other half.
    inside = np.max([np.clip(own / np.maximum(total, 1e-6), 0, 1) for total, own in shares], 0)[index] ** 4
    weight = (np.clip((share[index] - LEAST_SHARE) / 0.4, 0, 1) * inside)[:, None].astype(np.float32)
    shape_weight = weight * freedom.shape[index, None].astype(np.float32)
    weights = {
        "colours": weight * freedom.colour[index, None].astype(np.float32),
        "opacity": shape_weight,
        "size": shape_weight,
        "offset": shape_weight,
    }
    stay = freedom.stay[index, None].astype(np.float32)
    reach = freedom.reach[index, None].astype(np.float32)

    scenes = [_Scene.of(shot, index) for shot in shots]
    active = scenes[0].active
    colours0 = active.features.astype(np.float32)
    logit0 = _logit(np.clip(active.opacities, 0.02, 0.985))[:, None].astype(np.float32)
    scales0 = active.scales.astype(np.float32)
    typical = float(scales0.mean())
    farthest = np.minimum(1.2 * scales0.max(1, keepdims=True), 0.0015)
    n = len(index)
    state = {
        "colours": colours0.copy(),
        "opacity": logit0.copy(),
        "size": np.zeros((n, 3), np.float32),
        "offset": np.zeros((n, 3), np.float32),
    }
    first = {k: np.zeros_like(v) for k, v in state.items()}
    second = {k: np.zeros_like(v) for k, v in state.items()}
    low, high = np.clip(colours0 - reach, 0, 1), np.clip(colours0 + reach, 0, 1)
    flat0 = np.log(scales0[:, :2])
    shortest0 = np.minimum(flat0[:, :1], flat0[:, 1:])
    rng = np.random.default_rng(seed)
    for step in range(steps):
        scene = scenes[step % len(scenes)]
        pixels = scene.pixels
        grey = np.full(3, rng.uniform(), np.float32)
        scales = scene.active.scales.astype(np.float32) * np.exp(state["size"])
        opacities = 1 / (1 + np.exp(-state["opacity"][:, 0]))
        means = scene.active.means + np.einsum("nij,nj->ni", scene.axes, state["offset"])
        frame = cpu.forward(
            Gaussians(means, scene.active.quats, scales, opacities, state["colours"]),
            scene.camera,
            grey,
            depth=False,
        )
        target = scene.foreground * scene.alpha[..., None] + (1 - scene.alpha[..., None]) * grey
        slope = np.sign(frame.image - target) * (scene.learn[..., None] * np.float32(0.8 / (3 * pixels)))
        if step // len(scenes) % 2 == 0:
            gain = np.float32(0.4 / (3 * pixels))
            slope -= gain * ssim_gradient(frame.image, target, scene.learn)
        slope_alpha = np.sign(frame.alpha - scene.alpha) * scene.learn * np.float32(0.5 / pixels)
        g = cpu.backward(frame, slope, slope_alpha)
        slopes = {
            "colours": g.features * pixels + stay * (state["colours"] - colours0),
            "opacity": (g.opacities * pixels * opacities * (1 - opacities))[:, None]
            + 0.05 * (state["opacity"] - logit0),
            "size": g.scales * pixels * scales + 0.1 * state["size"],
            "offset": np.einsum("nji,nj->ni", scene.axes, g.means) * (pixels * typical)
            + 0.3 * state["offset"] / typical,
        }
        pace = 0.1 + 0.45 * (1 + np.cos(np.pi * step / steps))
        for name, values in state.items():
            m, v, slope_of = first[name], second[name], slopes[name]
            m += np.float32(0.1) * (slope_of - m)
            v += np.float32(0.01) * (slope_of * slope_of - v)
            change = (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.99 ** (step + 1))) + 2e-3)
            values -= (RATES[name] * pace * weights[name] * change).astype(np.float32)
        np.clip(state["colours"], low, high, out=state["colours"])
        np.clip(state["size"], -0.7, 0.5, out=state["size"])
        np.clip(state["offset"], -farthest, farthest, out=state["offset"])
        flat = flat0 + state["size"][:, :2]
        shortest = np.maximum(np.maximum(flat[:, :1], flat[:, 1:]) - np.float32(np.log(LONGEST)), shortest0)
        state["size"][:, :2] += np.maximum(shortest - flat, 0)
    return Changes(
        index,
        state["colours"],
        1 / (1 + np.exp(-state["opacity"][:, 0])),
        state["size"],
        state["offset"],
        share,
    )


@dataclass(frozen=True)
class _Scene:
    """A shot cut to the part that holds the person, for nothing changes far from her; active Gaussians."""

    active: Gaussians
    axes: np.ndarray
    camera: Camera
    foreground: np.ndarray
    alpha: np.ndarray
    learn: np.ndarray
    pixels: float

    @staticmethod
    def of(shot: Shot, index: np.ndarray) -> _Scene:
        active = subset(shot.posed, index)
        rows, columns = _window(shot.alpha)
        width, height = columns.stop - columns.start, rows.stop - rows.start
        return _Scene(
            active=active,
            axes=quat_to_matrix(active.quats).astype(np.float32),
            camera=shot.camera.crop(columns.start, rows.start, width, height),
            foreground=shot.foreground[rows, columns],
            alpha=shot.alpha[rows, columns],
            learn=shot.learn[rows, columns].astype(np.float32),
            pixels=float(shot.alpha.size),
        )


def ssim_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W, C) structural similarity, 11 x 11 Gaussian window of 1.5 px (Wang et al. 2004)."""
    return _ssim_terms(x, y)[0]


def ssim_gradient(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Gradient (H, W, C) by x of the sum over pixels of weight times SSIM."""
    s, mx, my, a1, a2, b1, b2 = _ssim_terms(x, y)
    weight = weight[..., None]
    by_cross = weight * 2 * a1 / (b1 * b2)
    by_square = -weight * s / b2
    by_mean = weight * (2 * my * a2 / (b1 * b2) - 2 * mx * s / b1) - 2 * mx * by_square - my * by_cross
    return _window_mean(by_mean) + 2 * x * _window_mean(by_square) + y * _window_mean(by_cross)


def _ssim_terms(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    mx, my = _window_mean(x), _window_mean(y)
    a1, b1 = 2 * mx * my + 1e-4, mx * mx + my * my + 1e-4
    a2 = 2 * (_window_mean(x * y) - mx * my) + 9e-4
    b2 = _window_mean(x * x + y * y) - mx * mx - my * my + 9e-4
    return a1 * a2 / (b1 * b2), mx, my, a1, a2, b1, b2


def _window_mean(picture: np.ndarray) -> np.ndarray:
    # Zeros beyond the edge make the filter its own adjoint, which the gradient relies on.
    return cv2.GaussianBlur(picture, (11, 11), 1.5, borderType=cv2.BORDER_CONSTANT)


def _window(alpha: np.ndarray) -> tuple[slice, slice]:
    """The part of the picture that holds the person, with a margin for stray Gaussians and the filter."""
    return _span((alpha > 0.02).any(1)), _span((alpha > 0.02).any(0))


def _span(used: np.ndarray, margin: int = 12) -> slice:
    ends = np.flatnonzero(used)
    return slice(max(0, int(ends[0]) - margin), min(len(used), int(ends[-1]) + margin + 1))


def _logit(x: np.ndarray) -> np.ndarray:
    return np.log(x / (1 - x))
