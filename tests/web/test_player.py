"""The player in a real browser agrees with Python: numbers, order and picture."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_head import synthetic_head

from headsplat.avatar import Avatar
from headsplat.avatar_file import save_avatar
from headsplat.camera import Camera
from headsplat.gaussians import quat_to_matrix
from headsplat.raster import rasterize
from headsplat.tensor_file import read_tensors, write_tensors


def set_state(
    page: Any, weights: dict[str, float], rotations: dict[str, list[float]], camera: Camera | None = None
) -> None:
    fixed = None
    if camera is not None:
        K = np.asarray(camera.K)
        fixed = {
            "viewmat": np.asarray(camera.viewmat).ravel().tolist(),
            "fx": float(K[0, 0]),
            "fy": float(K[1, 1]),
            "cx": float(K[0, 2]),
            "cy": float(K[1, 2]),
        }
    page.evaluate(
        """([weights, rotations, camera]) => {
          player.reset();
          player.setWeights(weights);
          player.setPose(rotations);
          player.camera.fixed = camera;
        }""",
        [weights, rotations, fixed],
    )


def read_deformed(page: Any) -> dict[str, np.ndarray]:
    out = page.evaluate(
        """async () => {
          await player.still();
          const text = (a) => Array.from(new Uint8Array(a.buffer), (b) => String.fromCharCode(b)).join("");
          return Object.fromEntries(
            Object.entries(player.readDeformed()).map(([name, a]) => [name, btoa(text(a))]));
        }"""
    )
    columns = {"means": 3, "covariances": 6, "colours": 4}
    return {k: np.frombuffer(base64.b64decode(out[k]), np.float32).reshape(-1, n) for k, n in columns.items()}


def picture(page: Any) -> np.ndarray:
    """(H, W, 4) premultiplied, 0..1."""
    shot = page.evaluate(
        "async () => { const s = await player.still(); return { ...s, data: Array.from(s.data) }; }"
    )
    return np.array(shot["data"], np.float32).reshape(shot["height"], shot["width"], 4) / 255


def random_state(avatar: Avatar, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, list[float]]]:
    names = rng.choice(avatar.expressions, 12, replace=False)
    weights = {str(name): float(w) for name, w in zip(names, rng.uniform(0, 1, 12), strict=True)}
    return weights, {joint: rng.normal(0, 0.25, 3).tolist() for joint in avatar.joints}


def test_deformation_agrees_with_python(player_page: Any, avatar: Avatar) -> None:
    rng = np.random.default_rng(5)
    for trial in range(20):
        weights, rotations = random_state(avatar, rng) if trial else ({}, {})
        set_state(player_page, weights, rotations)
        browser, python = read_deformed(player_page), avatar.animate(weights, rotations)
        assert np.linalg.norm(browser["means"] - python.means, axis=1).max() <= 2e-5

        R = quat_to_matrix(python.quats.astype(np.float64))
        wanted = np.einsum("nij,nj,nkj->nik", R, python.scales.astype(np.float64) ** 2, R)
        xx, xy, xz, yy, yz, zz = browser["covariances"].T
        found = np.stack(
            [np.stack([xx, xy, xz], -1), np.stack([xy, yy, yz], -1), np.stack([xz, yz, zz], -1)], 1
        )
        relative = np.linalg.norm(found - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
        assert relative.max() <= 1e-3
        shown = np.concatenate([python.features, python.opacities[:, None]], 1)
        assert np.abs(browser["colours"] - shown).max() <= 0.6 / 255


def test_cpu_rig_agrees_with_python(player_page: Any, avatar: Avatar) -> None:
    weights, rotations = random_state(avatar, np.random.default_rng(3))
    out = player_page.evaluate(
        """async ([weights, rotations]) => {
          const { deform, jointTransforms } = await import("/web/player/rig.js");
          const avatar = player.avatar;
          const w = Float32Array.from(avatar.expressions, (name) => weights[name] ?? 0);
          const out = deform(avatar, w, jointTransforms(avatar, rotations));
          return [out.means, out.features, out.opacities].map((a) => Array.from(a));
        }""",
        [weights, rotations],
    )
    python = avatar.animate(weights, rotations)
    for found, wanted in zip(out, (python.means, python.features, python.opacities), strict=True):
        np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("weights", "rotations", "yaw", "distance"),
    [
        ({}, {}, 0.0, 1.0),
        ({"jawOpen": 0.8}, {"head": [0.0, np.radians(30), 0.0]}, 0.2, 1.0),
        ({}, {}, 0.2, 0.45),
    ],
    ids=["rest", "30 degrees and jawOpen", "close by"],
)
def test_picture_agrees_with_python(
    player_page: Any,
    avatar: Avatar,
    weights: dict[str, float],
    rotations: dict[str, list[float]],
    yaw: float,
    distance: float,
) -> None:
    camera = Camera.orbit(yaw, 0.1, target=avatar.view_target, distance=distance, width=192, height=160)
    set_state(player_page, weights, rotations, camera)
    found = picture(player_page)
    render = rasterize(avatar.animate(weights, rotations), camera)
    wanted = np.concatenate([render.image, render.alpha[..., None]], -1)
    assert wanted[..., 3].mean() > 0.1
    for channels in (slice(0, 3), slice(3, 4)):
        error = np.mean((found[..., channels] - wanted[..., channels]) ** 2)
        assert -10 * np.log10(error) >= 35


def test_order_follows_the_expression(player_page: Any, avatar: Avatar) -> None:
    camera = Camera.orbit(0.5, -0.2, target=avatar.view_target, width=192, height=160)
    weights, rotations = {"jawOpen": 1.0, "mouthSmileLeft": 1.0}, {"head": [0.2, -0.4, 0.1]}
    set_state(player_page, {}, {}, camera)
    player_page.evaluate("() => player.still()")
    set_state(player_page, weights, rotations, camera)
    order = np.array(
        player_page.evaluate("async () => { await player.still(); return Array.from(player.order); }")
    )
    assert sorted(order) == list(range(len(avatar)))
    depth = camera.project(avatar.animate(weights, rotations).means)[:, 2][order]
    assert np.mean(np.diff(depth) > 0) < 0.01


def test_lost_context_comes_back(player_page: Any) -> None:
    before = picture(player_page)
    player_page.evaluate(
        """async () => {
          const lose = player.gl.getExtension("WEBGL_lose_context");
          const event = (name) =>
            new Promise((resolve) => player.addEventListener(name, resolve, { once: true }));
          const lost = event("contextlost");
          lose.loseContext();
          await lost;
          const restored = event("contextrestored");
          setTimeout(() => lose.restoreContext(), 50);
          await restored;
        }"""
    )
    np.testing.assert_array_equal(picture(player_page), before)


def test_two_players_live_on_one_page_and_one_leaves(player_page: Any) -> None:
    before = picture(player_page)
    player_page.evaluate(
        """async () => {
          const { Player } = await import("/web/player/player.js");
          const canvas = document.body.appendChild(document.createElement("canvas"));
          const other = await Player.create(canvas, "/head.avatar");
          other.setWeights({ jawOpen: 1 });
          await other.settle();
          other.dispose();
          canvas.remove();
        }"""
    )
    np.testing.assert_array_equal(picture(player_page), before)


def test_textures_are_small(page: Any, site: tuple[str, Any]) -> None:
    save_avatar(synthetic_head(20_000), site[1] / "large.avatar")
    size = page.evaluate(
        """async () => {
          const { Player } = await import("/web/player/player.js");
          const canvas = document.body.appendChild(document.createElement("canvas"));
          const player = await Player.create(canvas, "/large.avatar", { idle: false });
          const bytes = player.textureBytes;
          player.dispose();
          return bytes;
        }"""
    )
    assert size <= 30e6


def test_damaged_avatars_are_refused_in_a_sentence(page: Any, tmp_path: Path) -> None:
    save_avatar(synthetic_head(101), tmp_path / "small.avatar")
    good = (tmp_path / "small.avatar").read_bytes()
    damaged = {
        "cut": good[: len(good) // 2],
        "cut by a byte": good[:-1],
        "long header": b"\xff" * 8 + good[8:],
        "zip": b"PK\x03\x04" + good[4:],
        "tiny": good[:4],
        "newer": good.replace(b'"version":"1"', b'"version":"9"'),
        "no means": good.replace(b'"means":', b'"meanz":'),
        "parent after child": good.replace(b"[-1,0,1,2,2,2]", b"[-1,0,1,2,9,2]"),
        "another type": good.replace(b'"opacities":{"dtype":"U8"', b'"opacities":{"dtype":"I8"'),
        "mask of ones": good.replace(b"\x00" * 13, b"\xff" * 13),
        "a byte more": good + b"\0",
        "looking nowhere": good.replace(b'"view":', b'"veiw":'),
    }
    tensors, metadata = read_tensors(tmp_path / "small.avatar")
    for name, value in {"skin.weights": 7, "quats": 9000, "scales": -1.0}.items():
        wrong = tensors[name].copy()
        wrong.flat[5] = value
        write_tensors(tmp_path / "wrong.avatar", {**tensors, name: wrong}, metadata)
        damaged[name] = (tmp_path / "wrong.avatar").read_bytes()
    repeated = {**metadata, "joints": metadata["joints"].replace("right_eye", "left_eye")}
    write_tensors(tmp_path / "wrong.avatar", tensors, repeated)
    damaged["names repeated"] = (tmp_path / "wrong.avatar").read_bytes()
    refuse = """async (text) => {
      const { AvatarError, parseAvatar } = await import("/web/player/format.js");
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      try { parseAvatar(bytes.buffer); } catch (error) {
        return error instanceof AvatarError ? error.message : `not a sentence: ${error}`;
      }
      return "accepted";
    }"""
    assert page.evaluate(refuse, base64.b64encode(good).decode()) == "accepted"
    for name, data in damaged.items():
        assert data != good, name
        message = page.evaluate(refuse, base64.b64encode(data).decode())
        assert message.endswith(".") and not message.startswith("not a sentence"), (name, message)


def test_films_and_pictures_have_content(player_page: Any) -> None:
    out = player_page.evaluate(
        """async () => {
          const film = player.record({ fps: 30 });
          for (let i = 1; i <= 5; i++) {
            player.setWeights({ jawOpen: i / 5 });
            await new Promise((resolve) => player.addEventListener("frame", resolve, { once: true }));
          }
          await new Promise((resolve) => setTimeout(resolve, 300));
          const blob = await film.stop();
          const picture = await createImageBitmap(await player.screenshot());
          const copy = document.createElement("canvas").getContext("2d");
          copy.drawImage(picture, 0, 0);
          const alpha = (x, y) => copy.getImageData(x, y, 1, 1).data[3];
          return { type: blob.type, size: blob.size, middle: alpha(75, 75), corner: alpha(2, 2) };
        }"""
    )
    assert out["type"].startswith("video/") and out["size"] > 500
    assert out["middle"] > 200 and out["corner"] == 0


def test_gaze_turns_the_eyes_to_the_camera(player_page: Any) -> None:
    player_page.evaluate("() => { player.camera.set({ yaw: 0.3 }); player.lookAt('camera'); }")
    player_page.wait_for_function("() => player.liveRotations?.left_eye?.[1] > 0.2")
    player_page.evaluate("() => player.camera.set({ yaw: -0.3 })")
    player_page.wait_for_function("() => player.liveRotations.left_eye[1] < -0.2")
    weights = player_page.evaluate("() => player.getWeights({ live: true })")
    assert weights["eyeLookInLeft"] > 0.2 and weights["eyeLookOutLeft"] == 0
    player_page.evaluate("() => player.lookAt(null)")
    player_page.wait_for_function("() => Math.abs(player.liveRotations.left_eye?.[1] ?? 0) < 0.01")


def test_idle_life_blinks_and_gives_way_to_a_motion(player_page: Any) -> None:
    out = player_page.evaluate(
        """async () => {
          const { Idle } = await import("/web/player/idle.js");
          const idle = new Idle({ seed: 7 });
          let blinks = 0;
          let shut = false;
          let sway = 0;
          for (let t = 0; t < 60; t += 1 / 60) {
            const { weights, rotations } = idle.update(1 / 60);
            if (weights.eyeBlinkLeft > 0.9 && !shut) blinks++;
            shut = weights.eyeBlinkLeft > 0.9;
            sway = Math.max(sway, ...rotations.head.map(Math.abs));
          }
          return { blinks, sway };
        }"""
    )
    assert 8 <= out["blinks"] <= 40 and 0.01 < out["sway"] < 0.06


def test_dragging_orbits_and_a_double_click_goes_home(player_page: Any) -> None:
    box = player_page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    player_page.mouse.move(x, y)
    player_page.mouse.down()
    player_page.mouse.move(x - 40, y, steps=4)
    player_page.mouse.up()
    player_page.wait_for_function("() => player.camera.yaw > 0.5")
    player_page.locator("canvas").focus()
    player_page.keyboard.press("ArrowUp")
    player_page.wait_for_function("() => player.camera.pitch > 0.1")
    player_page.mouse.wheel(0, -300)
    player_page.wait_for_function("() => player.camera.distance < 0.9 * player.camera.home.distance")
    player_page.mouse.dblclick(x, y)
    player_page.wait_for_function("() => Math.abs(player.camera.yaw) < 0.01")


def test_altered_headers_never_cause_another_kind_of_error(page: Any, tmp_path: Path) -> None:
    save_avatar(synthetic_head(53), tmp_path / "small.avatar")
    good = (tmp_path / "small.avatar").read_bytes()
    length = int.from_bytes(good[:8], "little")
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(150):
        header = json.loads(good[8 : 8 + length])
        place = header[rng.choice(list(header))]
        key = str(rng.choice(list(place)))
        choices = [
            None,
            -1,
            0.5,
            [],
            {},
            "",
            "null",
            "[1]",
            [0, 1.5],
            [1e300],
            [-1, -1],
            '{"target":[1]}',
            2**60,
        ]
        place[key] = choices[rng.integers(len(choices))]
        text = json.dumps(header).encode()
        cases.append(base64.b64encode(len(text).to_bytes(8, "little") + text + good[8 + length :]).decode())
    odd = page.evaluate(
        """async (cases) => {
          const { AvatarError, parseAvatar } = await import("/web/player/format.js");
          const odd = [];
          let refused = 0;
          for (const text of cases) {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            try { parseAvatar(bytes.buffer); } catch (error) {
              refused++;
              if (!(error instanceof AvatarError)) odd.push(String(error.stack));
            }
          }
          return refused > 60 ? odd : [`only ${refused} were refused`];
        }""",
        cases,
    )
    assert odd == []
