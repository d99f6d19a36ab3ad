"""The osm data set: places on real streets, split so that no tile is seen twice, each with its latitude and longitude."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from osm_town import CENTRE, Town, rectangle
from pyproj import Geod

from geodtr_lib import resolve_config
from geodtr_lib.data import areas, embedded, open_dataset, open_for, osm_root
from geodtr_lib.data.environment import ENVIRONMENTS, SOUTHERN_SUN, environment
from geodtr_lib.data.osm_reader import read_extract
from geodtr_lib.data.osm_world import EMBEDDED, osm_world
from geodtr_lib.data.site_views import TILE_METRES
from geodtr_lib.data.world import ROAD, SKY, WALL
from geodtr_lib.errors import DatasetError
from geodtr_lib.models import build_model
from geodtr_lib.study.trained import Trained, target_config
from geodtr_lib.training import test_areas_of as areas_tested

SMALL = dict(ground_size=(16, 64), tile_size=24, progress=False)


def make_gridtown(path: Path, centre: tuple[float, float] = CENTRE) -> Path:
    """A grid of streets with houses, 900 m wide."""
    made = Town(frame=900.0, centre=centre)
    for k in range(-400, 401, 100):
        made.way([(k, -440), (k, 440)], {"highway": "residential"})
        made.way([(-440, k), (440, k)], {"highway": "residential"})
        for j in range(-350, 351, 100):
            if k < 400:
                made.area(rectangle(k + 50, j, 40, 30), {"building": "yes", "building:levels": "4"})
    return made.write(path)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gridtown(tmp_path_factory.mktemp("extracts") / "gridtown.osm.pbf")


def forbid(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Nothing at or below a path may be looked at, which for root is only so where it is made up."""
    stat = os.stat

    def checked(what: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(what).startswith(str(path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(what))
        return stat(what, *arguments, **options)

    monkeypatch.setattr(os, "stat", checked)


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


def test_a_town_of_ones_own_is_never_another(town: Path, tmp_path: Path) -> None:
    """Its map may have any ending; where there is none, nothing that ships with the library takes its place."""
    shutil.copy(town, tmp_path / "MYTOWN.OSM.PBF")
    for root in (tmp_path / "MYTOWN.OSM.PBF", tmp_path):
        config = resolve_config("smoke", dataset="osm", data_root=str(root), n_test=8)
        assert (config.train_area, areas("osm", str(root))) == ("MYTOWN", ("MYTOWN",))
        assert osm_root("MYTOWN", str(root)) == osm_root("atlantis", str(root)) == str(root)
        assert osm_root("monaco", str(root)) == ""  # only where it is asked for
    data = open_for(config, "MYTOWN", "test")
    assert data.area == "MYTOWN"
    assert data.query_location is not None
    assert np.abs(data.query_location.mean(0) - CENTRE[::-1]).max() < 0.01
    (tmp_path / "bare").mkdir()
    for root in (tmp_path / "none.osm.pbf", tmp_path / "none", tmp_path / "bare"):
        for asked in (lambda: areas("osm", str(root)), lambda: osm_root("helsinki", str(root)), lambda: open_dataset("osm", root)):  # noqa: B023
            with pytest.raises(DatasetError, match="OpenStreetMap extract"):
                asked()


def test_evaluation_on_a_folder_without_maps_is_refused(town: Path, tmp_path: Path) -> None:
    config = resolve_config("smoke", dataset="osm", data_root=str(town))
    trained = Trained("model", build_model(config), config, "osm:gridtown", tmp_path)
    with pytest.raises(DatasetError, match="holds no OpenStreetMap extract"):
        target_config(trained, {"data_root": str(tmp_path)})


def test_the_sun_stands_in_the_north_south_of_the_equator(town: Path, tmp_path: Path) -> None:
    south = make_gridtown(tmp_path / "south.osm.pbf", (CENTRE[0], -CENTRE[1]))
    climates = [embedded.climate_at(osm_world(path, 1, 2.0)[1]) for path in (town, south)]
    assert [climate.sun_azimuth for climate in climates] == [(90, 270), (-90, 90)]
    assert climates[0].sun_altitude == pytest.approx(climates[1].sun_altitude, abs=0.1)
    assert environment("low_sun", climates[1]) == replace(ENVIRONMENTS["low_sun"], sun_azimuth=SOUTHERN_SUN)
    # Walls that are seen on the way south are lit in the south, those on the way north in the north.
    shares = []
    for path in (town, south):
        data = open_dataset("osm", str(path), split="test", n=60, environment="low_sun", **SMALL)
        wall = torch.from_numpy(np.asarray(data.truth["ground_class"]) == WALL)  # N x H x W
        light = data.ground(range(60)).float().mean(1)
        north, south_part = (light[..., columns][wall[..., columns]].mean() for columns in (slice(24, 40), [*range(8), *range(56, 64)]))
        shares.append(float(north / south_part))
    assert shares[0] > 1.05 > 0.95 > shares[1]


def test_a_cache_that_may_not_be_entered_is_one_line(town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path / "closed"))
    forbid(monkeypatch, tmp_path / "closed")
    with pytest.raises(DatasetError, match=r"closed/.*manifest\.json cannot be looked at \(Permission denied\); check the path"):
        open_dataset("osm", str(town), split="test", n=5, **SMALL)
    monkeypatch.undo()
    forbid(monkeypatch, town)
    for asked in (lambda: areas("osm", str(town)), lambda: open_dataset("osm", str(town)), lambda: read_extract(town)):
        with pytest.raises(DatasetError, match=r"gridtown\.osm\.pbf cannot be looked at \(Permission denied\)"):
            asked()


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
