"""The command line: what each verb writes and prints, on an avatar and on the bundled portrait."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.cli import main
from headsplat.data.image import read_image
from headsplat.data.video import read_video
from headsplat.playback import SEEN_COLORS
from synthetic import make_avatar


@pytest.fixture
def here(tmp_path: Path, avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an avatar in it."""
    save_avatar(avatar, tmp_path / "a.avatar")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0)


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def pixels(path: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path), np.float32) / 255


def test_render_writes_what_was_asked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json(capsys, "render", "a.avatar", "-o", "front.png", "--size", "65")
    assert facts["output"] == "front.png"
    front = pixels("front.png")
    assert front.shape == (65, 65, 3)
    assert front[0, 0].min() == 1 and front[30, 32].max() < 1
    assert run("render", "a.avatar", "-o", "side.png", "--size", "65", "--yaw", "70", "--pitch", "20") == 0
    assert (
        run("render", "a.avatar", "-o", "open.png", "--size", "65", "--expression", "jawOpen=.7,tongueOut=1")
        == 0
    )
    assert np.abs(pixels("side.png") - front).mean() > 0.01
    assert np.abs(pixels("open.png") - front).mean() > 0.001


def test_transparent_and_coloured_backgrounds(here: Path) -> None:
    assert run("render", "a.avatar", "-o", "clear.png", "--size", "64", "--background", "transparent") == 0
    assert run("render", "a.avatar", "-o", "green.png", "--size", "64", "--background", "#00ff00") == 0
    clear, green = pixels("clear.png"), pixels("green.png")
    assert clear.shape == (64, 64, 4) and clear[0, 0, 3] == 0 and clear[..., 3].max() > 0.9
    np.testing.assert_allclose(green[0, 0], [0, 1, 0])
    laid = clear[..., :3] * clear[..., 3:] + (1 - clear[..., 3:]) * np.array([0, 1, 0])
    np.testing.assert_allclose(laid, green, atol=3 / 255)


def test_contact_sheet_and_seen(here: Path) -> None:
    assert run("render", "a.avatar", "-o", "sheet.png", "--contact", "--size", "48") == 0
    assert pixels("sheet.png").shape == (2 * (48 + 16), 7 * 48, 3)
    assert run("render", "a.avatar", "-o", "seen.png", "--show", "seen", "--size", "64") == 0
    legend = pixels("seen.png")
    assert legend.shape == (64 + 24, 64, 3)
    np.testing.assert_allclose(legend[64, [0, -1]], SEEN_COLORS[[0, -1]], atol=0.01)


def test_turntable(here: Path) -> None:
    assert run("render", "a.avatar", "-o", "turn.mp4", "--size", "32") == 0
    frames = [frame.astype(float) for frame in read_video("turn.mp4")]
    assert len(frames) == 120
    # Halfway round it is seen from behind, and the last frame is next to the first.
    assert np.abs(frames[0] - frames[60]).mean() > 2 * np.abs(frames[0] - frames[-1]).mean()


def test_animate_writes_video_and_pictures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["animate", "a.avatar", "--size", "48", "--fps", "8", "--orbit", "30"]
    facts = run_json(capsys, *words, "-o", "hello.mp4")
    video = read_video("hello.mp4")
    assert (facts["frames"], facts["fps"]) == (40, 8.0)
    assert (video.width, video.height, video.fps) == (48, 48, 8.0)
    assert len(list(video)) == 40
    assert run(*words, "-o", "out/%05d.png", "--motion", "speak", "--background", "transparent") == 0
    names = sorted(p.name for p in (here / "out").iterdir())
    assert names[0] == "00000.png" and len(names) > 40
    assert pixels("out/00000.png").shape == (48, 48, 4)


def test_animate_follows_recorded_motions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headsplat.data.arkit_csv import write_arkit_csv
    from headsplat.data.lam_json import write_lam_json
    from headsplat.takes import take

    motion = take("hello", 10.0)
    write_arkit_csv(motion, "take.csv")
    write_lam_json(motion, "take.json")
    frames = {}
    for source in ("hello", "take.csv", "take.json"):
        words = ("animate", "a.avatar", "-o", "o.mp4", "--motion", source, "--fps", "10", "--size", "32")
        assert run_json(capsys, *words)["frames"] == len(motion)
        frames[source] = np.stack(list(read_video("o.mp4"))).astype(float)
    assert np.abs(frames["take.csv"] - frames["take.json"]).mean() < 1
    assert np.abs(frames["take.csv"] - frames["hello"]).mean() < 3


