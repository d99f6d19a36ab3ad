"""Street maps drawn from the extract itself: no tiles from a network, so a map looks the same in every viewer, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from geodtr_lib.plots.style import COLOURS, LINES, PAGE_WIDTH, key_above, new_figure, plain_numbers, style

TRUTH, FOUND = COLOURS[0], COLOURS[1]  # a blue star and orange discs: they differ in colour, shape and label
# Points on the sides of a square of half side 1.
_OUTLINE = np.array([point for t in np.linspace(-1, 1, 21) for point in ((t, -1), (t, 1), (-1, t), (1, t))])
LAND, BUILDING, GREEN, WATER, STREET = "#f6f4ef", "#cfc9bf", "#dfe8d5", "#c9dcec", "#8f8a82"


class Streets(Protocol):
    """What is drawn: :class:`geodtr_lib.data.osm_map.StreetMap`, in metres."""

    @property
    def size(self) -> tuple[float, float]: ...
    @property
    def buildings(self) -> Sequence[np.ndarray]: ...
    @property
    def green(self) -> Sequence[np.ndarray]: ...
    @property
    def water(self) -> Sequence[np.ndarray]: ...
    @property
    def streets(self) -> Sequence[np.ndarray]: ...
    @property
    def paths(self) -> Sequence[np.ndarray]: ...


@style()
def candidates_map(
    town: Streets,
    candidates: np.ndarray,
    truth: np.ndarray | None = None,
    metres: np.ndarray | None = None,
    tiles: np.ndarray | None = None,
    window: float = 150.0,
    title: str = "",
    credit: str = "© OpenStreetMap contributors",
) -> Figure:
    """Candidates of one panorama in the whole town and in its surroundings.

    Args:
        town: the area.
        candidates: k x 2 metres east and north, best first.
        truth: 2 metres, where the panorama was taken, or None.
        metres: k, from the truth to each candidate.
        tiles: M x 2 metres, all tiles of the gallery.
        window: half of the side of the second map in metres, around the truth, or around the first candidate.
        title: one line.
        credit: of the map's data.
    """
    east, north = town.size
    tall = min(4.6, max(3.2, 3.3 * north / east))
    figure = new_figure(PAGE_WIDTH, tall + 0.75, layout="none")
    width, height = figure.get_size_inches()
    left = min(3.3, tall * east / north)
    centre = np.asarray(candidates[0] if truth is None else truth)
    overview = figure.add_axes((0.01, 0.42 / height, left / width, tall / height))
    side = min(tall, PAGE_WIDTH - left - 0.42)  # a disc on the frame has room beyond it
    detail = figure.add_axes(((left + 0.3) / width, (0.42 + tall - side) / height, side / width, side / height))
    _draw_town(overview, town, ((0, east), (0, north)), outline=0.0)
    _draw_town(detail, town, tuple((c - window, c + window) for c in centre), outline=0.5)  # type: ignore[arg-type]
    frame = Rectangle(tuple(centre - window), 2 * window, 2 * window, fill=False, linewidth=1, linestyle="-", zorder=4)
    overview.add_patch(frame)
    for axes in (overview, detail):
        if tiles is not None:
            axes.plot(*np.asarray(tiles).T, ".", color="0.35", markersize=1.0 if axes is overview else 2.5, zorder=2)
        _draw_candidates(axes, candidates, truth)
    listed = "" if metres is None or not np.isfinite(metres).all() else "\n".join(f"{i + 1}: {m:,.0f} m away" for i, m in enumerate(metres))
    text_left = (left + 0.3 + side + 0.1) / width
    over_map = bool(listed) and text_left >= 0.86
    spots = np.concatenate([np.reshape(candidates, (-1, 2)), np.linspace(centre, candidates[0], 30)])  # k + 30 x 2
    edges = centre + window * _OUTLINE
    _draw_scale(overview, round_length(max(east, north) / 5), np.concatenate([spots, edges]))
    _draw_scale(detail, round_length(window / 2), spots, [(1, 1)] if over_map else [])
    figure.text(0.01, 1 - 0.06 / height, title, va="top", fontsize=9, fontweight="bold")
    handles, labels = detail.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=4)
    figure.text(0.995, 0.03, f"{credit}; north is up", ha="right", fontsize=7, color="0.3")
    if over_map:
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
        detail.text(0.985, 0.985, listed, transform=detail.transAxes, ha="right", va="top", fontsize=7.5, bbox=box, zorder=9)
    elif listed:
        figure.text(text_left, (0.42 + tall) / height, listed, va="top", fontsize=8)
    return figure


@style()
def error_curves(errors: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray], radii: Sequence[float] = (10, 25, 50)) -> Figure:
    """Share of queries that are located within a distance, against that distance.

    Args:
        errors: name of each area and N errors in metres.
        chance: the same names, and distances of tiles taken at random.
        radii: marked, metres.
    """
    figure = new_figure(PAGE_WIDTH * 0.62, 2.9)
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(errors.items()):
        for some, line, label in ((values, "-", f"{name} (n = {len(values)})"), (chance[name], ":", f"{name}, chance")):
            ordered = np.sort(np.ravel(some))
            ordered = ordered[:: max(1, len(ordered) // 2000)]  # a chance curve has a million points
            share = np.arange(1, len(ordered) + 1) / len(ordered)
            axes.plot(np.maximum(ordered, 1), share, line, color=COLOURS[i % len(COLOURS)], label=label)
    for radius in radii:
        axes.axvline(radius, color="0.4", linewidth=0.8, linestyle=LINES[1], zorder=1)  # above the grid, below the curves
        axes.text(radius, 1.01, f"{radius:g}", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(plain_numbers())
    axes.set(xlabel="error (m, log axis)", ylabel="share of queries within", ylim=(0, 1), xlim=(1, None))
    key_above(figure, *axes.get_legend_handles_labels())
    return figure


def _draw_town(axes: Axes, town: Streets, box: tuple[tuple[float, float], tuple[float, float]], outline: float) -> None:
    """Fill the axes with what of a town lies in a box ((west, east), (south, north)) in metres."""
    axes.set(xlim=box[0], ylim=box[1], aspect="equal", xticks=[], yticks=[], facecolor=LAND)
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.5", linewidth=0.8)
    for polygons, colour in ((town.green, GREEN), (town.water, WATER)):
        axes.add_collection(PolyCollection(within(polygons, box), facecolor=colour, edgecolor="none", zorder=1))
    detail = outline > 0
    for lines, width in ((town.paths, 0.5 if detail else 0.15), (town.streets, 2.2 if detail else 0.5)):
        axes.add_collection(LineCollection(within(lines, box), color=STREET, linewidth=width, linestyle="-", zorder=1.2))
    buildings = PolyCollection(within(town.buildings, box), facecolor=BUILDING, edgecolor="0.55", linewidth=outline, zorder=1.1)
    axes.add_collection(buildings)


def within(shapes: Sequence[np.ndarray], box: tuple[tuple[float, float], tuple[float, float]]) -> list[np.ndarray]:
    """Those whose bounds meet the box."""
    low, high = np.array([box[0][0], box[1][0]]), np.array([box[0][1], box[1][1]])
    return [shape for shape in shapes if (shape.max(0) >= low).all() and (shape.min(0) <= high).all()]


def _draw_candidates(axes: Axes, candidates: np.ndarray, truth: np.ndarray | None) -> None:
    if truth is not None:
        axes.plot(*np.stack([truth, candidates[0]]).T, color=FOUND, linewidth=1.2, linestyle="--", zorder=5)
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    for number, (x, y) in enumerate(np.asarray(candidates).tolist()):
        first, height = number == 0, 7 - (number + 1) / (len(candidates) + 1)  # the best on top, each number on its own disc
        face, size = (FOUND, 11.0) if first else ("white", 9.5)
        if first:
            axes.plot([], [], "o", color=face, markeredgecolor=FOUND, markersize=size, label="found first")
        if west <= x <= east and south <= y <= north:  # whole, also where it reaches over the frame
            axes.plot(x, y, "o", color=face, markeredgecolor=FOUND, markersize=size, zorder=height, clip_on=False)
            colour = "white" if first else "black"
            axes.text(x, y, str(number + 1), ha="center", va="center_baseline", fontsize=7, fontweight="bold", color=colour, zorder=height)
    if len(candidates) > 1:
        axes.plot([], [], "o", color="white", markeredgecolor=FOUND, markersize=9, label=f"found 2nd to {len(candidates)}th")
    if truth is not None:
        axes.plot(*truth, "*", color=TRUTH, markeredgecolor="white", markersize=15, zorder=8, label="taken here")


def round_length(metres: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is no longer."""
    power = 10 ** np.floor(np.log10(metres))
    return float(max(step * power for step in (1, 2, 5) if step * power <= metres))


