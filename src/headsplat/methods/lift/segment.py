"""Which pixels of the person are hair, skin or clothes, from colours and the head model alone.

Hats and scarves come out as hair: lift needs to know what is rigid with the head and not its surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from headsplat.methods.lift.numeric import lab
from headsplat.methods.lift.view import LEFT_BROW, LEFT_EYE, LIPS, RIGHT_BROW, RIGHT_EYE, View, grow

FLOOR = -22.0
"""Log density under which a colour counts as simply unknown."""


@dataclass(frozen=True)
class Segments:
    """Soft classes of every pixel, and what was learnt on the way.

    Attributes:
        hair: (H, W) 0..1 posterior times matte.
        skin: (H, W) 0..1 posterior.
        clothes: (H, W) 0..1 posterior.
        sure_skin: (H, W) bool, cheeks and nose free of features and hair.
        skin_colour: (3,) median of the sure skin.
        no_hair: the photo shows no hair to speak of.
        glasses: (H, W) 0..1 a frame before the face, or None.
    """

    hair: np.ndarray
    skin: np.ndarray
    clothes: np.ndarray
    sure_skin: np.ndarray
    skin_colour: np.ndarray
    no_hair: bool
    glasses: np.ndarray | None = None


@dataclass(frozen=True)
class Sight:
    """One photo as lift works with it.

    Attributes:
        view: what it shows of the head.
        segments: what its pixels are.
    """

    view: View
    segments: Segments


class ColourModel:
    """A mixture of up to five normal distributions in Lab."""

    def __init__(self, colours: np.ndarray, parts: int = 5):
        colours = colours.astype(np.float32)
        if len(colours) > 6000:
            colours = colours[np.random.default_rng(0).choice(len(colours), 6000, replace=False)]
        parts = max(1, min(parts, len(colours) // 50))
        cv2.setRNGSeed(1)
        _, label, _ = cv2.kmeans(colours, parts, None, (3, 20, 0.1), 2, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
        self.parts = []
        for k in range(parts):
            own = colours[label[:, 0] == k]
            if len(own) < 8:
                continue
            covariance = np.cov(own.T) + np.diag([9.0, 4.0, 4.0])
            whiten = np.linalg.inv(np.linalg.cholesky(covariance))
            constant = (
                np.log(len(own) / len(colours)) + np.log(np.diag(whiten)).sum() - 1.5 * np.log(2 * np.pi)
            )
            self.parts.append((own.mean(0), whiten.astype(np.float32), constant))

    def log_density(self, colours: np.ndarray) -> np.ndarray:
        """Log density of (..., 3) Lab colours."""
        terms = []
        for mean, whiten, constant in self.parts:
            z = (colours - mean.astype(np.float32)) @ whiten.T
            terms.append(constant - 0.5 * np.einsum("...i,...i", z, z))
        return (
            np.logaddexp.reduce(np.array(terms), 0) - 5.5
        )  # offset: densities of Lab units, so that FLOOR works


def segment(view: View) -> Segments:
    """Split the matte into hair, skin and clothes."""
    frame, regions = view.frame, view.regions
    height, side, oval = view.height, view.side, view.oval
    colours = lab(frame.foreground)
    on_mesh = view.face >= 0
    behind = view.per_pixel(regions.behind, -1.0)
    torso = view.per_pixel(regions.body.astype(np.float64), 0.0) > 0.99
    ear = view.per_pixel(regions.ear.astype(np.float64), 0.0) > 0.01
    solid = (frame.alpha > 0.9) & frame.valid

    features = np.zeros(view.shape, np.uint8)
    for points in (RIGHT_BROW, LEFT_BROW, RIGHT_EYE, LEFT_EYE, LIPS):
        features |= view.hull(points)
    features = grow(features, 4)
    landmarks = frame.landmarks
    y, x = np.clip(landmarks[list(RIGHT_BROW + LEFT_BROW)].astype(int), 0, np.array(view.shape)[::-1] - 1).T[
        ::-1
    ]
    brows = float(height[y, x].mean())

    # Skin for sure: cheeks and nose, above any beard and below any fringe.
    sure = (grow(oval, -6) > 0) & (features == 0) & (height > 0.25) & (height < brows + 0.02) & solid
    if sure.sum() < 200:
        sure = (grow(oval, -6) > 0) & (features == 0) & (height > 0.1) & (height < brows + 0.1)
    # A lock across the cheek is no skin: keep what is not far darker than most.
    level = colours[..., 0]
    middle = np.median(level[sure])
    spread = 1.48 * np.median(abs(level[sure] - middle)) + 4
    sure &= level > middle - 2.5 * spread
    skin_model = ColourModel(colours[sure])
    log_skin = skin_model.log_density(colours)
    threshold = np.percentile(log_skin[sure], 3)

    above = solid & (((height > 0.0) & ~on_mesh & (side > 0.3)) | (height > 0.35))
    above &= (~on_mesh | ((behind > 0.004) & ~ear)) & (grow(oval, 2) == 0)
    hair_seed = above & (log_skin < threshold - 1)
    tall = solid & ~on_mesh & (height > 0.6)
    if hair_seed.sum() < 0.02 * view.size**2 and tall.sum() > 0.08 * view.size**2:
        hair_seed = tall  # of the skin's own tones, as in black and white, but no skull stands so high
    no_hair = bool(hair_seed.sum() < 0.02 * view.size**2)

    def density(seed: np.ndarray, otherwise: float) -> np.ndarray:
        if seed.sum() <= 100:
            return np.full(view.shape, otherwise, np.float32)
        return np.maximum(ColourModel(colours[seed]).log_density(colours), FLOOR)

    log_hair = density(hair_seed, FLOOR - 3)
    below = solid & (height < -0.28) & ((side > 0.35) | (height < -0.55))
    collar = 0.0  # how much higher than usual clothes may begin
    if below.sum() < 0.02 * view.size**2:  # a tight crop: the lowest rows beside the neck
        lowest = float(height[solid].min()) if solid.any() else 0.0
        below = solid & (height < min(lowest + 0.10, 0.0)) & (side > 0.25)
        hanging = hair_seed & ~on_mesh & (height > 0.10) & (height < 0.35)
        if hanging.sum() > 0.03 * view.size**2:  # hair may hang down to the cut
            below &= log_hair < np.percentile(log_hair[hair_seed], 8)
        collar = 0.06
    clothes_seed = below & (log_skin < threshold - 1.5)
    if clothes_seed.sum() <= 0.3 * below.sum():
        clothes_seed = below

    log_clothes = density(clothes_seed, FLOOR)
    log_skin = np.maximum(log_skin, FLOOR)

    # Priors from where a pixel lies on the mesh: beard and brows stay on the face, a fringe may leave it.
    face_side = on_mesh & ~torso & (behind <= 0)
    scalp = on_mesh & (behind > 0) & ~ear
    centre = cv2.GaussianBlur(grow(oval, -7).astype(np.float32), (0, 0), 4)
    centre *= _sigmoid((brows + 0.10 - height) / 0.02)
    beard = (on_mesh & ~torso & (behind < -0.01) & (height < 0.45)).astype(np.float32)
    never_hair = np.maximum(centre, 0.97 * beard)

    p_hair = _sigmoid((height + 0.75) / 0.15)
    p_hair *= 0.75 - 0.68 * np.exp(-((side / 0.33) ** 2)) * _sigmoid((0.02 - height) / 0.05)
    p_hair = np.where(face_side, 0.35, p_hair)
    p_hair = np.where(scalp, 0.75, p_hair)
    p_hair = np.where(~on_mesh & (height > 0.3), 0.93, p_hair) * (1 - never_hair)
    beside = np.where((grow(on_mesh, 5) > 0) | (height < 0.05), 0.06, 0.002)  # no skin floats beside the head
    p_skin = np.where(on_mesh, np.where(torso, 0.45, 0.8), beside)
    p_skin = np.where(height < -0.5, 0.25, p_skin)
    p_skin = np.where(scalp, 0.9 if no_hair else 0.25, p_skin)
    p_skin = np.maximum(p_skin, never_hair)
    p_clothes = _sigmoid((collar - 0.10 - height) / 0.05) * np.where(on_mesh & ~torso, 0.1, 0.7) + 1e-4

    score = np.stack([log_hair + np.log(p_hair + 1e-5), log_skin + np.log(p_skin + 1e-5),
                      log_clothes + np.log(p_clothes)], -1)  # fmt: skip
    if no_hair:
        score[..., 0] -= 2
    guide = (np.clip(frame.foreground, 0, 1) * 255).astype(np.uint8)
    for radius, keep, gain in ((6, 0.5, 1.5), (4, 0.0, 1.0)):
        soft = _softmax(score)
        smooth = [
            cv2.ximgproc.guidedFilter(guide, np.ascontiguousarray(soft[..., k]), radius, (0.04 * 255) ** 2)
            for k in range(3)
        ]
        score = keep * score + gain * np.log(np.stack(smooth, -1).clip(1e-4, 1))
    soft = _softmax(score)
    stray = _stray_hair(soft[..., 0], on_mesh & ~torso & (behind < 0), view.size)
    soft[..., 1] += soft[..., 0] * stray
    soft[..., 0] *= 1 - stray
    return Segments(
        hair=soft[..., 0] * np.clip(frame.alpha, 0, 1),
        skin=soft[..., 1],
        clothes=soft[..., 2],
        sure_skin=sure,
        skin_colour=np.median(frame.foreground[sure], 0),
        no_hair=no_hair,
    )


def _stray_hair(hair: np.ndarray, face: np.ndarray, size: float) -> np.ndarray:
    """(H, W) 1 on small patches of "hair" that lie on the face alone: moles, shadows, temples of glasses."""
    count, label, stats, _ = cv2.connectedComponentsWithStats((hair > 0.3).astype(np.uint8))
    on_face = np.bincount(label.ravel(), face.ravel().astype(np.float64), count)
    stray = (on_face > 0.7 * stats[:, cv2.CC_STAT_AREA]) & (stats[:, cv2.CC_STAT_AREA] < 0.012 * size**2)
    stray[0] = False
    return cv2.dilate(stray[np.asarray(label, np.intp)].astype(np.float32), np.ones((5, 5)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))


def _softmax(score: np.ndarray) -> np.ndarray:
    top = np.maximum(np.maximum(score[..., 0], score[..., 1]), score[..., 2])
    e = np.exp(score - top[..., None])
    return (e / e.sum(-1, keepdims=True)).astype(np.float32)
