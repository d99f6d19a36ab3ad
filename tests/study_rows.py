"""Records of a study that was never run: recalls by a formula, so that every mean and difference is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geodtr_lib.evaluation.hard_samples import KINDS
from geodtr_lib.study.paper_grid import GridRun, paper_grid
from geodtr_lib.study.records import CURVES, DISTANCES, MAPS_FOLDER, PROBES, RUNS, Records

Recall = Callable[[GridRun, str], float]  # of a run on "same" or "cross"


def record_study(
    folder: Path, recall: Recall, *, seeds: Sequence[int] = (0, 1, 2), areas: Sequence[str] = ("city:midrise", "city:oldtown")
) -> Path:
    """Write what the grid would leave in ``folder``; gives it back."""
    return record(folder, paper_grid("smoke", seeds, areas), recall)


def record(folder: Path, runs: Sequence[GridRun], recall: Recall) -> Path:
    """Rows of some runs in one go; their keys are their own."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for name, rows in rows_of(run, recall).items():
            tables.setdefault(name, []).extend({"run": run.key, **row} for row in rows)
    Records(folder).add("all at once", tables)
    return folder


def rows_of(run: GridRun, recall: Recall) -> dict[str, list[dict[str, Any]]]:
    """A run with two test areas: its own, and another."""
    dataset, _, trained = run.area.partition(":")
    labels = {"cell": run.cell.name, "dataset": dataset, "train_area": trained, "seed": run.seed}
    config = run.config
    names = ("gle", "n_desc", "sampling", "backbone", "polar", "batch_size", "epochs", "n_train", "n_test", "tile_size", "preset")
    own = {name: getattr(config, name) for name in names} | {"ground_size": "16x64"}
    own |= {"version_commit": "abc1234", "version_machine": "a machine"}
    sizes = {"n_query": 500, "n_gallery": 500, "dimension": 112 * config.n_desc, "embedding_bytes": 448 * config.n_desc, "gallery_bytes": 1}
    follows = [f"follows_{name}{end}" for name in ("ground_nearness", "ground_building", "aerial_building") for end in ("", "_shuffled")]
    runs, probes, distances = [], [], []
    for area, protocol in ((trained, "same"), ("elsewhere", "cross")):
        r1 = recall(run, protocol)
        place = {**labels, "area": area}
        recalls = {"protocol": protocol, **dict.fromkeys(("r1", "r5", "r10", "r1pct"), r1), "final_triplet_loss": 1 + r1}
        runs.append({**place, **recalls, **sizes, **own, "test_hash": f"{area}{run.seed}", "wall_seconds": 60.0, "views": 1})
        measured = {f"auc_{kind}": 0.5 + r1 / 4 for kind in KINDS if kind != "original"} | dict.fromkeys(follows, r1 / 2)
        measured |= {f"{name}_{view}": r1 for name in ("entropy", "active_area", "between_images") for view in ("ground", "aerial")}
        probes.append({**place, "alignment_matched": r1, "alignment_shuffled": 0.1, **measured})
        values = np.sort(np.random.default_rng(run.seed).uniform(0, 2, 20))
        text = " ".join(f"{value:.3f}" for value in values)
        distances += [{**place, "kind": kind, "n": 20, "distances": text} for kind in KINDS]
    curve = [{**labels, "epoch": epoch, "step": 10 * epoch, "triplet_loss": 3.0 / epoch} for epoch in (1, 2, 3)]
    return {RUNS: runs, PROBES: probes, CURVES: curve, DISTANCES: distances}


def keep_maps(folder: Path) -> None:
    """Descriptor maps of the cells whose figures show them."""
    rng = np.random.default_rng(0)
    (folder / MAPS_FOLDER).mkdir(parents=True, exist_ok=True)
    for name in ("reference", "v1", "square", "square-v1"):
        polar = not name.startswith("square")
        images = {"aerial": rng.integers(0, 255, (1, 3, 32, 32), np.uint8), "ground": rng.integers(0, 255, (1, 3, 16, 64), np.uint8)}
        maps = {"aerial_descriptors": rng.random((1, 8, 2, 8) if polar else (1, 8, 4, 4)), "ground_descriptors": rng.random((1, 8, 2, 8))}
        np.savez(folder / MAPS_FOLDER / f"city-midrise-{name}.npz", polar=np.array(polar), **images, **maps)

