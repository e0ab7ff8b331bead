"""The exported page opens from disk with no request at all, and the bundler behind it."""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_head import synthetic_head

from headsplat.avatar_file import save_avatar
from headsplat.errors import HeadsplatError
from headsplat.export import export
from headsplat.export.html import TRACKER_FILES, export_html, player_script, read_tracker
from headsplat.export.javascript import bundle_modules, strip_comments

REPO = Path(__file__).parents[2]
FACE_MESH = "@mediapipe/face_mesh@0.4.1633559619"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(avatar, page)."""
    folder = tmp_path_factory.mktemp("export")
    save_avatar(synthetic_head(4001), folder / "anna.avatar")
    export_html(folder / "anna.avatar", folder / "anna.html", title="Anna <3 & co")
    return folder / "anna.avatar", folder / "anna.html"


def open_page(browser: Any, path: Path) -> tuple[Any, list[str], list[str]]:
    """(page, requests, errors) of a file opened from disk, once its first animated picture is there."""
    page = browser.new_page(viewport={"width": 360, "height": 300})
    page.set_default_timeout(30_000)
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("() => window.player?.order.length > 0")
    page.evaluate("() => new Promise((resolve) => player.addEventListener('frame', resolve, { once: true }))")
    return page, requests, errors


def test_page_opens_from_disk_without_a_request(browser: Any, exported: tuple[Path, Path]) -> None:
    page, requests, errors = open_page(browser, exported[1])
    try:
        page.click("text=speak")
        page.wait_for_function("() => player.getWeights({ live: true }).jawOpen > 0.2")
        page.click("text=speak")
        page.click("#sliders")
        page.locator("#panel input[aria-label=mouthSmileLeft]").fill("0.6")
        held = page.evaluate("() => player.getWeights()")
        assert held["mouthSmileLeft"] == held["mouthSmileRight"] == pytest.approx(0.6)
        assert page.locator("#expressions .row").count() == 52
        png = page.evaluate("async () => (await player.screenshot()).size")
        assert png > 1000
        assert page.title() == page.inner_text("h1") == "Anna <3 & co"
    finally:
        page.close()
    assert not errors
    outside = [
        url for url in requests if not url.startswith(("blob:", "data:")) and url != exported[1].as_uri()
    ]
    assert not outside


def test_page_is_small(exported: tuple[Path, Path]) -> None:
    avatar, page = exported
    script = re.findall(r"<script>(.*?)</script>", page.read_text("utf-8"), re.DOTALL)[0]
    assert page.stat().st_size <= 1.4 * avatar.stat().st_size + len(script.encode()) + 25_000
    assert len(gzip.compress(player_script().encode())) <= 40_000


def test_dropped_files_are_played(browser: Any, exported: tuple[Path, Path], tmp_path: Path) -> None:
    page, _, errors = open_page(browser, exported[1])
    try:
        header = "Timecode,BlendShapeCount,JawOpen,EyeBlinkLeft"
        rows = [f"00:00:{t // 60:02}:{t % 60:02}.000,52,0.9,0" for t in range(180)]
        (tmp_path / "take.csv").write_text("\n".join([header, *rows]))
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
        save_avatar(synthetic_head(501), tmp_path / "other.avatar")
        page.set_input_files("#file", tmp_path / "take.csv")
        page.wait_for_function("() => player.getWeights({ live: true }).jawOpen > 0.8")
        page.set_input_files("#file", tmp_path / "bad.csv")
        page.wait_for_selector("#notice.bad")
        page.set_input_files("#file", tmp_path / "other.avatar")
        page.wait_for_function("() => player.avatar.count === 501 && player.order.length === 501")
    finally:
        page.close()
    assert not errors


def test_the_element_shows_an_avatar_and_goes_quietly(
    page: Any, site: tuple[str, Path], avatar_path: Path
) -> None:
    (site[1] / "head-splat.js").write_text(player_script())
    page.add_script_tag(url="/head-splat.js")
    page.evaluate("() => (document.body.innerHTML = '<head-splat src=head.avatar take=hello></head-splat>')")
    page.wait_for_function("() => document.querySelector('head-splat').player?.order.length > 0")
    page.evaluate("() => document.querySelector('head-splat').remove()")
    page.evaluate("() => (document.body.innerHTML = '<head-splat src=blank.html></head-splat>')")
    page.wait_for_function(
        "() => document.querySelector('head-splat').shadowRoot.querySelector('p')?.textContent"
    )


def test_export_takes_an_avatar_in_memory_and_refuses_a_damaged_file(tmp_path: Path) -> None:
    export(synthetic_head(301), tmp_path / "a.html")
    packed = re.findall(r'id="avatar"[^>]*>([^<]*)<', (tmp_path / "a.html").read_text("utf-8"))[0]
    save_avatar(synthetic_head(301), tmp_path / "a.avatar")
    assert gzip.decompress(base64.b64decode(packed)) == (tmp_path / "a.avatar").read_bytes()
    (tmp_path / "bad.avatar").write_bytes(b"nothing")
    with pytest.raises(HeadsplatError):
        export_html(tmp_path / "bad.avatar", tmp_path / "b.html")
    with pytest.raises(HeadsplatError, match="face tracker"):
        export_html(tmp_path / "a.avatar", tmp_path / "b.html", face_tracker=tmp_path)
    assert not (tmp_path / "b.html").exists()


def test_comments_go_and_code_stays(tmp_path: Path) -> None:
    source = """const a = "// kept"; // gone
