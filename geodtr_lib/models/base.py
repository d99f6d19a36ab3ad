"""What training and evaluation ask of every model: two views in, unit embeddings out, either branch alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geodtr_lib.losses import precise

Size = tuple[int, int]


class Described(NamedTuple):
    """What one branch gives where there are no descriptors."""

    embedding: Tensor
    """B x D float32 of unit length."""
    features: Tensor
    """B x C x h x w, the trunk's."""


class PairEmbeddings(NamedTuple):
    """Embeddings of both views, B x D float32 of unit length; row i of both is one pair."""

    aerial: Tensor
    ground: Tensor


class CrossViewModel(nn.Module):
    """A model of aerial images and panoramas.

    A subclass gives ``describe_aerial`` and ``describe_ground``, whose result has the field ``embedding``. What a class leaves at its
    default here is what most methods do.
    """

    has_counterfactual = False
    """The model has ``counterfactual``, and its views have ``features`` (GeoDTR's loss of Eq. 5)."""

    log_scale: nn.Parameter
    """Logarithm of the reciprocal temperature of InfoNCE, where it is learnt (:meth:`temper`)."""

    def temper(self, temperature: float) -> None:
        """Make the temperature of InfoNCE a parameter of the model, starting from this one (CLIP, as in Sample4Geo)."""
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def temperature(self) -> Tensor | None:
        """The learnt temperature, at least 0.01; None where it is not learnt."""
        return self.log_scale.clamp(max=math.log(100)).neg().exp() if "log_scale" in self._parameters else None

    def describe_aerial(self, images: Tensor) -> Any:
        """Everything that the aerial branch finds in images B x 3 x H x W."""
        raise NotImplementedError

    def describe_ground(self, images: Tensor) -> Any:
        """Everything that the ground branch finds in panoramas B x 3 x H x W."""
        raise NotImplementedError

    @property
    def independent(self) -> bool:
        """The branches are modules apart, with no parameter in common: both may run at the same time."""
        aerial, ground = (self._modules.get(name) for name in ("aerial_branch", "ground_branch"))
        return aerial is not None and ground is not None and not share_parameters(aerial, ground)

    def encode_aerial(self, images: Tensor) -> Tensor:
        """Embeddings B x D of aerial images B x 3 x H x W; the ground branch does not run."""
        embedding: Tensor = self.describe_aerial(images).embedding
        return embedding

    def encode_ground(self, images: Tensor) -> Tensor:
        """Embeddings B x D of panoramas B x 3 x H x W; the aerial branch does not run."""
        embedding: Tensor = self.describe_ground(images).embedding
        return embedding

    def forward(self, aerial: Tensor, ground: Tensor) -> Any:
        """Aerial B x 3 x H x W and ground B x 3 x H' x W', normalised as the run's configuration says."""
        return PairEmbeddings(self.encode_aerial(aerial), self.encode_ground(ground))

    def similarity(self, aerial: Tensor, ground: Tensor) -> Tensor:
        """How alike each aerial embedding (A x D) and each ground embedding (G x D) are, in [-1, 1]: A x G, at least in float32."""
        with torch.autocast(aerial.device.type, enabled=False):
            return precise(aerial) @ precise(ground).T


class TwoBranches(CrossViewModel):
    """A model of two branches, each a module from images to what it finds in them."""

    def __init__(self, aerial_branch: nn.Module, ground_branch: nn.Module) -> None:
        super().__init__()
        self.aerial_branch, self.ground_branch = aerial_branch, ground_branch

    def describe_aerial(self, images: Tensor) -> Any:
        return self.aerial_branch(images)

    def describe_ground(self, images: Tensor) -> Any:
        return self.ground_branch(images)


def share_parameters(first: nn.Module, second: nn.Module) -> bool:
    """Whether two modules have a parameter in common: then they cannot run backwards at the same time."""
    return not {id(parameter) for parameter in first.parameters()}.isdisjoint({id(parameter) for parameter in second.parameters()})
