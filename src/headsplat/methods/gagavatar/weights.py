"""Read GAGAvatar checkpoints, the released one and our own: nothing is executed, every tensor is checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.methods.gagavatar.config import GagavatarConfig, official
from headsplat.methods.gagavatar.model import Gagavatar
from headsplat.nets.checkpoint import fill, is_safetensors, read_network, read_settings, save_network
from headsplat.nets.styleunet import Noise

CONFIG_KEY = "headsplat.gagavatar"
LOSS_PREFIX = "percep_loss."
_NORM = re.compile(r"\.norm\d?\.weight$")
_MODULATION = re.compile(r"\.modulation\.bias$")


def load_gagavatar(path: str | os.PathLike[str], noise: Noise = "random") -> Gagavatar:
    """The network of a checkpoint, in evaluation mode.

    Args:
        path: the released GAGAvatar.pt, or a .safetensors file of ours.
        noise: of the released network's renderer; see `official`. Ours have none.

    Raises:
        HeadsplatError: missing, cut off, wants to run code, of another network, or with damaged numbers; the
            first bad key is named.
    """
    path = Path(path)
    config, tensors = _read(path)
    if config is None:
        config = official(noise)
        tensors = {k: v for k, v in tensors.items() if not k.startswith(LOSS_PREFIX)}
    return build(config, tensors, path)


def load_loss_networks(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The 36 tensors of the perceptual loss in a released checkpoint, without their prefix; maybe none.

    Raises:
        HeadsplatError: as `load_gagavatar` for files that cannot be read.
    """
    _, tensors = _read(Path(path))
    return {k.removeprefix(LOSS_PREFIX): v for k, v in tensors.items() if k.startswith(LOSS_PREFIX)}


def build(config: GagavatarConfig, tensors: Mapping[str, Tensor], name: str | os.PathLike[str]) -> Gagavatar:
    """A network of these settings with these tensors, in evaluation mode.

    Args:
        config: what the tensors must fit.
        tensors: every tensor by its key.
        name: what to call the tensors' source in messages.

    Raises:
        HeadsplatError: naming the first key that is missing, unknown, of the wrong shape or implausible.
    """
    return fill(lambda: Gagavatar(config), tensors, name, "GAGAvatar", _odd)


def save_gagavatar(model: Gagavatar, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint of ours: the tensors under the released names, and the settings.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    save_network(model, path, CONFIG_KEY, model.config.to_json())


def _read(path: Path) -> tuple[GagavatarConfig | None, dict[str, Tensor]]:
    """Our settings if the file carries them, and all tensors."""
    if not is_safetensors(path):
        return None, _read_torch(path)
    tensors, text = read_network(path, CONFIG_KEY)
    return None if text is None else read_settings(text, GagavatarConfig.from_json, path), tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors under "model" of a torch archive, read without running anything in it."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is damaged or wants to run code
        raise HeadsplatError(
            f"{path} is not a whole file of plain tensors ({type(error).__name__}); download GAGAvatar.pt "
            "again from its official source."
        ) from error
    tensors = content.get("model") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()
    ):
        raise HeadsplatError(f'{path} holds no tensors under "model"; give GAGAvatar.pt as released.')
    return tensors


def _odd(key: str, value: Tensor) -> str | None:
    """What a tensor under this name cannot be like."""
    # Gains of norms and biases of style modulation start at one and stay around it; the tensors that share
    # their shapes lie around zero.
    if (_NORM.search(key) or _MODULATION.search(key)) and value.float().mean() <= 0:
        return f"with a mean of {value.float().mean():.3g}, which such a gain never has"
    return None
