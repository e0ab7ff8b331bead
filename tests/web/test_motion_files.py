"""The player reads motions as Python does, and lips follow visemes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headsplat.data.arkit_csv import read_arkit_csv, write_arkit_csv
from headsplat.data.lam_json import read_lam_json, write_lam_json
from headsplat.head.arkit import ARKIT
from headsplat.motion import Motion
from headsplat.takes import take

READ = """async (text) => {
  const { readMotion } = await import("/web/player/motion-files.js");
  const motion = readMotion(text);
  return { ...motion, weights: Array.from(motion.weights), rotations: Array.from(motion.rotations) };
}"""


def compare(found: dict[str, Any], wanted: Motion) -> None:
    weights = np.reshape(found["weights"], (-1, len(found["expressions"])))
    rotations = np.reshape(found["rotations"], (len(weights), -1, 3))
    assert found["fps"] == pytest.approx(wanted.fps)
    assert abs(len(weights) - len(wanted)) <= 1
    frames = min(len(weights), len(wanted))
    for e, name in enumerate(wanted.expressions):
        column = found["expressions"].index(name)
        np.testing.assert_allclose(weights[:frames, column], wanted.weights[:frames, e], atol=0.01)
    for joint in ("neck", "head"):
        column = found["joints"].index(joint)
        turned = wanted.rotations[:frames, wanted.joints.index(joint)]
        np.testing.assert_allclose(rotations[:frames, column], turned, atol=0.01)


def test_arkit_csv_is_read_as_in_python(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    write_arkit_csv(take("hello"), path)
    compare(page.evaluate(READ, path.read_text()), read_arkit_csv(path))
    # Rows out of a dropped frame, other letter case, angles in degrees.
    lines = path.read_text().splitlines()
    lines[0] = lines[0].upper().replace("BLENDSHAPECOUNT", "BlendshapeCount")
    del lines[20]
    path.write_text("\n".join(lines))
    compare(page.evaluate(READ, path.read_text()), read_arkit_csv(path))


def test_lam_json_is_read_as_in_python(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "take.json"
    write_lam_json(take("hello"), path)
    compare(page.evaluate(READ, path.read_text()), read_lam_json(path))


def test_what_is_no_motion_is_refused_in_a_sentence(page: Any) -> None:
    texts = ["", "{}", "[1, 2]", "hello", "Timecode,a,b\n", "null", '{"names": [], "frames": []}']
    texts += [
        '{"names": ["jawOpen"], "frames": [null]}',
        '{"expressions": ["a", "b"], "fps": 30, "weights": [[1]]}',
        '{"visemes": ["aa"], "vtimes": [1e13], "vdurations": [1]}',
        '{"visemes": ["aa"], "vtimes": [1e999], "vdurations": [1]}',
        '{"names": ["jawOpen"], "frames": [{"weights": [1], "time": 0}, {"weights": [1], "time": 1e9}]}',
    ]
    messages = page.evaluate(
        """async (texts) => {
          const { MotionError, readMotion } = await import("/web/player/motion-files.js");
          return texts.map((text) => {
            try { readMotion(text); } catch (error) { return error instanceof MotionError && error.message; }
          });
        }""",
        texts,
    )
    for text, message in zip(texts, messages, strict=True):
        assert message and message.endswith("."), text


def test_visemes_use_arkit_names_and_close_the_lips(page: Any) -> None:
    track = {
        "visemes": ["aa", "PP", "aa", "U"],
        "vtimes": [0, 300, 500, 900],
        "vdurations": [300, 200, 400, 300],
    }
    found = page.evaluate(READ, json.dumps(track))
    assert set(found["expressions"]) <= set(ARKIT)
    weights = np.reshape(found["weights"], (-1, len(found["expressions"])))
    jaw, pucker, press = (
        weights[:, found["expressions"].index(n)] for n in ("jawOpen", "mouthPucker", "mouthPressLeft")
    )
    at = lambda ms: round(ms / 1000 * found["fps"])  # noqa: E731
    assert jaw[at(150)] > 0.3 > 0.1 > jaw[at(400)]
    assert press[at(400)] > 0.3
    assert pucker[at(1050)] > 0.3
    assert np.abs(weights[-1]).max() < 0.05


def test_speech_follows_its_sound(player_page: Any) -> None:
    player_page.evaluate(
        """async () => {
          const rate = 22050;
          const hum = (_, i) => (i > rate * 0.1 ? 12000 * Math.sin(i * 0.06) : 0);
          const pcm = Int16Array.from({ length: rate * 0.8 }, hum);
          player.resolution = 0.2;
          await player.speak({ audio: [pcm.buffer], sampleRate: rate });
        }"""
    )
    player_page.wait_for_function("() => player.getWeights({ live: true }).jawOpen > 0.15")
    player_page.wait_for_function("() => player.playback === null")


def test_a_take_plays_scrubs_and_can_be_recorded(player_page: Any) -> None:
    out = player_page.evaluate(
        """async () => {
          const frame = () =>
            new Promise((resolve) => player.addEventListener("frame", resolve, { once: true }));
          player.resolution = 0.2;
          const playback = player.play("hello", { loop: true });
          playback.paused = true;
          playback.seek(1.5);
          await frame();
          const recorder = player.recordTake();
          playback.paused = false;
          for (let i = 0; i < 3; i++) await frame();
          const motion = recorder.stop();
          const smile = player.getWeights({ live: true }).mouthSmileLeft;
          player.stop();
          player.play(motion);
          return { smile, frames: motion.weights.length / motion.expressions.length };
        }"""
    )
    assert out["smile"] > 0.5 and out["frames"] >= 3


def test_a_take_of_the_page_is_read_by_python(page: Any, tmp_path: Path) -> None:
    original = take("hello")
    write_lam_json(original, tmp_path / "in.json")
    text = page.evaluate(
        """async (text) => {
          const { readMotion, writeMotion } = await import("/web/player/motion-files.js");
          return writeMotion(readMotion(text));
        }""",
        (tmp_path / "in.json").read_text(),
    )
    (tmp_path / "out.json").write_text(text)
    back, wanted = read_lam_json(tmp_path / "out.json"), read_lam_json(tmp_path / "in.json")
    columns = [back.expressions.index(name) for name in wanted.expressions]
    np.testing.assert_allclose(back.weights[:, columns], wanted.weights, atol=1e-4)
    np.testing.assert_allclose(back.rotations, wanted.rotations, atol=1e-3)
    assert back.fps == wanted.fps
