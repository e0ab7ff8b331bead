"""Checkpoints: the released key list and sizes, what loads, and what is refused in which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from headsplat.errors import HeadsplatError
from headsplat.methods.lam.config import (
    LamConfig,
    lam_5k,
    painted_features,
    paper,
    posed_space,
    released_20k,
    small,
    triplane_queries,
)
from headsplat.methods.lam.model import Lam, frequency_basis
from headsplat.methods.lam.weights import build, load_lam, save_lam
from headsplat.nets.vit import VitConfig

TINY = LamConfig(
    encoder=VitConfig(width=24, depth=2, heads=2, patch=14, grid=3, registers=4),
    taps=(0, 1),
    image_size=42,
    fused_width=20,
    width=16,
    heads=2,
    layers=2,
    trunk=8,
    subdivisions=0,
    plane_size=5,
)


def released_keys() -> dict[str, tuple[int, ...]]:
    """The tensors of the released file as published, written out."""
    d, both = 1024, ("weight", "bias")
    keys: dict[str, tuple[int, ...]] = {
        "encoder.model.cls_token": (1, 1, d),
        "encoder.model.pos_embed": (1, 1370, d),
        "encoder.model.register_tokens": (1, 4, d),
        "encoder.model.patch_embed.proj.weight": (d, 3, 14, 14),
        "encoder.model.patch_embed.proj.bias": (d,),
        "pcl_embed.basis": (3, 24),
    }

    def linear(name: str, out: int, into: int, *ones: int) -> None:
        keys[f"{name}.weight"] = (out, into, *ones)
        keys[f"{name}.bias"] = (out,)

    def norm(name: str) -> None:
        keys.update({f"{name}.{part}": (d,) for part in both})

    for i in range(24):
        block = f"encoder.model.blocks.{i}"
        norm(f"{block}.norm1")
        norm(f"{block}.norm2")
        linear(f"{block}.attn.qkv", 3 * d, d)
        linear(f"{block}.attn.proj", d, d)
        linear(f"{block}.mlp.fc1", 4 * d, d)
        linear(f"{block}.mlp.fc2", d, 4 * d)
        keys |= {f"{block}.ls1.gamma": (d,), f"{block}.ls2.gamma": (d,)}
    norm("encoder.model.norm")
    for i in range(4):
        linear(f"encoder.fusion_head.projects.{i}", d, d, 1, 1)
    linear("encoder.fusion_head.output_conv", d, 4 * d, 1, 1)
    linear("pcl_embed.mlp", d, 51)
    norm("pcl_embed.norm")
    linear("transformer.linear_cond_proj", d, d)
    norm("transformer.norm")
    for i in range(10):
        layer = f"transformer.layers.{i}"
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm1_context")
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0"):
            linear(f"{layer}.attn.{name}", d, d)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            keys[f"{layer}.attn.{name}.weight"] = (64,)
        streams = ["ff"] if i == 9 else ["ff", "ff_context"]
        if i < 9:
            linear(f"{layer}.attn.to_add_out", d, d)
        for stream in streams:
            linear(f"{layer}.{stream}.net.0.proj", 4 * d, d)
            linear(f"{layer}.{stream}.net.2", d, 4 * d)
    for i, (out, into) in {0: (512, d), 2: (512, 512), 4: (d, 512)}.items():
        linear(f"renderer.mlp_net.layers.{i}", out, into)
    for name, size in {"shs": 3, "scaling": 3, "xyz": 3, "opacity": 1, "rotation": 4}.items():
        linear(f"renderer.gs_net.out_layers.{name}", size, d)
    return keys


def test_released_size_has_exactly_the_published_tensors() -> None:
    with torch.device("meta"):
        model = Lam(released_20k())
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == released_keys()
    assert len(shapes) == 692
    assert sum(p.numel() for p in model.parameters()) == 557_642_254


def test_presets_differ_where_paper_and_release_do() -> None:
    assert lam_5k().subdivisions == 0
    with torch.device("meta"):
        model = Lam(paper())
    assert not any(p.requires_grad for p in model.encoder.model.parameters())
    assert all(p.requires_grad for p in model.encoder.fusion_head.parameters())
    assert model.renderer.mlp_net is None and len(model.transformer.layers) == 10
    with torch.device("meta"):
        assert sum(p.numel() for p in Lam(small()).parameters()) < 6e6


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, attention="cross", trunk=0),
        triplane_queries(replace(TINY, attention="image")),
        painted_features(TINY),
        posed_space(replace(TINY, expressions=3)),
    ],
    ids=["joint", "cross", "triplane", "painted", "wrinkles"],
)
def test_save_then_load_gives_the_same_network(config: LamConfig, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Lam(config).eval()
    save_lam(model, tmp_path / "a.safetensors")
    again, head = load_lam(tmp_path / "a.safetensors")
    assert again.config == config and head is None and not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    images, points, where = torch.rand(2, 3, 42, 42), 0.1 * torch.randn(2, 7, 3), torch.rand(2, 7, 2)
    with torch.no_grad():
        for first, second in zip(model(images, points, where), again(images, points, where), strict=True):
            assert first is None or torch.allclose(first, second, atol=1e-6)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {k: v.clone().contiguous() for k, v in Lam(TINY).state_dict().items()}


def write(values: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(values, path, metadata={"headsplat.lam": TINY.to_json()})
    return path


def test_half_precision_is_widened_and_the_frequency_table_may_be_missing(tmp_path: Path) -> None:
    values = {k: v.bfloat16() for k, v in tensors().items() if k != "pcl_embed.basis"}
    model, _ = load_lam(write(values, tmp_path / "half.safetensors"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.pcl_embed.basis, frequency_basis())


BAD_KEY = "transformer.layers.1.attn.to_k.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop(BAD_KEY), f"has no {BAD_KEY}"),
        (
            lambda v: v.update({BAD_KEY: torch.zeros(16, 15)}),
            rf"{BAD_KEY} of shape \(16, 15\), not \(16, 16\)",
        ),
        (
            lambda v: v.update({BAD_KEY: v[BAD_KEY] * torch.nan}),
            f"{BAD_KEY} with numbers that are not finite",
        ),
        (lambda v: v.update({BAD_KEY: v[BAD_KEY].int()}), f"{BAD_KEY} as torch.int32"),
        (lambda v: v.update({"head.extra": torch.zeros(2)}), "head.extra, which this LAM does not know"),
        (lambda v: v["pcl_embed.basis"].add_(1), "pcl_embed.basis with frequencies"),
    ],
    ids=["missing", "shape", "nan", "integer", "unknown", "basis"],
)
def test_one_bad_tensor_is_named(change, words: str, tmp_path: Path) -> None:
    values = tensors()
    change(values)
    with pytest.raises(HeadsplatError, match=words):
        load_lam(write(values, tmp_path / "bad.safetensors"))


def test_a_checkpoint_with_its_tensors_dealt_out_anew_is_refused(tmp_path: Path) -> None:
    values = tensors()
    rng = np.random.default_rng(5)
    names = [*values]
    for shuffled in (rng.permutation(names), names[1:] + names[:1]):
        mixed = {str(a): values[str(b)] for a, b in zip(names, shuffled, strict=True)}
        with pytest.raises(HeadsplatError, match=r"of shape|mixed up"):
            load_lam(write(mixed, tmp_path / "mixed.safetensors"))


def test_tensors_of_one_shape_exchanged_are_refused(tmp_path: Path) -> None:
    values = tensors()
    a, b = "transformer.layers.0.norm1.weight", "transformer.layers.0.norm1.bias"
    values[a], values[b] = values[b] - 0.01, values[a]
    with pytest.raises(HeadsplatError, match=f"{a} .* mixed up"):
        load_lam(write(values, tmp_path / "swapped.safetensors"))


def test_truncated_pickled_empty_and_absent_files_are_refused(tmp_path: Path) -> None:
    whole = write(tensors(), tmp_path / "whole.safetensors").read_bytes()
    for count in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:count])
        with pytest.raises(HeadsplatError, match="not a whole safetensors file"):
            load_lam(tmp_path / "cut.safetensors")
    torch.save(tensors(), tmp_path / "model.pt")
    torch.save(tensors(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("model.pt", "old.pt"):
        with pytest.raises(HeadsplatError, match="pickle"):
            load_lam(tmp_path / name)
    with pytest.raises(HeadsplatError, match="Cannot read"):
        load_lam(tmp_path / "nothing.safetensors")
    with pytest.raises(HeadsplatError, match="Cannot read"):
        load_lam(tmp_path)


def test_a_file_without_settings_is_held_against_the_released_network(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "foreign.safetensors")
    with pytest.raises(HeadsplatError, match=r"cls_token of shape \(1, 1, 24\), not \(1, 1, 1024\)"):
        load_lam(tmp_path / "foreign.safetensors")


def test_settings_of_another_version_are_refused(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "odd.safetensors", metadata={"headsplat.lam": '{"width": 3}'})
    with pytest.raises(HeadsplatError, match="settings"):
        load_lam(tmp_path / "odd.safetensors")


def test_build_names_where_the_tensors_came_from() -> None:
    with pytest.raises(HeadsplatError, match="my tensors has no encoder"):
        build(TINY, {}, "my tensors")
