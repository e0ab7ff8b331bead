"""A U-Net whose way up modulates a StyleGAN2-like decoder: from a map of features to a picture.

The design is GFPGAN's (Wang et al., CVPR 2021) as GAGAvatar uses it for its neural renderer: plain
convolutions without equalised learning rates or blurring, bilinear enlargement before each modulated
convolution, and at every size the U-Net scales and shifts all channels of the decoder. Module names are those
of GAGAvatar's published checkpoint. B pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Noise = Literal["random", "buffer", "none"]

SMALLEST = 4
"""Side of the innermost map, pixels."""


@dataclass(frozen=True)
class StyleUNetConfig:
    """Sizes of a StyleUNet.

    Attributes:
        channels: of the input map.
        size: side of input and picture, pixels: 4 times a power of two.
        widths: channels of the U-Net at `size`, half of it, ... down to 4 pixels; the decoder has twice as
            many at each size.
        style: length of the style vector.
        mapping: linear layers between the U-Net's innermost map and the style.
        noise: what the decoder adds to its maps: maps drawn anew at each call ("random"), the maps stored in
            the checkpoint ("buffer"), or nothing ("none": then its gains do not learn either).
        spare: keep the layers and maps that the published checkpoint holds and nothing uses.
    """

    channels: int = 32
    size: int = 512
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 256, 256, 256)
    style: int = 512
    mapping: int = 8
    noise: Noise = "none"
    spare: bool = False

    def __post_init__(self) -> None:
        if self.size != SMALLEST << (len(self.widths) - 1):
            raise ValueError(f"{len(self.widths)} widths do not lead from {self.size} to {SMALLEST} pixels")


class StyleUNet(nn.Module):
    """Features (B, channels, size, size) to a picture (B, 3, size, size)."""

    def __init__(self, config: StyleUNetConfig) -> None:
        super().__init__()
        self.config = config
        down, up = config.widths, config.widths[::-1]
        steps = len(down) - 1
        self.conv_body_first = nn.Conv2d(config.channels, down[0], 1)
        self.conv_body_down = nn.ModuleList(ResBlock(down[i], down[i + 1], 0.5) for i in range(steps))
        self.final_conv = nn.Conv2d(up[0], up[0], 3, padding=1)
        self.final_linear = nn.Linear(up[0] * SMALLEST**2, config.style)
        self.conv_body_up = nn.ModuleList(ResBlock(up[k], up[k + 1], 2) for k in range(steps))
        if config.spare:
            self.toRGB = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in up[1:])
            self.toRGB.requires_grad_(False)
        self.condition_scale = nn.ModuleList(_condition(width) for width in up[1:])
        self.condition_shift = nn.ModuleList(_condition(width) for width in up[1:])
        self.stylegan_decoder = Decoder(config)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A picture of a feature map.

        Args:
            features: (B, channels, H, W); maps smaller than `size` are enlarged.
            generator: of the random noise, where there is any.

        Returns:
            (B, 3, size, size), 0..1.
        """
        size = self.config.size
        if features.shape[-2:] != (size, size):
            features = F.interpolate(features, size=(size, size), mode="bilinear", align_corners=False)
        # Channels last is a fifth faster on CPUs.
        style, conditions = self.conditions(features.contiguous(memory_format=torch.channels_last))
        return self.stylegan_decoder(style, conditions, generator).sigmoid()

    def conditions(self, features: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The U-Net alone.

        Args:
            features: (B, channels, size, size).

        Returns:
            The style before its mapping (B, style), and per size from 8 pixels on the scale and the shift of
            the decoder's maps, each (B, 2 width, H, W).
        """
        x = leaky(self.conv_body_first(features))
        skips = []
        for block in self.conv_body_down:
            x = block(x)
            skips.append(x)
        x = leaky(self.final_conv(x))
        style = self.final_linear(x.flatten(1))
        conditions = []
        for k, block in enumerate(self.conv_body_up):
            x = block(x + skips.pop())
            conditions.append((self.condition_scale[k](x), self.condition_shift[k](x)))
        return style, conditions


class ResBlock(nn.Module):
    """Two convolutions with a change of size between, and a linear way around."""

    def __init__(self, width: int, out: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, out, 3, padding=1)
        self.skip = nn.Conv2d(width, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, out, factor H, factor W)."""
        around = self.skip(resize(x, self.factor))
        return leaky(self.conv2(resize(leaky(self.conv1(x)), self.factor))) + around


class Decoder(nn.Module):
    """A constant that grows into a picture under a style and the U-Net's conditions."""

    def __init__(self, config: StyleUNetConfig) -> None:
        super().__init__()
        widths = [2 * width for width in config.widths[::-1]]
        style, self.noise = config.style, config.noise
        learn = config.noise != "none"
        layers: list[nn.Module] = [StyleNorm()]
        for _ in range(config.mapping):
            linear = nn.Linear(style, style)
            nn.init.kaiming_normal_(linear.weight, a=0.2, nonlinearity="leaky_relu")
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.LeakyReLU(0.2)]
        self.style_mlp = nn.Sequential(*layers)
        self.constant_input = Constant(widths[0])
        self.style_conv1 = StyleConv(widths[0], widths[0], style, learn)
        self.to_rgb1 = ToRgb(widths[0], style)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[1:], widths[:-1], strict=True):
            self.style_convs.append(StyleConv(wide, narrow, style, learn, enlarge=True))
            self.style_convs.append(StyleConv(narrow, narrow, style, learn))
            self.to_rgbs.append(ToRgb(narrow, style))
        self.noises = nn.Module() if config.spare or config.noise == "buffer" else None
        if self.noises is not None:
            for i in range(2 * len(widths) - 1):
                side = _side(i)
                self.noises.register_buffer(f"noise{i}", torch.randn(1, 1, side, side))

    def forward(
        self, style: Tensor, conditions: list[tuple[Tensor, Tensor]], generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, style) and the conditions of every size to (B, 3, size, size), before the sigmoid."""
        style = self.style_mlp(style)
        x = self.constant_input(len(style))
        x = self.style_conv1(x, style, self._noise(0, x, generator))
        rgb = self.to_rgb1(x, style)
        for k, (scale, shift) in enumerate(conditions):
            x = self.style_convs[2 * k](x, style, self._noise(2 * k + 1, x, generator))
            x = torch.addcmul(shift, x, scale)
            x = self.style_convs[2 * k + 1](x, style, self._noise(2 * k + 2, x, generator))
            rgb = self.to_rgbs[k](x, style, rgb)
        return rgb

    def _noise(self, layer: int, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """The map that a style layer adds, (1 or B, 1, H, W)."""
        if self.noise == "buffer":
            return getattr(self.noises, f"noise{layer}")
        if self.noise == "random":
            shape = (len(like), 1, _side(layer), _side(layer))
            return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return None


class StyleNorm(nn.Module):
    """A vector divided by the root of its mean square."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, n) to (B, n)."""
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Constant(nn.Module):
    """The learned map that the decoder starts from."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, width, SMALLEST, SMALLEST))

    def forward(self, batch: int) -> Tensor:
        """(batch, width, 4, 4)."""
        return self.weight.expand(batch, -1, -1, -1)


class ModulatedConv(nn.Module):
    """A convolution whose input channels the style scales (Karras et al. 2020, section 2.2)."""

    def __init__(
        self, width: int, out: int, kernel: int, style: int, *, demodulate: bool, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.demodulate, self.gain = demodulate, gain
        self.weight = nn.Parameter(
            torch.randn(1, out, width, kernel, kernel) / math.sqrt(width * kernel * kernel)
        )
        self.modulation = nn.Linear(style, width)
        nn.init.kaiming_normal_(self.modulation.weight, nonlinearity="linear")
        nn.init.ones_(self.modulation.bias)

    def forward(self, x: Tensor, style: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, width, H, W) under (B, style), times `gain` and plus (out,) `bias`, to (B, out, H, W)."""
        batch = len(x)
        weight = self.weight * self.modulation(style)[:, None, :, None, None]
        if self.demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        # Gain and bias go into the convolution: passes over whole maps cost as much as the sums in it.
        weight = (self.gain * weight).flatten(0, 1)
        padding = weight.shape[-1] // 2
        if batch == 1:
            return F.conv2d(x, weight, bias, padding=padding)
        # One group per picture: each has weights of its own.
        bias = None if bias is None else bias.repeat(batch)
        out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, bias, padding=padding, groups=batch)
        return out.reshape(batch, -1, *out.shape[2:])


