"""Commands: ``python -m geodtr_lib.study`` with ``show``, ``execute``, ``strip``, ``published``, ``grid`` or ``efficiency``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from geodtr_lib.errors import GeoDTRError
from geodtr_lib.files import write_bytes
from geodtr_lib.paths import repository, runs_folder
from geodtr_lib.study.notebooks import execute, strip
from geodtr_lib.study.paper_grid import AREAS, SEEDS, TABLES, paper_grid
from geodtr_lib.study.published_document import published_document
from geodtr_lib.study.report import show
from geodtr_lib.study.settings import setting


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m geodtr_lib.study")
    commands = parser.add_subparsers(dest="command", required=True)
    show_command = commands.add_parser("show", help="print where a run's result table is, and its recalls")
    show_command.add_argument("path", help="a run folder, or an executed notebook")
    execute_command = commands.add_parser("execute", help="run notebooks, outputs kept")
    execute_command.add_argument("notebooks", nargs="+", type=Path)
    execute_command.add_argument("--into", required=True, type=Path, help="folder of the executed notebooks")
    strip_command = commands.add_parser("strip", help="take what tools leave out of notebooks, outputs kept")
    strip_command.add_argument("notebooks", nargs="+", type=Path)
    commands.add_parser("published", help="write docs/published.md, the published rows with their commands")
    _grid_arguments(commands.add_parser("grid", help="train, measure and record what is missing of the study's grid; resumable"))
    efficiency = commands.add_parser("efficiency", help="measure Table VII on this machine and record it")
    efficiency.add_argument("--results", type=Path, help="folder of the recorded tables; default: results/ of the repository")
    efficiency.add_argument("--preset", default="paper", help="whose image sizes are taken (default: paper)")
    efficiency.add_argument("--device", default="auto")
    efficiency.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "efficiency":
            return _efficiency(chosen)
        if chosen.command == "grid":
            return _grid(chosen)
        if chosen.command == "show":
            print(show(chosen.path))
        elif chosen.command == "published":
            write_bytes(repository() / "docs" / "published.md", published_document().encode())
        elif chosen.command == "strip":
            changed = [notebook for notebook in chosen.notebooks if strip(notebook)]
            print(f"{len(changed)} of {len(chosen.notebooks)} notebooks changed")
        else:
            for notebook in chosen.notebooks:
                print(execute(notebook, chosen.into / notebook.name, progress_bar=True))
    except GeoDTRError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


def _grid_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs-dir", type=Path, help="folder of the run folders; default: grid/ in the runs folder")
    command.add_argument("--results", type=Path, help="folder of the recorded tables; default: results/ of the repository")
    command.add_argument("--preset", default="study", help="of every run (default: study)")
    command.add_argument("--seeds", type=_numbers, default=list(SEEDS), help=f"joined by commas (default: {','.join(map(str, SEEDS))})")
    command.add_argument("--areas", type=_words, default=list(AREAS), help=f"joined by commas (default: {','.join(AREAS)})")
    command.add_argument("--tables", type=_words, default=list(TABLES), help=f"joined by commas (default: {','.join(TABLES)})")
    command.add_argument("--cells", type=_words, default=[], help="names joined by commas, to run only these")
    command.add_argument("--limit-minutes", type=float, default=float("inf"), help="start no run that would not be over by then")
    command.add_argument("--set", dest="others", type=setting, action="append", default=[], metavar="NAME=VALUE", help="for all runs")
    command.add_argument("--delete-weights", action="store_true", help="keep the weights of those runs only that figures need")
    command.add_argument("--status", action="store_true", help="say what is recorded and what is left, run nothing")
    command.add_argument("--progress", action="store_true", help="show a bar for each training")


def _grid(chosen: argparse.Namespace) -> int:
    # Late: training imports torch, which the other commands do without.
    from geodtr_lib.study.grid_runner import grid_status, run_grid
    from geodtr_lib.study.records import Records

    grid = paper_grid(chosen.preset, chosen.seeds, chosen.areas, chosen.tables, chosen.cells, **dict(chosen.others))
    records = Records(chosen.results or repository() / "results")
    failed = {}
    if not chosen.status:
        outcome = run_grid(
            grid, records, chosen.runs_dir or runs_folder() / "grid", limit_minutes=chosen.limit_minutes,
            delete_weights=chosen.delete_weights, progress=chosen.progress, say=_say,
        )  # fmt: skip
        failed = outcome.failed
    print(grid_status(grid, records))
    return 1 if failed else 0


def _efficiency(chosen: argparse.Namespace) -> int:
    from geodtr_lib.study.efficiency import measure_efficiency, record_efficiency
    from geodtr_lib.study.records import Records

    rows = measure_efficiency(chosen.preset, device=chosen.device, seconds=chosen.seconds, say=_say)
    print(record_efficiency(rows, Records(chosen.results or repository() / "results")))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
