"""Figures that compare trained models: same-area against cross-area, losses, distances, differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from geodtr_lib.plots.style import COLOURS, LINES, MARKERS, PAGE_WIDTH, key_above, new_figure, style


@style()
def same_against_cross(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Same-area against cross-area recall (Fig. 1); what lies below the diagonal is lost on the way to another area.

    Args:
        panels: title of each panel and its points: ``label``, ``group`` (trained on), ``same`` and ``cross`` in percent, and where they
            are known the bounds ``same_low same_high cross_low cross_high``.
    """
    entries = max(points["label"].nunique() + points["group"].nunique() for points in panels.values())
    figure = new_figure(PAGE_WIDTH, 3.85 + 0.14 * -(-entries // 3))  # room for the legend below
    grid = figure.add_gridspec(1, len(panels))
    for column, (title, points) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[column])
        labels, groups = list(dict.fromkeys(points["label"])), list(dict.fromkeys(points["group"]))
        for point in points.to_dict("records"):
            look = _look(labels.index(point["label"]), groups.index(point["group"]))
            spread: dict[str, Any] = {
                f"{axis}err": [[point[name] - point[f"{name}_low"]], [point[f"{name}_high"] - point[name]]]
                for axis, name in (("x", "same"), ("y", "cross"))
                if np.isfinite(point.get(f"{name}_low", np.nan))
            }
            faint = to_rgba(look["color"], 0.4)  # the points stand before many intervals that cross
            axes.errorbar(point["same"], point["cross"], **spread, linestyle="", ms=5, elinewidth=0.7, ecolor=faint, **look)
        end = min(100.0, 1.1 * float(points[["same", "cross"]].max(axis=None)))
        axes.plot([0, end], [0, end], color="0.6", linewidth=0.8, linestyle=":")
        axes.set(xlabel="same-area R@1 (%)", ylabel="cross-area R@1 (%)", title=title, xlim=(0, end), ylim=(0, end))
        axes.set(aspect="equal", anchor="N")
        keys = [Line2D([], [], ls="", label=label, **_look(i, 0)) for i, label in enumerate(labels)]
        if len(groups) > 1:
            keys += [Line2D([], [], ls="", label=f"trained on {name}", color="0.4", marker=MARKERS[i]) for i, name in enumerate(groups)]
        axes.legend(handles=keys, ncols=3, fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.14), handletextpad=0.2)
    return figure


def _look(label: int, group: int) -> dict[str, Any]:
    """Colour by label, hollow in the second round of colours; marker by group."""
    colour = COLOURS[label % len(COLOURS)]
    face = colour if label < len(COLOURS) else "white"
    return {"color": colour, "markerfacecolor": face, "markeredgecolor": colour, "marker": MARKERS[group % len(MARKERS)]}


@style()
def loss_bands(curves: Mapping[str, pd.DataFrame], hue: str = "sampling", ylabel: str = "triplet loss") -> Figure:
    """Losses over the course of training, mean and range over trainings (Fig. 9).

    Args:
        curves: title of each panel, and rows with ``share`` of the training's steps in [0, 1], ``loss``, ``training`` and ``hue``.
        hue: column that makes the curves, which are drawn in its order.
        ylabel: what the losses are.
    """
    figure = new_figure(PAGE_WIDTH, 2.6)
    grid = figure.add_gridspec(1, len(curves))
    for column, (title, rows) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[column])
        for i, name in enumerate(dict.fromkeys(rows[hue])):
            chosen = rows[rows[hue] == name]
            found = chosen.groupby("share")["loss"].agg(["mean", "min", "max"])
            line: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
            n = chosen["training"].nunique()
            axes.plot(100 * found.index, found["mean"], label=f"{name} (n = {n})", marker="o" if len(found) < 3 else None, ms=3, **line)
            axes.fill_between(100 * found.index, found["min"], found["max"], color=line["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel="share of the training's steps (%)", title=title, xlim=(0, 100), ylim=(0, None))
        axes.set_ylabel(ylabel if not column else "")
        axes.legend(title="mean; band: range over n trainings", title_fontsize=6)
    return figure


@style()
def distance_panels(
    panels: Sequence[Sequence[tuple[str, Mapping[str, np.ndarray]]]], xlabel: str = "squared L2 distance of a pair"
) -> Figure:
    """Densities of distances by kind of pair, one panel for each model and protocol (Fig. 10).

    Args:
        panels: rows of panels; each has a title, and the distances in [0, 4] of each kind.
        xlabel: what the distances are.
    """
    figure = new_figure(PAGE_WIDTH, 0.6 + 1.75 * len(panels))
    grid = figure.add_gridspec(len(panels), max(map(len, panels)))
    first: Axes | None = None
    for row, line in enumerate(panels):
        for column, (title, distances) in enumerate(line):
            axes = figure.add_subplot(grid[row, column], sharex=first)
            first = first or axes
            for i, (name, values) in enumerate(distances.items()):
                look = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
                if np.ptp(values) > 0:
                    sns.kdeplot(x=np.asarray(values, dtype=float), ax=axes, label=name, clip=(0, 4), **look)
            axes.set(title=f"{title} (n = {min(map(len, distances.values())):,} pairs of each kind)", ylabel="density")
            axes.set_xlabel(xlabel if row + 1 == len(panels) else "")
    if first is not None:
        key_above(figure, *first.get_legend_handles_labels())
    return figure


@style()
def intervals(rows: pd.DataFrame, xlabel: str = "difference in R@1 (points)", zero: str = "no difference") -> Figure:
    """Differences with their 95 % intervals, one line each, as a forest plot.

    Args:
        rows: ``label``, ``mean``, ``low``, ``high``, ``n``; where known ``published`` (a cross) and ``group`` (colour).
        xlabel: what is shown.
        zero: what the line at 0 means.
    """
    groups = list(dict.fromkeys(rows["group"])) if "group" in rows else [""]
    labels = list(dict.fromkeys(rows["label"]))
    figure = new_figure(PAGE_WIDTH, 0.8 + 0.18 * len(labels) * max(1.0, 0.75 * len(groups)))
    axes = figure.add_subplot()
    for row in rows.to_dict("records"):
        i = groups.index(row.get("group", ""))
        place = labels.index(row["label"]) + (i - (len(groups) - 1) / 2) * 0.8 / len(groups)
        look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        spread = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]] if np.isfinite(row["low"]) else None  # a single training
        if np.isfinite(row["mean"]):
            axes.errorbar(row["mean"], place, xerr=spread, linestyle="", ms=4, elinewidth=1.2, capsize=2, **look)
            axes.text(1.01, place, f"n = {row['n']}", transform=axes.get_yaxis_transform(), fontsize=5.5, va="center")
    if "published" in rows:
        known = rows.dropna(subset=["published"]).drop_duplicates("label")
        axes.plot(known["published"], [labels.index(label) for label in known["label"]], "x", color="black", ms=5)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"{xlabel}; line: {zero}", ylim=(len(labels) - 0.5, -0.5))
    keys = [Line2D([], [], color=COLOURS[i], marker=MARKERS[i], ls="", label=name) for i, name in enumerate(groups) if name]
    if "published" in rows:
        keys.append(Line2D([], [], color="black", marker="x", ls="", label="published"))
    key_above(figure, keys, [str(key.get_label()) for key in keys], title="mean and 95 % interval over n trainings")
    axes.grid(axis="y", visible=False)
    return figure
