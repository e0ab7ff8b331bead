"""Multi-head attention over token sequences, always through the fused kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, heads * D) to (B, heads, N, D)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v of (B, heads, N, D) queries and (B, heads, M, D) keys and values.

    The (N, M) map is never held in memory as a whole.

    Returns:
        (B, N, heads * D), the heads side by side.
    """
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


class HeadNorm(nn.Module):
    """Root-mean-square norm of one head's channels, with a learned gain, in the precision of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)
