"""Verbs that make an avatar: demo, create, refine and bake."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from headsplat.cli.app import Output, expect_suffix, read_motion, verb
from headsplat.errors import HeadsplatError
from headsplat.terminal import Status, finish, progress, say

if TYPE_CHECKING:
    from headsplat.avatar import Avatar

UNSURE = 0.3
"""Confidence of a photo below which `create` warns."""
DARK = 0.12
"""Value of the brighter parts of a person, 0..1, below which `create` warns."""


@verb
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


@verb
def create(
    photo: Positional[tuple[Path, ...]],
    output: Output,
    *,
    method: Literal["lift", "lam", "gagavatar", "gaussianhead"] = "lift",
    gaussians: Literal["5k", "20k", "80k"] = "80k",
    refine: int = 80,
    views: int = 8,
    face: int | None = None,
    restyle: str | None = None,
    prompt: str | None = None,
    pipeline: Path | None = None,
    seed: int = 0,
    strength: float = 0.5,
    diffusion_steps: int | None = None,
    guidance: float | None = None,
    minutes: float | None = None,
    weights: Path | None = None,
    flame: Path | None = None,
    flame_shape: Path | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Turn a photo, several photos of one person, or a clip into an avatar.

    Args:
        photo: a picture with one face, at least 64 pixels large and turned less than 65 degrees;
            or several of one person, a clip, or a recording made by `headsplat track` (lift).
        output: the .avatar file to write.
        method: lift needs nothing else; lam and gagavatar need --weights; gaussianhead learns from a clip,
            for minutes.
        gaussians: how many; 80k is sharpest, 20k is for phones, 5k for thumbnails (lift).
        refine: steps of refinement against the photo; 0 for none (lift).
        views: how many frames of a clip or a recording to use (lift).
        face: which face, counted from the left, if there are several.
        restyle: pencil, oil, cartoon or film, drawn offline; or any words, such as "as an old man", with
            --pipeline.
        prompt: who the avatar shall show, instead of a photo; with --pipeline.
        pipeline: folder of a diffusers pipeline: text to image for --prompt, image to image for --restyle.
        seed: of the pipeline's noise.
        strength: how far words change the photo, 0 to 1.
        diffusion_steps: of the pipeline; default as it says itself.
        guidance: how closely the pipeline follows the words; default as it says itself; 0 for turbo models.
        minutes: stop learning after so much time (gaussianhead).
        weights: checkpoint of the method: a .safetensors file, or GAGAvatar.pt (lam, gagavatar).
        flame: flame2023.pkl, if the checkpoint holds no copy of it (lam); FLAME_with_eye.pt (gagavatar).
        flame_shape: canonical_flame_param.npz of this person, if there is one (lam).
        device: cpu, cuda or cuda:1, where the network runs (lam, gagavatar).
        json: print one machine-readable line last.
    """
    if refine < 0:
        raise HeadsplatError(f"--refine is {refine}; give 0 or more steps.")
    expect_suffix(output, ".avatar")
    if prompt is not None and photo:
        raise HeadsplatError("There are photos and a --prompt; give one or the other.")
    if not photo and prompt is None:
        raise HeadsplatError("There is no photo to make an avatar of; name at least one, or give a --prompt.")
    style, picture, notes = _words(
        restyle,
        prompt,
        pipeline,
        output,
        seed=seed,
        strength=strength,
        steps=diffusion_steps,
        guidance=guidance,
    )
    if method == "gaussianhead":
        finish(*_learn(photo, output, face, minutes), json)
        return
    facts = _create(
        picture if picture is not None else photo[0] if len(photo) == 1 else photo,
        output,
        notes,
        method=method,
        gaussians=gaussians,
        refine=refine,
        views=views,
        face=face,
        restyle=style,
        weights=weights,
        flame=flame,
        flame_shape=flame_shape,
        device=device,
    )
    finish(facts, _created(facts), json)


