"""Checkpoints: the released key list and sizes, what loads, and what is refused in which words."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from headsplat.errors import HeadsplatError
from headsplat.head.free import load_free_head
from headsplat.methods.gagavatar.config import (
    GagavatarConfig,
    official,
    one_plane,
    ours,
    small,
    without_global_feature,
    without_neural_renderer,
)
from headsplat.methods.gagavatar.flame import load_flame_with_eye
from headsplat.methods.gagavatar.geometry import camera_of
from headsplat.methods.gagavatar.model import Gagavatar
from headsplat.methods.gagavatar.weights import (
    CONFIG_KEY,
    build,
    load_gagavatar,
    load_loss_networks,
    save_gagavatar,
)
from headsplat.nets.styleunet import StyleUNetConfig
from headsplat.nets.vit import VitConfig

TINY = GagavatarConfig(
    encoder=VitConfig(width=24, depth=4, heads=2, patch=14, grid=2),
    image_size=28,
    pyramid=(8, 8, 8, 8),
    features=8,
    points=30,
    point_features=5,
    lift_width=8,
    point_width=12,
    renderer=StyleUNetConfig(channels=6, size=16, widths=(4, 6, 8), style=10, mapping=2, noise="buffer"),
    channels=6,
)
CAMERA = camera_of(np.array([[1, 0, 0, 0.1], [0, 1, 0, -0.1], [0, 0, 1, 9]]), size=16)


def released_keys() -> dict[str, tuple[int, ...]]:
    """The tensors of the released file as described, without its loss networks, written out."""
    keys: dict[str, tuple[int, ...]] = {"head_base": (5023, 256)}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        keys[f"{name}.weight"] = shape
        if bias:
            keys[f"{name}.bias"] = (shape[0],)

    dino = "base_model.dino_model"
    keys |= {
        f"{dino}.cls_token": (1, 1, 768),
        f"{dino}.pos_embed": (1, 1370, 768),
        f"{dino}.mask_token": (1, 768),
    }
    layer(f"{dino}.patch_embed.proj", 768, 3, 14, 14)
    for i in range(12):
        block = f"{dino}.blocks.{i}"
        layer(f"{block}.norm1", 768)
        layer(f"{block}.norm2", 768)
        layer(f"{block}.attn.qkv", 2304, 768)
        layer(f"{block}.attn.proj", 768, 768)
        layer(f"{block}.mlp.fc1", 3072, 768)
        layer(f"{block}.mlp.fc2", 768, 3072)
        keys |= {f"{block}.ls1.gamma": (768,), f"{block}.ls2.gamma": (768,)}
    layer(f"{dino}.norm", 768)
    for i, c in enumerate((256, 512, 1024, 1024)):
        layer(f"base_model.projects.{i}", c, 768, 1, 1)
        layer(f"base_model.layer_rn.{i}", 256, c + 3, 3, 3, bias=False)
        layer(f"base_model.refinenet.{i}.out_conv", 256, 256, 1, 1)
        for unit in (1, 2):
            for conv in (1, 2):
                layer(f"base_model.refinenet.{i}.resConfUnit{unit}.conv{conv}", 256, 256, 3, 3)
    layer("base_model.resize_layers.0", 256, 256, 4, 4)
    layer("base_model.resize_layers.1", 512, 512, 2, 2)
    layer("base_model.resize_layers.3", 1024, 1024, 3, 3)
    layer("base_model.output_conv", 256, 256, 3, 3)
    for i in (0, 2, 4, 6):
        layer(f"gs_generator_g.feature_layers.{i}", 256, 1024 if i == 0 else 256)
        for side in "01":
            width, into, kernel = (41, 128, 1) if i == 6 else (128, 283 if i == 0 else 128, 3)
            layer(f"gs_generator_l{side}.gaussian_conv.{i}", width, into, kernel, kernel)
    for name, out in {"color": 32, "opacity": 1, "scale": 3, "rotation": 4}.items():
        layer(f"gs_generator_g.{name}_layers.0", 128, 283)
        layer(f"gs_generator_g.{name}_layers.2", out, 128)
    widths = [16, 32, 64, 128, 256, 256, 256, 256]
    layer("upsampler.conv_body_first", 16, 32, 1, 1)
    for i in range(7):
        for way, a, b in (("down", widths[i], widths[i + 1]), ("up", widths[7 - i], widths[6 - i])):
            layer(f"upsampler.conv_body_{way}.{i}.conv1", a, a, 3, 3)
            layer(f"upsampler.conv_body_{way}.{i}.conv2", b, a, 3, 3)
            layer(f"upsampler.conv_body_{way}.{i}.skip", b, a, 1, 1, bias=False)
        c = widths[6 - i]
        layer(f"upsampler.toRGB.{i}", 3, c, 1, 1)
        for what in ("scale", "shift"):
            layer(f"upsampler.condition_{what}.{i}.0", c, c, 3, 3)
            layer(f"upsampler.condition_{what}.{i}.2", 2 * c, c, 3, 3)
    layer("upsampler.final_conv", 256, 256, 3, 3)
    layer("upsampler.final_linear", 512, 4096)
    style = "upsampler.stylegan_decoder"
    for i in range(1, 16, 2):
        layer(f"{style}.style_mlp.{i}", 512, 512)
    keys[f"{style}.constant_input.weight"] = (1, 512, 4, 4)

    def modulated(name: str, out: int, into: int, kernel: int) -> None:
        keys[f"{style}.{name}.bias"] = (1, out, 1, 1)
        keys[f"{style}.{name}.modulated_conv.weight"] = (1, out, into, kernel, kernel)
        layer(f"{style}.{name}.modulated_conv.modulation", into, 512)
        if kernel == 3:
            keys[f"{style}.{name}.weight"] = (1,)

    decoder = [512, 512, 512, 512, 256, 128, 64, 32]
    modulated("style_conv1", 512, 512, 3)
    modulated("to_rgb1", 3, 512, 1)
    for k in range(7):
        modulated(f"style_convs.{2 * k}", decoder[k + 1], decoder[k], 3)
        modulated(f"style_convs.{2 * k + 1}", decoder[k + 1], decoder[k + 1], 3)
        modulated(f"to_rgbs.{k}", 3, decoder[k + 1], 1)
    for i, side in enumerate([4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512]):
        keys[f"{style}.noises.noise{i}"] = (1, 1, side, side)
    for name in [k for k in keys if ".modulation." in k and k.endswith("weight")]:
        assert keys[name.replace("weight", "bias")] == keys[name][:1]
    return keys


def test_released_size_has_exactly_the_published_tensors() -> None:
    with torch.device("meta"):
        model = Gagavatar(official())
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == released_keys()
    assert len(shapes) == 561
    assert sum(value.numel() for value in model.state_dict().values()) == 169_616_198


def test_presets_differ_as_they_say() -> None:
    with torch.device("meta"):
        model = Gagavatar(ours())
        assert not any(p.requires_grad for p in model.base_model.dino_model.parameters())
        assert model.config.points == len(load_free_head())
        assert not any("noises" in key or "toRGB" in key for key in model.state_dict())
        assert Gagavatar(ours("flame")).head_base.shape == (5023, 256)
        assert sum(p.numel() for p in Gagavatar(small()).parameters()) < 5e6
    assert official().grid == 296 and 2 * official().grid ** 2 + 5023 == 180_255


VARIANTS: dict[str, GagavatarConfig] = {
    "two planes": TINY,
    "one plane": one_plane(TINY),
    "no global feature": without_global_feature(TINY),
    "no renderer": without_neural_renderer(TINY),
    "as released": replace(
        TINY, global_feature="corner", colour_axis="columns", expression_quats="vertices", head="flame"
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_save_then_load_gives_the_same_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Gagavatar(VARIANTS[name]).eval()
    save_gagavatar(model, tmp_path / "a.safetensors")
    again = load_gagavatar(tmp_path / "a.safetensors")
    assert again.config == VARIANTS[name] and not again.training
    images, vertices = torch.rand(2, 3, 28, 28), torch.randn(30, 3)
    pictures = []
    with torch.no_grad():
        for network in (model, again):
            made = network.reconstruct(images, [CAMERA, CAMERA])
            assert made.points.shape == (2, network.config.planes * 256, 3)
            cloud = network.gaussians(made, vertices, index=1)
            pictures.append(network.refine(network.draw(cloud, CAMERA).image))
    assert pictures[0].shape == (16, 16, 3)
    torch.testing.assert_close(pictures[0], pictures[1])


def test_colours_and_rotations_as_released_and_as_meant() -> None:
    torch.manual_seed(4)
    images = 4 * torch.rand(1, 3, 28, 28)
    for config, columns in ((TINY, False), (VARIANTS["as released"], True)):
        model = Gagavatar(config)
        with torch.no_grad():
            model.gs_generator_l0.gaussian_conv[-1].weight.mul_(30)  # far outside of 0..1
            made = model.reconstruct(images, [CAMERA])
        maps = made.lifted.colours[0, :256].reshape(16, 16, 6)
        inside = (maps > 0) & (maps < 1)
        assert inside[:, :3].all() == columns and inside[..., :3].all() != columns
        lengths = made.expression.quats.norm(dim=-1)
        assert torch.allclose(lengths, torch.ones(30), atol=1e-5) != columns
        over_vertices = made.expression.quats.norm(dim=1)
        assert torch.allclose(over_vertices, torch.ones(4), atol=1e-5) == columns


def test_what_the_expression_gaussians_know_of_the_picture() -> None:
    torch.manual_seed(5)
    image, other = torch.rand(1, 3, 28, 28), torch.rand(1, 3, 28, 28)
    for config, knows in ((TINY, True), (without_global_feature(TINY), False)):
        model = Gagavatar(config)
        with torch.no_grad():
            a, b = (model.reconstruct(i, [CAMERA]).expression.colours for i in (image, other))
        assert torch.equal(a, b) != knows


def test_random_noise_differs_from_call_to_call_and_stored_noise_does_not() -> None:
    torch.manual_seed(6)
    features = torch.rand(16, 16, 6)
    for noise, same in (("random", False), ("buffer", True), ("none", True)):
        assert TINY.renderer is not None
        model = Gagavatar(replace(TINY, renderer=replace(TINY.renderer, noise=noise))).eval()
        with torch.no_grad():
            for layer in model.upsampler.stylegan_decoder.style_convs:
                layer.weight.fill_(1.0)
            assert torch.equal(model.refine(features), model.refine(features)) == same
            seeded = [model.refine(features, torch.Generator().manual_seed(7)) for _ in range(2)]
            assert torch.equal(*seeded)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {k: v.clone().contiguous() for k, v in Gagavatar(TINY).state_dict().items()}


def write(values: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(values, path, metadata={CONFIG_KEY: TINY.to_json()})
    return path


BAD_KEY = "gs_generator_l1.gaussian_conv.2.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop(BAD_KEY), f"has no {BAD_KEY}"),
        (
            lambda v: v.update({BAD_KEY: torch.zeros(8, 7)}),
            rf"{BAD_KEY} of shape \(8, 7\), not \(8, 8, 3, 3\)",
        ),
        (
            lambda v: v.update({BAD_KEY: v[BAD_KEY] * torch.nan}),
            f"{BAD_KEY} with numbers that are not finite",
        ),
        (lambda v: v.update({BAD_KEY: v[BAD_KEY].int()}), f"{BAD_KEY} as torch.int32"),
        (
            lambda v: v.update({"head.extra": torch.zeros(2)}),
            "head.extra, which this GAGAvatar does not know",
        ),
    ],
    ids=["missing", "shape", "nan", "integer", "unknown"],
)
def test_one_bad_tensor_is_named(
    change: Callable[[dict[str, torch.Tensor]], object], words: str, tmp_path: Path
) -> None:
    values = tensors()
    change(values)
    with pytest.raises(HeadsplatError, match=words):
        load_gagavatar(write(values, tmp_path / "bad.safetensors"))


def test_a_checkpoint_with_its_tensors_dealt_out_anew_is_refused(tmp_path: Path) -> None:
    values = tensors()
    rng = np.random.default_rng(5)
    names = [*values]
    for shuffled in (rng.permutation(names), names[1:] + names[:1]):
        mixed = {str(a): values[str(b)] for a, b in zip(names, shuffled, strict=True)}
        with pytest.raises(HeadsplatError, match=r"of shape|mixed up"):
            load_gagavatar(write(mixed, tmp_path / "mixed.safetensors"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("base_model.dino_model.blocks.0.norm1.weight", "base_model.dino_model.blocks.0.norm1.bias"),
        (
            "upsampler.stylegan_decoder.to_rgb1.modulated_conv.modulation.bias",
            "upsampler.stylegan_decoder.constant",
        ),
    ],
)
def test_tensors_of_one_shape_exchanged_are_refused(a: str, b: str, tmp_path: Path) -> None:
    values = tensors()
    other = values[b] - 0.01 if b in values else torch.full_like(values[a], -0.01)
    values[a] = other
    with pytest.raises(HeadsplatError, match=f"{a} .* mixed up"):
        load_gagavatar(write(values, tmp_path / "swapped.safetensors"))


TRAP = Path(tempfile.gettempdir()) / "headsplat-was-here"


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(TRAP)!r}, 'w')",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_torch_archives_are_read_without_running_them(tmp_path: Path) -> None:
    path = tmp_path / "GAGAvatar.pt"
    TRAP.unlink(missing_ok=True)
    for content in ({"model": {"a": Bomb()}}, Bomb()):
        torch.save(content, path)
        with pytest.raises(HeadsplatError, match="plain tensors"):
            load_gagavatar(path)
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(HeadsplatError, match="plain tensors"):
            load_gagavatar(path)
        assert not TRAP.exists()
    torch.save({"model": tensors(), "meta_cfg": {"MODEL": {"NAME": "GAGAvatar"}}}, path)
    whole = path.read_bytes()
    for count in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:count])
        with pytest.raises(HeadsplatError, match="plain tensors"):
            load_gagavatar(path)
    path.write_bytes(whole)
    # Whole and safe, but of another size than the released network.
    with pytest.raises(HeadsplatError, match=r"head_base of shape \(30, 5\), not \(5023, 256\)"):
        load_gagavatar(path)
    torch.save(tensors(), path)
    with pytest.raises(HeadsplatError, match='under "model"'):
        load_gagavatar(path)
    with pytest.raises(HeadsplatError, match="Cannot read"):
        load_gagavatar(tmp_path / "nothing.pt")


def test_loss_networks_are_read_apart(tmp_path: Path) -> None:
    values = {"percep_loss.net.slice1.0.bias": torch.ones(64), "head_base": torch.zeros(2)}
    torch.save({"model": values}, tmp_path / "a.pt")
    assert list(load_loss_networks(tmp_path / "a.pt")) == ["net.slice1.0.bias"]


def test_settings_of_another_version_are_refused(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "odd.safetensors", metadata={CONFIG_KEY: '{"width": 3}'})
    with pytest.raises(HeadsplatError, match="settings"):
        load_gagavatar(tmp_path / "odd.safetensors")


def test_build_names_where_the_tensors_came_from() -> None:
    with pytest.raises(HeadsplatError, match="my tensors has no head_base"):
        build(TINY, {}, "my tensors")


def test_head_model_file_is_read_without_running_it(tmp_path: Path) -> None:
    path = tmp_path / "FLAME_with_eye.pt"
    torch.save({"flame_model": Bomb()}, path)
    with pytest.raises(HeadsplatError, match="plain file of tensors"):
        load_flame_with_eye(path)
    torch.save({"flame_model": {"f": torch.zeros(3, 3)}}, path)
    with pytest.raises(HeadsplatError, match="lmk_embeddings"):
        load_flame_with_eye(path)
    torch.save({"flame_model": {"f": torch.zeros(3, 3)}, "lmk_embeddings": {}}, path)
    with pytest.raises(HeadsplatError, match="full_lmk_faces_idx_with_eye"):
        load_flame_with_eye(path)
    with pytest.raises(HeadsplatError, match="irises"):
        load_flame_with_eye(tmp_path / "generic_model.pkl")
