"""Checkpoints of networks as safetensors files: settings beside tensors, every name and number checked.

A method says what its tensors must fit, and what else it knows of them; here is what all have in common.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from headsplat.errors import HeadsplatError
from headsplat.files import writing

Net = TypeVar("Net", bound=nn.Module)
Config = TypeVar("Config")

_MOST_BLOCKS, _LARGEST = 256, 1 << 20


def save_network(network: nn.Module, path: str | os.PathLike[str], key: str, settings: str) -> None:
    """Write all tensors of a network, and its settings under `key` of the file's metadata.

    Raises:
        HeadsplatError: the file cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={key: settings})


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a safetensors file.

    Raises:
        HeadsplatError: it is missing or cannot be read.
    """
    return first_bytes(path)[8:] == b"{"


def first_bytes(path: str | os.PathLike[str]) -> bytes:
    """The first nine bytes of a file, which tell its kind; fewer where it is shorter.

    Raises:
        HeadsplatError: it is missing or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise HeadsplatError(f"Cannot read {path} ({error.strerror}); check the name.") from error


def read_network(path: str | os.PathLike[str], key: str) -> tuple[dict[str, Tensor], str | None]:
    """All tensors of a safetensors file, on the CPU, and the settings under `key` of its metadata if any.

    Raises:
        HeadsplatError: it is not a safetensors file, or not all of one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, (file.metadata() or {}).get(key)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadsplatError(
            f"{path} is not a whole safetensors file ({error}); download it again."
        ) from error


def read_settings(text: str, parse: Callable[[str], Config], path: str | os.PathLike[str]) -> Config:
    """The settings in a checkpoint, by a method's `from_json`.

    Raises:
        HeadsplatError: they are not settings of this version, or of a network that nobody could run.
    """
    try:
        _check_sizes(json.loads(text))
        return parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HeadsplatError(f"{path} has unreadable settings; it comes from another headsplat.") from error


def _check_sizes(values: Any, name: str = "") -> None:
    """Refuse numbers with which even a network without tensors would fill the memory."""
    if isinstance(values, dict):
        for key, value in values.items():
            _check_sizes(value, key)
    elif isinstance(values, list):
        if len(values) > _MOST_BLOCKS:
            raise ValueError(f"{name} has {len(values)} entries")
        for value in values:
            _check_sizes(value, name)
    elif isinstance(values, int):
        if not 0 <= values <= (_MOST_BLOCKS if name in ("layers", "depth", "mapping") else _LARGEST):
            raise ValueError(f"{name} is {values}")


def fill(
    make: Callable[[], Net],
    tensors: Mapping[str, Tensor],
    source: str | os.PathLike[str],
    called: str,
    odd: Callable[[str, Tensor], str | None],
) -> Net:
    """A network with these tensors as float32, in evaluation mode.

    Args:
        make: makes the network; run on torch's meta device, so that it costs no memory.
        tensors: by name, of any floating type.
        source: what to call the tensors' origin in messages.
        called: the method's name in messages.
        odd: says in words ("with a mean of ...") what a tensor of this name cannot be like, or None. It sees
            finite numbers of the right shape.

    Raises:
        HeadsplatError: naming the first key that is missing, of the wrong shape, not finite, odd or unknown;
            or the settings make no network.
    """
    try:
        with torch.device("meta"):
            network = make()
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AssertionError) as error:
        raise HeadsplatError(
            f"{source} has settings that make no {called} ({str(error)[:120]}); "
            "it comes from another headsplat."
        ) from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name, shape in wanted.items():
        if name not in tensors:
            raise HeadsplatError(f"{source} has no {name}; it is not a checkpoint of this {called}.")
        value = tensors[name]
        if tuple(value.shape) != shape:
            raise HeadsplatError(
                f"{source} has {name} of shape {tuple(value.shape)}, not {shape}; "
                f"it is damaged or of another size of {called}."
            )
        if not value.is_floating_point():
            raise HeadsplatError(f"{source} has {name} as {value.dtype}, not as real numbers; it is damaged.")
        if not torch.isfinite(value).all():
            raise HeadsplatError(f"{source} has {name} with numbers that are not finite; it is damaged.")
        if words := odd(name, value):
            raise HeadsplatError(f"{source} has {name} {words}; its tensors are mixed up.")
    for name in tensors:
        if name not in wanted:
            raise HeadsplatError(
                f"{source} has {name}, which this {called} does not know; it is of another network."
            )
    network.load_state_dict({name: tensors[name].float() for name in wanted}, assign=True)
    return network.eval()
