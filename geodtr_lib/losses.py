"""Losses: embeddings in, a scalar out.

Embeddings are B x D of unit length, so that the squared distance of two is 2 - 2 times their inner product. Row i of ``aerial`` and row i
of ``ground`` are of one place; every other row is a negative. Half precision is computed in float32, also under autocast.

Each contrastive loss also has a form that takes similarities B x B, aerial i with ground j, in [-1, 1]: for models whose similarity is more
than an inner product (DSM).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def weighted_soft_margin_triplet(aerial: Tensor, ground: Tensor, alpha: float = 10.0, mask: Tensor | None = None) -> Tensor:
    """Mean of ``log(1 + exp(alpha * (d_positive - d_negative)))`` over all triplets, in both directions (GeoDTR+ Eq. 6).

    Args:
        aerial, ground: B x D, unit length.
        alpha: steepness of the margin.
        mask: optional B x B booleans; True at [i, j] = aerial i is no negative of ground j nor the reverse, for example
            because the two places lie close. The mean is over the triplets that remain.

    Raises:
        ValueError: fewer than two pairs, embeddings of different shape, or a mask of another shape.
    """
    return soft_margin_triplet_of(_similarity(aerial, ground), alpha, mask)


def soft_margin_triplet_of(
    similarity: Tensor, alpha: float = 10.0, mask: Tensor | None = None, weigh: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """:func:`weighted_soft_margin_triplet` of similarities B x B.

    Args:
        similarity: aerial i with ground j.
        alpha, mask: as there.
        weigh: from ``d_positive - d_negative`` of each triplet, in [-4, 4], to its weight, at least 0; the mean is weighted then. Weights
            have no gradient.

    Raises:
        ValueError: similarities that are not square, fewer than two pairs, or a mask of another shape.
    """
    _check_square(similarity)
    if len(similarity) < 2:
        raise ValueError("the triplet loss needs at least 2 pairs: one alone has no negative")
    positive = similarity.diagonal()  # B
    # d_positive - d_negative = 2 * (s_negative - s_positive); rows have the aerial image as anchor, columns the panorama.
    differences = [2.0 * (similarity - positive[:, None]), 2.0 * (similarity - positive[None, :])]
    rows, columns = (F.softplus(alpha * difference) for difference in differences)
    negative = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if mask is not None:
        if mask.shape != similarity.shape:
            raise ValueError(f"mask is {tuple(mask.shape)} but there are {len(similarity)} pairs")
        negative = negative & ~mask
    if weigh is not None:
        weights = [weigh(difference.detach()) * negative for difference in differences]
        return (rows * weights[0] + columns * weights[1]).sum() / (weights[0].sum() + weights[1].sum()).clamp(min=1e-12)
    # Where a mask leaves no triplet the loss is 0.
    return 0.5 * ((rows + columns) * negative).sum() / negative.sum().clamp(min=1)


def counterfactual_loss(embedding: Tensor, counterfactual: Tensor, beta: float = 5.0) -> Tensor:
    """Mean of ``log(1 + exp(-beta * d))``, d the squared distance to the counterfactual embedding of the same image (GeoDTR+ Eq. 5).

    Args:
        embedding, counterfactual: B x D, unit length; row i of both is of one image.
        beta: steepness.
    """
    _check(embedding, counterfactual)
    with torch.autocast(embedding.device.type, enabled=False):
        distance = 2.0 - 2.0 * (precise(embedding) * precise(counterfactual)).sum(dim=1)  # B
        # As released, not softplus: the exponent is never positive, so it cannot overflow, and the digits agree.
        return torch.log(1.0 + torch.exp(-beta * distance)).mean()


def info_nce(aerial: Tensor, ground: Tensor, temperature: float | Tensor = 0.05, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of finding the partner among the batch, averaged over both directions (symmetric InfoNCE, as in Sample4Geo).

    Args:
        aerial, ground: B x D, unit length.
        temperature: the similarity is divided by it; a tensor of one value may be learnt.
        label_smoothing: share of the target that is spread over the whole batch, in [0, 1].

    Raises:
        ValueError: a temperature that is not positive, or embeddings of different shape.
    """
    return info_nce_of(_similarity(aerial, ground), temperature, label_smoothing)


def info_nce_of(similarity: Tensor, temperature: float | Tensor = 0.05, label_smoothing: float = 0.0) -> Tensor:
    """:func:`info_nce` of similarities B x B, aerial i with ground j.

    Raises:
        ValueError: a temperature that is not positive, or similarities that are not square.
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"Invalid temperature value: {temperature}; it must be positive")
    _check_square(similarity)
    logits = similarity / temperature
    target = torch.arange(len(logits), device=logits.device)
    forward = F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    backward = F.cross_entropy(logits.T, target, label_smoothing=label_smoothing)
    return 0.5 * (forward + backward)


def _similarity(aerial: Tensor, ground: Tensor) -> Tensor:
    """Inner products B x B, at least in float32."""
    _check(aerial, ground)
    with torch.autocast(aerial.device.type, enabled=False):
        return precise(aerial) @ precise(ground).T


def precise(values: Tensor) -> Tensor:
    """Values at least in float32. What is computed of them stays in it only where autocast is off."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"embeddings must be two equal B x D, not {tuple(first.shape)} and {tuple(second.shape)}")


def _check_square(similarity: Tensor) -> None:
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarities must be B x B, not {tuple(similarity.shape)}")
