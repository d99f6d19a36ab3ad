"""Commands: ``python -m geodtr_lib.study`` with ``show``, ``execute``, ``strip``, ``published``, ``efficiency`` or a grid's name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from geodtr_lib.errors import GeoDTRError
from geodtr_lib.files import write_bytes
from geodtr_lib.paths import repository
from geodtr_lib.study.grid_commands import GRIDS, add_grid_commands, run_grid_command
from geodtr_lib.study.notebooks import execute, strip
from geodtr_lib.study.published_document import published_document
from geodtr_lib.study.report import show


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
    add_grid_commands(commands)
    efficiency = commands.add_parser("efficiency", help="measure Table VII on this machine and record it")
    efficiency.add_argument("--results", type=Path, help="folder of the recorded tables; default: results/ of the repository")
    efficiency.add_argument("--preset", default="paper", help="whose image sizes are taken (default: paper)")
    efficiency.add_argument("--device", default="auto")
    efficiency.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "efficiency":
            return _efficiency(chosen)
        if chosen.command in GRIDS:
            return run_grid_command(chosen, _say)
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
