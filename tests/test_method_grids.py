"""The grids of methods, options and environments: one budget, every cell once, recorded and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from geodtr_lib import plots
from geodtr_lib.checkpoints import load_checkpoint
from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.data import open_for
from geodtr_lib.errors import ConfigError, RunError
from geodtr_lib.evaluation import evaluate
from geodtr_lib.models import MODELS
from geodtr_lib.sampling import POLICIES, policy_named
from geodtr_lib.study import summarise
from geodtr_lib.study.__main__ import main
from geodtr_lib.study.baseline_grid import METHODS, OPTIONS, OTHER_LOSS, equal_budget, method_grid
from geodtr_lib.study.baseline_report import comparison
from geodtr_lib.study.baseline_runner import _check_same_data, method_status, run_methods
from geodtr_lib.study.baseline_tables import against, options_rows, universality, what_methods_cost
from geodtr_lib.study.environment_grid import CHANGES, changes_named, environment_trainings, recalls_under_changes, run_environments
from geodtr_lib.study.records import RUNS, Records
from geodtr_lib.study.view_report import view_table
from geodtr_lib.training import run

TINY: dict[str, Any] = dict(
    n_train=16, n_test=12, batch_size=4, epochs=1, test_areas=["midrise"], device="cpu", precision="fp32", dropout=0.0, warmup_epochs=0.5
)


# The grid


def budget(config: RunConfig) -> tuple[int, float, float]:
    """Views in a batch, steps, and steps of the warm-up."""
    per_epoch = config.n_train / config.batch_size
    return config.batch_size * policy_named(config.sampling).views, config.epochs * per_epoch, round(config.warmup_epochs * per_epoch, 6)


def test_every_method_sees_the_same_pairs_in_the_same_steps() -> None:
    for area in ("city:midrise", "osm:helsinki"):
        assert len({budget(run.config) for run in method_grid("small", [0], [area], ["methods"])}) == 1


def test_every_sampling_sees_the_same_views_in_the_same_steps() -> None:
    for sampling in (*POLICIES,):
        if policy_named(sampling).views != 3:  # of three views the smoke preset's batch does not divide
            (run,) = method_grid("smoke", [0], ["city:midrise"], ["methods"], ["SAFA"], [sampling], batch_size=8, epochs=2)
            (reference,) = method_grid("smoke", [0], ["city:midrise"], ["methods"], ["SAFA"], ["L+S"], batch_size=8, epochs=2)
            assert budget(run.config) == budget(reference.config), sampling


def test_options_see_what_the_methods_see() -> None:
    for area in ("city:midrise", "osm:helsinki"):
        (reference,) = {budget(run.config) for run in method_grid("small", [0], [area], ["methods"])}
        assert {budget(run.config) for run in method_grid("small", [0], [area], ["options"])} == {reference}


def test_all_methods_are_there_once_with_and_without_ls_and_chsg() -> None:
    grid = method_grid("smoke", [0, 1], ["city:midrise"], ["methods"], **TINY)
    assert len(grid) == 2 * 3 * (len(METHODS) + len(OTHER_LOSS))
    assert len({run.key for run in grid}) == len({run.name for run in grid}) == len(grid)
    assert {run.config.model for run in grid} >= set(MODELS) - {"cvm_net_ii", "safa_mean", "transgeo_zoom"}
    own = {run.method: run.config.loss for run in grid}
    assert own["Sample4Geo"] == "infonce"
    assert own["Sample4Geo, triplet"] == "triplet"
    assert own["SEH-style"] == "highlighted"
    both = method_grid("smoke", [0], ["city:midrise"], **TINY)
    assert len(both) == 3 * (len(METHODS) + len(OTHER_LOSS)) + len(OPTIONS) - 1, "GeoDTR+ with CHSG is run once"
    assert all(run.config.data_seed == run.seed == run.config.seed for run in grid)


def test_views_are_of_all_methods_that_can_do_without_north() -> None:
    grid = method_grid("smoke", [0], ["city:midrise"], ["views"], **TINY)
    assert {run.method for run in grid} == set(METHODS)
    found = {(run.config.heading, run.config.fov) for run in grid if run.method == "DSM"}
    assert found == {("random", fov) for fov in (360, 180, 90, 70)}
    assert {(run.config.heading, run.config.fov) for run in grid if run.method == "Liu & Li"} == {("north", fov) for fov in (180, 90, 70)}
    assert len({run.key for run in grid}) == len(grid) == 4 * len(METHODS) - 1
    assert {budget(run.config) for run in grid} == {budget(run.config) for run in method_grid("smoke", [0], ["city:midrise"], **TINY)}


def test_a_view_is_trained_tested_and_recorded(tmp_path: Path) -> None:
    grid = [run for run in method_grid("smoke", [0], ["city:midrise"], ["views"], ["SAFA"], **TINY) if run.config.fov in (360, 70)]
    whole = method_grid("smoke", [0], ["city:midrise"], ["methods"], ["SAFA"], ["raw"], **TINY)
    records = Records(tmp_path / "results")
    assert run_methods([*whole, *grid], records, tmp_path / "runs").failed == {}
    rows = records.read(RUNS)
    assert options_rows(rows).empty, "less view is no option of GeoDTR+"
    table = view_table(rows)
    assert table.columns[3:] == ["seeds", "360°, north known", "360°", "70°"]
    (line,) = (line for line in table.rows if line[1] == "same-area")
    own = rows.set_index(["grid", "fov"])["r1"]
    assert line[3:] == ["1", *(f"{100 * own[key]:.1f}" for key in (("methods", 360), ("views", 360), ("views", 70)))]


def test_the_budget_of_more_views() -> None:
    base = resolve_config("smoke", batch_size=6, epochs=6, warmup_epochs=1.0)
    found = {
        name: (config.batch_size, config.epochs, config.warmup_epochs)
        for name in ("raw", "L+S", "L+S3", "L+S4")
        for config in [equal_budget(base.replace(sampling=name))]
    }
    assert found["raw"] == (12, 12, 2.0)
    assert found["L+S"] == (6, 6, 1.0)
    assert found["L+S3"] == (4, 4, pytest.approx(2 / 3))
    assert found["L+S4"] == (3, 3, 0.5)
    for batch_size, said in ((2, "too small for 4 views"), (5, "batch_size: 5 of two views cannot be made one of 4 views")):
        with pytest.raises(ConfigError, match=said):
            equal_budget(base.replace(sampling="L+S4", batch_size=batch_size))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(methods=["SAFFA"]), "methods: 'SAFFA' is not known; allowed: GeoDTR"),
        (dict(grids=["method"]), "grids: 'method' is not known; allowed: methods, options, views"),
        (dict(areas=["midrise"]), "area: 'midrise' does not name its data set"),
    ],
)
def test_unknown_names_in_the_grid(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method_grid("smoke", **values)


# Run and recorded


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list, Records]:
    folder = tmp_path_factory.mktemp("methods")
    grid = method_grid("smoke", [0], ["city:midrise"], ["methods"], ["SAFA", "Sample4Geo"], ["raw", "L+S"], **TINY)
    records = Records(folder / "results")
    first = run_methods(grid[:1], records, folder / "runs", delete_weights=True)
    assert first.done == [grid[0].name]
    outcome = run_methods(grid, records, folder / "runs")
    assert outcome.failed == {}
    assert outcome.done == [run.name for run in grid[1:]], "what is recorded is not run again"
    return folder, grid, records


def test_each_run_is_a_row_with_recall_and_cost(recorded: tuple[Path, list, Records]) -> None:
    folder, grid, records = recorded
    rows = records.read(RUNS)
    assert sorted(rows["run"]) == sorted(run.key for run in grid)
    assert rows["r1"].between(0, 1).all()
    assert (rows["embedding_bytes"] == 4 * rows["dimension"]).all()
    assert dict(zip(rows["method"], rows["dimension"], strict=True)) == {"SAFA": 8 * 128, "Sample4Geo": 128}
    assert rows["parameters"].gt(rows["parameters_backbones"]).all()
    assert rows["version_commit"].notna().all()
    assert not (folder / "runs" / grid[0].name / "model.safetensors").exists()
    assert (folder / "runs" / grid[1].name / "model.safetensors").exists()
    assert method_status(grid, records) == "city:midrise, seed 0: 4 of 4 runs recorded"


def test_the_tables_of_what_was_recorded(recorded: tuple[Path, list, Records]) -> None:
    rows = recorded[2].read(RUNS)
    table = comparison(rows)
    assert [line[0] for line in table.rows] == ["SAFA", "Sample4Geo"]
    assert {"same, raw", "same, CHSG", "parameters (M)", "views/s", "embedding (bytes)"} <= set(table.columns)
    gains = universality(rows)
    assert list(gains["method"]) == ["SAFA", "Sample4Geo"]
    for row in gains.itertuples():
        own = rows[rows["method"] == row.method].set_index("sampling")["r1"]
        assert row.mean == pytest.approx(own["L+S"] - own["raw"])
        assert row.helps == "undecided", "one seed decides nothing"


def test_what_is_decided_by_several_seeds() -> None:
    rows = pd.DataFrame([
        {"grid": grid, "method": method, "sampling": "L+S", "seed": seed, "train_area": "a", "protocol": "cross", "area": "b", "r1": r1}
        for grid, method, values in [
            ("methods", "GeoDTR+", (0.2, 0.21, 0.19)), ("options", "better", (0.3, 0.32, 0.29)), ("options", "same", (0.21, 0.2, 0.2)),
            ("methods", "SAFA", (0.1, 0.1, 0.1)),
        ]
        for seed, r1 in enumerate(values)
    ])  # fmt: skip
    options = options_rows(rows)
    assert list(dict.fromkeys(options["method"])) == ["GeoDTR+", "better", "same"]
    found = against(options).set_index("method")
    assert found.loc["better", "better"] == "yes"
    assert found.loc["better", "mean"] == pytest.approx(np.mean([0.1, 0.11, 0.1]))
    assert found.loc["same", "better"] == "undecided"
    assert against(rows).set_index("method").loc["SAFA", "better"] == "no"


def test_what_methods_cost() -> None:
    table = what_methods_cost(resolve_config("smoke")).set_index("method")
    assert list(table.index) == list(METHODS)
    assert table.loc["Sample4Geo", "parameters (M)"] < table.loc["SAFA", "parameters (M)"]
    assert table.loc["CVFT", "values"] == 4096
    assert (table["embedding (bytes)"] == 4 * table["values"]).all()


def test_the_command_tells_what_is_left_and_names_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["methods", "--preset", "smoke", "--results", str(tmp_path), "--seeds", "0", "--areas", "city:midrise"]
    assert main([*given, "--status", "--grids", "options"]) == 0
    assert "city:midrise, seed 0: 0 of 10 runs recorded" in capsys.readouterr().out
    assert main([*given, "--methods", "SAFFA"]) == 1
    assert "'SAFFA' is not known" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*given, "--seeds", "a,2"])
    assert "--seeds: 'a,2' are no whole numbers" in capsys.readouterr().err


def test_the_command_of_the_environments_tells_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["environments", "--status", "--results", str(tmp_path), "--seeds", "0,2", "--samplings", "raw,L+S"]
    assert main(given) == 0
    assert capsys.readouterr().out == "0 of 4 trainings tested and recorded\n"
    assert main([*given, "--areas", "midrise"]) == 1
    assert capsys.readouterr().err.startswith("ConfigError: area: 'midrise' does not name its data set")


def test_a_run_on_other_pictures_than_the_recorded_ones_is_refused(recorded: tuple[Path, list, Records]) -> None:
    _, grid, records = recorded
    rows, config = records.read(RUNS), grid[0].config.replace(test_areas=[])
    _check_same_data(config, rows["data_hash"].iloc[0], rows)
    _check_same_data(config.replace(seed=7), "f" * 16, rows)
    with pytest.raises(RunError, match=r"city midrise seed 0: the pairs \(ffffffffffffffff\) are not those of the recorded rows"):
        _check_same_data(config, "f" * 16, rows)


# Environments


def test_a_change_is_of_one_view_and_strength_0_is_the_clear_data() -> None:
    config = resolve_config("smoke", n_test=6, environment="clear")
    clear = open_for(config, "midrise", "test")
    fog, snow = (changes_named([name])[0] for name in ("fog", "tile in snow"))
    foggy, snowy = (open_for(change.apply(config, 1.0), "midrise", "test") for change in (fog, snow))
    places = range(6)
    assert not torch.equal(foggy.ground(places), clear.ground(places))
    for change in CHANGES:
        changed, other = open_for(change.apply(config, 1.0), "midrise", "test"), "aerial" if change.view == "ground" else "ground"
        assert torch.equal(getattr(changed, other)(places), getattr(clear, other)(places)), f"{change.name}: the {other} view stays"
    assert snowy.aerial(places).float().mean() > clear.aerial(places).float().mean() + 10
    assert (foggy.query_position == clear.query_position).all()
    assert fog.apply(config, 0.5).environment == "fog:0.5"
    with pytest.raises(ConfigError, match="'cvusa' is not rendered"):
        fog.apply(resolve_config("smoke", dataset="cvusa", data_root="x"), 0.5)
    with pytest.raises(ConfigError, match=r"changes: 'hail' is not known; allowed: night"):
        changes_named(["hail"])
    assert changes_named() == list(CHANGES)


def test_recalls_under_changes_are_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = environment_trainings("smoke", [0], ["city:midrise"], ["raw"], **TINY)
    records, chosen = Records(tmp_path / "results"), changes_named(["sensor noise"])
    outcome = run_environments(trainings, records, tmp_path / "runs", chosen, [1.0])
    assert outcome.failed == {}
    rows = records.read(RUNS)
    assert list(rows["strength"]) == [0, 1]
    assert set(rows["change"]) == {"sensor noise"}
    assert rows["n_query"].tolist() == [12, 12]
    assert run_environments(trainings, records, tmp_path / "runs", chosen, [1.0]).done == []
    with monkeypatch.context() as patch:
        patch.setattr("geodtr_lib.machine.code_commit", lambda: "later")
        assert len(run_environments(trainings, records, tmp_path / "runs", chosen, [0.5]).done) == 1, "another strength is measured, too"
    more = records.read(RUNS)
    assert sorted(more["strength"]) == [0, 0.5, 1]
    assert set(more["version_commit"]) == set(rows["version_commit"]), "that of the training, however late it was tested"
    assert run_environments(trainings, records, tmp_path / "runs", chosen, [0.5, 1.0]).done == []
    figure = plots.strength_curves(summarise(rows, ["change", "sampling", "strength"]))
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata()[:, 1] == pytest.approx(100 * rows["r1"].to_numpy())


@pytest.mark.parametrize("name", ["fog", "tile in snow"])
def test_embedding_the_changed_view_alone_gives_the_recalls_of_both(name: str, tmp_path: Path) -> None:
    (training,) = environment_trainings("smoke", [0], ["city:midrise"], ["raw"], **TINY)
    config = training.in_folder(tmp_path)
    run(config)
    (change,) = changes_named([name])
    found = recalls_under_changes(config.run_dir, [change], [1.0], ["oldtown"]).set_index("strength").loc[1.0]
    changed = change.apply(config, 1.0)
    whole = evaluate(load_checkpoint(config.run_dir), open_for(changed, "oldtown", "test"), changed)
    assert {key: found[key] for key in whole} == whole


def test_images_with_their_names() -> None:
    images = {f"image {number}": torch.zeros(3, 8, 32, dtype=torch.uint8) for number in range(5)}
    figure = plots.captioned(images, columns=3)
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.images] == list(images)


def test_a_value_for_all_runs_is_typed_as_name_and_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("n_train", "=5", "n_train={"):
        with pytest.raises(SystemExit):
            main(["methods", "--status", "--results", str(tmp_path), "--set", wrong])
        assert repr(wrong) in capsys.readouterr().err
    given = ["--set", "test_areas=[midrise]", "--set", "n_train=16"]
    assert main(["methods", "--status", "--results", str(tmp_path), "--seeds", "0", "--preset", "smoke", *given]) == 0
