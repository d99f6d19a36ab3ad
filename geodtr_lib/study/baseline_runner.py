"""Runs the grid of methods, and records each training as soon as it is finished; stopped at any point, it goes on where it was.

The tables are ``results/methods/study.csv`` (one row per run and test area) and ``study_curves.csv``. As a command:

    python -m geodtr_lib.study.baseline_runner --limit-minutes 480 --delete-weights
    python -m geodtr_lib.study.baseline_runner --status
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geodtr_lib import machine, training
from geodtr_lib.checkpoints import load_checkpoint
from geodtr_lib.config import RunConfig
from geodtr_lib.errors import GeoDTRError
from geodtr_lib.evaluation.cost import embedding_length
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.paths import repository, runs_folder
from geodtr_lib.sampling import policy_named
from geodtr_lib.study.baseline_grid import AREAS, DEFAULT_GRIDS, GRIDS, SAMPLINGS, MethodRun, method_grid, seeds_named
from geodtr_lib.study.grid_runner import Outcome, expected_seconds
from geodtr_lib.study.paper_grid import SEEDS
from geodtr_lib.study.records import CURVES, RUNS, Records, require_same_pairs
from geodtr_lib.study.settings import setting

FOLDER = "methods"  # of the results
_CONFIGURATION = (
    "model", "gle", "n_desc", "sampling", "loss", "batches", "learn_temperature", "label_smoothing", "share_backbone", "consistency_weight",
    "backbone", "pretrained", "frozen_stride", "polar", "fov", "heading", "batch_size", "epochs", "n_train", "n_test", "lr", "preset",
    "precision", "environment",
)  # fmt: skip
_RECALLS = ("n_query", "n_gallery", "r1", "r5", "r10", "r1pct")


def run_methods(
    grid: Sequence[MethodRun],
    records: Records,
    runs_dir: str | Path,
    *,
    limit_minutes: float = float("inf"),
    delete_weights: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train and record what is missing of a grid, in its order; arguments as of :func:`geodtr_lib.study.grid_runner.run_grid`."""
    until = time.monotonic() + 60 * limit_minutes
    outcome, commit = Outcome(), machine.code_commit()
    missing = [run for run in grid if run.key not in records.finished()]
    for number, run in enumerate(missing):
        if run.key in records.finished():  # another process was faster
            continue
        if time.monotonic() + (_expected(run.config, records.read(RUNS)) or 0.0) > until:
            outcome.left = len(missing) - number
            break
        try:
            rows = _run_and_record(run, records, runs_dir, commit, delete_weights, progress)
        except GeoDTRError as error:
            outcome.failed[run.name] = str(error)
            say(f"{run.name}: {type(error).__name__}: {error}")
            continue
        outcome.done.append(run.name)
        recalls = ", ".join(f"{row['area']} {100 * row['r1']:.1f}" for row in rows)
        say(f"[{number + 1} of {len(missing)}] {run.name}: R@1 {recalls}; {rows[0]['wall_seconds']:.0f} s")
    return outcome


def status(grid: Sequence[MethodRun], records: Records) -> str:
    """How much of a grid is recorded, by area and seed, and how long the rest will take as far as earlier runs tell."""
    finished, rows = records.finished(), records.read(RUNS)
    labels: dict[str, list[MethodRun]] = {}
    for run in grid:
        labels.setdefault(f"{run.area}, seed {run.seed}", []).append(run)
    lines = []
    for label, runs in labels.items():
        left = [run for run in runs if run.key not in finished]
        times = [seconds for run in left if (seconds := _expected(run.config, rows)) is not None]
        rest = f", about {sum(times) / len(times) * len(left) / 3600:.1f} h to go" if times else ""
        lines.append(f"{label}: {len(runs) - len(left)} of {len(runs)} runs recorded{rest}")
    return "\n".join(lines)


def _expected(config: RunConfig, rows: pd.DataFrame) -> float | None:
    """As ``expected_seconds``, by runs of the same method where there are any."""
    own = rows[rows["model"] == config.model] if len(rows) else rows
    return expected_seconds(config, own if len(own) else rows)


def _check_same_data(config: RunConfig, found: str, rows: pd.DataFrame) -> None:
    if config.test_areas:  # tested on other areas it has another hash
        return
    own = {name: getattr(config, name) for name in ("dataset", "train_area", "seed", "preset", "n_train", "n_test", "environment")}
    require_same_pairs(rows, own, "data_hash", found, f"{config.dataset} {config.train_area} seed {config.seed}: the pairs")


