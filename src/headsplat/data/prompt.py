"""Portraits from words, and words that change a portrait, with any diffusers pipeline that the user has."""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headsplat.errors import HeadsplatError

FRAMING = "head and shoulders portrait, facing the camera, looking into the camera"
"""Added to every prompt for a new portrait: what the tracker needs to see."""
TRIES = 4
"""Pictures to make of a prompt until one shows a usable face."""
LEAST_SIDE = 256
"""Pixels; portraits that came out smaller are not worth an avatar."""
_LIBRARIES = {"diffusers", "transformers", "stable_diffusion", None}

Task = Literal["text", "image"]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Diffusion:
    """A pipeline and how it is run.

    Attributes:
        pipeline: folder of a diffusers pipeline (it holds model_index.json), or a pipeline already loaded.
        seed: of the noise; the same seed gives the same picture.
        steps: of denoising; None for the pipeline's own number.
        guidance: how closely to follow the words; None for the pipeline's own; 0 for turbo models.
        strength: how far to change a given portrait: 0 not at all, 1 beyond recognition.
    """

    pipeline: str | os.PathLike[str] | Any
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    strength: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what no pipeline takes.

        Raises:
            HeadsplatError: a number out of its range.
        """
        if not 0 < self.strength <= 1:
            raise HeadsplatError(f"The strength is {self.strength:g}; give more than 0 and at most 1.")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise HeadsplatError(f"{self.steps} denoising steps make no sense; give 1 to 1000.")
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise HeadsplatError(f"The guidance is {self.guidance:g}; give 0 to 100.")
        if self.seed < 0:
            raise HeadsplatError(f"The seed is {self.seed}; give 0 or more.")


def imagine(
    prompt: str,
    diffusion: Diffusion,
    *,
    accept: Callable[[np.ndarray], Any] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """A portrait from words (LAM, section 3.4: Stable Diffusion, then the avatar as from any photo).

    Args:
        prompt: who it shows; `FRAMING` is added.
        diffusion: the pipeline; text to image.
        accept: called with each picture; it raises `HeadsplatError` for one that cannot be used, and then the
            next seed is tried.
        progress: called with 0..1 for each picture.

    Returns:
        (H, W, 3) float32 0..1.

    Raises:
        HeadsplatError: no words, no usable pipeline, or none of `TRIES` pictures was accepted.
    """
    if not prompt.strip():
        raise HeadsplatError("The prompt is empty; say who the portrait should show.")
    pipeline = load_pipeline(diffusion.pipeline, "text")
    reason: HeadsplatError | None = None
    for seed in range(diffusion.seed, diffusion.seed + TRIES):
        picture = _run(pipeline, diffusion, seed, progress, prompt=f"{prompt.strip()}, {FRAMING}")
        try:
            if min(picture.shape[:2]) < LEAST_SIDE:
                raise HeadsplatError(f"It has only {picture.shape[1]} x {picture.shape[0]} pixels.")
            if accept is not None:
                accept(picture)
            return picture
        except HeadsplatError as error:
            reason = error
    raise HeadsplatError(
        f"None of {TRIES} pictures of the prompt can become an avatar; change the words, the seed or the "
        f"pipeline. The last one: {reason}"
    )


def edit(
    image: np.ndarray, words: str, diffusion: Diffusion, *, progress: Progress | None = None
) -> np.ndarray:
    """A portrait changed as words say (LAM, section 3.4), by image-to-image or an instruction pipeline.

    Args:
        image: (H, W, 3) float32 0..1.
        words: such as "as an old man" or "a marble statue".
        diffusion: the pipeline; image to image, or text to image of a kind that can do both.
        progress: called with 0..1.

    Returns:
        The picture, of the size of `image`.

    Raises:
        HeadsplatError: no words, or no usable pipeline.
    """
    from PIL import Image

    if not words.strip():
        raise HeadsplatError("The words for the new style are empty; say what the portrait should become.")
    pipeline = load_pipeline(diffusion.pipeline, "image")
    height, width = image.shape[:2]
    # Latent pipelines want sides that are multiples of eight.
    size = (max(8, round(width / 8) * 8), max(8, round(height / 8) * 8))
    given = Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
    given = given if given.size == size else given.resize(size, Image.Resampling.LANCZOS)
    made = _run(pipeline, diffusion, diffusion.seed, progress, prompt=words.strip(), image=given)
    if made.shape[:2] == (height, width):
        return made
    coarse = Image.fromarray((made * 255 + 0.5).astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.LANCZOS), np.float32) / 255


def load_pipeline(pipeline: str | os.PathLike[str] | Any, task: Task) -> Any:
    """The diffusers pipeline in a folder, on the GPU if there is one, for one of two tasks.

    Only safetensors and JSON are read, and nothing is fetched: a folder with pickles or code of its own is
    refused.

    Raises:
        HeadsplatError: no folder of a pipeline, diffusers is missing, or the pipeline cannot do the task.
    """
    if not isinstance(pipeline, (str, os.PathLike)):
        return _able(pipeline, task, type(pipeline).__name__)
    folder = Path(pipeline)
    _check_folder(folder)
    try:
        import torch

        diffusers: Any = import_module("diffusers")
    except ImportError as error:
        raise HeadsplatError(
            "Pictures from words need diffusers; install it: pip install headsplat[prompt]."
        ) from error
    cuda = torch.cuda.is_available()
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    auto = diffusers.AutoPipelineForText2Image if task == "text" else diffusers.AutoPipelineForImage2Image
    diffusers.logging.set_verbosity_error()
    try:
        try:
            loaded = auto.from_pretrained(str(folder), **options)
        except ValueError:  # a kind that the automatic choice does not know, such as InstructPix2Pix
            loaded = diffusers.DiffusionPipeline.from_pretrained(str(folder), **options)
    except Exception as error:  # diffusers and transformers raise many kinds for a folder that is not whole
        raise HeadsplatError(
            f"{folder} cannot be loaded as a diffusers pipeline ({_brief(error)}); it needs all parts that "
            "its model_index.json names, as .safetensors."
        ) from error
    loaded.set_progress_bar_config(disable=True)
    return _able(loaded.to("cuda", torch.float16) if cuda else loaded, task, str(folder))


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _check_folder(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise HeadsplatError(
            f"{folder} is not the folder of a diffusers pipeline (it has no model_index.json); give one that "
            "you have downloaded."
        )
    try:
        content = json.loads(index.read_text())
        parts = {name: value for name, value in content.items() if not name.startswith("_")}
        libraries = {value[0] for value in parts.values() if isinstance(value, list)}
        own_code = not isinstance(content["_class_name"], str) or not libraries <= _LIBRARIES
    except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError) as error:
        raise HeadsplatError(f"{index} is damaged; download the pipeline again.") from error
    if own_code:
        raise HeadsplatError(f"{folder} brings code of its own, which headsplat does not run; give another.")


def _able(pipeline: Any, task: Task, name: str) -> Any:
    """The pipeline itself, if it takes what the task gives."""
    takes = inspect.signature(pipeline.__call__).parameters
    missing = {"prompt"} if task == "text" else {"prompt", "image"}
    needed = {"text": "text to image", "image": "image to image"}[task]
    if not missing <= takes.keys() or (task == "text" and _required(takes, "image")):
        raise HeadsplatError(f"{name} is not a pipeline for {needed}; give another.")
    return pipeline


def _required(takes: Any, name: str) -> bool:
    return name in takes and takes[name].default is inspect.Parameter.empty


def _run(
    pipeline: Any, diffusion: Diffusion, seed: int, progress: Progress | None, **inputs: Any
) -> np.ndarray:
    """One picture (H, W, 3) float32 0..1; settings that the pipeline does not know are left out."""
    import torch

    takes = inspect.signature(pipeline.__call__).parameters
    steps = diffusion.steps
    if steps is None and "num_inference_steps" in takes:
        steps = takes["num_inference_steps"].default
    if steps is not None and "image" in inputs and "strength" in takes:
        # Image to image does only this share of the steps: never none.
        steps = max(steps, math.ceil(1 / diffusion.strength))
    tell = progress or (lambda _: None)

    def after_step(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
        tell(min(1.0, (step + 1) / (steps or step + 1)))
        return values

    wanted = {
        **inputs,
        "num_inference_steps": steps,
        "guidance_scale": diffusion.guidance,
        "strength": diffusion.strength if "image" in inputs else None,
        "generator": torch.Generator("cpu").manual_seed(seed),
        "callback_on_step_end": after_step,
        "output_type": "np",
    }
    given = {name: value for name, value in wanted.items() if value is not None and name in takes}
    with torch.inference_mode():
        made = pipeline(**given)
    picture = np.asarray(made.images[0], np.float32)
    if picture.ndim != 3 or picture.shape[2] < 3 or not np.isfinite(picture).all():
        raise HeadsplatError("The pipeline gave no picture; give another pipeline or other settings.")
    return np.clip(np.ascontiguousarray(picture[..., :3]), 0, 1)
