"""Read LAM checkpoints, the released one and our own: safetensors only, every name and shape checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.files import writing
from headsplat.head.flame import flame_from_arrays
from headsplat.head.model import HeadModel
from headsplat.head.subdivide import subdivide
from headsplat.methods.lam.config import LamConfig, released_20k
from headsplat.methods.lam.model import Lam, frequency_basis

FLAME_PREFIX = "renderer.flame_model."
FLAME_PARENTS = (-1, 0, 1, 1, 1)
CONFIG_KEY = "headsplat.lam"
_NORM = re.compile(r"(^|\.)norm[^.]*\.weight$")


def load_lam(
    path: str | os.PathLike[str], config: LamConfig | None = None, expressions: int = 100
) -> tuple[Lam, HeadModel | None]:
    """The network of a checkpoint in evaluation mode, and the head model in it if there is one.

    A file without settings of our own is taken for the released LAM-20K. Half-precision files are widened to
    float32.

    Args:
        path: a .safetensors file.
        config: the sizes, if the file is neither the released one nor ours.
        expressions: how many of the last blendshapes of a head model in the file are expressions.

    Raises:
        HeadsplatError: not a safetensors file, cut off, of another network, or with damaged numbers; the
            first bad key is named.
    """
    path = Path(path)
    tensors, text = _read(path)
    try:
        if config is None:
            config = released_20k() if text is None else LamConfig.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        raise HeadsplatError(f"{path} has unreadable settings; it comes from another headsplat.") from error
    head = _pop_head(tensors, path, expressions)
    return build(config, tensors, path), head


def build(config: LamConfig, tensors: Mapping[str, Tensor], name: str | os.PathLike[str]) -> Lam:
    """A network of these settings with these tensors, in evaluation mode.

    Args:
        config: what the tensors must fit.
        tensors: every tensor by its key; `pcl_embed.basis` may be left out.
        name: what to call the tensors' source in messages.

    Raises:
        HeadsplatError: naming the first key that is missing, unknown, of the wrong shape or implausible.
    """
    with torch.device("meta"):
        model = Lam(config)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = dict(tensors)
    if "pcl_embed.basis" in wanted:
        given.setdefault("pcl_embed.basis", frequency_basis(config.octaves))
    for key, shape in wanted.items():
        if key not in given:
            raise HeadsplatError(f"{name} has no {key}; it is not a checkpoint of this LAM.")
        if tuple(given[key].shape) != shape:
            raise HeadsplatError(
                f"{name} has {key} of shape {tuple(given[key].shape)}, not {shape}; "
                "it is damaged or of another size of LAM."
            )
        _check_values(key, given[key], config, name)
    for key in given:
        if key not in wanted:
            raise HeadsplatError(f"{name} has {key}, which this LAM does not know; it is of another network.")
    model.load_state_dict({key: given[key].float() for key in wanted}, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if config.freeze_encoder:
        model.encoder.model.requires_grad_(False)
    return model.eval()


def save_lam(model: Lam, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint of ours: the tensors under the released names, and the settings.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={CONFIG_KEY: model.config.to_json()})


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """All tensors of a safetensors file, and our settings if it carries them."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check the name.") from error
    if start[8:] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise HeadsplatError(
            f"{path} is a pickle, which can run any code when opened; get the .safetensors file instead."
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            return tensors, (file.metadata() or {}).get(CONFIG_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadsplatError(
            f"{path} is not a whole safetensors file ({error}); download it again."
        ) from error


def _check_values(key: str, value: Tensor, config: LamConfig, name: str | os.PathLike[str]) -> None:
    if not value.is_floating_point():
        raise HeadsplatError(f"{name} has {key} as {value.dtype}, not as real numbers; it is damaged.")
    if not torch.isfinite(value).all():
        raise HeadsplatError(f"{name} has {key} with numbers that are not finite; it is damaged.")
    table = frequency_basis(config.octaves)
    if key == "pcl_embed.basis" and not torch.allclose(value.float(), table, rtol=1e-2):
        raise HeadsplatError(f"{name} has {key} with frequencies other than LAM's; its tensors are mixed up.")
    # Gains of norms start at one and stay around it; biases, which have the same shapes, lie around zero.
    if _NORM.search(key) and value.float().mean() <= 0:
        raise HeadsplatError(
            f"{name} has {key} with a mean of {value.float().mean():.3g}, which no gain of a norm has; "
            "its tensors are mixed up."
        )


def _pop_head(tensors: dict[str, Tensor], path: Path, expressions: int) -> HeadModel | None:
    """Take FLAME's buffers out of a checkpoint's tensors and make a head model of them, if all are there."""
    found = {
        key.removeprefix(FLAME_PREFIX): tensors.pop(key).numpy()
        for key in [*tensors]
        if key.startswith(FLAME_PREFIX)
    }
    if not {"v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights", "faces_up"} <= found.keys():
        return None
    if "parents" in found and tuple(found["parents"].tolist()) != FLAME_PARENTS:
        raise HeadsplatError(f"{path} has {FLAME_PREFIX}parents other than FLAME's; it is damaged.")
    count, corners, posed = len(found["v_template"]), found["faces_up"], found["posedirs"]
    if len(corners) % 4 or corners.ndim != 2 or posed.shape != (36, 3 * count):
        raise HeadsplatError(f"{path} has {FLAME_PREFIX}faces_up or posedirs of an odd shape; it is damaged.")
    head = flame_from_arrays(
        {
            "v_template": found["v_template"],
            "shapedirs": found["shapedirs"],
            "posedirs": posed.T.reshape(count, 3, 36),
            "J_regressor": found["J_regressor"],
            "kintree_table": np.array([FLAME_PARENTS, range(5)]),
            "weights": found["lbs_weights"],
            # The first three quarters of the subdivided triangles start at the originals' corners a, b and c.
            "f": corners.reshape(4, -1, 3)[:3, :, 0].T,
        },
        expressions=expressions,
        source=path,
    )
    if "v_template_up" in found:
        fine = subdivide(head).template
        if fine.shape != found["v_template_up"].shape or np.abs(fine - found["v_template_up"]).max() > 1e-5:
            raise HeadsplatError(
                f"{path} has {FLAME_PREFIX}v_template_up that is not its template subdivided; it is damaged."
            )
    return head
