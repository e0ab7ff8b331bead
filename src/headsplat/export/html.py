"""Export an avatar as one self-contained web page: player, controls and avatar in a single file."""

from __future__ import annotations

import base64
import gzip
import html
import os
import re
import tarfile
import tempfile
from pathlib import Path

from headsplat.avatar import Avatar
from headsplat.avatar_file import load_avatar, save_avatar
from headsplat.errors import HeadsplatError
from headsplat.export.javascript import bundle_player
from headsplat.files import writing

WEB = Path(__file__).parents[1] / "web"

# The files of @mediapipe/face_mesh that a browser with WebAssembly SIMD (all since 2021) asks for.
TRACKER_FILES = (
    "face_mesh.js",
    "face_mesh.binarypb",
    "face_mesh_solution_packed_assets.data",
    "face_mesh_solution_packed_assets_loader.js",
    "face_mesh_solution_simd_wasm_bin.js",
    "face_mesh_solution_simd_wasm_bin.wasm",
)


def export_html(
    avatar: Avatar | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    face_tracker: str | os.PathLike[str] | None = None,
) -> None:
    """Write one HTML file that opens from disk, without a server and without any request.

    The page has sliders for all expressions, takes, orbit, pictures and films, and accepts dropped ARKit CSV,
    motion JSON and sound. Its webcam button fetches the face tracker when first used, after asking; with
    `face_tracker` the tracker is inside the file (7 MB more) and nothing is ever fetched.

    Args:
        avatar: the avatar, or an `.avatar` file, whose bytes then go into the page as they are.
        path: the `.html` to write.
        title: shown on the page; default the avatar's own (`info["title"]`) or the name of the file.
        face_tracker: the npm package @mediapipe/face_mesh 0.4.1633559619, as a folder or `.tgz`.

    Raises:
        HeadsplatError: the avatar cannot be read, the tracker lacks files, or `path` cannot be written.
    """
    if isinstance(avatar, Avatar):
        name, data = Path(path).stem, _bytes_of(avatar.need_rig("a page in a browser"))
        title = title or avatar.info.get("title")
    else:
        # Refuses a damaged file here, not in the browser.
        loaded = load_avatar(avatar).need_rig("a page in a browser")
        title = title or loaded.info.get("title")
        name, data = Path(avatar).stem, Path(avatar).read_bytes()
    title = str(title or name)
    carried = {"avatar": _script(data, f'id="avatar" data-name="{html.escape(title)}"')}
    for file, content in ({} if face_tracker is None else read_tracker(face_tracker)).items():
        carried[file] = _script(content, f'data-tracker="{file}"')
    page = _page(title, "\n".join(carried.values()))
    with writing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def read_tracker(source: str | os.PathLike[str]) -> dict[str, bytes]:
    """The browser's files of @mediapipe/face_mesh from a folder or an npm `.tgz`, by name.

    Raises:
        HeadsplatError: `source` is not such a package.
    """
    found: dict[str, bytes] = {}
    try:
        if Path(source).is_dir():
            found = {name: (Path(source) / name).read_bytes() for name in TRACKER_FILES}
        else:
            with tarfile.open(source) as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    stream = archive.extractfile(member) if name in TRACKER_FILES else None
                    if stream is not None:
                        found[name] = stream.read()
    except (OSError, tarfile.TarError) as error:
        raise HeadsplatError(
            f"Cannot read a face tracker from {source} ({error}); "
            "give the folder or .tgz of @mediapipe/face_mesh."
        ) from error
    missing = [name for name in TRACKER_FILES if name not in found]
    if missing:
        raise HeadsplatError(
            f"The face tracker {source} lacks {', '.join(missing)}; get @mediapipe/face_mesh again."
        )
    return found


def player_script() -> str:
    """The `<head-splat>` element and all it needs as one classic script, for other pages to include."""
    return bundle_player(WEB / "player" / "element.js", WEB / "player")


def _page(title: str, carried: str) -> str:
    """The page with everything that it links to inside."""
    page = (WEB / "page" / "index.html").read_text("utf-8")
    style = re.sub(r"\n\s*", "\n", (WEB / "page" / "page.css").read_text("utf-8"))
    script = bundle_player(WEB / "page" / "page.js", WEB / "player").replace("</", "<\\/")
    inlined = {
        "<title>headsplat</title>": f"<title>{html.escape(title)}</title>",
        '<link rel="stylesheet" href="page.css">': f"<style>\n{style}</style>",
        '<script type="module" src="page.js"></script>': f"{carried}\n<script>\n{script}</script>",
    }
    for old, new in inlined.items():
        assert page.count(old) == 1, old
        page = page.replace(old, new)
    return page


def _script(content: bytes, attributes: str) -> str:
    """A script element that does not run, holding gzip in base64."""
    packed = base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
    return f'<script type="text/plain" {attributes}>{packed}</script>'


def _bytes_of(avatar: Avatar) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "avatar"
        save_avatar(avatar, file)
        return file.read_bytes()
