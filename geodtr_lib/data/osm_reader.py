"""An OpenStreetMap extract as vector features in local metres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely

from geodtr_lib.data.osm_coastline import sea_polygons
from geodtr_lib.data.osm_features import (
    BARRIERS,
    RAILWAYS,
    WATERWAYS,
    Building,
    Line,
    Road,
    Surface,
    Tags,
    Tree,
    is_building,
    is_marked_crossing,
    is_underground,
    line_kind,
    read_building,
    read_line,
    read_road,
    read_tree,
)  # fmt: skip
from geodtr_lib.data.osm_projection import Projection
from geodtr_lib.data.osm_surfaces import surface_kind
from geodtr_lib.data.osm_tags import Report
from geodtr_lib.errors import DatasetError
from geodtr_lib.lookup import MAP_SUFFIXES, exists, is_folder

Box = tuple[float, float, float, float]
Ring = list[tuple[float, float]]
Feature = tuple[str, Tags, Any]  # id such as way/123, tags, geometry

_LARGEST = 10_000.0  # km2, far more than a raster holds at any resolution that shows a street
_LONG_TO_READ = 20_000_000  # bytes: some tools leave the box of the whole planet in a small file, which is read to see what it holds
_LINE_KEYS = ("highway", "railway", "waterway", "barrier", "natural", "man_made")


@dataclass
class Extract:
    """Everything of an extract that can be drawn. Positions are metres east and north of the south-west corner of ``box``.

    Features may reach beyond ``size``. What lies underground is left out.

    Attributes:
        box: west, south, east, north in degrees: the bounding box of buildings and roads, within the file's own box if it has one.
        size: extent of ``box`` east and north, metres.
        crossings: positions of painted crossings.
        report: what there is, and what could not be used.
    """

    path: Path
    box: Box
    projection: Projection
    size: tuple[float, float]
    report: Report
    buildings: list[Building] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    crossings: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class _Raw:
    """What is read from the file: geometry in degrees."""

    areas: list[Feature] = field(default_factory=list)
    lines: list[Feature] = field(default_factory=list)
    nodes: list[Feature] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    box: Box | None = None
    n_objects: int = 0


def read_extract(path: str | Path) -> Extract:
    """Read an extract, in any of the formats of :data:`geodtr_lib.lookup.MAP_SUFFIXES`.

    Raises:
        DatasetError: the file is missing, a folder, empty, cut short or of another format, is of a whole country, or holds no buildings
            or no roads.
    """
    path = Path(path)
    if not exists(path):
        raise DatasetError(f"{path} does not exist; give the path of an OpenStreetMap extract (.osm.pbf)")
    if is_folder(path):
        raise DatasetError(f"{path} is a folder; give the path of an OpenStreetMap extract (.osm.pbf) in it")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty; download or cut the extract again")
    try:
        raw = _read(path)
    except (RuntimeError, OSError) as error:
        raise DatasetError(f"{path} is cut short or no OpenStreetMap extract ({error}); download or cut it again as .osm.pbf") from None
    if not raw.n_objects:
        raise DatasetError(f"{path} holds no map data; it is cut short or empty, download or cut the extract again")
    return _project(path, raw)


def _read(path: Path) -> _Raw:
    raw = _Raw()
    # osmium tells formats by lower-case endings only.
    ending = next((suffix for suffix in MAP_SUFFIXES if path.name.lower().endswith(suffix)), "")
    source = osmium.io.File(str(path), ending.removeprefix(".").replace("osm.pbf", "pbf"))
    box = osmium.io.Reader(source, osmium.osm.NOTHING).header().box()
    if box.valid():
        raw.box = (box.bottom_left.lon, box.bottom_left.lat, box.top_right.lon, box.top_right.lat)
        if path.stat().st_size > _LONG_TO_READ:
            _check_extent(path, raw.box)
    # Where an extract cuts through a building, its area cannot be assembled: what is there of the outline is kept for that case.
    relations: dict[str, tuple[Tags, list[tuple[int, bool]]]] = {}
    for entity in _entities(osmium.FileProcessor(source, osmium.osm.RELATION)):
        if entity.tags.get("type") == "multipolygon" and is_building(entity.tags):
            members = [(member.ref, member.role == "inner") for member in entity.members if member.type == "w"]
            relations[f"relation/{entity.id}"] = dict(entity.tags), members
    outline_ways = {ref for _, members in relations.values() for ref, _ in members}
    outlines: dict[int, Ring] = {}
    building_ways: dict[str, tuple[Tags, int]] = {}

    to_wkb = osmium.geom.WKBFactory()
    tagged_nodes = osmium.filter.EmptyTagFilter()
    tagged_nodes.enable_for(osmium.osm.NODE)
    assembled: set[str] = set()
    areas: list[tuple[str, Tags, str]] = []
    for entity in _entities(osmium.FileProcessor(source).with_locations().with_areas().with_filter(tagged_nodes)):
        raw.n_objects += 1
        tags: Tags = dict(entity.tags)
        if entity.is_node():
            if tags.get("natural") == "tree" or is_marked_crossing(tags):
                raw.nodes.append((f"node/{entity.id}", tags, shapely.Point(entity.lon, entity.lat)))
        elif entity.is_way():
            osm_id, runs = f"way/{entity.id}", list(_runs(entity.nodes))
            if entity.id in outline_ways or (is_building(tags) and entity.is_closed()):
                outlines[entity.id] = [position for run in runs for position in run]
            if is_building(tags) and entity.is_closed():
                building_ways[osm_id] = tags, entity.id
            if any(key in tags for key in _LINE_KEYS) and not (entity.is_closed() and tags.get("area") == "yes"):
                raw.lines += [(osm_id, tags, shapely.LineString(run)) for run in runs if len(run) > 1]
        elif entity.is_area() and tags:
            osm_id = f"{'way' if entity.from_way() else 'relation'}/{entity.orig_id()}"
            assembled.add(osm_id)
            if is_building(tags) or surface_kind(tags, entity.from_way()):
                areas.append((osm_id, tags, to_wkb.create_multipolygon(entity)))
    polygons = shapely.from_wkb([wkb for _, _, wkb in areas])
    raw.areas = [(osm_id, tags, polygon) for (osm_id, tags, _), polygon in zip(areas, polygons, strict=True)]
    for osm_id, (tags, way) in building_ways.items():
        if osm_id not in assembled:
            _add_cut(raw, osm_id, tags, [outlines[way]], [])
    for osm_id, (tags, members) in relations.items():
        if osm_id not in assembled:
            outer, inner = ([outlines[ref] for ref, is_inner in members if is_inner == hole and ref in outlines] for hole in (False, True))
            _add_cut(raw, osm_id, tags, outer, inner)
    return raw


def _check_extent(path: Path, box: Box) -> None:
    """Refuse a country by its header: reading all of it first would take minutes and the machine's memory.

    Raises:
        DatasetError: the box is larger than ``_LARGEST``.
    """
    west, south, east, north = box
    height = (north - south) * 111.2  # km
    width = (east - west) * 111.2 * float(np.cos(np.deg2rad((south + north) / 2)))
    if width * height > _LARGEST:
        raise DatasetError(
            f"{path} spans {width:.0f} x {height:.0f} km, too large for one raster; cut a smaller extract (osmium extract --bbox)"
        )


def _entities(processor: Iterable[Any]) -> Iterator[Any]:
    # The type of what a file holds is known only when it is read.
    yield from processor


def _runs(nodes: Iterable[Any]) -> Iterator[Ring]:
    """Longitude and latitude of a way's nodes, split where the extract lacks some."""
    run: Ring = []
    for node in nodes:
        if node.location.valid():
            run.append((node.lon, node.lat))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _add_cut(raw: _Raw, osm_id: str, tags: Tags, outer: list[Ring], inner: list[Ring]) -> None:
    """Keep what an extract has of a building across its edge: the nodes that are there, closed by a straight wall."""
    solid, holes = (
        shapely.union_all([shapely.make_valid(shapely.Polygon(ring)) for ring in rings if len(ring) > 3]) for rings in (outer, inner)
    )
    polygon = shapely.difference(solid, holes)
    if polygon.area == 0:
        raw.report.skip("building cut off by the extract", osm_id)
        return
    raw.report.counts["buildings cut and closed at the extract's edge"] += 1
    raw.areas.append((osm_id, tags, polygon))


