"""The command line: each verb is a plain function here, and its signature is its options."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro
from tyro.conf import Positional, arg

from headsplat.errors import HeadsplatError
from headsplat.terminal import Status, fail, finish, progress, say

if TYPE_CHECKING:
    from headsplat.motion import Motion

UNSURE = 0.3
"""Confidence of a photo below which `create` warns."""

Output = Annotated[Path, arg(aliases=("-o",))]

app = tyro.extras.SubcommandApp()


@app.command
def demo(out: Path = Path("build/demo"), *, json: bool = False) -> None:
    """Make an avatar of the astronaut in scikit-image's test picture, and show what it can do.

    Writes astronaut.avatar, astronaut.png (a contact sheet), astronaut.mp4 (it says hello) and astronaut.html
    (a page to play with it).

    Args:
        out: folder to write into.
        json: print one machine-readable line last.
    """
    from skimage.data import astronaut

    from headsplat.avatar_file import load_avatar
    from headsplat.export import export as write
    from headsplat.shoot import Look, contact_sheet, drive
    from headsplat.takes import take

    start = time.perf_counter()
    paths = {suffix: out / f"astronaut.{suffix}" for suffix in ("avatar", "png", "mp4", "html")}
    made = paths["avatar"]
    facts = _create(astronaut(), made, gaussians="80k")
    say(_created(facts))
    contact_sheet(made, paths["png"], Look(size=256))
    say(f"{paths['png']}: from all sides, and with some expressions")
    hello = partial(take, "hello")
    drive(made, paths["mp4"], Look(), hello, orbit=20.0, fps=None, progress=progress, warn=say)
    say(f"{paths['mp4']}: it says hello")
    write(load_avatar(made), paths["html"])
    say(f"{paths['html']}: open it in a browser, turn it, move its face")
    seconds = round(time.perf_counter() - start, 2)
    finish({**facts, **{k: str(p) for k, p in paths.items()}, "total_seconds": seconds}, "", json)


@app.command
def create(
    photo: Positional[Path],
    output: Output,
    *,
    method: Literal["lift", "lam"] = "lift",
    gaussians: Literal["5k", "20k", "80k"] = "80k",
    refine: int = 80,
    face: int | None = None,
    restyle: Literal["pencil", "oil", "cartoon", "film"] | None = None,
    weights: Path | None = None,
    flame: Path | None = None,
    flame_shape: Path | None = None,
    json: bool = False,
) -> None:
    """Turn a photo into an avatar.

    Args:
        photo: a picture with one face, at least 64 pixels large and turned less than 65 degrees.
        output: the .avatar file to write.
        method: lift needs nothing else; lam needs --weights.
        gaussians: how many; 80k is sharpest, 20k is for phones, 5k for thumbnails (lift).
        refine: steps of refinement against the photo; 0 for none (lift).
        face: which face, counted from the left, if there are several.
        restyle: draw, paint or grade the photo before it becomes an avatar.
        weights: checkpoint of the method, a .safetensors file (lam).
        flame: flame2023.pkl, if the checkpoint holds no copy of it (lam).
        flame_shape: canonical_flame_param.npz of this person, if there is one (lam).
        json: print one machine-readable line last.
    """
    if refine < 0:
        raise HeadsplatError(f"--refine is {refine}; give 0 or more steps.")
    _expect_suffix(output, ".avatar")
    facts = _create(
        photo,
        output,
        method=method,
        gaussians=gaussians,
        refine=refine,
        face=face,
        restyle=restyle,
        weights=weights,
        flame=flame,
        flame_shape=flame_shape,
    )
    finish(facts, _created(facts), json)


@app.command
def animate(
    avatar: Positional[Path],
    output: Output,
    *,
    motion: str = "hello",
    size: int = 512,
    orbit: float = 0.0,
    background: str = "white",
    fps: float | None = None,
    json: bool = False,
) -> None:
    """Drive an avatar and write a video.

    Args:
        avatar: the .avatar file.
        output: OUT.mp4, OUT.webm (can be transparent) or a pattern of pictures such as OUT_DIR/%05d.png.
        motion: hello, speak or range; a Live Link Face take.csv, a LAM motion.json, a folder tracked with
            VHAP, or a video of a face.
        size: side of the picture, pixels.
        orbit: how far the camera swings to either side, degrees; 360 goes round once.
        background: a colour (white, #rrggbb) or transparent.
        fps: frames per second; default as the motion has.
        json: print one machine-readable line last.
    """
    from headsplat.shoot import Look, drive

    read, look = partial(_read_motion, motion), Look(size, background)
    facts = drive(avatar, output, look, read, orbit=orbit, fps=fps, progress=progress, warn=say)
    text = f"{output}: {facts['frames']} frames at {facts['fps']:g} per second, drawn in {facts['seconds']} s"
    finish(facts, text, json)


@app.command
def render(
    avatar: Positional[Path],
    output: Output,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    expression: str = "",
    contact: bool = False,
    show: Literal["color", "seen"] = "color",
    size: int = 512,
    background: str = "white",
    json: bool = False,
) -> None:
    """Draw one picture of an avatar, a contact sheet, or (to a video) a turntable.

    Args:
        avatar: the .avatar file.
        output: OUT.png, .jpg or .webp; OUT.mp4 or .webm for one turn of the camera.
        yaw: degrees; positive moves the camera to the subject's left.
        pitch: degrees; positive moves the camera up.
        expression: weights such as jawOpen=0.7,mouthSmileLeft=1 (`headsplat info` lists the names).
        contact: a labelled sheet of all sides and some expressions; size is then that of one tile.
        show: seen paints what the photo showed and what was guessed.
        size: side of the picture, pixels.
        background: a colour (white, #rrggbb) or transparent.
        json: print one machine-readable line last.
    """
    from headsplat.shoot import Look, contact_sheet, is_film, still, turn

    start = time.perf_counter()
    look = Look(size, background, show)
    if contact:
        if yaw or pitch or expression:
            raise HeadsplatError(
                "A contact sheet has its own views; leave out --yaw, --pitch and --expression."
            )
        contact_sheet(avatar, output, look)
    elif is_film(output):
        turn(avatar, output, look, expression, progress)
    else:
        still(avatar, output, look, yaw, pitch, expression)
    facts = {"output": str(output), "seconds": round(time.perf_counter() - start, 3)}
    finish(facts, f"{output}: drawn in {facts['seconds']} s", json)


@app.command
def info(avatar: Positional[Path], *, json: bool = False) -> None:
    """Say what is in an avatar file.

    Args:
        avatar: the .avatar file.
        json: print one machine-readable line last.
    """
    import numpy as np

    from headsplat.avatar_file import load_avatar

    a = load_avatar(avatar)
    moved = np.diff(a.expression_means.starts).tolist()
    facts = {
        "avatar": str(avatar),
        "bytes": avatar.stat().st_size,
        "gaussians": len(a),
        "channels": int(a.gaussians.features.shape[1]),
        "method": a.method,
        "source": a.source,
        "joints": list(a.joints),
        "expressions": dict(zip(a.expressions, moved, strict=True)),
        "seen": round(float(a.seen.mean()), 4),
        "view_target": [round(float(v), 5) for v in a.view_target],
        "view_height": a.view_height,
        "info": a.info,
    }
    lines = [
        f"{avatar}: {len(a):,} Gaussians, {facts['bytes'] / 1e6:.2f} MB, by {a.method or 'nobody knows'}",
        f"  joints       {', '.join(a.joints) or 'none'}",
        f"  expressions  {', '.join(a.expressions) or 'none'}",
        f"  seen         {facts['seen']:.0%} of it was in the photo",
        *(f"  {key:<12} {value}" for key, value in a.info.items()),
    ]
    finish(facts, "\n".join(lines), json)


@app.command
def export(
    avatar: Positional[Path],
    output: Positional[Path],
    *,
    expression: str = "",
    motion: str = "",
    axes: Literal["y-up", "y-down"] = "y-up",
    glb: Literal["splats", "mesh"] = "splats",
    face_tracker: Path | None = None,
    json: bool = False,
) -> None:
    """Give an avatar to other programs; the suffix decides the format.

    Args:
        avatar: the .avatar file.
        output: .html (a page that plays it), .ply, .spz, .splat, .glb, or .zip (LAM's web viewer).
        expression: weights such as jawOpen=0.7 for the formats that hold one pose.
        motion: as for animate; writes one still per frame into a pattern such as OUT_DIR/%05d.ply.
        axes: y-down for viewers of .ply and .splat that think in COLMAP's axes.
        glb: Gaussians, or a rigged mesh with morph targets.
        face_tracker: the npm package @mediapipe/face_mesh (.tgz or folder) to put into the .html, so that its
            webcam works without a network too.
        json: print one machine-readable line last.
    """
    from headsplat.avatar_file import load_avatar
    from headsplat.export import export as write
    from headsplat.playback import parse_expression

    if motion:
        if expression:
            raise HeadsplatError("A motion has its own expressions; leave out --expression.")
        from headsplat.export import export_frames
        from headsplat.shoot import check_pattern

        paths = export_frames(load_avatar(avatar), check_pattern(output), _read_motion(motion), axes=axes)
        finish({"output": str(output), "frames": len(paths)}, f"{output}: {len(paths)} files", json)
        return
    if face_tracker:
        from headsplat.export.html import export_html

        _expect_suffix(output, ".html")
        export_html(avatar, output, face_tracker=face_tracker)
    else:
        weights = parse_expression(expression) or None
        write(load_avatar(avatar), output, expression=weights, axes=axes, glb=glb)
    size = output.stat().st_size
    finish({"output": str(output), "bytes": size}, f"{output}: {size / 1e6:.2f} MB", json)


@app.command
def view(
    avatar: Positional[Path],
    *,
    port: int = 0,
    live_link: bool = False,
    live_link_port: int = 11111,
    no_browser: bool = False,
) -> None:
    """Show an avatar live in the browser: orbit, sliders, takes, webcam.

    Args:
        avatar: the .avatar file.
        port: local port; 0 for any free one.
        live_link: let the Live Link Face app on an iPhone drive it, by UDP to any address of this machine.
        live_link_port: the UDP port set in the app.
        no_browser: only print the address.
    """
    from headsplat.web.view import view as show

    show(avatar, port=port, live_link=live_link, live_link_port=live_link_port, browser=not no_browser)


@app.command
def studio(*, port: int = 0, folder: Path | None = None, no_browser: bool = False) -> None:
    """Make avatars on a local page: drop a photo, watch, drive, download.

    Args:
        port: local port; 0 for any free one.
        folder: keep photos and avatars there; by default they are deleted when the studio stops.
        no_browser: only print the address.
    """
    from headsplat.web.studio import studio as run

    run(port=port, folder=folder, browser=not no_browser)


@app.command
def bench(
    what: Positional[Literal["raster", "animate", "create", "memory", "cuda"]],
    *,
    sizes: tuple[int, ...] | None = None,
    avatar: Path | None = None,
    photo: Path | None = None,
    seconds: float = 4.0,
    json: bool = False,
) -> None:
    """Measure this machine, against baselines in the same run.

    Args:
        what: drawing, animating and drawing, a photo into an avatar, peak memory, or a GPU.
        sizes: numbers of Gaussians of the synthetic scene.
        avatar: an .avatar file to measure besides the synthetic scene.
        photo: the photo for create; default the bundled portrait.
        seconds: about how long each comparison runs.
        json: print all rows as one JSON list in the last line.
    """
    from headsplat.evaluate import bench as benches

    benches.run(what, json=json, sizes=sizes or benches.SIZES, avatar=avatar, photo=photo, seconds=seconds)


@app.command
def evaluate(
    what: Positional[Literal["stills", "self", "cross", "novel", "fewshot", "video", "truth", "report"]],
    runs: Positional[tuple[Path, ...]] = (),
    *,
    data: Path | None = None,
    output: Annotated[Path | None, arg(aliases=("-o",))] = None,
    method: tuple[str, ...] = (),
    weights: Path | None = None,
    manifest: Path | None = None,
    limit: int = 0,
    frames: int = 10,
    workers: int = 0,
    arcface: Path | None = None,
    json: bool = False,
) -> None:
    """Measure how good avatars are, by a protocol of docs/benchmark.md; a stopped run goes on where it was.

    Args:
        what: a protocol; truth draws painted heads for novel; report joins finished runs.
        runs: folders of finished runs (report).
        data: folder with photos, clips or views.
        output: folder of the run; default build/evaluate/PROTOCOL. For report the name without suffix.
        method: such as copy warp lift lift:refine=0,gaussians=20k lam:weights=model.safetensors.
        weights: checkpoint for methods that need one and name none.
        manifest: repeat the cases of this manifest.json.
        limit: at most so many people or clips, evenly spread; 0 for all.
        frames: pictures to judge per clip.
        workers: processes; 0 for half of the cores.
        arcface: ONNX network for CSIM; default $HEADSPLAT_ARCFACE.
        json: print one machine-readable line last.
    """
    from headsplat.evaluate import command
    from headsplat.reconstruct import reconstruct

    output = output or Path("build/evaluate") / what
    if runs and what != "report":
        raise HeadsplatError("Only `evaluate report` takes folders of runs; give the data with --data.")
    if what == "report":
        paths, text = command.report_runs(runs, output)
        finish({"report": [str(p) for p in paths]}, text, json)
        return
    if what == "truth":
        folders = command.write_truth(output, people=limit or 8)
        finish({"people": [str(p) for p in folders]}, f"{output}: {len(folders)} painted heads", json)
        return
    if data is None:
        raise HeadsplatError(f"Give the folder for `{what}` with --data; see docs/benchmark.md.")
    with Status("Evaluating") as status, contextlib.redirect_stdout(io.StringIO()):
        run, text = command.run_protocol(
            what,
            data,
            output,
            reconstruct,
            methods=method or command.DEFAULT_METHODS,
            weights=weights,
            manifest=manifest,
            limit=limit,
            frames=frames,
            workers=workers,
            arcface=arcface,
            progress=lambda done, total: status(f"Evaluated {done} of {total} cases", done / max(total, 1)),
        )
    finish(command.as_json(run), text, json)


@app.command
def doctor(*, json: bool = False) -> None:
    """Say what is installed, which back ends work, and how fast this machine draws.

    Args:
        json: print one machine-readable line last.
    """
    from headsplat.doctor import describe, examine

    report = examine()
    finish(report, describe(report), json)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 the user can put it right, 130 stopped by Ctrl-C.

    Args:
        arguments: the words after `headsplat`; default those of this process.
    """
    # A polite kill unwinds like Ctrl-C, so that half-written files go away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app.cli(
            args=arguments,
            prog="headsplat",
            description="Animatable 3D Gaussian head avatars: a photo in, a moving head out.",
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except HeadsplatError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "headsplat"):
            raise
        fail(
            f"This needs the package {package}; install it with `pip install 'headsplat[{_extra(package)}]'`."
        )
    except KeyboardInterrupt:
        print("headsplat: stopped; nothing was left half written.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _read_motion(source: str) -> Motion:
    from headsplat.drive import read_motion

    with Status("Reading the motion") as status:
        return read_motion(source, status)


def _create(photo: Any, output: Path, **options: Any) -> dict[str, Any]:
    from headsplat.avatar_file import save_avatar
    from headsplat.reconstruct import reconstruct

    # pymatting prints remarks about its own arithmetic; stdout belongs to the result.
    with Status("Making the avatar") as status, contextlib.redirect_stdout(io.StringIO()):
        avatar = reconstruct(photo, progress=lambda done: status("Making the avatar", done), **options)
    save_avatar(avatar, output)
    measured = avatar.info
    if measured["confidence"] < UNSURE:
        say(
            f"The face is covered, turned far, or hardly a face (confidence {measured['confidence']:.2f}): "
            "look at the avatar before you use it."
        )
    fit = {}  # an avatar on FLAME has no pose in the photo to be measured in
    if "source_psnr" in measured:
        fit = {
            "source_psnr": round(measured["source_psnr"], 2),
            "matte_iou": round(measured["matte_iou"], 4),
        }
    return {
        "avatar": str(output),
        "gaussians": len(avatar),
        "landmark_error": round(100 * measured["landmark_error"], 3),
        **fit,
        "confidence": round(measured["confidence"], 3),
        "seconds": round(measured["seconds"], 2),
    }


def _created(facts: dict[str, Any]) -> str:
    size = Path(facts["avatar"]).stat().st_size / 1e6
    return f"{facts['avatar']}: {facts['gaussians']:,} Gaussians, {size:.1f} MB, in {facts['seconds']} s"


def _expect_suffix(path: Path, suffix: str) -> None:
    if path.suffix.lower() != suffix:
        raise HeadsplatError(f"{path} should end in {suffix}; rename the output.")


def _extra(package: str) -> str:
    return {"torch": "torch", "gsplat": "cuda", "starlette": "web", "uvicorn": "web"}.get(package, "create")
