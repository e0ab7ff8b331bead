"""A video whose motion is known comes back as that motion, smooth, and relative to the driver's own rest."""

from pathlib import Path

import numpy as np
import pytest
from painted_head import paint

from headsplat.data.video import VideoWriter
from headsplat.errors import HeadsplatError
from headsplat.motion import Motion, head_turn
from headsplat.track.sequence import fill_gaps
from headsplat.track.smoothing import without_spikes
from headsplat.track.video import track_parameters, track_video, with_blinks

pytest.importorskip("mediapipe")
pytest.importorskip("scipy")

FRAMES = 40


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted head that shakes its head, opens its mouth and blinks once; two frames show nothing."""
    path = tmp_path_factory.mktemp("video") / "known.mp4"
    with VideoWriter(path, fps=25) as video:
        for t in range(FRAMES):
            expression = {"jawOpen": _jaw(t), "eyeBlinkLeft": _blink(t), "eyeBlinkRight": _blink(t)}
            picture = paint(seed=600, yaw=_yaw(t), expression=expression, size=320, focal=750.0).image
            video.write(picture if t not in (17, 18) else np.full_like(picture, 0.5))
    return path


def _yaw(t: int) -> float:
    return 0.35 * np.sin(2 * np.pi * t / FRAMES)


def _jaw(t: int) -> float:
    return 0.8 * max(0.0, np.sin(2 * np.pi * (t - 4) / 20))


def _blink(t: int) -> float:
    return float(np.clip(1.5 - abs(t - 33) / 2, 0, 1))


@pytest.fixture(scope="module")
def motion(clip: Path) -> Motion:
    steps: list[float] = []
    result = track_video(clip, progress=lambda _, share: steps.append(share))
    assert steps == sorted(steps) and steps[-1] == pytest.approx(1)
    return result


def test_head_turn(motion: Motion) -> None:
    assert len(motion) == FRAMES and motion.fps == pytest.approx(25)
    truth = np.array([_yaw(t) for t in range(FRAMES)])
    got = head_turn(motion)[:, 1]
    assert np.corrcoef(truth, got)[0, 1] > 0.98
    assert np.std(got) == pytest.approx(np.std(truth), rel=0.25)


def test_mouth_and_blink(motion: Motion) -> None:
    jaw = motion.weights[:, motion.expressions.index("jawOpen")]
    assert np.corrcoef([_jaw(t) for t in range(FRAMES)], jaw)[0, 1] > 0.9
    assert jaw.min() < 0.1 and jaw.max() > 0.4
    blink = motion.weights[:, motion.expressions.index("eyeBlinkLeft")]
    assert blink[32:35].max() > 0.8 and np.median(blink) < 0.15


def test_missing_frames_are_bridged(clip: Path) -> None:
    track = track_parameters(clip)
    assert set(np.flatnonzero(track.confidence == 0)) == {17, 18}
    assert np.median(track.confidence) > 0.7
    yaw = np.array([pose.rotation[0, 2] for pose in track.fit.poses])
    assert np.abs(np.diff(yaw)).max() < 0.12


def test_no_face(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "grey.mp4") as video:
        for _ in range(5):
            video.write(np.full((64, 64, 3), 0.5, np.float32))
    with pytest.raises(HeadsplatError, match=r"grey\.mp4 shows no face"):
        track_video(tmp_path / "grey.mp4")


def test_gaps_are_filled_in_proportion() -> None:
    known = np.full((6, 2, 2), np.nan)
    known[1], known[4] = 1.0, 4.0
    filled = fill_gaps(known, np.isfinite(known[:, 0, 0]))
    np.testing.assert_allclose(filled[:, 0, 0], [1, 1, 2, 3, 4, 4])


def test_spikes_go_and_movement_stays() -> None:
    smooth = np.sin(np.arange(40) / 5)[:, None] * np.ones((1, 3))
    spoiled = smooth.copy()
    spoiled[20] += 3
    np.testing.assert_allclose(without_spikes(smooth), smooth)
    assert np.abs(without_spikes(spoiled) - smooth).max() < 0.3


def test_blinks_reach_one_only_when_lids_meet() -> None:
    landmarks = np.zeros((10, 478, 2))
    for t in range(10):
        gap = 0.02 if t == 5 else 0.3
        for upper, lower, outer, inner in ((159, 145, 33, 133), (386, 374, 263, 362)):
            landmarks[t, outer], landmarks[t, inner] = [0, 0], [1, 0]
            landmarks[t, upper], landmarks[t, lower] = [0.5, gap], [0.5, 0]
    names = ("eyeBlinkLeft", "eyeBlinkRight")
    still = Motion(np.full((10, 2), 0.1, np.float32), names, np.zeros((10, 0, 3)), (), 25.0)
    weights = with_blinks(still, landmarks).weights
    np.testing.assert_allclose(weights[5], 1)
    np.testing.assert_allclose(np.delete(weights, 5, 0), 0.1)
