"""Geometric layout extractors (GLE): raw features to K geometric layout descriptors (GLD).

Version 1 is of GeoDTR (AAAI 2023), version 2 of GeoDTR+ (TPAMI 2024, Section III-C2 and Figure 3). Both take features B x C x h x w
and give descriptors B x K x h x w; N = h * w positions are counted row by row.

Einsum letters: b = batch, k, l = descriptor, n, m = position, d = width of a token, e = width of the bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.errors import ConfigError
from geodtr_lib.models.attention import SelfAttention


class DescriptorRange(NamedTuple):
    """An activation and the range it gives. Counterfactual descriptors are drawn from the same range: the two are one choice."""

    activation: Callable[[Tensor], Tensor]
    low: float
    high: float


RANGES: dict[str, DescriptorRange] = {
    "sigmoid": DescriptorRange(torch.sigmoid, 0.0, 1.0),
    "hardtanh": DescriptorRange(F.hardtanh, -1.0, 1.0),
}


class Start(NamedTuple):
    """How weights over positions and their biases start: standard deviation, given how many values are summed up, and constant."""

    deviation: Callable[[int], float]
    bias: float


STARTS: dict[str, Start] = {
    # So small that every descriptor begins as nearly the same average pooling, whatever the image.
    "released": Start(lambda fan_in: 0.005, 0.1),
    # Keeps the variance of what goes in, so that descriptors differ, and with the image, from the first step on.
    "fan_in": Start(lambda fan_in: fan_in**-0.5, 0.0),
}


class LayoutExtractor(nn.Module):
    """What both versions share: the sizes, the descriptor range, how weights start, and the transformer.

    Raises:
        ConfigError: an unknown activation or start, or a count below 1.
    """

    def __init__(self, channels: int, height: int, width: int, n_desc: int, activation: str, start: str) -> None:
        super().__init__()
        if not isinstance(n_desc, int) or n_desc < 1:
            raise ConfigError(f"n_desc: {n_desc!r} is not possible; it must be a whole number from 1")
        if activation not in RANGES:
            raise ConfigError(f"activation: {activation!r} is not known; allowed: {', '.join(RANGES)}")
        if start not in STARTS:
            raise ConfigError(f"gle_start: {start!r} is not known; allowed: {', '.join(STARTS)}")
        self.channels, self.height, self.width, self.n_desc, self.activation = channels, height, width, n_desc, activation

    @property
    def descriptor_range(self) -> DescriptorRange:
        """Activation and range of the descriptors."""
        return RANGES[self.activation]

    def forward(self, features: Tensor) -> Tensor:
        """Features B x C x h x w to descriptors B x K x h x w in ``descriptor_range``."""
        expected = (self.channels, self.height, self.width)
        if features.shape[1:] != expected:
            raise ConfigError(
                f"features are {tuple(features.shape[1:])} but the layout extractor was built for {expected}; "
                "give images of the size that the model was built for, or build the model for these"
            )
        maps = self.layouts(features)  # B x K x N
        return self.descriptor_range.activation(maps).reshape(-1, self.n_desc, self.height, self.width)  # B x K x h x w

    def layouts(self, features: Tensor) -> Tensor:
        """Features B x C x h x w to descriptors before the activation, B x K x N."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"n_desc={self.n_desc}, height={self.height}, width={self.width}, activation={self.activation!r}"


