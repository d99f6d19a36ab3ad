"""Tables as text, Markdown and LaTeX, and how a measured number is written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate


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
