"""The judge: the same head scores best, a missing face or truth is said, regions are where they should be."""

from __future__ import annotations

import numpy as np
import pytest

from headsplat.camera import Camera
from headsplat.clip import Frame
from headsplat.evaluate.judge import METRICS, Truth, judge, regions
from headsplat.evaluate.networks import Networks
from headsplat.evaluate.observe import CROP_SIZE, drive_frame, over_grey, read_points, same_lens
from headsplat.evaluate.predict import Prediction, head_points
from headsplat.evaluate.truth import draw, random_person
from headsplat.track import landmarks as lm

pytest.importorskip("mediapipe")

NETWORKS = Networks()


def photograph(expression: dict[str, float], yaw: float = 0.0) -> np.ndarray:
    camera = Camera.orbit(np.radians(yaw), target=(0, 0.04, 0), focal=3.4 * 512)
    return draw(random_person(11), expression, camera).image


@pytest.fixture(scope="module")
def frames() -> dict[str, Frame]:
    """One painted person, neutral and twice with the jaw further open."""
    from headsplat.track import track_photo

    pictures = {
        "neutral": photograph({}),
        "half": photograph({"jawOpen": 0.35}),
        "open": photograph({"jawOpen": 0.7}, yaw=12),
    }
    return {name: track_photo(picture) for name, picture in pictures.items()}


def truth_of(source: Frame, target: Frame, seen: np.ndarray | None = None) -> Truth:
    focal = same_lens(source, target)
    return Truth(
        image=over_grey(target),
        alpha=target.alpha,
        valid=target.valid,
        points=target.landmarks,
        reading=read_points(source, target.landmarks, focal),
        identity=source,
        focal=focal,
        person=(over_grey(target), target.landmarks),
        seen=seen,
    )


def test_the_true_picture_is_best(frames: dict[str, Frame]) -> None:
    truth = truth_of(frames["neutral"], frames["neutral"])
    same = judge(Prediction(truth.image, truth.alpha), truth, NETWORKS)
    assert same.scores["psnr"] == same.scores["mouth_psnr"] == 100
    assert same.scores["ssim"] == pytest.approx(1) and same.scores["matte_iou"] == 1
    assert same.scores["akd"] < 0.7 and same.scores["apd"] < 1
    other = judge(Prediction(over_grey(frames["half"]), frames["half"].alpha), truth, NETWORKS)
    further = judge(Prediction(over_grey(frames["open"]), frames["open"].alpha), truth, NETWORKS)
    for metric in METRICS:
        if metric.name in same.scores:
            # The half open jaw is seen from the same side, so its pose says nothing.
            chosen = (same, further) if metric.name == "apd" else (same, other, further)
            chain = [v.scores[metric.name] for v in chosen]
            assert (chain if not metric.more_is_better else chain[::-1]) == sorted(chain), metric.name


def test_every_metric_is_a_score_or_has_a_reason(frames: dict[str, Frame]) -> None:
    truth = truth_of(frames["neutral"], frames["half"])
    verdict = judge(Prediction(truth.image, truth.alpha), truth, NETWORKS)
    known = set(verdict.scores) | set(verdict.missing)
    assert known == {m.name for m in METRICS} - {"jitter", "driver_jitter"}
    assert not set(verdict.scores) & set(verdict.missing)
    assert "ArcFace" in verdict.missing["csim"] or "csim" in verdict.scores


def test_a_lost_face_is_said(frames: dict[str, Frame]) -> None:
    truth = truth_of(frames["neutral"], frames["half"])
    grey = np.full_like(truth.image, 0.38)
    verdict = judge(Prediction(grey, np.zeros_like(truth.alpha)), truth, NETWORKS)
    assert verdict.missing["akd"] == verdict.missing["aed"] == "no face found in the result"
    assert verdict.scores["matte_iou"] == 0 and "akd" not in verdict.scores


def test_seen_and_unseen_share_the_person(frames: dict[str, Frame]) -> None:
    frame = frames["half"]
    seen = np.zeros(frame.alpha.shape, bool)
    seen[:, : CROP_SIZE // 2] = True
    truth = truth_of(frames["neutral"], frame, seen)
    drawn = truth.image.copy()
    drawn[:, CROP_SIZE // 2 :] += 0.1
    verdict = judge(Prediction(drawn, truth.alpha), truth, NETWORKS)
    assert verdict.scores["seen_psnr"] == 100
    assert verdict.scores["unseen_psnr"] == pytest.approx(20, abs=1e-3)


def test_pixels_outside_the_photo_do_not_count(frames: dict[str, Frame]) -> None:
    truth = truth_of(frames["neutral"], frames["half"])
    truth.valid[:40] = False
    drawn = truth.image.copy()
    drawn[:40] = 1
    assert judge(Prediction(drawn, truth.alpha), truth, NETWORKS).scores["psnr"] == 100
    truth.valid[:40] = True


def test_regions(frames: dict[str, Frame]) -> None:
    frame = frames["neutral"]
    masks = regions(frame.landmarks, frame.alpha.shape)
    x, y = frame.landmarks[lm.NOSE_TIP].astype(int)
    assert masks["face"][y, x] and not masks["mouth"][y, x] and not masks["eyes"][y, x]
    for name, points in (("mouth", lm.LIPS_OUTER), ("eyes", np.r_[lm.EYE_LEFT, lm.EYE_RIGHT])):
        at = frame.landmarks[points].astype(int)
        assert masks[name][at[:, 1], at[:, 0]].all()
        assert (masks[name] & masks["face"]).sum() > 0.9 * masks[name].sum()
        assert 0.005 < masks[name].sum() / masks["face"].sum() < 0.25


def test_driving_brings_the_head_to_the_target(frames: dict[str, Frame]) -> None:
    source, target = frames["neutral"], frames["open"]
    driven = drive_frame(source, target, focal=same_lens(source, target))
    np.testing.assert_array_equal(driven.shape, source.shape)
    away = np.linalg.norm(head_points(source, driven) - target.landmarks[:468], axis=1)
    before = np.linalg.norm(head_points(source, source) - target.landmarks[:468], axis=1)
    assert away.mean() < 0.5 * before.mean() and away.mean() < 4
