"""Runs a grid of trainings one after another and records each as soon as it is finished; stopped at any point, it goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geodtr_lib import machine, training
from geodtr_lib.checkpoints import load_checkpoint
from geodtr_lib.config import RunConfig
from geodtr_lib.data import open_for
from geodtr_lib.files import write_bytes
from geodtr_lib.objective import LOSSES
from geodtr_lib.sampling import policy_named
from geodtr_lib.study.paper_grid import REFERENCE, GridRun
from geodtr_lib.study.probes import example_maps, probe
from geodtr_lib.study.records import CURVES, DISTANCES, MAPS_FOLDER, PROBES, RUNS, SAME_TEST, Records, Row, require_same_pairs
from geodtr_lib.study.sitting import RECALLS, Outcome, is_begun, recorded_status, run_columns, run_unrecorded

# Cells whose distances and descriptor maps are kept for figures; of the others only what was measured on them is.
DISTANCES_OF = frozenset({REFERENCE, "ls-2b", "ls", "raw"})
MAPS_OF = frozenset({REFERENCE, "ls-2b", "v1", "square", "square-v1"})
MAPS_SEED = 0
_CONFIGURATION = (
    "gle", "n_desc", "sampling", "backbone", "pretrained", "polar", "semantic", "loss", "batch_size", "epochs", "n_train", "n_test", "lr",
    "dropout", "environment", "data_seed", "preset", "tile_size", "precision",
)  # fmt: skip


def run_grid(
    grid: Sequence[GridRun],
    records: Records,
    runs_dir: str | Path,
    *,
    limit_minutes: float = float("inf"),
    delete_weights: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train, measure and record what is missing of a grid, in its order.

    Args:
        grid: as :func:`geodtr_lib.study.paper_grid.paper_grid` gives it.
        records: what is recorded there is not run again, whether its folder exists or not.
        runs_dir: folder of the run folders. A run that was stopped goes on from its checkpoint; one that is finished is only measured.
        limit_minutes: no run is started that would not be over by then, as far as earlier runs tell. Stopping it hard does no harm.
        delete_weights: remove the weights of each recorded run that no figure needs.
        progress: show a bar for each training.
        say: is told one line per run.

    A failed run does not stop the others.
    """
    commit = machine.code_commit()  # of the code that is loaded; files may change while hours go by
    return run_unrecorded(
        grid, records, expected_seconds, lambda run: _run_and_record(run, records, runs_dir, commit, delete_weights, progress),
        limit_minutes, say,
    )  # fmt: skip


def grid_status(grid: Sequence[GridRun], records: Records) -> str:
    """How much of a grid is recorded, by data set and table, and how long the rest will take as far as earlier runs tell."""
    return recorded_status(grid, records, expected_seconds, _label)


def expected_seconds(config: RunConfig, rows: pd.DataFrame) -> float | None:
    """How long a run will take from start to record, by what the most similar recorded ones took per view; None when there are none.

    Those of a machine like this one count alone, where there are any.
    """
    if rows.empty:
        return None
    runs = rows[rows["preset"] == config.preset].drop_duplicates("run")
    here = runs[runs["version_machine"] == machine.name_of(config.device)]
    runs = here if len(here) else runs
    for columns in (("train_area", "backbone", "polar"), ("dataset", "backbone"), ("backbone",), ()):
        similar = runs
        for column in columns:
            similar = similar[similar[column] == getattr(config, column)]
        if len(similar):
            per_view = similar["wall_seconds"] / (similar["epochs"] * similar["n_train"] * similar["views"])
            return float(per_view.median()) * config.epochs * config.n_train * policy_named(config.sampling).views
    return None


def _label(run: GridRun) -> str:
    return f"{run.area}, {'extra grid' if run.cell.tables == ('extra',) else 'tables'}, seed {run.seed}"


def _size(config: RunConfig) -> str:
    return "x".join(map(str, config.ground_size))


