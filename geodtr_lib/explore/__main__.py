"""Commands: ``python -m geodtr_lib.explore train NAME=VALUE...``, ``convert CHECKPOINT RUN_DIR``, ``ship``, ``photographs FOLDER``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from geodtr_lib.errors import ConfigError, GeoDTRError
from geodtr_lib.paths import shown
from geodtr_lib.study.settings import setting


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m geodtr_lib.explore")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a run to look into; any value of the configuration, e.g. dataset=osm sampling=raw")
    train.add_argument("values", nargs="*", type=setting, metavar="name=value")
    convert = commands.add_parser("convert", help="write a checkpoint of the authors as a run folder, for everything that takes one")
    convert.add_argument("checkpoint", help="the authors' folder, or a .pth file")
    convert.add_argument("run_dir", help="folder that is written")
    untold = "what a bare .pth does not tell, where it is not the paper's: aerial_size, ground_size, heads, bottleneck, normalisation"
    convert.add_argument("--set", action="append", default=[], type=setting, metavar="NAME=VALUE", help=untold)
    convert.add_argument("--epoch", default="", help="of the authors' folder; default: the largest")
    convert.add_argument("--trained-on", default="", help="cvusa, cvact, vigor:same or vigor:cross, where the checkpoint does not tell")
    ship = commands.add_parser("ship", help="train the runs that ship with the library and write them into it")
    ship.add_argument("--preset", default="small")
    ship.add_argument("--into", default="", help="another folder than the package's own")
    photographs = commands.add_parser("photographs", help="try runs on photographs of real places, a folder with samples.csv")
    photographs.add_argument("folder")
    photographs.add_argument("--fov", type=float, nargs="+", default=[90.0], help="fields of view of the photos to assume, degrees")
    photographs.add_argument("--metres-per-pixel", type=float, default=0.5, help="of the orthophotos")
    photographs.add_argument("--tile-metres", type=float, default=0.0, help="that a tile of the model's shows; default: the rendered ones'")
    photographs.add_argument("--run", action="append", default=[], help="folder of a run; default: those that ship with the library")
    photographs.add_argument("--into", default="", help="also write the table as CSV")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "train":
            print(_train(dict(chosen.values)))
        elif chosen.command == "convert":
            print(_convert(chosen))
        elif chosen.command == "ship":
            from geodtr_lib.explore.ship import ship as make

            print(*(shown(folder) for folder in make(chosen.into, chosen.preset)), sep="\n")
        else:
            scale = {"metres_per_pixel": chosen.metres_per_pixel, "tile_metres": chosen.tile_metres}
            print(_photographs(chosen.folder, chosen.fov, chosen.run, chosen.into, scale))
    except GeoDTRError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _train(values: dict[str, Any]) -> str:
    from geodtr_lib.study import report
    from geodtr_lib.training import run

    return report(run(values)["config"]["run_dir"])


def _convert(chosen: argparse.Namespace) -> str:
    from geodtr_lib.study.trained import UNTOLD, open_trained, save_as_run

    known = dict(chosen.set)
    if unknown := sorted(set(known) - set(UNTOLD)):
        raise ConfigError(f"{unknown[0]}: the checkpoint tells it, or it is nothing of a model's; allowed: {', '.join(UNTOLD)}")
    trained = open_trained(checkpoint=chosen.checkpoint, epoch=chosen.epoch, trained_on=chosen.trained_on, given=known)
    return shown(save_as_run(trained, chosen.run_dir))


def _photographs(folder: str, views: list[float], run_dirs: list[str], into: str, scale: dict[str, float]) -> str:
    from geodtr_lib.explore.photographs import photographed_table
    from geodtr_lib.explore.runs import find_runs, open_run, shipped_folder
    from geodtr_lib.files import write_bytes
    from geodtr_lib.study.trained import open_trained

    runs = [open_run(run_dir) for run_dir in run_dirs] or [run for run in find_runs() if run.folder.parent == shipped_folder()]
    table = photographed_table({run.label: open_trained(run.folder) for run in runs}, folder, views, **scale)
    if into:
        write_bytes(into, table.to_csv(index=False, float_format="%.4f").encode())
    return str(table.round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