class StyleConv(nn.Module):
    """Enlargement if wanted, modulated convolution, noise, bias, LeakyReLU."""

    def __init__(self, width: int, out: int, style: int, noisy: bool, *, enlarge: bool = False) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.modulated_conv = ModulatedConv(width, out, 3, style, demodulate=True, gain=math.sqrt(2))
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=noisy)
        self.bias = nn.Parameter(torch.zeros(1, out, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """(B, width, H, W) under (B, style) to (B, out, H, W) or twice that size."""
        if self.enlarge:
            x = resize(x, 2)
        if noise is None:
            return leaky(self.modulated_conv(x, style, self.bias.flatten()))
        return leaky(self.modulated_conv(x, style) + self.weight * noise + self.bias)


class ToRgb(nn.Module):
    """Features to RGB, added to the enlarged picture of the size before."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv(width, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, before: Tensor | None = None) -> Tensor:
        """(B, width, H, W) under (B, style), and (B, 3, H/2, W/2), to (B, 3, H, W)."""
        rgb = self.modulated_conv(x, style, self.bias.flatten())
        return rgb if before is None else rgb + resize(before, 2)


def resize(x: Tensor, factor: float) -> Tensor:
    """(B, C, H, W) at half or twice the size, bilinear, without antialiasing."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def leaky(x: Tensor) -> Tensor:
    """The one activation of this network."""
    return F.leaky_relu(x, 0.2)


def _condition(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 3, padding=1)
    )


def _side(layer: int) -> int:
    """Side of the maps of a style layer, counted from 0, pixels."""
    return SMALLEST << ((layer + 1) // 2)
