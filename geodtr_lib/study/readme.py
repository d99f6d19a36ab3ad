"""The tables of README.md and docs/results.md, generated from the committed runs: no number in them is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from geodtr_lib.errors import RunError
from geodtr_lib.study.baseline_grid import METHODS
from geodtr_lib.study.baseline_report import methods_text, recorded_methods
from geodtr_lib.study.baseline_tables import across_methods, against, options_rows
from geodtr_lib.study.claims import BOTH, Study, claims_table
from geodtr_lib.study.environment_report import environments_text
from geodtr_lib.study.paper_grid import REFERENCE
from geodtr_lib.study.repeats import repeated_runs, training_noise
from geodtr_lib.study.results import paired_difference, summarise
from geodtr_lib.study.tables import made_with, with_interval

README, DETAILS = "README.md", "docs/results.md"
"""The documents with generated blocks, which stand between ``<!-- name -->`` and ``<!-- /name -->``."""
_ORDER = ("raw", "LS", "L+S")
# Claim -> how the short table of the README calls its comparison.
_ANSWERS = {
    "chsg-cross": "CHSG instead of LS, batch alike (so twice the views)",
    "chsg-cross-equal-views": "CHSG instead of LS, views and steps alike",
    "ls-cross": "LS instead of raw pairs, views and steps alike",
    "ls-cross-few": "LS instead of raw pairs, a quarter of the places",
    "gle-chsg": "GLE v2 instead of v1, pretrained trunk",
    "gle-resnet-chsg": "GLE v2 instead of v1, ResNet from scratch",
    "descriptors": "twice as many descriptors (mean from 2 to 8)",
}


def documents(folder: Path) -> dict[str, dict[str, str]]:
    """Every generated block, from the recorded tables in ``folder``: document -> name of the block -> Markdown."""
    return {
        README: {"answers": answers_block(folder), "results": results_block(committed_results(folder))},
        DETAILS: {
            "claims": claims_block(folder),
            "methods": methods_text(folder),
            "environments": environments_text(folder),
        },
    }


def committed_results(folder: Path) -> pd.DataFrame:
    """The rows of ``results/small*.csv``: single runs at the ``small`` preset. The study's tables are of :mod:`geodtr_lib.study.records`.

    Raises:
        RunError: there are none.
    """
    files = sorted(folder.glob("small*.csv"))
    if not files:
        raise RunError(f"{folder} has no CSV of results")
    return pd.concat([pd.read_csv(file, dtype={"version_commit": str, "data_hash": str}) for file in files], ignore_index=True)


def results_block(frame: pd.DataFrame) -> str:
    """Markdown: R@1 in percent of each sampling, same-area and mean over the other areas, with 95 % t-intervals over seeds."""
    heading = ("trained on", "sampling", "`n_desc`", "same-area", "cross-area", "cross-area minus raw", "training", "seeds")
    lines = [" | ".join(heading), " | ".join(["---"] * len(heading))]
    for (dataset, area, n_desc), part in frame.groupby(["dataset", "train_area", "n_desc"], sort=False):
        recall = summarise(part, ["sampling", "protocol"]).set_index(["sampling", "protocol"])
        seconds = part.drop_duplicates(["sampling", "seed"]).groupby("sampling")["seconds"].mean()
        named = [name for name in _ORDER if name in seconds]
        gains = paired_difference(part, "sampling", "raw", within="protocol") if "raw" in named and len(named) > 1 else None
        for sampling in named:
            same, cross = recall.loc[(sampling, "same")], recall.loc[(sampling, "cross")]
            gain = None if gains is None else gains[(gains["protocol"] == "cross") & (gains["sampling"] == sampling)]
            difference = "" if gain is None or gain.empty else _percent(gain.iloc[0])
            measured = [_percent(same), _percent(cross), difference, f"{seconds[sampling]:.0f} s", int(cross["n"])]
            lines.append(" | ".join(map(str, [f"{dataset}, {area}", f"`{sampling}`", n_desc, *measured])))
    lines = [f"| {line} |" for line in lines]
    first = frame.iloc[0]
    galleries, commits = sorted(set(frame["n_gallery"])), ", ".join(sorted(set(frame["version_commit"])))
    places = str(galleries[0]) if len(galleries) == 1 else f"{galleries[0]} to {galleries[-1]}"
    lines += [
        "",
        "R@1 in percent; cross-area is the mean over the other areas. Where there are several seeds: mean and 95 % interval.",
        f"Galleries of {places} places per area, so chance is at most {100 / galleries[0]:.1f} %.",
        f"Preset `{first['preset']}`; machine: {first['version_machine']}, {first['precision']}; torch {first['version_torch']}; "
        f"commit {commits}.",
        "One row per run and area is in [results/](results/).",
    ]
    return "\n".join(lines)


def _percent(row: pd.Series) -> str:
    mean, low, high = (100 * float(row[key]) for key in ("mean", "low", "high"))
    return f"{mean:.1f}" if pd.isna(low) else f"{mean:.1f} ({low:.1f} to {high:.1f})"


def answers_block(folder: Path) -> str:
    """Markdown: what moves cross-area recall, in a few rows: from the study's runs, and from the grid of methods."""
    datasets, rows = ["city", "osm"], []
    try:
        found = claims_table(Study.read(folder))
    except RunError:
        found = pd.DataFrame(columns=["claim", "dataset"])
    known = found.set_index(["claim", "dataset"]).to_dict("index")
    for claim, words in _ANSWERS.items():
        cells = [known.get((claim, dataset), {}) for dataset in datasets]
        if any(cells):
            published = next(float(cell["published"]) for cell in cells if cell)
            rows.append([words, "" if pd.isna(published) else f"{published:+.1f}", *(_difference(cell, 1, "trainings") for cell in cells)])
    methods = recorded_methods(folder)
    if len(methods):
        options = options_rows(methods)
        loss = against(options).query("method == 'GeoDTR+, InfoNCE' and protocol == 'cross'")
        rows.append(["InfoNCE instead of the triplet loss, with CHSG", "", *_by_dataset(loss, methods, datasets, "trainings")])
        mean = across_methods(methods[methods["grid"] == "methods"]).query("protocol == 'cross'")
        for sampling, minus, words in (("LS", "raw", "LS instead of raw pairs"), ("L+S", "LS", "CHSG instead of LS")):
            part = mean[(mean["sampling"] == sampling) & (mean["minus"] == minus)]
            label = f"{words}, mean over the {len(METHODS)} methods"
            rows.append([label, "", *_by_dataset(part, methods, datasets, "methods")])
    heading = ["cross-area R@1, in points", "paper", *(_TRAINED.get(dataset, dataset) for dataset in datasets)]
    return str(tabulate(rows, heading, tablefmt="github", disable_numparse=True))


