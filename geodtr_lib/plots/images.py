"""Figures made of images: pairs, layouts, retrievals, descriptor maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib.data.base import PairDataset
from geodtr_lib.geometry import LAYOUTS, apply_layout, polar_transform
from geodtr_lib.plots.style import PAGE_WIDTH, RIGHT, WRONG, new_figure, style

_AZIMUTHS = ("S", "W", "N", "E", "S")  # of a panorama's columns, left to right


@style()
def pairs(
    aerial: Sequence[Tensor] | Tensor,
    ground: Sequence[Tensor] | Tensor,
    depth: Sequence[np.ndarray] | np.ndarray | None = None,
    titles: Sequence[str] = (),
) -> Figure:
    """Matched pairs: the tile, and beside it, column under column, the unrolled tile, the panorama and its depth.

    Args:
        aerial: B images of 3 x S x S, uint8 or [0, 1], north up; one that is unrolled already (not square) takes the tile's place.
        ground: B panoramas of 3 x H x W, north in the centre.
        depth: B maps of H x W in metres, inf for sky.
        titles: one per pair.
    """
    tile, strip, gap, title, ticks, bar = 1.5, 1.9, 0.04, 0.2, 0.24, 0.5  # inches; two pairs stand side by side
    rows = -(-len(ground) // 2)
    figure = new_figure(PAGE_WIDTH, rows * (title + tile + ticks) + (bar if depth is not None else 0), layout="none")
    names = ["unrolled tile", "panorama", "depth"][: 2 + (depth is not None)]
    height = (tile - gap * (len(names) - 1)) / len(names)
    for i in range(len(ground)):
        left, top = (i % 2) * PAGE_WIDTH / 2 + gap, (i // 2) * (title + tile + ticks) + title
        axes = axes_at(figure, left, top, tile, tile)
        show_image(axes, aerial[i])
        axes.set_title(titles[i] if len(titles) else "aerial tile", loc="left", pad=3)
        for row, name in enumerate(names):
            axes = axes_at(figure, left + tile + gap, top + row * (height + gap), strip, height)
            if name == "depth":
                shade = _show_depth(axes, np.asarray(depth[i], dtype=np.float32))  # type: ignore[index]
            else:
                show_image(axes, _unrolled(aerial[i], ground[i]) if row == 0 else ground[i], aspect="auto")
            _name_inside(axes, name)
        axes.set_xticks(np.linspace(0, ground[i].shape[-1], len(_AZIMUTHS)) - 0.5, _AZIMUTHS)
        axes.tick_params(length=2, pad=1)
    if depth is not None:
        axes = axes_at(figure, PAGE_WIDTH / 4, figure.get_figheight() - bar + 0.03, PAGE_WIDTH / 2, 0.08)
        scale = figure.colorbar(shade, cax=axes, orientation="horizontal", label="depth (m), sky grey")
        scale.set_ticks([2, 5, 10, 20, 50, 100, 200], labels=["2", "5", "10", "20", "50", "100", "200"])
    return figure


def example_pairs(datasets: Iterable[PairDataset], index: int = 0) -> Figure:
    """One pair of each data set, with its depth where all of them know it; see :func:`pairs`."""
    datasets = list(datasets)
    truths: list[dict[str, np.ndarray]] = [getattr(dataset, "truth", {}) for dataset in datasets]  # embedded data sets have it
    depths = [truth["ground_depth"][index] for truth in truths if "ground_depth" in truth]
    return pairs(
        [dataset.aerial([dataset.positive[index]])[0] for dataset in datasets],
        [dataset.ground([index])[0] for dataset in datasets],
        depths if len(depths) == len(datasets) else None,
        [f"{dataset.area}, {dataset.split}" for dataset in datasets],
    )


@style()
def layouts(aerial: Tensor, ground: Tensor, polar: bool = False) -> Figure:
    """Layout simulation: the eight layouts of one pair (Section III-D).

    Args:
        aerial: 3 x S x S, or 3 x H x W when ``polar``; uint8 or [0, 1].
        ground: 3 x H x W.
        polar: the aerial image is unrolled.
    """
    flip = torch.tensor([mirrored for mirrored, _ in LAYOUTS])
    turns = torch.tensor([quarter for _, quarter in LAYOUTS])
    n = len(LAYOUTS)
    aerial_views, ground_views = apply_layout(aerial.expand(n, -1, -1, -1), ground.expand(n, -1, -1, -1), flip, turns, polar)
    figure = new_figure(PAGE_WIDTH, 3.6)
    grid = figure.add_gridspec(4, 4, height_ratios=[2 if not polar else 1, 1] * 2)
    for i, (mirrored, quarter) in enumerate(LAYOUTS):
        row, column = 2 * (i // 4), i % 4
        top = figure.add_subplot(grid[row, column])
        show_image(top, aerial_views[i])
        top.set_title(("mirrored, " if mirrored else "") + (f"turned by {90 * quarter}°" if quarter else "not turned"))
        bottom = figure.add_subplot(grid[row + 1, column])
        show_image(bottom, ground_views[i])
        if column == 0:
            top.set_ylabel("aerial")
            bottom.set_ylabel("ground")
    return figure


@style()
def top_retrievals(
    queries: Tensor, retrieved: Tensor, right: np.ndarray | Tensor, truth: Tensor, rank: Sequence[int] | np.ndarray | Tensor
) -> Figure:
    """What each query retrieved, best first, and the true tile with its rank.

    A right tile has a solid blue frame and a tick, a wrong one a dashed orange frame and a cross.

    Args:
        queries: Q x 3 x H x W panoramas.
        retrieved: Q x k x 3 x S x S tiles, nearest first.
        right: Q x k, whether each is the query's own.
        truth: Q x 3 x S x S, the query's own tile.
        rank: Q, rank of the query's own tile, 1 = first.
    """
    n, k = retrieved.shape[:2]
    ratio = max(1.0, queries.shape[-1] / queries.shape[-2] / 2)
    figure = new_figure(PAGE_WIDTH, 0.35 + n * (PAGE_WIDTH / (ratio + k + 1) + 0.22))
    grid = figure.add_gridspec(n, k + 2, width_ratios=[ratio, *[1] * (k + 1)])
    for row in range(n):
        axes = figure.add_subplot(grid[row, 0])
        show_image(axes, queries[row])
        axes.set_title("query")
        for column in range(k):
            axes = figure.add_subplot(grid[row, 1 + column])
            show_image(axes, retrieved[row, column])
            hit = bool(right[row][column])
            _frame(axes, RIGHT if hit else WRONG, "-" if hit else "--")
            axes.set_title(f"{column + 1} {'✓' if hit else '✗'}", color=RIGHT if hit else WRONG, fontweight="bold")
        axes = figure.add_subplot(grid[row, k + 1])
        show_image(axes, truth[row])
        axes.set_title(f"truth, rank {int(rank[row]):,}")
    return figure


@style()
def descriptor_maps(aerial: Tensor, ground: Tensor, aerial_descriptors: Tensor, ground_descriptors: Tensor) -> Figure:
    """The geometric layout descriptors of one pair, laid over its images (Fig. 7 and 8).

    Args:
        aerial: 3 x H x W, uint8 or [0, 1]: the tile, or the unrolled tile that the model was given.
        ground: 3 x H x W.
        aerial_descriptors, ground_descriptors: K x h x w.
    """
    k = len(aerial_descriptors)
    values = torch.cat([aerial_descriptors.flatten(), ground_descriptors.flatten()]).float()
    limits = _limits(values)
    norm = Normalize(*limits)
    ratios = [image.shape[-1] / image.shape[-2] for image in (aerial, ground)]
    figure = new_figure(PAGE_WIDTH, 0.3 + (k + 1) * min(1.1, 0.85 * PAGE_WIDTH / sum(ratios)))
    grid = figure.add_gridspec(k + 1, 2, width_ratios=ratios)
    for column, (image, maps, name) in enumerate(((aerial, aerial_descriptors, "aerial"), (ground, ground_descriptors, "ground"))):
        size = (image.shape[-2], image.shape[-1])
        upsampled = F.interpolate(maps.detach().float().cpu()[None], size, mode="bilinear", align_corners=False)[0]  # K x H x W
        for row in range(k + 1):
            axes = figure.add_subplot(grid[row, column])
            show_image(axes, image)
            if row:
                axes.imshow(upsampled[row - 1].numpy(), cmap="magma", norm=norm, alpha=0.65)
            else:
                axes.set_title(name)
            if column == 0:
                axes.set_ylabel(f"q{row}" if row else "image")
    shade = mpl.cm.ScalarMappable(norm, "magma")
    figure.colorbar(shade, ax=figure.axes, shrink=0.5, pad=0.01, extend=_extend(limits, values), label="descriptor value")
    return figure


@style()
def descriptor_columns(columns: Sequence[tuple[str, Tensor, Tensor]], descriptors: Sequence[int], scales: Sequence[str] = ()) -> Figure:
    """Chosen descriptors of one pair under several views or models, laid over the images (Fig. 7 and 8).

    Args:
        columns: heading, image 3 x H x W (uint8 or [0, 1]) and maps K x h x w of each column.
        descriptors: which of the K are shown, one row each below the images.
        scales: name of each column's colour scale; columns of one name share it, and equal scales share a bar. Empty = all share one.
    """
    names = list(scales) or ["descriptor value"] * len(columns)
    values: dict[str, Tensor] = {}
    for name in dict.fromkeys(names):
        shown = [maps[list(descriptors)] for (_, _, maps), own in zip(columns, names, strict=True) if own == name]
        values[name] = torch.cat([maps.flatten().float() for maps in shown])
    limits = {name: _limits(found) for name, found in values.items()}
    norms = {name: Normalize(*found) for name, found in limits.items()}
    ratios = [image.shape[-1] / image.shape[-2] for _, image, _ in columns]
    height = min(0.9, 0.85 * PAGE_WIDTH / sum(ratios))
    figure = new_figure(PAGE_WIDTH, 0.5 + (len(descriptors) + 1) * (height + 0.06))
    grid = figure.add_gridspec(len(descriptors) + 1, len(columns), width_ratios=ratios)
    for column, ((title, image, maps), name) in enumerate(zip(columns, names, strict=True)):
        size = (image.shape[-2], image.shape[-1])
        upsampled = F.interpolate(maps.detach().float().cpu()[None], size, mode="bilinear", align_corners=False)[0]  # K x H x W
        for row, which in enumerate([-1, *descriptors]):
            axes = figure.add_subplot(grid[row, column])
            show_image(axes, image)
            if which < 0:
                axes.set_title(title)
            else:
                axes.imshow(upsampled[which].numpy(), cmap="magma", norm=norms[name], alpha=0.65)
            if column == 0:
                axes.set_ylabel(f"q{which + 1}" if which >= 0 else "image")
    pictures = list(figure.axes)
    # Scales that turn out equal are one bar; the first drawn ends up outermost.
    bars: dict[tuple[float, float], list[str]] = {}
    for name, found in limits.items():
        bars.setdefault(found, []).append(name)
    for found, sharing in reversed(bars.items()):
        label = ", ".join(sharing) if len(bars) > 1 else "descriptor value"
        extend = _extend(found, torch.cat([values[name] for name in sharing]))
        figure.colorbar(mpl.cm.ScalarMappable(Normalize(*found), "magma"), ax=pictures, shrink=0.7, pad=0.01, extend=extend, label=label)
    return figure


def _limits(values: Tensor) -> tuple[float, float]:
    """Of a colour scale: a few extremes must not flatten the rest."""
    low, high = torch.quantile(values, torch.tensor([0.02, 0.98])).tolist()
    return low, high


def _extend(limits: tuple[float, float], values: Tensor) -> str:
    """On which sides a colour bar has an arrow: where values lie outside its limits."""
    below, above = bool(values.min() < limits[0]), bool(values.max() > limits[1])
    return "both" if below and above else "min" if below else "max" if above else "neither"


def _unrolled(aerial: Tensor, ground: Tensor) -> Tensor:
    """The aerial image in the panorama's shape, unless it was unrolled before."""
    if aerial.shape[-1] != aerial.shape[-2]:
        return aerial
    return polar_transform(aerial[None], (ground.shape[-2], ground.shape[-1]))[0]


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    return figure.add_axes((left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height))


def show_image(axes: Axes, image: Tensor, aspect: Literal["equal", "auto"] = "equal") -> None:
    """Draw a 3 x H x W image (uint8 or [0, 1]) without ticks."""
    pixels = image.detach().cpu().movedim(0, -1)  # H x W x 3
    axes.imshow(pixels.numpy() if pixels.dtype == torch.uint8 else pixels.float().clamp(0, 1).numpy(), aspect=aspect)
    _bare(axes)


def _show_depth(axes: Axes, depth: np.ndarray) -> mpl.cm.ScalarMappable:
    """Draw H x W metres on a logarithmic scale from 2 to 200 m, sky in grey."""
    colours = mpl.colormaps["viridis_r"].with_extremes(bad="0.85")
    shade = axes.imshow(np.ma.masked_invalid(depth), cmap=colours, norm=LogNorm(2, 200), aspect="auto")
    _bare(axes)
    return shade


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _name_inside(axes: Axes, name: str) -> None:
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    axes.text(0.008, 0.95, name, transform=axes.transAxes, va="top", fontsize=7, bbox=box)


def _frame(axes: Axes, colour: str, line: str) -> None:
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.0, linestyle=line)
