"""Transformer blocks of two token streams: queries that look at a context.

`JointBlock` is the unmodulated two-stream block of Stable Diffusion 3 (Esser et al. 2024) with the parameter
names of its published checkpoints; `CrossBlock` is the classic decoder block (Vaswani et al. 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headsplat.nets.attention import HeadNorm, attend, split_heads


class JointBlock(nn.Module):
    """Queries and context attend to all tokens of both, each stream with its own weights.

    The feed-forward norms have no parameters. The last block of a stack needs no output for the context.
    """

    def __init__(self, width: int, heads: int, *, last: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.norm1_context = nn.LayerNorm(width, eps=1e-5)
        self.attn = JointAttention(width, heads, last=last)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ff = FeedForward(width)
        self.norm2_context = None if last else nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ff_context = None if last else FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, width) queries and (B, M, width) context to the same; the last block leaves the context."""
        change, context_change = self.attn(self.norm1(x), self.norm1_context(context))
        x = x + change
        x = x + self.ff(self.norm2(x))
        if self.ff_context is not None and self.norm2_context is not None and context_change is not None:
            context = context + context_change
            context = context + self.ff_context(self.norm2_context(context))
        return x, context


class JointAttention(nn.Module):
    """Attention over the tokens of both streams, with RMS-normalised queries and keys."""

    def __init__(self, width: int, heads: int, *, last: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k, self.norm_added_q, self.norm_added_k = (
            HeadNorm(width // heads) for _ in range(4)
        )
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = None if last else nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, N, width) queries and (B, M, width) context to what attention adds to each of them."""
        q = self._both(self.norm_q, self.to_q(x), self.norm_added_q, self.add_q_proj(context))
        k = self._both(self.norm_k, self.to_k(x), self.norm_added_k, self.add_k_proj(context))
        v = split_heads(torch.cat([self.to_v(x), self.add_v_proj(context)], 1), self.heads)
        out = attend(q, k, v)
        count = x.shape[1]
        added = None if self.to_add_out is None else self.to_add_out(out[:, count:])
        return self.to_out[0](out[:, :count]), added

    def _both(self, norm: nn.Module, x: Tensor, context_norm: nn.Module, context: Tensor) -> Tensor:
        x, context = norm(split_heads(x, self.heads)), context_norm(split_heads(context, self.heads))
        return torch.cat([x, context.to(x.dtype)], 2)


class CrossBlock(nn.Module):
    """Queries attend to one another, then to a context that stays as it is, then go through an MLP.

    Without `self_attention` the cost is linear in the number of queries.
    """

    def __init__(self, width: int, heads: int, *, self_attention: bool = True) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width) if self_attention else None
        self.self_attn = CrossAttention(width, heads) if self_attention else None
        self.norm_cross = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads)
        self.norm_ff = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, width) queries and (B, M, width) context to new queries and the same context."""
        if self.self_attn is not None and self.norm_self is not None:
            normed = self.norm_self(x)
            x = x + self.self_attn(normed, normed)
        x = x + self.cross_attn(self.norm_cross(x), self.norm_context(context))
        return x + self.ff(self.norm_ff(x)), context


class CrossAttention(nn.Module):
    """Attention of one sequence to another, with RMS-normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width) for _ in range(4))
        self.norm_q, self.norm_k = (HeadNorm(width // heads) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, N, width) queries and (B, M, width) context to (B, N, width)."""
        q = self.norm_q(split_heads(self.to_q(x), self.heads))
        k = self.norm_k(split_heads(self.to_k(context), self.heads))
        return self.to_out(attend(q, k, split_heads(self.to_v(context), self.heads)))


class FeedForward(nn.Module):
    """Two linear layers, four times as wide inside, with the tanh form of GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Gelu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        for layer in self.net:
            x = layer(x)
        return x


class _Gelu(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")
