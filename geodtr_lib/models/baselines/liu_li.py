"""Liu and Li: orientation as two more colours.

Source: Liu and Li, "Lending Orientation to Neural Networks for Cross-View Geo-Localization", CVPR 2019. Each pixel gets, beside its
colour, the direction in which it looks: azimuth and elevation in a panorama, azimuth and distance from the centre in an aerial image,
each in [-1, 1]. The features of three depths are brought to one grid, joined, and pooled by a generalised mean.

The published encoder, seven convolutions trained from scratch, is ``backbone="orientation7"``: five as the trunk, two behind it. Any
other trunk takes three colours, so a 1x1 convolution stands before it, which begins by passing the colours on and leaving the directions
out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.models.base import Described, Size, TwoBranches

OWN_TRUNK = "orientation7"
_WIDTHS = (64, 128, 256, 512, 512)


def panorama_orientation(size: Size, fov: float = 360.0) -> Tensor:
    """Azimuth and elevation of each pixel of a panorama that looks north, 2 x H x W.

    Azimuth goes from -1 (south, over west) to 1 over ``fov`` = 360 degrees, elevation from 1 (top row) to -1. In an unrolled
    tile the top row is the rim and the bottom row the centre, so there the second channel is the distance from the centre.
    """
    height, width = size
    azimuth = ((torch.arange(width) + 0.5) / width * 2 - 1) * (fov / 360)
    elevation = 1 - (torch.arange(height) + 0.5) / height * 2
    return torch.stack([azimuth.expand(height, width), elevation[:, None].expand(height, width)])


def tile_orientation(size: Size) -> Tensor:
    """Azimuth and distance from the centre of each pixel of a tile with north up, 2 x H x W.

    Azimuth is the angle clockwise from north over 180 degrees, in [-1, 1]; the distance goes from -1 at the centre to 1 in the corners.
    """
    height, width = size
    east = ((torch.arange(width) + 0.5) / width * 2 - 1).expand(height, width)
    north = (1 - (torch.arange(height) + 0.5) / height * 2)[:, None].expand(height, width)
    distance = torch.hypot(east, north) / math.sqrt(2)
    return torch.stack([torch.atan2(east, north) / math.pi, distance * 2 - 1])


def generalised_mean(features: Tensor, power: float = 3.0) -> Tensor:
    """``(mean x^p)^(1/p)`` over positions of what is positive in features B x C x h x w: B x C. 1 gives the mean, a large p the maximum."""
    return features.float().clamp(min=1e-6).pow(power).mean((2, 3)).pow(1 / power)


class Halving(nn.Sequential):
    """A 4x4 convolution of stride 2 with batch normalisation and a leaky ReLU; the size is halved and rounded up."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 4, stride=2, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))

    def forward(self, features: Tensor) -> Tensor:
        """B x C x h x w to B x C' x ceil(h / 2) x ceil(w / 2)."""
        odd_rows, odd_columns = features.shape[2] % 2, features.shape[3] % 2
        out: Tensor = super().forward(  # type: ignore[no-untyped-call]
            F.pad(features, (1, 1 + odd_columns, 1, 1 + odd_rows))
        )
        return out


class OrientationBranch(nn.Module):
    """Colours and directions to the embedding.

    Args:
        backbone: ``orientation7``, or a name of :mod:`geodtr_lib.models.backbones`.
        orientation: 2 x H x W, of the images' size.
        pretrained: of the trunk.
    """

    orientation: Tensor

    def __init__(self, backbone: str, orientation: Tensor, pretrained: bool) -> None:
        super().__init__()
        self.register_buffer("orientation", orientation, persistent=False)  # it follows from the size
        if backbone == OWN_TRUNK:
            self.mix: nn.Module = nn.Identity()
            self.trunk: nn.Module = nn.Sequential(*(Halving(*widths) for widths in zip((5, *_WIDTHS[:-1]), _WIDTHS, strict=True)))
            channels = _WIDTHS[-1]
        else:
            mix = nn.Conv2d(5, 3, 1)
            with torch.no_grad():
                mix.weight.copy_(torch.eye(3, 5)[:, :, None, None])
                mix.bias.zero_()  # type: ignore[union-attr]
            trunk = build_backbone(backbone, pretrained)
            self.mix, self.trunk, channels = mix, trunk, trunk.channels
        self.deeper = nn.ModuleList(Halving(channels, channels) for _ in range(2))

    def forward(self, images: Tensor) -> Described:
        """Images B x 3 x H x W."""
        directions = self.orientation.to(images.dtype).expand(len(images), -1, -1, -1)
        features = [self.trunk(self.mix(torch.cat([images, directions], dim=1)))]
        for halving in self.deeper:
            features.append(halving(features[-1]))
        grid = features[0].shape[2:]
        levels = [F.interpolate(level, grid, mode="bilinear", align_corners=False) for level in features]
        column = torch.cat(levels, dim=1)  # B x 3C x h x w
        return Described(F.normalize(generalised_mean(column), dim=1), features[0])


class LiuLi(TwoBranches):
    """Orientation maps on any trunk (module docstring).

    Args:
        backbone: ``orientation7`` as published, or a name of :mod:`geodtr_lib.models.backbones`.
        aerial_size, ground_size: (height, width) of the images in pixels.
        polar: the aerial images are unrolled.
        fov: field of view of the panoramas in degrees.
        pretrained: start from ImageNet weights; ``orientation7`` has none.

    Raises:
        ConfigError: an unknown backbone.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self, backbone: str, aerial_size: Size, ground_size: Size, polar: bool = True, fov: float = 360.0, pretrained: bool = False
    ) -> None:
        aerial = panorama_orientation(aerial_size) if polar else tile_orientation(aerial_size)
        ground = panorama_orientation(ground_size, fov)
        super().__init__(*(OrientationBranch(backbone, orientation, pretrained) for orientation in (aerial, ground)))
