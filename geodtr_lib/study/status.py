"""A long sweep at a glance: which runs are done, running, failed or left, and how long the rest will take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from geodtr_lib.config import SCHEMA
from geodtr_lib.errors import RunError
from geodtr_lib.files import is_held, read_versioned, write_json
from geodtr_lib.lookup import expanded
from geodtr_lib.run_folder import FAILURE, LOCK, PROGRESS, read_metrics

PLAN = "sweep.json"
STATES = ("done", "running", "failed", "stopped", "left")
"""``stopped`` = begun, and neither finished nor running nor failed: killed. ``left`` = planned by a sweep and not begun."""


@dataclass(frozen=True)
class Status:
    """Where the runs of a folder stand.

    Attributes:
        runs: one row per run: ``run`` (its folder's name), ``state`` (of ``STATES``), ``part`` (share of its steps that is kept, 0 to 1),
            ``seconds`` (spent so far, as far as it is known), ``reason`` (of a failure).
        seconds_to_go: how long the rest will take, failed runs left out, with as many at a time as are running now; None where no
            finished or begun run tells.
    """

    runs: pd.DataFrame
    seconds_to_go: float | None

    def count(self, state: str) -> int:
        """How many runs are in this state."""
        return int((self.runs["state"] == state).sum())

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(state)} {state}" for state in STATES if self.count(state)) or "no runs"
        rest = "" if not self.seconds_to_go else f"; about {_duration(self.seconds_to_go)} to go"
        lines = [f"{counts}{rest}"]
        for row in self.runs.itertuples():
            if row.state in ("running", "stopped"):
                lines.append(f"  {row.run}: {row.state}, {100 * row.part:.0f} %")
            elif row.state == "failed":
                lines.append(f"  {row.run}: {row.reason}")
        return "\n".join(lines)


def status(runs_dir: str | Path) -> Status:
    """Where the runs of a folder stand; ``print`` it. It looks only, and may be called while runs go on, on any machine.

    Args:
        runs_dir: folder of the run folders.

    Raises:
        RunError: ``runs_dir`` does not exist, or cannot be read.
    """
    folder = expanded(runs_dir)
    try:
        rows = _rows(folder)
    except PermissionError as error:
        raise RunError(f"{error.filename or folder} cannot be read: permission denied; change the permissions of its folder") from None
    runs = pd.DataFrame(rows, columns=["run", "state", "part", "seconds", "reason"])
    done = runs[runs["state"] == "done"]["seconds"].tolist()
    begun = runs[runs["state"].isin(["running", "stopped"]) & (runs["part"] > 0)]
    whole = [*done, *(begun["seconds"] / begun["part"]).tolist()]
    if not whole:
        return Status(runs, None)
    rest = runs[runs["state"].isin(["running", "stopped", "left"])]
    at_a_time = max(1, int((runs["state"] == "running").sum()))
    return Status(runs, float(median(whole) * (1 - rest["part"]).sum() / at_a_time))


def plan(runs_dir: str | Path, names: Sequence[str]) -> None:
    """Note that these runs of a folder will be made, beside those noted before."""
    folder = expanded(runs_dir)
    names = list(dict.fromkeys([*_planned(folder), *names]))
    if names:
        write_json(folder / PLAN, {"schema": SCHEMA, "runs": names})


def _rows(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder; give the folder of the runs")
    os.listdir(folder)  # glob takes a folder that cannot be read for an empty one
    names = dict.fromkeys([*_planned(folder), *sorted(path.parent.name for path in folder.glob("*/config.json"))])
    return [{"run": name, **_look(folder / name)} for name in names]


def _planned(folder: Path) -> list[str]:
    try:
        names = read_versioned(folder / PLAN, SCHEMA).get("runs", [])
    except RunError:
        return []
    # Whoever wrote the file: only folders below this one.
    return [name for name in names if isinstance(name, str) and Path(name).name == name] if isinstance(names, list) else []


def _look(run: Path) -> dict[str, Any]:
    try:
        metrics = read_metrics(run)
        seconds = float(metrics["train"].get("seconds", 0.0)) + float(metrics.get("evaluation_seconds") or 0.0)
        return {"state": "done", "part": 1.0, "seconds": seconds, "reason": ""}
    except (RunError, TypeError, ValueError):
        pass
    part, seconds = _progress(run)
    if is_held(run / LOCK):
        return {"state": "running", "part": part, "seconds": seconds, "reason": ""}
    if (run / FAILURE).is_file():
        return {"state": "failed", "part": part, "seconds": seconds, "reason": _reason(run)}
    return {"state": "stopped" if (run / "config.json").is_file() else "left", "part": part, "seconds": seconds, "reason": ""}


def _progress(run: Path) -> tuple[float, float]:
    try:
        found = read_versioned(run / PROGRESS, SCHEMA)
        return min(1.0, max(0.0, float(found["steps"]) / float(found["of"]))), float(found["seconds"])
    except (RunError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0.0, 0.0


def _reason(run: Path) -> str:
    try:
        found = read_versioned(run / FAILURE, SCHEMA)
    except RunError as error:
        return str(error)
    return f"{found.get('error', 'failed')}: {found.get('reason', '')}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
