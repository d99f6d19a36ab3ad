"""The printed comparison of methods says what its rows say: means, paired gains, intervals over seeds and over methods."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from geodtr_lib.errors import RunError
from geodtr_lib.study.baseline_grid import CHOSEN_ON, METHODS, OPTIONS, OTHER_LOSS, STEPS
from geodtr_lib.study.baseline_report import (
    PAIRS,
    comparison,
    gains,
    mean_gains,
    method_recalls,
    method_tables,
    methods_text,
    option_table,
    part_table,
)
from geodtr_lib.study.baseline_tables import across_methods, options_rows, relative_seconds, what_parts_add
from geodtr_lib.study.environment_report import (
    environment_curves,
    environment_gains,
    environment_table,
    environment_tables,
    environments_text,
    what_is_left,
)
from geodtr_lib.study.records import RUNS, Records
from geodtr_lib.study.view_report import view_recalls, view_table, view_tables

GAIN = {"SAFA": 0.05, "DSM": 0.03, "TransGeo": -0.01}
COMMON = dict(preset="smoke", version_machine="a machine", version_commit="abc", parameters=2_500_000, embedding_bytes=512)
COMMON |= dict(precision="bf16", pairs_per_second=40.0, views=1, seconds=60.0, dataset="city", train_area="midrise", n_query=500)


def rows(seeds: tuple[int, ...] = (0, 2, 3), methods: tuple[str, ...] = tuple(GAIN)) -> pd.DataFrame:
    """Raw at 10 % + seed; LS adds half of a method's gain, CHSG the whole; same-area is 40 points above."""
    found = []
    for method in methods:
        for sampling, share in (("raw", 0.0), ("LS", 0.5), ("L+S", 1.0)):
            for seed in seeds:
                for area, protocol, base in (("midrise", "same", 0.5), ("oldtown", "cross", 0.1)):
                    r1 = base + seed / 100 + share * GAIN.get(method, 0.5)
                    labels = dict(run=f"{method}{sampling}{seed}", grid="methods", method=method, sampling=sampling, seed=seed, area=area)
                    found.append({**COMMON, **labels, "protocol": protocol, "r1": r1})
    return pd.DataFrame(found)


def test_a_row_of_the_comparison_has_recalls_and_cost() -> None:
    table = comparison(rows())
    assert table.name == "methods_city_midrise"
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert first["method"] == "SAFA"
    half = stats.t.ppf(0.975, 2) * np.std([10, 12, 13], ddof=1) / np.sqrt(3)
    mean = 10 + 5 / 3
    assert first["cross, raw"] == f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"
    assert first["cross, CHSG"].startswith(f"{mean + 5:.1f} [")
    assert (first["parameters (M)"], first["embedding (bytes)"], first["views/s"]) == ("2.50", "512", "40")
    assert "seeds 0, 2, 3" in table.notes[0]


def test_speeds_of_different_commits_are_not_put_side_by_side() -> None:
    mixed = rows()
    quick = (mixed["method"] == "SAFA") & (mixed["sampling"] == "LS")
    mixed.loc[quick, ["version_commit", "pairs_per_second"]] = ["later", 400.0]
    mixed["precision"] = np.where(quick, "bf16", "fp32")
    table = comparison(mixed)
    assert {line[0]: line[-1] for line in table.rows} == {"SAFA": "40", "DSM": "40", "TransGeo": "40"}
    mixed.loc[mixed["sampling"] == "L+S", ["views", "pairs_per_second"]] = [2, 20.0]
    assert [line[-1] for line in comparison(mixed).rows] == ["40", "40", "40"], "the same views, and half the places"
    assert "machines: a machine (bf16); a machine (fp32); commits: abc; later." in table.notes[-1]


def test_one_seed_has_no_interval_and_what_was_not_run_is_a_dash() -> None:
    part = rows((0,))
    part = part[~((part["method"] == "DSM") & (part["sampling"] == "L+S"))]
    lines = {line[0]: dict(zip(comparison(part).columns, line, strict=True)) for line in comparison(part).rows}
    assert lines["SAFA"]["cross, raw"] == "10.0"
    assert lines["DSM"]["cross, CHSG"] == "–"
    assert "seed 0 alone, so no interval" in comparison(part).notes[0]


