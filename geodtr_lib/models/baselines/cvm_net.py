"""CVM-Net: NetVLAD for both views.

Sources: Hu, Feng, Nguyen and Lee, "CVM-Net: Cross-View Matching Network for Image-Based Ground-to-Aerial Geo-Localization", CVPR 2018;
NetVLAD: Arandjelovic et al., CVPR 2016.

Variant I has a NetVLAD of its own in each branch, whose output goes through one linear layer that both share. In variant II the local
features go through a 1x1 convolution of each branch's own and one that is shared, then through a NetVLAD and a layer that are shared.
The place of a feature in the image does not enter, so a panorama and its rolled copy have the same embedding up to the trunk's edges.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.errors import ConfigError
from geodtr_lib.losses import precise
from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.models.base import CrossViewModel, Described, Size

VARIANTS = ("I", "II")


class NetVlad(nn.Module):
    """Residuals of local features to K learned centres, summed by soft assignment.

    Args:
        channels: C of the features.
        clusters: K.
    """

    def __init__(self, channels: int, clusters: int = 64) -> None:
        super().__init__()
        deviation = channels**-0.5  # as released: of a unit vector's entries
        self.assignment = nn.Conv2d(channels, clusters, 1)
        nn.init.normal_(self.assignment.weight, std=deviation)
        nn.init.normal_(self.assignment.bias, std=deviation)  # type: ignore[arg-type]  # typed as optional
        self.centres = nn.Parameter(torch.randn(clusters, channels) * deviation)

    def forward(self, features: Tensor) -> Tensor:
        """Features B x C x h x w to B x K * C of unit length; each cluster's residual is normalised first."""
        local = F.normalize(features, dim=1)
        share = self.assignment(local).softmax(1).flatten(2)  # B x K x N
        # b = batch, k = cluster, c = channel, n = position: sum_n share (local - centre)
        residual = torch.einsum("bkn,bcn->bkc", share, local.flatten(2)) - share.sum(2)[:, :, None] * self.centres  # B x K x C
        return F.normalize(F.normalize(residual, dim=2).flatten(1), dim=1)


class CvmNet(CrossViewModel):
    """CVM-Net on any trunk (module docstring).

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`; the paper's is ``vgg16``.
        aerial_size, ground_size: not needed: any size goes. Taken because every model is built alike.
        clusters: of NetVLAD.
        per_channel: values of the embedding for each channel of the trunk; 8 give VGG-16 the paper's 4096.
        variant: ``I`` or ``II``.
        pretrained: start from ImageNet weights.

    Raises:
        ConfigError: an unknown name.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self,
        backbone: str,
        aerial_size: Size | None = None,
        ground_size: Size | None = None,
        clusters: int = 64,
        per_channel: int = 8,
        variant: str = "I",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ConfigError(f"variant: {variant!r} of CVM-Net is not known; allowed: {', '.join(VARIANTS)}")
        self.aerial_trunk, self.ground_trunk = build_backbone(backbone, pretrained), build_backbone(backbone, pretrained)
        channels = self.aerial_trunk.channels
        if variant == "I":
            self.aerial_local: nn.Module = nn.Identity()
            self.ground_local: nn.Module = nn.Identity()
            self.aerial_vlad, self.ground_vlad = NetVlad(channels, clusters), NetVlad(channels, clusters)
        else:
            common = nn.Conv2d(channels, channels, 1)
            self.aerial_local = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), common, nn.ReLU())
            self.ground_local = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), common, nn.ReLU())
            self.aerial_vlad = self.ground_vlad = NetVlad(channels, clusters)
        self.projection = nn.Linear(clusters * channels, per_channel * channels)
        # Unit input: with deviation 1 / sqrt(inputs) as released, the output's entries are of one size whatever K and C.
        nn.init.normal_(self.projection.weight, std=(clusters * channels) ** -0.5)

    def describe_aerial(self, images: Tensor) -> Described:
        return self._describe(images, self.aerial_trunk, self.aerial_local, self.aerial_vlad)

    def describe_ground(self, images: Tensor) -> Described:
        return self._describe(images, self.ground_trunk, self.ground_local, self.ground_vlad)

    def _describe(self, images: Tensor, trunk: nn.Module, local: nn.Module, vlad: nn.Module) -> Described:
        features = trunk(images)
        chosen = local(features)
        # A residual is a small difference of sums, which bfloat16 does not resolve: also under autocast the rest is in float32.
        with torch.autocast(images.device.type, enabled=False):
            residuals = vlad(precise(chosen))  # B x K * C
            return Described(F.normalize(self.projection(residuals), dim=1), features)
