"""The DINOv2 vision transformer (Oquab et al. 2023), with the registers of Darcet et al. (2024) if wanted.

Parameter names are those of the published checkpoints, so that their tensors load one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.nets.attention import attend, split_heads


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a vision transformer.

    Attributes:
        width: channels of a token.
        depth: number of blocks.
        heads: attention heads per block.
        patch: side of a patch, pixels.
        grid: side of the stored table of positions, patches.
        registers: extra tokens without a place in the image.
        mask_token: keep the token that masked training uses; only for checkpoints that contain it.
    """

    width: int
    depth: int
    heads: int
    patch: int = 14
    grid: int = 37
    registers: int = 0
    mask_token: bool = False


def vit_l14_registers() -> VitConfig:
    """DINOv2 ViT-L/14 with four registers, 304 M parameters."""
    return VitConfig(width=1024, depth=24, heads=16, registers=4)


def vit_b14() -> VitConfig:
    """DINOv2 ViT-B/14, 87 M parameters."""
    return VitConfig(width=768, depth=12, heads=12, mask_token=True)


class VisionTransformer(nn.Module):
    """Image to patch tokens, taken after any of the blocks."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, width))
        self.register_tokens = (
            nn.Parameter(torch.zeros(1, config.registers, width)) if config.registers else None
        )
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if config.mask_token else None
        self.patch_embed = PatchEmbedding(width, config.patch)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=1e-6)

    def forward(self, images: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Patch tokens after the final norm, one tensor per tap.

        Args:
            images: (B, 3, H, W); H and W multiples of the patch. 0..1 or normalised: as trained.
            taps: ascending block numbers, counted from 0.

        Returns:
            For each tap (B, H W / patch², width), row by row.
        """
        x = self.tokens(images)
        first = 1 + self.config.registers
        outputs = []
        for i, block in enumerate(self.blocks[: max(taps) + 1]):
            x = block(x)
            if i in taps:
                outputs.append(self.norm(x)[:, first:])
        return outputs

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 1 + registers + patches, width) what enters the first block: class, registers, patches."""
        patches = self.patch_embed(images)
        batch, _, rows, columns = patches.shape
        place = self.positions(rows, columns).to(patches.dtype)
        head = [(self.cls_token + place[:, :1]).expand(batch, -1, -1)]
        if self.register_tokens is not None:
            head.append(self.register_tokens.expand(batch, -1, -1))
        return torch.cat([*head, patches.flatten(2).transpose(1, 2) + place[:, 1:]], 1)

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, width) position codes; the stored grid, resized (bicubic, antialiased)."""
        grid, width = self.config.grid, self.config.width
        if (rows, columns) == (grid, grid):
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().reshape(1, grid, grid, width).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([self.pos_embed[:, :1].float(), table.flatten(2).transpose(1, 2)], 1)


class PatchEmbedding(nn.Module):
    """One linear map per patch, as a strided convolution."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, width, H / patch, W / patch)."""
        return self.proj(images)


class Block(nn.Module):
    """Self-attention, then an MLP, each after a norm and with a learned gain per channel (LayerScale)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) tokens to tokens."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class SelfAttention(nn.Module):
    """Multi-head self-attention with queries, keys and values from one layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) tokens to tokens."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return self.proj(attend(q, k, v))


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned gain per channel; small at first where training starts from nothing."""

    def __init__(self, width: int, initial: float = 0.1) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        return x * self.gamma
