"""Read LAM checkpoints, the released one and our own: safetensors only, every name and shape checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.head.flame import flame_from_arrays
from headsplat.head.model import HeadModel
from headsplat.head.subdivide import subdivide
from headsplat.methods.lam.config import LamConfig, released_20k
from headsplat.methods.lam.model import Lam, frequency_basis
from headsplat.nets.checkpoint import fill, first_bytes, read_network, read_settings, save_network

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
    if _is_pickle(path):
        raise HeadsplatError(
            f"{path} is a pickle, which can run any code when opened; get the .safetensors file instead."
        )
    tensors, text = read_network(path, CONFIG_KEY)
    if config is None:
        config = released_20k() if text is None else read_settings(text, LamConfig.from_json, path)
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
    given = dict(tensors)
    if config.queries == "points":
        given.setdefault("pcl_embed.basis", frequency_basis(config.octaves))
    return fill(lambda: Lam(config), given, name, "LAM", lambda key, value: _odd(key, value, config))


def save_lam(model: Lam, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint of ours: the tensors under the released names, and the settings.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    save_network(model, path, CONFIG_KEY, model.config.to_json())


def _is_pickle(path: str | os.PathLike[str]) -> bool:
    start = first_bytes(path)
    return start[8:] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80")


def _odd(key: str, value: Tensor, config: LamConfig) -> str | None:
    """What a tensor under this name cannot be like."""
    table = frequency_basis(config.octaves)
    if key == "pcl_embed.basis" and not torch.allclose(value.float(), table, rtol=1e-2):
        return "with frequencies other than LAM's"
    # Gains of norms start at one and stay around it; biases, which have the same shapes, lie around zero.
    if _NORM.search(key) and value.float().mean() <= 0:
        return f"with a mean of {value.float().mean():.3g}, which no gain of a norm has"
    return None


def _pop_head(tensors: dict[str, Tensor], path: str | os.PathLike[str], expressions: int) -> HeadModel | None:
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
