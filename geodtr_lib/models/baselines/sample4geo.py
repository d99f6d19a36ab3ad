"""Sample4Geo: one trunk for both views and nothing else.

Source: Deuser, Habel and Oswald, "Sample4Geo: Hard Negative Sampling For Cross-View Geo-Localisation", ICCV 2023. The features' average
over all positions, normalised as ConvNeXt's head does, is the embedding. What makes the method is the training: symmetric InfoNCE with a
learned temperature and label smoothing (:mod:`geodtr_lib.losses`), and batches of neighbours (:mod:`geodtr_lib.hard_batches`): near
places first, then those that the model confuses.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.models.base import CrossViewModel, Described, Size


class Sample4Geo(CrossViewModel):
    """Sample4Geo on any trunk (module docstring).

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`; the paper's is ConvNeXt-B.
        aerial_size, ground_size: not needed: any size goes. Taken because every model is built alike.
        pretrained: start from ImageNet weights.

    Raises:
        ConfigError: an unknown backbone.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(self, backbone: str, aerial_size: Size | None = None, ground_size: Size | None = None, pretrained: bool = False) -> None:
        super().__init__()
        self.trunk = build_backbone(backbone, pretrained)
        self.norm = nn.LayerNorm(self.trunk.channels, eps=1e-6)

    def describe_aerial(self, images: Tensor) -> Described:
        return self._describe(images)

    def describe_ground(self, images: Tensor) -> Described:
        return self._describe(images)

    def _describe(self, images: Tensor) -> Described:
        features = self.trunk(images)
        pooled = self.norm(features.float().mean((2, 3)))  # B x C
        return Described(F.normalize(pooled, dim=1), features)
