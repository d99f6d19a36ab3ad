"""The recorded runs as means, intervals and paired differences: what the tables, figures and claims are made of.

The unit that is repeated is a *training*: one area and one seed, which has a city (on osm: places of the same town), a survey and starting
weights of its own. Cells of one training are paired: the same places, the same test pairs. Test areas of one training are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from geodtr_lib.errors import RunError
from geodtr_lib.paths import shown
from geodtr_lib.study.paper_grid import CELLS, REFERENCE
from geodtr_lib.study.records import RUNS, SAME_TEST, Records
from geodtr_lib.study.results import paired_difference, summarise

_ORDER = {cell.name: place for place, cell in enumerate(CELLS)}


def study_table(folder: str | Path, name: str = RUNS) -> pd.DataFrame:
    """One of the recorded tables, with the column ``training`` ("midrise 0") and cells in the grid's order.

    Raises:
        RunError: no run is recorded, a table cannot be read, or rows that would be paired were measured on different data.
    """
    frame, where = Records(folder).read(name), shown(Path(folder) / name)
    if "cell" not in frame:
        raise RunError(f"{where} has no runs yet; `python -m geodtr_lib.study grid` makes them")
    frame = frame[frame["cell"].isin(list(_ORDER))]
    if "test_hash" in frame:
        mixed = frame.groupby(list(SAME_TEST))["test_hash"].nunique()
        if (mixed > 1).any():
            places = ", ".join(f"{dataset} {area} seed {seed}" for dataset, area, seed, *_ in mixed[mixed > 1].index)
            raise RunError(f"{where} mixes runs on different test pairs ({places}); remove the older rows and run them again")
    frame = frame.assign(training=frame["train_area"] + " " + frame["seed"].astype(str))
    return frame.iloc[frame["cell"].map(_ORDER).argsort(kind="stable")].reset_index(drop=True)


def cell_summary(frame: pd.DataFrame, value: str = "r1", by: Sequence[str] = ("dataset", "cell", "protocol")) -> pd.DataFrame:
    """Mean of a column with its 95 % t-interval over trainings; columns ``by``, ``mean``, ``low``, ``high``, ``n``."""
    return summarise(frame, list(by), value, over="training")


def cell_difference(
    frame: pd.DataFrame, reference: str = REFERENCE, value: str = "r1", within: Sequence[str] = ("dataset", "protocol")
) -> pd.DataFrame:
    """Mean difference of each cell to ``reference``, training by training, with its 95 % t-interval.

    Returns:
        Columns ``within``, ``cell``, ``mean`` (cell minus reference), ``low``, ``high``, ``n``; no rows where the reference has no run.
    """
    if not (frame["cell"] == reference).any():
        return pd.DataFrame(columns=[*within, "cell", "mean", "low", "high", "n"])
    return paired_difference(frame, "cell", reference, value, within=list(within), over="training")


def differences_by_training(frame: pd.DataFrame, cell: str, reference: str, value: str = "r1", protocol: str = "") -> pd.Series:
    """``cell`` minus ``reference`` of each training that has both, test areas averaged; index ``dataset``, ``training``."""
    rows = frame if not protocol else frame[frame["protocol"] == protocol]
    keys = ["dataset", "training"]
    first, second = (rows[rows["cell"] == name].set_index([*keys, "area"])[value] for name in (cell, reference))
    return (first - second).dropna().groupby(level=keys, sort=False).mean()
