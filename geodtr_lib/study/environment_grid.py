"""Other light, season and weather: models trained on clear data, tested on the same places under growing changes.

Trained are GeoDTR+ models that differ in their sampling, at one budget. Each is tested on the clear places of every area of its data set,
and on one environment after another at one strength after another (:mod:`geodtr_lib.data.environment`). The recorded table is
``results/environments/study.csv``. As a command:

    python -m geodtr_lib.study environments --limit-minutes 120
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from geodtr_lib import machine, training
from geodtr_lib.checkpoints import load_checkpoint
from geodtr_lib.config import RunConfig, config_from, resolve_config
from geodtr_lib.data import open_for
from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation import embed_dataset, embed_view, score
from geodtr_lib.evaluation.embeddings import View
from geodtr_lib.files import read_json
from geodtr_lib.study.baseline_grid import AREAS, MethodRun, equal_budget
from geodtr_lib.study.paper_grid import SEEDS, dataset_and_area
from geodtr_lib.study.records import RUNS, Records
from geodtr_lib.study.sitting import Outcome, is_begun, run_missing, version_columns

FOLDER = "environments"  # of the results
SAMPLINGS = ("raw", "S", "LS", "L+S")
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Change:
    """One change of the test data.

    Attributes:
        name: how it is called in tables.
        environment: of ``data.environment.ENVIRONMENTS``.
        view: ``ground`` or ``aerial``: which of the two images is taken under it; the other is clear.
    """

    name: str
    environment: str
    view: View = "ground"

    def apply(self, config: RunConfig, strength: float) -> RunConfig:
        """The configuration whose data have this change at this strength, 0 to 1.

        Raises:
            ConfigError: data that are not rendered.
        """
        if not config.embedded:
            raise ConfigError(
                f"dataset: {config.dataset!r} is not rendered, so its light and weather cannot be changed; allowed: city, osm"
            )
        named = f"{self.environment}:{strength:g}"
        if self.view == "ground":
            return config.replace(environment=named)
        return config.replace(options={**config.options, "aerial_environment": named})


CHANGES: tuple[Change, ...] = (
    Change("night", "night"),
    Change("low sun", "low_sun"),
    Change("fog", "fog"),
    Change("rain", "rain"),
    Change("snow", "snow"),
    Change("autumn", "autumn"),
    Change("sensor noise", "sensor_noise"),
    Change("tile in winter", "winter", "aerial"),
    Change("tile in snow", "snow", "aerial"),
    Change("tile in autumn", "autumn", "aerial"),
)


def changes_named(names: Sequence[str] = ()) -> list[Change]:
    """The changes of these names; empty = all.

    Raises:
        ConfigError: an unknown name.
    """
    known = {change.name: change for change in CHANGES}
    for name in names:
        if name not in known:
            raise ConfigError(f"changes: {name!r} is not known; allowed: {', '.join(known)}")
    return [known[name] for name in names] if names else list(CHANGES)


def environment_trainings(
    preset: str = "study",
    seeds: Sequence[int] = SEEDS,
    areas: Sequence[str] = AREAS[:1],
    samplings: Sequence[str] = SAMPLINGS,
    **others: Any,
) -> list[MethodRun]:
    """The models to be tested: GeoDTR+ at one budget, by each sampling; arguments as of ``baseline_grid.method_grid``."""
    runs = []
    for seed, area, sampling in itertools.product(seeds, areas, samplings):
        dataset, inner = dataset_and_area(area)
        values = {"dataset": dataset, "train_area": inner, "sampling": sampling, "seed": seed, "data_seed": seed, **others}
        runs.append(MethodRun("environments", sampling, area, seed, equal_budget(resolve_config(preset, **values))))
    return runs


def recalls_under_changes(
    run_dir: str | Path,
    changes: Sequence[Change] = CHANGES,
    strengths: Sequence[float] = STRENGTHS,
    areas: Sequence[str] = (),
    progress: bool = False,
) -> pd.DataFrame:
    """Recalls of a finished run on its test places, clear and under each change.

    Args:
        run_dir: folder of the run.
        changes, strengths: strength 0, the clear data, comes for each change too.
        areas: of the data set; empty = those that the run was evaluated on.
        progress: show bars.

    Returns:
        One row per area, change and strength: ``area``, ``protocol``, ``change``, ``view``, ``strength``, the recalls, ``n_query``,
        ``n_gallery``, and ``sampling``, ``model``, ``train_area``, ``seed`` of the run.
    """
    config = training.resolve_machine(config_from(read_json(Path(run_dir) / "config.json")))
    model = load_checkpoint(run_dir).to(config.device)
    rows: list[dict[str, Any]] = []
    of_run = {name: getattr(config, name) for name in ("model", "sampling", "dataset", "train_area", "seed")}
    for area in areas or training.test_areas_of(config):
        places = open_for(config, area, "test")
        clear = embed_dataset(model, places, config, progress=progress)
        recalls_when_clear = score(clear, places, config.ties)
        for change in changes:
            found = {0.0: recalls_when_clear}
            for strength in strengths:
                changed = change.apply(config, strength)
                # The other view is the clear one to the bit, so it is not embedded again.
                places = open_for(changed, area, "test")
                embedded = embed_view(model, places, change.view, changed, progress=progress)
                both = replace(clear, query=embedded) if change.view == "ground" else replace(clear, reference=embedded)
                found[strength] = score(both, places, changed.ties)
            labels = {"area": area, "protocol": training.protocol_of(config, area), "change": change.name, "view": change.view}
            rows += [{**labels, "strength": strength, **recalls, **of_run} for strength, recalls in found.items()]
    return pd.DataFrame(rows)


def run_environments(
    trainings: Sequence[MethodRun],
    records: Records,
    runs_dir: str | Path,
    changes: Sequence[Change] = CHANGES,
    strengths: Sequence[float] = STRENGTHS,
    *,
    limit_minutes: float = float("inf"),
    progress: bool = False,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train, test under every change, and record, what is not recorded yet. Stopped at any point, it goes on where it was."""
    commit = machine.code_commit()
    asked = _asked(changes, strengths)
    took = [0.0]  # seconds of the runs of this sitting

    def run_and_record(run: MethodRun) -> str:
        began = time.monotonic()
        config = run.in_folder(runs_dir)
        begun = is_begun(config)
        metrics = training.run(config, progress)
        table = recalls_under_changes(config.run_dir, changes, strengths, progress=progress)
        common = {
            **{name: getattr(config, name) for name in ("preset", "backbone", "n_train", "n_test", "epochs", "batch_size", "loss")},
            "precision": metrics["config"]["precision"], "seconds": metrics["train"]["seconds"],
            **version_columns(metrics, None if begun else commit),
        }  # fmt: skip
        rows = [{**row, **common} for row in table.to_dict("records")]
        others = [row for row in _recorded(run, records) if (row["change"], row["strength"]) not in asked]
        records.add(run.key, {RUNS: [*others, *rows]})
        took.append(time.monotonic() - began)
        return f"{len(table)} rows in {took[-1]:.0f} s"

    def is_missing(run: MethodRun) -> bool:
        return bool(asked - _measured(run, records))

    missing = [run for run in trainings if is_missing(run)]
    return run_missing(missing, is_missing, lambda _: max(took), run_and_record, limit_minutes, say)


def environment_status(trainings: Sequence[MethodRun], records: Records) -> str:
    """How many trainings are tested under every change at every strength."""
    asked = _asked(CHANGES, STRENGTHS)
    return f"{sum(asked <= _measured(run, records) for run in trainings)} of {len(trainings)} trainings tested and recorded"


def _asked(changes: Sequence[Change], strengths: Sequence[float]) -> set[tuple[str, float]]:
    return {(change.name, strength) for change in changes for strength in (0.0, *map(float, strengths))}


def _recorded(run: MethodRun, records: Records) -> list[dict[str, Any]]:
    """A training's rows."""
    rows = records.read(RUNS)
    found: list[dict[str, Any]] = rows[rows["run"] == run.key].drop(columns=["schema", "run"]).to_dict("records")
    return found


def _measured(run: MethodRun, records: Records) -> set[tuple[str, float]]:
    """Changes and strengths that a training was tested under already."""
    return {(row["change"], row["strength"]) for row in _recorded(run, records)}
