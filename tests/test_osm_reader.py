from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from osm_town import CENTRE, Town, rectangle
from pyproj import Geod

from geodtr_lib.data import osm_reader
from geodtr_lib.data.osm_coastline import sea_polygons
from geodtr_lib.data.osm_projection import Projection
from geodtr_lib.data.osm_reader import Extract, read_extract
from geodtr_lib.data.osm_surfaces import MATERIALS, SURFACE_KINDS, surface_kind
from geodtr_lib.data.osm_tags import Report, choice, parse_colour, parse_length, parse_number
from geodtr_lib.data.osm_world import EMBEDDED
from geodtr_lib.errors import DatasetError

GEOD = Geod(ellps="WGS84")


@cache
def shipped(name: str) -> Extract:
    return read_extract(EMBEDDED[name])


# Values of tags


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("12", 12), ("12.5", 12.5), ("12,5", 12.5), ("12 m", 12), ("12m", 12), (" 12 M ", 12), ("~12", 12), ("ca. 12 m", 12),
        ("12 metres", 12), ("1 meter", 1), (".5", 0.5), ("150 cm", 1.5), ("0.1 km", 100), ("40'", 12.192), ("40 ft", 12.192),
        ("40ft", 12.192), ("40 feet", 12.192),
        ("5'6\"", 1.6764), ("5' 6''", 1.6764), ("7\u20324\u2033", 2.2352), ("12.13 m", 12.13), ("+3", 3),
    ],
)  # fmt: skip
def test_length_with_unit(text: str, metres: float) -> None:
    assert parse_length(text) == pytest.approx(metres, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["", "yes", "tall", "12 storeys", "12-15", "6;7", "1 2", "nan", "inf", "1e3", "'", "m", "12 y", "default", "5'6\"7"]
)
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a length"):
        parse_length(text)


@pytest.mark.parametrize("text", ["-3", "-0.1 m", "601", "99999 ft", "1 km"])
def test_impossible_length_is_refused_with_the_allowed_range(text: str) -> None:
    with pytest.raises(ValueError, match="is outside 0-600 m"):
        parse_length(text)


@given(st.floats(0, 600).map(lambda value: round(value, 3)))
def test_metres_and_feet_agree_for_any_length(metres: float) -> None:
    assert parse_length(f"{metres:.3f} m") == pytest.approx(metres, abs=1e-9)
    assert parse_length(f"{metres / 0.3048:.9f} ft", high=601) == pytest.approx(metres, abs=1e-6)


@given(st.text(max_size=12))
def test_any_text_is_a_length_in_range_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= parse_length(text) <= 600


def test_numbers_take_halves_but_no_units() -> None:
    assert [parse_number(text) for text in ("3", "2.5", "2,5", "~4")] == [3, 2.5, 2.5, 4]
    for text in ("3 m", "two", "1;2"):
        with pytest.raises(ValueError, match="is not a number"):
            parse_number(text)
    with pytest.raises(ValueError, match="is outside 0-200"):
        parse_number("201")


@pytest.mark.parametrize(
    ("text", "rgb"),
    [
        ("#cd7f32", (205, 127, 50)), ("#FFF", (255, 255, 255)), ("grey", (128, 128, 128)), ("light_grey", (211, 211, 211)),
        ("Dark Red", (139, 0, 0)),
    ],
)  # fmt: skip
def test_colours_by_name_and_hex(text: str, rgb: tuple[int, int, int]) -> None:
    assert parse_colour(text) == rgb


@pytest.mark.parametrize("text", ["reddish", "", "#12", "255,0,0"])
def test_unknown_colour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a colour"):
        parse_colour(text)


def test_report_counts_nonsense_by_reason_and_shows_the_first() -> None:
    report = Report()
    assert report.value({"height": "12 m"}, "height", parse_length, "way/1") == 12
    assert report.value({}, "height", parse_length, "way/2") is None
    for way, text in (("way/3", "tall"), ("way/4", "high"), ("way/5", "-3")):
        assert report.value({"height": text}, "height", parse_length, way) is None
    assert report.value({"roof:shape": "9.0"}, "roof:shape", choice("flat"), "way/6") is None
    assert report.skipped == {"height is not a length": 2, "height is outside 0-600 m": 1, "roof:shape is not known": 1}
    assert "skipped, height is not a length: 2, first way/3 height='tall'" in str(report).splitlines()


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"natural": "water"}, "water"), ({"leisure": "park"}, "park"), ({"landuse": "forest"}, "forest"),
        ({"amenity": "parking"}, "asphalt"), ({"amenity": "parking", "parking": "underground"}, None), ({"place": "square"}, "plaza"),
        ({"landuse": "residential"}, None), ({"leisure": "pitch"}, "pitch"), ({"leisure": "pitch", "surface": "tartan"}, "playground"),
        ({"highway": "pedestrian", "area": "yes"}, "plaza"), ({"highway": "residential", "junction": "roundabout"}, None),
        ({"barrier": "hedge"}, None), ({"barrier": "hedge", "area": "yes"}, "hedge"),
    ],
)  # fmt: skip
def test_surface_of_a_closed_way(tags: dict[str, str], kind: str | None) -> None:
    assert surface_kind(tags, from_way=True) == kind


