"""DSM: dynamic similarity matching.

Source: Shi, Yu, Campbell and Li, "Where am I looking at? Joint Location and Orientation Estimation by Cross-View Matching", CVPR 2020.

The embedding keeps where things stand: a map of few channels whose columns are azimuths. A panorama and a tile are compared after sliding
the panorama's map along the tile's, all around, and stopping where the two agree best. That is the similarity, and the stop tells
where the camera looked. So heading need not be known, and a limited field of view is only a narrower map.

Slides are counted by the Fourier transform over the columns (correlation theorem), all pairs at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.models.backbones import Backbone, build_backbone
from geodtr_lib.models.base import Described, Size, TwoBranches

_WIDTHS = (256, 64)  # channels of the two convolutions that halve the height; a third gives the map's channels


def correlate(aerial: Tensor, ground: Tensor) -> Tensor:
    """How well each ground map fits each aerial map at each slide.

    Args:
        aerial: A x C x h x W, whole circles.
        ground: G x C x h x w, w at most W.

    Returns:
        A x G x W: at [a, g, s] the sum over channels, rows and columns j of ``aerial[a, ..., (j + s) % W] * ground[g, ..., j]``.
    """
    width = aerial.shape[-1]
    around = torch.fft.rfft(aerial.float()).flatten(1, 2)  # A x Ch x F
    slid = torch.fft.rfft(F.pad(ground.float(), (0, width - ground.shape[-1]))).flatten(1, 2)  # G x Ch x F
    # a, g = map, c = channel and row, f = frequency
    fit: Tensor = torch.fft.irfft(torch.einsum("acf,gcf->agf", around, slid.conj()), n=width)
    return fit


def window_norm(aerial: Tensor, width: int) -> Tensor:
    """Length of aerial maps A x C x h x W within the ``width`` columns from each start: A x W."""
    energy = aerial.float().square().sum((1, 2))  # A x W
    around = torch.cat([energy, energy[:, : width - 1]], dim=1)
    return around.unfold(1, width, 1).sum(2).clamp(min=1e-12).sqrt()


class DsmBranch(nn.Module):
    """Images to a map of few channels.

    Args:
        trunk: with a stride that leaves enough columns: each is ``360 / columns`` degrees wide.
        channels: of the map.
        closed: the images go around the whole circle, so that their left edge continues the right one: they are read with one more
            column of features on either side, and the convolutions behind the trunk wrap around.
    """

    def __init__(self, trunk: Backbone, channels: int, closed: bool) -> None:
        super().__init__()
        self.trunk, self.closed, self.channels = trunk, closed, channels
        widths = (trunk.channels, *_WIDTHS, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=(stride, 1), padding=(1, 0))
            for inputs, outputs, stride in zip(widths[:-1], widths[1:], (2, 2, 1), strict=True)
        )

    def forward(self, images: Tensor) -> Described:
        """Images B x 3 x H x W; ``features`` of the result is the map, B x C x h x w."""
        if self.closed:
            edge = self.trunk.stride
            x = self.trunk(F.pad(images, (edge, edge, 0, 0), mode="circular"))[..., 1:-1]
        else:
            x = self.trunk(images)
        for number, convolution in enumerate(self.convolutions):
            padded = F.pad(x, (1, 1, 0, 0), mode="circular") if self.closed else F.pad(x, (1, 1))
            x = convolution(padded if number == 0 else padded.relu())
        return Described(F.normalize(x.flatten(1).float(), dim=1), x)

    def map_size(self, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of the map of images of this size."""
        height, width = self.trunk.feature_size(size)
        for _ in _WIDTHS:
            height = (height + 1) // 2
        return self.channels, height, width


class Dsm(TwoBranches):
    """DSM on any trunk (module docstring). Its aerial images are unrolled.

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`; the paper's is VGG-16 up to stride 8, ``vgg16:stride8``.
        aerial_size, ground_size: (height, width) of the images in pixels; the panorama may be narrower.
        channels: of the maps; the embedding has channels * rows * columns values, the panorama's fewer where it is narrower.
        pretrained: start from ImageNet weights.

    Raises:
        ConfigError: an unknown backbone.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(self, backbone: str, aerial_size: Size, ground_size: Size, channels: int = 16, pretrained: bool = False) -> None:
        whole = ground_size[1] == aerial_size[1]
        branches = [DsmBranch(build_backbone(backbone, pretrained), channels, closed) for closed in (True, whole)]
        super().__init__(*branches)
        self.aerial_map, self.ground_map = branches[0].map_size(aerial_size), branches[1].map_size(ground_size)

    def similarity(self, aerial: Tensor, ground: Tensor) -> Tensor:
        """Cosine of each aerial (A x D) and each ground embedding (G x D') where they fit best, of the columns that both see: A x G."""
        return self._best(aerial, ground)[0]

    def heading(self, aerial: Tensor, ground: Tensor) -> Tensor:
        """Azimuth in degrees, in [0, 360), to which each ground embedding looks if it is of each aerial one: A x G.

        In steps of one column of the maps.
        """
        width, seen = self.aerial_map[2], self.ground_map[2]
        start = self._best(aerial, ground)[1]  # the aerial column that the panorama's first one shows
        return ((start - (width - seen) / 2) * 360 / width) % 360

    def _best(self, aerial: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity at the best slide, and that slide in columns: A x G each."""
        with torch.autocast(aerial.device.type, enabled=False):
            around, view = aerial.float().unflatten(1, self.aerial_map), ground.float().unflatten(1, self.ground_map)
            fit = correlate(around, view)  # A x G x W
            best = fit.argmax(2)
            # As released, the slide is the one of the largest product; what it covers is scaled to unit length afterwards.
            length = window_norm(around, self.ground_map[2]).gather(1, best)  # A x G
            return fit.gather(2, best[:, :, None])[:, :, 0] / length, best
