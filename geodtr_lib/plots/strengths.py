"""Recall against the strength of a change of light, season or weather."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from geodtr_lib.plots.style import COLOURS, LINES, PAGE_WIDTH, counted, key_above, new_figure, style

_PER_ROW = 4


@style()
def strength_curves(summary: pd.DataFrame, hue: str = "sampling", panel: str = "change", ylabel: str = "R@1 (%)") -> Figure:
    """One panel for each change: recall against its strength, a line for each of ``hue``, with its 95 % interval where there is one.

    Args:
        summary: as :func:`geodtr_lib.study.summarise` gives it by ``panel``, ``hue`` and ``strength``: ``mean``, ``low``, ``high`` as
            fractions, and ``n``.
        hue: column that makes the lines.
        panel: column that makes the panels.
        ylabel: what is shown.
    """
    panels, lines = list(dict.fromkeys(summary[panel])), list(dict.fromkeys(summary[hue]))
    columns = min(_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(PAGE_WIDTH * max(0.4, columns / _PER_ROW), 0.5 + 1.6 * rows)
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name in zip(grid, panels, strict=False):
        for i, line in enumerate(lines):
            part = summary[(summary[panel] == name) & (summary[hue] == line)].sort_values("strength")
            colour, mean = COLOURS[i % len(COLOURS)], 100 * part["mean"]
            axes.plot(part["strength"], mean, color=colour, linestyle=LINES[i % len(LINES)], marker="o", markersize=2.5, label=str(line))
            if part["low"].notna().any():
                axes.fill_between(part["strength"], 100 * part["low"], 100 * part["high"], color=colour, alpha=0.15, linewidth=0)
        axes.set(title=str(name), xlim=(-0.03, 1.03))
    grid[0].set_ylim(0, None)  # of all panels, after all lines: it stops scaling
    for empty in range(len(panels), len(grid)):  # what is left of the last row
        grid[empty].set_visible(False)
        grid[empty - columns].tick_params(labelbottom=True)  # now the lowest of its column
    figure.supxlabel("strength of the change", fontsize=8)
    figure.supylabel(ylabel, fontsize=8)
    handles, labels = grid[0].get_legend_handles_labels()
    key_above(figure, handles, labels, f"{hue} ({counted(summary['n'])}{', band: 95 %' if summary['low'].notna().any() else ''})")
    return figure