def test_every_surface_kind_has_a_material() -> None:
    assert set(SURFACE_KINDS) <= set(MATERIALS)
    assert surface_kind({"highway": "pedestrian"}, from_way=False) == "plaza"  # a multipolygon is always an area


# Projection


@settings(max_examples=50)
@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(-3000, 3000), st.floats(-3000, 3000))
def test_projection_round_trip_and_true_distances(longitude: float, latitude: float, x: float, y: float) -> None:
    projection = Projection(longitude, latitude, (1234.5, -67.8))
    there = projection.to_lonlat(np.array(x), np.array(y))
    back = projection.to_metres(*there)
    assert np.hypot(back[0] - x, back[1] - y) < 0.01
    azimuth, _, distance = GEOD.inv(longitude, latitude, *there)
    east, north = x - 1234.5, y + 67.8
    assert distance == pytest.approx(np.hypot(east, north), abs=0.001)
    assert distance * np.sin(np.deg2rad(azimuth)) == pytest.approx(east, abs=0.001)
    assert distance * np.cos(np.deg2rad(azimuth)) == pytest.approx(north, abs=0.001)


@pytest.mark.parametrize("name", EMBEDDED)
def test_origin_and_extent_of_the_frame(name: str) -> None:
    extract = shipped(name)
    west, south, east, north = extract.box
    x, y = extract.projection.to_metres(np.array([west, east, west, east]), np.array([south, south, north, north]))
    assert x.min() == pytest.approx(0, abs=1e-6)
    assert 0 <= y.min() < 0.2  # a parallel is bent: its middle lies furthest south
    assert x.max() == pytest.approx(extract.size[0], abs=1e-6)
    assert y.max() == pytest.approx(extract.size[1], abs=0.2)
    assert extract.size[0] == pytest.approx(max(GEOD.inv(west, lat, east, lat)[2] for lat in (south, north)), abs=0.5)
    assert extract.size[1] == pytest.approx(GEOD.inv((west + east) / 2, south, (west + east) / 2, north)[2], abs=0.5)


def test_positions_agree_with_the_geodesic(tmp_path: Path) -> None:
    town = Town()
    town.area(rectangle(150, -120, 10, 10), {"building": "yes"})
    extract = read_extract(town.write(tmp_path / "town.osm.pbf"))
    centre = extract.buildings[0].polygon.centroid
    longitude, latitude = extract.projection.to_lonlat(np.array(centre.x), np.array(centre.y))
    azimuth, _, distance = GEOD.inv(*CENTRE, longitude, latitude)
    assert distance * np.sin(np.deg2rad(azimuth)) == pytest.approx(150, abs=0.05)
    assert distance * np.cos(np.deg2rad(azimuth)) == pytest.approx(-120, abs=0.05)
    assert (centre.x, centre.y) == pytest.approx((350, 80), abs=0.05)  # from the south-west corner


# Features


def test_tags_of_a_building(tmp_path: Path) -> None:
    town = Town()
    tags = {
        "building": "apartments", "height": "60 ft", "building:levels": "5", "min_height": "2,5 m", "building:min_level": "1",
        "roof:shape": "Gabled", "roof:height": "3 m", "roof:levels": "1", "building:colour": "#ff0000", "roof:colour": "dark grey",
        "roof:orientation": "across", "building:material": "brick", "roof:material": "slate",
    }  # fmt: skip
    town.area(rectangle(0, 0, 20, 10), tags)
    (b,) = read_extract(town.write(tmp_path / "town.osm.pbf")).buildings
    assert (b.kind, b.part, b.levels, b.min_level, b.roof_shape, b.roof_levels, b.across) == ("apartments", False, 5, 1, "gabled", 1, True)
    assert (b.height, b.min_height, b.roof_height) == pytest.approx((18.288, 2.5, 3.0))
    assert (b.wall_rgb, b.roof_rgb, b.wall_material, b.roof_material) == ((255, 0, 0), (169, 169, 169), "brick", "slate")
    assert b.polygon.area == pytest.approx(200, abs=0.5)


