"""Devices are checked before anything long begins."""

from __future__ import annotations

import pytest
import torch

from headsplat.errors import HeadsplatError
from headsplat.nets.device import check_device


def test_what_is_there_is_taken() -> None:
    assert check_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["tpu", "", "cuda0", "meta"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(HeadsplatError, match="give cpu or cuda"):
        check_device(name)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    name = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(HeadsplatError, match=r"no CUDA GPU|no cuda:99"):
        check_device(name)


@pytest.mark.parametrize("method", ["lam", "gagavatar"])
def test_create_checks_the_device_first(method: str) -> None:
    from headsplat.reconstruct import reconstruct

    with pytest.raises(HeadsplatError, match="no device 'tpu'"):
        reconstruct("nobody.jpg", method, weights="nothing.safetensors", device="tpu")  # type: ignore[arg-type]