def test_an_avatar_that_lacks_expressions_says_what_it_leaves_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_avatar(make_avatar(50, expressions=("jawOpen",)), "jaw.avatar")
    assert run("animate", "jaw.avatar", "-o", "o.mp4", "--size", "32", "--fps", "2") == 0
    assert "browInnerUp" in capsys.readouterr().err


def test_info(here: Path, avatar: Avatar, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json(capsys, "info", "a.avatar")
    assert facts["gaussians"] == len(avatar)
    assert list(facts["expressions"]) == list(avatar.expressions)
    assert sum(facts["expressions"].values()) == len(avatar.expression_means.index)
    assert facts["bytes"] == Path("a.avatar").stat().st_size
    assert run("info", "a.avatar") == 0
    assert "jawOpen" in capsys.readouterr().out


def test_export(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json(capsys, "export", "a.avatar", "a.ply", "--expression", "jawOpen=1")
    assert facts["bytes"] == Path("a.ply").stat().st_size > 1000


def test_export_refuses_a_face_tracker_that_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "a.avatar", "a.html", "--face-tracker", "a.avatar") == 2
    assert "face_mesh" in capsys.readouterr().err
    assert run("export", "a.avatar", "a.ply", "--face-tracker", "a.avatar") == 2
    assert ".html" in capsys.readouterr().err
    assert sorted(p.name for p in here.iterdir()) == ["a.avatar"]


def test_doctor_measures(capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json(capsys, "doctor")
    assert facts["backends"]["cpu"].startswith("works")
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["speed"]["fps"] > 0


def test_help_names_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("demo", "create", "animate", "render", "info", "export", "doctor"))


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_nothing_half_written(here: Path, kind: signal.Signals, status: int) -> None:
    command = "import sys; from headsplat.cli import main; main(sys.argv[1:])"
    words = ["animate", "a.avatar", "-o", "long.mp4", "--motion", "range", "--size", "700"]
    # A suite started in the background hands down "ignore Ctrl-C"; the command under test must hear it.
    process = subprocess.Popen(
        [sys.executable, "-c", command, *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(kind, signal.SIG_DFL),  # type: ignore[arg-type, return-value]
    )
    # The temporary file says that writing has begun.
    for _ in range(600):
        if any(p.name.startswith(".long") and p.stat().st_size for p in here.iterdir()):
            break
        time.sleep(0.05)
    os.kill(process.pid, kind)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert sorted(p.name for p in here.iterdir()) == ["a.avatar"]


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder with an avatar of the bundled portrait, and what `create --json` said."""
    from skimage.data import astronaut as picture

    from headsplat.data.image import write_image

    folder = tmp_path_factory.mktemp("astronaut")
    write_image(folder / "photo.png", picture())
    words = ["create", str(folder / "photo.png"), "-o", str(folder / "a.avatar"), "--gaussians", "5k"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run(*words, "--refine", "5", "--json") == 0
    return folder, json.loads(said.getvalue().splitlines()[-1])


def test_create_then_render_looks_like_the_photo(astronaut: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = astronaut
    assert run("render", str(folder / "a.avatar"), "-o", str(folder / "a.png"), "--size", "128") == 0
    picture = read_image(folder / "a.png")
    # Skin in the middle of the face: redder than blue, neither black nor white.
    face = picture[50:80, 50:78].mean((0, 1))
    assert face[0] > face[2] + 0.1
    assert 0.2 < face.mean() < 0.9


def test_create_reports_its_figures(astronaut: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = astronaut
    avatar = load_avatar(folder / "a.avatar")
    assert facts["avatar"] == str(folder / "a.avatar")
    assert 1_000 < facts["gaussians"] == len(avatar) < 30_000
    assert 0 < facts["landmark_error"] < 5
    assert facts["source_psnr"] > 14
    assert 0.8 < facts["matte_iou"] <= 1
    assert 0.5 < facts["confidence"] <= 1
    assert facts["seconds"] > 0


@pytest.mark.parametrize("yaw", ["110", "180"])
def test_a_head_from_behind_is_refused(
    astronaut: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], yaw: str
) -> None:
    folder, _ = astronaut
    back, out = folder / "back.png", folder / "back.avatar"
    assert run("render", str(folder / "a.avatar"), "-o", str(back), "--yaw", yaw) == 0
    capsys.readouterr()
    assert run("create", str(back), "-o", str(out), "--gaussians", "5k", "--refine", "0") == 2
    assert "face" in capsys.readouterr().err
    assert not out.exists()
