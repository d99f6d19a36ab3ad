"""The grid as it is run: recorded at once, resumable, within its time, and what is recorded of a real run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from finished_runs import finish

from geodtr_lib import machine, training
from geodtr_lib.config import config_from
from geodtr_lib.errors import RunError
from geodtr_lib.objective import LOSSES
from geodtr_lib.study import grid_runner
from geodtr_lib.study.__main__ import main
from geodtr_lib.study.grid_runner import expected_seconds, grid_status, loss_curve, run_grid
from geodtr_lib.study.paper_grid import GridRun, paper_grid
from geodtr_lib.study.records import CURVES, DISTANCES, PROBES, RUNS, Records
from geodtr_lib.trainer import Progress

TINY: dict[str, Any] = {"n_train": 16, "n_test": 12, "test_areas": ["oldtown"]}


def tiny(*cells: str, seeds: tuple[int, ...] = (0,)) -> list[GridRun]:
    return paper_grid("smoke", seeds, ["city:midrise"], cells=cells, **TINY)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records of three real runs (``results``) and their folders (``runs``)."""
    folder = tmp_path_factory.mktemp("grid")
    lines: list[str] = []
    records = Records(folder / "results")
    outcome = run_grid(tiny("reference", "ls", "square"), records, folder / "runs", delete_weights=True, say=lines.append)
    assert (len(outcome.done), outcome.failed, outcome.left) == (3, {}, 0)
    assert all("R@1 midrise" in line and "oldtown" in line for line in lines)
    return folder


def test_a_run_is_a_row_per_area_with_all_that_a_reader_asks_for(recorded: Path) -> None:
    rows = Records(recorded / "results").read(RUNS)
    areas = rows.groupby("cell", sort=False)["area"].apply(list).to_dict()
    assert areas == {name: ["midrise", "oldtown"] for name in ("reference", "ls", "square")}
    assert rows["protocol"].tolist() == ["same", "cross"] * 3
    assert rows[["r1", "r5", "r10", "r1pct"]].apply(lambda column: column.between(0, 1)).all(axis=None)
    assert (rows[["seconds", "cpu_seconds", "wall_seconds", "evaluation_seconds", "steps"]] > 0).all(axis=None)
    assert (rows["embedding_bytes"] == 4 * rows["dimension"]).all()
    assert (rows["gallery_bytes"] == rows["embedding_bytes"] * 12).all()
    assert rows["version_machine"].notna().all()
    assert rows.groupby("area")["test_hash"].nunique().tolist() == [1, 1], "every cell was tested on the same pairs"
    stored = json.loads(next((recorded / "runs").glob("*-reference-*/metrics.json")).read_text())
    assert rows["r1"].tolist()[:2] == pytest.approx([stored["evaluation"][area]["r1"] for area in ("midrise", "oldtown")], rel=1e-5)


def test_a_run_on_other_test_pairs_than_the_recorded_rows_is_refused_before_it_trains(recorded: Path, tmp_path: Path) -> None:
    results = shutil.copytree(recorded / "results", tmp_path / "results")
    rows = pd.read_csv(results / RUNS, dtype=str)
    rows.loc[rows["area"] == "oldtown", "test_hash"] = "0123456789abcdef"
    rows.to_csv(results / RUNS, index=False)
    outcome = run_grid(tiny("raw"), Records(results), tmp_path / "runs")
    (reason,) = outcome.failed.values()
    assert reason.startswith("city oldtown seed 0: the test pairs (")
    assert "not those of the recorded rows (0123456789abcdef)" in reason
    assert not list(tmp_path.glob("runs/*"))
    (other,) = run_grid(tiny("raw", seeds=(1,)), Records(results), tmp_path / "runs").done
    assert "seed1" in other, "another seed has pairs of its own"


def test_a_grid_of_limited_views_is_recorded(tmp_path: Path) -> None:
    records = Records(tmp_path / "results")
    grid = paper_grid("smoke", [0], ["city:midrise"], cells=["reference"], **TINY, fov=180)
    assert run_grid(grid, records, tmp_path / "runs", say=str).failed == {}
    assert (records.read(RUNS)["dimension"] > 0).all()


def test_curves_have_a_row_per_point_and_end_with_the_training(recorded: Path) -> None:
    curves = Records(recorded / "results").read(CURVES)
    assert curves.groupby("cell", sort=False)["step"].max().to_dict() == {"reference": 2, "ls": 2, "square": 2}
    assert curves.groupby("cell")["epoch"].max().eq(1).all()
    assert (curves["triplet_loss"] > 0).all()


