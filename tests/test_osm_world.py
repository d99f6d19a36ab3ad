from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from osm_town import Town, rectangle

from geodtr_lib.data.osm_features import ROOF_SHAPES
from geodtr_lib.data.osm_reader import Extract, read_extract
from geodtr_lib.data.osm_world import EDGE, EMBEDDED, build_world, osm_world, resolve_extract
from geodtr_lib.data.polygon_fill import fill, paint
from geodtr_lib.data.world import GRASS, HEDGE, MARKING, PAVEMENT, PLAZA, RAIL, ROAD, ROOF, WALL, WATER, World
from geodtr_lib.errors import DatasetError

Draw = Callable[..., World]
FLAT = {"building": "yes", "roof:shape": "flat"}


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Write a town and draw it."""

    def write_and_draw(town: Town, seed: int = 0, resolution: float = 0.5) -> World:
        return osm_world(town.write(tmp_path / "town.osm.pbf"), seed, resolution)[0]

    return write_and_draw


@cache
def shipped(name: str) -> Extract:
    return read_extract(EMBEDDED[name])


def at(world: World, raster: np.ndarray, x: float, y: float) -> float:
    """Value of a raster at metres from the town's centre, which is 200 m from either edge."""
    row, column = world.pixel(np.array(x + 200.0), np.array(y + 200.0))
    return float(raster[row, column])


# Polygons to pixels


def _inside(polygon: shapely.Geometry, shape: tuple[int, int], resolution: float) -> np.ndarray:
    """Point in polygon for every pixel centre."""
    column, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return shapely.contains_xy(polygon, column * resolution, (shape[0] - row) * resolution)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.4, 1.0, 1.7]))
def test_fill_is_point_in_polygon_of_the_union(seed: int, resolution: float) -> None:
    rng = np.random.default_rng(seed)
    shape, polygons = (31, 43), []
    for _ in range(rng.integers(1, 6)):  # stars with a hole, in either direction, overlapping each other and the raster's edge
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(8, 14)))[:: rng.choice([-1, 1])]
        ring = np.stack([np.cos(angle), np.sin(angle)], 1)
        centre = rng.uniform(-3, [shape[1] + 3, shape[0] + 3]) * resolution
        radius = rng.uniform(2, 15, (len(angle), 1)) * resolution
        holes = [centre + 0.5 * radius * ring] if rng.random() < 0.7 else []
        star = shapely.Polygon(centre + radius * ring, holes)
        if star.is_valid:
            polygons.append(star)
    raster = np.zeros(shape, np.uint8)
    paint(raster, polygons, resolution, 1)
    expected = _inside(shapely.union_all(polygons), shape, resolution)
    assert np.array_equal(raster > 0, expected)


def test_fill_of_nothing_and_of_what_lies_outside() -> None:
    for polygons in ([], [shapely.box(-20, -20, -10, -10)], [shapely.box(500, 500, 600, 600)]):
        _, mask = fill(polygons, (10, 10), 1.0)
        assert not mask.any()


# Buildings


def test_footprint_with_hole_has_its_area_and_height(draw: Draw) -> None:
    town = Town()
    outer, hole = town.area(rectangle(0, 0, 40, 30)), town.area(rectangle(0, 0, 10, 12))
    town.relation([(outer, "outer"), (hole, "inner")], {**FLAT, "height": "20 m"})
    world = draw(town)
    built = world.building > 0
    assert built.sum() * 0.25 == pytest.approx(40 * 30 - 10 * 12, abs=0.5 * 0.5 * (70 + 22))  # half a pixel along half of the walls
    assert np.unique(world.solid[built]).tolist() == [20.0]
    assert np.unique(world.eaves[built]).tolist() == [20.0]
    assert at(world, world.solid, 0, 0) == 0
    assert np.array_equal(world.label == ROOF, built)
    rows, columns = np.nonzero(built)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == pytest.approx((60, 80), abs=1)