@verb
def refine(
    avatar: Positional[Path],
    photo: Positional[tuple[Path, ...]],
    output: Output,
    *,
    steps: int = 80,
    views: int = 8,
    face: int | None = None,
    json: bool = False,
) -> None:
    """Improve an avatar with further photos, or a clip, of the same person.

    Args:
        avatar: the .avatar file, made by `headsplat create` with the method lift.
        photo: further pictures of the same person: sides that the first did not show help most.
        output: the .avatar file to write; it may be the same.
        steps: of refinement for one picture; several take more.
        views: how many frames of a clip or a recording to use.
        face: which face, counted from the left, if there are several.
        json: print one machine-readable line last.
    """
    from headsplat.avatar_file import load_avatar, save_avatar
    from headsplat.reconstruct import refine as refine_avatar

    expect_suffix(output, ".avatar")
    if not photo:
        raise HeadsplatError("There is no photo to refine the avatar with; name at least one.")
    known = load_avatar(avatar)
    with Status("Refining the avatar") as status:
        better = refine_avatar(
            known,
            photo[0] if len(photo) == 1 else photo,
            steps=steps,
            views=views,
            face=face,
            progress=lambda done: status("Refining the avatar", done),
        )
    save_avatar(better, output)
    measured = better.info["refined"]
    before, after = measured["psnr_before"], measured["psnr_after"]
    facts = {
        "avatar": str(output),
        "gaussians": len(better),
        "photos": measured["photos"],
        "psnr_before": before,
        "psnr_after": after,
        "seen_before": round(float(known.seen.mean()), 4),
        "seen_after": round(float(better.seen.mean()), 4),
        "seconds": round(measured["seconds"], 2),
    }
    finish(
        facts,
        f"{output}: {len(before)} picture{'s' if len(before) > 1 else ''}, "
        f"{sum(before) / len(before):.1f} -> {sum(after) / len(after):.1f} dB, {facts['seconds']} s",
        json,
    )


@verb
def bake(
    avatar: Positional[Path],
    output: Output,
    *,
    motion: str | None = None,
    average: bool = False,
    json: bool = False,
) -> None:
    """Turn an avatar that runs a network per frame into one that plays everywhere, the browser included.

    Args:
        avatar: an .avatar file with a network that moves its Gaussians, such as GaussianHead's.
        output: the .avatar file to write.
        motion: what to fit its expressions to: best the recording that it was trained on; else a take, a
            motion or a video; without it the built-in takes.
        average: colours that depend on the view become their mean over 25 degrees to either side, instead of
            those from in front.
        json: print one machine-readable line last.
    """
    from dataclasses import asdict

    from headsplat.avatar_file import load_avatar, save_avatar
    from headsplat.bake import bake as bake_avatar

    expect_suffix(output, ".avatar")
    live = load_avatar(avatar)
    driver = None if motion is None else read_motion(motion)
    with Status("Baking") as status:
        rig, report = bake_avatar(
            live,
            driver,
            yaws=(-25.0, 0.0, 25.0) if average else (0.0,),
            progress=lambda done: status("Baking", done),
        )
    save_avatar(rig, output)
    facts = {"avatar": str(output), "bytes": output.stat().st_size, **asdict(report)}
    finish(
        facts,
        f"{output}: {facts['bytes'] / 1e6:.1f} MB; held poses are within {report.psnr:.1f} dB of the "
        f"network's (worst {report.worst_psnr:.1f}; a face that never moves: {report.still_psnr:.1f})",
        json,
    )


