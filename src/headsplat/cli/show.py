"""Verbs that show an avatar or give it away: animate, render, export, view and studio."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from headsplat.cli.app import Output, expect_suffix, read_motion, verb
from headsplat.errors import HeadsplatError
from headsplat.terminal import counted, finish, progress, say


@verb
def animate(
    avatar: Positional[Path],
    output: Output,
    *,
    motion: str = "hello",
    size: int = 512,
    orbit: float = 0.0,
    background: str = "white",
    fps: float | None = None,
    audio: str = "keep",
    json: bool = False,
) -> None:
    """Drive an avatar and write a video.

    Args:
        avatar: the .avatar file.
        output: OUT.mp4, OUT.webm (can be transparent) or a pattern of pictures such as OUT_DIR/%05d.png.
        motion: hello, speak or range; a Live Link Face take.csv, a LAM motion.json, a recording of
            `headsplat track`, a folder tracked with VHAP, or a video of a face.
        size: side of the picture, pixels.
        orbit: how far the camera swings to either side, degrees; 360 goes round once.
        background: a colour (white, #rrggbb) or transparent.
        fps: frames per second; default as the motion has.
        audio: keep (the sound of a driving video), none, or a film or sound file that goes with the motion.
        json: print one machine-readable line last.
    """
    from headsplat.shoot import Look, choose_sound, drive

    read, look, sound = (
        partial(read_motion, motion),
        Look(size, background),
        choose_sound(audio, motion, output),
    )
    facts = drive(avatar, output, look, read, orbit=orbit, fps=fps, progress=progress, warn=say, sound=sound)
    frames = f"{counted(facts['frames'], 'frame')} at {facts['fps']:.4g} per second"
    heard = "" if sound is None else f", with the sound of {sound.path}"
    text = f"{output}: {frames}{heard}, drawn in {facts['seconds']} s"
    finish(facts, text, json)


@verb
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


@verb
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
        output: .html (a page that plays it), .ply, .spz, .splat, .glb, or .zip (LAM's web viewer); with or
            without -o.
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

        paths = export_frames(load_avatar(avatar), check_pattern(output), read_motion(motion), axes=axes)
        finish({"output": str(output), "frames": len(paths)}, f"{output}: {len(paths)} files", json)
        return
    if face_tracker:
        from headsplat.export.html import export_html

        expect_suffix(output, ".html")
        export_html(avatar, output, face_tracker=face_tracker)
    else:
        weights = parse_expression(expression) or None
        write(load_avatar(avatar), output, expression=weights, axes=axes, glb=glb)
    size = output.stat().st_size
    finish({"output": str(output), "bytes": size}, f"{output}: {size / 1e6:.2f} MB", json)


@verb
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


@verb
def studio(*, port: int = 0, folder: Path | None = None, no_browser: bool = False) -> None:
    """Make avatars on a local page: drop a photo, watch, drive, download.

    Args:
        port: local port; 0 for any free one.
        folder: keep photos and avatars there; by default they are deleted when the studio stops.
        no_browser: only print the address.
    """
    from headsplat.web.studio import studio as run

    run(port=port, folder=folder, browser=not no_browser)
