"""SEH-style weights of triplets: neither the easy nor the hopeless count much.

After Guo, Choi, Li and Chen, "Soft Exemplar Highlighting for Cross-View Image-Based Geo-Localization", IEEE TIP 2022. The paper weighs each
pair of a batch by a logistic function of its distance, so that hard exemplars count more than easy ones and those that are too hard,
often wrong labels or look-alikes, count less again. Its code is not public and its network is another; what is here is the weighting
alone, for any model: a bell over the difference of the two distances of a triplet. Hence "SEH-style".
"""

from __future__ import annotations

import torch
from torch import Tensor

from geodtr_lib.losses import soft_margin_triplet_of


def highlight(difference: Tensor, centre: float = 0.0, steepness: float = 4.0) -> Tensor:
    """Weights in (0, 1]: the slope of a logistic curve, scaled to 1 at its steepest.

    Args:
        difference: squared distance to the positive minus that to the negative, in [-4, 4]; any shape.
        centre: where the weight is 1. At 0 positive and negative are equally far.
        steepness: at ``1.76 / steepness`` from the centre the weight is a half.

    Raises:
        ValueError: a steepness that is not positive.
    """
    if steepness <= 0:
        raise ValueError(f"Invalid steepness value: {steepness}; it must be positive")
    share = torch.sigmoid(steepness * (difference - centre))
    return 4 * share * (1 - share)


def highlighted_triplet_of(similarity: Tensor, alpha: float = 10.0, mask: Tensor | None = None) -> Tensor:
    """The weighted soft-margin triplet loss as a mean weighted by :func:`highlight`; arguments as of ``losses.soft_margin_triplet_of``."""
    return soft_margin_triplet_of(similarity, alpha, mask, highlight)
