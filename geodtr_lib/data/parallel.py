"""Work on several cores at once: as many as torch is given threads. What is computed does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")
_BLOCK_PIXELS = 98_304  # of a raster: a block's arrays stay in a core's cache


def for_row_blocks(work: Callable[[slice], Result], height: int, width: int) -> list[Result]:
    """Call ``work`` for slices of rows that cover 0..height, few enough that their pixels stay in the cache; results in the rows' order.

    NumPy releases the interpreter's lock, so blocks run beside each other; ``work`` may write into its own rows of shared arrays.
    """
    step = max(1, _BLOCK_PIXELS // max(width, 1))
    blocks = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    threads = min(torch.get_num_threads(), len(blocks))
    if threads < 2:
        return [work(rows) for rows in blocks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, blocks))


@contextmanager
def workers(count: int, torch_threads: int = 1) -> Iterator[ThreadPoolExecutor]:
    """A pool of ``count`` threads in which torch itself uses ``torch_threads``."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(torch_threads,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # a thread's own number is also the default of those started later
