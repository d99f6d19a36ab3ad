"""Memory that a process keeps between two steps that need it again."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt (malloc.h), and how large the two thresholds can grow by themselves.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_NEVER = 2**31 - 1
_HEAP = 64 * 2**20  # of a thread other than the first: one that is free as a whole goes back unless the padding is as large
_DEFAULT_PAD = 128 * 2**10

_holders = 0
_turn = threading.Lock()


@contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Inside, what is freed stays with the process, and goes back to the system at the end.

    A training step on a CPU frees what the next one takes again. glibc gives such memory back at once, so the system clears and maps it
    anew at every step, which took a seventh of a small step's time. The most memory that is held does not change. With another C library,
    and where the allocator was replaced, nothing happens.

    Args:
        wanted: False = do nothing.
    """
    global _holders
    libc = ctypes.CDLL(None) if wanted and sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None:
        yield
        return
    with _turn:
        _holders += 1
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_TOP_PAD, _HEAP + 2**20)
    try:
        yield
    finally:
        with _turn:
            _holders -= 1
            if not _holders:
                mallopt(_TOP_PAD, _DEFAULT_PAD)
                mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
                if trim := getattr(libc, "malloc_trim", None):
                    trim(0)