def test_a_run_without_a_curve_has_a_row_per_epoch() -> None:
    losses = {name: [3.0, 2.0] for name in LOSSES}
    rows = loss_curve({"epochs": 2, "steps": 8, **losses})
    assert [(row["epoch"], row["step"], row["triplet_loss"]) for row in rows] == [(1, 4, 3.0), (2, 8, 2.0)]


def test_the_points_of_a_curve_are_means_of_the_steps_between_them() -> None:
    progress = Progress(epoch=1, before=7)
    for step, total in ((3, 6.0), (4, 7.0), (7, 7.0)):
        progress.step = step
        progress.add_point({"loss": total}, taken=step if step < 7 else 4)  # the last three steps were skipped
    assert progress.curve == [{"step": 10, "loss": 2.0}, {"step": 11, "loss": 1.0}]


def test_probes_are_numbers_in_their_ranges(recorded: Path) -> None:
    probes = Records(recorded / "results").read(PROBES)
    assert len(probes) == 6
    shares = [name for name in probes if name.startswith(("entropy_", "active_area_", "between_images_", "auc_"))]
    assert len(shares) == 6 + 3 * 5
    assert probes[shares].apply(lambda column: column.between(0, 1)).all(axis=None)
    assert probes.filter(regex="^alignment|^follows").abs().max(axis=None) <= 1
    assert probes["follows_ground_nearness"].notna().all()
    assert {"follows_aerial_building", "follows_ground_sky_shuffled"} <= set(probes)
    assert not [name for name in probes if name.startswith("follows_aerial_sky")], "no sky from above"


def test_distances_are_kept_of_the_cells_that_figure_10_shows(recorded: Path) -> None:
    distances = Records(recorded / "results").read(DISTANCES)
    assert set(distances["cell"]) == {"reference", "ls"}
    assert set(distances["kind"]) == {"original", "unmatched", "flip", "rot90", "rot180", "rot270"}
    for row in distances.itertuples():
        values = np.array(row.distances.split(), dtype=float)
        assert len(values) == row.n == 12
        assert (np.diff(values) >= 0).all()
        assert values.mean() == pytest.approx(row.mean, abs=1e-3)


def test_descriptor_maps_are_kept_for_their_figures(recorded: Path) -> None:
    folder = recorded / "results" / "descriptor_maps"
    assert sorted(path.name for path in folder.iterdir()) == ["city-midrise-reference.npz", "city-midrise-square.npz"]
    with np.load(folder / "city-midrise-square.npz") as maps:
        assert maps["area"].tolist() == ["midrise", "midrise", "oldtown", "oldtown"]
        assert maps["aerial"].shape == (4, 3, 32, 32)
        assert maps["aerial_descriptors"].shape[:2] == maps["ground_descriptors"].shape[:2] == (4, 8)
        assert not maps["polar"]


def test_only_the_weights_that_figures_need_are_kept(recorded: Path) -> None:
    kept = [path.parent.name.split("-seed")[0] for path in (recorded / "runs").glob("*/model.safetensors")]
    assert sorted(kept) == ["city-midrise-reference", "city-midrise-square"]


