"""Hand-written OpenStreetMap extracts: features in metres about a centre, written with pyosmium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import osmium
from osmium.osm import mutable

from geodtr_lib.data.osm_projection import Projection

Point = tuple[float, float]
CENTRE = (24.94, 60.17)  # longitude, latitude


def rectangle(x: float, y: float, width: float, height: float) -> list[Point]:
    """Corners of a rectangle centred on a point."""
    a, b = width / 2, height / 2
    return [(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)]


class Town:
    """A town of 400 m: two short roads at opposite corners hold its frame, and one building stands at the centre if asked for."""

    def __init__(self, frame: float = 400.0, centre: Point = CENTRE, building: bool = False) -> None:
        self.projection = Projection(*centre)
        self.nodes: list[tuple[Point, dict[str, str], int]] = []
        self.ways: list[tuple[list[int], dict[str, str], int]] = []
        self.relations: list[tuple[list[tuple[str, int, str]], dict[str, str], int]] = []
        half = frame / 2
        if frame:
            self.way([(-half, -half), (-half + 1, -half)], {"highway": "path"})
            self.way([(half, half), (half - 1, half)], {"highway": "path"})
        if building:
            self.area(rectangle(0, 0, 20, 20), {"building": "yes", "height": "10", "roof:shape": "flat"})

    def lonlat(self, point: Point) -> Point:
        longitude, latitude = self.projection.to_lonlat(np.array(point[0]), np.array(point[1]))
        return float(longitude), float(latitude)

    def node(self, point: Point, tags: Mapping[str, str] | None = None) -> int:
        self.nodes.append((point, dict(tags or {}), len(self.nodes) + 1))
        return len(self.nodes)

    def way(self, points: Sequence[Point], tags: Mapping[str, str] | None = None, missing: Sequence[int] = ()) -> int:
        """A way; nodes numbered in ``missing`` are left out of the file, as a cut extract does."""
        refs = [10**9 + i if i in missing else self.node(point) for i, point in enumerate(points)]
        self.ways.append((refs, dict(tags or {}), len(self.ways) + 1))
        return len(self.ways)

    def area(self, ring: Sequence[Point], tags: Mapping[str, str] | None = None, missing: Sequence[int] = ()) -> int:
        way = self.way(ring, tags, missing)
        refs, tags, number = self.ways[-1]
        self.ways[-1] = ([*refs, refs[0]], dict(tags), number)
        return way

    def relation(self, members: Sequence[tuple[int, str]], tags: Mapping[str, str]) -> int:
        """A multipolygon of ways and their roles."""
        ways = [("w", way, role) for way, role in members]
        self.relations.append((ways, {"type": "multipolygon", **tags}, len(self.relations) + 1))
        return len(self.relations)

    def write(self, path: Path, box: tuple[Point, Point] | None = None) -> Path:
        header = osmium.io.Header()
        if box is not None:
            header.add_box(osmium.osm.Box(*self.lonlat(box[0]), *self.lonlat(box[1])))
        with osmium.SimpleWriter(str(path), header=header, overwrite=True) as writer:
            for point, tags, number in self.nodes:
                writer.add_node(mutable.Node(id=number, location=self.lonlat(point), tags=tags))
            for refs, tags, number in self.ways:
                writer.add_way(mutable.Way(id=number, nodes=refs, tags=tags))
            for members, tags, number in self.relations:
                writer.add_relation(mutable.Relation(id=number, members=members, tags=tags))
        return path
