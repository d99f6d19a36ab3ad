"""Places seen again: in other light only the light differs, and tiles along streets are those of the data set's own flight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_town import make_town

from geodtr_lib import data, resolve_config
from geodtr_lib.config import RunConfig
from geodtr_lib.data import scenes as scenes_module
from geodtr_lib.data.osm_map import map_of
from geodtr_lib.data.scenes import Scenes, StreetTiles, Weather
from geodtr_lib.errors import ConfigError, DatasetError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    town = make_town(tmp_path_factory.mktemp("scenes"))
    return resolve_config("smoke", dataset="osm", data_root=str(town), n_test=20, options={"resolution": 1.0})


@pytest.fixture(scope="module")
def scenes(config: RunConfig) -> Scenes:
    return Scenes(config, "gridtown")


def test_a_place_is_the_data_set_s_own(config: RunConfig, scenes: Scenes) -> None:
    """The scene matches the data set's picture of the same place better than any other place's."""
    own = data.open_for(config, "gridtown", "test")
    assert len(scenes) == len(own) == 20
    again = torch.stack([scenes.panorama(place, Weather()) for place in range(20)]).float().flatten(1)
    difference = torch.cdist(again, own.ground(range(20)).float().flatten(1))
    assert difference.argmin(1).tolist() == list(range(20))


def test_the_same_weather_gives_the_same_picture_and_other_weather_another(scenes: Scenes) -> None:
    weathers = [Weather(), Weather("night"), Weather("overcast"), Weather(season="snow"), Weather(visibility=15.0)]
    pictures = [scenes.panorama(3, weather).float() for weather in weathers]
    assert torch.equal(scenes.panorama(3, Weather()).float(), pictures[0])
    assert all((some - pictures[0]).abs().mean() > 2 for some in pictures[1:])
    assert pictures[1].mean() < 0.5 * pictures[0].mean(), "night is dark"
    far = scenes.panorama(3, Weather(visibility=2000.0)).float()
    change = [float((scenes.panorama(3, Weather(visibility=metres)).float() - far).abs().mean()) for metres in (400.0, 100.0, 25.0)]
    assert 0 < change[0] < change[1] < change[2], "the denser the haze, the more it changes"


def test_a_city_is_seen_again_too() -> None:
    config = resolve_config("smoke", n_test=6, options={"resolution": 1.0})
    own = data.open_for(config, "midrise", "test")
    again = Scenes(config, "midrise")
    difference = [
        float((again.panorama(3, Weather()).float() - own.ground([place])[0].float()).abs().mean()) for place in range(6)
    ]  # fmt: skip
    assert int(np.argmin(difference)) == 3


def test_what_cannot_be_seen_again_is_told(config: RunConfig, scenes: Scenes) -> None:
    with pytest.raises(DatasetError, match="cvusa holds photographs"):
        Scenes(resolve_config("smoke", dataset="cvusa"), "cvusa")
    with pytest.raises(DatasetError, match="several areas"):
        Scenes(resolve_config("smoke"), "midrise+oldtown")
    with pytest.raises(DatasetError, match="no place 20; there are 20"):
        scenes.panorama(20, Weather())
    with pytest.raises(ConfigError, match="light: 'dawn' is not known; allowed: 'clear'"):
        Weather("dawn")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="visibility: 1 m is not possible; allowed: 10 to 2000 m"):
        Weather(visibility=1.0)


def test_tiles_along_the_streets_are_of_the_same_flight(config: RunConfig) -> None:
    own = data.open_for(config, "gridtown", "test")
    tiles = StreetTiles(config, "gridtown", spacing=2.0)
    assert own.reference_position is not None
    assert tiles.reference_position is not None
    apart = np.linalg.norm(tiles.reference_position[:, None] - own.reference_position[None], axis=-1)
    street, place = np.nonzero(apart < 0.01)
    assert len(street) >= 5
    same = (tiles.aerial(street).float() - own.aerial(place).float()).abs().mean()
    other = (tiles.aerial(street).float() - own.aerial(np.roll(place, 1)).float()).abs().mean()
    assert same < 0.5 * other, "only the sensor's noise and the parked cars differ"


def test_tiles_are_drawn_when_asked_for_and_the_same_in_any_order(config: RunConfig) -> None:
    """Some thousand tiles, as drawing all of them in order gives them; no more than one part of them is held."""
    tiles, again = (StreetTiles(config, "gridtown", spacing=2.0) for _ in range(2))
    n = tiles.n_references
    assert n > 4 * 256
    in_order = torch.cat([tiles.aerial(range(start, min(start + 100, n))) for start in range(0, n, 100)])
    order = np.random.default_rng(0).permutation(n)
    assert torch.equal(again.aerial([n - 1]), in_order[-1:])
    assert torch.equal(again.aerial(order), in_order[order])
    assert torch.equal(again.aerial([5, 5, n - 1, 0]), in_order[[5, 5, n - 1, 0]])
    assert again.aerial([]).shape == (0, *in_order.shape[1:])
    site = scenes_module._sites(config, "gridtown", "test")[0]
    assert tiles.reference_position is not None
    generator = torch.Generator().manual_seed(site.seed)
    drawn = [tiles._sampler(*part.T, generator)[0] for part in np.array_split(tiles.reference_position, -(-n // 256))]
    assert torch.equal(torch.cat(drawn), in_order)
    assert tiles._kept is not None
    assert tiles._kept[1].nbytes < in_order.nbytes / 4


@pytest.mark.parametrize("spacing", [15.0, 60.0])
def test_tiles_keep_their_distance_and_know_where_they_are(config: RunConfig, spacing: float) -> None:
    tiles = StreetTiles(config, "gridtown", spacing)
    assert tiles.reference_position is not None
    assert tiles.reference_location is not None
    apart = np.linalg.norm(tiles.reference_position[:, None] - tiles.reference_position[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= spacing
    assert apart.min(1).max() < 3 * spacing, "no street is left out"
    town = map_of(config.data_root)
    assert np.allclose(town.metres(tiles.reference_location), tiles.reference_position, atol=0.01)
    assert len(set(tiles.reference_ids)) == tiles.n_references
    with pytest.raises(DatasetError, match="has tiles only"):
        tiles.ground([0])


def test_tiles_along_streets_need_streets_and_a_spacing(config: RunConfig) -> None:
    with pytest.raises(DatasetError, match="city has no streets with latitude and longitude; take dataset=osm"):
        StreetTiles(resolve_config("smoke"), "midrise")
    with pytest.raises(ConfigError, match="spacing: 0 m is not possible"):
        StreetTiles(config, "gridtown", 0.0)


def test_a_map_has_the_extract_s_buildings_streets_and_water(config: RunConfig) -> None:
    town = map_of(Path(config.data_root))
    assert len(town.buildings) == 64
    assert len(town.streets) == 18
    assert len(town.water) == 1
    assert town.size == pytest.approx((900, 900), rel=0.05)
    east, north = np.concatenate(town.buildings).T
    assert 0 < east.min() < east.max() < town.size[0]
    assert 0 < north.min() < north.max() < town.size[1]
