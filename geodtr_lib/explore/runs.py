"""The trained runs that there are to look into: those that ship with the library, and this machine's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from geodtr_lib import data, paths
from geodtr_lib.config import RunConfig, config_from
from geodtr_lib.errors import GeoDTRError, RunError
from geodtr_lib.files import read_json

_WEIGHTS = "model.safetensors"


def shipped_folder() -> Path:
    """The runs that ship with the library, one folder each."""
    return paths.PACKAGE / "trained"


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: RunConfig

    @property
    def label(self) -> str:
        """What a list of runs calls it: how it was trained and on what, then the name of its folder."""
        sampling = "CHSG" if self.config.sampling == "L+S" else self.config.sampling
        return f"{sampling}, {self.config.train_area} ({self.folder.name})"


def find_runs(runs_dir: str | Path = "") -> list[Run]:
    """The shipped runs, then the finished ones of a folder, newest first. What cannot be read is left out.

    Args:
        runs_dir: looked through with its subfolders; empty = :func:`geodtr_lib.paths.runs_folder`.

    Raises:
        RunError: the folder cannot be read.
    """
    folder = Path(runs_dir).expanduser() if runs_dir else paths.runs_folder()
    shipped = sorted(path.parent for path in shipped_folder().glob("*/config.json"))
    try:
        own = [path.parent for path in folder.rglob("metrics.json")] if folder.is_dir() and os.listdir(folder) else []
        own.sort(key=lambda path: (-(path / "metrics.json").stat().st_mtime, str(path)))
    except PermissionError as error:
        reason = f"{error.filename or folder} cannot be read: permission denied"
        raise RunError(f"{reason}; change the permissions of its folder, or set GEODTR_RUNS to another") from None
    return [run for path in (*shipped, *own) if (run := _read(path)) is not None]


def open_run(run_dir: str | Path) -> Run:
    """One run by its folder.

    Raises:
        RunError: the folder holds no finished run.
    """
    folder = Path(run_dir).expanduser()
    if (run := _read(folder)) is None:
        raise RunError(f"{run_dir} is no folder of a finished run: it needs config.json and {_WEIGHTS}")
    return run


def default_pair(runs: list[Run] | None = None) -> tuple[Run, Run | None]:
    """A run to look into first and one to compare it with: with CHSG and without, trained on the same data where there are such.

    Raises:
        RunError: there are no runs.
    """
    runs = find_runs() if runs is None else runs
    if not runs:
        raise RunError("there are no trained runs; train one: python -m geodtr_lib.explore train dataset=osm")
    first = next((run for run in runs if run.config.sampling == "L+S"), runs[0])
    made = (first.config.dataset, first.config.train_area, first.config.preset)
    others = [run for run in runs if run.config.sampling != first.config.sampling]
    same = [run for run in others if (run.config.dataset, run.config.train_area, run.config.preset) == made]
    return first, next(iter(same or others), None)


def choose_pair(run_dir: str | Path = "", compared_dir: str | Path = "", runs: list[Run] | None = None) -> tuple[Run, Run | None]:
    """The runs of two folders; where a folder is empty, those of :func:`default_pair`. ``compared_dir`` "none" compares with nothing.

    Raises:
        RunError: a folder without a finished run, or no runs at all.
    """
    if run_dir and compared_dir:
        return open_run(run_dir), None if compared_dir == "none" else open_run(compared_dir)
    first, second = default_pair(runs)
    first = open_run(run_dir) if run_dir else first
    if compared_dir:
        return first, None if compared_dir == "none" else open_run(compared_dir)
    return first, second if second is not None and second.folder != first.folder else None


def areas_of(config: RunConfig) -> list[str]:
    """Areas that a run can be looked into on, as ``dataset:area``, its own first; all embedded ones for a run on embedded data.

    Raises:
        DatasetError: a run on a map of one's own that is not there any more.
    """
    names = (*config.train_area.split("+"), *data.areas(config.dataset, config.data_root))
    own = [f"{config.dataset}:{area}" for area in names]
    if config.dataset == "vigor":
        own = ["vigor:same", "vigor:cross"]
    if config.embedded:
        own += [f"{name}:{area}" for name in ("osm", "city") for area in data.areas(name)]
    return list(dict.fromkeys(own))


def _read(folder: Path) -> Run | None:
    try:
        if not (folder / _WEIGHTS).is_file():
            return None
        return Run(folder, config_from(read_json(folder / "config.json")))
    except (GeoDTRError, TypeError, OSError):
        return None