def test_nonsense_values_are_reported_and_the_building_stays(tmp_path: Path) -> None:
    town = Town()
    for i, height in enumerate(("12 m", "tall", "yes", "-4", "700")):
        town.area(rectangle(30 * i, 0, 10, 10), {"building": "yes", "height": height})
    more = {"height": "5", "min_height": "8", "roof:colour": "shiny", "building:levels": "many"}
    town.area(rectangle(0, 50, 10, 10), {"building": "yes", **more})
    extract = read_extract(town.write(tmp_path / "town.osm.pbf"))
    assert sorted((b.height for b in extract.buildings), key=str) == [12, 5, None, None, None, None]
    assert extract.report.skipped == {
        "height is not a length": 2, "height is outside 0.5-600 m": 2, "min_height is not below height": 1,
        "roof:colour is not a colour": 1, "building:levels is not a number": 1,
    }  # fmt: skip
    assert extract.report.counts["buildings"] == 6
    assert extract.report.counts["with height"] == 2


def test_holes_of_a_multipolygon_made_of_several_ways(tmp_path: Path) -> None:
    town = Town()
    corner = [town.node(point) for point in rectangle(0, 0, 40, 30)]
    for refs in ([corner[0], corner[1], corner[2]], [corner[2], corner[3], corner[0]]):
        town.ways.append((refs, {}, len(town.ways) + 1))
    outer = [(len(town.ways) - 1, "outer"), (len(town.ways), "outer")]
    holes = [(town.area(rectangle(x, 0, 8, 10)), "inner") for x in (-10, 10)]
    town.relation(outer + holes, {"building": "yes"})
    (b,) = read_extract(town.write(tmp_path / "town.osm.pbf")).buildings
    assert b.osm_id == "relation/1"
    assert len(b.polygon.interiors) == 2
    assert b.polygon.area == pytest.approx(40 * 30 - 2 * 80, abs=1)


def test_building_across_the_edge_is_closed_where_it_was_cut(tmp_path: Path) -> None:
    town = Town()
    ring = [(0, 0), (20, 0), (40, 0), (40, 20), (20, 20), (0, 20)]
    town.area(ring, {"building": "yes"}, missing=(2, 3))
    outer = town.area([(x, y + 50) for x, y in ring], missing=(2, 3))
    town.relation([(outer, "outer"), (town.area(rectangle(10, 60, 4, 4)), "inner")], {"building": "yes"})
    town.area([(x, y + 100) for x, y in ring], {"building": "yes"}, missing=(1, 2, 3, 4))  # too little is left
    extract = read_extract(town.write(tmp_path / "town.osm.pbf"))
    assert sorted(round(b.polygon.area) for b in extract.buildings) == [400 - 16, 400]
    assert extract.report.counts["buildings cut and closed at the extract's edge"] == 2
    assert extract.report.skipped == {"building cut off by the extract": 1}


def test_way_with_missing_nodes_is_split_not_bridged(tmp_path: Path) -> None:
    town = Town(building=True)
    town.way([(-100, 50), (-80, 50), (0, 50), (80, 50), (100, 50)], {"highway": "residential", "name": "Gap Street"}, missing=(2,))
    roads = [road for road in read_extract(town.write(tmp_path / "town.osm.pbf")).roads if road.name]
    assert [road.line.length for road in roads] == pytest.approx([20, 20], abs=0.05)


