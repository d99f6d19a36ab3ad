"""The commands that run the study's grids: the paper's tables, the other methods, other light and weather."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geodtr_lib.paths import repository, runs_folder
from geodtr_lib.study.settings import numbers, setting, words

# Command -> what it makes. It is also the folder of the runs; the tables of `grid` lie in results/ itself, others in a folder of the name.
GRIDS = {
    "grid": "the study's grid, the trainings behind the paper's tables",
    "methods": "the grid of other methods, options beyond the paper and limited views",
    "environments": "GeoDTR+ tested in other light, season and weather",
}


def add_grid_commands(commands: Any) -> None:
    """Add the commands to the subparsers of a parser."""
    for name, what in GRIDS.items():
        command: argparse.ArgumentParser = commands.add_parser(name, help=f"train, measure and record what is missing of {what}; resumable")
        command.add_argument("--runs-dir", type=Path, help=f"folder of the run folders; default: {name}/ in the runs folder")
        command.add_argument("--results", type=Path, help="folder of the recorded tables; default: that of the repository")
        command.add_argument("--preset", default="study", help="of every run (default: study)")
        command.add_argument("--seeds", type=numbers, help="joined by commas (default: 0,2,3)")
        command.add_argument("--areas", type=words, help="dataset:area joined by commas; default: all of the grid")
        command.add_argument("--limit-minutes", type=float, default=float("inf"), help="start no run that would not be over by then")
        command.add_argument("--set", dest="others", type=setting, action="append", default=[], metavar="NAME=VALUE", help="for all runs")
        command.add_argument("--status", action="store_true", help="say what is recorded and what is left, run nothing")
        command.add_argument("--progress", action="store_true", help="show bars")
        if name != "environments":
            command.add_argument("--delete-weights", action="store_true", help="keep the weights of those runs only that figures need")
        if name == "grid":
            command.add_argument("--tables", type=words, help="of IV, V, VI, VIII, extra, joined by commas (default: all)")
            command.add_argument("--cells", type=words, help="names joined by commas, to run only these")
            continue
        command.add_argument("--samplings", type=words, help="joined by commas")
        if name == "methods":
            command.add_argument("--grids", type=words, help="of methods, options, views, joined by commas (default: methods,options)")
            command.add_argument("--methods", type=_names, help="names joined by ';', to run only these")


def run_grid_command(chosen: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Run one of the commands.

    Returns:
        The exit status: 1 if a run failed.
    """
    # Late: training imports torch, which the other commands do without.
    from geodtr_lib.study.baseline_grid import method_grid
    from geodtr_lib.study.baseline_runner import method_status, run_methods
    from geodtr_lib.study.environment_grid import environment_status, environment_trainings, run_environments
    from geodtr_lib.study.grid_runner import grid_status, run_grid
    from geodtr_lib.study.paper_grid import paper_grid
    from geodtr_lib.study.records import Records

    parts: dict[str, tuple[Any, Any, Any]] = {
        "grid": (paper_grid, run_grid, grid_status),
        "methods": (method_grid, run_methods, method_status),
        "environments": (environment_trainings, run_environments, environment_status),
    }
    make, run, status = parts[chosen.command]
    options = {name: getattr(chosen, name, None) for name in ("seeds", "areas", "tables", "cells", "grids", "methods", "samplings")}
    asked = {name: value for name, value in options.items() if value is not None}
    grid = make(chosen.preset, **asked, **dict(chosen.others))
    records = Records(chosen.results or repository() / "results" / ("" if chosen.command == "grid" else chosen.command))
    failed: dict[str, str] = {}
    if not chosen.status:
        weights = {} if chosen.command == "environments" else {"delete_weights": chosen.delete_weights}
        folder = chosen.runs_dir or runs_folder() / chosen.command
        outcome = run(grid, records, folder, limit_minutes=chosen.limit_minutes, progress=chosen.progress, say=say, **weights)
        failed = outcome.failed
    say(status(grid, records))
    return 1 if failed else 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(";") if name.strip()]
