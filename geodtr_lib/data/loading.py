"""Images of coming batches, read while the present one is computed and handed over on the device."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.errors import DatasetError

Item = TypeVar("Item")
Images = tuple[Tensor, ...]
LOWEST_PRIORITY = 19
AHEAD = 2  # batches in hand: one may be late without anyone waiting


def ahead(
    items: Iterable[Item], read: Callable[[Item], tuple[Tensor, ...]], device: torch.device | str = "cpu", depth: int = AHEAD
) -> Iterator[tuple[Item, tuple[Tensor, ...]]]:
    """Each item with what ``read`` gives for it, in order; a thread reads up to ``depth`` items beforehand.

    For CUDA the tensors wait in pinned memory and are copied on a stream of their own while the device still computes the batch before.

    Args:
        items: what is to be read, such as the indices of a batch.
        read: gives the tensors of an item on the CPU. Its operations keep to one core: the others compute. The first exception that it
            raises is raised where the item would have come.
        device: where the tensors are wanted.
        depth: items in hand, at least 1.
    """
    device = torch.device(device)
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch(item: Item) -> tuple[tuple[Tensor, ...], torch.cuda.Event | None]:
        tensors = read(item)
        if stream is None:
            return tuple(tensor.to(device) for tensor in tensors), None
        with torch.cuda.stream(stream):
            return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors), stream.record_event()

    waiting: deque[tuple[Item, Future[tuple[tuple[Tensor, ...], torch.cuda.Event | None]]]] = deque()
    remaining = iter(items)
    with ThreadPoolExecutor(1, initializer=_stand_back) as reader:
        try:
            waiting.extend((item, reader.submit(fetch, item)) for item in islice(remaining, depth))
            while waiting:
                current, future = waiting.popleft()
                tensors, copied = future.result()
                waiting.extend((item, reader.submit(fetch, item)) for item in islice(remaining, 1))
                if copied is not None:
                    here = torch.cuda.current_stream(device)
                    here.wait_event(copied)  # the device waits, not this thread
                    for tensor in tensors:
                        tensor.record_stream(here)  # its memory is not given away before this batch is done with
                yield current, tensors
        finally:
            for _, future in waiting:
                future.cancel()


def _stand_back() -> None:
    """Let this thread take what the others leave: it is ahead, and they are waited for."""
    torch.set_num_threads(1)  # the number of threads inside an operation is a property of the thread that calls it
    if sys.platform == "linux":  # elsewhere this would be the priority of the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)


def read_rows(read: Callable[[np.ndarray], Images], rows: np.ndarray, skip: bool = False) -> tuple[Images, np.ndarray]:
    """The images of some rows, and which rows these are.

    Args:
        read: gives the images of rows.
        rows: those wanted; there may be none.
        skip: leave out rows whose images cannot be read. To find them they are read one by one.

    Raises:
        DatasetError: an image cannot be read, or with ``skip`` none of them can.
    """
    if not len(rows):
        return tuple(images[:0] for images in read(np.zeros(1, dtype=np.int64))), rows  # their shape is known only to who reads
    try:
        return read(rows), rows
    except DatasetError:
        if not skip:
            raise
    kept = []
    for row in rows:
        try:
            read(np.array([row]))
        except DatasetError as error:
            fault = error
        else:
            kept.append(row)
    if not kept:
        raise fault
    return read(np.array(kept)), np.array(kept)
