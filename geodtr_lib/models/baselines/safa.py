"""SAFA: spatial-aware feature aggregation.

Source: Shi, Liu, Yu and Li, "Spatial-Aware Feature Aggregation for Cross-View Image Based Geo-Localization", NeurIPS 2019. Each branch
weighs its features with K maps of importance. A map is made of one value per position, the largest over the channels, by two linear
layers without an activation between them; it is used as it comes out, in any range.

The paper takes the maximum over the channels, its released code the mean; both are here. The released VGG-16 pools its features once more
(stride 32); here the trunk's name says the stride (``vgg16:stride32``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geodtr_lib.errors import ConfigError
from geodtr_lib.models.backbones import Backbone, build_backbone
from geodtr_lib.models.base import Size, TwoBranches
from geodtr_lib.models.geodtr import ViewEmbedding, embed

REDUCTIONS = ("max", "mean")


class SpatialAttention(nn.Module):
    """Maps of importance: features B x C x h x w to maps B x K x h x w, of any range.

    Args:
        height, width: of the features; N = height * width positions.
        maps: K.
        reduce: ``max`` over the channels (the paper), or ``mean`` (its code).

    Raises:
        ConfigError: another ``reduce``.
    """

    def __init__(self, height: int, width: int, maps: int = 8, reduce: str = "max") -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise ConfigError(f"reduce: {reduce!r} is not known; allowed: {', '.join(REDUCTIONS)}")
        positions = height * width
        hidden = max(1, positions // 2)
        self.reduce = reduce
        self.w1, self.b1 = _weight(positions, maps, hidden), nn.Parameter(torch.full((maps, hidden), 0.1))
        self.w2, self.b2 = _weight(maps, hidden, positions), nn.Parameter(torch.full((maps, positions), 0.1))

    def forward(self, features: Tensor) -> Tensor:
        """Features B x C x h x w to maps B x K x h x w."""
        reduced = features.amax(1) if self.reduce == "max" else features.mean(1)  # B x h x w
        # b = batch, k = map, n = position, m = hidden
        hidden = torch.einsum("bn,nkm->bkm", reduced.flatten(1), self.w1) + self.b1  # B x K x M
        maps: Tensor = torch.einsum("bkm,kmn->bkn", hidden, self.w2) + self.b2  # B x K x N
        return maps.reshape(-1, maps.shape[1], *features.shape[2:])  # B x K x h x w


def _weight(*shape: int) -> nn.Parameter:
    """As released: a normal of deviation 0.005 without its tails, so that every map begins nearly uniform."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.005, a=-0.01, b=0.01))


class SafaBranch(nn.Module):
    """Images to features, features to maps, both to the embedding; the maps are the view's ``descriptors``."""

    def __init__(self, trunk: Backbone, size: Size, maps: int, reduce: str) -> None:
        super().__init__()
        self.trunk = trunk
        self.attention = SpatialAttention(*trunk.feature_size(size), maps, reduce)

    def forward(self, images: Tensor) -> ViewEmbedding:
        """Images B x 3 x H x W."""
        features = self.trunk(images)
        maps = self.attention(features)
        return ViewEmbedding(embed(features, maps), maps, features)


class Safa(TwoBranches):
    """SAFA on any trunk (module docstring).

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`; the paper's is ``vgg16:stride32``.
        aerial_size, ground_size: (height, width) of the images in pixels.
        maps: K; the embedding has K times as many values as the trunk has channels.
        reduce: ``max`` or ``mean``.
        pretrained: start from ImageNet weights.

    Raises:
        ConfigError: an unknown name or an impossible value.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self, backbone: str, aerial_size: Size, ground_size: Size, maps: int = 8, reduce: str = "max", pretrained: bool = False
    ) -> None:
        super().__init__(*(SafaBranch(build_backbone(backbone, pretrained), size, maps, reduce) for size in (aerial_size, ground_size)))
