"""Freed memory that a training step takes again stays with the process; afterwards the system has it back."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(getattr(ctypes.CDLL(None), "mallopt", None) is None, reason="this C library has no mallopt")

# A process of its own: the allocator's history counts. On a second thread, as the branches compute: glibc keeps less of its memory.
PROGRAM = """
import os, resource, sys
from concurrent.futures import ThreadPoolExecutor
import torch
from geodtr_lib.memory import kept_memory
core = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))

def step():
    held = [torch.ones(1_000 * (50 + 97 * i % 3_000)) for i in range(120)]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        core.submit(step).result()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

with kept_memory(sys.argv[1] == "kept"):
    for _ in range(3):
        core.submit(step).result()
    found, held = faults(), resident()
print(found, held, resident())
"""


def measured(how: str) -> tuple[int, int, int]:
    """Page faults of three steps, and resident bytes inside and after."""
    found = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    first, second, third = found.stdout.split()
    return int(first), int(second), int(third)


def test_a_step_finds_the_memory_of_the_step_before_and_at_the_end_it_goes_back() -> None:
    faults, inside, after = measured("kept")
    taken = 4 * sum(1_000 * (50 + 97 * number % 3_000) for number in range(120))
    assert faults < 0.01 * 3 * taken / resource.getpagesize()
    assert inside - after > 0.8 * taken
    _, inside, after = measured("plain")
    assert inside - after < 0.1 * taken  # it went back because of us


def test_one_inside_another_and_the_first_to_end_does_not_end_the_other() -> None:
    from geodtr_lib import memory

    with memory.kept_memory():
        with memory.kept_memory():
            assert memory._holders == 2
        assert memory._holders == 1
    assert memory._holders == 0
