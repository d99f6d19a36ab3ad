"""TransGeo: transformers alone, and a closer look at what matters.

Source: Zhu, Shah and Chen, "TransGeo: Transformer Is All You Need for Cross-view Image Geo-localization", CVPR 2022. Each branch is a
DeiT: patches, a class and a distillation token, and the mean of two linear heads as the embedding (1000 values). The paper's is
DeiT-S/16; on another trunk its features are the tokens. Stage 2 zooms in: the aerial image is enlarged, and only those patches are kept
to which the class token of the last layer pays most attention.

The release takes the attention once from the finished stage 1, stores it, and trains stage 2 from stage 1's weights on aerial images that
are read again at the larger size. Here the branch itself looks first at the image in its own size and then at the same image enlarged,
which shows nothing new; no configuration starts one run from another's weights, so attention and embedding are learnt together. Mining of
hard batches is ``batches="similar"``, which is not the default; ASAM, the release's optimiser, is not reproduced.
"""

from __future__ import annotations

import re
from typing import cast

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from geodtr_lib.errors import CheckpointError, ConfigError, first_line
from geodtr_lib.models.base import Described, Size, TwoBranches
from geodtr_lib.models.baselines.tokens import Layer, Tokens, patch_side

_DEIT = "deit_small_distilled_patch16_224"


class TransGeoBranch(nn.Module):
    """Images to the mean of two heads.

    Args:
        stem: with two class tokens.
        zoom: how many times larger, in height and width, the second look is; 1 = no second look.
        keep: share of the enlarged image's patches that are kept, in (0, 1].
    """

    def __init__(
        self, stem: Tokens, heads: int, layers: int, ffn_width: int, dimension: int, dropout: float, zoom: float = 1.0, keep: float = 1.0
    ) -> None:
        super().__init__()
        self.stem, self.drop, self.zoom, self.keep = stem, nn.Dropout(dropout), zoom, keep
        self.blocks = nn.ModuleList(Layer(stem.width, heads, ffn_width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(stem.width, eps=1e-6)
        self.head, self.head_dist = nn.Linear(stem.width, dimension), nn.Linear(stem.width, dimension)

    def forward(self, images: Tensor) -> Described:
        """Images B x 3 x H x W."""
        if self.zoom != 1:
            attention = self.attention(images)  # B x h x w
            images = F.interpolate(images, scale_factor=self.zoom, mode="bilinear", align_corners=False, antialias=False)
        features = self.stem.features(images)
        tokens = self.stem(features)
        if self.zoom != 1:
            kept = self.chosen(attention, (features.shape[2], features.shape[3]))  # B x n
            classes, patches = tokens[:, :2], tokens[:, 2:]
            tokens = torch.cat([classes, patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))], dim=1)
        tokens = self.drop(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        embedding = (self.head(tokens[:, 0]) + self.head_dist(tokens[:, 1])) / 2
        return Described(F.normalize(embedding.float(), dim=1), features)

    @torch.no_grad()
    def attention(self, images: Tensor) -> Tensor:
        """How much the class token looks at each patch in the last layer, mean over the heads: B x h x w. Nothing is dropped out."""
        training, kind = self.training, images.device.type
        self.eval()
        try:
            # Torch before 2.10 keeps weights that it casts here, without a gradient, for the second look, which would then not train them.
            with torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False):
                features = self.stem.features(images)
                tokens = self.stem(features)
                for block in self.blocks[:-1]:
                    tokens = block(tokens)
                last = cast(Layer, self.blocks[-1])
                weights = last.attn.weights(last.norm1(tokens))  # B x heads x N x N
        finally:
            self.train(training)
        return weights[:, :, 0, 2:].mean(1).float().view(-1, *features.shape[2:])

    def chosen(self, attention: Tensor, grid: Size) -> Tensor:
        """The patches that are kept of a grid of this size, in their order: B x n, ``n = round(keep * patches)``, at least 1."""
        closer = F.interpolate(attention[:, None], grid, mode="bilinear", align_corners=False).flatten(1)  # B x N
        count = max(1, round(self.keep * closer.shape[1]))
        return closer.topk(count, dim=1).indices.sort(1).values


class TransGeo(TwoBranches):
    """TransGeo on plain patches or any trunk (module docstring).

    Args:
        backbone: ``patch16`` as published, or a name of :mod:`geodtr_lib.models.backbones`.
        aerial_size, ground_size: (height, width) of the images in pixels.
        width: of the tokens; 0 = the trunk's channels. DeiT-S has 384.
        heads, layers, ffn_width, dropout: of the transformers; DeiT-S has 6 heads, 12 layers and 1536.
        dimension: of the embedding.
        zoom, keep: of the aerial branch's second look; the paper's stage 2 has 1.25 (256 to 320 pixels) and 0.64.
        pretrained: start from ImageNet weights: those of the trunk, or, with ``patch16`` in DeiT-S's sizes, of the whole DeiT-S.

    Raises:
        ConfigError: an unknown name or an impossible value.
        CheckpointError: pretrained weights that cannot be had.
    """

    def __init__(
        self,
        backbone: str,
        aerial_size: Size,
        ground_size: Size,
        width: int = 384,
        heads: int = 6,
        layers: int = 12,
        ffn_width: int = 1536,
        dimension: int = 1000,
        dropout: float = 0.0,
        zoom: float = 1.0,
        keep: float = 1.0,
        pretrained: bool = False,
    ) -> None:
        if zoom < 1 or not 0 < keep <= 1:
            raise ConfigError(f"zoom: {zoom} must be at least 1, and keep: {keep} in (0, 1]")
        plain = bool(patch_side(backbone))
        stems = [Tokens(backbone, size, width, 2, pretrained and not plain) for size in (aerial_size, ground_size)]
        views = ((stems[0], zoom, keep), (stems[1], 1.0, 1.0))
        super().__init__(*(TransGeoBranch(stem, heads, layers, ffn_width, dimension, dropout, *look) for stem, *look in views))
        if pretrained and plain:
            load_deit(self)


def load_deit(model: TransGeo, state: dict[str, Tensor] | None = None) -> None:
    """Put timm's weights of DeiT-S/16 into both branches; positions are resampled to each branch's grid.

    Args:
        model: of DeiT-S's sizes.
        state: a state dict of timm's; None = its ImageNet weights.

    Raises:
        CheckpointError: weights that cannot be had or are of another size.
    """
    if state is None:
        try:
            state = timm.create_model(_DEIT, pretrained=True).state_dict()
        except Exception as error:  # the hub's client, timm and torch raise many kinds
            advice = "fetch them once with network access, or pretrained=False"
            raise CheckpointError(f"no pretrained weights of {_DEIT} ({first_line(error)}); {advice}") from error
    for branch in (cast(TransGeoBranch, model.aerial_branch), cast(TransGeoBranch, model.ground_branch)):
        given = {_renamed(key): value for key, value in state.items()}
        position = given["stem.pos_embed"]
        side = round((position.shape[1] - 2) ** 0.5)
        given["stem.pos_embed"] = resample_abs_pos_embed(position, list(branch.stem.grid), [side, side], num_prefix_tokens=2)
        try:
            branch.load_state_dict(given)
        except RuntimeError as error:
            raise CheckpointError(f"the weights of {_DEIT} do not fit this TransGeo: {str(error).splitlines()[-1].strip()}") from None


def _renamed(key: str) -> str:
    key = re.sub(r"^patch_embed\.proj\.", "stem.proj.", key)
    return {"pos_embed": "stem.pos_embed", "cls_token": "stem.classes.0", "dist_token": "stem.classes.1"}.get(key, key)
