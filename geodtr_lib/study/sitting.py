"""What running the study's grids has in common: a sitting over the missing runs, and the columns that say how a run was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import GeoDTRError
from geodtr_lib.evaluation.cost import embedding_length
from geodtr_lib.models.base import CrossViewModel
from geodtr_lib.sampling import policy_named
from geodtr_lib.study.records import RUNS, Records, Row

RECALLS = ("n_query", "n_gallery", "r1", "r5", "r10", "r1pct")


Expected = Callable[[RunConfig, pd.DataFrame], float | None]
"""How many seconds a run will take by the rows that are recorded; None where nobody knows."""


class GridCell(Protocol):
    """A run of a grid."""

    @property
    def name(self) -> str:
        """Readable and unique."""

    @property
    def key(self) -> str:
        """Of its rows in the records."""

    @property
    def config(self) -> RunConfig:
        """The whole of it, without a folder."""


@dataclass
class Outcome:
    """What one sitting did: names of the runs done, reasons of those that failed by name, and how many are left."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0


Run = TypeVar("Run", bound=GridCell)


def run_missing(
    missing: Sequence[Run],
    is_missing: Callable[[Run], bool],
    expected_seconds: Callable[[Run], float | None],
    run_and_record: Callable[[Run], str],
    limit_minutes: float = float("inf"),
    say: Callable[[str], None] = print,
) -> Outcome:
    """Make what is missing of a grid, in its order; a run that fails does not stop the others.

    Args:
        missing: runs of the grid.
        is_missing: asked before each run, since another process may have been faster.
        expected_seconds: of a run; None where nobody knows.
        run_and_record: makes one run and gives what there is to say of it; raises GeoDTRError if it fails.
        limit_minutes: no run is started that would not be over by then, as far as its expected seconds tell.
        say: is told one line per run.
    """
    until, outcome = time.monotonic() + 60 * limit_minutes, Outcome()
    for number, run in enumerate(missing):
        if not is_missing(run):
            continue
        if time.monotonic() + (expected_seconds(run) or 0.0) > until:
            outcome.left = len(missing) - number
            break
        try:
            found = run_and_record(run)
        except GeoDTRError as error:
            outcome.failed[run.name] = str(error)
            say(f"{run.name}: {type(error).__name__}: {error}")
            continue
        outcome.done.append(run.name)
        say(f"[{number + 1} of {len(missing)}] {run.name}: {found}")
    return outcome


def run_unrecorded(
    grid: Sequence[Run],
    records: Records,
    expected: Expected,
    run_and_record: Callable[[Run], Sequence[Row]],
    limit_minutes: float = float("inf"),
    say: Callable[[str], None] = print,
) -> Outcome:
    """:func:`run_missing` where a run is missing as long as it has no row in the records; ``run_and_record`` gives its rows."""
    finished = records.finished()

    def told(run: Run) -> str:
        rows = run_and_record(run)
        recalls = ", ".join(f"{row['area']} {100 * row['r1']:.1f}" for row in rows)
        return f"R@1 {recalls}; {rows[0]['wall_seconds']:.0f} s"

    return run_missing(
        [run for run in grid if run.key not in finished], lambda run: run.key not in records.finished(),
        lambda run: expected(run.config, records.read(RUNS)), told, limit_minutes, say,
    )  # fmt: skip


def recorded_status(grid: Sequence[Run], records: Records, expected: Expected, label: Callable[[Run], str]) -> str:
    """How much of a grid is recorded, a line for each label, and how long the rest will take as far as earlier runs tell."""
    rows = records.read(RUNS)
    finished = set(rows["run"])
    labelled: dict[str, list[Run]] = {}
    for run in grid:
        labelled.setdefault(label(run), []).append(run)
    lines = []
    for name, runs in labelled.items():
        left = [run for run in runs if run.key not in finished]
        times = [seconds for run in left if (seconds := expected(run.config, rows)) is not None]
        rest = f", about {sum(times) / len(times) * len(left) / 3600:.1f} h to go" if times else ""
        lines.append(f"{name}: {len(runs) - len(left)} of {len(runs)} runs recorded{rest}")
    return "\n".join(lines)


def is_begun(config: RunConfig) -> bool:
    """Whether an earlier sitting has begun this run: its processor time, and its hours but for training and evaluation, are unknown."""
    return (Path(config.run_dir) / "config.json").is_file()


def run_columns(
    metrics: Mapping[str, Any], model: CrossViewModel, configuration: Sequence[str], *, commit: str, wall_seconds: float | None
) -> dict[str, Any]:
    """What every row of a run says of it.

    Args:
        metrics: content of its ``metrics.json``.
        model: trained.
        configuration: names of the values that have a column.
        commit: of the code that is loaded now.
        wall_seconds: since this sitting began the run; None of a run that was begun before.
    """
    config, trained = RunConfig(**metrics["config"]), metrics["train"]
    dimension = embedding_length(model, config.aerial_size)
    return {
        "dimension": dimension,
        "embedding_bytes": 4 * dimension,  # float32
        "seconds": trained["seconds"],
        "pairs_per_second": trained["pairs_per_second"],
        "views": policy_named(config.sampling).views,
        "steps": trained["steps"],
        "evaluation_seconds": metrics["evaluation_seconds"],
        "wall_seconds": trained["seconds"] + metrics["evaluation_seconds"] if wall_seconds is None else wall_seconds,
        **{name: getattr(config, name) for name in configuration},
        "data_hash": metrics["data"]["hash"],
        **version_columns(metrics, commit if wall_seconds is not None else None),
    }


def version_columns(metrics: Mapping[str, Any], commit: str | None) -> dict[str, Any]:
    """Versions and machine of a run; ``commit``: of the code that is loaded, None to take the run's own."""
    columns = {f"version_{name}": value for name, value in metrics["versions"].items()}
    return columns if commit is None else {**columns, "version_commit": commit}
