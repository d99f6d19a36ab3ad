"""The places of an embedded data set, seen again: in other light, season and haze, and from above along every street.

:func:`geodtr_lib.data.open_dataset` renders a data set once. Here its worlds are kept, so that a single place is drawn in milliseconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.config import RunConfig
from geodtr_lib.data import embedded, environment, render
from geodtr_lib.data.base import Indices, PairDataset
from geodtr_lib.data.environment import Environment
from geodtr_lib.data.site_views import Rendering, Site
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.files import digest

Light = Literal["clear", "overcast", "low_sun", "night", "rain"]
Season = Literal["", "spring", "summer", "autumn", "winter", "snow"]
_SEASONS = ("spring", "summer", "autumn", "winter")  # the order of Environment.vegetation
VISIBILITY = (10.0, 2000.0)  # metres


@dataclass(frozen=True)
class Weather:
    """What a place is seen in.

    Attributes:
        light: ``clear`` is the light of the area's own survey, the others are environments of :mod:`geodtr_lib.data.environment`.
        season: foliage; ``snow`` also covers the ground; empty = the survey's.
        visibility: metres at which contrast falls to 1/e; None = as the light has it.

    Raises:
        ConfigError: an unknown name, or a visibility out of bounds.
    """

    light: Light = "clear"
    season: Season = ""
    visibility: float | None = None

    def __post_init__(self) -> None:
        for name, kind in (("light", Light), ("season", Season)):
            if getattr(self, name) not in get_args(kind):
                allowed = ", ".join(repr(value) for value in get_args(kind))
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not known; allowed: {allowed}")
        if self.visibility is not None and not VISIBILITY[0] <= self.visibility <= VISIBILITY[1]:
            raise ConfigError(f"visibility: {self.visibility:g} m is not possible; allowed: {VISIBILITY[0]:g} to {VISIBILITY[1]:g} m")

    def environment(self, campaign: Environment, climate: Environment) -> Environment:
        """The ranges that a capture is drawn from: those of the area's own survey, with what this weather changes in its climate."""
        found = campaign
        if self.light != "clear":  # the camera and the season stay
            kept = {name: getattr(campaign, name) for name in ("warmth", "saturation", "vegetation")}
            found = replace(environment.environment(self.light, climate), **kept)
        if self.season == "snow":
            found = replace(found, vegetation=(0.0, 0.0, 0.0, 1.0), snow=environment.ENVIRONMENTS["snow"].snow)
        elif self.season:
            spring, summer, autumn, winter = (float(name == self.season) for name in _SEASONS)
            found = replace(found, vegetation=(spring, summer, autumn, winter))
        return found if self.visibility is None else replace(found, haze=(self.visibility, self.visibility))


class Scenes:
    """The worlds of one area and split, with their places in the data set's order.

    Opening draws the worlds (seconds for a town); a place then takes milliseconds.

    Args:
        config: of a run: data set, seeds and sizes.
        area: one area of it.
        split: ``train`` or ``test``.

    Raises:
        DatasetError: the data set's pictures are not rendered, or the area is several joined by '+'.
    """

    def __init__(self, config: RunConfig, area: str, split: str = "test") -> None:
        self.size = config.ground_size
        self._sites = list(_sites(config, area, split))
        self._first = np.cumsum([0, *(len(site.x) for site in self._sites)])
        self._scene: tuple[int, render.StreetScene] | None = None

    def __len__(self) -> int:
        return int(self._first[-1])

    def panorama(self, place: int, weather: Weather) -> Tensor:
        """A place's panorama, uint8 3 x H x W. The same weather gives the same picture; of another weather only that differs."""
        if not 0 <= place < len(self):
            raise DatasetError(f"there is no place {place}; there are {len(self)}, counted from 0")
        number = int(np.searchsorted(self._first, place, side="right")) - 1
        site, index = self._sites[number], place - int(self._first[number])
        if self._scene is None or self._scene[0] != number:
            self._scene = number, render.street_scene(site.world, np.random.default_rng([site.seed, 9]))
        campaign = environment.draw_campaign(site.climate, np.random.default_rng([site.survey, 11]))  # the data set's own
        env = weather.environment(campaign, site.climate)
        captures = environment.draw_captures(env, 1, np.random.default_rng([site.seed, place, 21]))
        generator = torch.Generator().manual_seed(site.seed + place)
        where = slice(index, index + 1)
        picture, _, _ = render.panoramas(self._scene[1], site.x[where], site.y[where], env, captures, self.size, generator)
        return picture[0]