const b = `/* kept ${c + `// kept ${"}"}`} */`; /* gone
gone */ const d = x.replace(/\\/\\*[/]"/g, '//'); // gone
const e = f / g / h; // gone
"""
    stripped = strip_comments(source)
    assert "gone" not in stripped and stripped.count("kept") == 3
    assert r'x.replace(/\/\*[/]"/g, ' in stripped and "f / g / h;" in stripped

    (tmp_path / "a.js").write_text(
        'import { b as c } from "./b.js";\nimport "./d.js";\nexport const a = c + 1;\n'
    )
    (tmp_path / "b.js").write_text('import { d } from "./d.js";\nconst b = d;\nexport { b };\n')
    (tmp_path / "d.js").write_text("export function d() { return 1; }\n")
    script = bundle_modules(tmp_path / "a.js")
    assert script.count("function d()") == 1 and "import" not in script and "export" not in script
    (tmp_path / "a.js").write_text('import d from "./d.js";\n')
    with pytest.raises(ValueError, match=r"a\.js"):
        bundle_modules(tmp_path / "a.js")


@pytest.fixture(scope="module")
def face_mesh() -> Path:
    """The face tracker's npm package, fetched once into build/."""
    folder = REPO / "build" / "face_mesh"
    package = folder / "node_modules" / "@mediapipe" / "face_mesh"
    if not package.is_dir():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed: the face tracker of the webcam test is an npm package")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", FACE_MESH]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if result.returncode:
            pytest.skip(f"npm could not fetch {FACE_MESH}: {result.stderr.strip()[-200:]}")
    return package


def write_y4m(path: Path, frames: list[np.ndarray], fps: int) -> None:
    """(H, W, 3) pictures 0..255 as raw 4:2:0 video, which Chromium's fake camera plays in a loop."""
    height, width = frames[0].shape[:2]
    to_yuv = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            yuv = np.clip(frame @ to_yuv.T + [0, 128, 128], 0, 255)
            small = yuv.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
            planes = (yuv[..., 0], small[..., 1], small[..., 2])
            file.write(b"FRAME\n" + b"".join(np.rint(plane).astype(np.uint8).tobytes() for plane in planes))


def test_a_camera_drives_the_page_and_a_lost_face_fades(
    launch: Callable[..., Any], face_mesh: Path, tmp_path: Path
) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image has the portrait for the fake camera")
    from skimage.transform import resize, rotate

    face = resize(data.astronaut()[0:300, 80:380], (240, 240)) * 255

    def frame(degrees: float) -> np.ndarray:
        picture = np.full((240, 320, 3), 90.0)
        picture[:, 40:280] = rotate(face, degrees, mode="edge")
        return picture

    upright, tilted, empty = frame(0), frame(20), np.full((240, 320, 3), 90.0)
    video = tmp_path / "camera.y4m"
    write_y4m(
        video, [upright] * 18 + [frame(a) for a in range(3, 20, 3)] + [tilted] * 10 + [empty] * 20, fps=8
    )
    save_avatar(synthetic_head(1001), tmp_path / "a.avatar")
    export_html(tmp_path / "a.avatar", tmp_path / "a.html", face_tracker=face_mesh)
    camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    browser = launch(*camera, f"--use-file-for-fake-video-capture={video}")
    try:
        page, requests, errors = open_page(browser, tmp_path / "a.html")
        page.evaluate(
            """() => {
              player.adaptive = false;
              player.resolution = 0.3;
              player.idle = null;
              window.most = { tilt: 0, weight: 0 };
              window.faded = false;
              player.addEventListener("frame", () => {
                const weights = Object.values(player.getWeights({ live: true }));
                most.tilt = Math.max(most.tilt, Math.abs(player.liveRotations?.head?.[2] ?? 0));
                most.weight = Math.max(most.weight, ...weights);
                faded ||= player.webcam?.state === "lost" && weights.every((w) => w === 0);
              });
            }"""
        )
        page.click("#camera")
        page.wait_for_function("() => faded && most.tilt > 0.1 && most.weight > 0.05", timeout=90_000)
        assert not errors
        assert all(url.startswith(("blob:", "data:", "file:")) for url in requests)
    finally:
        browser.close()


def test_tracker_is_read_from_a_folder_or_an_archive(face_mesh: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "t.tgz", "w:gz") as archive:
        archive.add(face_mesh, "package")
    assert read_tracker(tmp_path / "t.tgz") == read_tracker(face_mesh)
    assert set(read_tracker(face_mesh)) == set(TRACKER_FILES)
