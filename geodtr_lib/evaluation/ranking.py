"""Exact ranks by blocks: no approximate search, no full distance matrix.

Similarity is the dot product, which for unit embeddings orders as distance does (``|q - g|^2 = 2 - 2 q.g``). What counts is its float64
value, whatever the embeddings' dtype, and similarities closer than float64 rounding can tell are equal. So identical embeddings tie
exactly, and neither the block size nor the device changes a rank. On a CPU a float32 product settles nearly all comparisons, and only
those that it leaves open are made in float64.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.errors import ConfigError, GeoDTRError

Array = Tensor | np.ndarray
Ties = Literal["against", "strict"]
BLOCK = 4096  # rows of query and of gallery in one product
PAIRS = 1024  # single similarities computed at a time


def ranks(query: Array, gallery: Array, positive: Array, ties: Ties = "against", block: int = BLOCK) -> Tensor:
    """How many gallery items come before each query's positive; 0 is the best rank.

    Args:
        query: N x D, float32, float16, bfloat16 or float64.
        gallery: M x D; tensor on any device or array, also memory-mapped. Converted block by block.
        positive: N indices into the gallery.
        ties: ``against`` counts an item as near as the positive before it, so a collapsed model ranks last;
            ``strict`` does not, as released.
        block: rows per product.

    Returns:
        N integers, on the CPU.

    Raises:
        ConfigError: unknown ``ties``.
        ValueError: shapes that do not fit, or an index outside the gallery.
        GeoDTRError: embeddings that are not finite.
    """
    threshold = similarity(query, gallery, _indices(positive)[:, None])  # N x 1
    largest = largest_similarity(query, gallery)
    before = count_above(query, gallery, before_bound(threshold, largest, query.shape[-1], ties), largest, block)[:, 0]
    return before - 1 if ties == "against" else before  # the positive itself is as near as the positive


def similarity(query: Array, gallery: Array, candidates: Array, block: int = PAIRS) -> Tensor:
    """Similarity of each query to its own candidates.

    Args:
        query: N x D.
        gallery: M x D.
        candidates: N x P indices into the gallery.
        block: queries at a time.

    Returns:
        N x P, float64, on the device that computes.
    """
    index = _indices(candidates)
    if len(index) != len(query) or query.shape[-1] != gallery.shape[-1]:
        raise ValueError(f"queries {list(query.shape)}, gallery {list(gallery.shape)} and candidates {list(index.shape)} do not fit")
    if len(index) and not (index.min() >= 0 and index.max() < len(gallery)):
        raise ValueError(f"candidates are from {index.min()} to {index.max()}, but the gallery has {len(gallery)} items")
    found = torch.empty(index.shape, dtype=torch.float64, device=device_for(query))
    for start in range(0, len(query), block):
        part = slice(start, start + block)
        rows = _rows(query, part)
        for column in range(index.shape[1]):
            found[part, column] = (rows * _rows(gallery, index[part, column], device=rows.device)).sum(1)
    return found


def largest_similarity(query: Array, gallery: Array) -> Tensor:
    """``|q| max |g|``, which no similarity of a query exceeds and by which rounding errors are measured: N values, float64, on the CPU.

    Raises:
        GeoDTRError: embeddings that are not finite.
    """
    return _norms(query, "query") * _norms(gallery, "gallery").max()


def before_bound(threshold: Tensor, largest: Tensor, dimension: int, ties: Ties) -> Tensor:
    """What a similarity must exceed to come before a threshold, rounding errors set aside.

    Two equal similarities differ by at most ``2 D 2^-53 |q| |g|`` when computed in float64. The bound lies that far below the threshold
    for ties ``against`` the query, and that far above for ``strict``.

    Args:
        threshold: N x T similarities.
        largest: N values of :func:`largest_similarity`.
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


def count_above(query: Array, gallery: Array, bound: Tensor, largest: Tensor, block: int = BLOCK) -> Tensor:
    """How many gallery items are more similar to each query than its bounds.

    Args:
        query: N x D.
        gallery: M x D.
        bound: N x T similarities, float64, on the device that computes.
        largest: N values of :func:`largest_similarity`.
        block: rows per product.

    Returns:
        N x T integers, on the CPU.
    """
    device = bound.device
    # Rounding errors of a product add up like a random walk (Higham and Mary 2019): 8 sqrt(D) units are out of reach for D terms.
    slack = largest.to(device) * (8 * query.shape[-1] ** 0.5 + 4) * 2.0**-24
    wide = any(str(embeddings.dtype).endswith("float64") for embeddings in (query, gallery))
    quick = device.type == "cpu" and not wide and torch.get_float32_matmul_precision() == "highest"
    counts = torch.zeros(bound.shape, dtype=torch.int64, device=device)
    for first in range(0, len(gallery), block):
        items = _rows(gallery, slice(first, first + block), torch.float32 if quick else torch.float64, device)
        for start in range(0, len(query), block):
            part = slice(start, start + block)
            rows = _rows(query, part, items.dtype, device)
            if quick:
                counts[part] += _count_quickly(rows, items, bound[part], slack[part])
            else:
                counts[part] += _count(rows @ items.T, bound[part])
    return counts.cpu()


