"""A film becomes a recording whose parts agree, that says what it does not know and survives a kill."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from painted_head import paint

from headsplat.avatar import Avatar
from headsplat.clip import Frame
from headsplat.data.datasets.native import read_native
from headsplat.data.image import write_image
from headsplat.data.video import VideoWriter
from headsplat.drive import read_motion
from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.motion import head_turn
from headsplat.reconstruct import reconstruct
from headsplat.track.recording import Options, Summary, track_recording

pytest.importorskip("mediapipe")
pytest.importorskip("scipy")

FRAMES, SECOND_SHOT = 44, 12
OPTIONS = Options(size=192)


def _yaw(t: int) -> float:
    return 0.3 * np.sin(2 * np.pi * t / FRAMES)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that turns and talks; frames 20 and 21 show nothing; then a cut to a darker one."""
    path = tmp_path_factory.mktemp("film") / "known.mp4"
    with VideoWriter(path, fps=25) as video:
        for t in range(FRAMES):
            jaw = {"jawOpen": 0.6 * max(0.0, np.sin(t / 3))}
            picture = paint(seed=600, yaw=_yaw(t), expression=jaw, size=256, focal=600.0).image
            video.write(picture if t not in (20, 21) else np.full_like(picture, 0.5))
        other = paint(seed=601, yaw=-0.3, size=256, focal=600.0).image[:, ::-1] * 0.55
        for _ in range(SECOND_SHOT):
            video.write(other)
    return path


