"""Figures made of numbers: losses, recalls, distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geodtr_lib.plots.style import COLOURS, HATCHES, LINES, PAGE_WIDTH, counted, key_above, new_figure, plain_numbers, style


@style()
def loss_curves(curves: Mapping[str, Sequence[float]], ylabel: str = "loss") -> Figure:
    """Losses over epochs (Fig. 9) on a logarithmic axis, because they differ and fall by powers of ten.

    Args:
        curves: name of each curve and its value after each epoch; one that is 0 throughout is named and not drawn.
        ylabel: what the losses are.
    """
    figure = new_figure(PAGE_WIDTH / 2, 2.3)
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(curves.items()):
        label = name if any(values) else f"{name} (0)"
        # A single epoch is a point, which a line would not show.
        axes.plot(range(1, len(values) + 1), values, label=label, marker="o" if len(values) < 3 else None, **_line(i))
    axes.set(xlabel="epoch", ylabel=f"{ylabel} (log axis)", xlim=(0.5, max(map(len, curves.values())) + 0.5), yscale="log")
    axes.yaxis.set_major_formatter(plain_numbers())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend()
    return figure


@style()
def recall_bars(summary: pd.DataFrame, x: str, hue: str = "protocol", ylabel: str = "R@1 (%)") -> Figure:
    """Recalls as bars with their 95 % intervals, e.g. same-area beside cross-area.

    Args:
        summary: as :func:`geodtr_lib.study.summarise` gives it: ``mean``, ``low``, ``high`` as fractions, ``n``, ``x`` and ``hue``.
        x: column that makes the groups on the axis.
        hue: column that makes the bars within a group; those that a group has stand in its middle.
        ylabel: what is shown.
    """
    groups, hues = list(dict.fromkeys(summary[x])), list(dict.fromkeys(summary[hue]))
    figure = new_figure(max(PAGE_WIDTH / 2, 0.6 * len(groups) + 1), 2.5)
    axes = figure.add_subplot()
    known = {group: [name for name in hues if name in set(summary.loc[summary[x] == group, hue])] for group in groups}
    width = 0.8 / max(2, *map(len, known.values()))
    for i, name in enumerate(hues):
        of_hue = [group for group in groups if name in known[group]]
        rows = summary[summary[hue] == name].set_index(x).loc[of_hue]
        places = np.array([groups.index(group) + (known[group].index(name) - (len(known[group]) - 1) / 2) * width for group in of_hue])
        mean = 100 * rows["mean"].to_numpy(float)
        spread = 100 * np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]).astype(float)  # 2 x groups
        axes.bar(places, mean, width, label=str(name), color=COLOURS[i % len(COLOURS)], hatch=HATCHES[i % len(HATCHES)], edgecolor="white")
        some = np.isfinite(spread).all(0)  # few seeds have no interval
        axes.errorbar(places[some], mean[some], spread[:, some], fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.set(xlabel=x, ylabel=ylabel, ylim=(0, None), xlim=(-0.6, len(groups) - 0.4))
    handles, labels = axes.get_legend_handles_labels()
    key_above(figure, handles, labels, f"{hue} ({counted(summary['n'])}{', whisker: 95 %' if summary['low'].notna().any() else ''})")
    axes.grid(axis="x", visible=False)
    return figure


@style()
def distance_densities(distances: Mapping[str, np.ndarray], xlabel: str = "squared L2 distance of a pair") -> Figure:
    """Densities of the distances of several kinds of pairs (Fig. 10).

    Args:
        distances: name of each kind, e.g. "original" or "rot90", and its distances in [0, 4].
        xlabel: what the distances are.
    """
    figure = new_figure(PAGE_WIDTH / 2, 2.5)
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(distances.items()):
        sns.kdeplot(x=np.asarray(values, dtype=float), ax=axes, label=f"{name} (n = {len(values):,})", clip=(0, 4), **_line(i))
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend()
    return figure


@style()
def cost_bars(costs: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """What models cost, one panel for each measure (Table VII).

    Args:
        costs: one row per model, with ``model``; where ``<measure>_low`` and ``<measure>_high`` are there they are drawn as quartiles.
        measures: column of each panel, and what it is called.
    """
    figure = new_figure(PAGE_WIDTH, 0.7 + 0.24 * len(costs))
    grid = figure.add_gridspec(1, len(measures))
    places = np.arange(len(costs))
    for column, (name, label) in enumerate(measures.items()):
        axes = figure.add_subplot(grid[column])
        values = costs[name].to_numpy(float)
        bounds = [f"{name}_low", f"{name}_high"]
        spread = np.abs(costs[bounds].to_numpy(float).T - values) if set(bounds) <= set(costs) else None  # 2 x models
        axes.barh(places, values, 0.7, xerr=spread, color=COLOURS[0], error_kw={"elinewidth": 1, "capsize": 2})
        axes.set_yticks(places, list(costs["model"]) if not column else [""] * len(costs))
        axes.set(xlabel=label, ylim=(len(costs) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
    return figure


def _line(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
