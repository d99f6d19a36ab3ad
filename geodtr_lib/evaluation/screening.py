"""How many gallery items pass a bound, at the cost of one matrix product in a short dtype.

A product in float32 (or half precision) is off by no more than a known slack. A similarity further than that from the bound is on the side
that it seems to be. The few others are open: they are computed in float64, and a row with too many of them is screened again in the next
longer dtype. So every screening gives the counts of float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.evaluation.products import BLOCK, Screen, Screening, Workspace, limits_of, multiply, rows_in, screens_for
from geodtr_lib.evaluation.similarity import Array, as_index, pair_similarity, rows_of

CROWDED = 128  # one row of a float64 product costs as much as about G / 128 pairs of it, for G items


@dataclass(frozen=True)
class Block:
    """Some queries against some gallery items."""

    rows: Tensor  # B x D, in the embeddings' own dtype
    items: Tensor  # G x D
    left_out: Tensor  # positions in the flattened B x G that do not count
    bound: Tensor  # B x T, float64


def count_above(
    query: Array,
    gallery: Array,
    bound: Tensor,
    largest: Tensor,
    block: int = BLOCK,
    screening: Screening = "fp32",
    leave_out: tuple[Tensor, Tensor] | None = None,
    wait: bool | None = None,
) -> Tensor:
    """How many gallery items are more similar to each query than its bounds.

    Args:
        query: N x D.
        gallery: M x D.
        bound: N x T similarities, float64, on the device that computes.
        largest: N values of :func:`geodtr_lib.evaluation.similarity.largest_similarity`.
        block: rows per product.
        screening: ``fp32`` or ``half``: the dtype of the products; it changes the time, not the counts.
        leave_out: query and gallery index of pairs that do not count (as those that the bounds come from).
        wait: look at each product's open comparisons before the next product; None = except on CUDA, where the host would hold up the GPU.

    Returns:
        N x T integers, on the CPU.

    Raises:
        ConfigError: unknown ``screening``.
    """
    device = bound.device
    screens = screens_for(query, gallery, largest, device, screening)
    # A short dtype's queries are made once, not once for each block of the gallery.
    short = rows_in(query, screens[0].dtype, device) if screens[0].dtype.itemsize == 2 else None
    apart = _LeftOut(leave_out, len(query), len(gallery), block, device)
    if wait is None:
        wait = device.type != "cuda" or not _has_static_nonzero(device)
    memory = Workspace()
    counts = torch.zeros(bound.shape, dtype=torch.int64, device=device)
    crowded: list[tuple[int, int, Tensor]] = []  # blocks with more open comparisons than there was room for
    for first in range(0, len(gallery), block):
        items = rows_of(gallery, slice(first, first + block), device)
        ready = items.to(screens[0].dtype)
        for start in range(0, len(query), block):
            part = slice(start, start + block)
            piece = Block(rows_of(query, part, device), items, apart.of(first, start), bound[part])
            product = multiply(piece.rows if short is None else short[part], ready, screens[0].dtype, memory)
            some = [screen.of(part) for screen in screens]
            if wait:
                counts[part] += _count(piece, product, some, memory)
            else:
                found, overflow = _count_without_waiting(piece, product, some)
                counts[part] += found.masked_fill_(overflow, 0)
                crowded.append((first, start, overflow))
    again = torch.stack([overflow for *_, overflow in crowded]).tolist() if crowded else []
    for first, start, _ in [crowded[i] for i, overflow in enumerate(again) if overflow]:
        part = slice(start, start + block)
        items = rows_of(gallery, slice(first, first + block), device)
        piece = Block(rows_of(query, part, device), items, apart.of(first, start), bound[part])
        some = [screen.of(part) for screen in screens]
        counts[part] += _count(piece, multiply(piece.rows, items, some[0].dtype, memory), some, memory)
    return counts.cpu()


def _count(block: Block, product: Tensor, screens: list[Screen], memory: Workspace) -> Tensor:
    """The count that float64 gives, B x T, from the product in the first screen's dtype."""
    screen, *longer = screens
    product.view(-1).index_fill_(0, block.left_out, -torch.inf)
    if not longer:
        return torch.stack([_per_row(product > column[:, None]) for column in block.bound.T], dim=1)
    counts = []
    for column in block.bound.T:
        low, high = limits_of(column, screen.slack, product.dtype)
        above = torch.gt(product, high[:, None], out=memory.take("above", (len(product), product.shape[1]), torch.bool, product.device))
        below = torch.lt(product, low[:, None], out=memory.take("below", (len(product), product.shape[1]), torch.bool, product.device))
        unsure = torch.eq(above, below, out=below)  # neither; NaN too
        count = _per_row(above)
        if int(np.count_nonzero(unsure.numpy()) if unsure.device.type == "cpu" else unsure.sum()) > product.shape[1]:
            dense = (_per_row(unsure) > product.shape[1] // CROWDED).nonzero()[:, 0]
            count[dense] = _count_again(block, column, dense, longer)
            unsure[dense] = False
        row, item = _positions(unsure)
        exact = pair_similarity(block.rows, block.items, row, item)
        counts.append(count.index_add_(0, row, (exact > column[row]).long()))
    return torch.stack(counts, dim=1)


def _count_again(block: Block, bound: Tensor, rows: Tensor, screens: list[Screen]) -> Tensor:
    """The counts of some rows (R) in the next longer dtype."""
    width = len(block.items)
    place = torch.full((len(block.rows),), -1, device=rows.device)
    place[rows] = torch.arange(len(rows), device=rows.device)
    row = place[block.left_out // width]
    left_out = (row * width + block.left_out % width)[row >= 0]
    fewer = Block(block.rows[rows], block.items, left_out, bound[rows, None])
    memory = Workspace()  # the larger product is still in use
    product = multiply(fewer.rows, fewer.items, screens[0].dtype, memory)
    return _count(fewer, product, [screen.of(rows) for screen in screens], memory)[:, 0]


def _count_without_waiting(block: Block, product: Tensor, screens: list[Screen]) -> tuple[Tensor, Tensor]:
    """As :func:`_count`, but nothing is asked of the device: room for one open comparison per row, and a flag for when it was too little.

    Returns:
        counts: B x T.
        overflow: a Boolean on the device; where it is true, the counts are not to be used.
    """
    screen, *longer = screens
    product.view(-1).index_fill_(0, block.left_out, -torch.inf)
    overflow = torch.zeros((), dtype=torch.bool, device=product.device)
    if not longer:
        return torch.stack([(product > column[:, None]).sum(1) for column in block.bound.T], dim=1), overflow
    counts, room = [], len(product)
    for column in block.bound.T:
        low, high = limits_of(column, screen.slack, product.dtype)
        above = product > high[:, None]
        unsure = above == (product < low[:, None])
        row, item = torch.nonzero_static(unsure, size=room, fill_value=0).T
        n_unsure = unsure.sum()
        exact = pair_similarity(block.rows, block.items, row, item) > column[row]
        real = torch.arange(room, device=product.device) < n_unsure  # the rest is filling
        counts.append(above.sum(1).index_add_(0, row, (exact & real).long()))
        overflow |= n_unsure > room
    return torch.stack(counts, dim=1), overflow


class _LeftOut:
    """Pairs that do not count, sorted by block beforehand, so that no block asks which of them are its own."""

    def __init__(self, pairs: tuple[Tensor, Tensor] | None, n: int, m: int, block: int, device: torch.device) -> None:
        owner, reference = (as_index(index) for index in pairs) if pairs else (torch.empty(0, dtype=torch.int64),) * 2
        self.block, self.columns = block, -(-n // block)
        piece = reference // block * self.columns + owner // block
        piece, order = piece.sort()
        owner, reference = owner[order], reference[order]
        width = (m - reference // block * block).clamp(max=block)  # the last block is narrower
        self.position = ((owner % block) * width + reference % block).to(device)
        self.ends = torch.searchsorted(piece, torch.arange(-(-m // block) * self.columns + 1)).tolist()

    def of(self, first: int, start: int) -> Tensor:
        """Positions in the flattened product of the block that begins at a gallery item and a query."""
        piece = first // self.block * self.columns + start // self.block
        return self.position[self.ends[piece] : self.ends[piece + 1]]


def _per_row(mask: Tensor) -> Tensor:
    """How many are true in each row of B x G; on a CPU numpy counts several times as fast."""
    return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1)).long() if mask.device.type == "cpu" else mask.sum(1)


def _positions(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of what is true in B x G."""
    flat = torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.view(-1).nonzero()[:, 0]
    return flat // mask.shape[1], flat % mask.shape[1]


def _has_static_nonzero(device: torch.device) -> bool:
    try:
        torch.nonzero_static(torch.ones(1, dtype=torch.bool, device=device), size=1)
    except (NotImplementedError, AttributeError):  # torch before 2.7 has it on the CPU only
        return False
    return True
