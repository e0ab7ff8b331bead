"""Checkpoints of any network: what comes back, and which files and settings are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from headsplat.errors import HeadsplatError
from headsplat.methods.gagavatar.config import small as small_gagavatar
from headsplat.methods.gagavatar.weights import load_gagavatar
from headsplat.methods.lam.config import small as small_lam
from headsplat.methods.lam.weights import load_lam
from headsplat.nets.checkpoint import fill, is_safetensors, read_network, read_settings, save_network


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Linear(3, 5).requires_grad_(False)
        self.learned = nn.Linear(5, 2, bias=False)
        self.register_buffer("table", torch.zeros(7))


def nothing(name: str, value: torch.Tensor) -> str | None:
    return None


def test_a_network_comes_back_with_what_learns(tmp_path: Path) -> None:
    path, net = tmp_path / "net.safetensors", Net()
    save_network(net, path, "here", '{"a": 1}')
    assert is_safetensors(path)
    tensors, settings = read_network(path, "here")
    assert settings == '{"a": 1}' and read_network(path, "there")[1] is None
    again = fill(Net, {k: v.double() for k, v in tensors.items()}, path, "Net", nothing)
    assert not again.training
    for name, value in net.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == torch.float32 and torch.equal(found, value)
    assert {n: p.requires_grad for n, p in again.named_parameters()} == {
        n: p.requires_grad for n, p in net.named_parameters()
    }


def test_what_a_method_finds_odd_is_said() -> None:
    def odd(name: str, value: torch.Tensor) -> str | None:
        return "in blue" if name == "table" else None

    with pytest.raises(HeadsplatError, match=r"mine has table in blue; its tensors are mixed up\."):
        fill(Net, Net().state_dict(), "mine", "Net", odd)


def test_settings_that_make_no_network_are_refused() -> None:
    def broken() -> Net:
        raise TypeError("a width of wood")

    with pytest.raises(HeadsplatError, match="a width of wood"):
        fill(broken, {}, "mine", "Net", nothing)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{", "[" * 100_000, '{"a": 1}'])
def test_settings_of_any_shape_are_refused_in_words(text: str) -> None:
    with pytest.raises(HeadsplatError, match="unreadable settings"):
        read_settings(text, lambda t: json.loads(t)["encoder"], "mine")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layers", 10**9),
        ("width", 10**15),
        ("width", -4),
        ("taps", [0] * 10**5),
        ("heads", 0),
        ("width", "x"),
    ],
)
def test_small_files_cannot_ask_for_enormous_networks(tmp_path: Path, key: str, value: object) -> None:
    settings = json.loads(small_lam().to_json()) | {key: value}
    save_network(nn.Linear(1, 1), tmp_path / "a.safetensors", "headsplat.lam", json.dumps(settings))
    with pytest.raises(HeadsplatError, match="settings"):
        load_lam(tmp_path / "a.safetensors")


def test_small_files_cannot_ask_for_an_enormous_renderer(tmp_path: Path) -> None:
    settings = json.loads(small_gagavatar().to_json())
    settings["renderer"]["mapping"] = 10**9
    save_network(nn.Linear(1, 1), tmp_path / "a.safetensors", "headsplat.gagavatar", json.dumps(settings))
    with pytest.raises(HeadsplatError, match="settings"):
        load_gagavatar(tmp_path / "a.safetensors")
