"""Grids: every cell is run once, wherever it runs, and one that fails does not cost the others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from finished_runs import finish

from geodtr_lib import study, training
from geodtr_lib.config import config_from, resolve_config
from geodtr_lib.errors import ConfigError, DatasetError, RunError


def fake_run(values: Any, progress: bool = False) -> dict[str, Any]:
    """Stands for training: counts itself, and fails in three ways."""
    config = config_from(values)
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "count", "a") as count:
        count.write("x")
    if config.n_desc == 3:
        raise DatasetError("no such area")
    if config.n_desc == 5:
        raise ZeroDivisionError("a bug")
    if config.n_desc == 7:
        os._exit(1)
    return finish(config)


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "run", fake_run)


def counts(folders: Iterable[Path]) -> list[int]:
    return [len((folder / "count").read_text()) for folder in folders]


@pytest.mark.usefixtures("fake_training")
def test_a_grid_is_the_product_of_its_lists_in_order(tmp_path: Path) -> None:
    grid = {"preset": "smoke", "sampling": ["raw", "LS"], "seed": range(2), "test_areas": [["midrise", "suburb"]]}
    folders = study.sweep(grid, runs_dir=tmp_path)
    frame = study.collect(tmp_path).set_index("run").loc[[str(folder) for folder in folders]]
    assert list(zip(frame["sampling"], frame["seed"], strict=True)) == [("raw", 0), ("raw", 1), ("LS", 0), ("LS", 1)]
    assert set(frame["test_areas"]) == {'["midrise", "suburb"]'}
    assert all("seed" in folder.name and folder.parent == tmp_path for folder in folders)


@pytest.mark.usefixtures("fake_training")
def test_finished_runs_are_not_repeated_and_a_grown_grid_runs_only_what_is_new(tmp_path: Path) -> None:
    first = study.sweep({"preset": "smoke", "n_desc": [1, 2]}, runs_dir=tmp_path)
    grown = study.sweep({"preset": "smoke", "n_desc": [2, 1], "seed": [0, 1]}, runs_dir=tmp_path)
    assert set(first) < set(grown)
    assert counts(grown) == [1, 1, 1, 1]


@pytest.mark.usefixtures("fake_training")
def test_results_of_another_configuration_do_not_count_as_finished(tmp_path: Path) -> None:
    finish(resolve_config("smoke", n_desc=2, run_dir=str(tmp_path / "a")))
    study.sweep([{"preset": "smoke", "n_desc": 2, "run_dir": str(tmp_path / "a"), "workers": 3}])
    assert not (tmp_path / "a" / "count").exists(), "where it runs does not matter"
    study.sweep([{"preset": "smoke", "n_desc": 1, "run_dir": str(tmp_path / "a")}])
    assert counts([tmp_path / "a"]) == [1]


@pytest.mark.usefixtures("fake_training")
def test_a_metrics_file_cut_short_is_run_again(tmp_path: Path) -> None:
    (folder,) = study.sweep({"preset": "smoke"}, runs_dir=tmp_path)
    (folder / "metrics.json").write_text('{"config": {"n_d')
    study.sweep({"preset": "smoke"}, runs_dir=tmp_path)
    assert counts([folder]) == [2]


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor])
@pytest.mark.usefixtures("fake_training")
def test_a_failed_run_does_not_lose_the_others_and_all_are_named(tmp_path: Path, pool: type[ThreadPoolExecutor] | None) -> None:
    executor = pool(2) if pool else None
    with pytest.raises(RunError, match="2 of 4 runs failed") as caught:
        study.sweep({"preset": "smoke", "n_desc": [3, 5, 1, 2]}, executor, runs_dir=tmp_path)
    assert "DatasetError: no such area" in str(caught.value)
    assert "ZeroDivisionError: a bug (see " in str(caught.value)
    assert sorted(study.collect(tmp_path)["n_desc"]) == [1, 2]
    (log,) = tmp_path.rglob("error.txt")
    assert "fake_run" in log.read_text(), "a bug leaves its traceback; what a user can mend needs none"


@pytest.mark.usefixtures("fake_training")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_dies_is_reported_and_its_finished_neighbours_kept(tmp_path: Path) -> None:
    failed = pytest.raises(RunError, match="1 of 2 runs failed.*BrokenProcessPool")
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as executor, failed:
        study.sweep({"preset": "smoke", "n_desc": [1, 7]}, executor, runs_dir=tmp_path)
    assert study.collect(tmp_path)["n_desc"].tolist() == [1]


@pytest.mark.usefixtures("fake_training")
def test_an_executor_needs_only_submit_and_result(tmp_path: Path) -> None:
    class Job:
        def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
            self.function, self.arguments = function, arguments

        def result(self) -> Any:
            return self.function(*self.arguments)

    class Cluster:
        def submit(self, function: Any, /, *arguments: Any) -> Job:
            return Job(function, arguments)

    assert len(study.sweep({"preset": "smoke", "seed": [0, 1]}, Cluster(), runs_dir=tmp_path)) == 2
    assert len(study.collect(tmp_path)) == 2


@pytest.mark.usefixtures("fake_training")
def test_a_grid_is_checked_before_its_first_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="n_desc: 0"):
        study.sweep({"preset": "smoke", "n_desc": [1, 0]}, runs_dir=tmp_path)
    with pytest.raises(ConfigError, match="did you mean n_desc"):
        study.sweep([{"preset": "smoke"}, {"preset": "smoke", "n_dsec": 1}], runs_dir=tmp_path)
    with pytest.raises(ConfigError, match="two cells of the grid are the same run"):
        study.sweep({"preset": "smoke", "seed": [1, 1]}, runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_real_runs_are_trained_once_and_collected(tmp_path: Path) -> None:
    grid = {"preset": "smoke", "n_train": 16, "n_test": 16, "test_areas": [["midrise"]], "n_desc": [1, 2]}
    folders = study.sweep(grid, runs_dir=tmp_path)
    trained_at = [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders]
    frame = study.collect(tmp_path)
    assert frame["n_desc"].tolist() == [1, 2]
    assert frame["area"].tolist() == ["midrise"] * 2
    assert frame["r1"].between(0, 1).all()
    assert (frame[["seconds", "pairs_per_second", "final_loss"]] > 0).all(axis=None)
    assert frame["version_torch"].notna().all()
    assert study.sweep(grid, runs_dir=tmp_path) == folders
    assert [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders] == trained_at