def _project(path: Path, raw: _Raw) -> Extract:
    """Find the frame, move everything to metres and sort it into features."""
    report = raw.report
    for osm_id, tags, _ in raw.areas + raw.lines:
        if is_underground(tags):
            report.skip("underground", osm_id)
    areas = [feature for feature in raw.areas if not is_underground(feature[1])]
    lines = [feature for feature in raw.lines if not is_underground(feature[1])]
    buildings = [geometry for _, tags, geometry in areas if is_building(tags)]
    roads = [geometry for _, tags, geometry in lines if "highway" in tags]
    for what, key, found in (("buildings", "building", buildings), ("roads", "highway", roads)):
        if not found:
            raise DatasetError(f"{path} holds no {what} (tag {key!r}); take an extract of a built-up area and keep all tags")
    west, south, east, north = shapely.total_bounds(buildings + roads).tolist()
    if raw.box:
        west, south, east, north = max(west, raw.box[0]), max(south, raw.box[1]), min(east, raw.box[2]), min(north, raw.box[3])
    if not (west < east and south < north):
        raise DatasetError(f"{path} holds no buildings or roads within its own bounding box {raw.box}; cut the extract again")
    projection, size = Projection.of_box(west, south, east, north)
    extract = Extract(path, (west, south, east, north), projection, size, report)

    def in_metres(features: list[Feature]) -> Iterator[Feature]:
        geometry = np.array([geometry for *_, geometry in features], object)
        moved = shapely.transform(geometry, lambda lonlat: np.stack(projection.to_metres(*lonlat.T), axis=1))
        return ((osm_id, tags, local) for (osm_id, tags, _), local in zip(features, moved, strict=True))

    for osm_id, tags, area in in_metres(areas):
        for polygon in shapely.get_parts(area):
            if isinstance(polygon, shapely.Polygon):  # closing a cut outline may leave bits of line
                if is_building(tags):
                    extract.buildings.append(read_building(osm_id, tags, polygon, report))
                elif kind := surface_kind(tags, osm_id.startswith("way")):
                    extract.surfaces.append(Surface(osm_id, polygon, kind))
    coast = []
    for osm_id, tags, line in in_metres(lines):
        if "highway" in tags:
            extract.roads.append(read_road(osm_id, tags, line, report))
        elif tags.get("natural") == "coastline":
            coast.append(line)
        elif kind := line_kind(tags):
            extract.lines.append(read_line(osm_id, tags, line, kind, report))
    for osm_id, tags, point in in_metres(raw.nodes):
        if tags.get("natural") == "tree":
            extract.trees.append(read_tree(osm_id, tags, point, report))
        else:
            extract.crossings.append((point.x, point.y))
    land = shapely.get_coordinates([b.polygon.representative_point() for b in extract.buildings] + [road.line for road in extract.roads])
    extract.surfaces += [Surface("coastline", sea, "water") for sea in sea_polygons(coast, shapely.box(0, 0, *size), land)]
    _count(extract, len(coast))
    return extract


def _count(extract: Extract, n_coastlines: int) -> None:
    parts = sum(b.part for b in extract.buildings)
    kinds = [line.kind for line in extract.lines]
    extract.report.counts.update({
        "buildings": len(extract.buildings) - parts, "building parts": parts,
        "with height": sum(b.height is not None for b in extract.buildings),
        "with levels": sum(b.levels is not None for b in extract.buildings),
        "roads": len(extract.roads), "crossings": len(extract.crossings), "railways": sum(kind in RAILWAYS for kind in kinds),
        "waterways": sum(kind in WATERWAYS for kind in kinds), "coastlines": n_coastlines, "surfaces": len(extract.surfaces),
        "barriers": sum(kind in BARRIERS for kind in kinds), "trees": len(extract.trees), "tree rows": kinds.count("tree_row"),
    })  # fmt: skip
