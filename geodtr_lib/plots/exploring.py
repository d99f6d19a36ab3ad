"""What a model makes of one picture, at the size of a screen's half: drawn without layout engines, because a slider waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from geodtr_lib.plots.images import _AZIMUTHS, _frame, _name_inside, axes_at, show_image
from geodtr_lib.plots.style import COLOURS, LINES, PAGE_WIDTH, RIGHT, WRONG, key_above, new_figure, style

SCREEN_WIDTH = 5.2  # inches: two such figures stand side by side on a laptop's screen
TURNED = ("as it is", "mirrored")
MARKS: dict[bool | None, tuple[str, str]] = {True: (RIGHT, "✓"), False: (WRONG, "✗"), None: ("0.4", "")}  # colour and sign
_OPACITY = 0.6


class Found(NamedTuple):
    """A retrieved tile: uint8 3 x S x S, what is written under it, and whether it is the right one (None = unknown)."""

    tile: Tensor
    caption: str
    right: bool | None


class Turning(NamedTuple):
    """Distance against the angle of turning, and where the picture is now; see :class:`geodtr_lib.explore.Curve`."""

    angle: np.ndarray
    distance: np.ndarray
    heading: float
    mirrored: bool
    limits: tuple[float, float]


class Exploration(NamedTuple):
    """A panorama, the tile it is compared with, what was found, and how the match breaks when the panorama is turned.

    Attributes:
        title: one line.
        panorama: uint8 3 x H x W, as the model gets it, with the descriptor laid over it where one is chosen.
        unrolled: uint8 3 x H x W, the tile in the same columns.
        tile: uint8 3 x S x S.
        compared: which tile that is: ``true``, or ``nearest`` where the true one is unknown.
        found: the nearest tiles, nearest first.
        turning: the curve.
        descriptor: number of the descriptor that is laid over, counted from 1; 0 = none.
        sentence: all of it in one sentence.
    """

    title: str
    panorama: Tensor
    unrolled: Tensor
    tile: Tensor
    compared: str
    found: Sequence[Found]
    turning: Turning
    descriptor: int
    sentence: str


@style()
def exploration(answer: Exploration) -> Figure:
    """The answer of a run as a figure, for where no widget can show it."""
    panorama, unrolled, found = answer.panorama, answer.unrolled, answer.found
    strip = min(max(SCREEN_WIDTH * panorama.shape[-2] / panorama.shape[-1], 0.9), 1.4)
    gap, head, ticks, curve = 0.05, 0.26, 0.4, 1.75
    small = (SCREEN_WIDTH - gap * (len(found) + 1)) / (len(found) + 1)
    figure = new_figure(SCREEN_WIDTH, head + 2 * strip + gap + ticks + small + 0.42 + curve, layout="none")
    figure.text(0.0, 1 - 0.05 / figure.get_figheight(), answer.title, va="top", fontsize=8.5, fontweight="bold")
    over = f", descriptor {answer.descriptor} (bright: high)" if answer.descriptor else ""
    top = head
    for picture, name in ((panorama, "panorama"), (unrolled, f"{answer.compared} tile, unrolled")):
        axes = axes_at(figure, 0, top, SCREEN_WIDTH, strip)
        show_image(axes, picture, aspect="auto")
        _name_inside(axes, name + over)
        top += strip + gap
    axes.set_xticks(np.linspace(0, panorama.shape[-1], len(_AZIMUTHS)) - 0.5, _AZIMUTHS)
    axes.tick_params(length=2, pad=1)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    top += ticks - gap
    axes = axes_at(figure, 0, top, small, small)
    show_image(axes, answer.tile)
    axes.set_title(answer.compared, pad=3)
    for number, item in enumerate(found):
        axes = axes_at(figure, (number + 1) * (small + gap), top, small, small)
        show_image(axes, item.tile)
        colour, mark = MARKS[item.right]
        _frame(axes, colour, "--" if item.right is False else "-")
        axes.set_title(f"{number + 1} {mark}", color=colour, fontweight="bold", pad=3)
        axes.set_xlabel(item.caption, labelpad=3, fontsize=7)
    _draw_turning(axes_at(figure, 0.62, figure.get_figheight() - curve + 0.14, SCREEN_WIDTH - 0.8, curve - 0.56), answer)
    return figure


@style()
def turning_summary(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], step_note: str = "") -> Figure:
    """Mean distance to the true tile against the angle of turning, over many queries.

    Args:
        curves: name of each run, its angles (A) and distances N x 2 x A, as they are and mirrored.
        step_note: added to the label of the axis.
    """
    figure = new_figure(PAGE_WIDTH, 2.7)
    panels = figure.subplots(1, 2, sharey=True)
    for row, (axes, name) in enumerate(zip(panels, ("as it is", "mirrored"), strict=True)):
        for i, (run, (angles, distances)) in enumerate(curves.items()):
            angle, distance = whole_turn(angles, distances)
            mean = distance[:, row].mean(0)
            colour, n = COLOURS[i % len(COLOURS)], len(distance)
            axes.plot(angle, mean, label=f"{run} (n = {n})", color=colour, linestyle=LINES[i % len(LINES)])
            if n > 1:
                half = stats.t.ppf(0.975, n - 1) * distance[:, row].std(0, ddof=1) / n**0.5
                axes.fill_between(angle, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
        axes.set_title(f"panorama {name}")
        axes.set_xlim(-180, 180)
        axes.set_xticks(range(-180, 181, 90))
        axes.set_xlabel(f"turned by (degrees){step_note}")
    panels[0].set_ylabel("squared distance to the true tile\n(mean, band: 95 %)")
    panels[0].set_ylim(0, None)
    key_above(figure, *panels[0].get_legend_handles_labels())
    return figure


def whole_turn(angle: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve with its first point again one turn later, so that it ends where the axis does.

    Args:
        angle: A degrees, ascending, less than one turn.
        distance: ... x A.
    """
    return np.append(angle, angle[0] + 360), np.concatenate([distance, distance[..., :1]], axis=-1)