class LayoutExtractorV2(LayoutExtractor):
    """GLE of GeoDTR+: every position is a token.

    Args:
        channels, height, width: of the features.
        n_desc: K, number of descriptors.
        heads, layers, ffn_width, dropout: of the transformer (post-norm, GELU).
        bottleneck: per descriptor N -> N // 2 -> N, linear, with no activation between.
        activation: ``sigmoid`` as released, or ``hardtanh``.
        start: of the bottleneck: ``released`` or ``fan_in``, see ``STARTS``.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        n_desc: int,
        heads: int = 4,
        layers: int = 2,
        ffn_width: int = 512,
        dropout: float = 0.3,
        bottleneck: bool = True,
        activation: str = "sigmoid",
        start: str = "released",
    ) -> None:
        super().__init__(channels, height, width, n_desc, activation, start)
        positions = height * width
        self.position = nn.Parameter(torch.zeros(1, positions, channels))
        self.dropout = nn.Dropout(dropout)
        self.transformer = _transformer(channels, heads, layers, ffn_width, dropout)
        self.pointwise = nn.Linear(channels, n_desc)
        self.bottleneck = Bottleneck(n_desc, positions, STARTS[start]) if bottleneck else nn.Identity()

    def layouts(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)  # B x N x C
        tokens = self.transformer(self.dropout(tokens + self.position))
        maps: Tensor = self.bottleneck(self.pointwise(tokens).transpose(1, 2))  # B x K x N
        return maps


class Bottleneck(nn.Module):
    """Two linear layers over the N positions, with weights of each descriptor's own (GeoDTR+ Section III-C2)."""

    def __init__(self, n_desc: int, positions: int, start: Start = STARTS["released"]) -> None:
        super().__init__()
        hidden = max(positions // 2, 1)
        self.w1, self.b1 = _weights(start, positions, n_desc, positions, hidden), _bias(start, n_desc, hidden)
        self.w2, self.b2 = _weights(start, hidden, n_desc, hidden, positions), _bias(start, n_desc, positions)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps B x K x N to B x K x N."""
        hidden = torch.einsum("bkn,kne->bke", maps, self.w1) + self.b1  # B x K x N // 2
        return torch.einsum("bke,ken->bkn", hidden, self.w2) + self.b2


class LayoutExtractorV1(LayoutExtractor):
    """GLE of GeoDTR: every descriptor is a token, projected from the saliency map.

    The released one needs an even N whose half the heads divide. This one takes any N: tokens have the width N // 2 rounded down to a
    multiple of the heads (at least one each), and the index-aware position embedding reads all N positions. Where the released one
    runs, the two are equal.

    Args:
        channels, height, width: of the features.
        n_desc: K, number of descriptors.
        heads, layers, ffn_width, dropout: of the transformer (post-norm, GELU). The release has ``ffn_width`` 2048.
        activation: ``hardtanh`` as released, or ``sigmoid``.
        start: of the projections over positions: ``released`` or ``fan_in``, see ``STARTS``.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        n_desc: int,
        heads: int = 4,
        layers: int = 2,
        ffn_width: int = 2048,
        dropout: float = 0.3,
        activation: str = "hardtanh",
        start: str = "released",
    ) -> None:
        super().__init__(channels, height, width, n_desc, activation, start)
        positions = height * width
        token = max(positions // 2 // max(heads, 1), 1) * heads
        begin = STARTS[start]
        self.w1, self.b1 = _weights(begin, positions, positions, n_desc, token), _bias(begin, n_desc, token)
        self.index_weight = _weights(begin, positions, positions, n_desc, token)
        self.position = nn.Parameter(torch.zeros(1, n_desc, token))
        self.dropout = nn.Dropout(dropout)
        self.transformer = _transformer(token, heads, layers, ffn_width, dropout)
        self.w2, self.b2 = _weights(begin, token, token, n_desc, positions), _bias(begin, n_desc, positions)

    def layouts(self, features: Tensor) -> Tensor:
        saliency, channel = features.flatten(2).max(dim=1)  # B x N each
        index = channel.to(saliency.dtype) / self.channels  # in [0, 1)
        tokens = torch.einsum("bn,nkd->bkd", saliency, self.w1) + self.b1  # B x K x d
        position = F.hardtanh(torch.einsum("bn,nkd->bkd", index, self.index_weight) + self.position)
        tokens = self.transformer(self.dropout(tokens + position))
        return torch.einsum("bkd,dkn->bkn", tokens, self.w2) + self.b2  # B x K x N


LAYOUT_EXTRACTORS: dict[str, type[LayoutExtractorV1] | type[LayoutExtractorV2]] = {"v1": LayoutExtractorV1, "v2": LayoutExtractorV2}


def _transformer(width: int, heads: int, layers: int, ffn_width: int, dropout: float) -> nn.TransformerEncoder:
    if heads < 1 or width % heads:
        raise ConfigError(f"heads: {heads} do not divide the {width} channels of the tokens; choose a divisor of {width}")
    layer = nn.TransformerEncoderLayer(width, heads, ffn_width, dropout, activation="gelu", batch_first=True)
    layer.self_attn = SelfAttention.like(layer.self_attn)
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)


def _weights(start: Start, fan_in: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=start.deviation(fan_in)))


def _bias(start: Start, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.full((1, *shape), start.bias))
