"""VIGOR's own method: SAFA that also says where in the tile the camera stood.

Source: Zhu, Yang and Chen, "VIGOR: Cross-View Image Geo-localization beyond One-to-one Retrieval", CVPR 2021. The retrieval part is SAFA
with the maximum. A small network on the two aggregated features, before they are scaled to unit length, says how far the camera is from
the tile's centre. Its losses, which need tiles that cover a place off their centre, are :func:`geodtr_lib.losses_overlap.overlap_loss`
and :func:`~geodtr_lib.losses_overlap.offset_loss`.

Where this differs from the paper: one of the three covering tiles is drawn for each pair and step, where the paper averages over all; the
offset is learnt of the positive and of that tile; batches are random, the paper's mining is ``batches="similar"``. At test the offset
head is not asked: retrieval is what is compared here (:meth:`geodtr_lib.data.vigor.VigorDataset.metre_error` takes offsets that it gives).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.models.backbones import Backbone, build_backbone
from geodtr_lib.models.base import Size, TwoBranches
from geodtr_lib.models.baselines.safa import SpatialAttention
from geodtr_lib.models.geodtr import aggregate


class Aggregated(NamedTuple):
    """What one branch gives."""

    embedding: Tensor
    """B x D float32 of unit length."""
    descriptors: Tensor
    """B x K x h x w, the maps of importance."""
    features: Tensor
    """B x C x h x w."""
    aggregate: Tensor
    """B x D, the embedding before it is scaled to unit length."""


class VigorBranch(nn.Module):
    """As SAFA's, with the aggregate kept."""

    def __init__(self, trunk: Backbone, size: Size, maps: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.attention = SpatialAttention(*trunk.feature_size(size), maps, "max")

    def forward(self, images: Tensor) -> Aggregated:
        """Images B x 3 x H x W."""
        features = self.trunk(images)
        maps = self.attention(features)
        found = aggregate(features, maps)  # B x CK
        return Aggregated(F.normalize(found, dim=1), maps, features, found)


class Vigor(TwoBranches):
    """VIGOR's model on any trunk (module docstring).

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`; the paper's is ``vgg16``.
        aerial_size, ground_size: (height, width) of the images in pixels.
        maps: of each branch.
        hidden: width of the network that finds the offset.
        pretrained: start from ImageNet weights.

    Raises:
        ConfigError: an unknown name or an impossible value.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self, backbone: str, aerial_size: Size, ground_size: Size, maps: int = 8, hidden: int = 512, pretrained: bool = False
    ) -> None:
        trunks = [build_backbone(backbone, pretrained) for _ in range(2)]
        super().__init__(*(VigorBranch(trunk, size, maps) for trunk, size in zip(trunks, (aerial_size, ground_size), strict=True)))
        self.offset_head = nn.Sequential(nn.Linear(2 * maps * trunks[0].channels, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def offset(self, aerial: Aggregated, ground: Aggregated) -> Tensor:
        """How far north and east of each panorama the tile's centre lies, in halves of the tile's side: B x 2, mostly in [-1, 1]."""
        found: Tensor = self.offset_head(torch.cat([ground.aggregate, aerial.aggregate], dim=1))
        return found
