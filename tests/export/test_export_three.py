"""The rigged mesh in three.js, in a real browser: 52 named morphs and the bones move it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsers import browsers
from headsplat.export.mesh_glb import export_mesh_glb
from headsplat.head.arkit import ARKIT
from headsplat.head.free import load_free_head
from synthetic import make_avatar

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"three": "./three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "./three/examples/jsm/loaders/GLTFLoader.js";
const { scene } = await new GLTFLoader().loadAsync("head.glb");
scene.updateMatrixWorld(true);
let mesh = null;
scene.traverse((node) => { if (node.isSkinnedMesh) mesh = node; });
const places = (vertices) => {
  scene.updateMatrixWorld(true);
  mesh.skeleton.update();
  const at = new THREE.Vector3();
  return vertices.map((v) => mesh.getVertexPosition(v, at).toArray());
};
window.test = {
  names: Object.keys(mesh.morphTargetDictionary),
  bones: mesh.skeleton.bones.map((bone) => bone.name),
  texture: mesh.material.map?.image.width,
  count: mesh.geometry.attributes.position.count,
  pose(weights, turns, vertices) {
    mesh.morphTargetInfluences.fill(0);
    const { morphTargetInfluences: influences, morphTargetDictionary: index } = mesh;
    for (const [name, weight] of Object.entries(weights)) influences[index[name]] = weight;
    for (const bone of mesh.skeleton.bones) bone.rotation.set(...(turns[bone.name] ?? [0, 0, 0]));
    return places(vertices);
  },
};
</script>"""


@pytest.fixture(scope="module")
def page(node_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the exported head loaded by three.js, as `window.test`."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "three").symlink_to(node_tools / "node_modules" / "three")
    (folder / "index.html").write_text(PAGE)
    avatar = replace(make_avatar(200), info={"head": {"model": "free", "shape": [0.5, -1.0, 0.7]}})
    export_mesh_glb(avatar, folder / "head.glb", texture=32, gaze="joints", hair=False)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browsers() as start:
        browser = start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.wait_for_function("window.test")
        yield page
        browser.close()
    server.shutdown()


def test_three_finds_every_name_bone_and_the_texture(page: Any) -> None:
    assert sorted(page.evaluate("test.names")) == sorted(ARKIT)
    assert page.evaluate("test.bones") == list(load_free_head().joint_names)
    assert page.evaluate("test.texture") == 32


def test_every_expression_moves_something(page: Any) -> None:
    """Each morph at weight 1 moves vertices by between a tenth of a millimetre and five centimetres."""
    reach = page.evaluate(
        """(names) => {
          const every = Array.from({ length: test.count / 4 | 0 }, (_, i) => 4 * i);
          const rest = test.pose({}, {}, every);
          const way = (p, i) => Math.hypot(...p.map((x, c) => x - rest[i][c]));
          return names.map((name) => Math.max(...test.pose({ [name]: 1 }, {}, every).map(way)));
        }""",
        list(ARKIT),
    )
    assert all(1e-4 < distance < 0.05 for distance in reach), dict(zip(ARKIT, reach, strict=True))


def test_three_poses_the_mesh_as_we_do(page: Any) -> None:
    head = load_free_head().with_shape([0.5, -1.0, 0.7])
    vertices = list(range(0, page.evaluate("test.count"), 17))
    rest = np.array(page.evaluate("v => test.pose({}, {}, v)", vertices))
    distance = ((rest[:, None] - head.vertices[None]) ** 2).sum(-1)
    source = distance.argmin(1)
    assert np.sqrt(distance.min(1)).max() < 1e-6
    weights = {"jawOpen": 0.6, "browInnerUp": 0.9}
    turned = np.array(
        page.evaluate(
            "([w, v]) => test.pose(w, {head: [0, 0.5, 0], jaw: [0.1, 0, 0]}, v)", [weights, vertices]
        )
    )
    ours = head.with_pose(weights, {"head": (0, 0.5, 0), "jaw": (0.1, 0, 0)}).vertices[source]
    np.testing.assert_allclose(turned, ours, atol=2e-4)