class StreetTiles(PairDataset):
    """Aerial tiles all along the streets of an OpenStreetMap area: a gallery to look places up in, without queries.

    The tiles are of the flight that photographed the data set's test places, and lie in all blocks, also those of training. They are drawn
    when they are asked for: those of a whole town would fill the memory.

    Args:
        config: of a run on ``osm``: seeds and sizes.
        area: one area.
        spacing: metres that neighbouring tiles are at least apart.

    Raises:
        ConfigError: a spacing that is not positive.
        DatasetError: another data set, or an area that it does not have.
    """

    def __init__(self, config: RunConfig, area: str, spacing: float = 10.0) -> None:
        if config.dataset != "osm":
            raise DatasetError(f"{config.dataset} has no streets with latitude and longitude; take dataset=osm")
        if not spacing > 0:
            raise ConfigError(f"spacing: {spacing:g} m is not possible; it must be more than 0")
        (site,) = _sites(config, area, "test")
        rendering = _rendering(config)
        points = site.world.streets[:, :2].astype(np.float64)
        points = points[np.sort(embedded.thin(points, spacing, np.random.default_rng([site.survey, 31])))]
        # The draws of the data set's own flight, in their order: its campaign first.
        survey, aerial = np.random.default_rng([site.survey, 11]), _environment(rendering.aerial_environment, site)
        environment.draw_campaign(_environment(rendering.ground_environment, site), survey)
        flight = environment.draw_captures(aerial, 1, survey)
        photo = render.orthophoto(site.world, aerial, flight, np.random.default_rng([site.seed, 33]))
        self._sampler = render.TileSampler(photo, aerial, rendering.tile_metres, rendering.tile_size)
        self._parts = np.array_split(points, -(-len(points) // 256))
        self._first = np.cumsum([0, *(len(part) for part in self._parts)])
        # Of the generator before each part, as far as they are known: a part is drawn again as it was drawn first.
        self._states = [torch.Generator().manual_seed(site.seed).get_state()]
        self._kept: tuple[int, Tensor] | None = None
        self._side = rendering.tile_size
        self.name, self.area, self.split = "osm", area, "streets"
        self.positive, self.query_ids = np.zeros(0, np.int64), []
        self.reference_ids = [f"{area}-street-{number:05d}" for number in range(len(points))]
        self.reference_position = points
        assert site.to_lonlat is not None  # every osm site has it
        longitude, latitude = site.to_lonlat(points[:, 0], points[:, 1])
        self.reference_location = np.stack([latitude, longitude], 1)
        self.hash = street_tiles_hash(config, area, spacing)

    def ground(self, indices: Indices) -> Tensor:
        raise DatasetError(f"{self!r} has tiles only")

    def aerial(self, indices: Indices) -> Tensor:
        index = np.asarray(indices)
        number = np.searchsorted(self._first, index, side="right") - 1
        found = torch.empty(len(index), 3, self._side, self._side, dtype=torch.uint8)
        for part in np.unique(number).tolist():
            rows = np.flatnonzero(number == part)
            found[rows] = self._part(part)[index[rows] - self._first[part]]
        return found

    def _part(self, number: int) -> Tensor:
        """Tiles of one part, n x 3 x S x S; the last one is kept, because a gallery is embedded in smaller batches, in order."""
        if self._kept is None or self._kept[0] != number:
            generator = torch.Generator()
            for known in range(len(self._states), number + 1):
                generator.set_state(self._states[known - 1])
                self._sampler.draw_chance(len(self._parts[known - 1]), generator)
                self._states.append(generator.get_state())
            generator.set_state(self._states[number])
            x, y = self._parts[number].T
            self._kept = number, self._sampler(x, y, generator)[0]
            if number + 1 == len(self._states):
                self._states.append(generator.get_state())
        return self._kept[1]


def street_tiles_hash(config: RunConfig, area: str, spacing: float) -> str:
    """Hash of :class:`StreetTiles` without drawing them: of the map's file, the drawing code and every value that decides what is drawn."""
    key = embedded.cache_key("osm", area, "test", 0, config.data_seed, _root(config, area), _rendering(config))
    return digest([key, spacing, inspect.getsource(StreetTiles)])


def _sites(config: RunConfig, area: str, split: str) -> Sequence[Site]:
    """The data set's worlds, as :func:`geodtr_lib.data.open_for` renders them."""
    if not config.embedded:
        raise DatasetError(f"{config.dataset} holds photographs: their light and season cannot be changed")
    if "+" in area:
        raise DatasetError(f"{area} is several areas; take one of them")
    rendering, n = _rendering(config), config.n_train if split == "train" else config.n_test
    return list(embedded.sites(config.dataset, area, split, n, config.data_seed, _root(config, area), rendering))


def _root(config: RunConfig, area: str) -> str:
    from geodtr_lib.data import osm_root

    return osm_root(area, config.data_root)


def _rendering(config: RunConfig) -> Rendering:
    options: dict[str, Any] = {key: config.options[key] for key in ("aerial_environment", "resolution") if key in config.options}
    return Rendering(config.ground_size, config.tile_size or config.aerial_size[0], ground_environment=config.environment, **options)


def _environment(name: str, site: Site) -> Environment:
    return site.climate if name == "clear" else environment.environment(name, site.climate)
