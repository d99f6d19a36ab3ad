"""The sea: OpenStreetMap maps its edge as directed lines with land on the left, not as polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

_SIDE = 0.05  # metres beside a coastline at which the sides are looked up
_NEAR_EDGE = 60.0  # metres; a coast that ends nearer to the frame's edge goes straight to it


def sea_polygons(coastlines: Sequence[shapely.LineString], frame: shapely.Polygon, land: np.ndarray) -> list[shapely.Polygon]:
    """Parts of ``frame`` that are sea.

    The frame is cut along the coastlines; a part is sea when most of its coast, by length, has it on the right. Lines that end inside
    the frame, as extracts cut them, are first led to the line that goes on nearby or to the frame's edge.

    Args:
        coastlines: directed lines, land on the left, in metres.
        frame: convex polygon, metres.
        land: P x 2 positions known to be on land, metres; they decide where a coast that ends far from the edge goes on.
    """
    if not coastlines:
        return []
    coast = list(shapely.get_parts(shapely.line_merge(shapely.multilinestrings(list(coastlines)), directed=True)))
    bridges = _bridges([line for line in coast if not line.is_closed], frame)
    dry = shapely.STRtree(shapely.points(np.reshape(land, (-1, 2))))
    for i, bridge in enumerate(bridges):
        end = shapely.get_point(bridge, 0)
        if bridge.length > _NEAR_EDGE and not frame.contains(shapely.get_point(bridge, -1)):
            ways = [bridge, *(_beyond(end, end.x + np.sin(a), end.y + np.cos(a), frame) for a in np.deg2rad(np.arange(0, 360, 10)))]
            bridges[i] = min(ways, key=lambda way: (_wet([*bridges[:i], way, *bridges[i + 1 :]], coast, frame, dry), way.length))
    return _cut(bridges, coast, frame)


def _cut(bridges: Sequence[shapely.LineString], coast: Sequence[shapely.LineString], frame: shapely.Polygon) -> list[shapely.Polygon]:
    """Cut the frame along coast and bridges, and keep the sea."""
    pieces = shapely.get_parts(shapely.polygonize(shapely.get_parts(shapely.union_all([*coast, *bridges, frame.exterior]))))
    parts = [piece for piece in pieces if frame.contains(piece.representative_point())]
    balance = np.zeros(len(parts))  # metres of coast on whose right the part lies, less those on whose left
    tree = shapely.STRtree(parts)
    for line in coast:
        x, y = shapely.get_coordinates(line).T
        dx, dy = np.diff(x), np.diff(y)
        length = np.maximum(np.hypot(dx, dy), 1e-9)
        middle_x, middle_y = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2
        for side in (1, -1):
            points = shapely.points(middle_x + side * _SIDE * dy / length, middle_y - side * _SIDE * dx / length)
            segment, part = tree.query(points, predicate="within")
            np.add.at(balance, part, side * length[segment])
    return [part for part, right in zip(parts, balance, strict=True) if right > 0]


def _wet(bridges: Sequence[shapely.LineString], coast: Sequence[shapely.LineString], frame: shapely.Polygon, dry: shapely.STRtree) -> int:
    """Number of land positions that this choice of bridges puts into the sea."""
    return int(dry.query(np.array(_cut(bridges, coast, frame), object), predicate="contains").shape[1])


def _bridges(lines: Sequence[shapely.LineString], frame: shapely.Polygon) -> list[shapely.LineString]:
    """Lines from ends inside the frame to where the coast may go on: the nearest beginning, or the frame's edge when that is nearer."""
    starts = [point for line in lines if frame.contains(point := shapely.get_point(line, 0))]
    ends = [point for line in lines if frame.contains(point := shapely.get_point(line, -1))]
    bridges = []
    for end in ends:
        nearest = min(starts, key=end.distance, default=None)
        if nearest is not None and end.distance(nearest) < end.distance(frame.exterior):
            starts.remove(nearest)
            bridges.append(shapely.LineString([end, nearest]))
        else:
            bridges.append(_to_edge(end, frame))
    return bridges + [_to_edge(start, frame) for start in starts]


def _to_edge(point: shapely.Point, frame: shapely.Polygon) -> shapely.LineString:
    edge = frame.exterior.interpolate(frame.exterior.project(point))
    return _beyond(point, edge.x, edge.y, frame)


def _beyond(point: shapely.Point, x: float, y: float, frame: shapely.Polygon) -> shapely.LineString:
    """From a point inside the frame through (x, y) to just beyond the edge: a line that ends exactly on it may miss it by rounding."""
    west, south, east, north = frame.bounds
    reach = np.hypot(east - west, north - south) / max(np.hypot(x - point.x, y - point.y), 1e-9)
    ray = shapely.LineString([point, (point.x + reach * (x - point.x), point.y + reach * (y - point.y))])
    length = ray.intersection(frame).length + 0.01
    return shapely.LineString([point, ray.interpolate(length)])
