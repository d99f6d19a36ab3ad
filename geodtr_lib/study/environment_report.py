"""The recorded grid of environments as tables and figures: other light, season and weather. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from geodtr_lib import plots
from geodtr_lib.errors import RunError
from geodtr_lib.study.baseline_tables import first_area
from geodtr_lib.study.environment_grid import FOLDER
from geodtr_lib.study.records import RUNS, Records
from geodtr_lib.study.results import paired_difference, summarise
from geodtr_lib.study.tables import NOT_RECORDED, PROTOCOLS, SAMPLING_NAMES, SHARE, Table, by_keys, made_by, over_seeds, with_interval

_PAIRS = (("S", "raw"), ("LS", "S"), ("L+S", "LS"))  # compared under a change: the first minus the second


def recorded_environments(folder: str | Path) -> pd.DataFrame:
    """Rows of the grid of environments, if there are any.

    Raises:
        RunError: the table cannot be read.
    """
    return Records(Path(folder) / FOLDER).read(RUNS)


def environment_tables(folder: str | Path) -> list[Table]:
    """R@1 under each change, and what each step of sampling adds to it; none where nothing is recorded.

    Raises:
        RunError: the table cannot be read.
    """
    rows = recorded_environments(folder)
    return [environment_table(rows), environment_gains(rows)] if len(rows) else []


def environments_text(folder: str | Path) -> str:
    """Markdown for the README: recall on clear data and at full strength of each change, and what each step of sampling adds."""
    return "\n".join(table.markdown() for table in environment_tables(folder)).rstrip() or NOT_RECORDED.format(FOLDER).capitalize()


def environment_table(rows: pd.DataFrame) -> Table:
    """R@1 on clear data and at full strength of each change, by the sampling of the training."""
    strongest, ends = _clear_and_strongest(rows)
    keys = ["train_area", "protocol", "change", "sampling"]
    found = by_keys(keys, summarise(ends, keys))
    samplings = list(dict.fromkeys(rows["sampling"]))
    lines = [
        [*row, *(with_interval(found.get((*row, sampling), {}), limits=SHARE) for sampling in samplings)]
        for row in dict.fromkeys(zip(ends["train_area"], ends["protocol"], ends["change"], strict=True))
    ]
    return Table(
        "environments",
        f"Trained on clear data, tested under a change at strength {strongest:g}",
        ["trained on", "tested", "change", *(SAMPLING_NAMES[sampling] for sampling in samplings)],
        lines,
        [f"R@1 in percent; {over_seeds(rows)}.", made_by(rows)],
    )


def environment_gains(rows: pd.DataFrame) -> Table:
    """What each step of sampling adds to R@1 on clear data and at full strength of each change: colours, layouts, twins in a batch."""
    strongest, ends = _clear_and_strongest(rows)
    keys = ["train_area", "protocol", "change"]
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _, minus in _PAIRS:
        if ends["sampling"].eq(minus).any():
            found = paired_difference(ends, "sampling", minus, within=keys).assign(minus=minus)
            known |= by_keys([*keys, "sampling", "minus"], found)
    arms = [(protocol, *pair) for protocol in PROTOCOLS for pair in _PAIRS]
    lines = [
        [area, change, *(with_interval(known.get((area, protocol, change, *pair), {}), sign=True) for protocol, *pair in arms)]
        for area, change in dict.fromkeys(zip(ends["train_area"], ends["change"], strict=True))
    ]
    heads = [f"{protocol}: {SAMPLING_NAMES[sampling]} − {SAMPLING_NAMES[minus]}" for protocol, sampling, minus in arms]
    return Table(
        "environments_gains",
        f"What each step of sampling adds under a change at strength {strongest:g}",
        ["trained on", "change", *heads],
        lines,
        [
            f"Points of R@1, paired seed by seed; {over_seeds(rows)}. S changes colours and sharpness in training, LS layouts too, CHSG "
            "shows both layouts of a pair in one batch.",
            made_by(rows),
        ],
    )


def environment_curves(folder: str | Path, protocol: str) -> Figure:
    """Recall against the strength of each change, in the first area that was trained on.

    Raises:
        RunError: no run is recorded.
    """
    rows = recorded_environments(folder)
    if rows.empty:
        raise RunError(NOT_RECORDED.format(FOLDER))
    rows = rows[rows["protocol"] == protocol]
    if rows.empty:
        raise RunError(f"no {protocol}-area run under changes is recorded yet")
    return strength_figure(first_area(rows))


def strength_figure(rows: pd.DataFrame) -> Figure:
    """Recall against the strength of each change, of one protocol."""
    (protocol,) = rows["protocol"].unique()
    shown = rows.assign(sampling=rows["sampling"].map(SAMPLING_NAMES))
    return plots.strength_curves(summarise(shown, ["change", "sampling", "strength"]), ylabel=f"{protocol}-area R@1 (%)")


def what_is_left(rows: pd.DataFrame) -> pd.DataFrame:
    """R@1 in percent on clear data and at the largest strength, and the share that is left of it, by change and sampling."""
    strongest = rows["strength"].max()
    ends = rows[rows["strength"].isin([0.0, strongest])]
    ends = ends.assign(sampling=ends["sampling"].map(SAMPLING_NAMES))
    table = 100 * ends.pivot_table(index=["change", "sampling"], columns="strength", values="r1", sort=False)
    found = table.set_axis(["R@1, clear (%)", f"R@1, strength {strongest:g} (%)"], axis=1)
    return found.assign(**{"left (%)": 100 * found.iloc[:, 1] / found.iloc[:, 0]}).round(1)


def _clear_and_strongest(rows: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """The largest strength; and by area and protocol the rows of clear data, once, as the change ``none``, then those of that strength."""
    strongest = float(rows["strength"].max())
    clear = rows[rows["strength"] == 0.0].assign(change="none").drop_duplicates(["run", "area"])  # it is recorded beside each change
    ends = pd.concat([clear, rows[rows["strength"] == strongest]])
    return strongest, pd.concat([part for _, part in ends.groupby(["train_area", "protocol"], sort=False)])
