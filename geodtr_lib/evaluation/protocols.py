"""Retrieval metrics, by the protocol of each data set (method: CVUSA and CVACT as SAFA counts them, VIGOR as its authors do)."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation.products import BLOCK, Screening
from geodtr_lib.evaluation.ranking import Ties, before_bound
from geodtr_lib.evaluation.screening import count_above
from geodtr_lib.evaluation.similarity import Array, as_index, device_for, largest_similarity, pair_similarity, resident, similarity

PROTOCOLS = ("cvusa", "vigor")


def one_percent(protocol: str, n_gallery: int) -> int:
    """The k of R@1%: ``floor(0.01 M)``, at least 1, for ``cvusa`` (CVACT and the embedded cities too); ``floor(0.01 M) + 1`` for ``vigor``.

    Raises:
        ConfigError: an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol: {protocol!r} is not known; allowed: {', '.join(PROTOCOLS)}")
    return n_gallery // 100 + 1 if protocol == "vigor" else max(1, n_gallery // 100)


def retrieval_metrics(
    query: Array,
    gallery: Array,
    positive: Array,
    protocol: str = "cvusa",
    semi_positive: Array | None = None,
    ties: Ties = "against",
    screening: Screening = "fp32",
) -> dict[str, float | int]:
    """Recalls of queries against a gallery.

    Args:
        query: N x D embeddings, of unit length.
        gallery: M x D embeddings.
        positive: N indices into the gallery.
        protocol: ``cvusa`` or ``vigor``: the k of R@1%.
        semi_positive: N x 3 further references that cover each query. They stay in the gallery for the recalls, as released.
        ties: ``against`` the query, or ``strict`` as released.
        screening: ``fp32`` or ``half``, as in :func:`geodtr_lib.evaluation.ranks`: the time changes, the recalls do not.

    Returns:
        ``r1 r5 r10 r1pct`` as fractions, ``n_query``, ``n_gallery``. With semi-positives of ``vigor`` also ``hit_rate`` (the positive is
        first when the semi-positives are taken out, as every public code counts it) and ``hit_rate_cover`` (the first covers the query).

    Raises:
        ConfigError: unknown protocol, ties or screening.
        ValueError: shapes or indices that do not fit, or no queries.
        GeoDTRError: embeddings that are not finite.
    """
    percent = one_percent(protocol, len(gallery))
    if not len(query):
        raise ValueError("there are no queries to evaluate")
    gallery = resident(gallery, device_for(query))
    cover = as_index(positive)[:, None]  # N x 1: whatever covers the query
    if protocol == "vigor" and semi_positive is not None:
        cover = torch.cat([cover, as_index(semi_positive)], dim=1)  # N x 4
    near = similarity(query, gallery, cover)
    threshold = near[:, :1]  # to the positive
    if cover.shape[1] > 1:
        threshold = torch.cat([threshold, near.amax(1, keepdim=True)], dim=1)  # and to the nearest of those that cover the query
    largest = largest_similarity(query, gallery)
    bound = before_bound(threshold, largest, query.shape[-1], ties)  # N x 1, or N x 2
    covering = torch.arange(len(cover)).repeat_interleave(cover.shape[1]), cover.flatten()
    # Those that do not cover the query and come before: N x 1, or N x 2.
    others = count_above(query, gallery, bound, largest, BLOCK, screening, leave_out=covering)
    again = (cover[:, :, None] == cover[:, None, :]).tril(-1).any(2)  # a label may name a tile twice; it is in the gallery once
    semi_before = ((near[:, 1:] > bound[:, :1]).cpu() & ~again[:, 1:]).sum(1)
    result = recalls_of(others[:, 0] + semi_before, percent, len(gallery))
    if cover.shape[1] > 1:
        result["hit_rate"] = _fraction(others[:, 0] == 0)
        result["hit_rate_cover"] = _fraction(others[:, 1] == 0)
    return result


def recall_within(
    query: Array,
    gallery: Array,
    query_position: Array,
    gallery_position: Array,
    radius: float = 5.0,
    ties: Ties = "against",
    screening: Screening = "fp32",
) -> dict[str, float | int]:
    """Recalls where any reference within ``radius`` of the query is right (CVACT test, after OriCNN's ``RecallGeo``).

    Args:
        query: N x D embeddings.
        gallery: M x D embeddings.
        query_position: N x 2 metres (UTM).
        gallery_position: M x 2 metres.
        radius: metres; a reference at just this distance is right.
        ties: as in :func:`retrieval_metrics`.
        screening: as in :func:`retrieval_metrics`.

    Returns:
        ``r1 r5 r10 r1pct n_query n_gallery``. A query without any reference in the radius counts as wrong.

    Raises:
        ValueError: positions that do not fit, or no queries.
    """
    if not len(query) or len(query) != len(query_position) or len(gallery) != len(gallery_position):
        raise ValueError(
            f"{len(query)} queries at {len(query_position)} positions, {len(gallery)} references at {len(gallery_position)} do not fit"
        )
    tree = cKDTree(np.asarray(gallery_position, dtype=np.float64))
    near = tree.query_ball_point(np.asarray(query_position, dtype=np.float64), radius)
    # One row per query and reference in its radius.
    owner = torch.from_numpy(np.repeat(np.arange(len(near)), [len(items) for items in near]))
    reference = torch.from_numpy(np.concatenate([np.asarray(items, dtype=np.int64) for items in near]))
    gallery = resident(gallery, device_for(query))
    largest = largest_similarity(query, gallery)
    similarities = pair_similarity(query, gallery, owner, reference).cpu()
    nearest = torch.full((len(query),), -math.inf, dtype=torch.float64).scatter_reduce(0, owner, similarities, "amax")
    bound = before_bound(nearest[:, None], largest, query.shape[-1], ties).to(device_for(query))
    # Right ones are not in each other's way.
    before = count_above(query, gallery, bound, largest, BLOCK, screening, leave_out=(owner, reference))[:, 0]
    before[nearest.isinf()] = torch.iinfo(torch.int64).max  # never found, however small the gallery
    return recalls_of(before, one_percent("cvusa", len(gallery)), len(gallery))


def recall_interval(recall: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval (95 % unless told) of a recall measured on n queries."""
    if n < 1 or not 0 <= recall <= 1:
        raise ValueError(f"a recall of {recall} on {n} queries has no interval")
    centre = (recall + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(recall * (1 - recall) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def recalls_of(rank: Tensor, percent: int, n_gallery: int) -> dict[str, float | int]:
    """``r1 r5 r10 r1pct n_query n_gallery`` of ranks that count from 0; ``percent`` is the k of R@1%."""
    recalls: dict[str, float | int] = {f"r{k}": _fraction(rank < k) for k in (1, 5, 10)}
    return {**recalls, "r1pct": _fraction(rank < percent), "n_query": len(rank), "n_gallery": n_gallery}


def _fraction(right: Tensor) -> float:
    return float(right.double().mean())