def _count(similarities: Tensor, bound: Tensor) -> Tensor:
    """How many of B x G similarities exceed each of B x T bounds: B x T."""
    return torch.stack([(similarities > column[:, None]).sum(1, dtype=torch.int32) for column in bound.T], dim=1).long()


def _count_quickly(rows: Tensor, items: Tensor, bound: Tensor, slack: Tensor) -> Tensor:
    """The count that float64 gives, for float32 rows (B x D) and items (G x D): B x T.

    A float32 similarity further than ``slack`` (B) from the bound is on the side that it seems to be.
    """
    similarities = rows @ items.T  # B x G
    low, high = (bound - slack[:, None]).float(), (bound + slack[:, None]).float()
    counts = _count(similarities, high)
    open_counts = _count(similarities, low) - counts
    if open_counts.sum() > similarities.numel() // 64:  # a collapsed model
        return _count(rows.double() @ items.double().T, bound)
    for column in open_counts.sum(0).nonzero().flatten().tolist():
        some = open_counts[:, column].nonzero().flatten()  # queries with something open
        unsure = (similarities[some] > low[some, column, None]) & (similarities[some] <= high[some, column, None])
        row, item = unsure.nonzero(as_tuple=True)
        for start in range(0, len(row), PAIRS):
            query, reference = some[row[start : start + PAIRS]], item[start : start + PAIRS]
            exact = (rows[query].double() * items[reference].double()).sum(1)
            counts[:, column].index_add_(0, query, (exact > bound[query, column]).long())
    return counts


def top_k(query: Array, gallery: Array, k: int, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """The k nearest gallery items of each query, nearest first.

    Args:
        query: N x D.
        gallery: M x D.
        k: at most M are returned.
        block: rows per product.

    Returns:
        similarities: N x k, float64, on the CPU.
        indices: N x k, on the CPU.
    """
    k = min(k, len(gallery))
    found = []
    for start in range(0, len(query), block):
        rows = _rows(query, slice(start, start + block))
        best = rows.new_empty(len(rows), 0)
        index = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
        for first in range(0, len(gallery), block):
            similarities = rows @ _rows(gallery, slice(first, first + block), device=rows.device).T  # B x G
            nearest, position = similarities.topk(min(k, similarities.shape[1]), dim=1)
            best, order = torch.cat([best, nearest], dim=1).topk(min(k, best.shape[1] + nearest.shape[1]), dim=1)
            index = torch.cat([index, position + first], dim=1).gather(1, order)
        found.append((best.cpu(), index.cpu()))
    return torch.cat([best for best, _ in found]), torch.cat([index for _, index in found])


def device_for(query: Array) -> torch.device:
    """Where similarities of these queries are computed: where they are, or the CPU for arrays and for MPS, which has no float64."""
    return query.device if isinstance(query, Tensor) and query.device.type != "mps" else torch.device("cpu")


def _indices(values: Array) -> Tensor:
    return torch.as_tensor(values).long().cpu()


def _rows(embeddings: Array, rows: slice | Tensor, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """These rows in a dtype, on ``device`` or where they are computed with."""
    if isinstance(embeddings, np.ndarray):
        picked = torch.from_numpy(np.array(embeddings[rows if isinstance(rows, slice) else rows.numpy()]))
    else:
        picked = embeddings.detach()[rows if isinstance(rows, slice) else rows.to(embeddings.device)]
    return picked.to(device or device_for(picked)).to(dtype)


def _norms(embeddings: Array, what: str, block: int = PAIRS) -> Tensor:
    norms = torch.empty(len(embeddings), dtype=torch.float64)  # filled in place: small pieces between large ones fragment the heap
    for start in range(0, len(embeddings), block):
        norms[start : start + block] = _rows(embeddings, slice(start, start + block)).norm(dim=1)
    if bad := int((~norms.isfinite()).sum()):
        # Comparisons with NaN are all false: such a query would count as found.
        raise GeoDTRError(
            f"{bad} of {len(norms)} {what} embeddings are not finite; the model diverged (lower lr) or its weights are damaged"
        )
    return norms
