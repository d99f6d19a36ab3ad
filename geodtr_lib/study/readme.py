"""The README's table of results, generated from the committed runs: no number in it is typed by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from geodtr_lib.errors import RunError
from geodtr_lib.study.results import paired_difference, summarise

BEGIN, END = "<!-- results -->", "<!-- /results -->"
KEPT = (
    "dataset", "train_area", "area", "protocol", "sampling", "n_desc", "seed", "r1", "r5", "r10", "r1pct", "n_query", "n_gallery", "preset",
    "gle", "backbone", "pretrained", "polar", "epochs", "batch_size", "lr", "n_train", "data_seed", "seconds", "pairs_per_second",
    "evaluation_seconds", "precision", "version_geodtr_lib", "version_torch", "version_timm", "version_machine", "version_commit", "data_hash",
)  # fmt: skip
_ORDER = ("raw", "LS", "L+S")


def committed_results(folder: Path) -> pd.DataFrame:
    """The rows of ``results/*.csv``.

    Raises:
        RunError: there are none.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise RunError(f"{folder} has no CSV of results")
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def results_block(frame: pd.DataFrame) -> str:
    """Markdown: R@1 in percent of each sampling, same-area and cross-area, with 95 % t-intervals over seeds."""
    lines = [
        "| data, trained on | sampling | `n_desc` | R@1 same-area | R@1 cross-area, mean of the others | cross-area minus raw | training | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, area, n_desc), part in frame.groupby(["dataset", "train_area", "n_desc"], sort=False):
        recall = summarise(part, ["sampling", "protocol"]).set_index(["sampling", "protocol"])
        seconds = part.drop_duplicates(["sampling", "seed"]).groupby("sampling")["seconds"].mean()
        named = [name for name in _ORDER if name in seconds]
        gain = pd.DataFrame(columns=["protocol", "sampling"])
        if "raw" in named and len(named) > 1:
            gain = paired_difference(part, "sampling", "raw", within="protocol")
        for sampling in named:
            row = gain[(gain["protocol"] == "cross") & (gain["sampling"] == sampling)]
            cells = [
                f"{dataset}, {area}", f"`{sampling}`", str(n_desc), _percent(recall.loc[(sampling, "same")]), _percent(recall.loc[(sampling, "cross")]),
                _percent(row.iloc[0]) if len(row) else "", f"{seconds[sampling]:.0f} s", str(int(recall.loc[(sampling, "cross"), "n"])),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    first = frame.iloc[0]
    lines += [
        "",
        f"Measured with the `{first['preset']}` preset on {first['version_machine']}, torch {first['version_torch']}, commit "
        f"{', '.join(sorted(set(frame['version_commit'])))}; {int(frame['n_gallery'].min())} test places per area or more "
        f"(chance {100 / frame['n_gallery'].max():.1f} % or more); mean and 95 % interval over seeds where there are several. "
        "One row per run and area is in [results/](results/).",
    ]
    return "\n".join(lines)


def _percent(row: pd.Series) -> str:
    mean, low, high = (100 * float(row[key]) for key in ("mean", "low", "high"))
    return f"{mean:.1f}" if pd.isna(low) else f"{mean:.1f} ({low:.1f} to {high:.1f})"


def with_results(readme: str, block: str) -> str:
    """The README with its block of results replaced.

    Raises:
        RunError: it has no such block.
    """
    if BEGIN not in readme or END not in readme:
        raise RunError(f"the README has no block between {BEGIN} and {END}")
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{block}\n{END}", readme, flags=re.DOTALL)
