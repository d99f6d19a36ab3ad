"""Polygons to pixels, exactly: a pixel belongs to a polygon when its centre lies inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

Window = tuple[slice, slice]


def fill(polygons: Sequence[shapely.Polygon] | np.ndarray, shape: tuple[int, int], resolution: float) -> tuple[Window, np.ndarray]:
    """Pixels whose centres lie in the union of polygons, holes left out.

    Every ring adds its winding where a row of pixel centres crosses it; the running sum along the row is the number of polygons over
    each centre. One pass for any number of (overlapping) polygons, no loop over pixels or rows.

    Args:
        polygons: polygons or multipolygons in metres, x east and y north of the raster's south-west corner.
        shape: (H, W) of the raster, row 0 in the north.
        resolution: metres per pixel.

    Returns:
        The window of the raster that holds them, as slices of rows and columns, and a boolean mask of that window.
    """
    height, width = shape
    parts = shapely.get_parts(np.asarray(polygons, object))
    rings, owner = shapely.get_rings(parts, return_index=True)
    if len(rings) == 0:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    # Exterior rings come first and wind one way, holes the other, however they were drawn.
    exterior = np.r_[True, owner[1:] != owner[:-1]]
    winding = np.where(shapely.is_ccw(rings) == exterior, 1, -1)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    column, row = xy[:, 0] / resolution, height - xy[:, 1] / resolution
    top, bottom = (int(np.clip(edge, 0, height)) for edge in (np.floor(row.min()), np.ceil(row.max())))
    left, right = (int(np.clip(edge, 0, width)) for edge in (np.floor(column.min()), np.ceil(column.max())))
    window = slice(top, bottom), slice(left, right)

    same = np.flatnonzero(ring[1:] == ring[:-1])
    row0, row1, column0, column1 = row[same], row[same + 1], column[same], column[same + 1]
    # Rows whose centre (r + 0.5) lies between the edge's ends; half-open, so that a corner counts once.
    first = np.clip(np.ceil(np.minimum(row0, row1) - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(row0, row1) - 0.5), top, bottom).astype(np.int64)
    crossings = last - first
    edge = np.repeat(np.arange(len(same)), crossings)
    at = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings)
    crossed = column0[edge] + (at + 0.5 - row0[edge]) / (row1[edge] - row0[edge]) * (column1[edge] - column0[edge])
    start = np.clip(np.ceil(crossed - 0.5), left, right).astype(np.int64)
    change = np.zeros((bottom - top, right - left + 1), np.int16)
    sign = np.where(row1 > row0, 1, -1) * winding[ring[same]]
    np.add.at(change, (at - top, start - left), sign[edge].astype(np.int16))
    return window, np.cumsum(change[:, :-1], axis=1, dtype=np.int16) > 0


def paint(raster: np.ndarray, polygons: Sequence[shapely.Polygon] | np.ndarray, resolution: float, value: int) -> None:
    """Set the pixels of these polygons in place."""
    window, mask = fill(polygons, (raster.shape[0], raster.shape[1]), resolution)
    raster[window][mask] = value
