"""Walls and roofs of an extract's buildings as rasters of height.

Everything stands on the ground: a height field cannot float, so parts that do (``min_height``, passages) are filled below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from scipy import ndimage

from geodtr_lib.data.osm_buildings import Houses
from geodtr_lib.data.osm_features import Building
from geodtr_lib.data.polygon_fill import Window, fill

_MAX_RISE = 7.0  # metres, of a roof whose height is not mapped
_MAX_PART = 0.4  # of the building's mapped height that such a roof takes

# Height of the roof surface as a part of its rise, by place between the edge (0) and the middle (1): the roof's section.
_SECTIONS: dict[str, tuple[list[float], list[float]]] = {
    "mansard": ([0, 0.3, 1], [0, 0.75, 1]),
    "gambrel": ([0, 0.4, 1], [0, 0.7, 1]),
    "dome": (np.linspace(0, 1, 17).tolist(), np.sqrt(1 - (1 - np.linspace(0, 1, 17)) ** 2).tolist()),
}
_SECTIONS |= {"onion": _SECTIONS["dome"], "round": _SECTIONS["dome"]}
_RIDGED = ("gabled", "gambrel", "round", "saltbox", "skillion")  # fall to two sides (or one) and leave upright ends


def raise_houses(
    buildings: Sequence[Building], houses: Houses, solid: np.ndarray, eaves: np.ndarray, number: np.ndarray, resolution: float
) -> None:
    """Write heights (metres), eaves (metres) and building numbers (from 1) into H x W rasters in place; the highest wins.

    Works building by building in its own window.
    """
    shape = (solid.shape[0], solid.shape[1])
    for i, b in enumerate(buildings):
        window, mask = fill([b.polygon], shape, resolution)
        if not mask.any():
            continue
        wall, top, edge = _roof(b, houses, i, window, mask, resolution)
        higher = mask & (top > solid[window])
        solid[window][higher] = top[higher]
        # At its edge a roof stands on wall: gables are walls up to the roof.
        eaves[window][higher] = np.where(edge, top, wall)[higher]
        number[window][higher] = i + 1


def _roof(b: Building, houses: Houses, i: int, window: Window, mask: np.ndarray, resolution: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Height of the roof's foot, of the roof's surface, and where its edge is."""
    shape = houses.roof_shape[i]
    if shape == "flat":
        wall = float(np.nan_to_num(houses.height[i], nan=houses.wall_height[i]))
        return wall, np.full(mask.shape, wall, np.float32), mask
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]  # pixels; a roof at the raster's edge ends there
    edge = inside < 1.5
    middle = max(float(inside.max()) - 0.5, 0.5)
    part = np.clip((inside - 0.5) / middle, 0, 1)
    half_width = middle * resolution
    if shape in _RIDGED:
        across, half_width = _across(b, window, mask, resolution)
        part = (1 + across) / 2 if shape == "skillion" else 1 - np.abs(across)
    rise = houses.rise[i]
    known = not np.isnan(rise)
    if not known:
        rise = min(houses.slope[i] * half_width, _MAX_RISE)
    height = houses.height[i]
    if np.isnan(height):
        wall = houses.wall_height[i]
    else:
        rise = min(rise, height) if known else min(rise, _MAX_PART * height)
        wall = height - rise
    if shape in _SECTIONS:
        part = np.interp(part, *_SECTIONS[shape])
    return float(wall), (wall + rise * part).astype(np.float32), edge


def _across(b: Building, window: Window, mask: np.ndarray, resolution: float) -> tuple[np.ndarray, float]:
    """Place across the ridge, -1 to 1 over the footprint, and half the width in metres; the ridge follows the long side."""
    corner = shapely.get_coordinates(shapely.oriented_envelope(b.polygon))
    first, second = corner[1] - corner[0], corner[2] - corner[1]
    ridge = first if (np.hypot(*first) >= np.hypot(*second)) != b.across else second
    east, north = -ridge[1] / np.hypot(*ridge), ridge[0] / np.hypot(*ridge)
    column, row = np.arange(mask.shape[1]), np.arange(mask.shape[0])[:, None]
    place = (column * east - row * north) * resolution
    low, high = place[mask].min(), place[mask].max()
    half = max((high - low) / 2, resolution / 2)
    return np.clip((place - (low + high) / 2) / half, -1, 1), float(half)
