"""GeoDTR and GeoDTR+: two unshared branches, each a backbone and a geometric layout extractor (GeoDTR+ Section III-C1, Figure 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.errors import ConfigError
from geodtr_lib.losses import precise
from geodtr_lib.models.backbones import Backbone, build_backbone
from geodtr_lib.models.base import CrossViewModel, Size
from geodtr_lib.models.layout_extractor import LAYOUT_EXTRACTORS, LayoutExtractor
from geodtr_lib.shares import AnyGenerator, uniform


class ViewEmbedding(NamedTuple):
    """What one branch gives."""

    embedding: Tensor
    """B x D float32 of unit length, D = C * K, channel-major: element c * K + k is of channel c and descriptor k."""
    descriptors: Tensor
    """B x K x h x w."""
    features: Tensor
    """B x C x h x w, the raw features."""


class Embeddings(NamedTuple):
    """What both branches give; the shapes are those of :class:`ViewEmbedding`."""

    aerial: Tensor
    ground: Tensor
    aerial_descriptors: Tensor
    ground_descriptors: Tensor
    aerial_features: Tensor
    ground_features: Tensor


def aggregate(features: Tensor, descriptors: Tensor) -> Tensor:
    """Frobenius product of every channel with every descriptor (GeoDTR+ Eq. 2).

    Half precision is computed in float32, also under autocast: embeddings of an untrained model differ by less than bfloat16 resolves.

    Args:
        features: B x C x h x w.
        descriptors: B x K x h x w.

    Returns:
        B x C * K, channel-major.
    """
    with torch.autocast(features.device.type, enabled=False):
        # b = batch, c = channel, k = descriptor, n = position
        product = torch.einsum("bcn,bkn->bck", precise(features.flatten(2)), precise(descriptors.flatten(2)))  # B x C x K
    return product.flatten(1)


def embed(features: Tensor, descriptors: Tensor) -> Tensor:
    """:func:`aggregate` scaled to unit length (GeoDTR+ Eqs. 2 and 3): B x C * K."""
    return F.normalize(aggregate(features, descriptors), dim=1)


class Branch(nn.Module):
    """One view: images to features, features to descriptors, both to the embedding."""

    def __init__(self, backbone: Backbone, layout_extractor: LayoutExtractor) -> None:
        super().__init__()
        self.backbone, self.layout_extractor = backbone, layout_extractor

    def forward(self, images: Tensor) -> ViewEmbedding:
        """Images B x 3 x H x W."""
        features = self.backbone(images)
        descriptors = self.layout_extractor(features)
        return ViewEmbedding(embed(features, descriptors), descriptors, features)


class GeoDTR(CrossViewModel):
    """Embeds ground panoramas and aerial images so that the two of one place lie close.

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`.
        gle: ``v2`` (GeoDTR+) or ``v1`` (GeoDTR).
        n_desc: K, number of geometric layout descriptors.
        aerial_size, ground_size: (height, width) of the images in pixels.
        pretrained: start from ImageNet weights.
        activation: ``sigmoid`` or ``hardtanh``, the range of descriptors and counterfactuals; empty = sigmoid for v2, hardtanh for v1.
        bottleneck: of v2 only; v1 has none.
        heads, layers, ffn_width, dropout: of the layout extractors' transformers. The release of v1 has ``ffn_width=2048``.
        share_backbone: both views go through one backbone, as in Sample4Geo; in the paper each has its own.
        gle_start: how the layout extractors' weights over positions start: ``released`` or ``fan_in``.

    Raises:
        ConfigError: an unknown name or an impossible value.
        CheckpointError: pretrained weights that cannot be had.
    """

    has_counterfactual = True

    def __init__(
        self,
        backbone: str = "convnext_tiny",
        gle: str = "v2",
        n_desc: int = 8,
        aerial_size: Size = (122, 671),
        ground_size: Size = (122, 671),
        pretrained: bool = False,
        activation: str = "",
        bottleneck: bool = True,
        heads: int = 4,
        layers: int = 2,
        ffn_width: int = 512,
        dropout: float = 0.3,
        share_backbone: bool = False,
        gle_start: str = "released",
    ) -> None:
        super().__init__()
        if gle not in LAYOUT_EXTRACTORS:
            raise ConfigError(f"gle: {gle!r} is not known; allowed: {', '.join(LAYOUT_EXTRACTORS)}")
        options: dict[str, Any] = dict(heads=heads, layers=layers, ffn_width=ffn_width, dropout=dropout, start=gle_start)
        if gle == "v2":
            options["bottleneck"] = bottleneck
        if activation:
            options["activation"] = activation

        def branch(size: Size, trunk: Backbone) -> Branch:
            return Branch(trunk, LAYOUT_EXTRACTORS[gle](trunk.channels, *trunk.feature_size(size), n_desc, **options))

        self.backbone, self.gle, self.n_desc = backbone, gle, n_desc
        self.aerial_size, self.ground_size = tuple(aerial_size), tuple(ground_size)
        self.heads, self.layers, self.ffn_width, self.dropout, self.bottleneck = heads, layers, ffn_width, dropout, bottleneck
        self.aerial_branch = branch(aerial_size, trunk := build_backbone(backbone, pretrained))
        self.ground_branch = branch(ground_size, trunk if share_backbone else build_backbone(backbone, pretrained))

    def forward(self, aerial: Tensor, ground: Tensor) -> Embeddings:
        """Aerial B x 3 x H x W and ground B x 3 x H' x W', normalised as the run's configuration says."""
        a, g = self.aerial_branch(aerial), self.ground_branch(ground)
        return Embeddings(a.embedding, g.embedding, a.descriptors, g.descriptors, a.features, g.features)

    def describe_aerial(self, images: Tensor) -> ViewEmbedding:
        """Embedding, descriptors and features of aerial images B x 3 x H x W."""
        view: ViewEmbedding = self.aerial_branch(images)
        return view

    def describe_ground(self, images: Tensor) -> ViewEmbedding:
        """Embedding, descriptors and features of panoramas B x 3 x H x W."""
        view: ViewEmbedding = self.ground_branch(images)
        return view

    @property
    def activation(self) -> str:
        """Activation of the descriptors."""
        return self.aerial_branch.layout_extractor.activation

    def counterfactual(self, features: Tensor, generator: AnyGenerator) -> Tensor:
        """Embeddings B x D of the features under descriptors drawn uniformly from the descriptors' range (GeoDTR+ Section III-F).

        Args:
            features: B x C x h x w, of either branch. Gradients flow into them, as released.
            generator: the draw is made on its device; one on the features' device spares a copy.
        """
        batch, _, height, width = features.shape
        bounds = self.aerial_branch.layout_extractor.descriptor_range
        drawn = uniform(generator, batch, self.n_desc, height, width)
        imaginary = (bounds.low + (bounds.high - bounds.low) * drawn).to(features.device, non_blocking=True)
        return embed(features, imaginary)


class ParameterCount(NamedTuple):
    """Parameters of a model. The paper's Table VII counts ``backbones`` for GeoDTR+ and ``whole`` for GeoDTR."""

    whole: int
    backbones: int


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count the parameters of the whole model, and of its backbones alone."""
    trunks = {id(parameter) for module in model.modules() if isinstance(module, Backbone) for parameter in module.parameters()}
    sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
    return ParameterCount(sum(sizes.values()), sum(size for key, size in sizes.items() if key in trunks))
