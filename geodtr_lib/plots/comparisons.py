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

from geodtr_lib.plots.style import COLOURS, LINES, MARKERS, PAGE_WIDTH, counted, key_above, new_figure, plain_numbers, style


@style()
def same_against_cross(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Same-area against cross-area recall (Fig. 1); what lies below the diagonal is lost on the way to another area.

    Args:
        panels: title of each panel and its points: ``label``, ``group`` (trained on), ``same`` and ``cross`` in percent, and where they
            are known the bounds ``same_low same_high cross_low cross_high``.
    """
    entries = max(points["label"].nunique() + points["group"].nunique() + ("same_low" in points) for points in panels.values())
    figure = new_figure(PAGE_WIDTH, 3.5 + 0.16 * -(-entries // 3))  # room for the legend below
    grid = figure.add_gridspec(1, len(panels))
    for column, (title, points) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[column])
        labels, groups = list(dict.fromkeys(points["label"])), list(dict.fromkeys(points["group"]))
        known = False
        for point in points.to_dict("records"):
            look = _look(labels.index(point["label"]), groups.index(point["group"]))
            spread: dict[str, Any] = {
                f"{axis}err": [[point[name] - point[f"{name}_low"]], [point[f"{name}_high"] - point[name]]]
                for axis, name in (("x", "same"), ("y", "cross"))
                if np.isfinite(point.get(f"{name}_low", np.nan))
            }
            known = known or bool(spread)
            faint = to_rgba(look["color"], 0.4)  # the points stand before many intervals that cross
            axes.errorbar(point["same"], point["cross"], **spread, linestyle="", ms=5, elinewidth=0.7, ecolor=faint, **look)
        axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle=":")
        axes.set(xlabel="same-area R@1 (%)", ylabel="cross-area R@1 (%)", title=title, xlim=(0, 100), ylim=(0, 100))
        axes.set(aspect="equal", anchor="N")
        keys = [Line2D([], [], ls="", label=label, **_look(i, 0)) for i, label in enumerate(labels)]
        if len(groups) > 1:
            keys += [Line2D([], [], ls="", label=f"trained on {name}", color="0.4", marker=MARKERS[i]) for i, name in enumerate(groups)]
        if known:
            keys.append(Line2D([], [], color="0.6", linewidth=0.7, ls="-", label="95 % interval over seeds"))
        axes.legend(
            handles=keys, ncols=3, loc="upper center", bbox_to_anchor=(0.47, -0.14),
            handletextpad=0.25, handlelength=1.2, columnspacing=0.6, labelspacing=0.3,
        )  # fmt: skip
    return figure


def _look(label: int, group: int) -> dict[str, Any]:
    """Colour by label, hollow in the second round of colours; marker by group."""
    colour = COLOURS[label % len(COLOURS)]
    face = colour if label < len(COLOURS) else "white"
    return {"color": colour, "markerfacecolor": face, "markeredgecolor": colour, "marker": MARKERS[group % len(MARKERS)]}


@style()
def loss_bands(curves: Mapping[str, pd.DataFrame], hue: str = "sampling", ylabel: str = "triplet loss") -> Figure:
    """Losses over the course of training, mean and range over trainings (Fig. 9), on a logarithmic axis: the ends differ by thousandths.

    Args:
        curves: title of each panel, and rows with ``step`` (trainings of one curve have theirs at the same steps), ``loss``, ``training``
            and ``hue``.
        hue: column that makes the curves, which are drawn in its order.
        ylabel: what the losses are.
    """
    figure = new_figure(PAGE_WIDTH, 2.8)
    grid = figure.add_gridspec(1, len(curves))
    first: Axes | None = None
    for column, (title, rows) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[column], sharey=first)
        first = first or axes
        trainings = rows.groupby(hue, sort=False)["training"].nunique()
        for i, name in enumerate(dict.fromkeys(rows[hue])):
            found = rows[rows[hue] == name].groupby("step")["loss"].agg(["mean", "min", "max"])
            line: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
            label = f"{name}: {found['mean'].iloc[-1]:.2g}" + (f" (n = {trainings[name]})" if trainings.nunique() > 1 else "")
            axes.plot(found.index, found["mean"], label=label, marker="o" if len(found) < 3 else None, ms=3, **line)
            axes.fill_between(found.index, found["min"], found["max"], color=line["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel="training step", title=title, xlim=(0, None), yscale="log")
        axes.yaxis.set_major_formatter(plain_numbers())
        axes.set_ylabel(f"{ylabel} (log axis)" if not column else "")
        of = f"mean at the end; band: range, {counted(trainings)}" if trainings.max() > 1 else "at the end, n = 1"
        axes.legend(title=of, title_fontsize=7, loc="upper right")
    return figure


@style()
def distance_panels(
    panels: Sequence[Sequence[tuple[str, Mapping[str, np.ndarray]]]], xlabel: str = "squared L2 distance of a pair"
) -> Figure:
    """Densities of distances by kind of pair, one panel for each model and protocol (Fig. 10); panels of a column share their axes.

    Args:
        panels: rows of panels; each has a title, and the distances in [0, 4] of each kind.
        xlabel: what the distances are.
    """
    figure = new_figure(PAGE_WIDTH, 0.6 + 1.75 * len(panels))
    grid = figure.add_gridspec(len(panels), max(map(len, panels)))
    tops: dict[int, Axes] = {}
    for row, line in enumerate(panels):
        for column, (title, distances) in enumerate(line):
            axes = figure.add_subplot(grid[row, column], sharex=tops.get(0), sharey=tops.get(column))
            tops.setdefault(column, axes)
            for i, (name, values) in enumerate(distances.items()):
                look = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
                if np.ptp(values) > 0:
                    sns.kdeplot(x=np.asarray(values, dtype=float), ax=axes, label=name, clip=(0, 4), **look)
            axes.set(title=f"{title} ({min(map(len, distances.values())):,} pairs of a kind)")
            axes.set_ylabel("density" if not column else "")
            axes.set_xlabel(xlabel if row + 1 == len(panels) else "")
    if tops:
        key_above(figure, *tops[0].get_legend_handles_labels())
    return figure


@style()
def intervals(
    rows: pd.DataFrame, xlabel: str = "difference in R@1 (points)", zero: str = "no difference", hollow: str = "recall too low to differ"
) -> Figure:
    """Differences, or recalls, with their 95 % intervals, one line each, as a forest plot.

    Args:
        rows: ``label``, ``mean``, ``low``, ``high``, ``n``; where known ``group`` (colour), ``published`` (a cross), ``published_alike``
            (false = of another comparison, a hollow cross), ``bounds`` (a list: what the claim compares with, marked in its line) and
            ``hollow`` (true = a hollow point).
        xlabel: what is shown.
        zero: what the line at 0 means; empty = there is none, as recalls need none.
        hollow: what hollow points mean.
    """
    groups = list(dict.fromkeys(rows["group"])) if "group" in rows else [""]
    labels = list(dict.fromkeys(rows["label"]))
    figure = new_figure(PAGE_WIDTH, 0.8 + 0.18 * len(labels) * max(1.0, 0.75 * len(groups)))
    axes = figure.add_subplot()
    drawn = rows[np.isfinite(rows["mean"])]
    for row in drawn.to_dict("records"):
        i = groups.index(row.get("group", ""))
        place = labels.index(row["label"]) + (i - (len(groups) - 1) / 2) * 0.8 / len(groups)
        look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        face = "white" if row.get("hollow", False) else look["color"]
        spread = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]] if np.isfinite(row["low"]) else None  # too few trainings
        axes.errorbar(row["mean"], place, xerr=spread, linestyle="", ms=4, markerfacecolor=face, elinewidth=1.2, capsize=2, **look)
        if drawn["n"].nunique() > 1:
            axes.text(1.01, place, f"n = {row['n']}", transform=axes.get_yaxis_transform(), fontsize=7, va="center")
    keys = [Line2D([], [], color=COLOURS[i], marker=MARKERS[i], ls="", label=name) for i, name in enumerate(groups) if name]
    if drawn.get("hollow", pd.Series(dtype=bool)).any():
        keys.append(Line2D([], [], color="0.3", marker="o", markerfacecolor="white", ls="", label=hollow))
    if "published" in rows:
        known = rows.dropna(subset=["published"]).drop_duplicates("label")
        alike = known.get("published_alike", pd.Series(True, known.index)).astype(bool)
        for part, face, name in ((known[alike], "black", "published"), (known[~alike], "white", "published, of another comparison")):
            look = {"color": "black", "marker": "X", "markerfacecolor": face, "markeredgewidth": 0.8, "linestyle": ""}
            axes.plot(part["published"], [labels.index(label) for label in part["label"]], ms=5.5, zorder=3, **look)
            keys += [Line2D([], [], label=name, **look)] if len(part) else []
    if "bounds" in rows:
        bounds = {label: found for label, found in zip(rows["label"], rows["bounds"], strict=True) if len(found)}
        look = {"color": "0.3", "linewidth": 0.9, "linestyle": (0, (3, 2))}
        for label, found in bounds.items():
            place = labels.index(label)
            for bound in found:
                axes.plot([bound, bound], [place - 0.45, place + 0.45], **look)
        keys += [Line2D([], [], label="bound of the claim", **look)] if bounds else []
    if zero:
        axes.axvline(0, color="0.4", linewidth=0.8, linestyle="-")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"{xlabel}; line: {zero}" if zero else xlabel, ylim=(len(labels) - 0.5, -0.5))
    key_above(figure, keys, [str(key.get_label()) for key in keys], title=_shown(drawn))
    axes.grid(axis="y", visible=False)
    return figure


def _shown(rows: pd.DataFrame) -> str:
    """What the points and bars of a forest plot are, and of how many trainings."""
    if rows.empty or rows["n"].max() == 1:
        return "one training each"
    over = f"{counted(rows['n'])} trainings"
    few = ", fewer than three have none" if np.isnan(rows["low"]).any() else ""
    return f"mean and 95 % interval, {over}{few}" if np.isfinite(rows["low"]).any() else f"mean, {over}, too few for an interval"
