"""Multi-head attention over token sequences, always through the fused kernel."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, heads * D) to (B, heads, N, D)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v of (B, heads, N, D) queries and (B, heads, M, D) keys and values.

    The (N, M) map is never held in memory as a whole.

    Returns:
        (B, N, heads * D), the heads side by side.
    """
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
