"""A model of whole panoramas, given less."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from geodtr_lib.evaluation.embeddings import Encoder


class LimitedView(nn.Module):
    """Takes panoramas of any field of view to a model that was built for wider ones.

    Layout extractors have weights for each position, so the model's input keeps its size: the columns that the camera sees stay where
    they are, in the middle, and the others are the mean colour, which normalised images have at 0.

    Args:
        model: has ``encode_ground`` and ``encode_aerial``.
        width: columns of the panoramas that the model takes.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.model, self.width = model, width

    def encode_ground(self, images: Tensor) -> Tensor:
        """Embeddings B x D of normalised panoramas B x 3 x H x w, w at most ``width``."""
        unseen = self.width - images.shape[-1]
        return cast(Encoder, self.model).encode_ground(F.pad(images, (unseen // 2, unseen - unseen // 2)))

    def encode_aerial(self, images: Tensor) -> Tensor:
        """Embeddings B x D of normalised aerial images B x 3 x H x W."""
        return cast(Encoder, self.model).encode_aerial(images)