_TRAINED = {"city": "procedural cities", "osm": "Helsinki and Monaco"}


def _difference(row: Mapping[str, Any], scale: float, unit: str) -> str:
    return f"{with_interval(row, scale, sign=True)}, {int(row['n'])} {unit}" if row and row["n"] else "–"


def _by_dataset(differences: pd.DataFrame, frame: pd.DataFrame, datasets: Sequence[str], unit: str) -> list[str]:
    """The first training area's row for each data set."""
    cells = []
    for dataset in datasets:
        areas = frame.loc[frame["dataset"] == dataset, "train_area"].unique()
        part = differences[differences["train_area"].isin(areas)]
        cells.append(_difference(part.iloc[0].to_dict(), 100, unit) if len(part) else "–")
    return cells


def claims_block(folder: Path) -> str:
    """Markdown: each claim with the published and the measured difference and the verdict, from the study's recorded runs."""
    try:
        study = Study.read(folder)
    except RunError:
        return "No run of the study's grid is recorded yet: `python -m geodtr_lib.study grid` makes them, `make figures` fills this table."
    claims = claims_table(study)
    datasets = [*dict.fromkeys(claims["dataset"])]
    headings = ["claim", "compared", "published", *("over areas" if dataset == BOTH else dataset for dataset in datasets)]
    rows = []
    for _, group in claims.groupby("claim", sort=False):
        first, found = group.iloc[0], group.set_index("dataset").to_dict("index")
        digits = 1 if first["unit"] == "points" else 3
        cells = [
            f"{found[dataset]['verdict']}: {with_interval(found[dataset], 1, digits, sign=True)}, n = {found[dataset]['n']}"
            if found[dataset]["n"]
            else "–"
            for dataset in datasets
        ]
        rows.append([first["statement"], first["comparison"], "" if pd.isna(first["published"]) else f"{first['published']:+.1f}", *cells])
    runs = study.runs.drop_duplicates("run")
    sizes = ", ".join(f"{name}: {row['n_train']} places, {row['epochs']} epochs, batch {row['batch_size']}" for name, row in _sizes(runs))
    notes = [
        "Differences in points of R@1 or of the area under the curve (percent), of correlation, entropy or loss: mean [95 % t-interval] "
        "over n trainings (area and seed), paired; in the last column over n areas, each the mean of its trainings. *holds*, *does not "
        "hold* and *undecided* follow from the interval by the rule of `geodtr_lib/study/claims.py`. A dash: not in the grid of this data "
        "set.",
        f"How far this goes. On one data set an interval speaks of further seeds, not of further areas: there are two, which often differ, "
        f"they share test areas, and on osm every seed is the same town. Each of the {len(rows)} rows has its own 95 %: among so many, one "
        "or two intervals leave 0 by chance. The paper's LS with a batch of 64 had the epochs of LS with 32, so half the steps and half of "
        "CHSG's views; LS(2B) here has twice the epochs, and the number published beside it is of that other comparison.",
        f"{len(runs)} runs; {made_with(runs, f' ({sizes})')}",
        *_noise(folder),
    ]
    return "\n".join([str(tabulate(rows, headings, tablefmt="github", disable_numparse=True)), "", *notes])


def _noise(folder: Path) -> list[str]:
    repeats = repeated_runs(folder)
    if repeats.empty:
        return []
    spread, runs = training_noise(repeats), repeats.drop_duplicates("run")
    return [
        f"One training says little: {len(runs)} of these runs were made twice, on two machines ({runs['precision_differs'].sum()} of them "
        f"once in bf16 and once in float32, {runs['pictures_differ'].sum()} on pictures that the two processors draw slightly "
        "differently), and by their differences the R@1 of a single run has a standard deviation of "
        f"{100 * spread['same']:.1f} points same-area and {100 * spread['cross']:.1f} cross-area, with the same places and seeds."
    ]


def _sizes(runs: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    reference = runs[runs["cell"] == REFERENCE].drop_duplicates("dataset")
    return [(str(row["dataset"]), row) for _, row in reference.iterrows()]


def with_block(text: str, name: str, block: str) -> str:
    """A document with one of its generated blocks replaced.

    Raises:
        RunError: it has no such block.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise RunError(f"the document has no block between {begin} and {end}")
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{block}\n{end}", text, flags=re.DOTALL)