def test_methods_are_compared_on_the_seeds_that_all_have() -> None:
    some = pd.concat([rows((0,)), rows((2, 3), ("SAFA",))])
    pd.testing.assert_frame_equal(pd.DataFrame(comparison(some).rows), pd.DataFrame(comparison(rows((0,))).rows))
    apart = pd.concat([rows((0,), ("SAFA",)), rows((2, 3), ("DSM",))])
    assert [line[0] for line in comparison(apart).rows] == ["SAFA", "DSM"], "no seed in common: all are shown"


def test_gains_are_paired_so_the_seeds_spread_drops_out() -> None:
    table = gains(rows())
    lines = {line[1]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert lines["SAFA"]["cross: LS − raw"] == "+2.5 [+2.5, +2.5]"
    assert lines["SAFA"]["cross: CHSG − raw"] == "+5.0 [+5.0, +5.0]"
    assert lines["TransGeo"]["same: CHSG − LS"] == "-0.5 [-0.5, -0.5]"
    values = np.array([5.0, 3.0, -1.0])
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    last = lines["mean over 3 methods"]
    assert last["cross: CHSG − raw"] == f"{values.mean():+.1f} [{values.mean() - half:+.1f}, {values.mean() + half:+.1f}]"


def test_the_mean_over_methods_is_of_the_seeds_that_all_have() -> None:
    some = pd.concat([rows((0,)), rows((2, 3), ("SAFA",)).assign(r1=0.9)])
    pd.testing.assert_frame_equal(across_methods(some), across_methods(rows((0,))))
    first = pd.concat([rows((0,), ("SAFA", "DSM")), rows((0, 2), ("TransGeo",)).query("sampling == 'raw'")])
    assert set(across_methods(first)["n"]) == {2}, "a method without the other arm says nothing"


def test_pairs_of_two_precisions_are_counted() -> None:
    mixed = rows((0, 2))
    assert "All pairs are of one precision." in gains(mixed).notes[0]
    mixed.loc[(mixed["sampling"] == "LS") & (mixed["seed"] == 0), "precision"] = "fp32"
    assert "6 of 18 pairs are of two precisions" in gains(mixed).notes[0], "3 methods: LS - raw and CHSG - LS of seed 0"
    assert "6 of 18 pairs" in mean_gains(mixed).notes[0]


def test_a_table_of_options_without_geodtr_plus_has_no_differences() -> None:
    first = rows(methods=("GeoDTR+",)).query("sampling != 'L+S'")
    lines = option_table(options_rows(first.assign(method="GeoDTR+"))).rows
    assert [line[1] for line in lines] == ["GeoDTR+, raw", "GeoDTR+, LS"]
    assert {cell for line in lines for cell in line[5:7]} == {"–"}


def test_intervals_of_recalls_end_where_a_share_does(tmp_path: Path) -> None:
    wide = rows()
    wide["r1"] = wide["seed"].map({0: 0.02, 2: 0.9, 3: 0.97})
    Records(tmp_path / "methods").add("all", {RUNS: wide.to_dict("records")})
    (axes,) = method_recalls(tmp_path, "city").axes
    ends = [x for bars in axes.collections for segment in bars.get_segments() for x in segment[:, 0]]
    assert min(ends) == 0
    assert max(ends) == 100


def options(seeds: tuple[int, ...] = (0, 2, 3, 4, 5, 6)) -> pd.DataFrame:
    """GeoDTR+ by CHSG, by InfoNCE 10 points above it, with smoothed labels 15, and with similar places too 17, but 37 on seeds 0, 2, 3."""
    base = rows(seeds, ("GeoDTR+",)).query("sampling == 'L+S'").assign(r1=lambda table: table["seed"] / 100)
    smoothed = base.assign(method="GeoDTR+, InfoNCE", r1=base["r1"] + 0.15)
    plain = base.assign(grid="options", method="InfoNCE, learnt temperature", r1=base["r1"] + 0.1)
    best = base.assign(grid="options", method="InfoNCE, smoothed labels, similar places")
    best["r1"] += np.where(best["seed"] < 4, 0.37, 0.17)
    tables = [table.assign(run=table["run"] + table["method"]) for table in (base, smoothed, plain, best)]
    return pd.concat([*tables, *(table.assign(train_area="helsinki", run="h" + table["run"]) for table in tables)])


def test_what_a_part_adds_is_paired_and_not_asked_of_the_seeds_it_was_chosen_on() -> None:
    found = what_parts_add(options()).query("protocol == 'cross'").set_index(["part", "train_area"])
    assert found.loc[("InfoNCE instead of the triplet loss", "midrise"), "mean"] == pytest.approx(0.10)
    assert found.loc[("smoothed labels, with InfoNCE", "helsinki"), "mean"] == pytest.approx(0.05)
    fresh = found.loc[("similar places in a batch, with InfoNCE and smoothed labels", "")]
    assert (fresh["mean"], fresh["n"], fresh["seeds"]) == (pytest.approx(0.02), 6, "4, 5, 6")
    assert "one trunk for both views" not in found.index.get_level_values("part"), "a part that was not tried"
    table = part_table(options_rows(options()))
    assert table.columns == ["part", *(f"{kind}: {area}" for kind in ("same", "cross") for area in ("midrise", "helsinki", "all")), "seeds"]
    assert table.rows[1][:2] == ["smoothed labels, with InfoNCE", "+5.0 [+5.0, +5.0]"]
    assert "chosen by what seeds 0, 2, 3 had shown, so others speak for it." in table.notes[1]


def test_the_parts_are_options_of_the_grid() -> None:
    known = {*OPTIONS, *OTHER_LOSS}
    assert {name for _, *arms in STEPS for name in arms} <= known
    assert set(CHOSEN_ON) <= {option for _, option, _ in STEPS}


def views(seeds: tuple[int, ...] = (0, 2, 3)) -> pd.DataFrame:
    """SAFA and Liu & Li: a whole panorama at 50 % + seed, half of it at 20 % + seed; SAFA is not told north."""
    found = []
    for method, heading in (("SAFA", "random"), ("Liu & Li", "north")):
        whole = rows(seeds, (method,)).query("sampling == 'raw'").assign(heading="north", fov=360.0)
        half = whole.assign(grid="views", heading=heading, fov=180.0, run=whole["run"] + "half", r1=whole["r1"] - 0.3)
        found += [whole, half]
    return pd.concat(found)


def test_less_view_stands_beside_the_whole_one_on_the_seeds_that_all_have() -> None:
    table = view_table(views())
    assert table.columns == ["trained on", "tested", "method", "seeds", "360°, north known", "180°"]
    assert [line[2] for line in table.rows] == ["SAFA", "Liu & Li"] * 2
    (whole, half), seeds = table.rows[0][4:], table.rows[0][3]
    assert seeds == "3"
    assert float(whole.split()[0]) == pytest.approx(float(half.split()[0]) + 30)
    some = views()
    some = some[~((some["method"] == "Liu & Li") & (some["grid"] == "views") & (some["seed"] > 0))]
    assert {line[3] for line in view_table(some).rows} == {"1"}
    assert view_table(some).rows == view_table(views((0,))).rows
    helsinki = views((0,)).assign(train_area="helsinki", run="h" + views((0,))["run"])
    assert [line[3] for line in view_table(pd.concat([views(), helsinki])).rows] == ["3"] * 4 + ["1"] * 4, "each area has its own seeds"


def test_the_figure_of_views_says_who_is_told_north(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="^no limited view on city is recorded yet$"):
        view_recalls(tmp_path, "city")
    Records(tmp_path / "methods").add("all", {RUNS: views().to_dict("records")})
    (axes,) = view_recalls(tmp_path, "city").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["SAFA", "Liu & Li (north known)"]
    assert "same-area R@1 (%), trained on midrise" in axes.get_xlabel()


def test_figures_are_of_one_training_area(tmp_path: Path) -> None:
    two = pd.concat([rows((0,)), rows((0,)).assign(train_area="oldtown", run="other" + rows((0,))["run"])])
    Records(tmp_path / "methods").add("all", {RUNS: two.to_dict("records")})
    assert "midrise" in method_recalls(tmp_path, "city").axes[0].get_xlabel()
    changed = pd.concat([environments(), environments().assign(train_area="oldtown", run="other")])
    Records(tmp_path / "environments").add("all", {RUNS: changed.to_dict("records")})
    assert environment_curves(tmp_path, "same").axes


def test_a_method_with_another_loss_does_not_count_twice() -> None:
    both = rows(methods=(*GAIN, "SAFA, InfoNCE"))
    found = across_methods(both)
    assert set(found["n"]) == {3}
    pd.testing.assert_frame_equal(found, across_methods(rows()))
    one = found.set_index(["protocol", "sampling", "minus"]).loc[("cross", "L+S", "LS")]
    assert one["mean"] == pytest.approx(0.5 * np.mean(list(GAIN.values())))
    assert one["raised"] == 2
    assert "(2 of 3 gain; seeds 0, 2, 3)" in mean_gains(both).rows[1][-1]
    assert len(mean_gains(both).columns) == 2 + len(PAIRS)
    elsewhere = rows().query("sampling == 'L+S'").assign(train_area="oldtown")
    for table in (mean_gains, gains):
        assert table(pd.concat([both, elsewhere])).rows == table(both).rows, "one sampling alone gains nothing"


def test_an_option_is_better_when_its_interval_says_so() -> None:
    reference = rows(methods=("GeoDTR+",)).assign(method="GeoDTR+")
    reference = reference[reference["sampling"] == "L+S"]
    better = reference.assign(grid="options", method="four views", sampling="L+S4")
    better = better.assign(r1=reference["r1"] + 0.02, seconds=1.2 * reference["seconds"])
    table = option_table(pd.concat([reference, better]))
    lines = {line[1]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert lines["four views"]["cross: minus GeoDTR+"] == "+2.0 [+2.0, +2.0]"
    assert lines["four views"]["better across areas"] == "yes"
    assert lines["GeoDTR+"]["cross: minus GeoDTR+"] == "–"
    both = pd.concat([rows(methods=("SAFA",)), reference, reference.assign(method="GeoDTR+, InfoNCE", r1=0.5)])
    assert list(dict.fromkeys(options_rows(both)["method"])) == ["GeoDTR+", "GeoDTR+, InfoNCE"]
    raw = reference.assign(method="GeoDTR+, InfoNCE", sampling="raw", r1=reference["r1"] + 0.03, version_commit="later", seconds=6.0)
    table = option_table(options_rows(pd.concat([reference, better, raw])))
    lines = {line[1]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert lines["GeoDTR+, InfoNCE, raw"]["cross: minus GeoDTR+"] == "+3.0 [+3.0, +3.0]"
    times = [lines[name]["training time / GeoDTR+'s"] for name in ("GeoDTR+", "four views", "GeoDTR+, InfoNCE, raw")]
    assert times == ["1", "1.20 [1.20, 1.20]", "–"], "the last is of another commit"


def test_training_times_are_compared_within_pairs_of_one_seed_commit_and_machine() -> None:
    reference = rows(methods=("GeoDTR+",)).query("sampling == 'L+S'").assign(method="GeoDTR+")
    # A later commit, or another machine, trains twice as fast: it must not show as a gain of the method.
    other = reference.assign(method="slower", seconds=1.5 * reference["seconds"])
    one = reference["seed"] == reference["seed"].min()
    quick = pd.concat([reference, other]).assign(version_commit="later")
    quick["seconds"] /= 2
    alone = reference[one].assign(method="without a pair", version_machine="another", seconds=1.0)
    found = relative_seconds(pd.concat([reference, other[one], quick, alone])).set_index("method")
    seeds = reference["seed"].nunique()
    assert list(found.index) == ["slower"]
    assert found.loc["slower", ["mean", "n"]].tolist() == pytest.approx([1.5, seeds + 1])
    assert relative_seconds(other).empty, "nothing to compare with"


def environments() -> pd.DataFrame:
    found = []
    for sampling in ("raw", "L+S"):
        for seed in (0, 2, 3):
            for change in ("fog", "night"):
                for strength in (0.0, 0.5, 1.0):
                    r1 = 0.5 - 0.3 * strength * (change == "fog") + 0.02 * (sampling == "L+S")
                    labels = dict(run=f"{sampling}{seed}", sampling=sampling, seed=seed, change=change, strength=strength)
                    found.append({**COMMON, **labels, "area": "midrise", "protocol": "same", "r1": r1})
    return pd.DataFrame(found)


def test_environments_at_full_strength_beside_clear_data() -> None:
    table = environment_table(environments())
    lines = {line[2]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert lines["none"]["raw"] == "50.0 [50.0, 50.0]"
    assert lines["fog"]["CHSG"] == "22.0 [22.0, 22.0]"
    assert lines["night"]["raw"] == "50.0 [50.0, 50.0]"


def test_what_sampling_adds_under_a_change_is_paired_step_by_step() -> None:
    two = environments()
    s = two[two["sampling"] == "raw"].assign(sampling="S", run=lambda table: "S" + table["run"])
    s["r1"] += 0.01 * (1 + s["seed"]) * s["strength"]
    table = environment_gains(pd.concat([two, s, s.assign(sampling="LS", run="L" + s["run"], r1=s["r1"] + 0.05)]))
    assert [line[1] for line in table.rows] == ["none", "fog", "night"]
    fog = dict(zip(table.columns, table.rows[1], strict=True))
    half = stats.t.ppf(0.975, 2) * np.std([1, 3, 4], ddof=1) / np.sqrt(3)
    assert fog["same: S − raw"] == f"{8 / 3:+.1f} [{8 / 3 - half:+.1f}, {8 / 3 + half:+.1f}]"
    assert fog["same: LS − S"] == "+5.0 [+5.0, +5.0]"
    clear = dict(zip(table.columns, table.rows[0], strict=True))
    assert clear["same: S − raw"] == "+0.0 [+0.0, +0.0]", "clear data are the same beside every change"
    assert fog["cross: S − raw"] == "–"
    assert [line[-4:] for line in environment_gains(two).rows] == [["–"] * 4] * 3, "without the colours alone there is nothing to add to"


def test_samplings_that_have_no_other_name_in_print_keep_theirs() -> None:
    other = environments().assign(sampling=lambda table: table["sampling"].replace("raw", "L+S4"))
    assert environment_table(other).columns[3:] == ["L+S4", "CHSG"]


def test_what_is_left_is_a_share_of_the_clear_recall() -> None:
    table = what_is_left(environments())
    assert table.loc[("fog", "raw")].tolist() == [50.0, 20.0, 40.0]
    assert table.loc[("night", "CHSG")].tolist() == [52.0, 52.0, 100.0]


def test_what_is_recorded_comes_into_tables_figures_and_blocks(tmp_path: Path) -> None:
    assert method_tables(tmp_path) == view_tables(tmp_path) == environment_tables(tmp_path) == []
    assert methods_text(tmp_path).startswith("No run is recorded yet")
    assert environments_text(tmp_path).startswith("No run is recorded yet")
    with pytest.raises(RunError, match="study methods"):
        method_recalls(tmp_path, "city")
    with pytest.raises(RunError, match="study environments"):
        environment_curves(tmp_path, "same")
    Records(tmp_path / "methods").add("all", {RUNS: rows().to_dict("records")})
    Records(tmp_path / "environments").add("all", {RUNS: environments().to_dict("records")})
    tables = [*method_tables(tmp_path), *view_tables(tmp_path), *environment_tables(tmp_path)]
    assert [table.name for table in tables] == ["methods_city_midrise", "methods_gains", "environments", "environments_gains"]
    block = methods_text(tmp_path)
    assert "| SAFA " in block
    assert "(2 of 3 gain; seeds 0, 2, 3)" in block
    with pytest.raises(RunError, match="methods on osm"):
        method_recalls(tmp_path, "osm")
    (axes,) = method_recalls(tmp_path, "city").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [name for name in METHODS if name in GAIN]
    assert "line" not in axes.get_xlabel(), "recalls need none at 0"
    assert environment_curves(tmp_path, "same").axes
    with pytest.raises(RunError, match="no cross-area run"):
        environment_curves(tmp_path, "cross")
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert re.search(r"\\begin\{tabular\}", table.latex())
