"""The nearest gallery items of each query, exactly, by blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from geodtr_lib.evaluation.products import BLOCK, Screen, Screening, Workspace, multiply, rows_in, screens_for
from geodtr_lib.evaluation.similarity import Array, device_for, largest_similarity, pair_similarity, resident, rows_of

SPARE, SPARE_HALF = 16, 64  # candidates beyond k that are kept: they may be nearer than the product says


def top_k(query: Array, gallery: Array, k: int, block: int = BLOCK, screening: Screening = "fp32") -> tuple[Tensor, Tensor]:
    """The k nearest gallery items of each query, nearest first.

    The order is that of float64 similarities; of equal ones the lower index comes first. A product in a short dtype finds the candidates,
    which are then computed in float64. A query for which more than a few candidates compete for the last place is looked up again in the
    next longer dtype; where float64 does not tell them apart either (a collapsed model), the lowest indices are taken.

    Args:
        query: N x D.
        gallery: M x D; tensor on any device or array, also memory-mapped.
        k: at most M are returned.
        block: rows per product.
        screening: ``fp32`` or ``half``: the dtype of the products; it changes the time, not the result.

    Returns:
        similarities: N x k, float64, on the CPU.
        indices: N x k, on the CPU.

    Raises:
        ConfigError: unknown ``screening``.
        ValueError: shapes that do not fit.
        GeoDTRError: embeddings that are not finite.
    """
    if query.shape[-1] != gallery.shape[-1]:
        raise ValueError(f"queries {list(query.shape)} and gallery {list(gallery.shape)} do not fit")
    k, device = min(k, len(gallery)), device_for(query)
    similarities, indices = torch.empty(len(query), k, dtype=torch.float64), torch.empty(len(query), k, dtype=torch.int64)
    if not similarities.numel():
        return similarities, indices
    gallery = resident(gallery, device)
    left = torch.arange(len(query))  # queries without an answer so far
    for screen in screens_for(query, gallery, largest_similarity(query, gallery), device, screening):
        some = rows_of(query, slice(None) if len(left) == len(query) else left, device)
        screen = screen.of(left.to(device))
        width = min(k + (SPARE_HALF if screen.dtype.itemsize == 2 else SPARE), len(gallery))
        best, index = _candidates(some, gallery, width, screen.dtype, block)
        needed = _lower(best[:, k - 1], screen)  # the k-th nearest is at least as near as this
        near = _upper(best, screen) >= needed[:, None]
        # What is not among the candidates is at most as near as the last of them.
        crowded = near[:, -1] & (best.shape[1] < len(gallery))
        done, tied = (~crowded).nonzero()[:, 0], crowded.nonzero()[:, 0]
        place = left[done.cpu()]
        similarities[place], indices[place] = _ordered(some, gallery, done, index[done], near[done], k)
        left = left[tied.cpu()]
        if not len(left):
            break
        if screen.dtype == torch.float64:
            first = _first_within(some[tied], gallery, k, needed[tied], block)
            nearer = _lower(best[tied], screen.of(tied)) > _upper(best[:, k - 1], screen)[tied, None]
            both = torch.cat([first, index[tied]], dim=1), torch.cat([torch.ones_like(first, dtype=torch.bool), nearer], dim=1)
            similarities[left], indices[left] = _ordered(some, gallery, tied, *both, k)
    return similarities, indices


def _candidates(rows: Tensor, gallery: Array, width: int, dtype: torch.dtype, block: int) -> tuple[Tensor, Tensor]:
    """The largest products of each row in a dtype, in descending order, and whose they are: N x width each."""
    device, memory = rows.device, Workspace()
    rows = rows_in(rows, dtype, device) if dtype.itemsize == 2 else rows
    best, index = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for first in range(0, len(gallery), block):
        items = rows_of(gallery, slice(first, first + block), device).to(dtype)
        found = []
        for start in range(0, len(rows), block):
            product = multiply(rows[start : start + block], items, dtype, memory)  # B x G
            found.append(product.topk(min(width, len(items)), dim=1))
        values, positions = torch.cat([values for values, _ in found]), torch.cat([positions for _, positions in found]) + first
        if first:
            values, positions = torch.cat([best, values], dim=1), torch.cat([index, positions], dim=1)
        best, order = values.topk(min(width, values.shape[1]), dim=1)
        index = positions.gather(1, order)
    return best, index


def _first_within(rows: Tensor, gallery: Array, k: int, needed: Tensor, block: int) -> Tensor:
    """The k lowest gallery indices whose similarity reaches what is needed: N x k."""
    memory = Workspace()
    found = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
    for first in range(0, len(gallery), block):
        items = rows_of(gallery, slice(first, first + block), rows.device)
        number = torch.arange(first, first + len(items), dtype=torch.int32, device=rows.device)
        lowest = []
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            reached = multiply(rows[part], items, torch.float64, memory) >= needed[part, None]  # B x G
            numbers = torch.where(reached, number, len(gallery))
            lowest.append(numbers.topk(min(k, len(items)), dim=1, largest=False).values.long())
        found = torch.cat([found, torch.cat(lowest)], dim=1)
        found = found.topk(min(k, found.shape[1]), dim=1, largest=False).values
        if found.shape[1] == k and int(found.max()) < len(gallery):  # all later indices are higher
            break
    return found


def _ordered(rows: Tensor, gallery: Array, chosen: Tensor, index: Tensor, near: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest candidates of n chosen rows by float64 similarity, then index; on the CPU.

    Args:
        rows: N x D.
        gallery: M x D.
        chosen: n indices into the rows.
        index: n x C candidates of each.
        near: n x C, which of them count.
        k: of them are returned.
    """
    index, order = index.sort(dim=1, stable=True)
    near = near.gather(1, order)
    near[:, 1:] &= index[:, 1:] != index[:, :-1]  # a candidate that is listed twice counts once
    row, column = near.nonzero(as_tuple=True)
    exact = torch.full(index.shape, -torch.inf, dtype=torch.float64, device=index.device)
    exact[row, column] = pair_similarity(rows, gallery, chosen[row], index[row, column])
    exact, order = exact.sort(dim=1, descending=True, stable=True)
    return exact[:, :k].cpu(), index.gather(1, order)[:, :k].cpu()


def _lower(product: Tensor, screen: Screen) -> Tensor:
    """What the similarities behind a product (N or N x C) are at least, float64."""
    return product.double() - _uncertainty(product, screen)


def _upper(product: Tensor, screen: Screen) -> Tensor:
    """What they are at most."""
    return product.double() + _uncertainty(product, screen)


def _uncertainty(product: Tensor, screen: Screen) -> Tensor:
    slack = screen.slack if product.dim() == 1 else screen.slack[:, None]
    return slack + product.double().abs() * 2.0**-8 if product.dtype == torch.bfloat16 else slack  # a bfloat16 product is rounded itself
