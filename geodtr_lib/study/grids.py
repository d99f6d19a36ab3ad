"""Grids of runs: every cell one training, on any executor, and never twice.

Training is reached through the package, which imports it on first use: a notebook whose parameters are wrong says so at once.
"""

from __future__ import annotations

import contextlib
import itertools
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

import geodtr_lib
from geodtr_lib import run_folder
from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.errors import ConfigError, GeoDTRError, RunError
from geodtr_lib.paths import runs_folder
from geodtr_lib.study.status import plan


class Executor(Protocol):
    """What is asked of an executor: ``submit(function, *arguments)`` gives something with ``result()``.

    Those of ``concurrent.futures``, submitit's and ``dask.distributed.Client.get_executor()`` do.
    """

    def submit(self, function: Any, /, *arguments: Any) -> Any: ...


def sweep(
    grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]], executor: Executor | None = None, *, runs_dir: str | Path | None = None
) -> list[Path]:
    """Train and evaluate every cell of a grid.

    Every configuration is checked before the first run starts. A run that is finished is not repeated; one that was
    stopped goes on from its last checkpoint. A run that fails does not stop the others.

    Args:
        grid: a list of values for each parameter, of which all combinations are run (a text or number stands for itself, a
            parameter that is a list needs a list of lists); or a list of parameter sets.
        executor: where the runs go; None = here, one after another. ``ProcessPoolExecutor(2, mp_context=get_context("spawn"))``
            runs two at a time. On many machines that see the same ``runs_dir``: ``Client(cluster).get_executor()`` of dask's
            ``distributed`` (``geodtr-lib[cluster]``), with ``dask_jobqueue.SLURMCluster`` on Slurm; the cells of a worker that is lost
            go to another one, which goes on from their last checkpoint.
        runs_dir: folder of the run folders; None = the runs folder. A parameter set may name its own ``run_dir``.

    Returns:
        The run folder of every cell, in the grid's order.

    Raises:
        ConfigError: a parameter set that is not possible, or two that are the same run.
        RunError: some runs failed; every one is named with its reason.
    """
    folder = Path(runs_dir) if runs_dir is not None else runs_folder()
    configs = _configs(grid, folder)
    plan(folder, [Path(config.run_dir).name for config in configs if Path(config.run_dir).parent == folder])
    pending = [(config, _submit(executor, config)) for config in configs if not is_finished(config)]
    failures = []
    for config, future in tqdm(pending, desc="runs", disable=not pending):
        try:
            failure = run_one(config, progress=True) if future is None else future.result()
        except Exception as error:  # the worker itself was lost, for instance killed for its memory
            failure = f"{type(error).__name__}: {error}"
        if failure:
            failures.append(f"{config.run_dir}: {failure}")
    if failures:
        raise RunError(f"{len(failures)} of {len(configs)} runs failed. " + " | ".join(failures))
    return [Path(config.run_dir) for config in configs]


def is_finished(config: RunConfig) -> bool:
    """``config.run_dir`` holds the results of this very run, made on any machine."""
    try:
        finished = run_folder.read_metrics(config.run_dir)["config"]
        # What is left to the machine is stored as the machine decided it.
        return all(value in (finished[name], "auto", None) for name, value in run_folder.identity(config).items())
    except (RunError, KeyError, TypeError):
        return False


def run_one(config: RunConfig, progress: bool = False) -> str:
    """Train and evaluate one configuration, in any process. Returns why it failed, or "".

    A reason is returned, not raised, because not every exception survives the way between processes.
    """
    log = Path(config.run_dir) / "error.txt"
    try:
        geodtr_lib.training.run(config, progress)
    except GeoDTRError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk is no reason to lose the reason
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc())
        return f"{type(error).__name__}: {error} (see {log})"
    log.unlink(missing_ok=True)
    return ""


def _submit(executor: Executor | None, config: RunConfig) -> Any:
    """What ``result()`` will be asked of; None for a run that is made here."""
    if executor is None:
        return None
    try:
        return executor.submit(run_one, config)
    except Exception as error:  # a pool that has broken refuses all further work
        refused: Future[str] = Future()
        refused.set_exception(error)
        return refused


def _configs(grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]], runs_dir: Path) -> list[RunConfig]:
    if isinstance(grid, Mapping):
        lists = [list(value) if isinstance(value, (list, tuple, range)) else [value] for value in grid.values()]
        cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]
    else:
        cells = [dict(cell) for cell in grid]
    configs = []
    for cell in cells:
        config = resolve_config(**cell)
        if not config.run_dir:
            config = config.replace(run_dir=str(runs_dir / geodtr_lib.training.default_run_dir(config).name))
        configs.append(config)
    folders = [config.run_dir for config in configs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(f"two cells of the grid are the same run, {folder}; leave one out, or give each its run_dir")
    return configs
