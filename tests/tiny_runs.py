"""The smallest runs, in processes that cost little to start: a server that has imported torch forks them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

TINY = dict(
    preset="smoke", epochs=2, n_train=12, n_test=4, batch_size=4, test_areas=["midrise"], checkpoint_minutes=1e-9, heads=1, ffn_width=16,
    n_desc=2, ground_size=(16, 32),
)  # fmt: skip
"""Six steps in all, a checkpoint after each."""


def tiny(folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration of the smallest run."""
    return {**TINY, "run_dir": str(folder), **changes}


def start(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Run a function of a module in another process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_runs", "geodtr_lib.training", "geodtr_lib.study"])
    process = context.Process(target=_quietly, args=(dict(os.environ), function, *arguments), daemon=True)
    process.start()
    return process


def _quietly(environment: dict[str, str], function: Callable[..., Any], *arguments: Any) -> None:
    import torch

    os.environ.update(environment)  # the server's are of the time when it was started
    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    function(*arguments)


def train(config: dict[str, Any]) -> None:
    """A run without a bar."""
    from geodtr_lib import training

    training.run(config, progress=False)