def _check_same_pairs(run: GridRun, hashes: Mapping[str, str], rows: pd.DataFrame) -> None:
    for area, found in hashes.items():
        own = (run.config.dataset, area, run.seed, run.config.n_test, _size(run.config), run.config.tile_size)
        what = f"{run.config.dataset} {area} seed {run.seed}: the test pairs"
        require_same_pairs(rows, dict(zip(SAME_TEST, own, strict=True)), "test_hash", found, what)


def _run_and_record(
    run: GridRun, records: Records, runs_dir: str | Path, commit: str, delete_weights: bool, progress: bool
) -> list[dict[str, Any]]:
    """One run from start to record; gives its rows in ``RUNS``."""
    config = run.in_folder(runs_dir)
    names = training.test_areas_of(config)
    tests = {area: open_for(config, area, "test") for area in names}  # rendered before the clocks start
    _check_same_pairs(run, {area: test.hash for area, test in tests.items()}, records.read(RUNS))
    open_for(config, config.train_area, "train")
    begun = is_begun(config)
    wall, cpu = time.monotonic(), time.process_time()
    metrics = training.run(config, progress)
    cpu_seconds = None if begun else time.process_time() - cpu
    config = RunConfig(**metrics["config"])
    model = load_checkpoint(config.run_dir).to(config.device)
    probes, distances = [], []
    for area, test in tests.items():
        row, kinds = probe(model, test, config)
        probes.append({**_labels(run, area), **row})
        distances += [{**_labels(run, area), **kind} for kind in kinds]
    trained = metrics["train"]
    common = {
        **run_columns(metrics, model, _CONFIGURATION, commit=commit, wall_seconds=None if begun else time.monotonic() - wall),
        "cpu_seconds": cpu_seconds,
        "final_triplet_loss": trained["triplet_loss"][-1],  # mean of the last epoch
        "ground_size": _size(config),
        "changes": json.dumps(dict(run.cell.changes), sort_keys=True),
    }
    rows = [
        {
            **_labels(run, area),
            "protocol": measured["protocol"],
            **{name: measured[name] for name in RECALLS},
            **common,
            "gallery_bytes": common["embedding_bytes"] * measured["n_gallery"],
            "tables": " ".join(run.cell.tables),
            "test_hash": tests[area].hash,
        }
        for area, measured in metrics["evaluation"].items()
    ]
    tables: dict[str, list[Row]] = {RUNS: list(rows), CURVES: _curve(run, trained), PROBES: list(probes)}
    if run.cell.name in DISTANCES_OF:
        tables[DISTANCES] = list(distances)
    if run.cell.name in MAPS_OF and run.seed == MAPS_SEED:
        shown = {area: tests[area] for area in names[:2]}  # its own area and another one
        write_bytes(records.folder / MAPS_FOLDER / f"{run.area.replace(':', '-')}-{run.cell.name}.npz", example_maps(model, shown, config))
    records.add(run.key, tables)
    if delete_weights and not (run.cell.name in MAPS_OF and run.seed == MAPS_SEED):
        (Path(config.run_dir) / "model.safetensors").unlink()
    return rows


def _labels(run: GridRun, area: str) -> dict[str, Any]:
    dataset, _, trained = run.area.partition(":")
    return {"cell": run.cell.name, "dataset": dataset, "train_area": trained, "area": area, "seed": run.seed}


def loss_curve(trained: dict[str, Any]) -> list[dict[str, Any]]:
    """The losses over a training, from the ``train`` part of its ``metrics.json``.

    Returns:
        Points of ``epoch`` (a fraction within one), ``step`` and the losses, each a mean since the point before; one for each epoch where
        the run has no finer curve.
    """
    per_epoch = trained["steps"] / trained["epochs"]
    curve = trained.get("curve") or {
        "step": [round((epoch + 1) * per_epoch) for epoch in range(trained["epochs"])],
        **{name: trained[name] for name in LOSSES},
    }
    return [
        {"epoch": round(step / per_epoch, 4), "step": step, **{name: curve[name][point] for name in LOSSES}}
        for point, step in enumerate(curve["step"])
    ]


def _curve(run: GridRun, trained: dict[str, Any]) -> list[Row]:
    labels = _labels(run, "")
    del labels["area"]
    return [{**labels, **point} for point in loss_curve(trained)]