def test_what_is_recorded_is_not_run_again_even_without_its_folder(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(recorded / "results", tmp_path / "results")
    monkeypatch.setattr(training, "run", None)
    outcome = run_grid(tiny("reference", "ls", "square"), Records(tmp_path / "results"), tmp_path / "runs")
    assert (outcome.done, outcome.failed, outcome.left) == ([], {}, 0)


def test_a_run_that_was_finished_but_not_recorded_is_only_measured(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(recorded / "runs", tmp_path / "runs")
    monkeypatch.setattr("geodtr_lib.trainer.Trainer.train_step", None)
    outcome = run_grid(tiny("reference"), Records(tmp_path / "results"), tmp_path / "runs", say=str)
    assert len(outcome.done) == 1
    before, after = (Records(folder / "results").read(RUNS).query("cell == 'reference'") for folder in (recorded, tmp_path))
    assert after["r1"].tolist() == before["r1"].tolist()
    assert after["cpu_seconds"].isna().all(), "of a resumed run nobody knows it"


def fake_run(values: Any, progress: bool = False) -> dict[str, Any]:
    """Stands for training; cells with four descriptors fail."""
    config = config_from(values)
    if config.n_desc == 4:
        raise RunError("the loss is nan")
    return finish(config)


@pytest.fixture
def fake_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that take ten seconds each by their record, and no time."""

    def record(run: GridRun, records: Records, runs_dir: Path, *_: Any) -> list[dict[str, Any]]:
        fake_run(run.in_folder(runs_dir))
        config = run.config
        row = {"cell": run.cell.name, "area": "a", "r1": 0.5, "wall_seconds": 10.0, "views": 1 + (config.sampling == "L+S")}
        row["version_machine"] = machine.name_of()
        row |= {name: getattr(config, name) for name in ("preset", "dataset", "train_area", "backbone", "polar", "epochs", "n_train")}
        records.add(run.key, {RUNS: [row]})
        return [row]

    monkeypatch.setattr(grid_runner, "_run_and_record", record)


@pytest.mark.usefixtures("fake_grid")
def test_a_failed_run_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = run_grid(paper_grid("smoke", [0], ["city:midrise"], ["V"]), Records(tmp_path), tmp_path / "runs", say=lines.append)
    assert [name.split("-")[2] for name in outcome.done] == ["reference", "k2", "k6"]
    assert list(outcome.failed.values()) == ["the loss is nan"]
    assert any("RunError: the loss is nan" in line for line in lines)


@pytest.mark.usefixtures("fake_grid")
def test_no_run_is_started_that_would_not_be_over_in_time(tmp_path: Path) -> None:
    grid = tiny("reference", "ls", "raw")
    outcome = run_grid(grid, Records(tmp_path), tmp_path / "runs", limit_minutes=4 / 60)
    assert ([name.split("-")[2] for name in outcome.done], outcome.left) == (["reference"], 2)
    assert "1 of 3 runs recorded, about 0.0 h to go" in grid_status(grid, Records(tmp_path))
    assert len(run_grid(grid, Records(tmp_path), tmp_path / "runs", limit_minutes=1).done) == 2


@pytest.mark.usefixtures("fake_grid")
def test_the_expected_time_scales_with_the_views(tmp_path: Path) -> None:
    grid, records = tiny("reference", "ls", "long"), Records(tmp_path)
    assert expected_seconds(grid[0].config, records.read(RUNS)) is None
    run_grid(grid[:1], records, tmp_path / "runs")
    assert [expected_seconds(run.config, records.read(RUNS)) for run in grid] == pytest.approx([10, 5, 20])


@pytest.mark.usefixtures("fake_grid")
def test_the_expected_time_is_that_of_this_machine_where_it_is_known(tmp_path: Path) -> None:
    (run, *_), records = tiny("reference"), Records(tmp_path)
    run_grid([run], records, tmp_path / "runs")
    here = records.read(RUNS)
    elsewhere = here.assign(run="another", version_machine="a slow one", wall_seconds=1000.0)
    assert expected_seconds(run.config, pd.concat([here, elsewhere, elsewhere.assign(run="third")])) == pytest.approx(10)
    assert expected_seconds(run.config, elsewhere) == pytest.approx(1000)


def test_the_command_says_what_is_left_and_what_is_wrong(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["grid", "--results", str(recorded / "results"), "--preset", "smoke", "--seeds", "0,1", "--areas", "city:midrise", "--status"]
    setting = ["--set", "n_train=16", "--set", "n_test=12", "--set", "test_areas=[oldtown]"]
    assert main([*common, *setting, "--cells", "reference,ls"]) == 0
    said = capsys.readouterr().out
    assert "city:midrise, tables, seed 0: 2 of 2 runs recorded\n" in said
    assert "city:midrise, tables, seed 1: 0 of 2 runs recorded, about" in said
    assert main([*common, "--tables", "IX"]) == 1
    assert capsys.readouterr().err == "ConfigError: tables: 'IX' is not known; allowed: IV, V, VI, VIII, extra\n"


def test_probed_places_are_the_same_for_all_runs_on_the_same_data() -> None:
    from geodtr_lib.data import open_dataset
    from geodtr_lib.study.probes import chosen_places

    data = open_dataset("city", area="midrise", split="test", n=12, ground_size=(16, 64), tile_size=32)
    first = chosen_places(data, 0, 5)
    assert torch.equal(first, chosen_places(data, 0, 5))
    assert len(set(first.tolist())) == 5
    assert not torch.equal(first, chosen_places(data, 1, 5))
