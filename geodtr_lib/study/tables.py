"""Tables as text, Markdown and LaTeX, and how a measured number is written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from geodtr_lib.sampling import POLICIES
from geodtr_lib.study.results import FEWEST


@dataclass(frozen=True)
class Table:
    """A table as it is printed.

    Attributes:
        name: of its files.
        title: one line.
        columns: headings.
        rows: cells as text.
        notes: sentences below it.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """As a Markdown file."""
        body = tabulate(self.rows, self.columns, tablefmt="github", disable_numparse=True)
        return "\n\n".join([f"**{self.title}**", body, *self.notes]) + "\n"

    def latex(self) -> str:
        r"""As a LaTeX file for ``\input``; needs the package booktabs and a Unicode engine."""
        body = tabulate(self.rows, self.columns, tablefmt="latex_booktabs", disable_numparse=True)
        notes = "".join(f"\\par\\footnotesize {_escaped(note)}\n" for note in self.notes)
        return f"% {self.title}\n{body}\n{notes}"


SHARE = (0.0, 1.0)
"""The limits of a share, such as a recall."""
PROTOCOLS = ("same", "cross")
"""In the order in which they are printed: in the area of training, and in those that the model never saw."""
SAMPLING_NAMES = {name: name for name in POLICIES} | {"L+S": "CHSG"}
"""How the samplings are called in print."""
NOT_RECORDED = "no run is recorded yet; `python -m geodtr_lib.study {}` makes them"
"""What there is to say instead of a table."""


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "%_&#$" else character for character in text)


def with_interval(
    row: Mapping[str, Any], scale: float = 100.0, digits: int = 1, sign: bool = False, limits: tuple[float, float] = (-np.inf, np.inf)
) -> str:
    """``mean [low, high]``; the mean alone of fewer than three trainings; a dash where there is none.

    An interval ends where the quantity does: ``limits``, ``SHARE`` for recalls.
    """
    mean, low, high = (float(row.get(key, np.nan)) for key in ("mean", "low", "high"))
    mean, low, high = (scale * value for value in (mean, *np.clip([low, high], *limits)))
    if np.isnan(mean):
        return "–"
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{mean:{form}}" if np.isnan(low) else f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def seeds_of(rows: pd.DataFrame) -> str:
    """The seeds of recorded rows by their numbers, such as ``seeds 0, 2``."""
    seeds = sorted(set(rows["seed"]))
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def made_with(rows: pd.DataFrame, sizes: str = "") -> str:
    """Seeds, preset (with its ``sizes``, where they are given), machines and commits of recorded rows, as a clause with a full stop."""
    made = rows["version_machine"]
    if "precision" in rows:
        made = made + (" (" + rows["precision"] + ")").fillna("")
    machines, commits = ("; ".join(sorted(set(names.dropna()))) for names in (made, rows["version_commit"]))
    return f"{seeds_of(rows)}; preset `{rows['preset'].iloc[0]}`{sizes}; machines: {machines}; commits: {commits}."


def over_seeds(rows: pd.DataFrame) -> str:
    """What the numbers of a table are, over the seeds of its rows, as a clause."""
    count, named = rows["seed"].nunique(), seeds_of(rows)
    if count == 1:
        return f"{named} alone, so no interval"
    if count < FEWEST:
        return f"mean over {named}, too few for an interval"
    return f"mean [95 % t-interval] over {named}, the mean alone of fewer than three"


def made_by(rows: pd.DataFrame) -> str:
    """How many trainings the rows are of, and what :func:`made_with` says of them."""
    count = rows["run"].nunique()
    return f"{count} training{'s' if count > 1 else ''}; {made_with(rows)}"


def by_keys(keys: Sequence[str], table: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rows of a table by their values in some columns."""
    return {tuple(row[key] for key in keys): row for row in table.to_dict("records")}


def in_order(names: pd.Series, first: Sequence[str]) -> list[str]:
    """Each name once: in the order of ``first`` what stands there, then the others as they come."""
    found = list(dict.fromkeys(names))
    return sorted(found, key=lambda name: first.index(name) if name in first else len(first))
