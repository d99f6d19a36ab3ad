"""Exact ranks by blocks: no approximate search, no full distance matrix.

Similarity is the dot product, which for unit embeddings orders as distance does (``|q - g|^2 = 2 - 2 q.g``). What counts is its float64
value, whatever the embeddings' dtype, and similarities closer than float64 rounding can tell are equal. So identical embeddings tie
exactly, and neither the block size nor the device changes a rank. A product in a shorter dtype settles nearly all comparisons, and only
those that it leaves open are made in float64 (:mod:`geodtr_lib.evaluation.screening`).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation.nearest import top_k
from geodtr_lib.evaluation.products import BLOCK, Screening
from geodtr_lib.evaluation.screening import count_above
from geodtr_lib.evaluation.similarity import Array, as_index, device_for, largest_similarity, resident, similarity

__all__ = ["Array", "Ties", "before_bound", "ranks", "similarity", "top_k"]

Ties = Literal["against", "strict"]


def ranks(
    query: Array, gallery: Array, positive: Array, ties: Ties = "against", block: int = BLOCK, screening: Screening = "fp32"
) -> Tensor:
    """How many gallery items come before each query's positive; 0 is the best rank.

    Args:
        query: N x D, float32, float16, bfloat16 or float64.
        gallery: M x D; tensor on any device or array, also memory-mapped. Converted block by block.
        positive: N indices into the gallery.
        ties: ``against`` counts an item as near as the positive before it, so a collapsed model ranks last;
            ``strict`` does not, as released.
        block: rows per product.
        screening: ``fp32``, or ``half`` for products in half precision where the hardware is faster at them; the ranks are the same.

    Returns:
        N integers, on the CPU.

    Raises:
        ConfigError: unknown ``ties`` or ``screening``.
        ValueError: shapes that do not fit, or an index outside the gallery.
        GeoDTRError: embeddings that are not finite.
    """
    gallery, positive = resident(gallery, device_for(query)), as_index(positive)
    threshold = similarity(query, gallery, positive[:, None])  # N x 1
    largest = largest_similarity(query, gallery)
    bound = before_bound(threshold, largest, query.shape[-1], ties)
    others = torch.arange(len(positive)), positive  # the positive itself does not come before the positive
    return count_above(query, gallery, bound, largest, block, screening, leave_out=others)[:, 0]


def before_bound(threshold: Tensor, largest: Tensor, dimension: int, ties: Ties) -> Tensor:
    """What a similarity must exceed to come before a threshold, rounding errors set aside.

    Two equal similarities differ by at most ``2 D 2^-53 |q| |g|`` when computed in float64. The bound lies that far below the threshold
    for ties ``against`` the query, and that far above for ``strict``.

    Args:
        threshold: N x T similarities.
        largest: N values of :func:`geodtr_lib.evaluation.similarity.largest_similarity`.
        dimension: D.
        ties: ``against`` or ``strict``.

    Returns:
        N x T, float64.

    Raises:
        ConfigError: unknown ``ties``.
    """
    if ties not in get_args(Ties):
        raise ConfigError(f"ties: {ties!r} is not known; allowed: {', '.join(get_args(Ties))}")
    # Embeddings of a dead model are 0, and so are their errors; 1e-30 keeps them ties, in float32 too.
    rounding = (largest * dimension * 2.0**-52).clamp(min=1e-30).to(threshold.device)[:, None]
    return threshold - rounding if ties == "against" else threshold + rounding
