"""One descriptor in the shape of the panorama, of the unrolled tile and of the tile."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geodtr_lib.geometry import polar_transform


class Overlay(NamedTuple):
    """A descriptor's values over the pictures; NaN where it has none."""

    ground: Tensor
    """H x W."""
    unrolled: Tensor
    """H x W."""
    tile: Tensor
    """S x S."""


def overlay(ground: Tensor, aerial: Tensor, size: tuple[int, int], side: int, polar: bool) -> Overlay:
    """Bring one descriptor of both views to the pictures' shapes, bilinearly.

    Args:
        ground: h x w, of the panorama.
        aerial: h' x w', of the unrolled tile when ``polar``, else of the square tile.
        size: (H, W) of the panorama and of the unrolled tile.
        side: S of the tile.
        polar: the model takes unrolled tiles.
    """
    seen = _enlarged(ground, size)
    if polar:
        unrolled = _enlarged(aerial, size)
        return Overlay(seen, unrolled, roll_up(unrolled, side))
    square = _enlarged(aerial, (side, side))
    return Overlay(seen, polar_transform(square[None, None], size)[0, 0], square)


def roll_up(unrolled: Tensor, side: int) -> Tensor:
    """The inverse of the polar transform: H x W values in panorama shape to S x S on the tile, NaN beyond its reach (the corners)."""
    height, width = unrolled.shape
    place = torch.arange(side, dtype=torch.float64)
    south, west = place[:, None] - side / 2, side / 2 - place[None]
    radius = torch.hypot(south.expand(side, side), west.expand(side, side))
    row = height - 1 - radius * height / (side / 2)
    column = torch.atan2(west.expand(side, side), south.expand(side, side)) / (2 * torch.pi) * width % width
    wrapped = torch.cat([unrolled, unrolled[:, :1]], dim=1)[None, None].double()  # 1 x 1 x H x (W + 1): the seam in the south
    grid = torch.stack([2 * column / width - 1, 2 * row / (height - 1) - 1], dim=-1)
    found = F.grid_sample(wrapped, grid[None], mode="bilinear", align_corners=True, padding_mode="border")[0, 0]
    return found.masked_fill(row < -0.5, torch.nan).to(unrolled.dtype)


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0]
