"""The tables: each number in its place, with one seed or none as well, and as valid Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_rows import keep_maps, record, record_study

from geodtr_lib import plots
from geodtr_lib.errors import RunError
from geodtr_lib.study import paper_figures
from geodtr_lib.study.claims import Study, claims_table
from geodtr_lib.study.paper_grid import GridRun, paper_grid
from geodtr_lib.study.paper_tables import comparison_table, direction, extra_table, published_tables, raw_table
from geodtr_lib.study.probe_tables import claim_table, descriptor_table, efficiency_table, hard_sample_table
from geodtr_lib.study.readme import claims_block
from geodtr_lib.study.tables import SHARE, Table, with_interval


def recall(run: GridRun, protocol: str) -> float:
    """More descriptors, CHSG and a pretrained trunk help; every seed a little differently."""
    chsg = {"L+S": 0.04, "LS": 0.01}.get(run.cell.values["sampling"], 0.0)
    return 0.3 + chsg + 0.002 * run.config.n_desc + 0.001 * run.seed * run.config.n_desc + 0.2 * (protocol == "same")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = record_study(tmp_path_factory.mktemp("study"), recall)
    keep_maps(folder)
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return Study.read(folder)


def cells(table: Table) -> pd.DataFrame:
    return pd.DataFrame(table.rows, columns=table.columns)


@pytest.mark.parametrize(("name", "n"), [("IV", 8), ("V", 4), ("VI", 4), ("VIII", 7)])
def test_a_table_has_a_row_per_cell_and_the_published_numbers_beside_it(study: Study, name: str, n: int) -> None:
    table = comparison_table(name, study.runs, "city")
    frame = cells(table)
    assert len(frame) == n
    assert (frame["n"] == "6").all()
    assert frame.iloc[-1 if name != "V" else 0]["cross: minus reference"] == "reference"
    assert "61.17" in " ".join(frame["cross: published"])
    assert any("midrise and oldtown, 3 seeds" in note for note in table.notes)


def test_table_6_says_means_differences_and_directions(study: Study) -> None:
    frame = cells(comparison_table("VI", study.runs, "city")).set_index(["sampling", "batch"])
    assert frame.loc[("CHSG", "B"), "cross-area"].startswith("36.4 [")
    assert frame.loc[("LS", "2B"), "cross: minus reference"] == "-3.0 [-3.0, -3.0]"
    assert frame.loc[("LS", "2B"), "cross: published difference"] == "-3.99"
    assert frame.loc[("LS", "2B"), "cross: direction"] == "as published"
    assert frame.loc[("LS", "2B"), "same: direction"] == "opposite", "there LS with 64 is ahead by 0.84"


def test_table_5_says_what_an_embedding_and_the_search_cost(study: Study) -> None:
    efficiency = pd.DataFrame({"model": ["GeoDTR", "GeoDTR+", "GeoDTR+, 2 descriptors"], "n_desc": [8, 8, 2], "search_ms": [9.0, 1.5, 0.5]})
    frame = cells(comparison_table("V", study.runs, "city", efficiency)).set_index("descriptors")
    assert frame.loc["2", "embedding (bytes)"] == "896"
    assert frame.loc["2", "published dimension"] == "768"
    assert frame["search, published dimension, among 8,884 (ms)"].to_dict() == {"8": "1.50", "6": "–", "4": "–", "2": "0.50"}


def test_an_interval_decides_whether_a_direction_is_told() -> None:
    found = {"mean": 0.02, "low": 0.01, "high": 0.03}
    assert direction(found, 1.5) == "as published"
    assert direction(found, -1.5) == "opposite"
    assert direction({**found, "low": -0.01}, 1.5) == "open (as published)"
    assert direction({"mean": 0.02, "low": float("nan"), "high": float("nan")}, -1.0) == "open (opposite)"
    assert direction({}, 1.0) == "–"


def test_numbers_are_written_with_what_is_known_of_them() -> None:
    assert with_interval({"mean": 0.5, "low": 0.4, "high": 0.6}) == "50.0 [40.0, 60.0]"
    assert with_interval({"mean": 0.5, "low": float("nan"), "high": float("nan")}) == "50.0"
    assert with_interval({}) == "–"
    assert with_interval({"mean": 0.98, "low": 0.93, "high": 1.03}, limits=SHARE) == "98.0 [93.0, 100.0]", "more than all is not possible"
    assert with_interval({"mean": 0.98, "low": float("nan"), "high": float("nan")}, limits=SHARE) == "98.0"
    assert with_interval({"mean": 0.01, "low": -0.01, "high": 0.03}, sign=True) == "+1.0 [-1.0, +3.0]"


def test_the_extra_grid_compares_the_arms_of_each_condition(study: Study) -> None:
    frame = cells(extra_table(study.runs)).set_index("condition")
    assert len(frame) == 10
    assert frame["cross: CHSG minus LS (2B)"].str.startswith("+3.0 [").all()
    assert (frame["n"] == "6").all()


def test_ls_is_compared_with_raw_pairs_at_equal_views_with_all_and_with_few_places(study: Study) -> None:
    frame = cells(raw_table(study.runs)).set_index("condition")
    assert frame.index.tolist() == ["as the reference", "a quarter of the places, same steps"]
    means = study.runs[study.runs["dataset"] == "city"].groupby(["cell", "protocol"])["r1"].mean() * 100
    for row, (raw, ls) in zip(frame.to_dict("records"), (("raw-2b", "ls-2b"), ("few-raw-2b", "few-ls-2b")), strict=True):
        assert row["cross: raw (2B)"].startswith(f"{means[raw, 'cross']:.1f} [")
        assert row["same: LS (2B) minus raw (2B)"].startswith(f"{means[ls, 'same'] - means[raw, 'same']:+.1f} [")
        assert row["n"] == "6"


def test_the_arms_of_a_condition_are_means_of_the_trainings_that_have_both(study: Study) -> None:
    runs = study.runs[~((study.runs["cell"] == "raw-2b") & (study.runs["seed"] > 0))]
    (first, _) = cells(raw_table(runs)).to_dict("records")
    ls = runs[(runs["cell"] == "ls-2b") & (runs["dataset"] == "city") & (runs["protocol"] == "same") & (runs["seed"] == 0)]
    assert first["n"] == "2"
    assert first["same: LS (2B)"] == f"{100 * ls['r1'].mean():.1f}", "of two trainings no interval"
    (none, _) = cells(raw_table(runs[runs["cell"] != "raw-2b"])).to_dict("records")
    assert (none["same: LS (2B)"], none["n"]) == ("–", "0")


def test_latex_has_its_signs_escaped_and_markdown_its_columns() -> None:
    table = Table("name", "A title", ["R@1%", "a_b"], [["1", "50 %"]], ["100 % & more"])
    assert r"R@1\%" in table.latex()
    assert r"a\_b" in table.latex()
    assert r"100 \% \& more" in table.latex()
    assert r"\toprule" in table.latex()
    assert table.markdown().splitlines()[0] == "**A title**"
    assert "| 1" in table.markdown()


def test_published_tables_are_as_printed() -> None:
    one, two, three = published_tables()
    assert ["GeoDTR+", "1", "CVUSA", "95.40", "98.44", "99.05", "99.75"] in one.rows
    assert ["GeoDTR+", "1", "CVACT->CVUSA", "53.89", "74.56", "81.10", "94.93"] in two.rows
    assert three.columns[-1] == "hit rate"


def test_efficiency_stands_beside_the_published_with_the_footnote() -> None:
    assert len(efficiency_table(pd.DataFrame()).rows) == 4
    row = {"model": "GeoDTR+", "version_machine": "a machine", "aerial_size": "122x671", "batch": 32, "embedding_bytes": 12288}
    row |= {"parameters": 30_190_000, "backbone_parameters": 24_700_000, "multiply_adds": 12e9, "gallery_bytes": 109e6}
    row |= {"pair_ms": 3.21, "batch_ms": 1234.5, "search_ms": 1.5}
    table = efficiency_table(pd.DataFrame([row]))
    assert table.rows[-1][2:] == ["30.19", "24.70", "12.00", "3.2", "1234 (32 pairs)", "12,288", "109.0", "1.50"]
    assert "two backbones alone" in table.notes[0]


def test_tables_of_probes_have_rows_for_what_is_recorded(study: Study) -> None:
    hard = cells(hard_sample_table(study.probes)).set_index("sampling")
    assert hard.index.tolist() == ["raw", "LS", "LS (2B)", "CHSG", "CHSG minus LS (2B)"]
    assert hard.loc["CHSG minus LS (2B)", "flip"].startswith("+0.008 ["), "a quarter of three points"
    described = cells(descriptor_table(study.probes))
    assert described["model"].tolist() == ["v2", "v1", "v2, no polar", "v1, no polar", "v2, LS (2B)", "v2, range and start as released"]
    claims = cells(claim_table(claims_table(study)))
    assert claims.iloc[1]["verdict"] == "**holds**"


def test_the_readmes_block_names_preset_seeds_machine_and_commit(folder: Path, tmp_path: Path) -> None:
    block = claims_block(folder)
    assert "holds: +3.0 [+3.0, +3.0], n = 6" in block
    assert "228 runs; seeds 0, 1, 2; preset `smoke` (city: 64 places, 1 epochs, batch 8); machines: a machine; commits: abc1234." in block
    assert claims_block(tmp_path).startswith("No run of the study's grid is recorded yet")


def test_one_seed_of_one_cell_is_enough_for_every_table_and_most_figures(tmp_path: Path) -> None:
    record(tmp_path, paper_grid("smoke", [0], ["osm:monaco"])[:1], recall)
    study = Study.read(tmp_path)
    for name in ("IV", "V", "VI", "VIII"):
        assert "–" in comparison_table(name, study.runs, "osm").markdown()
    claims = claims_table(study)
    for table in (extra_table(study.runs, "osm"), hard_sample_table(study.probes), descriptor_table(study.probes), claim_table(claims)):
        assert table.markdown()
    for figure in (paper_figures.figure1(tmp_path), paper_figures.figure9(tmp_path), paper_figures.figure10(tmp_path, "osm")):
        assert figure.axes
    assert paper_figures.claim_differences(claims).axes
    with pytest.raises(RunError, match="no training in common"):
        paper_figures.chsg_step(study.runs)
    with pytest.raises(RunError, match=r"city-midrise-reference\.npz is not there yet"):
        paper_figures.figure7(tmp_path)


def test_figure_1_has_the_published_points(folder: Path) -> None:
    points = paper_figures.published_same_and_cross().set_index(["label", "group"])
    assert tuple(points.loc[("GeoDTR+", "CVUSA")]) == (95.40, 61.17)
    assert tuple(points.loc[("GeoDTR+ (no polar)", "VIGOR")]) == (59.01, 36.01)
    assert len(points) == 8 * 2 + 6
    published, measured = paper_figures.figure1(folder).axes
    assert (published.get_title(), measured.get_title()) == ("published", "measured here (n = 3)")


def test_figures_7_and_8_show_the_stored_maps(folder: Path) -> None:
    assert [axes.get_title() for axes in paper_figures.figure7(folder, polar=False).axes if axes.get_title()] == [
        "tile", "unrolled afterwards", "panorama",
    ]  # fmt: skip
    titles = [axes.get_title() for axes in paper_figures.figure8(folder).axes if axes.get_title()]
    assert titles == ["v1, unrolled tile", "v1, panorama", "v2, unrolled tile", "v2, panorama"]


def test_figures_9_and_10_say_how_many(folder: Path, study: Study) -> None:
    (axes,) = paper_figures.figure9(folder).axes
    assert axes.get_legend().get_title().get_text().endswith("n = 6")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{name}: 1" for name in ("raw", "LS", "LS (2B)", "CHSG")]
    assert (axes.get_xlabel(), axes.lines[0].get_xdata().tolist()) == ("training step", [10, 20, 30])
    titles = [axes.get_title() for axes in paper_figures.figure10(folder).axes]
    shown = [f"{name}, {protocol}-area" for name in ("LS (2B)", "CHSG") for protocol in ("same", "cross")]
    assert titles == [f"{title}, 6 trainings (120 pairs of a kind)" for title in shown]
    with pytest.raises(RunError, match="no run on osm yet"):
        paper_figures.figure10(folder, "osm")
    assert len(paper_figures.chsg_step(study.runs).axes[0].get_yticks()) == 10


def test_a_step_near_chance_is_hollow(study: Study) -> None:
    runs = study.runs.copy()
    arms = runs["cell"].isin(["resnet18", "resnet18-ls-2b"]) & (runs["protocol"] == "cross")
    runs.loc[arms, "r1"] = runs.loc[arms, "r1"] / 30
    figure = paper_figures.chsg_step(runs)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    hollow = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [labels[round(place)] for place in hollow] == ["city, ResNet-18 from scratch"]
    assert "R@1 below 2 % in both arms" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_figure_of_claims_shows_what_each_is_judged_by(study: Study) -> None:
    figure = paper_figures.claim_differences(claims_table(study))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    marks = [
        (labels[round(np.mean(line.get_ydata()))], line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_linestyle() == "--"
    ]
    assert ("8 − 2 descriptors, cross-area: at most 4 points", 4.0) in marks
    assert [bound for label, bound in marks if label == "CHSG − LS at equal batch, same-area"] == [-2.0, 2.0]
    (other,) = [line for line in figure.axes[0].lines if line.get_marker() == "X" and line.get_markerfacecolor() == "white"]
    assert all("LS(2B) at equal views and steps" in labels[place] for place in other.get_ydata())


def test_a_figure_of_intervals_draws_what_it_is_given() -> None:
    rows = pd.DataFrame({"label": ["a", "b"], "mean": [1.0, -2.0], "low": [0.5, float("nan")], "high": [1.5, float("nan")], "n": [3, 1]})
    axes = plots.intervals(rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["n = 3", "n = 1"]
