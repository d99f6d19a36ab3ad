"""Attention whose gradients are fast on a CPU under bf16 autocast.

The backward pass of torch's fused attention on a CPU takes longer in bf16 than in float32, for short sequences more than ten times as
long. So under autocast on a CPU queries, keys and values are widened for it; the projections around it stay in bf16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """``softmax(query key^T / sqrt(d)) value`` of tensors B x heads x N x d, to the same shape.

    Args:
        dropout: probability that a weight is dropped, in [0, 1).
    """
    if not _widens(query):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), dropout_p=dropout)


class SelfAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` of tokens with themselves, B x N x d, that takes :func:`attend` where that is the faster one."""

    @classmethod
    def like(cls, module: nn.MultiheadAttention) -> SelfAttention:
        """A module with the same settings and the same parameters, not copies."""
        made = cls(module.embed_dim, module.num_heads, module.dropout, batch_first=True, device="meta")
        made.in_proj_weight, made.in_proj_bias, made.out_proj = module.in_proj_weight, module.in_proj_bias, module.out_proj
        return made

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        """As of ``nn.MultiheadAttention``; with masks, weights asked for, or keys from elsewhere it is that one's."""
        plain = query is key is value and not others and not named.get("need_weights", True)
        if not plain or not _widens(query) or named.get("attn_mask") is not None or named.get("key_padding_mask") is not None:
            found: tuple[Tensor, Tensor | None] = super().forward(query, key, value, *others, **named)
            return found
        parts = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2)  # B x N x d each
        heads = [part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts]  # B x heads x N x d / heads
        mixed = attend(heads[0], heads[1], heads[2], self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None


def _widens(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