def _words(
    restyle: str | None, prompt: str | None, pipeline: Path | None, output: Path, **settings: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """What --restyle, --prompt and --pipeline come to: a style, a picture (also written), notes to keep."""
    from headsplat.data.restyle import STYLES

    free = restyle is not None and restyle not in STYLES
    if not (free or prompt is not None):
        return restyle, None, {}
    if pipeline is None:
        if free:
            raise HeadsplatError(
                f"There is no style {restyle!r}; choose one of {', '.join(STYLES)}, or give --pipeline, the "
                "folder of a diffusers pipeline, for words of your own."
            )
        raise HeadsplatError("A --prompt needs --pipeline, the folder of a diffusers text-to-image pipeline.")
    from headsplat.data.image import write_image
    from headsplat.data.prompt import Diffusion, edit, imagine
    from headsplat.track.detect import detect_face

    diffusion = Diffusion(pipeline, **settings)
    notes = {"pipeline": pipeline.name, "seed": diffusion.seed}
    style, picture = restyle, None
    if prompt is not None:
        with Status("Painting the portrait") as status:
            picture = imagine(
                prompt,
                diffusion,
                accept=detect_face,
                progress=lambda done: status("Painting the portrait", done),
            )
        write_image(output.with_suffix(".png"), picture)
        notes |= {"prompt": prompt, "picture": str(output.with_suffix(".png"))}
    if free:
        style = partial(edit, words=str(restyle), diffusion=diffusion)
        notes |= {"restyle": restyle}
    return style, picture, notes


def _create(photo: Any, output: Path, notes: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    from headsplat.avatar_file import save_avatar
    from headsplat.reconstruct import reconstruct

    with Status("Making the avatar") as status:
        avatar = reconstruct(photo, progress=lambda done: status("Making the avatar", done), **options)
    avatar.info.update(notes or {})
    save_avatar(avatar, output)
    measured = avatar.info
    for remark in _remarks(avatar):
        say(remark)
    fit = {}  # an avatar on FLAME has no pose in the photo to be measured in
    if "source_psnr" in measured:
        fit = {
            "source_psnr": round(measured["source_psnr"], 2),
            "matte_iou": round(measured["matte_iou"], 4),
        }
    if "photos" in measured:
        fit |= {"photos": measured["photos"], "photo_psnr": measured["photo_psnr"]}
    return {
        "avatar": str(output),
        "gaussians": len(avatar),
        "landmark_error": round(100 * measured["landmark_error"], 3),
        **fit,
        "confidence": round(measured["confidence"], 3),
        "seconds": round(measured["seconds"], 2),
        **(notes or {}),
    }


def _remarks(avatar: Avatar) -> list[str]:
    """What whoever gave the photo should know about it, one sentence each."""
    import numpy as np

    remarks, sure = [], float(avatar.info["confidence"])
    if sure < UNSURE:
        remarks.append(
            f"The face is covered, turned far, or hardly a face (confidence {sure:.2f}): look at the avatar "
            "before you use it."
        )
    colors = avatar.gaussians.features[avatar.seen > 0.5]
    # The nine tenths, since dark skin, hair and clothes are not a dark photo.
    if avatar.refiner is None and colors.size and np.quantile(colors, 0.9) < DARK:
        remarks.append("The photo is very dark, and so is the avatar: brighten the photo and make it again.")
    return remarks


def _learn(
    clips: tuple[Path, ...], output: Path, face: int | None, minutes: float | None
) -> tuple[dict[str, Any], str]:
    """Track a clip, learn a GaussianHead from it and write its avatar; what is stopped goes on when repeated.

    The recording and the run stay in a folder beside the output, OUTPUT.run.
    """
    import shutil

    from headsplat.cli.train import run_training
    from headsplat.data.datasets import layout_of
    from headsplat.data.datasets.native import is_native, read_native
    from headsplat.files import writing
    from headsplat.track.footage import open_footage
    from headsplat.track.recording import Options, track_recording

    if len(clips) != 1:
        raise HeadsplatError("GaussianHead learns one person from one clip or recording; give one.")
    work, recording = output.with_suffix(".run"), clips[0]
    if not (recording.is_dir() and layout_of(recording)):
        recording = work / "recording"
        if not is_native(recording):
            with Status("Following the face") as status:
                track_recording(clips[0], recording, Options(face=face), status)
        elif read_native(recording).info.get("source") != open_footage(clips[0]).digest:
            raise HeadsplatError(f"{work} belongs to another clip; delete it or choose another output.")
    facts, text = run_training("gaussianhead", (recording,), work / "run", "", (), minutes, None, "cpu")
    with writing(output) as temporary:
        shutil.copyfile(facts["avatar"], temporary)
    return {**facts, "avatar": str(output)}, text.replace(str(work / "run"), str(output), 1)


def _created(facts: dict[str, Any]) -> str:
    size = Path(facts["avatar"]).stat().st_size / 1e6
    of = f" from {facts['photos']} pictures" if "photos" in facts else ""
    return f"{facts['avatar']}: {facts['gaussians']:,} Gaussians{of}, {size:.1f} MB, in {facts['seconds']} s"
