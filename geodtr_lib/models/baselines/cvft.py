"""CVFT: cross-view feature transport.

Source: Shi, Yu, Liu, Zhang and Li, "Optimal Feature Transport for Cross-View Image Geo-Localization", AAAI 2020. Both views' features are
brought to 64 channels on an 8 x 8 grid. From the panorama's features the model predicts what it costs to move a feature from each of the
64 positions to each other one; Sinkhorn's iteration makes a transport plan of the costs (every row and column sums to 1), by which the
panorama's features are re-arranged. The aerial features stay where they are.

As released, the predicted cost begins as the identity: at the start every feature is spread over all positions but its own, and where
features belong is learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.losses import precise
from geodtr_lib.models.backbones import Backbone, build_backbone
from geodtr_lib.models.base import Described, Size, TwoBranches


def sinkhorn(cost: Tensor, sharpness: float = 100.0, iterations: int = 20) -> Tensor:
    """The plan ``exp(-sharpness cost)``, scaled until rows and columns sum to 1 (in logarithms, in which it cannot overflow).

    Args:
        cost: B x N x N.
        sharpness: the reciprocal of the entropic regularisation.
        iterations: of scaling the rows, then the columns.

    Returns:
        B x N x N: non-negative, columns sum to 1 exactly and rows nearly.
    """
    plan = -sharpness * precise(cost)
    for _ in range(iterations):
        plan = plan - plan.logsumexp(2, keepdim=True)
        plan = plan - plan.logsumexp(1, keepdim=True)
    return plan.exp()


class Transport(nn.Module):
    """Re-arranges features by a plan that is made of them.

    Args:
        channels: C of the features.
        grid: (height, width) of the features; N positions.
        sharpness, iterations: of :func:`sinkhorn`.
    """

    def __init__(self, channels: int, grid: Size, sharpness: float = 100.0, iterations: int = 20) -> None:
        super().__init__()
        positions = grid[0] * grid[1]
        self.sharpness, self.iterations = sharpness, iterations
        self.squeeze = nn.Conv2d(channels, 1, 1)
        self.cost = nn.Linear(positions, positions * positions)
        nn.init.normal_(self.cost.weight, std=0.005)
        with torch.no_grad():
            self.cost.bias.copy_(torch.eye(positions).flatten())

    def plan(self, features: Tensor) -> Tensor:
        """Features B x C x h x w to the plan B x N x N; row i says where position i gets its features from."""
        cost = self.cost(self.squeeze(features).flatten(1))  # B x NN
        positions = features.shape[2] * features.shape[3]
        return sinkhorn(cost.view(-1, positions, positions), self.sharpness, self.iterations)

    def forward(self, features: Tensor) -> Tensor:
        """Features B x C x h x w to the same shape."""
        # Sinkhorn's sharpness would raise the rounding of half precision a hundredfold: also under autocast this is in float32.
        with torch.autocast(features.device.type, enabled=False):
            exact = precise(features)
            # b = batch, c = channel, i = new position, j = old position
            moved = torch.einsum("bij,bcj->bci", self.plan(exact), exact.flatten(2))
        return moved.view(features.shape)


class CvftBranch(nn.Module):
    """A trunk, the reduction to few channels on a small grid, and, in the ground branch, the transport."""

    def __init__(self, trunk: Backbone, channels: int, grid: Size, transport: bool) -> None:
        super().__init__()
        self.trunk, self.grid = trunk, grid
        self.reduce = nn.Conv2d(trunk.channels, channels, 1)
        self.transport = Transport(channels, grid) if transport else nn.Identity()

    def forward(self, images: Tensor) -> Described:
        """Images B x 3 x H x W."""
        features = self.trunk(images)
        reduced = F.interpolate(self.reduce(features), self.grid, mode="bilinear", align_corners=False)  # B x C x 8 x 8
        return Described(F.normalize(self.transport(reduced).flatten(1).float(), dim=1), features)


class Cvft(TwoBranches):
    """CVFT on any trunk (module docstring).

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`; the paper's is ``vgg16``.
        aerial_size, ground_size: not needed: any size goes. Taken because every model is built alike.
        channels, grid: of the re-arranged features; the embedding has channels * height * width values.
        pretrained: start from ImageNet weights.

    Raises:
        ConfigError: an unknown backbone.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self,
        backbone: str,
        aerial_size: Size | None = None,
        ground_size: Size | None = None,
        channels: int = 64,
        grid: Size = (8, 8),
        pretrained: bool = False,
    ) -> None:
        super().__init__(*(CvftBranch(build_backbone(backbone, pretrained), channels, grid, ground) for ground in (False, True)))
