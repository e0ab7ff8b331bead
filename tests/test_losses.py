"""Losses against slow versions and laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional as F

from headsplat import losses
from headsplat.errors import HeadsplatError


def pair(seed: int, shape: tuple[int, ...] = (2, 33, 41, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def test_l1_and_l2_do_not_reduce() -> None:
    a, b = pair(0)
    assert losses.l1(a, b).shape == a.shape
    torch.testing.assert_close(losses.l1(a, b).square(), losses.l2(a, b))


def test_ssim_agrees_with_scikit_image() -> None:
    a, b = pair(1)
    b = 0.7 * a + 0.3 * b
    ours = losses.ssim(a, b)
    for i in range(2):
        _, theirs = structural_similarity(
            a[i].numpy(), b[i].numpy(), data_range=1, channel_axis=-1, full=True,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        np.testing.assert_allclose(ours[i, 5:-5, 5:-5], theirs[5:-5, 5:-5], atol=1e-4)


def test_ssim_is_one_for_equal_images_and_symmetric() -> None:
    a, b = pair(2, (7, 9, 3))
    torch.testing.assert_close(losses.ssim(a, a), torch.ones_like(a), atol=1e-4, rtol=0)
    torch.testing.assert_close(losses.ssim(a, b), losses.ssim(b, a))
    assert losses.ssim(a, b).shape == a.shape and losses.ssim(a, b).max() < 0.99


def test_offsets_within_the_free_length_cost_nothing() -> None:
    offsets = torch.tensor([[0.0, 0, 0], [0.03, 0.04, 0], [0, 0, -0.01]], requires_grad=True)
    cost = losses.offset_penalty(offsets, 0.02)
    torch.testing.assert_close(cost.detach(), torch.tensor([0.0, 0.03**2, 0]))
    cost.sum().backward()
    assert torch.isfinite(offsets.grad).all() and offsets.grad[1].norm() > 0
    plain = losses.offset_penalty(offsets.detach())
    torch.testing.assert_close(plain, offsets.detach().square().sum(-1), atol=1e-9, rtol=1e-5)


def test_pyramid_distance_is_a_distance_that_counts_low_frequencies_once_per_band() -> None:
    a, b = pair(3)
    assert (losses.pyramid_distance(a, a) == 0).all()
    torch.testing.assert_close(losses.pyramid_distance(a, b), losses.pyramid_distance(b, a))
    torch.testing.assert_close(losses.pyramid_distance(a, a + 0.25), torch.full((2,), 0.25))
    fine = a + 0.1 * torch.tensor([1.0, -1])[torch.arange(41) % 2][:, None]
    assert (losses.pyramid_distance(a, fine) >= 0.099).all()


def vgg_state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
             (14, 256, 256), (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512),
             (28, 512, 512)]  # fmt: skip
    state = {}
    for i, into, out in sizes:
        state[f"features.{i}.weight"] = torch.randn(out, into, 3, 3, generator=generator) / (3 * into**0.5)
        state[f"features.{i}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return state


def test_lpips_is_the_published_formula(tmp_path: Path) -> None:
    state = vgg_state()
    lins = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate((64, 128, 256, 512, 512))}
    torch.save(state, tmp_path / "vgg.pth")
    torch.save(lins, tmp_path / "lin.pth")
    lpips = losses.perceptual(tmp_path / "vgg.pth", tmp_path / "lin.pth")
    assert lpips.name == "LPIPS (VGG-16)"
    a, b = pair(4, (2, 32, 48, 3))

    layers: list[torch.nn.Module] = []
    for block in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for width in block:
            layers += [torch.nn.LazyConv2d(width, 3, padding=1), torch.nn.ReLU()]
        layers.append(torch.nn.MaxPool2d(2))
    vgg = torch.nn.Sequential(*layers)
    vgg(torch.zeros(1, 3, 32, 32))
    vgg.load_state_dict({k.removeprefix("features."): v for k, v in state.items()})

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        x = 2 * x.permute(0, 3, 1, 2) - 1 - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
        x = x / torch.tensor([0.458, 0.448, 0.450])[:, None, None]
        kept = []
        for i, layer in enumerate(vgg):
            x = layer(x)
            if i in (3, 8, 15, 22, 29):
                kept.append(F.normalize(x, dim=1))
        return kept

    with torch.no_grad():
        expected = torch.zeros(2)
        for k, (fa, fb) in enumerate(zip(features(a), features(b), strict=True)):
            expected += ((fa - fb) ** 2 * lins[f"lin{k}.model.1.weight"]).sum(1).mean((1, 2))
        torch.testing.assert_close(lpips.distance(a, b), expected, rtol=1e-4, atol=1e-5)
        assert (lpips.distance(a, a) == 0).all()


def test_flat_pictures_have_gradients_that_are_numbers(tmp_path: Path) -> None:
    state = {k: v - 1 if k.endswith("bias") else v for k, v in vgg_state().items()}  # nothing fires anywhere
    torch.save(state, tmp_path / "vgg.pth")
    black = torch.zeros(1, 16, 16, 3, requires_grad=True)
    losses.perceptual(tmp_path / "vgg.pth").distance(black, torch.rand(1, 16, 16, 3)).sum().backward()
    assert torch.isfinite(black.grad).all()


def test_lpips_on_alexnet_is_the_published_formula(tmp_path: Path) -> None:
    torch.manual_seed(0)
    convolutions = {0: (3, 64, 11, 4, 2), 3: (64, 192, 5, 1, 2), 6: (192, 384, 3, 1, 1),
                    8: (384, 256, 3, 1, 1), 10: (256, 256, 3, 1, 1)}  # fmt: skip
    layers: list[torch.nn.Module] = []
    for i, (into, out, *rest) in convolutions.items():
        layers += [torch.nn.MaxPool2d(3, 2)] if i in (3, 6) else []
        layers += [torch.nn.Conv2d(into, out, *rest), torch.nn.ReLU()]
    alexnet = torch.nn.Sequential(*layers)
    torch.save({f"features.{k}": v for k, v in alexnet.state_dict().items()}, tmp_path / "alexnet.pth")
    lins = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate((64, 192, 384, 256, 256))}
    torch.save(lins, tmp_path / "lin.pth")
    lpips = losses.perceptual(tmp_path / "alexnet.pth", tmp_path / "lin.pth")
    assert lpips.name == "LPIPS (AlexNet)"
    a, b = pair(4, (2, 67, 80, 3))

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        x = 2 * x.permute(0, 3, 1, 2) - 1 - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
        x = x / torch.tensor([0.458, 0.448, 0.450])[:, None, None]
        kept = []
        for layer in alexnet:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                kept.append(F.normalize(x, dim=1))
        return kept

    with torch.no_grad():
        expected = torch.zeros(2)
        for k, (fa, fb) in enumerate(zip(features(a), features(b), strict=True)):
            expected += ((fa - fb) ** 2 * lins[f"lin{k}.model.1.weight"]).sum(1).mean((1, 2))
        torch.testing.assert_close(lpips.distance(a, b), expected, rtol=1e-4, atol=1e-6)


def test_the_substitute_says_that_it_is_one(tmp_path: Path) -> None:
    assert "substitute" in losses.perceptual().name
    torch.save({"features.0.weight": torch.zeros(1, 3, 3, 3)}, tmp_path / "half.pth")
    with pytest.raises(HeadsplatError, match=r"features\.0\.bias"):
        losses.perceptual(tmp_path / "half.pth")
    (tmp_path / "text.pth").write_text("nothing")
    for name in ("text.pth", "absent.safetensors"):
        with pytest.raises(HeadsplatError, match="cannot be read"):
            losses.perceptual(tmp_path / name)
