"""Cost of a frame in headless Chromium: animated against still, and optionally against Spark on the same PLY.

    python tools/bench_web.py me.avatar [--spark folder/with/node_modules] [--frames 20] [--size 512]

Figures are CPU milliseconds per frame of the browser's GPU process: with SwiftShader the "card" is the
processor, so only the ratios mean something; they are no claim about real cards (SwiftShader pays much per
instance).
`npm i @sparkjsdev/spark@2.2.0 three@0.180.0` makes the folder for --spark.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headsplat.avatar_file import load_avatar
from headsplat.export import export

WEB = Path(__file__).parents[1] / "src" / "headsplat" / "web"
FLAGS = ["--no-sandbox", "--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

OURS = """async ([size, animate, frames, sort]) => {
  const { Player } = await import("/web/player/player.js");
  const canvas = document.body.appendChild(document.createElement("canvas"));
  canvas.width = canvas.height = size;
  const player = await Player.create(canvas, "/bench.avatar", { idle: false });
  player.camera.fixed = player.camera.matrices(size, size);
  await player.still();
  const { Renderer } = await import("/web/player/gl.js");
  const { jointTransforms } = await import("/web/player/rig.js");
  const order = player.order.slice();
  const renderer = new Renderer(player.gl, player.avatar);
  renderer.setOrder(order);
  const E = player.expressions.length;
  const pixel = new Uint8Array(4);
  const joints = jointTransforms(player.avatar);
  renderer.deform(new Float32Array(E), joints);
  window.frame = (t) => {
    if (animate) {
      const weights = Float32Array.from({ length: E }, (_, e) => 0.05 + 0.05 * Math.sin(2 * t + e));
      renderer.deform(weights, jointTransforms(player.avatar, { head: [0, 0.15 * Math.sin(t), 0] }));
    }
    if (sort) renderer.setOrder(order);
    renderer.draw(player.camera.fixed);
    player.gl.readPixels(0, 0, 1, 1, player.gl.RGBA, player.gl.UNSIGNED_BYTE, pixel);
  };
  return { bytes: renderer.textureBytes, gaussians: player.avatar.count };
}"""

SPARK = """async ([size, target, distance]) => {
  const THREE = await import("three");
  const { SparkRenderer, SplatMesh } = await import("@sparkjsdev/spark");
  const renderer = new THREE.WebGLRenderer({ antialias: false });
  renderer.setPixelRatio(1);
  renderer.setSize(size, size);
  document.body.appendChild(renderer.domElement);
  const scene = new THREE.Scene();
  scene.add(new SparkRenderer({ renderer }));
  const splats = new SplatMesh({ url: "/bench.ply" });
  scene.add(splats);
  await splats.initialized;
  const camera = new THREE.PerspectiveCamera((2 * Math.atan(0.5 / 3.1) * 180) / Math.PI, 1, 0.05, 10);
  const gl = renderer.getContext();
  const pixel = new Uint8Array(4);
  window.frame = (t) => {
    // A hair's breadth of movement, so that it sorts as an animated head would.
    camera.position.set(target[0] + 1e-3 * Math.sin(t), target[1], target[2] + distance);
    camera.lookAt(...target);
    renderer.render(scene, camera);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  };
  return { gaussians: splats.packedSplats?.numSplats ?? null };
}"""

RUN = """async (frames) => {
  const pause = () => new Promise((resolve) => setTimeout(resolve, 0));
  for (let i = 0; i < frames; i++) {
    frame(i / 30);
    await pause();
  }
}"""


@dataclass(frozen=True)
class Measurement:
    """CPU milliseconds per frame of the GPU process, and what the page said about itself."""

    milliseconds: float
    info: dict[str, Any]


def gpu_ticks() -> float:
    """CPU milliseconds used so far by GPU processes that descend from this process."""
    parents: dict[int, int] = {}
    ticks: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            is_gpu = b"--type=gpu-process" in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        if is_gpu:
            ticks[int(entry.name)] = (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parents.get(pid, 0)
        return False

    return sum(used for pid, used in ticks.items() if ours(pid))


def measure(
    browser: Any, address: str, script: str, arguments: list[Any], frames: int, size: int
) -> Measurement:
    """Set a page up with `script`, draw some frames, then count."""
    page = browser.new_page(viewport={"width": size + 20, "height": size + 20})
    try:
        page.goto(address)
        info = page.evaluate(script, arguments)
        page.evaluate(RUN, 6)
        page.wait_for_timeout(500)
        start = gpu_ticks()
        page.evaluate(RUN, frames)
        return Measurement((gpu_ticks() - start) / frames, info)
    finally:
        page.close()


def main(
    avatar: tyro.conf.Positional[Path],
    spark: Path | None = None,
    frames: int = 20,
    size: int = 512,
    rounds: int = 3,
) -> None:
    """Measure and print; the least of `rounds` counts.

    Args:
        avatar: the .avatar file.
        spark: a folder whose node_modules has @sparkjsdev/spark and three.
        frames: frames per measurement.
        size: pixels of the square canvas.
        rounds: measurements of each kind, interleaved.
    """
    from playwright.sync_api import sync_playwright

    loaded = load_avatar(avatar)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "web").symlink_to(WEB)
        shutil.copy(avatar, folder / "bench.avatar")
        export(loaded, folder / "bench.ply")
        imports = {}
        if spark is not None:
            (folder / "node_modules").symlink_to(spark.resolve() / "node_modules")
            imports = {
                "three": "/node_modules/three/build/three.module.js",
                "three/addons/": "/node_modules/three/examples/jsm/",
                "@sparkjsdev/spark": "/node_modules/@sparkjsdev/spark/dist/spark.module.js",
            }
        importmap = json.dumps({"imports": imports})
        (folder / "index.html").write_text(
            f'<!doctype html><script type="importmap">{importmap}</script><body style="margin:0"></body>'
        )
        handler = functools.partial(Quiet, directory=name)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        jobs: dict[str, tuple[str, list[Any]]] = {
            "still": (OURS, [size, False, frames, False]),
            "animated": (OURS, [size, True, frames, False]),
            "animated, re-sorted": (OURS, [size, True, frames, True]),
        }
        if spark is not None:
            target = [float(v) for v in loaded.view_target]
            jobs["Spark, still"] = (SPARK, [size, target, 3.1 * loaded.view_height])
        best: dict[str, Measurement] = {}
        with sync_playwright() as driver:
            path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
            browser = driver.chromium.launch(executable_path=path, args=FLAGS)
            for _ in range(rounds):
                for job, (script, arguments) in jobs.items():
                    found = measure(browser, address, script, arguments, frames, size)
                    if job not in best or found.milliseconds < best[job].milliseconds:
                        best[job] = found
            browser.close()
        server.shutdown()
    base = best["still"].milliseconds
    print(f"{len(loaded):,} Gaussians, {len(loaded.expressions)} expressions, {size} x {size}, SwiftShader")
    for job, found in best.items():
        cost = found.milliseconds
        print(f"{job:22} {cost:7.1f} CPU-ms per frame  {cost / base:5.2f}  {found.info}")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    tyro.cli(main)
