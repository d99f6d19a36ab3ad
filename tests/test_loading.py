"""Reading ahead: in order, only so far, and errors where they belong."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest
import torch

from geodtr_lib.data.loading import ahead


def read(item: int) -> tuple[torch.Tensor, ...]:
    return torch.tensor([item]), torch.tensor([item, item])


def test_items_come_in_order_with_what_was_read() -> None:
    found = list(ahead(range(20), read, depth=3))
    assert [item for item, _ in found] == list(range(20))
    assert all(first.tolist() == [item] and second.tolist() == [item, item] for item, (first, second) in found)
    assert list(ahead([], read)) == []


def test_the_reader_stays_within_its_depth_and_on_one_core() -> None:
    begun: list[int] = []
    threads = set()

    def slowly(item: int) -> tuple[torch.Tensor, ...]:
        begun.append(item)
        threads.add((threading.get_ident(), torch.get_num_threads()))
        return read(item)

    for item, _ in ahead(range(10), slowly, depth=2):
        time.sleep(0.01)
        assert max(begun) <= item + 2
    assert len(threads) == 1
    assert threads.pop()[1] == 1


def test_the_next_item_is_read_while_this_one_is_used() -> None:
    started = threading.Event()

    def notes(item: int) -> tuple[torch.Tensor, ...]:
        if item == 1:
            started.set()
        return read(item)

    for item, _ in ahead(range(2), notes):
        if item == 0:
            assert started.wait(5)


def test_an_error_comes_where_its_item_would_have_come_and_nothing_goes_on_behind_it() -> None:
    begun: list[int] = []

    def fails(item: int) -> tuple[torch.Tensor, ...]:
        begun.append(item)
        if item == 3:
            raise ValueError("item 3 is broken")
        return read(item)

    items = ahead(range(100), fails)
    assert [next(items)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="item 3 is broken"):
        next(items)
    assert len(begun) < 8


def test_leaving_early_ends_the_reader() -> None:
    before = threading.active_count()
    for item, _ in ahead(range(1000), read):
        if item == 2:
            break
    time.sleep(0.1)
    assert threading.active_count() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_the_thread_that_reads_takes_what_the_others_leave() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before, seen = priority(), []

    def look(item: int) -> tuple[torch.Tensor, ...]:
        seen.append((priority(), torch.get_num_threads()))
        return read(item)

    assert len(list(ahead(range(3), look))) == 3
    assert seen == [(19, 1)] * 3
    assert priority() == before
