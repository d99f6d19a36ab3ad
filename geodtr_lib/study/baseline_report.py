"""The recorded grids of methods and options as printed tables and figures. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from geodtr_lib import plots
from geodtr_lib.errors import RunError
from geodtr_lib.study.baseline_grid import CHOSEN_ON, METHODS, OTHER_LOSS, SAMPLINGS, STEPS
from geodtr_lib.study.baseline_runner import FOLDER
from geodtr_lib.study.baseline_tables import (
    across_methods,
    against,
    first_area,
    mixed_precision,
    options_rows,
    relative_seconds,
    seeds_in_common,
    universality,
    what_parts_add,
)
from geodtr_lib.study.records import RUNS, Records
from geodtr_lib.study.results import summarise
from geodtr_lib.study.tables import (
    NOT_RECORDED,
    PROTOCOLS,
    SAMPLING_NAMES,
    SHARE,
    Table,
    by_keys,
    in_order,
    made_by,
    over_seeds,
    with_interval,
)


def recorded_methods(folder: str | Path) -> pd.DataFrame:
    """Rows of the grids of methods and of options, if there are any; ``folder`` is that of all recorded tables.

    Raises:
        RunError: the table cannot be read.
    """
    return Records(Path(folder) / FOLDER).read(RUNS)


def method_tables(folder: str | Path) -> list[Table]:
    """For each training area the methods side by side; what LS and CHSG add to them; what makes GeoDTR+ stronger.

    Args:
        folder: of the recorded tables; what has no rows there yet is left out.

    Raises:
        RunError: a table cannot be read.
    """
    frame = recorded_methods(folder)
    if frame.empty:
        return []
    methods, options = frame[frame["grid"] == "methods"], options_rows(frame)
    found = [comparison(part) for _, part in methods.groupby("train_area", sort=False)]
    found += [gains(methods)] if methods["sampling"].nunique() > 1 else []
    return [*found, option_table(options), part_table(options)] if options["method"].nunique() > 1 else found


def methods_text(folder: str | Path) -> str:
    """Markdown for the README: the methods side by side for each area, what LS and CHSG add on the mean, what makes GeoDTR+ stronger."""
    frame = recorded_methods(folder)
    if frame.empty:
        return NOT_RECORDED.format(FOLDER).capitalize()
    rows = frame[frame["grid"] == "methods"]
    tables = [comparison(part) for _, part in rows.groupby("train_area", sort=False)]
    options = options_rows(frame)
    stronger = [option_table(options), part_table(options)] if options["method"].nunique() > 1 else []
    return "\n".join(table.markdown() for table in [*tables, mean_gains(rows), *stronger]).rstrip()


def comparison(rows: pd.DataFrame) -> Table:
    """Methods x {raw, LS, CHSG}, trained on one area: recall of both protocols with intervals over seeds, and what each costs.

    Of the seeds that all rows of the table have, where there are any: each seed is another city, so others would not compare.
    """
    rows = seeds_in_common(rows)
    found = by_keys(["method", "sampling", "protocol"], summarise(rows, ["method", "sampling", "protocol"]))
    (dataset,), (area,) = rows["dataset"].unique(), rows["train_area"].unique()
    at_one = _of_one_commit(rows)
    speeds = (at_one["pairs_per_second"] * at_one["views"]).groupby(at_one["method"]).max()  # what else ran beside only slows
    lines = []
    for method in in_order(rows["method"], [*METHODS, *OTHER_LOSS]):
        own = rows[rows["method"] == method]
        arms = [(method, sampling, protocol) for protocol in PROTOCOLS for sampling in SAMPLINGS]
        cells = [with_interval(found.get(arm, {}), limits=SHARE) for arm in arms]
        parameters, size = own["parameters"].mean(), own["embedding_bytes"].mean()
        lines.append([str(method), *cells, f"{parameters / 1e6:.2f}", f"{size:.0f}", _whole(speeds.get(method))])
    recalls = [f"{protocol}, {SAMPLING_NAMES[sampling]}" for protocol in PROTOCOLS for sampling in SAMPLINGS]
    return Table(
        f"methods_{dataset}_{area}",
        f"The methods at one budget, trained on {dataset}, {area}",
        ["method", *recalls, "parameters (M)", "embedding (bytes)", "views/s"],
        lines,
        [
            f"R@1 in percent, in the area of training (same) and as the mean over the others (cross); {over_seeds(rows)}. Every run sees "
            "the same number of views in the same number of steps; raw and LS have twice the places in a batch and twice the epochs. "
            "Each method is trained by its own loss unless another is named; VIGOR sees a third image for each pair, a tile beside its "
            "own, and GeoDTR has the feed-forward width of GeoDTR+ (512; its paper's is 2048). Views/s: trained with (CHSG makes two of a "
            "place), the quickest of a method's runs at the commit of most rows.",
            made_by(rows),
        ],
    )


def gains(rows: pd.DataFrame) -> Table:
    """What LS adds to raw pairs, CHSG to raw pairs, and CHSG to LS: method by method, and as the mean over methods."""
    lines = []
    for area, part in rows.groupby("train_area", sort=False):
        single = {
            (row["protocol"], row["method"], row["sampling"], minus): row
            for minus in dict.fromkeys(minus for _, minus in PAIRS)
            for row in universality(part, minus=minus).to_dict("records")
        }
        if not single:
            continue
        for method in in_order(part["method"], [*METHODS, *OTHER_LOSS]):
            cells = [with_interval(single.get((protocol, method, *pair), {}), sign=True) for protocol in PROTOCOLS for pair in PAIRS]
            lines.append([area, method, *cells])
        whole = across_methods(part)
        known = whole.set_index(["protocol", "sampling", "minus"]).to_dict("index")
        cells = [with_interval(known.get((protocol, *pair), {}), sign=True) for protocol in PROTOCOLS for pair in PAIRS]
        lines.append([area, f"mean over {int(whole['n'].max())} methods" if len(whole) else "mean over methods", *cells])
    heads = [f"{protocol}: {SAMPLING_NAMES[sampling]} − {SAMPLING_NAMES[minus]}" for protocol in PROTOCOLS for sampling, minus in PAIRS]
    return Table(
        "methods_gains",
        "What layout simulation and CHSG add to each method at equal views",
        ["trained on", "method", *heads],
        lines,
        [
            "Points of R@1, paired seed by seed: mean [95 % t-interval over seeds], the mean alone of fewer than three. The last "
            "row of an area is the mean over the methods that are trained by their own loss, with the 95 % t-interval over methods,"
            " on the seeds that all of them have: it speaks of further methods in the same cities, not of further cities. A quarter"
            " turn only rolls the two views, which an embedding that does not see where a feature lies (CVM-Net, Sample4Geo), or "
            "that is compared at every angle (DSM), hardly notices: for these methods some of CHSG's twins are no negatives. "
            + _rounding(rows, "sampling", PAIRS, ["train_area", "method", "seed"]),
            made_by(rows),
        ],
    )


PAIRS = (("LS", "raw"), ("L+S", "raw"), ("L+S", "LS"))
"""Samplings compared: the first minus the second."""


def mean_gains(rows: pd.DataFrame) -> Table:
    """The last row of each area of :func:`gains`, same-area and cross-area, with how many of the methods gained."""
    lines = []
    for area, part in rows.groupby("train_area", sort=False):
        known = across_methods(part).set_index(["protocol", "sampling", "minus"]).to_dict("index")
        for protocol in PROTOCOLS if known else ():  # an area where each method has one sampling says nothing of gains
            found = [known.get((protocol, *pair), {}) for pair in PAIRS]
            lines.append([area, f"{protocol}-area", *(_gain(row) for row in found)])
    heads = [f"{SAMPLING_NAMES[sampling]} − {SAMPLING_NAMES[minus]}" for sampling, minus in PAIRS]
    notes = [
        "Points of R@1 at equal views, mean over the methods with their own loss on the seeds that all of them have, 95 % t-interval over "
        "methods. " + _rounding(rows, "sampling", PAIRS, ["train_area", "method", "seed"])
    ]
    return Table("methods_mean_gains", "What LS and CHSG add, mean over methods", ["trained on", "tested", *heads], lines, notes)


def _gain(row: dict[str, Any]) -> str:
    return f"{with_interval(row, sign=True)} ({row['raised']} of {row['n']} gain; seeds {row['seeds']})" if row else "–"


def option_table(rows: pd.DataFrame) -> Table:
    """GeoDTR+ with CHSG, and what differs from it by one option or several: recall and the paired difference, by training area."""
    keys = ["train_area", "method", "protocol"]
    means, changes = by_keys(keys, summarise(rows, keys)), by_keys(keys, against(rows))
    times = by_keys(keys[:2], relative_seconds(rows))
    first = [f"{loss}{sampling}" for loss in ("GeoDTR+", "GeoDTR+, InfoNCE") for sampling in ("", ", raw", ", LS")]
    lines = []
    for area, part in rows.groupby("train_area", sort=False):
        for method in in_order(part["method"], first):
            places = [(area, method, protocol) for protocol in PROTOCOLS]
            recalls = [with_interval(means.get(key, {}), limits=SHARE) for key in places]
            differences = [with_interval(changes.get(key, {}), sign=True) for key in places]
            better = changes.get(places[1], {}).get("better", "")
            time = "1" if method == "GeoDTR+" else with_interval(times.get((area, method), {}), scale=1, digits=2)
            n = int(means[places[1]]["n"]) if places[1] in means else 0
            lines.append([area, method, str(n), *recalls, *differences, better, time])
    pairs = [("GeoDTR+", method) for method in rows["method"].unique() if method != "GeoDTR+"]
    heads = ["seeds", "same", "cross", "same: minus GeoDTR+", "cross: minus GeoDTR+", "better across areas", "training time / GeoDTR+'s"]
    return Table(
        "options",
        "What makes GeoDTR+ with CHSG stronger at the same number of views",
        ["trained on", "option", *heads],
        lines,
        [
            f"R@1 in percent and its differences in points; {over_seeds(rows)}. Each seed is another city (in Helsinki another draw of "
            "places, light and cameras): recalls of rows with other seeds do not compare, the differences are of pairs of one seed and do. "
            + _rounding(rows, "method", pairs, ["train_area", "seed"])
            + " Training time: of pairs of one seed, commit and machine, with the interval over pairs; a dash where there is none.",
            made_by(rows),
        ],
    )


def part_table(rows: pd.DataFrame) -> Table:
    """What each part of the options adds to what is trained without it: GeoDTR+ with CHSG, at equal views."""
    found = what_parts_add(rows)
    known = by_keys(["part", "protocol", "train_area"], found)
    areas = list(dict.fromkeys(rows["train_area"]))
    lines = []
    for part, named in found.groupby("part", sort=False):
        cells = [with_interval(known.get((part, protocol, area), {}), sign=True) for protocol in PROTOCOLS for area in [*areas, ""]]
        lines.append([part, *cells, named["seeds"].iloc[0]])
    heads = [f"{protocol}: {area or 'all'}" for protocol in PROTOCOLS for area in [*areas, ""]]
    note = (
        "Points of R@1, paired training by training: mean [95 % t-interval] over seeds; over the trainings of all areas in the last column "
        "of a protocol, which speaks of further seeds in these areas, not of further areas."
    )
    told = [
        f"{part}: chosen by what seeds {', '.join(map(str, CHOSEN_ON[option]))} had shown, so others speak for it."
        for part, option, _ in STEPS
        if option in CHOSEN_ON
    ]
    return Table("option_parts", "What each part adds to GeoDTR+ with CHSG", ["part", *heads, "seeds"], lines, [note, *told, made_by(rows)])


def recall_intervals(rows: pd.DataFrame) -> Figure:
    """Cross-area recall of each method with raw pairs, LS and CHSG, trained on the same area; intervals over the seeds that all have."""
    rows = seeds_in_common(rows)
    found = summarise(rows[rows["protocol"] == "cross"], ["method", "sampling"])
    found = found.assign(sampling=found["sampling"].map(SAMPLING_NAMES), label=found["method"])
    return method_forest(
        found,
        "sampling",
        [SAMPLING_NAMES[sampling] for sampling in SAMPLINGS],
        f"cross-area R@1 (%), trained on {', '.join(rows['train_area'].unique())}",
    )


def method_forest(found: pd.DataFrame, by: str, order: Sequence[str], xlabel: str) -> Figure:
    """Recalls of methods as a forest plot, by their ``label``: a method has its place, a name in ``order`` its colour, everywhere."""
    ends = {name: 100 * found[name].clip(*SHARE) for name in ("mean", "low", "high")}  # an interval ends where a share does
    shown = found.assign(**ends, group=found[by])
    methods = in_order(shown["method"], [*METHODS, *OTHER_LOSS])
    shown = shown.sort_values("method", key=lambda names: names.map(methods.index), kind="stable")
    shown = shown.sort_values("group", key=lambda names: names.map(list(order).index), kind="stable")
    return plots.intervals(shown, xlabel, zero="")


def method_recalls(folder: str | Path, dataset: str) -> Figure:
    """:func:`recall_intervals` of what is recorded on one data set, in the first area that was trained on.

    Raises:
        RunError: nothing is.
    """
    frame = recorded_methods(folder)
    if frame.empty:
        raise RunError(NOT_RECORDED.format(FOLDER))
    rows = frame[(frame["grid"] == "methods") & (frame["dataset"] == dataset)]
    if rows.empty:
        raise RunError(f"no run of the other methods on {dataset} is recorded yet")
    return recall_intervals(first_area(rows))


def _rounding(rows: pd.DataFrame, by: str, pairs: Sequence[tuple[str, str]], within: Sequence[str]) -> str:
    """What :func:`mixed_precision` counts, in words."""
    mixed, n = mixed_precision(rows, by, pairs, within)
    return f"{mixed} of {n} pairs are of two precisions (bf16 and fp32)." if mixed else "All pairs are of one precision."


def _of_one_commit(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the commit that most were made at: a later one may train faster."""
    return rows[rows["version_commit"] == rows["version_commit"].mode()[0]]


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