def _run_and_record(
    run: MethodRun, records: Records, runs_dir: str | Path, commit: str, delete_weights: bool, progress: bool
) -> list[dict[str, Any]]:
    config = run.in_folder(runs_dir)
    _check_same_data(config, training.data_hash(*training.open_data(config)), records.read(RUNS))  # rendered before the clock starts
    fresh = not (Path(config.run_dir) / "config.json").is_file()
    wall = time.monotonic()
    metrics = training.run(config, progress)
    trained = metrics["train"]
    config = RunConfig(**metrics["config"])
    model = load_checkpoint(config.run_dir)
    dataset, _, area = run.area.partition(":")
    dimension = embedding_length(model, config.aerial_size)
    labels = {"grid": run.grid, "method": run.method, "dataset": dataset, "train_area": area, "seed": run.seed}
    count = count_parameters(model)
    common = {
        "parameters": count.whole,
        "parameters_backbones": count.backbones,
        "dimension": dimension,
        "embedding_bytes": 4 * dimension,  # float32
        "seconds": trained["seconds"],
        "pairs_per_second": trained["pairs_per_second"],
        "views": policy_named(config.sampling).views,
        "steps": trained["steps"],
        "evaluation_seconds": metrics["evaluation_seconds"],
        # What was trained in an earlier sitting is on the clock of that one.
        "wall_seconds": time.monotonic() - wall if fresh else trained["seconds"] + metrics["evaluation_seconds"],
        **{name: getattr(config, name) for name in _CONFIGURATION},
        "data_hash": metrics["data"]["hash"],
        **{f"version_{name}": value for name, value in metrics["versions"].items()},
        "version_commit": commit if fresh else metrics["versions"]["commit"],
    }
    rows = [
        {**labels, "area": name, "protocol": found["protocol"], **{key: found[key] for key in _RECALLS}, **common}
        for name, found in metrics["evaluation"].items()
    ]
    curve = [
        {
            **labels,
            "sampling": config.sampling,
            "epoch": epoch + 1,
            "lr": trained["lr"][epoch],
            "triplet_loss": trained["triplet_loss"][epoch],
        }
        for epoch in range(trained["epochs"])
    ]
    records.add(run.key, {RUNS: rows, CURVES: curve})
    if delete_weights:
        (Path(config.run_dir) / "model.safetensors").unlink()
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run or tell the state of the grid of methods; an error is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m geodtr_lib.study.baseline_runner", description=__doc__.splitlines()[0])
    parser.add_argument("--runs-dir", type=Path, help="folder of the run folders; default: methods/ in the runs folder")
    parser.add_argument("--results", type=Path, help="folder of the recorded tables; default: results/methods of the repository")
    parser.add_argument("--preset", default="study")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--areas", default=",".join(AREAS))
    parser.add_argument("--grids", default=",".join(DEFAULT_GRIDS), help=f"of {', '.join(GRIDS)}")
    parser.add_argument("--methods", default="", help="names joined by ';', to run only these")
    parser.add_argument("--samplings", default=",".join(SAMPLINGS))
    parser.add_argument("--set", dest="others", type=setting, action="append", default=[], metavar="NAME=VALUE", help="for all runs")
    parser.add_argument("--limit-minutes", type=float, default=float("inf"), help="start no run that would not be over by then")
    parser.add_argument("--delete-weights", action="store_true")
    parser.add_argument("--progress", action="store_true", help="show a bar for each training")
    parser.add_argument("--status", action="store_true", help="say what is recorded and what is left, run nothing")
    chosen = parser.parse_args(arguments)
    try:
        grid = method_grid(
            chosen.preset, seeds_named(chosen.seeds), chosen.areas.split(","), chosen.grids.split(","),
            [name.strip() for name in chosen.methods.split(";") if name.strip()], chosen.samplings.split(","),
            **dict(chosen.others),
        )  # fmt: skip
        records = Records(chosen.results or repository() / "results" / FOLDER)
        failed: dict[str, str] = {}
        if not chosen.status:
            outcome = run_methods(
                grid, records, chosen.runs_dir or runs_folder() / FOLDER, limit_minutes=chosen.limit_minutes,
                delete_weights=chosen.delete_weights, progress=chosen.progress, say=_say,
            )  # fmt: skip
            failed = outcome.failed
        _say(status(grid, records))
    except GeoDTRError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
