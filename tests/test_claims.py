"""Claims: the rule is as it is stated, and the differences are those of the runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from study_rows import record, record_study

from geodtr_lib.errors import RunError
from geodtr_lib.study.claims import BOTH, CLAIMS, FAILS, HOLDS, UNDECIDED, Study, claims_table, verdict
from geodtr_lib.study.measured import cell_difference, cell_summary, study_table
from geodtr_lib.study.paper_grid import GridRun, paper_grid
from geodtr_lib.study.records import RUNS


def recall(run: GridRun, protocol: str) -> float:
    """CHSG gains four points across areas over LS and nothing else matters; a training has an offset of its own that cancels."""
    gain = 0.04 if run.cell.values["sampling"] == "L+S" and protocol == "cross" else 0.0
    noise = 0.001 * (run.seed - 1) * (run.cell.name == "reference")
    return 0.2 + gain + noise + 0.05 * run.seed + (0.1 if run.area == "city:oldtown" else 0.0) + (0.3 if protocol == "same" else 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_study(tmp_path_factory.mktemp("study"), recall, areas=("city:midrise", "city:oldtown", "osm:monaco"))


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("more", 0.1, 5.0, HOLDS),
        ("more", 0.1, 0.5, HOLDS),
        ("more", -1.0, 0.9, FAILS),
        ("more", -3.0, -1.0, FAILS),
        ("more", -1.0, 3.0, UNDECIDED),
        ("same", -0.9, 0.9, HOLDS),
        ("same", -0.5, 1.5, UNDECIDED),
        ("same", 1.1, 3.0, FAILS),
        ("same", -3.0, -1.1, FAILS),
        ("at most", -9.0, 0.9, HOLDS),
        ("at most", 1.1, 2.0, FAILS),
        ("at most", 0.5, 2.0, UNDECIDED),
    ],
)
def test_the_verdict_follows_from_the_interval_and_a_margin_of_one(kind: str, low: float, high: float, expected: str) -> None:
    assert verdict(kind, 1.0, low, high, 3) == expected
    assert verdict(kind, 1.0, low, high, 2) == UNDECIDED, "two trainings decide nothing"


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="allowed: more, same, at most"):
        verdict("less", 1.0, 0.0, 0.0, 3)


def test_differences_are_paired_so_that_what_trainings_differ_in_cancels(folder: Path) -> None:
    table = claims_table(Study.read(folder)).set_index(["claim", "dataset"])
    row = table.loc[("chsg-cross-equal-views", "city")]
    assert (row["n"], row["verdict"]) == (6, HOLDS)
    assert row["mean"] == pytest.approx(4.0)
    half = 2.570582 * np.std([-0.1, -0.1, 0, 0, 0.1, 0.1], ddof=1) / 6**0.5  # t of 5 degrees of freedom
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=1e-5)
    assert table.loc[("chsg-same-equal-views", "city"), "verdict"] == HOLDS
    assert table.loc[("ls-cross", "city"), "verdict"] == FAILS, "raw is as good: a gain of less than a point is none"
    assert table.loc[("chsg-cross-equal-views", BOTH), "n"] == 3, "areas: of two data sets"
    assert table.loc[("chsg-cross-equal-views", BOTH), ["mean", "low", "high"]].tolist() == pytest.approx([4, 4, 4])
    assert table.loc[("gle-long", BOTH), "n"] == 0, "the extra grid is made on one data set"
    aligned = [0.1 + 0.15 + 0.02 + 0.05 * seed + 0.001 * (seed - 1) for seed in range(3)]
    assert table.loc[("alignment", "osm"), "mean"] == pytest.approx(np.mean(aligned), abs=1e-5)


def test_the_published_differences_are_the_papers(folder: Path) -> None:
    printed = claims_table(Study.read(folder)).drop_duplicates("claim").set_index("claim")["published"]
    assert printed["chsg-cross"] == pytest.approx(61.17 - 58.62)
    assert printed["chsg-cross-equal-views"] == pytest.approx(61.17 - 57.18)
    assert printed["gle-resnet-ls"] == pytest.approx(((54.05 - 53.16) + (45.44 - 44.07)) / 2)
    assert printed["descriptors-loss"] == pytest.approx(((61.17 - 59.21) + (53.89 - 50.68)) / 2)
    assert np.isnan(printed["alignment"])


def test_every_claim_asks_for_cells_that_the_grid_has(folder: Path) -> None:
    table = claims_table(Study.read(folder))
    city = table[table["dataset"] == "city"]
    assert len(city) == len(CLAIMS) == len({claim.name for claim in CLAIMS})
    assert (city["n"] == 6).all()


def test_one_run_is_enough_for_a_table_without_verdicts(tmp_path: Path) -> None:
    record(tmp_path, paper_grid("smoke", [0], ["city:midrise"])[:1], recall)
    table = claims_table(Study.read(tmp_path))
    assert (table["verdict"] == UNDECIDED).all()
    assert table.set_index("claim").loc["alignment", "n"] == 1
    assert table.set_index("claim").loc["chsg-cross", "n"] == 0
    assert cell_difference(study_table(tmp_path), "ls").empty


def test_a_best_variant_is_named_only_once_all_have_run(tmp_path: Path) -> None:
    """Until then LS and raw would be the only others, and whoever is missing might be better."""
    some = [run for run in paper_grid("smoke", (0, 1), ("city:midrise",)) if run.cell.name in ("reference", "ls", "raw")]
    claims = claims_table(Study.read(record(tmp_path / "some", some, recall))).set_index("claim")
    assert claims.loc["variant", "n"] == 0
    assert claims.loc["chsg-cross", "n"] == 2


def test_means_are_over_trainings(folder: Path) -> None:
    runs = study_table(folder)
    row = cell_summary(runs).set_index(["dataset", "cell", "protocol"]).loc[("osm", "raw", "cross")]
    assert (row["mean"], row["n"]) == (pytest.approx(0.25), 3)
    differences = cell_difference(runs, "ls").set_index(["dataset", "protocol", "cell"])
    assert differences.loc[("city", "cross", "reference"), "mean"] == pytest.approx(0.04)


def test_runs_on_different_test_pairs_are_not_paired(tmp_path: Path) -> None:
    record_study(tmp_path, recall, seeds=[0], areas=["city:midrise"])
    path = tmp_path / RUNS
    path.write_text(path.read_text().replace("midrise0", "another", 1))
    with pytest.raises(RunError, match=r"mixes runs on different test pairs \(city midrise seed 0\)"):
        study_table(tmp_path)


def test_a_folder_without_runs_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"study\.csv has no runs yet; `python -m geodtr_lib\.study grid` makes them"):
        Study.read(tmp_path)
