"""Figures of what a training batch holds: the views of LS and of CHSG (Fig. 4 and 5), and places that look alike (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib.data.augment import semantic_augmentation
from geodtr_lib.data.base import PairDataset
from geodtr_lib.data.inputs import to_unit_range
from geodtr_lib.geometry import apply_layout
from geodtr_lib.plots.images import show_image
from geodtr_lib.plots.style import PAGE_WIDTH, new_figure, style
from geodtr_lib.sampling import draw_layouts, policy_named


@style()
def twin_views(dataset: PairDataset, queries: Sequence[int], samplings: Mapping[str, str], seed: int = 0) -> Figure:
    """The batch that each sampling makes of the same places: square tiles, and panoramas beside them.

    Args:
        dataset: training pairs with square tiles.
        queries: the places of the batch.
        samplings: heading of each block, and its name in :data:`geodtr_lib.sampling.POLICIES`.
        seed: of the draws.
    """
    count = len(queries)
    views = [policy_named(sampling).views for sampling in samplings.values()]
    figure = new_figure(PAGE_WIDTH, 0.25 * len(views) + 0.62 * sum(views))
    blocks = figure.subfigures(len(views), 1, height_ratios=[0.4 + n for n in views], squeeze=False)[:, 0]
    for block, (heading, sampling) in zip(blocks, samplings.items(), strict=True):
        policy, generator = policy_named(sampling), torch.Generator().manual_seed(seed)
        flip, turns = draw_layouts(policy, count, generator)
        images: list[Tensor] = []
        for pictures in (dataset.aerial(dataset.positive[list(queries)]), dataset.ground(queries)):
            floats = to_unit_range(pictures).repeat(policy.views, 1, 1, 1)
            images.append(semantic_augmentation(floats, "strong", generator) if policy.semantic != "none" else floats)
        aerial, ground = apply_layout(images[0], images[1], flip.flatten(), turns.flatten())
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
    """The two places of each data set whose tiles differ least in their pixels, although they do not overlap (after Fig. 6).

    Args:
        datasets: with positions in metres.
        apart: metres between the two, at least.
    """
    figure = new_figure(PAGE_WIDTH, 0.3 + 1.15 * len(datasets))
    ratio = 4.0
    grid = figure.add_gridspec(len(datasets), 4, width_ratios=[1, ratio, 1, ratio])
    for row, dataset in enumerate(datasets):
        first, second, difference = most_alike(dataset, apart)
        for offset, place in enumerate((first, second)):
            tile = figure.add_subplot(grid[row, 2 * offset])
            show_image(tile, dataset.aerial([int(dataset.positive[place])])[0])
            panorama = figure.add_subplot(grid[row, 2 * offset + 1])
            show_image(panorama, dataset.ground([place])[0])
            of_both = "" if offset else f"{dataset.area}, mean difference {difference:.0f} of 255: "
            panorama.set_title(f"{of_both}place {place}", fontsize=7)
    return figure


def most_alike(dataset: PairDataset, apart: float) -> tuple[int, int, float]:
    """Two places that are at least ``apart`` metres from each other and whose tiles differ least; and by how many grey levels on average.

    Raises:
        ValueError: the data set knows no positions, or has no two places so far apart.
    """
    if dataset.query_position is None:
        raise ValueError(f"{dataset!r} has no positions in metres")
    tiles = torch.nn.functional.adaptive_avg_pool2d(dataset.aerial(dataset.positive).float(), 16).flatten(1)  # N x 768
    difference = torch.cdist(tiles, tiles, p=1) / tiles.shape[1]  # N x N
    position = torch.tensor(dataset.query_position, dtype=torch.float64)
    difference[torch.cdist(position, position) < apart] = torch.inf
    best = int(difference.argmin())
    first, second = divmod(best, len(tiles))
    if torch.isinf(difference[first, second]):
        raise ValueError(f"{dataset!r} has no two places {apart:g} m apart")
    return first, second, float(difference[first, second])
