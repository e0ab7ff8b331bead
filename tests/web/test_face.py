"""The webcam driver: landmarks of a posed head give back the pose, and a lost face fades."""

from __future__ import annotations

from typing import Any

import numpy as np

from headsplat.gaussians import axis_angle_to_matrix
from headsplat.head.free import load_free_head

ASPECT = 4 / 3

READ = """async ([neutral, frames, aspect]) => {
  const { FaceReader } = await import("/web/player/face.js");
  const reader = new FaceReader();
  const named = (points) => points.map(([x, y, z]) => ({ x, y, z }));
  while (reader.calibrated < 1) reader.read(named(neutral), aspect);
  return frames.map((frame) => {
    let out;
    for (let i = 0; i < 3; i++) out = reader.read(named(frame), aspect);
    return out;
  });
}"""


def landmarks(expression: dict[str, float], turn: tuple[float, float, float]) -> list[list[float]]:
    """What MediaPipe would see of the free head, 0..1, from a camera 70 cm in front of it."""
    head = load_free_head()
    weights = head.expression_weights(expression)
    vertices = head.template + np.einsum("e,evc->vc", weights, head.expression_basis)
    points = head.landmarks(vertices) @ axis_angle_to_matrix(np.array(turn)).T
    scale = 1.1 / (0.7 - points[:, 2:])  # perspective: near parts look larger
    xyz = points * scale
    columns = [xyz[:, 0] / ASPECT + 0.5, 0.5 - xyz[:, 1], -xyz[:, 2] / ASPECT]
    return np.stack(columns, 1).tolist()


def test_head_turns_are_read(page: Any) -> None:
    turns = [(0.0, 0.4, 0.0), (0.2, 0.0, 0.0), (0.0, 0.0, -0.3), (-0.1, -0.3, 0.1)]
    neutral = landmarks({}, (0, 0, 0))
    out = page.evaluate(READ, [neutral, [landmarks({}, t) for t in turns], ASPECT])
    for read, turn in zip(out, turns, strict=True):
        found = np.add(read["rotations"]["neck"], read["rotations"]["head"])
        assert np.abs(found - turn).max() < 0.06


def test_plain_expressions_are_read(page: Any) -> None:
    names = ["jawOpen", "mouthSmileLeft", "mouthPucker", "mouthFunnel", "mouthLeft", "browInnerUp"]
    names += ["browDownRight", "eyeBlinkLeft"]
    neutral = landmarks({}, (0, 0, 0))
    moving = [landmarks({name: 0.8}, (0.05, 0.15, 0.0)) for name in names]
    calm, *moved = page.evaluate(READ, [neutral, [neutral, *moving], ASPECT])
    assert max(calm["weights"].values()) < 0.05
    for name, frame in zip(names, moved, strict=True):
        weights = frame["weights"]
        assert 0.45 < weights[name] < 1.15, name
        for side, other in (("Left", "Right"), ("Right", "Left")):
            if name.endswith(side) and name != "mouthLeft":
                assert weights[name.removesuffix(side) + other] < 0.35 * weights[name], name


FAKE = """async (frames) => {
  const { Webcam } = await import("/web/player/webcam.js");
  let n = 0;
  window.fake = { face: true };
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
  setInterval(() => canvas.getContext("2d").fillRect(0, 0, 64, ++n % 48), 20);
  navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(30);
  const weights = { jawOpen: 0, mouthSmileLeft: 0, eyeBlinkRight: 0 };
  const matrix = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  fake.weights = weights;
  fake.matrix = matrix;
  const detect = async () => (fake.face ? { weights: { ...fake.weights }, matrix: fake.matrix } : null);
  const webcam = await Webcam.start({ detect, close: () => (fake.closed = true) });
  fake.states = [];
  webcam.addEventListener("state", ({ detail }) => fake.states.push(detail));
  player.resolution = 0.2;
  player.follow(webcam);
}"""


def test_a_tracked_face_drives_the_avatar_mirrored_and_a_lost_one_fades(player_page: Any) -> None:
    page = player_page
    page.evaluate(FAKE)
    page.wait_for_function("() => player.webcam.state === 'following'")
    page.evaluate(
        """() => {
          Object.assign(fake.weights, { jawOpen: 0.7, mouthSmileLeft: 0.6 });
          const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
          fake.matrix = [c, 0, -s, 0, 0, 1, 0, 0, s, 0, c, 0, 0, 0, 0, 1];  // 0.3 rad about y, column-major
        }"""
    )
    page.wait_for_function("() => player.getWeights({ live: true }).jawOpen > 0.6")
    page.wait_for_function("() => player.liveRotations.head[1] < -0.15")  # to the mirror's other side
    live = page.evaluate("() => player.getWeights({ live: true })")
    assert live["mouthSmileRight"] > 0.5 and live["mouthSmileLeft"] < 0.05
    page.evaluate("() => (fake.face = false)")
    page.wait_for_function("() => player.webcam.state === 'lost' && player.webcam.gain === 0")
    page.wait_for_function("() => Object.values(player.getWeights({ live: true })).every((w) => w === 0)")
    page.evaluate("() => player.follow(null)")
    assert page.evaluate("() => [fake.states, fake.closed]") == [["following", "lost"], True]


def test_the_table_belongs_to_the_bundled_head(page: Any) -> None:
    """If this fails, the head has changed: run tools/bake_face_basis.py."""
    stored = page.evaluate(
        """async () => {
          const basis = await import("/web/player/face-basis.js");
          const bytes = Int8Array.from(atob(basis.TABLE.replace(/\\s/g, "")), (c) => c.charCodeAt(0));
          return { ...basis, table: Array.from(bytes, (v) => v * basis.STEP) };
        }"""
    )
    head = load_free_head()
    rest = head.landmarks(head.template)[stored["STABLE"]] * 1e3
    np.testing.assert_allclose(np.reshape(stored["STABLE_REST"], (-1, 3)) / 10, rest, atol=0.5)
    order = [head.expression_names.index(name) for name in stored["NAMES"]]
    moves = head.landmarks(head.expression_basis[order])[:, stored["POINTS"], :2] * 1e3
    np.testing.assert_allclose(np.reshape(stored["table"], moves.shape), moves, atol=0.5)
