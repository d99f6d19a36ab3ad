"""Runs leave nothing behind in the process that made them. The long version is ``benchmarks/soak.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_runs import TINY


@pytest.mark.parametrize("tensorboard", [False, True])
def test_runs_leave_no_files_and_threads_open(tensorboard: bool, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    if tensorboard:
        pytest.importorskip("tensorboard")
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    soak = __import__("soak")
    held = soak.soak(6, tmp_path, str, **TINY, tensorboard=tensorboard)
    grown = soak.growth(held, warm=2)
    assert (grown["files"], grown["threads"]) == (0, 0)
    assert grown["memory MB"] < 8, "of each; early runs still fill the allocator's pools"


def test_growth_is_told() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
    try:
        soak = __import__("soak")
    finally:
        sys.path.pop(0)
    held = [{"memory MB": 100.0 + 3 * number, "files": 10.0 + number // 4, "threads": 5.0} for number in range(8)]
    assert soak.growth(held, warm=2) == {"memory MB": pytest.approx(3), "files": 1, "threads": 0}
