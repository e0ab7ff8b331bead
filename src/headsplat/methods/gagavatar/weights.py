"""Read GAGAvatar checkpoints, the released one and our own: nothing is executed, every tensor is checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headsplat.errors import HeadsplatError
from headsplat.files import writing
from headsplat.methods.gagavatar.config import GagavatarConfig, official
from headsplat.methods.gagavatar.model import Gagavatar
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
    with torch.device("meta"):
        model = Gagavatar(config)
    trained = {key: p.requires_grad for key, p in model.named_parameters()}
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key, shape in wanted.items():
        if key not in tensors:
            raise HeadsplatError(f"{name} has no {key}; it is not a checkpoint of this GAGAvatar.")
        if tuple(tensors[key].shape) != shape:
            raise HeadsplatError(
                f"{name} has {key} of shape {tuple(tensors[key].shape)}, not {shape}; "
                "it is damaged or of another size of GAGAvatar."
            )
        _check_values(key, tensors[key], name)
    for key in tensors:
        if key not in wanted:
            raise HeadsplatError(
                f"{name} has {key}, which this GAGAvatar does not know; it is of another network."
            )
    model.load_state_dict({key: tensors[key].float() for key in wanted}, assign=True)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(trained[key])
    return model.eval()


def save_gagavatar(model: Gagavatar, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint of ours: the tensors under the released names, and the settings.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={CONFIG_KEY: model.config.to_json()})


def _read(path: Path) -> tuple[GagavatarConfig | None, dict[str, Tensor]]:
    """Our settings if the file carries them, and all tensors."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check the name.") from error
    return _read_safetensors(path) if start[8:] == b"{" else (None, _read_torch(path))


def _read_safetensors(path: Path) -> tuple[GagavatarConfig | None, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            text = (file.metadata() or {}).get(CONFIG_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadsplatError(
            f"{path} is not a whole safetensors file ({error}); download it again."
        ) from error
    try:
        return (None if text is None else GagavatarConfig.from_json(text)), tensors
    except (ValueError, TypeError, KeyError) as error:
        raise HeadsplatError(f"{path} has unreadable settings; it comes from another headsplat.") from error


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


def _check_values(key: str, value: Tensor, name: str | os.PathLike[str]) -> None:
    if not value.is_floating_point():
        raise HeadsplatError(f"{name} has {key} as {value.dtype}, not as real numbers; it is damaged.")
    if not torch.isfinite(value).all():
        raise HeadsplatError(f"{name} has {key} with numbers that are not finite; it is damaged.")
    # Gains of norms and biases of style modulation start at one and stay around it; the tensors that share
    # their shapes lie around zero.
    if (_NORM.search(key) or _MODULATION.search(key)) and value.float().mean() <= 0:
        raise HeadsplatError(
            f"{name} has {key} with a mean of {value.float().mean():.3g}, which such a gain never has; "
            "its tensors are mixed up."
        )
