"""Where networks run."""

from __future__ import annotations

import torch

from headsplat.errors import HeadsplatError


def check_device(name: str) -> str:
    """The name itself, if torch can compute there.

    Args:
        name: "cpu", "cuda", or "cuda:1" for the second GPU.

    Raises:
        HeadsplatError: there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise HeadsplatError(f"There is no device {name!r}; give cpu or cuda.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise HeadsplatError("This machine has no CUDA GPU that torch can use; leave --device out.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise HeadsplatError(f"There is no {name}; this machine has {count} GPU(s), counted from 0.")
    return name
