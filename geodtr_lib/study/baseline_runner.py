"""Runs the grid of methods, and records each training as soon as it is finished; stopped at any point, it goes on where it was.

The tables are ``results/methods/study.csv`` (one row per run and test area) and ``study_curves.csv``. As a command:

    python -m geodtr_lib.study methods --limit-minutes 480 --delete-weights
    python -m geodtr_lib.study methods --status
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geodtr_lib import machine, training
from geodtr_lib.checkpoints import load_checkpoint
from geodtr_lib.config import RunConfig
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.study.baseline_grid import MethodRun
from geodtr_lib.study.grid_runner import expected_seconds
from geodtr_lib.study.records import CURVES, RUNS, Records, require_same_pairs
from geodtr_lib.study.sitting import RECALLS, Outcome, is_begun, recorded_status, run_columns, run_unrecorded

FOLDER = "methods"  # of the results
_CONFIGURATION = (
    "model", "gle", "n_desc", "sampling", "loss", "batches", "learn_temperature", "label_smoothing", "share_backbone", "consistency_weight",
    "backbone", "pretrained", "frozen_stride", "polar", "fov", "heading", "batch_size", "epochs", "n_train", "n_test", "lr", "preset",
    "precision", "environment",
)  # fmt: skip


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
    commit = machine.code_commit()
    return run_unrecorded(
        grid, records, _expected, lambda run: _run_and_record(run, records, runs_dir, commit, delete_weights, progress), limit_minutes, say
    )


def method_status(grid: Sequence[MethodRun], records: Records) -> str:
    """How much of a grid is recorded, by area and seed, and how long the rest will take as far as earlier runs tell."""
    return recorded_status(grid, records, _expected, lambda run: f"{run.area}, seed {run.seed}")


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
    begun, wall = is_begun(config), time.monotonic()
    metrics = training.run(config, progress)
    trained = metrics["train"]
    config = RunConfig(**metrics["config"])
    model = load_checkpoint(config.run_dir)
    dataset, _, area = run.area.partition(":")
    labels = {"grid": run.grid, "method": run.method, "dataset": dataset, "train_area": area, "seed": run.seed}
    count = count_parameters(model)
    common = {
        "parameters": count.whole,
        "parameters_backbones": count.backbones,
        **run_columns(metrics, model, _CONFIGURATION, commit=commit, wall_seconds=None if begun else time.monotonic() - wall),
    }
    rows = [
        {**labels, "area": name, "protocol": found["protocol"], **{key: found[key] for key in RECALLS}, **common}
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
