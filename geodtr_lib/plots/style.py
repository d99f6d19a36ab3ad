"""How every figure looks: sizes for print, colours and line styles that differ for all eyes and in black and white."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter

from geodtr_lib.files import whole_file

PAGE_WIDTH = 7.2  # inches: two columns of a journal page

# Okabe and Ito, "Color Universal Design" (2008), in the order in which they are told apart most easily.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
HATCHES = ("", "///", "...", "xxx", "\\\\\\")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
RIGHT, WRONG = "#0072B2", "#D55E00"

_SETTINGS: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "lines.linewidth": 1.4,
    "image.interpolation": "nearest",
    "figure.dpi": 110.0,
    "savefig.dpi": 160.0,
    "pdf.fonttype": 42,  # text stays text
    "axes.prop_cycle": cycler(color=COLOURS, linestyle=LINES),
}


@contextmanager
def style() -> Iterator[None]:
    """The look of this study's figures, inside the block only (or in the function that it decorates)."""
    with plt.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained", "none"] = "constrained") -> Figure:
    """An empty figure of this size in inches.

    Pyplot forgets it at once: otherwise a notebook would show a returned figure twice and keep all of them in memory.
    """
    figure = plt.figure(figsize=(width, height), layout=layout)
    plt.close(figure)
    return figure


def plain_numbers() -> FuncFormatter:
    """Ticks of a logarithmic axis as 0.01, 1, 100 and not as powers."""
    return FuncFormatter(lambda value, _: f"{value:g}")


def counted(numbers: Iterable[int]) -> str:
    """How many trainings stand behind what is drawn: ``n = 3``, or ``n = 1 to 3``."""
    found = {int(number) for number in numbers}
    return f"n = {min(found)}" if len(found) == 1 else f"n = {min(found)} to {max(found)}"


def key_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str = "") -> None:
    """A legend above all panels, in as many columns as the figure is wide enough for."""
    for columns in range(max(1, len(labels)), 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=columns, title=title or None)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.pdf``, each whole or not at all; the same figure gives the same bytes.

    Raises:
        RunError: the folder cannot be written.
    """
    paths = [Path(f"{stem}.{kind}") for kind in ("png", "pdf")]
    for path in paths:
        kind = path.suffix[1:]
        with style(), whole_file(path) as temporary:
            figure.savefig(temporary, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {"Software": None})
    return paths
