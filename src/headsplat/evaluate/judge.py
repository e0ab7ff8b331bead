"""Compare a method's picture with the true one: every metric, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headsplat.clip import Frame
from headsplat.evaluate import metrics
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.observe import GREY, Reading, find_points, read_points
from headsplat.evaluate.predict import Prediction
from headsplat.track import landmarks as lm

_BEST_PSNR = 100.0
"""Decibels written for equal pictures; JSON knows no infinity."""
_MOUTH, _EYES = 0.06, 0.04
"""How far the regions reach beyond lips and lids, as a share of the face's height."""
_NO_FACE = "no face found in the result"


@dataclass(frozen=True)
class Metric:
    """A column: its heading, whether more is better, and the digits to print."""

    name: str
    heading: str
    more_is_better: bool | None
    digits: int


METRICS = (
    Metric("face_psnr", "face PSNR", True, 2),
    Metric("face_ssim", "face SSIM", True, 3),
    Metric("mouth_psnr", "mouth PSNR", True, 2),
    Metric("eyes_psnr", "eyes PSNR", True, 2),
    Metric("psnr", "PSNR", True, 2),
    Metric("ssim", "SSIM", True, 3),
    Metric("ms_ssim", "MS-SSIM", True, 3),
    Metric("lpips", "LPIPS", False, 3),
    Metric("csim", "CSIM", True, 3),
    Metric("akd", "AKD", False, 2),
    Metric("aed", "AED", False, 3),
    Metric("apd", "APD", False, 2),
    Metric("matte_iou", "matte IoU", True, 3),
    Metric("seen_psnr", "seen PSNR", True, 2),
    Metric("unseen_psnr", "unseen PSNR", True, 2),
    Metric("jitter", "jitter", None, 3),
    Metric("driver_jitter", "driver's jitter", None, 3),
)


@dataclass(frozen=True)
class Truth:
    """What a prediction is compared with.

    Attributes:
        image: (H, W, 3) over grey; None for another person's motion, where no true picture exists.
        alpha: (H, W).
        valid: (H, W) bool, pixels that the original picture covers.
        points: (478, 2) detected in the original picture; None = no face to see.
        reading: expression and pose of these points, with the identity of the person whose points they are.
        identity: tracked frame of the person in the prediction.
        focal: focal length in pixels with which the prediction is read.
        person: picture (H, W, 3) and points (478, 2) of who it should be, for CSIM.
        seen: (H, W) bool, what of the person the source saw too; None = unknown.
    """

    image: np.ndarray | None
    alpha: np.ndarray
    valid: np.ndarray
    points: np.ndarray | None
    reading: Reading | None
    identity: Frame
    focal: float
    person: tuple[np.ndarray, np.ndarray] | None
    seen: np.ndarray | None = None


@dataclass(frozen=True)
class Verdict:
    """Scores by metric, reasons for metrics without one, and the face points found (478, 2) or None."""

    scores: dict[str, float]
    missing: dict[str, str]
    points: np.ndarray | None


def judge(prediction: Prediction, truth: Truth, networks: Networks) -> Verdict:
    """Measure one picture."""
    scores: dict[str, float] = {}
    missing: dict[str, str] = {}
    if truth.image is None:
        picture = ("face_psnr face_ssim mouth_psnr eyes_psnr psnr ssim ms_ssim lpips matte_iou akd").split()
        missing |= dict.fromkeys(picture, "another person's motion has no true picture")
    else:
        _judge_picture(prediction, truth, truth.image, networks, scores, missing)
    if truth.seen is None:
        missing |= dict.fromkeys(("seen_psnr", "unseen_psnr"), "only known for truth with geometry")
    found = None if truth.points is None else find_points(prediction.image, truth.points)
    if truth.points is None:
        missing |= dict.fromkeys(("akd", "aed", "apd", "csim"), "no face to see in the target")
    elif found is None:
        missing |= dict.fromkeys(("akd", "aed", "apd", "csim"), _NO_FACE)
    else:
        if truth.image is not None:
            scores["akd"] = metrics.keypoint_distance(found[: lm.MESH], truth.points[: lm.MESH])
        if truth.reading is not None:
            read = read_points(truth.identity, found, truth.focal, len(prediction.image))
            scores["aed"] = metrics.expression_distance(read.expression, truth.reading.expression)
            scores["apd"] = metrics.pose_distance(read.rotation, truth.reading.rotation)
        reason = networks.why_no_csim() or (None if truth.person else "nobody to compare with")
        if reason or truth.person is None:
            missing["csim"] = reason or ""
        else:
            scores["csim"] = networks.csim(prediction.image, found, *truth.person)
    return Verdict({name: float(v) for name, v in scores.items()}, missing, found)


def regions(points: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """(H, W) bool masks by name: the hull of the face, the mouth and both eyes with a rim."""
    import cv2

    def hull(chosen: np.ndarray) -> np.ndarray:
        polygon = cv2.convexHull(chosen.astype(np.int32))
        return cv2.fillConvexPoly(np.zeros(shape, np.uint8), polygon, (1,))

    def grown(mask: np.ndarray, share: float) -> np.ndarray:
        radius = round(share * lm.face_height(points))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        return cv2.dilate(mask, disc) > 0

    return {
        "face": hull(points[: lm.MESH]) > 0,
        "mouth": grown(hull(points[lm.LIPS_OUTER]), _MOUTH),
        "eyes": grown(hull(points[lm.EYE_RIGHT]) | hull(points[lm.EYE_LEFT]), _EYES),
    }


def _judge_picture(
    prediction: Prediction,
    truth: Truth,
    image: np.ndarray,
    networks: Networks,
    scores: dict[str, float],
    missing: dict[str, str],
) -> None:
    """Metrics against the true picture; pixels outside the original picture are grey in both."""
    outside = ~truth.valid[..., None]
    drawn = np.where(outside, np.float32(GREY), prediction.image)
    target = np.where(outside, np.float32(GREY), image)
    similarity = metrics.similarity(drawn, target)
    if truth.points is None:
        names = ("face_psnr", "face_ssim", "mouth_psnr", "eyes_psnr")
        missing |= dict.fromkeys(names, "no face to see in the target")
    else:
        masks = {k: m & truth.valid for k, m in regions(truth.points, truth.valid.shape).items()}
        for name, mask in masks.items():
            _put(scores, missing, f"{name}_psnr", metrics.psnr(drawn, target, mask))
        _put(scores, missing, "face_ssim", similarity.mean(masks["face"]))
    if truth.seen is not None:
        person = (truth.alpha > 0.5) & truth.valid
        _put(scores, missing, "seen_psnr", metrics.psnr(drawn, target, person & truth.seen))
        _put(scores, missing, "unseen_psnr", metrics.psnr(drawn, target, person & ~truth.seen))
    _put(scores, missing, "psnr", metrics.psnr(drawn, target))
    scores["ssim"] = similarity.mean()
    if min(target.shape[:2]) >= 176:
        scores["ms_ssim"] = metrics.ms_ssim(drawn, target, similarity)
    else:
        missing["ms_ssim"] = "pictures under 176 pixels"
    scores["matte_iou"] = metrics.matte_iou(prediction.alpha, truth.alpha, truth.valid)
    reason = networks.why_no_lpips()
    if reason:
        missing["lpips"] = reason
    else:
        scores["lpips"] = networks.lpips(drawn, target)


def _put(scores: dict[str, float], missing: dict[str, str], name: str, value: float) -> None:
    if np.isnan(value):
        missing[name] = "no such pixels in the target"
    else:
        scores[name] = min(value, _BEST_PSNR)
