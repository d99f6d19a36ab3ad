"""Figures of what a training batch holds: the views of LS and of CHSG (Fig. 4 and 5), and places that look alike (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from geodtr_lib.data.base import PairDataset
from geodtr_lib.geometry import apply_layout
from geodtr_lib.plots.images import axes_at, show_image
from geodtr_lib.plots.style import PAGE_WIDTH, new_figure, style
from geodtr_lib.sampling import augmented_views, draw_layouts, policy_named

_COARSE = 16  # pixels of a side, to which tiles are averaged before they are compared


@style()
def twin_views(
    dataset: PairDataset, queries: Sequence[int], samplings: Mapping[str, str], seed: int = 0, strength: str = "strong"
) -> Figure:
    """The batch that each sampling makes of the same places, by training's own draws: square tiles, and panoramas beside them.

    Args:
        dataset: training pairs with square tiles.
        queries: the places of the batch.
        samplings: heading of each block, and its name in :data:`geodtr_lib.sampling.POLICIES`.
        seed: of the draws.
        strength: of the semantic augmentation, ``config.semantic``.
    """
    count = len(queries)
    views = [policy_named(sampling).views for sampling in samplings.values()]
    figure = new_figure(PAGE_WIDTH, 0.25 * len(views) + 0.62 * sum(views))
    blocks = figure.subfigures(len(views), 1, height_ratios=[0.4 + n for n in views], squeeze=False)[:, 0]
    for block, (heading, sampling) in zip(blocks, samplings.items(), strict=True):
        policy, generator = policy_named(sampling), torch.Generator().manual_seed(seed)
        flip, turns = draw_layouts(policy, count, generator)
        pictures = (dataset.aerial(dataset.positive[list(queries)]), dataset.ground(queries))
        aerial, ground = (augmented_views(images, policy, strength, generator) for images in pictures)
        aerial, ground = apply_layout(aerial, ground, flip.flatten(), turns.flatten())
        block.suptitle(heading, fontsize=8)
        ratio = ground.shape[-1] / ground.shape[-2]
        grid = block.add_gridspec(policy.views, 2 * count, width_ratios=[1, ratio] * count)
        for view in range(policy.views):
            for place in range(count):
                row = view * count + place
                for offset, picture in enumerate((aerial[row], ground[row])):
                    axes = block.add_subplot(grid[view, 2 * place + offset])
                    show_image(axes, picture)
                if policy.views > 1 and place == 0:
                    block.axes[-2].set_ylabel(f"view {view + 1}")
    return figure


@style()
def look_alikes(datasets: Sequence[PairDataset], apart: float = 72.0) -> Figure:
    """The two places of each data set that :func:`most_alike` finds (after Fig. 6).

    Args:
        datasets: with positions in metres.
        apart: side of a tile in metres.
    """
    title, gap, middle = 0.19, 0.03, 0.1  # inches
    ratios = [shape[-1] / shape[-2] for shape in (dataset.ground([0]).shape for dataset in datasets)]
    heights = [((PAGE_WIDTH - middle) / 2 - 2 * gap) / (1 + ratio) for ratio in ratios]
    figure, top = new_figure(PAGE_WIDTH, sum(heights) + title * len(datasets), layout="none"), title
    for dataset, height, ratio in zip(datasets, heights, ratios, strict=True):
        first, second, difference = most_alike(dataset, apart)
        for left, place in ((gap, first), ((PAGE_WIDTH + middle) / 2, second)):
            tile = axes_at(figure, left, top, height, height)
            show_image(tile, dataset.aerial([int(dataset.positive[place])])[0])
            if place == first:
                heading = f"{dataset.area}: places {first} and {second} of {len(dataset):,}"
                apart_by = f"their tiles at {_COARSE} × {_COARSE} pixels differ by {difference:.0f} of 255 on average"
                tile.set_title(f"{heading}; {apart_by}", loc="left", pad=2)
            show_image(axes_at(figure, left + height + gap, top, height * ratio, height), dataset.ground([place])[0])
        top += height + title
    return figure


def most_alike(dataset: PairDataset, apart: float) -> tuple[int, int, float]:
    """The two places whose tiles differ least although they do not overlap; and by how many of 255 levels on average.

    The difference is of the tiles averaged to 16 x 16 pixels: single trees and cars hardly count in it.

    Args:
        dataset: with positions in metres.
        apart: side of a tile in metres. Tiles look north, so they overlap where both coordinates are less than this apart.

    Raises:
        ValueError: the data set knows no positions, or has no two places so far apart.
    """
    if dataset.query_position is None:
        raise ValueError(f"{dataset!r} has no positions in metres")
    tiles = torch.nn.functional.adaptive_avg_pool2d(dataset.aerial(dataset.positive).float(), _COARSE).flatten(1)  # N x 768
    difference = torch.cdist(tiles, tiles, p=1) / tiles.shape[1]  # N x N
    position = torch.tensor(dataset.query_position, dtype=torch.float64)
    difference[torch.cdist(position, position, p=torch.inf) < apart] = torch.inf
    best = int(difference.argmin())
    first, second = divmod(best, len(tiles))
    if torch.isinf(difference[first, second]):
        raise ValueError(f"{dataset!r} has no two places whose tiles of {apart:g} m do not overlap")
    return first, second, float(difference[first, second])