@pytest.fixture(scope="module")
def made(film: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    root = tmp_path_factory.mktemp("made") / "recording"
    shares: list[float] = []
    summary = track_recording(film, root, OPTIONS, lambda _, share: shares.append(share))
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    return root, summary


def _digest(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_summary(made: tuple[Path, Summary]) -> None:
    _, summary = made
    assert summary.frames == FRAMES and summary.shots == ((0, FRAMES), (FRAMES, FRAMES + SECOND_SHOT))
    assert summary.shot == 1
    assert {20, 21} <= set(summary.low_confidence_frames) and len(summary.low_confidence_frames) < 6
    assert 0 < summary.landmark_error < 3 and 0 < summary.jitter < 2


def test_parameters_and_pictures_agree(made: tuple[Path, Summary]) -> None:
    dataset = read_native(made[0])
    assert len(dataset) == FRAMES and dataset.fps == pytest.approx(25)
    model = load_free_head()
    person = model.with_shape(dataset.shape)
    camera = dataset.views[0].camera
    unit = np.linalg.norm(dataset.views[0].landmarks[33] - dataset.views[0].landmarks[263])  # type: ignore[index]
    for view in dataset.views:
        np.testing.assert_array_equal(view.camera.viewmat, camera.viewmat)
        posed = person.with_pose(view.expression, view.rotations, view.T_world_root)
        head = posed.transforms[model.joint_names.index("head")]
        np.testing.assert_allclose(head, view.T_world_head, atol=2e-4)
        if view.trusted:
            pixels = view.camera.project(model.landmarks(posed.vertices))[:, :2]
            assert np.linalg.norm(pixels - view.landmarks[:468], axis=1).mean() < 0.06 * unit  # type: ignore[index]
    image, alpha = dataset.load(dataset.views[5])
    assert image.shape == (192, 192, 3) and image[alpha == 0].min() == 1.0
    assert 0.1 < alpha.mean() < 0.7
    assert dataset.test == tuple(range(FRAMES - round(FRAMES / 10), FRAMES))


def test_head_turns_and_the_bust_hardly(made: tuple[Path, Summary]) -> None:
    dataset = read_native(made[0])
    truth = np.array([_yaw(t) for t in range(FRAMES)])
    head = np.array([np.arctan2(v.T_world_head[0, 2], v.T_world_head[2, 2]) for v in dataset.views])
    bust = np.array([np.arctan2(v.T_world_root[0, 2], v.T_world_root[2, 2]) for v in dataset.views])
    assert np.corrcoef(truth, head)[0, 1] > 0.97
    assert np.ptp(bust) < 0.6 * np.ptp(head)


def test_a_recording_drives_an_avatar(made: tuple[Path, Summary]) -> None:
    motion = read_motion(str(made[0]))
    assert len(motion) == FRAMES and motion.fps == pytest.approx(25)
    truth = np.array([_yaw(t) for t in range(FRAMES)])
    jaw = motion.weights[:, motion.expressions.index("jawOpen")]
    assert jaw.max() > jaw.min() + 0.2
    assert motion.root is not None
    bust = np.arctan2(motion.root[:, 0, 2], motion.root[:, 2, 2])
    assert np.corrcoef(truth, head_turn(motion)[:, 1] + bust)[0, 1] > 0.95


def test_stopped_anywhere_it_ends_the_same(film: Path, made: tuple[Path, Summary], tmp_path: Path) -> None:
    root, wanted = tmp_path / "stopped", _digest(made[0])

    class Stop(BaseException):
        """Not an error that anybody catches."""

    def stop_after(calls: int) -> Callable[[str, float], None]:
        left = iter(range(calls))

        def report(step: str, share: float) -> None:
            if next(left, None) is None:
                raise Stop

        return report

    for calls in (3, 40, 60, 30, 34):
        with pytest.raises(Stop):
            track_recording(film, root, OPTIONS, stop_after(calls))
        assert not (root / "headsplat.json").exists()
    track_recording(film, root, OPTIONS)
    assert _digest(root) == wanted


def test_killed_it_ends_the_same(film: Path, made: tuple[Path, Summary], tmp_path: Path) -> None:
    root, code = tmp_path / "killed", "from headsplat.cli import main; main()"
    command = [sys.executable, "-c", code, "track", str(film), "-o", str(root), "--size", "192"]
    for awaited in (".tracking/follow-000000.npz", "images/00040_00.png"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (root / awaited).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    track_recording(film, root, OPTIONS)
    assert _digest(root) == _digest(made[0])


def test_shots_and_folders(film: Path, made: tuple[Path, Summary], tmp_path: Path) -> None:
    second = track_recording(film, tmp_path / "second", Options(size=96, shot=2))
    assert second.frames == SECOND_SHOT and second.shot == 2
    assert read_native(tmp_path / "second").info["first_frame"] == FRAMES
    with pytest.raises(HeadsplatError, match="no shot number 3"):
        track_recording(film, tmp_path / "third", Options(size=96, shot=3))
    for t in (10, 9):
        write_image(tmp_path / "pictures" / f"p{t}.png", paint(seed=600, size=256, focal=600.0).image)
    short = track_recording(tmp_path / "pictures", tmp_path / "short", Options(size=96, fps=5))
    assert short.frames == 2 and read_native(tmp_path / "short").fps == 5


def test_refusals(film: Path, made: tuple[Path, Summary], tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match="finished recording"):
        track_recording(film, made[0], OPTIONS)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("mine")
    with pytest.raises(HeadsplatError, match="not empty"):
        track_recording(film, tmp_path / "taken", OPTIONS)
    assert os.listdir(tmp_path / "taken") == ["letter.txt"]
    with VideoWriter(tmp_path / "grey.mp4") as video:
        for _ in range(5):
            video.write(np.full((64, 64, 3), 0.5, np.float32))
    with pytest.raises(HeadsplatError, match="no face"):
        track_recording(tmp_path / "grey.mp4", tmp_path / "grey", OPTIONS)
    with pytest.raises(HeadsplatError, match="unfinished recording of another"):
        track_recording(film, tmp_path / "grey", OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeadsplatError, match="holds no pictures"):
        track_recording(tmp_path / "empty", tmp_path / "out", OPTIONS)
    for options in (Options(size=8), Options(fps=0.1), Options(most=0)):
        with pytest.raises(HeadsplatError, match="give"):
            track_recording(film, tmp_path / "out", options)


def test_of_several_people_one_is_chosen(tmp_path: Path) -> None:
    people = [paint(seed=seed, size=224, focal=520.0).image for seed in (600, 601)]
    with VideoWriter(tmp_path / "two.mp4", fps=25) as video:
        for _ in range(8):
            video.write(np.hstack(people))
    with pytest.raises(HeadsplatError, match="--face 1"):
        track_recording(tmp_path / "two.mp4", tmp_path / "none", Options(size=96))
    for face in (1, 2):
        root = tmp_path / str(face)
        assert track_recording(tmp_path / "two.mp4", root, Options(size=96, face=face)).frames == 8
        (scale, _, move), _ = read_native(root).info["crop"]
        middle = (48 - move) / scale
        assert 224 * (face - 1) < middle < 224 * face


def test_pictures_are_compared_with_an_avatar(film: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    frames: list[Frame] = []
    shares: list[float] = []

    def make(frame: Frame) -> Avatar:
        frames.append(frame)
        return reconstruct(frame, gaussians="5k", refine=0)

    root, options = tmp_path / "compared", Options(size=192, fps=12.5, most=8)
    summary = track_recording(film, root, options, lambda _, share: shares.append(share), make)
    assert len(frames) == 1 and frames[0].image.shape == (192, 192, 3)
    assert summary.differences is not None and 0 < summary.differences[1] <= summary.differences[0]
    assert shares == sorted(shares) and not (root / ".tracking").exists()
    model = load_free_head()
    dataset = read_native(root)
    for view in dataset.views:
        posed = model.with_shape(dataset.shape).with_pose(view.expression, view.rotations, view.T_world_root)
        head = posed.transforms[model.joint_names.index("head")]
        np.testing.assert_allclose(head, view.T_world_head, atol=2e-4)


def test_fewer_frames(film: Path, tmp_path: Path) -> None:
    summary = track_recording(film, tmp_path / "few", Options(size=96, fps=12.5, most=8))
    dataset = read_native(tmp_path / "few")
    assert summary.frames == len(dataset) == 8 and dataset.fps == pytest.approx(12.5)
