"""Images of one shape with their names."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib.plots.style import PAGE_WIDTH, new_figure, style


@style()
def captioned(images: Mapping[str, Tensor], columns: int = 4) -> Figure:
    """Images in rows, each under its name.

    Args:
        images: name of each, and 3 x H x W, uint8 or [0, 1]; all of one shape.
        columns: images in a row.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = next(iter(images.values())).shape[1:]
    side = PAGE_WIDTH / max(columns, 4 if height == width else columns)
    figure = new_figure(side * columns, rows * (0.25 + side * height / width))
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, image) in zip(grid, images.items(), strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy())
        axes.set_title(name, loc="left", pad=2)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