@pytest.mark.parametrize(("east", "north"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_compass_of_the_raster(draw: Draw, east: int, north: int) -> None:
    town = Town()
    town.area(rectangle(120 * east, 80 * north, 20, 20), {"building": "yes"})
    world = draw(town)
    rows, columns = np.nonzero(world.building)
    height, width = world.shape
    assert rows.mean() == pytest.approx(height / 2 - 80 * north * 2, abs=2)  # row 0 is north
    assert columns.mean() == pytest.approx(width / 2 + 120 * east * 2, abs=2)


@pytest.mark.parametrize("levels", [1, 4, 12])
def test_levels_without_height(draw: Draw, levels: int) -> None:
    town = Town()
    town.area(rectangle(0, 0, 20, 20), {**FLAT, "building:levels": str(levels)})
    world = draw(town)
    assert 3.0 * levels <= at(world, world.solid, 0, 0) <= 3.5 * levels + 1


def test_height_of_unmapped_houses_follows_their_neighbours(draw: Draw) -> None:
    town = Town()
    for i in range(6):
        town.area(rectangle(-150 + 25 * i, 100, 15, 15), {**FLAT, "building:levels": "2"})
        town.area(rectangle(-150 + 25 * i, -100, 15, 15), {**FLAT, "building:levels": "9"})
    town.area(rectangle(-100, 130, 15, 15), FLAT)
    town.area(rectangle(-100, -130, 15, 15), FLAT)
    town.area(rectangle(0, 0, 5, 5), FLAT)  # a shed
    town.area(rectangle(50, 0, 15, 15), {"building": "garage", "roof:shape": "flat"})
    world = draw(town)
    assert 6 <= at(world, world.solid, -100, 130) <= 8
    assert 27 <= at(world, world.solid, -100, -130) <= 32
    assert at(world, world.solid, 0, 0) < 4
    assert at(world, world.solid, 50, 0) < 4


def _roofed(draw: Draw, **tags: str) -> World:
    town = Town()
    roof = {key.replace("_", ":"): value for key, value in tags.items()}
    town.area(rectangle(0, 0, 40, 20), {"building": "yes", "height": "12", "roof:height": "4", **roof})
    return draw(town)


def test_gabled_roof_has_its_ridge_along_the_long_side_and_upright_gables(draw: Draw) -> None:
    world = _roofed(draw, roof_shape="gabled")
    for x in (-19, 0, 19):
        assert at(world, world.solid, x, 0) == pytest.approx(12, abs=0.25)
        for side in (-1, 1):
            assert at(world, world.solid, x, 5 * side) == pytest.approx(10, abs=0.25)
            assert at(world, world.solid, x, 9.5 * side) == pytest.approx(8, abs=0.35)
    assert at(world, world.eaves, 0, 0) == 8
    assert at(world, world.eaves, 19.6, 1) == pytest.approx(at(world, world.solid, 19.6, 1))  # the gable is wall up to the roof
    assert at(world, world.eaves, 19.6, 1) > 11


def test_ridge_across(draw: Draw) -> None:
    world = _roofed(draw, roof_shape="gabled", roof_orientation="across")
    assert [at(world, world.solid, x, 5) for x in (0, 10, 19.6)] == pytest.approx([12, 10, 8], abs=0.25)


def test_hipped_roof_falls_to_all_sides(draw: Draw) -> None:
    world = _roofed(draw, roof_shape="hipped")
    expected = {(0, 0): 12, (0, 5): 10, (15, 0): 10, (19.5, 0): 8.2, (0, 9.5): 8.2, (17, 7): 9.2}
    for (x, y), height in expected.items():
        assert at(world, world.solid, x, y) == pytest.approx(height, abs=0.3)


@pytest.mark.parametrize("shape", sorted({*ROOF_SHAPES} - {"flat"}))
def test_every_roof_keeps_to_its_height(draw: Draw, shape: str) -> None:
    world = _roofed(draw, roof_shape=shape)
    roof = world.solid[world.building > 0]
    assert roof.max() == pytest.approx(12, abs=0.15)
    assert 8 <= roof.min() < 9
    assert (world.eaves[world.building > 0] <= roof + 1e-4).all()


def test_unmapped_roof_takes_at_most_a_part_of_the_height(draw: Draw) -> None:
    town = Town()
    for i in range(12):
        town.area(rectangle(-150 + 25 * i, 0, 12, 18), {"building": "house", "height": "9"})
    world = draw(town)
    heights = [world.solid[world.building == i + 1] for i in range(12)]
    assert all(height.max() <= 9.001 and height.min() >= 0.6 * 9 - 0.01 for height in heights)
    assert sum(float(np.ptp(height)) > 1 for height in heights) >= 6  # most houses have pitched roofs


def test_parts_stand_in_their_outline(draw: Draw) -> None:
    town = Town()
    town.area(rectangle(0, 0, 40, 20), {**FLAT, "height": "50", "building:colour": "red"})
    town.area(rectangle(-10, 0, 20, 20), {"building:part": "yes", "height": "10"})
    town.area(rectangle(5, 0, 10, 20), {"building:part": "yes", "height": "50", "min_height": "20", "building:colour": "blue"})
    world = draw(town)
    assert [at(world, world.solid, x, 0) for x in (-10, 5, 15)] == [10, 50, 10]  # left over of the outline: as its lowest part
    walls = [tuple(world.facades.wall_rgb[int(at(world, world.building, x, 0))]) for x in (-10, 5, 15)]
    assert walls == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]


def test_mapped_colours_and_materials(draw: Draw) -> None:
    town = Town()
    town.area(rectangle(0, 0, 20, 20), {**FLAT, "building:colour": "#123456", "roof:colour": "#c86432"})
    world = draw(town)
    assert world.facades.wall_rgb[1].tolist() == [0x12, 0x34, 0x56]
    assert world.rgb[world.building > 0].mean(0) == pytest.approx([200, 100, 50], rel=0.1)


def test_facades_have_a_row_for_every_number_and_sane_values() -> None:
    world = build_world(shipped("helsinki"), 3, 2.0)
    f = world.facades
    assert len(f) > world.building.max()
    assert ((f.floor_height[1:] > 2.2) & (f.floor_height[1:] < 7)).all()
    assert (f.bay_width > 0).all()
    for part in (f.window_height, f.window_width):
        assert ((part >= 0) & (part <= 1)).all()
    for rgb in (f.wall_rgb, f.window_rgb):
        assert ((rgb >= 0) & (rgb <= 255)).all()


# Ground


def _across(world: World, label: int, x: float, reach: float = 20) -> float:
    """Metres of a class along a line northwards through (x, 0)."""
    y = np.arange(-reach, reach, 0.05)
    row, column = world.pixel(np.full(len(y), x + 200.0), y + 200)
    return float((world.label[row, column] == label).mean() * 2 * reach)


@pytest.mark.parametrize(
    ("tags", "low", "high"),
    [
        ({"highway": "residential", "width": "10"}, 10, 10), ({"highway": "service", "width": "15 ft"}, 4.6, 4.6),
        ({"highway": "secondary", "lanes": "4"}, 12.1, 18.4), ({"highway": "primary"}, 6.2, 11.5),
        ({"highway": "motorway", "oneway": "yes"}, 3.5, 4.2), ({"highway": "service"}, 3.4, 4.0),
        ({"highway": "secondary_link", "oneway": "yes"}, 3.0, 3.6),
    ],
)  # fmt: skip
def test_width_of_carriageways(draw: Draw, tags: dict[str, str], low: float, high: float) -> None:
    town = Town()
    town.area(rectangle(150, 150, 20, 20), {"building": "yes"})
    town.way([(-190, 0), (190, 0)], tags)
    world = draw(town)
    width = np.mean([_across(world, ROAD, x) + _across(world, MARKING, x) for x in (-100.2, -7.1, 55.3)])
    assert low - 0.5 <= width <= high + 0.5


def test_streets_have_pavements_and_marks_on_the_axis(draw: Draw) -> None:
    town = Town(building=True)
    town.way([(-190, -50), (190, -50)], {"highway": "secondary", "width": "9", "lanes": "2"})
    town.way([(-190, 50), (190, 50)], {"highway": "secondary", "width": "4", "lanes": "1", "oneway": "yes"})
    town.node((50, -50), {"highway": "crossing"})
    town.way([(-190, 100), (190, 100)], {"highway": "footway"})
    world = draw(town)
    rows, columns = np.nonzero(world.label == MARKING)
    x, y = (columns + 0.5) / 2 - 200, (world.shape[0] - rows - 0.5) / 2 - 200
    crossing = np.abs(x - 50) < 1.6
    assert (np.abs(y[~crossing] + 50) < 0.6).all()  # the axis of the two-lane road, and nothing on the other
    assert 0.15 < len(x[~crossing]) / (380 * 2) < 0.6  # dashes: a third of the length
    assert np.abs(y[crossing] + 50).max() > 3  # stripes from kerb to kerb
    assert (np.abs(y[crossing] + 50) < 4.6).all()
    for kerb in (-45, -55):
        assert at(world, world.label, 100, kerb) == PAVEMENT
    assert at(world, world.label, 100, 100) == PAVEMENT


def test_surfaces_lie_small_on_large_and_roads_above(draw: Draw) -> None:
    town = Town()
    town.area(rectangle(150, 150, 20, 20), {"building": "yes"})
    town.area(rectangle(0, 0, 100, 100), {"leisure": "park"})
    town.area(rectangle(0, 0, 40, 40), {"natural": "water"})
    town.area(rectangle(0, 0, 10, 10), {"man_made": "pier"})
    town.area(rectangle(-120, 0, 40, 40), {"highway": "pedestrian", "area": "yes"})
    town.way([(-100, 15), (100, 15)], {"highway": "service"})
    town.way([(-100, -80), (100, -80)], {"waterway": "canal", "width": "10"})
    town.way([(-100, -120), (100, -120)], {"railway": "rail"})
    world = draw(town)
    expected = {
        (0, -35): GRASS, (15, -10): WATER, (0, 0): PAVEMENT, (0, 15): ROAD, (-120, 0): PLAZA, (0, -84): WATER, (0, -121): RAIL,
    }  # fmt: skip
    assert {point: at(world, world.label, *point) for point in expected} == expected


def test_closed_yards_in_town_are_mostly_paved_and_open_land_is_green(draw: Draw) -> None:
    town = Town()
    for x in range(-160, 0, 50):
        for y in range(-160, 160, 50):
            outer, hole = town.area(rectangle(x, y, 46, 46)), town.area(rectangle(x, y, 16, 16))
            town.relation([(outer, "outer"), (hole, "inner")], {"building": "yes"})
    world = draw(town)
    yards = [int(at(world, world.label, x, y)) for x in range(-160, 0, 50) for y in range(-160, 160, 50)]
    assert {PLAZA, PAVEMENT} & set(yards)
    assert GRASS in yards
    assert np.mean([yard != GRASS for yard in yards]) > 0.35
    assert (world.label[:, 660:] == GRASS).mean() > 0.9  # far east of the houses
    assert at(world, world.label, -135, -160) == PAVEMENT  # a gap of four metres between houses


def test_barriers_stand_beside_streets_not_across(draw: Draw) -> None:
    town = Town(building=True)
    town.way([(-190, 100), (190, 100)], {"highway": "residential"})
    town.way([(50, 60), (50, 140)], {"barrier": "hedge", "height": "1.8 m"})
    town.way([(-50, 60), (-50, 140)], {"barrier": "wall"})
    town.area(rectangle(120, 120, 10, 10), {"natural": "scrub"})
    world = draw(town)
    assert [at(world, world.solid, x, 70) for x in (50, -50)] == pytest.approx([1.8, 2.0])
    assert [at(world, world.label, x, 70) for x in (50, -50)] == [HEDGE, WALL]
    assert [at(world, world.solid, x, 100) for x in (50, -50)] == [0, 0]
    assert 0 < at(world, world.solid, 120, 120) < 1.2
    assert at(world, world.label, 120, 120) == HEDGE
    assert world.building[world.label == WALL].max() == 0


# Trees


def test_mapped_tree_has_its_height_and_crown(draw: Draw) -> None:
    town = Town(building=True)
    town.node((60, 0.25), {"natural": "tree", "height": "12 m", "diameter_crown": "8"})
    town.area(rectangle(60, 0, 60, 60), {"amenity": "parking"})  # nothing else grows here
    world = draw(town)
    window = (slice(384, 416), slice(504, 536))
    crown = world.canopy_top[window]
    assert crown.max() == pytest.approx(12, abs=0.2)
    assert (crown > 0).sum() * 0.25 == pytest.approx(np.pi * 16, rel=0.08)
    assert ((world.canopy_base[window] < crown) | (crown == 0)).all()


def test_rows_of_trees_and_trees_of_forests_but_none_on_roofs(draw: Draw) -> None:
    town = Town(building=True)
    town.way([(-150, -100), (150, -100)], {"natural": "tree_row"})
    town.area(rectangle(0, -100, 340, 60), {"amenity": "parking"})
    town.area(rectangle(0, 100, 200, 100), {"landuse": "forest"})
    town.node((11, 0), {"natural": "tree", "diameter_crown": "10"})
    world = draw(town)
    row = world.canopy_top[600, 60:700] > 0  # 100 m south of the centre
    trees = np.flatnonzero(np.diff(row.astype(int)) == 1)
    assert len(trees) <= round(300 / 7)
    assert len(trees) > 25
    forest = world.canopy_top[120:280, 220:580] > 0
    assert 0.25 < forest.mean() < 0.95
    assert (world.canopy_top[world.building > 0] == 0).all()
    assert at(world, world.canopy_top, 12, 0) > 0


# Streets and vehicles


def test_cameras_stand_on_street_axes_in_the_open(draw: Draw) -> None:
    town = Town()
    town.way([(-190, 0), (190, 0)], {"highway": "residential", "name": "A"})
    town.way([(0, -150), (0, 150)], {"highway": "pedestrian"})
    town.area(rectangle(0, 100, 20, 20), {"building": "yes"})  # stands on the pedestrian street
    town.way([(-190, 60), (190, 60)], {"highway": "footway"})
    town.way([(-190, -60), (190, -60)], {"highway": "residential", "tunnel": "yes"})
    town.way([(-190, -90), (190, -90)], {"highway": "residential", "covered": "yes"})
    town.way([(-190, -120), (190, -120)], {"highway": "construction"})
    town.node((0, -50), {"natural": "tree"})
    world = draw(town)
    x, y, direction = world.streets.T - np.array([[200], [200], [0]])
    on_a, on_b = np.abs(y) < 0.1, np.abs(x) < 0.1
    assert (on_a | on_b).all()
    assert direction[on_a & ~on_b] == pytest.approx(90, abs=0.1)
    assert np.cos(np.deg2rad(direction[on_b & ~on_a])) == pytest.approx(1, abs=1e-4)
    assert np.diff(np.sort(x[on_a])) == pytest.approx(2, abs=0.05)
    assert np.abs(x).max() <= 200 - EDGE
    assert np.abs(x).max() > 200 - EDGE - 2.1
    assert not (on_b & (np.abs(y - 100) < 9)).any()
    assert not (on_b & (np.abs(y + 50) < 1.4)).any()
    assert (on_b & (y > 60) & (y < 89)).any()
    row, column = world.pixel(world.streets[:, 0], world.streets[:, 1])
    assert (world.solid[row, column] == 0).all()


def test_traffic_keeps_to_the_right_and_parks_at_the_kerb(draw: Draw) -> None:
    town = Town(building=True)
    town.way([(-190, 100), (190, 100)], {"highway": "secondary", "lanes": "2", "name": "Two ways"})
    town.way([(-190, -100), (190, -100)], {"highway": "secondary", "lanes": "2", "oneway": "yes", "name": "One way"})
    for i in range(8):
        town.way([(-190, 20 * i - 70), (190, 20 * i - 70)], {"highway": "residential", "name": f"Parked {i}"})
    world = draw(town)
    y, direction = world.parking[:, 1] - 200, world.parking[:, 2]
    east = np.sin(np.deg2rad(direction))
    two_ways, one_way = np.abs(y - 100) < 2.5, np.abs(y + 100) < 2.5
    assert two_ways.any()
    assert one_way.any()
    assert (np.sign(y - 100)[two_ways] == -np.sign(east)[two_ways]).all()  # eastwards drives south of the axis
    assert (east[one_way] > 0.99).all()
    row, column = world.pixel(world.parking[:, 0], world.parking[:, 1])
    assert np.isin(world.label[row, column], (ROAD, MARKING, PLAZA)).all()
    offset = (y + 80) % 20 - 10  # from the nearest residential street's axis
    parked = (np.abs(y) < 80) & (np.abs(offset) > 2.5)
    assert parked.sum() > 100
    for beside, label in ((0.7, ROAD), (1.8, PAVEMENT)):  # half a car from its middle is the kerb
        row, column = world.pixel(world.parking[parked, 0], world.parking[parked, 1] + beside * np.sign(offset[parked]))
        assert (world.label[row, column] == label).mean() > 0.95


# The whole


def test_the_seed_decides_looks_but_not_what_the_map_says() -> None:
    first, again, other = (build_world(shipped("helsinki"), seed, 1.0) for seed in (5, 5, 6))
    for name in ("solid", "eaves", "building", "label", "rgb", "canopy_top", "canopy_rgb", "streets", "parking"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    assert np.array_equal(first.facades.wall_rgb, again.facades.wall_rgb)
    assert not np.array_equal(first.facades.wall_rgb, other.facades.wall_rgb)
    assert not np.array_equal(first.solid, other.solid)
    # Two drawings of a town share their cameras, and the footprints around them: their splits are the same.
    assert np.array_equal(first.streets, other.streets)
    assert np.array_equal(first.building > 0, other.building > 0)


@pytest.mark.parametrize(
    ("name", "roof", "water", "cameras"), [("helsinki", (0.27, 0.34), (0.05, 0.15), 10_000), ("monaco", (0.07, 0.1), (0.3, 0.45), 20_000)]
)
def test_shipped_towns_look_as_they_should(name: str, roof: tuple[float, float], water: tuple[float, float], cameras: int) -> None:
    extract = shipped(name)
    world, projection = build_world(extract, 0, resolution=2.0), extract.projection
    assert roof[0] < (world.label == ROOF).mean() < roof[1]
    assert water[0] < (world.label == WATER).mean() < water[1]
    assert len(world.streets) > cameras
    assert (world.terrain == 0).all()
    row, column = world.pixel(world.streets[:, 0], world.streets[:, 1])
    assert (world.building[row, column] == 0).all()
    assert np.isin(world.label[row, column], (ROAD, MARKING, PLAZA, PAVEMENT, RAIL)).mean() > 0.97
    heights = world.solid[world.building > 0]
    assert heights.min() > 0
    assert heights.max() < 200
    west, south, east, north = extract.box
    longitude, latitude = projection.to_lonlat(world.streets[:, 0], world.streets[:, 1])
    assert ((longitude > west) & (longitude < east) & (latitude > south) & (latitude < north)).all()


def test_a_square_kilometre_takes_seconds() -> None:
    start = time.process_time()
    world, _ = osm_world("helsinki", seed=1)
    seconds, area = time.process_time() - start, world.size[0] * world.size[1] / 1e6
    assert seconds / area < 7.5  # 15 s allowed for one; 1.5 s measured


def test_known_places_of_helsinki() -> None:
    world, projection = osm_world("helsinki", seed=0, resolution=1.0)
    places = {  # longitude, latitude: what stands there
        (24.9521, 60.1704): (ROOF, "cathedral"),
        (24.9460, 60.1752): (GRASS, "botanical garden"),
        (24.9478, 60.1695): (ROOF, "block at Aleksanterinkatu"),
        (24.9470, 60.1767): (WATER, "bay"),
    }
    for (longitude, latitude), (label, name) in places.items():
        x, y = projection.to_metres(np.array(longitude), np.array(latitude))
        row, column = world.pixel(x, y)
        around = world.label[row - 4 : row + 4, column - 4 : column + 4]
        assert (around == label).mean() > 0.5, name


# Which extract


def test_resolve_extract(tmp_path: Path) -> None:
    assert resolve_extract("", "monaco") == EMBEDDED["monaco"]
    for name in ("ulm", "bern"):
        shutil.copy(EMBEDDED["monaco"], tmp_path / f"{name}.osm.pbf")
    assert resolve_extract(str(tmp_path), "ulm") == tmp_path / "ulm.osm.pbf"
    assert resolve_extract(str(tmp_path / "bern.osm.pbf"), "bern") == tmp_path / "bern.osm.pbf"


def test_unknown_areas_are_errors_that_name_what_there_is(tmp_path: Path) -> None:
    def message(root: str, area: str) -> str:
        with pytest.raises(DatasetError) as caught:
            resolve_extract(root, area)
        return str(caught.value)

    assert "'paris'" in message("", "paris")
    assert "helsinki, monaco" in message("", "paris")
    assert "holds no OpenStreetMap extract (.osm.pbf, " in message(str(tmp_path), "ulm")
    (tmp_path / "bern.osm.pbf").touch()
    assert "there: bern" in message(str(tmp_path), "ulm")
    assert "there: bern" in message(str(tmp_path / "bern.osm.pbf"), "ulm")
    assert "does not exist" in message(str(tmp_path / "ulm.osm.pbf"), "ulm")


def test_extract_too_large_for_a_raster(tmp_path: Path) -> None:
    town = Town(frame=20_000, building=True).write(tmp_path / "county.osm.pbf")
    with pytest.raises(DatasetError, match=r"county.osm.pbf spans 20.. x 20.0 km, too large at 0.5 m per pixel; cut a smaller"):
        osm_world(town, 0)