def lay_over(picture: Tensor, values: Tensor) -> Tensor:
    """A descriptor laid over a picture, dark where it is low and bright where it is high; each picture has its own scale.

    Args:
        picture: uint8 3 x H x W.
        values: H x W, NaN where the picture stays as it is.
    """
    known = values.isfinite()
    low, high = torch.quantile(values[known].float(), torch.tensor([0.02, 0.98])).tolist()  # a few extremes must not flatten the rest
    scaled = ((values - low) / max(high - low, 1e-9)).clamp(0, 1).nan_to_num()
    colour = mpl.colormaps["magma"](scaled.numpy())[..., :3]  # H x W x 3
    weight = _OPACITY * known.numpy()[..., None]
    mixed = (1 - weight) * picture.movedim(0, -1).numpy() + weight * 255 * colour
    return torch.from_numpy(mixed.astype(np.uint8)).movedim(-1, 0)


def _draw_turning(axes: Axes, answer: Exploration) -> None:
    turning = answer.turning
    angle, distance, current = turning.angle, turning.distance, turning.distance[int(turning.mirrored)]
    whole = whole_turn(angle, distance)
    for row, name in enumerate(TURNED):
        width = 1.8 if row == int(turning.mirrored) else 1.0
        axes.plot(whole[0], whole[1][row], color=COLOURS[row], linestyle=LINES[row], label=name, linewidth=width)
    best = int(current.argmin())
    axes.plot(angle[best], current[best], "v", color=COLOURS[int(turning.mirrored)], markersize=6, label="best match")
    axes.axvline(turning.heading, color="black", linestyle=":", linewidth=1.2, label="shown now")
    axes.set(xlim=(-180, 180), ylim=turning.limits)
    axes.set_xticks(range(-180, 181, 90))
    axes.set_xlabel("turned to (degrees from north)", labelpad=1)
    axes.set_ylabel(f"squared distance\nto the {answer.compared} tile")
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 0.99), borderaxespad=0, handlelength=1.8, columnspacing=1.2)


@style()
def captioned_strips(pictures: Sequence[Tensor], captions: Sequence[str]) -> Figure:
    """Panoramas in two columns, each with a line above it.

    Args:
        pictures: uint8 3 x H x W each.
        captions: one line each.
    """
    rows = -(-len(pictures) // 2)
    width, line, gap = PAGE_WIDTH / 2 - 0.06, 0.2, 0.04
    strip = min(max(width * pictures[0].shape[-2] / pictures[0].shape[-1], 0.5), 1.0)
    figure = new_figure(PAGE_WIDTH, rows * (line + strip + gap), layout="none")
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        axes = axes_at(figure, (number % 2) * PAGE_WIDTH / 2, (number // 2) * (line + strip + gap) + line, width, strip)
        show_image(axes, picture, aspect="auto")
        axes.set_title(caption, loc="left", pad=2)
    return figure