def _draw_scale(axes: Axes, length: float, spots: np.ndarray, taken: Sequence[tuple[int, int]] = ()) -> None:
    """A scale bar in the corner that is farthest from what is marked; the lower left one where it is free.

    Args:
        axes: a map in metres.
        length: of the bar, metres.
        spots: M x 2 metres, what it should not cover.
        taken: corners (1 = east, 1 = north) that something else stands in.
    """
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    size = np.array([east - west, north - south])
    reach = 0.5 * np.array([length, 0.06 * size[1]])  # of the bar and its number, to either side of their middle
    corners = [corner for corner in ((0, 0), (1, 0), (0, 1), (1, 1)) if corner not in taken]

    def middle(corner: tuple[int, int]) -> np.ndarray:
        inset = 0.04 * size[0] + reach
        found: np.ndarray = np.array([west, south]) + np.where(corner, size - inset, inset)
        return found

    def room(corner: tuple[int, int]) -> float:
        """Metres from the bar to the nearest spot; more than a disc's radius is all that is needed."""
        beyond = np.maximum(np.abs(spots - middle(corner)) - reach, 0)
        return float(min(np.hypot(*beyond.T).min(initial=np.inf), 0.05 * size[0]))

    x, y = middle(max(corners, key=room)) - reach
    axes.plot([x, x + length], [y, y], color="black", linewidth=2.5, solid_capstyle="butt", zorder=9)
    box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
    axes.text(x, y + 0.012 * size[1], f"{length:g} m", fontsize=7, va="bottom", zorder=9, bbox=box)
