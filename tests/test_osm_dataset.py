"""The osm data set: places on real streets, split so that no tile is seen twice, each with its latitude and longitude."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from osm_town import CENTRE, Town, rectangle
from pyproj import Geod

from geodtr_lib import resolve_config
from geodtr_lib.data import areas, embedded, open_dataset, open_for
from geodtr_lib.data.osm_world import EMBEDDED, osm_world
from geodtr_lib.data.site_views import TILE_METRES
from geodtr_lib.data.world import ROAD, SKY, WALL
from geodtr_lib.errors import DatasetError
from geodtr_lib.training import test_areas_of as areas_tested

SMALL = dict(ground_size=(16, 64), tile_size=24, progress=False)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of streets with houses, 900 m wide."""
    made = Town(frame=900.0)
    for k in range(-400, 401, 100):
        made.way([(k, -440), (k, 440)], {"highway": "residential"})
        made.way([(-440, k), (440, k)], {"highway": "residential"})
        for j in range(-350, 351, 100):
            if k < 400:
                made.area(rectangle(k + 50, j, 40, 30), {"building": "yes", "building:levels": "4"})
    path = tmp_path_factory.mktemp("extracts") / "gridtown.osm.pbf"
    made.write(path)
    return path


def test_places_know_where_they_are(town: Path) -> None:
    data = open_dataset("osm", str(town), split="test", n=30, **SMALL)
    assert data.area == "gridtown"
    assert data.query_location is not None
    assert data.query_position is not None
    # Distances on the ellipsoid are those in metres.
    latitude, longitude = data.query_location.T
    _, _, distance = Geod(ellps="WGS84").inv(longitude[:-1], latitude[:-1], longitude[1:], latitude[1:])
    assert np.allclose(distance, np.hypot(*np.diff(data.query_position, axis=0).T), atol=0.05)
    assert abs(latitude.mean() - CENTRE[1]) < 0.01
    assert {SKY, WALL, ROAD} <= set(np.unique(data.truth["ground_class"]))


def test_no_test_tile_overlaps_a_training_tile(town: Path) -> None:
    train, test = (open_dataset("osm", str(town), split=split, n=0, **SMALL) for split in ("train", "test"))
    assert len(train) > len(test) > 20
    apart = np.abs(train.query_position[:, None] - test.query_position[None]).max(-1)
    assert apart.min() >= TILE_METRES


def test_what_is_drawn_by_seed_does_not_move_the_places(town: Path) -> None:
    """The split is made once per town; were the points to depend on the drawn heights, places of two draws could overlap."""
    first, second = (embedded._standing_room(osm_world(town, seed)[0]) for seed in (1, 2))
    assert np.array_equal(first, second)


def test_areas_of_a_town_of_ones_own(town: Path) -> None:
    config = resolve_config("smoke", dataset="osm", data_root=str(town))
    assert config.train_area == "gridtown"
    assert areas_tested(config) == ("gridtown",)
    assert areas("osm", str(town.parent)) == ("gridtown",)
    against = config.replace(test_areas=["monaco"])
    assert areas_tested(against) == ("gridtown", "monaco")


def test_helsinki_and_monaco_ship_with_the_library() -> None:
    assert set(EMBEDDED) == {"helsinki", "monaco"} == set(areas("osm"))
    config = resolve_config("smoke", dataset="osm", test_areas=["monaco"], n_test=24)
    assert areas_tested(config) == ("helsinki", "monaco")
    data = open_for(config, "helsinki", "test")
    assert len(data) == 24
    assert data.query_location is not None
    assert ((data.query_location > (60.16, 24.93)) & (data.query_location < (60.18, 24.96))).all()


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "no_buildings", "no_roads", "unknown_area"])
def test_faults_are_one_line(fault: str, town: Path, tmp_path: Path) -> None:
    path, area = tmp_path / "town.osm.pbf", "town"
    if fault == "empty":
        path.touch()
    elif fault == "truncated":
        path.write_bytes(town.read_bytes()[: os.path.getsize(town) // 2])
    elif fault == "no_buildings":
        Town().write(path)
    elif fault == "no_roads":
        bare = Town(frame=0)
        bare.area(rectangle(0, 0, 20, 20), {"building": "yes"})
        bare.write(path)
    elif fault == "unknown_area":
        path, area = town, "atlantis"
    with pytest.raises(DatasetError) as caught:
        open_dataset("osm", str(path), area, "test", n=5, **SMALL)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
