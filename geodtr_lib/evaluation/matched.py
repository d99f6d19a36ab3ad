"""Recalls under a similarity that is more than an inner product, such as DSM's: the best over all headings.

The whole row of similarities of a query is computed, so ranking costs what comparing every query with every reference costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geodtr_lib.evaluation.protocols import one_percent, recalls_of
from geodtr_lib.evaluation.ranking import Ties
from geodtr_lib.evaluation.similarity import norms, require_finite

Similarity = Callable[[Tensor, Tensor], Tensor]
"""References M x D and queries B x D' to M x B."""
_ROUNDING = 1e-6  # of a similarity in [-1, 1] that went through a Fourier transform in float32


def matched_metrics(
    query: Tensor,
    reference: Tensor,
    cover: list[np.ndarray],
    similarity: Similarity,
    protocol: str = "cvusa",
    ties: Ties = "against",
    semi: bool = False,
    block: int = 64,
) -> dict[str, float | int]:
    """Recalls of queries against a gallery.

    Args:
        query: N x D'.
        reference: M x D.
        cover: for each query the references that are right for it; with ``semi`` the positive first and then those that cover it too.
        similarity: of references and queries.
        protocol: ``cvusa`` or ``vigor``: the k of R@1%.
        ties: ``against`` the query, or ``strict``; similarities within a millionth are equal.
        semi: only the first of ``cover`` is right; the others count for the hit rates, as in ``retrieval_metrics``.
        block: queries at a time.

    Returns:
        As :func:`geodtr_lib.evaluation.retrieval_metrics`. A query with nothing right counts as not found.

    Raises:
        GeoDTRError: embeddings or similarities that are not finite.
    """
    right = [references[:1] for references in cover] if semi else cover
    found = recalls_of(
        matched_ranks(query, reference, right, similarity, ties, block=block), one_percent(protocol, len(reference)), len(reference)
    )
    if not semi:
        return found
    hits = matched_ranks(query, reference, right, similarity, ties, ignored=cover, block=block) == 0
    covering = matched_ranks(query, reference, cover, similarity, ties, block=block) == 0
    return {**found, "hit_rate": float(hits.double().mean()), "hit_rate_cover": float(covering.double().mean())}


def matched_ranks(
    query: Tensor,
    reference: Tensor,
    right: list[np.ndarray],
    similarity: Similarity,
    ties: Ties = "against",
    ignored: list[np.ndarray] | None = None,
    block: int = 64,
) -> Tensor:
    """How many references come before the best of those that are right for each query; 0 is the best rank.

    Args:
        query, reference, similarity, ties: as of :func:`matched_metrics`.
        right: for each query the references that are right for it.
        ignored: for each query references that are in nobody's way; None = the right ones.
        block: queries at a time.

    Returns:
        N integers, on the CPU. Where nothing is right, the largest there is.

    Raises:
        GeoDTRError: embeddings or similarities that are not finite.
    """
    slack = -_ROUNDING if ties == "against" else _ROUNDING
    ranks = []
    for part, rows in _similarities(query, reference, similarity, block):
        for row, own, aside in zip(rows, right[part], (ignored or right)[part], strict=True):
            if not len(own):
                ranks.append(torch.iinfo(torch.int64).max)
                continue
            above = row > row[torch.as_tensor(own, device=row.device)].max() + slack  # M
            above[torch.as_tensor(aside, device=row.device)] = False
            ranks.append(int(above.sum()))
    return torch.tensor(ranks)


def matched_top_k(query: Tensor, reference: Tensor, k: int, similarity: Similarity, block: int = 64) -> tuple[Tensor, Tensor]:
    """The k nearest references of each query as ``ranking.top_k`` gives them: similarities and indices, N x k, on the CPU.

    Raises:
        GeoDTRError: embeddings or similarities that are not finite.
    """
    found = [rows.topk(min(k, len(reference)), dim=1) for _, rows in _similarities(query, reference, similarity, block)]
    return torch.cat([part.values for part in found]).cpu(), torch.cat([part.indices for part in found]).cpu()


def _similarities(query: Tensor, reference: Tensor, similarity: Similarity, block: int) -> Iterator[tuple[slice, Tensor]]:
    """The queries of each block, and their similarities to all references, B x M, float64."""
    for embeddings, what in ((query, "query"), (reference, "gallery")):
        norms(embeddings, what)  # raises
    for start in range(0, len(query), block):
        part = slice(start, start + block)
        rows = similarity(reference, query[part]).T.double()
        require_finite(rows.sum(1), "queries' similarities")
        yield part, rows


def right_references(dataset: Any, protocol: str, radius: float = 5.0) -> tuple[list[np.ndarray], bool]:
    """What :func:`matched_metrics` needs of a data set: the references that are right for each query, and whether only the first is."""
    if protocol == "within_5m":
        tree = cKDTree(np.asarray(dataset.reference_position, dtype=np.float64))
        near = tree.query_ball_point(np.asarray(dataset.query_position, dtype=np.float64), radius)
        return [np.asarray(items, dtype=np.int64) for items in near], False
    if protocol == "vigor" and dataset.semi_positive is not None:
        return list(np.column_stack([dataset.positive, dataset.semi_positive])), True
    return list(np.asarray(dataset.positive)[:, None]), False
