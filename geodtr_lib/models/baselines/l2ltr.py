"""L2LTR: a transformer on a trunk (Yang, Lu and Zhu, "Cross-view Geo-localization with Layer-to-Layer Transformer", NeurIPS 2021).

Each branch turns its trunk's features into tokens with learned positions and gives out the class token. In the layer-to-layer
self-cross attention, queries and values of a layer come from its input, and keys from the input of the layer before; the first layer
has only its own. The paper's branches are ResNet-50 up to stride 16 and 12 layers of width 768 (ViT-B/16 hybrid).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.models.base import Described, Size, TwoBranches
from geodtr_lib.models.baselines.tokens import Layer, Tokens


class L2ltrBranch(nn.Module):
    """Images to the class token."""

    def __init__(self, stem: Tokens, heads: int, layers: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.stem, self.drop = stem, nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Layer(stem.width, heads, ffn_width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(stem.width, eps=1e-6)

    def forward(self, images: Tensor) -> Described:
        """Images B x 3 x H x W."""
        features = self.stem.features(images)
        tokens, before = self.drop(self.stem(features)), None
        for block in self.blocks:
            tokens, before = block(tokens, before), tokens
        return Described(F.normalize(self.norm(tokens[:, 0]).float(), dim=1), features)


class L2ltr(TwoBranches):
    """L2LTR on any trunk (module docstring).

    Args:
        backbone: a name of :mod:`geodtr_lib.models.backbones`, or ``patchN`` for plain patches.
        aerial_size, ground_size: (height, width) of the images in pixels.
        width: of the tokens and the embedding; 0 = the trunk's channels.
        heads, layers, ffn_width, dropout: of the transformers; the paper has 12 heads, 12 layers and 3072.
        pretrained: start the trunk from ImageNet weights; the transformer starts from scratch.

    Raises:
        ConfigError: an unknown name or an impossible value.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self,
        backbone: str,
        aerial_size: Size,
        ground_size: Size,
        width: int = 768,
        heads: int = 12,
        layers: int = 12,
        ffn_width: int = 3072,
        dropout: float = 0.1,
        pretrained: bool = False,
    ) -> None:
        stems = [Tokens(backbone, size, width, 1, pretrained) for size in (aerial_size, ground_size)]
        super().__init__(*(L2ltrBranch(stem, heads, layers, ffn_width, dropout) for stem in stems))