def test_roads_trees_rails_and_barriers(tmp_path: Path) -> None:
    town = Town(building=True)
    tags = {"highway": "secondary", "width": "9.5 m", "lanes": "3", "oneway": "yes", "surface": "sett", "name": "A"}
    town.way([(-100, 50), (100, 50)], tags)
    town.way([(-100, 70), (100, 70)], {"highway": "service", "tunnel": "building_passage"})
    town.area(rectangle(100, 100, 30, 30), {"highway": "residential", "junction": "roundabout", "name": "R"})
    town.area(rectangle(-100, 100, 30, 30), {"highway": "pedestrian", "area": "yes"})
    town.way([(-100, -50), (100, -50)], {"railway": "tram"})
    town.way([(-100, -60), (100, -60)], {"barrier": "hedge", "height": "5'"})
    town.way([(-100, -70), (100, -70)], {"natural": "tree_row"})
    town.node((10, -80), {"natural": "tree", "height": "12 m", "diameter_crown": "huge"})
    town.node((0, 50), {"highway": "crossing", "crossing": "zebra"})
    town.node((20, 50), {"highway": "crossing", "crossing": "unmarked"})
    extract = read_extract(town.write(tmp_path / "town.osm.pbf"))
    roads = {road.name or road.kind: road for road in extract.roads if road.kind != "path"}
    assert set(roads) == {"A", "service", "R"}
    assert (roads["A"].width, roads["A"].lanes, roads["A"].oneway, roads["A"].surface, roads["A"].covered) == (9.5, 3, True, "sett", False)
    assert roads["service"].covered
    assert roads["R"].oneway
    assert [surface.kind for surface in extract.surfaces] == ["plaza"]
    assert {line.kind: line.height for line in extract.lines} == {"tram": None, "hedge": pytest.approx(1.524), "tree_row": None}
    (tree,) = extract.trees
    assert (tree.height, tree.crown) == (12, None)
    assert extract.crossings == [pytest.approx((200, 250), abs=0.05)]
    assert extract.report.skipped == {"diameter_crown is not a length": 1}


def test_what_is_underground_is_left_out_and_counted(tmp_path: Path) -> None:
    town = Town(building=True)
    for tags in ({"tunnel": "yes"}, {"layer": "-1"}, {"location": "underground"}, {"indoor": "yes"}):
        town.way([(-100, 0), (100, 0)], {"highway": "footway", **tags})
        town.area(rectangle(50, 50, 10, 10), {"building": "yes", **tags})
    extract = read_extract(town.write(tmp_path / "town.osm.pbf"))
    assert (len(extract.roads), len(extract.buildings)) == (2, 1)
    assert extract.report.skipped == {"underground": 8}


def test_frame_is_cut_to_the_box_of_the_file(tmp_path: Path) -> None:
    town = Town(frame=0, building=True)
    town.way([(-50, 0), (900, 0)], {"highway": "motorway"})
    town.way([(0, -60), (0, 40)], {"highway": "residential"})
    assert read_extract(town.write(tmp_path / "open.osm.pbf")).size == pytest.approx((950, 100), abs=0.1)
    boxed = read_extract(town.write(tmp_path / "boxed.osm.pbf", box=((-100, -100), (200, 100))))
    assert boxed.size == pytest.approx((250, 100), abs=0.1)


# The sea

FRAME = shapely.box(0, 0, 100, 100)
NO_LAND = np.zeros((0, 2))


def _area(parts: list[shapely.Polygon]) -> float:
    return float(shapely.union_all(parts).area) if parts else 0.0


def test_sea_lies_on_the_right_of_the_coast() -> None:
    coast = shapely.LineString([(-10, 30), (50, 30), (110, 30)])  # eastwards: the right hand is south
    assert _area(sea_polygons([coast], FRAME, NO_LAND)) == pytest.approx(3000)
    assert _area(sea_polygons([coast.reverse()], FRAME, NO_LAND)) == pytest.approx(7000)
    assert sea_polygons([], FRAME, NO_LAND) == []


def test_coast_in_pieces_and_islands() -> None:
    pieces = [shapely.LineString([(50, 30), (110, 30)]), shapely.LineString([(-10, 30), (50, 30)])]
    island = shapely.LineString([(40, 10), (60, 10), (60, 20), (40, 20), (40, 10)])  # counter-clockwise: land inside
    sea = shapely.union_all(sea_polygons([*pieces, island], FRAME, NO_LAND))
    assert sea.area == pytest.approx(3000 - 200)
    assert not sea.contains(shapely.Point(50, 15))


@pytest.mark.parametrize(("start", "end"), [((1, 30), (99, 30)), ((-10, 30), (97, 30)), ((4, 30), (110, 30))])
def test_coast_that_ends_inside_is_led_to_the_edge(start: tuple[float, float], end: tuple[float, float]) -> None:
    sea = sea_polygons([shapely.LineString([start, (50, 30), end])], FRAME, NO_LAND)
    assert _area(sea) == pytest.approx(3000, abs=20)


def test_gap_in_the_coast_is_closed() -> None:
    parts = [shapely.LineString([(-10, 30), (48, 30)]), shapely.LineString([(52, 30), (110, 30)])]
    assert _area(sea_polygons(parts, FRAME, NO_LAND)) == pytest.approx(3000, abs=1)


