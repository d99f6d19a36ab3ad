"""The features of an OpenStreetMap extract that can be drawn, and how tags become them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import shapely

from geodtr_lib.data.osm_tags import RGB, Report, choice, parse_colour, parse_length, parse_number

Tags = Mapping[str, str]

ROOF_SHAPES = (
    "flat", "gabled", "hipped", "half-hipped", "pyramidal", "mansard", "gambrel", "dome", "onion", "cone", "round", "skillion", "saltbox",
)  # fmt: skip
BARRIERS = ("hedge", "wall", "fence", "retaining_wall", "city_wall")
RAILWAYS = ("rail", "light_rail", "narrow_gauge", "preserved", "tram")
WATERWAYS = ("river", "canal", "stream", "ditch", "drain")
_PIERS = ("pier", "breakwater", "groyne")
_NO_BUILDING = ("no", "proposed", "demolished", "razed")


@dataclass(frozen=True)
class Building:
    """A building or a part of one (``building:part``). Lengths in metres; None where the map says nothing."""

    osm_id: str  # e.g. way/123
    polygon: shapely.Polygon
    kind: str  # value of the tag: yes, apartments, church, ...
    part: bool
    height: float | None  # of the top of the roof
    levels: float | None  # storeys without those in the roof
    min_height: float | None
    min_level: float | None
    roof_shape: str | None
    roof_height: float | None
    roof_levels: float | None
    across: bool  # the ridge runs across the long side
    wall_rgb: RGB | None
    roof_rgb: RGB | None
    wall_material: str
    roof_material: str


@dataclass(frozen=True)
class Road:
    """A way for vehicles or people."""

    osm_id: str
    line: shapely.LineString
    kind: str  # value of ``highway``
    name: str
    width: float | None  # metres
    lanes: float | None
    oneway: bool
    covered: bool  # under a building or a roof
    surface: str


@dataclass(frozen=True)
class Line:
    """A railway, waterway, barrier, pier or row of trees; ``kind`` is the tag's value. Lengths in metres."""

    osm_id: str
    line: shapely.LineString
    kind: str
    width: float | None
    height: float | None


@dataclass(frozen=True)
class Surface:
    """An area of ground cover or water; ``kind`` is one of :data:`geodtr_lib.data.osm_surfaces.SURFACE_KINDS`."""

    osm_id: str
    polygon: shapely.Polygon
    kind: str


@dataclass(frozen=True)
class Tree:
    """A single tree: position, height and diameter of the crown in metres."""

    x: float
    y: float
    height: float | None
    crown: float | None


def is_building(tags: Tags) -> bool:
    """An area with these tags is a building or a part of one."""
    return tags.get("building", "no") not in _NO_BUILDING or tags.get("building:part", "no") not in _NO_BUILDING


def is_underground(tags: Tags) -> bool:
    """Nothing of it is seen from above or from a street. Passages through buildings do not count."""
    return (
        tags.get("tunnel", "no") not in ("no", "building_passage")
        or tags.get("location") in ("underground", "indoor")
        or tags.get("indoor", "no") not in ("no", "outside")
        or tags.get("layer", "").startswith("-")
    )


def is_marked_crossing(tags: Tags) -> bool:
    """A node with these tags is a crossing that is painted on the road."""
    return tags.get("highway") == "crossing" and tags.get("crossing") not in ("unmarked", "no") and tags.get("crossing:markings") != "no"


def line_kind(tags: Tags) -> str | None:
    """Kind of a :class:`Line`, or None for a way that is not drawn."""
    for key, kinds in (
        ("railway", RAILWAYS), ("waterway", WATERWAYS), ("barrier", BARRIERS), ("natural", ("tree_row",)), ("man_made", _PIERS),
    ):  # fmt: skip
        if tags.get(key) in kinds:
            return "pier" if key == "man_made" else tags[key]
    return None


def read_building(osm_id: str, tags: Tags, polygon: shapely.Polygon, report: Report) -> Building:
    """A building from its tags; values that are nonsense are None and counted."""

    def length(key: str, low: float = 0.0) -> float | None:
        return report.value(tags, key, lambda text: parse_length(text, low), osm_id)

    def number(key: str) -> float | None:
        return report.value(tags, key, parse_number, osm_id)

    height, min_height = length("height", 0.5), length("min_height")
    if height is not None and min_height is not None and min_height >= height:
        report.skip("min_height is not below height", f"{osm_id} {min_height:g} m of {height:g} m")
        min_height = None
    part = tags.get("building", "no") in _NO_BUILDING
    return Building(
        osm_id=osm_id,
        polygon=polygon,
        kind=tags["building:part" if part else "building"],
        part=part,
        height=height,
        levels=number("building:levels"),
        min_height=min_height,
        min_level=number("building:min_level"),
        roof_shape=report.value(tags, "roof:shape", choice(*ROOF_SHAPES), osm_id),
        roof_height=length("roof:height"),
        roof_levels=number("roof:levels"),
        across=tags.get("roof:orientation") == "across",
        wall_rgb=report.value(tags, "building:colour", parse_colour, osm_id),
        roof_rgb=report.value(tags, "roof:colour", parse_colour, osm_id),
        wall_material=tags.get("building:material", ""),
        roof_material=tags.get("roof:material", ""),
    )


def read_road(osm_id: str, tags: Tags, line: shapely.LineString, report: Report) -> Road:
    """A road from its tags; values that are nonsense are None and counted."""
    return Road(
        osm_id=osm_id,
        line=line,
        kind=tags["highway"],
        name=tags.get("name", ""),
        width=report.value(tags, "width", lambda text: parse_length(text, 0.3, 100), osm_id),
        lanes=report.value(tags, "lanes", lambda text: parse_number(text, 1, 16), osm_id),
        oneway=tags.get("oneway", "no") in ("yes", "1", "-1", "true") or tags.get("junction") in ("roundabout", "circular"),
        covered=tags.get("tunnel") == "building_passage" or tags.get("covered", "no") != "no",
        surface=tags.get("surface", ""),
    )


def read_line(osm_id: str, tags: Tags, line: shapely.LineString, kind: str, report: Report) -> Line:
    """A line from its tags; values that are nonsense are None and counted."""
    width = report.value(tags, "width", lambda text: parse_length(text, 0.1, 200), osm_id)
    height = report.value(tags, "height", lambda text: parse_length(text, 0.1, 60), osm_id)
    return Line(osm_id, line, kind, width, height)


def read_tree(osm_id: str, tags: Tags, point: shapely.Point, report: Report) -> Tree:
    """A tree from its tags; values that are nonsense are None and counted."""
    height = report.value(tags, "height", lambda text: parse_length(text, 0.3, 120), osm_id)
    crown = report.value(tags, "diameter_crown", lambda text: parse_length(text, 0.3, 60), osm_id)
    return Tree(point.x, point.y, height, crown)
