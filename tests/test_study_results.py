"""Tables of results: every number here can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from finished_runs import finish
from nbformat import v4

from geodtr_lib import study
from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.errors import ConfigError, RunError
from geodtr_lib.study.__main__ import main
from geodtr_lib.study.results import t_interval

# Tables


def test_one_row_per_run_and_area_with_configuration_and_times(tmp_path: Path) -> None:
    config = resolve_config("smoke", n_desc=4, seed=3, run_dir=str(tmp_path / "a"))
    finish(config, {"midrise": {"r1": 0.5, "r1pct": 0.75}, "suburb": {"r1": 0.25, "r1pct": 0.5}})
    (tmp_path / "unfinished").mkdir()
    frame = study.collect(tmp_path)
    assert frame[["area", "protocol", "r1", "r1pct"]].values.tolist() == [["midrise", "same", 0.5, 0.75], ["suburb", "cross", 0.25, 0.5]]
    for name, value in {
        "n_desc": 4, "seed": 3, "loss": "triplet", "final_loss": 1.5, "final_triplet_loss": 0.5, "seconds": 2.0, "version_torch": "2.14",
        "data_hash": "ab", "data_n_train": 64, "n_train": 64, "ground_size": "[16, 64]", "evaluation_seconds": 0.5,
    }.items():  # fmt: skip
        assert (frame[name] == value).all(), name


def test_unreadable_results_are_named_in_one_warning_and_the_rest_is_kept(tmp_path: Path) -> None:
    finish(resolve_config("smoke", run_dir=str(tmp_path / "good")))
    for name, content in {"cut": '{"config', "list": "[]", "empty": "{}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(content)
    with pytest.warns(UserWarning, match=r"left out: .*cut.*empty.*list") as caught:
        frame = study.collect(tmp_path)
    assert len(caught) == 1
    assert len(frame) == 1


def test_a_folder_of_runs_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere is not a folder"):
        study.collect(tmp_path / "nowhere")


def results(values: dict[tuple[str, int, str], float], **more: Any) -> pd.DataFrame:
    """A table of results from {(sampling, seed, area): r1}."""
    rows = [{"sampling": sampling, "seed": seed, "area": area, "r1": r1, **more} for (sampling, seed, area), r1 in values.items()]
    return pd.DataFrame(rows)


def test_the_interval_is_students_over_seeds() -> None:
    frame = results({("LS", 0, "a"): 0.10, ("LS", 1, "a"): 0.12, ("LS", 2, "a"): 0.17, ("raw", 0, "a"): 0.05})
    summary = study.summarise(frame, "sampling").set_index("sampling")
    half = 4.302653 * np.std([0.10, 0.12, 0.17], ddof=1) / np.sqrt(3)  # t(0.975, 2 degrees of freedom), from a printed table
    assert summary.loc["LS", ["mean", "low", "high"]].tolist() == pytest.approx([0.13, 0.13 - half, 0.13 + half], abs=1e-7)
    assert summary.loc["LS", "n"] == 3
    assert summary.loc["raw", "mean"] == 0.05
    assert np.isnan([summary.loc["raw", "low"], summary.loc["raw", "high"]]).all(), "one seed tells nothing of the spread"


def test_two_seeds_have_a_mean_and_no_interval() -> None:
    (row,) = study.summarise(results({("LS", 0, "a"): 0.1, ("LS", 1, "a"): 0.3}), "sampling").to_dict("records")
    assert (row["mean"], row["n"]) == (pytest.approx(0.2), 2)
    assert np.isnan([row["low"], row["high"]]).all()


def test_what_is_not_known_does_not_count() -> None:
    known = t_interval(pd.Series([1.0, 2.0, 3.0]))
    pd.testing.assert_series_equal(t_interval(pd.Series([1.0, np.nan, 2.0, 3.0])), known)
    nothing = results({("LS", 0, "a"): np.nan, ("raw", 0, "a"): np.nan})
    assert study.summarise(nothing, "sampling").empty
    unnamed = results({("LS", 0, "a"): 0.3, ("raw", 0, "a"): 0.1}, protocol=np.nan)
    (row,) = study.paired_difference(unnamed, "sampling", "raw", within="protocol").to_dict("records")
    assert row["mean"] == pytest.approx(0.2), "rows without a name for a column are a group of their own"


def test_areas_are_averaged_within_a_seed_and_do_not_count_as_repetitions() -> None:
    frame = results({("LS", 0, "a"): 0.1, ("LS", 0, "b"): 0.3, ("LS", 1, "a"): 0.2, ("LS", 1, "b"): 0.4})
    (row,) = study.summarise(frame, "sampling").to_dict("records")
    assert (row["n"], row["mean"]) == (2, pytest.approx(0.25))
    by_area = study.summarise(frame, ["sampling", "area"])
    assert by_area["mean"].tolist() == pytest.approx([0.15, 0.35])


def test_equal_seeds_give_an_interval_of_no_width() -> None:
    (row,) = study.summarise(results({("LS", seed, "a"): 0.5 for seed in range(3)}), "sampling").to_dict("records")
    assert (row["low"], row["high"]) == (0.5, 0.5)


def test_a_difference_is_paired_by_seed_and_area() -> None:
    # Seeds differ far more than samplings do; only pairing shows the difference of 0.02, 0.03 and 0.04.
    of_ls, of_chsg = (0.10, 0.50, 0.90), (0.12, 0.53, 0.94)
    frame = results({("LS", s, "a"): r1 for s, r1 in enumerate(of_ls)} | {("L+S", s, "a"): r1 for s, r1 in enumerate(of_chsg)})
    (row,) = study.paired_difference(frame, "sampling", "LS").to_dict("records")
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert row["sampling"] == "L+S"
    assert [row["mean"], row["low"], row["high"]] == pytest.approx([0.03, 0.03 - half, 0.03 + half], abs=1e-7)
    assert row["n"] == 3
    unpaired = study.summarise(frame, "sampling")
    assert unpaired["low"].max() < unpaired["mean"].min() < unpaired["high"].min()


def test_a_seed_that_only_one_side_has_is_left_out_of_the_difference() -> None:
    frame = results({("LS", 0, "a"): 0.1, ("L+S", 0, "a"): 0.3, ("L+S", 1, "a"): 0.9, ("S", 5, "a"): 0.2})
    (row,) = study.paired_difference(frame, "sampling", "LS").to_dict("records")
    assert (row["sampling"], row["mean"], row["n"]) == ("L+S", pytest.approx(0.2), 1)


def test_differences_are_made_within_each_protocol_and_for_several_columns() -> None:
    same = results({("LS", 0, "a"): 0.5, ("LS", 1, "a"): 0.7, ("raw", 0, "a"): 0.4, ("raw", 1, "a"): 0.6}, protocol="same", gle="v2")
    cross = results({("LS", 0, "b"): 0.2, ("LS", 1, "b"): 0.3, ("raw", 0, "b"): 0.0, ("raw", 1, "b"): 0.1}, protocol="cross", gle="v2")
    frame = pd.concat([same, cross])
    found = study.paired_difference(frame, ["sampling", "gle"], ("raw", "v2"), within="protocol").set_index("protocol")
    assert found["mean"].to_dict() == pytest.approx({"same": 0.1, "cross": 0.2})
    named = study.paired_difference(frame, ["sampling", "gle"], {"sampling": "raw", "gle": "v2"}, within="protocol")
    pd.testing.assert_frame_equal(named, found.reset_index())


def test_different_configurations_are_not_mixed_silently() -> None:
    frame = pd.concat([results({("LS", 0, "a"): 0.1}, n_desc=8), results({("LS", 0, "a"): 0.3}, n_desc=4)])
    with pytest.raises(ConfigError, match="they differ in n_desc: group by it"):
        study.summarise(frame, "sampling")
    with pytest.raises(ConfigError, match="they differ in n_desc"):
        study.paired_difference(frame, "sampling", "LS")
    assert study.summarise(frame, ["sampling", "n_desc"])["n"].tolist() == [1, 1]


def test_a_column_or_reference_that_is_not_there_is_named() -> None:
    frame = results({("LS", 0, "a"): 0.1})
    with pytest.raises(ConfigError, match="no column 'n_dsec'.*sampling, seed, area, r1"):
        study.summarise(frame, "n_dsec")
    with pytest.raises(ConfigError, match="reference .*raw.* is not in the table.*LS"):
        study.paired_difference(frame, "sampling", "raw")
    with pytest.raises(ConfigError, match="no run is finished"):
        study.summarise(pd.DataFrame(), "sampling")


# The paper's tables


@pytest.mark.parametrize(
    ("values", "table", "same", "cross"),
    [
        ({"n_desc": 4}, "Table V", 94.57, 60.21),
        ({"n_desc": 2}, "Table V", 93.59, 59.21),
        ({"gle": "v1"}, "Table IV", 94.97, 57.03),
        ({"gle": "v1", "sampling": "LS"}, "Table IV", 95.43, 53.16),
        ({"sampling": "LS"}, "Table VI", 95.90, 58.62),
        ({"sampling": "LS", "batch_size": 64}, "Table VI", 96.24, 57.18),
        ({"sampling": "raw"}, "Table VIII", 95.77, 53.65),
        ({"sampling": "L+sameS"}, "Table VIII", 95.55, 59.46),  # "same S + L"
        ({"sampling": "sameL+S"}, "Table VIII", 95.62, 59.16),  # "S + same L"
        ({}, "Table VIII", 95.40, 61.17),
        ({"polar": False}, "Table I", 95.05, None),
        ({"polar": False, "gle": "v1", "sampling": "LS"}, "Table I", 93.76, None),
    ],
)
def test_the_published_row_of_a_configuration(values: dict[str, Any], table: str, same: float, cross: float | None) -> None:
    rows = study.published_rows(resolve_config("smoke", **values))
    found = rows[(rows["table"] == table) & rows["data"].isin(["CVUSA", "CVUSA -> CVACT"])].set_index("protocol")["r1"].to_dict()
    assert found == ({"same": same, "cross": cross} if cross else {"same": same})


def test_vigor_is_set_beside_its_own_table() -> None:
    rows = study.published_rows(resolve_config("smoke", dataset="vigor", polar=False))
    assert rows[["table", "data", "protocol", "r1", "hit_rate"]].values.tolist() == [
        ["Table III", "VIGOR", "same", 59.01, 67.41],
        ["Table III", "VIGOR", "cross", 36.01, 39.40],
    ]


def test_without_polar_transform_the_cross_area_row_is_of_table_2() -> None:
    rows = study.published_rows(resolve_config("smoke", polar=False))
    assert rows[rows["table"] == "Table II"][["data", "r1"]].values.tolist() == [["CVUSA -> CVACT", 60.16], ["CVACT -> CVUSA", 52.56]]


@pytest.mark.parametrize(
    "values",
    [
        {"n_desc": 5},
        {"loss": "infonce"},
        {"n_desc": 4, "sampling": "raw"},
        {"sampling": "L2"},
        {"fov": 90.0},
        {"heading": "random"},
        {"gle": "v1", "sampling": "raw"},
        {"polar": False, "sampling": "raw"},
        {"dataset": "vigor", "n_desc": 4},
    ],
)
def test_no_row_is_shown_for_a_model_that_the_paper_does_not_have(values: dict[str, Any]) -> None:
    assert study.published_rows(resolve_config("smoke", **values)).empty


def test_every_published_table_reads_and_an_unknown_one_is_named() -> None:
    names = [path.stem for path in (Path(study.__file__).parents[1] / "published").glob("*.csv")]
    assert len(names) == 8
    for name in names:
        table = study.published(name)
        assert len(table) >= 4
        recalls = table[[column for column in table if column in ("r1", "r5", "r10", "r1pct")]]
        assert ((recalls > 0) & (recalls <= 100)).all(axis=None)
        if {"r1", "r5", "r10"} <= set(recalls):
            assert (recalls["r1"] < recalls["r5"]).all()
            assert (recalls["r5"] < recalls["r10"]).all()
    with pytest.raises(ConfigError, match="unknown table 'table9'; known: table1_same_area"):
        study.published("table9")


# What one run found


@pytest.fixture
def finished(tmp_path: Path) -> RunConfig:
    config = resolve_config("smoke", n_desc=4, train_area="midrise", run_dir=str(tmp_path / "run"))
    same = {"r1": 0.5, "r5": 0.75, "r10": 0.875, "r1pct": 0.5}
    cross = {"r1": 0.125, "r5": 0.2, "r10": 0.3, "r1pct": 0.125}
    finish(config, {"midrise": same, "suburb": cross})
    return config


def test_the_report_names_a_table_that_holds_the_recalls(finished: RunConfig) -> None:
    first, *lines = study.report(finished.run_dir).splitlines()
    path = Path(first.removeprefix("Result table: "))
    table = pd.read_csv(path)
    assert table["area"].tolist() == ["midrise", "suburb"]
    assert table["R@1"].tolist() == [50.0, 12.5]
    assert lines[0].split() == ["area", "protocol", "queries", "gallery", "R@1", "R@5", "R@10", "R@1%"]
    assert lines[2].split() == ["suburb", "cross", "64", "64", "12.50", "20.00", "30.00", "12.50"]


def test_measured_and_published_rows_are_told_apart(finished: RunConfig) -> None:
    table = study.beside_published(json.loads((Path(finished.run_dir) / "metrics.json").read_text()))
    assert table["source"].tolist() == ["measured here"] * 2 + ["published, Table V"] * 4
    assert table["data"].tolist()[:3] == ["city midrise", "city midrise -> suburb", "CVUSA"]
    assert table["R@1"].tolist()[:3] == [50.0, 12.5, 94.57]


def test_show_prints_the_report_of_a_folder_and_the_end_of_a_notebook(
    finished: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", finished.run_dir]) == 0
    assert "Result table: " in capsys.readouterr().out
    printed = v4.new_output("stream", name="stdout", text="Result table: here\n")
    cells = [v4.new_code_cell("1"), v4.new_code_cell("print()", outputs=[printed])]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    assert main(["show", str(tmp_path / "n.ipynb")]) == 0
    assert capsys.readouterr().out == "Result table: here\n"


@pytest.mark.parametrize("name", ["", "no.ipynb", "unrun.ipynb"])
def test_show_says_in_one_line_what_is_missing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), tmp_path / "unrun.ipynb")
    assert main(["show", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("RunError: ")
    assert err.count("\n") == 1
