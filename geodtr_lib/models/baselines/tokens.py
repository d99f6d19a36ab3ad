"""Vision transformers as L2LTR and TransGeo use them: tokens of a trunk or of plain patches, with class tokens, in pre-norm layers.

Names of weights are timm's, so that its ImageNet weights of ViT and DeiT load.
"""

from __future__ import annotations

import re

import torch
from timm.layers.mlp import Mlp
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.errors import ConfigError
from geodtr_lib.models.attention import attend
from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.models.base import Size


class Attention(nn.Module):
    """Multi-head self-attention whose keys may come from elsewhere.

    Raises:
        ConfigError: heads that do not divide the width.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"heads: {heads} do not divide the {width} channels of the tokens; choose a divisor of {width}")
        self.heads, self.dropout = heads, dropout
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def split(self, tokens: Tensor, key_tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens B x N x d, the keys of other tokens: B x heads x N x d / heads each."""
        if key_tokens is tokens:
            query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        else:
            weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
            query, key, value = (
                F.linear(source, weight, bias) for source, weight, bias in zip((tokens, key_tokens, tokens), weights, biases, strict=True)
            )
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        return query, key, value

    def forward(self, tokens: Tensor, key_tokens: Tensor) -> Tensor:
        """Tokens B x N x d to the same shape."""
        query, key, value = self.split(tokens, key_tokens)
        out = attend(query, key, value, self.dropout if self.training else 0.0)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected

    def weights(self, tokens: Tensor) -> Tensor:
        """How much each token looks at each other one, B x heads x N x N; rows sum to 1."""
        query, key, _ = self.split(tokens, tokens)
        scaled: Tensor = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        return scaled.softmax(3)


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, dropout)
        self.mlp = Mlp(width, ffn_width, drop=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, key_tokens: Tensor | None = None) -> Tensor:
        """Tokens B x N x d to the same shape; ``key_tokens`` B x N x d give the keys, None = the tokens themselves."""
        normalised = self.norm1(tokens)
        keys = normalised if key_tokens is None else self.norm1(key_tokens)
        tokens = tokens + self.drop(self.attn(normalised, keys))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))  # which drops what it gives
        return out


class Tokens(nn.Module):
    """Images to tokens: those of a trunk, one per position, or of plain patches; class tokens before them, positions added.

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`, or ``patchN`` for plain patches of N x N pixels.
        size: (height, width) of the images in pixels.
        width: d of a token; 0 = the trunk's channels.
        class_tokens: 1, or 2 (DeiT's distillation token).
        pretrained: of the trunk.

    Raises:
        ConfigError: an unknown backbone, or plain patches without a width or larger than the image.
    """

    def __init__(self, backbone: str, size: Size, width: int, class_tokens: int, pretrained: bool) -> None:
        super().__init__()
        self.patch = patch_side(backbone)
        if self.patch:
            if not width or min(size) < self.patch:
                raise ConfigError(f"backbone: {backbone!r} needs a width of its tokens (given {width}) and images larger than {size}")
            self.trunk: nn.Module = nn.Identity()
            self.proj: nn.Module = nn.Conv2d(3, width, self.patch, stride=self.patch)
            self.grid = (size[0] // self.patch, size[1] // self.patch)
        else:
            trunk = build_backbone(backbone, pretrained)
            self.trunk, self.grid = trunk, trunk.feature_size(size)
            self.proj = nn.Conv2d(trunk.channels, width, 1) if width and width != trunk.channels else nn.Identity()
            width = width or trunk.channels
        self.width = width
        self.classes = nn.ParameterList(nn.Parameter(torch.randn(1, 1, width) * 0.02) for _ in range(class_tokens))
        self.pos_embed = nn.Parameter(torch.randn(1, class_tokens + self.grid[0] * self.grid[1], width) * 0.02)

    def features(self, images: Tensor) -> Tensor:
        """Images B x 3 x H x W, of any size, to B x d x h x w."""
        found: Tensor = self.proj(self.trunk(images))
        return found

    def forward(self, features: Tensor) -> Tensor:
        """Features B x d x h x w to tokens B x (class tokens + hw) x d. Positions are resampled where the grid is another."""
        grid = (features.shape[2], features.shape[3])
        position = self.pos_embed
        if grid != self.grid:
            position = resample_abs_pos_embed(position, list(grid), list(self.grid), num_prefix_tokens=len(self.classes))
        classes = [token.expand(len(features), -1, -1) for token in self.classes]
        return torch.cat([*classes, features.flatten(2).transpose(1, 2)], dim=1) + position


def patch_side(backbone: str) -> int:
    """N of ``patchN``, else 0."""
    match = re.fullmatch(r"patch([1-9]\d*)", backbone)
    return int(match[1]) if match else 0