def test_coast_that_ends_far_inside_goes_on_around_the_land() -> None:
    frame = shapely.box(0, 0, 1000, 1000)
    coast = shapely.LineString([(-10, 300), (500, 300)])
    east_of_it = np.array([(x, y) for x in (600, 700, 800, 900) for y in (150, 200, 250)], float)
    sea = shapely.union_all(sea_polygons([coast], frame, east_of_it))
    assert not shapely.contains_xy(sea, *east_of_it.T).any()
    assert shapely.contains_xy(sea, 200, 100)
    assert not shapely.contains_xy(sea, 200, 500)


@pytest.mark.parametrize(("name", "wet", "dry"), [("helsinki", (0.42, 0.90), (0.5, 0.3)), ("monaco", (0.75, 0.3), (0.25, 0.45))])
def test_sea_of_the_shipped_towns(name: str, wet: tuple[float, float], dry: tuple[float, float]) -> None:
    extract = shipped(name)
    sea = shapely.union_all([surface.polygon for surface in extract.surfaces if surface.osm_id == "coastline"])
    place = np.array(extract.size)
    assert shapely.contains_xy(sea, *(np.array(wet) * place))
    assert not shapely.contains_xy(sea, *(np.array(dry) * place))
    houses = shapely.centroid([b.polygon for b in extract.buildings])
    assert shapely.contains(sea, houses).mean() < 0.01


# Shipped extracts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("helsinki", {"buildings": 498, "building parts": 130, "with height": 37, "with levels": 268, "trees": 649, "crossings": 620}),
        ("monaco", {"buildings": 1280, "building parts": 13, "with height": 42, "with levels": 471, "trees": 557, "crossings": 512}),
    ],
)
def test_counts_of_the_shipped_extracts(name: str, expected: dict[str, int]) -> None:
    counts = shipped(name).report.counts
    assert {key: counts[key] for key in expected} == expected


def test_shipped_extracts_carry_their_licence() -> None:
    text = (EMBEDDED["helsinki"].parent / "LICENSE.md").read_text()
    for words in ("OpenStreetMap contributors", "Open Database License", *(path.name for path in EMBEDDED.values())):
        assert words in text


# Errors


def _message(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_extract(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    assert "does not exist" in _message(tmp_path / "none.osm.pbf")
    assert "is a folder" in _message(tmp_path)
    (tmp_path / "empty.osm.pbf").touch()
    assert "is empty" in _message(tmp_path / "empty.osm.pbf")


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9, 0.9999])
def test_extract_cut_short(tmp_path: Path, share: float) -> None:
    whole = EMBEDDED["helsinki"].read_bytes()
    path = tmp_path / "cut.osm.pbf"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in _message(path)


def test_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "page.osm.pbf"
    path.write_bytes(b"<html>404 not found</html>" * 50)
    assert "no OpenStreetMap extract" in _message(path)
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert "no OpenStreetMap extract" in _message(path)


@pytest.mark.parametrize("name", ["t.osm", "t.osm.bz2", "t.osm.gz", "t.pbf", "T.OSM", "T.OSM.PBF", "T.Osm.Bz2"])
def test_every_ending_in_any_case(tmp_path: Path, name: str) -> None:
    town, expected = Town(building=True), read_extract(Town(building=True).write(tmp_path / "a.osm.pbf"))
    town.write(tmp_path / f"plain.{name.lower().partition('.')[2]}").rename(tmp_path / name)
    extract = read_extract(tmp_path / name)
    assert extract.size == expected.size
    assert extract.report.counts == expected.report.counts


def test_a_country_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = ((-150_000, -100_000), (150_000, 100_000))
    path = Town(building=True).write(tmp_path / "county.osm.pbf", box=far)
    assert read_extract(path).size[0] < 500  # a small file is read whatever its header says
    monkeypatch.setattr(osm_reader, "_LONG_TO_READ", 0)
    monkeypatch.setattr(osm_reader, "_entities", lambda _: pytest.fail("the file was read"))
    assert "spans 299 x 199 km, too large for one raster; cut a smaller extract (osmium extract --bbox)" in _message(path)


def test_without_buildings_or_roads_or_anything(tmp_path: Path) -> None:
    assert "holds no buildings (tag 'building')" in _message(Town().write(tmp_path / "a.osm.pbf"))
    assert "holds no roads (tag 'highway')" in _message(Town(frame=0, building=True).write(tmp_path / "b.osm.pbf"))
    assert "holds no map data" in _message(Town(frame=0).write(tmp_path / "c.osm.pbf"))
    far = Town(building=True).write(tmp_path / "d.osm.pbf", box=((5000, 5000), (6000, 6000)))
    assert "within its own bounding box" in _message(far)
