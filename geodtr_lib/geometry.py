"""Geometry of a matched pair: polar transform, the 8 layouts, field of view and heading. Pure tensor functions.

Conventions. An aerial tile has north up and east right. A panorama has north in its centre column ``W/2`` and azimuth grows to the
right: east at ``3W/4``, south at ``0``, west at ``W/4``. The polar transform of a tile has the same columns.

A layout is one of the 8 symmetries of the square, written ``(flip, turns)``: first mirror east and west when ``flip``, then
``turns`` quarter turns counter-clockwise of the tile, which roll the panorama to the left (the release's "right").
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LAYOUTS: tuple[tuple[bool, int], ...] = tuple((flip, turns) for flip in (False, True) for turns in range(4))
"""The 8 layouts as (flip, turns); the first is the identity."""


# Polar transform


def polar_transform(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Unroll square aerial tiles to panorama shape, bilinearly (GeoDTR's and SAFA's data preparation).

    Output row ``i`` and column ``j`` look at radius ``S/2 (H-1-i)/H`` and angle ``2 pi j/W`` from south over west: the top row is
    the horizon, the bottom row the tile's centre. Source pixels beyond the tile count as 0.

    Args:
        images: B x C x S x S, uint8 or any float dtype, on any device.
        size: (H, W) of the result.

    Returns:
        B x C x H x W of the same dtype. uint8 is truncated, not rounded, and equals the release's images exactly.

    Raises:
        ValueError: the images are not square, or of another dtype.
    """
    height, width = size
    if images.ndim != 4 or images.shape[-1] != images.shape[-2]:
        raise ValueError(f"polar_transform needs B x C x S x S, got {list(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"polar_transform needs uint8 or floating point images, got {images.dtype}")
    if images.device.type == "mps":  # it has no float64
        return polar_transform(images.cpu(), size).to(images.device)
    part = part_length(images, height * width)
    if len(images) > part:
        return torch.cat([polar_transform(some, size) for some in images.split(part)])
    side = images.shape[-1]
    # The release truncates a float64 value. A constant area may come out one unit lower by rounding, so equality needs float64.
    dtype = torch.float64 if images.dtype in (torch.uint8, torch.float64) else torch.float32
    if reaches_beyond := side <= 2 * height:
        images = F.pad(images, (0, 1, 0, 1))
    stride = side + reaches_beyond
    corner, down, right = _polar_grid(side, stride, height, width, dtype, images.device)
    flat = images.flatten(2)  # B x C x SS

    def sample(offset: int) -> Tensor:
        return flat.gather(2, (corner + offset).expand(*flat.shape[:2], -1)).to(dtype)  # B x C x HW

    left_column = (sample(0) * (1 - down)).add_(sample(stride).mul_(down))
    right_column = (sample(1) * (1 - down)).add_(sample(stride + 1).mul_(down))
    value = left_column.mul_(1 - right).add_(right_column.mul_(right))
    return value.view(*images.shape[:2], height, width).to(images.dtype)


@lru_cache(maxsize=32)
def _polar_grid(side: int, stride: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the upper left of the four source pixels in rows of ``stride``, and the weights of those below and to the right: HW each."""
    radius = side / 2 / height * (height - 1 - np.arange(height))[:, None]
    angle = 2 * np.pi * np.arange(width)[None] / width
    x = side / 2 + radius * np.cos(angle)  # source row
    y = side / 2 - radius * np.sin(angle)  # source column
    row, column = x.astype(np.int64), y.astype(np.int64)
    with torch.inference_mode(False):  # a cached tensor made in inference mode would break a later backward pass
        corner = torch.from_numpy(row * stride + column).flatten().to(device)
        down = torch.from_numpy(x - row).flatten().to(device, dtype)
        right = torch.from_numpy(y - column).flatten().to(device, dtype)
    return corner, down, right


def part_length(images: Tensor, pixels: int) -> int:
    """How many images of so many pixels to take through a chain of operations at once. On a CPU as many as stay in its cache."""
    return max(1, 2**21 // (images.shape[1] * pixels)) if images.device.type == "cpu" else max(1, len(images))


# Layouts


def apply_layout(aerial: Tensor, ground: Tensor, flip: bool | Tensor, turns: int | Tensor, polar: bool = False) -> tuple[Tensor, Tensor]:
    """Give a pair another layout: both views mirrored, then turned, together (layout simulation).

    Where a width is not divisible by 4 the panorama is cut where the release cuts it: at ``floor(W/4)``, ``floor(W/2)`` and
    ``ceil(3W/4)`` for 1, 2 and 3 turns.

    Args:
        aerial: B x C x S x S, or B x C x H x W when ``polar``; any dtype and device.
        ground: B x C x H x W.
        flip: one value, or one per sample (B).
        turns: quarter turns, one value or one per sample (B); taken modulo 4.
        polar: the aerial images are unrolled, so they turn as a panorama does.

    Returns:
        Aerial and ground of the same shapes.

    Raises:
        ValueError: an odd number of turns for aerial images that are neither square nor polar.
    """
    return layout_aerial(aerial, flip, turns, polar), layout_ground(ground, flip, turns)


def layout_aerial(aerial: Tensor, flip: bool | Tensor, turns: int | Tensor, polar: bool = False) -> Tensor:
    """The aerial half of :func:`apply_layout`; also for descriptor maps, B x K x H x W."""
    if polar:
        return layout_ground(aerial, flip, turns)
    mirrored, quarter = _per_sample(flip, turns, len(aerial), aerial.device)
    height, width = aerial.shape[-2:]
    if height != width and bool((quarter % 2).any()):
        raise ValueError(f"a tile of {height} x {width} cannot make a quarter turn; it must be square (or pass polar=True)")
    source = _tile_sources(height, width, aerial.device)[mirrored * 4 + quarter]  # B x HW
    return aerial.flatten(2).gather(2, source[:, None].expand(-1, aerial.shape[1], -1)).view(aerial.shape)


@lru_cache(maxsize=8)
def _tile_sources(height: int, width: int, device: torch.device) -> Tensor:
    """For each layout, in the order of ``LAYOUTS``, where each pixel of a tile comes from: 8 x HW."""
    with torch.inference_mode(False):
        pixels = torch.arange(height * width, device=device).view(height, width)
        tiles = [(pixels.flip(1) if flip else pixels).rot90(turns) for flip, turns in LAYOUTS]
        return torch.stack([tile.flatten() for tile in tiles])


def layout_ground(ground: Tensor, flip: bool | Tensor, turns: int | Tensor) -> Tensor:
    """The ground half of :func:`apply_layout`: B x C x H x W."""
    mirrored, quarter = _per_sample(flip, turns, len(ground), ground.device)
    width = ground.shape[-1]
    cut = torch.where(quarter == 3, width - width // 4, quarter * width // 4)  # B
    column = (torch.arange(width, device=ground.device) + cut[:, None]) % width  # B x W
    return _take_columns(ground, torch.where(mirrored[:, None], width - 1 - column, column))


def turn_aerial(aerial: Tensor, turns: int | Tensor, polar: bool = False) -> Tensor:
    """Quarter turns counter-clockwise of the tile."""
    return layout_aerial(aerial, False, turns, polar)


def turn_ground(ground: Tensor, turns: int | Tensor) -> Tensor:
    """The panorama of a tile turned counter-clockwise: rolled left by a quarter of its width per turn."""
    return layout_ground(ground, False, turns)


def compose_layouts(first_flip: Tensor, first_turns: Tensor, second_flip: Tensor, second_turns: Tensor) -> tuple[Tensor, Tensor]:
    """The layout that equals the first followed by the second (element-wise; a mirror reverses the turns before it)."""
    turns = torch.where(second_flip, -first_turns, first_turns) + second_turns
    return first_flip ^ second_flip, turns % 4


def invert_layout(flip: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """The layout that undoes this one (element-wise). A mirrored layout is its own inverse."""
    return flip, torch.where(flip, turns, -turns) % 4


def _per_sample(flip: bool | Tensor, turns: int | Tensor, n: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Flip as n bools and turns as n integers 0 to 3."""
    # Drawn on the CPU; a copy that blocks would wait for all that the device still computes.
    mirrored, quarter = (torch.as_tensor(values).to(device, non_blocking=True) for values in (flip, turns))
    return mirrored.bool().expand(n), (quarter.long() % 4).expand(n)


def _take_columns(images: Tensor, columns: Tensor) -> Tensor:
    """Pick columns of B x C x H x W by B x W' indices: B x C x H x W'."""
    return images.gather(-1, columns[:, None, None].expand(*images.shape[:-1], columns.shape[-1]))


# Azimuth, heading and field of view


def azimuth_to_column(azimuth: float | Tensor, width: int) -> float | Tensor:
    """Column (fractional, in [0, W)) of a panorama or unrolled tile that looks to this azimuth, in degrees clockwise from north."""
    return (azimuth / 360 + 0.5) * width % width


def column_to_azimuth(column: float | Tensor, width: int) -> float | Tensor:
    """Azimuth in degrees, in [0, 360), of a column."""
    return (column / width + 0.5) * 360 % 360


def heading_shifts(n: int, seed: int) -> Tensor:
    """Headings of n queries whose north is unknown: degrees, uniform in [0, 360), n, float64. The same for the same seed."""
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 360


def roll_heading(ground: Tensor, shift: int | Tensor) -> Tensor:
    """Roll panoramas left by columns, one number or one per sample (B): the centre column then looks that much further clockwise.

    Args:
        ground: B x C x H x W.
        shift: whole columns, of either sign.
    """
    width = ground.shape[-1]
    start = torch.as_tensor(shift, device=ground.device).long().expand(len(ground))
    return _take_columns(ground, (torch.arange(width, device=ground.device) + start[:, None]) % width)


def field_of_view_width(width: int, fov: float) -> int:
    """Columns that a field of view of ``fov`` degrees leaves of a panorama of ``width`` columns.

    Raises:
        ValueError: a field of view outside (0, 360].
    """
    if not 0 < fov <= 360:
        raise ValueError(f"field of view {fov} is not in (0, 360] degrees")
    return max(1, round(width * fov / 360))


def crop_field_of_view(ground: Tensor, fov: float, shift: float | Tensor = 0.0) -> Tensor:
    """What a camera of limited view sees, looking to ``shift``.

    Args:
        ground: B x C x H x W, whole panoramas.
        fov: field of view in degrees, (0, 360].
        shift: azimuth of the view's centre in degrees, one value or one per sample (B).

    Returns:
        B x C x H x round(W fov / 360).
    """
    width = ground.shape[-1]
    kept = field_of_view_width(width, fov)
    turn = (torch.as_tensor(shift, dtype=torch.float64) / 360 * width).round().long()
    columns = torch.arange(kept, device=ground.device) + (width - kept) // 2
    start = turn.to(ground.device, non_blocking=True).expand(len(ground))
    return _take_columns(ground, (columns + start[:, None]) % width)
