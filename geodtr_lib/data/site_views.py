"""A world seen from both sides: tiles and panoramas of its places, with the truth of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch

from geodtr_lib.data import environment, render
from geodtr_lib.data.parallel import workers
from geodtr_lib.data.world import World

TILE_METRES = 72.0  # side of an aerial tile
_CHUNK = 64  # places for which chance is drawn at once


@dataclass(frozen=True)
class Rendering:
    """How places are rendered: part of the cache's key."""

    ground_size: tuple[int, int] = (32, 128)
    tile_size: int = 64
    tile_metres: float = TILE_METRES
    ground_environment: str = "clear"
    aerial_environment: str = "clear"
    resolution: float = 0.5  # metres per raster pixel


Locate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Site:
    """A world and the places to render in it."""

    world: World
    seed: int
    survey: int  # seed of the area's campaign and flight, the same for training and test places
    x: np.ndarray  # metres
    y: np.ndarray
    climate: environment.Environment
    corner: tuple[float, float] = (0.0, 0.0)  # metres east and north of the area's own origin
    to_lonlat: Locate | None = None


class SiteViews:
    """Both views of a site: prepares its street scene and its orthophoto, then draws its places."""

    def __init__(self, site: Site, rendering: Rendering) -> None:
        self.site, self.rendering = site, rendering
        self._rng = np.random.default_rng([site.seed, 9])
        self._generator = torch.Generator().manual_seed(site.seed)
        names = (rendering.ground_environment, rendering.aerial_environment)
        ground, aerial = (site.climate if name == "clear" else environment.environment(name, site.climate) for name in names)
        survey = np.random.default_rng([site.survey, 11])
        self._env = environment.draw_campaign(ground, survey)
        self._scene = render.street_scene(site.world, self._rng)
        photo = render.orthophoto(site.world, aerial, environment.draw_captures(aerial, 1, survey), self._rng)
        self._tiles = render.TileSampler(photo, aerial, rendering.tile_metres, rendering.tile_size)

    def draw(self, drawn: Callable[[int], object] = lambda _: None) -> dict[str, np.ndarray]:
        """Images and truth of all places, by the names of the cache's files; another call draws other captures.

        Args:
            drawn: told how many places were drawn since the last call.
        """
        site, size, side, n = self.site, self.rendering.ground_size, self.rendering.tile_size, len(self.site.x)
        arrays: dict[str, np.ndarray] = {
            "aerial": np.empty((n, 3, side, side), np.uint8), "ground": np.empty((n, 3, *size), np.uint8),
            "ground_depth": np.empty((n, *size), np.float16), "ground_class": np.empty((n, *size), np.uint8),
            "aerial_class": np.empty((n, side, side), np.uint8),
        }  # fmt: skip

        def render_part(part: slice, captures: environment.Captures, ground: render.Chance, aerial: render.TileChance) -> int:
            x, y = site.x[part], site.y[part]
            views = *self._tiles(x, y, aerial), *render.panoramas(self._scene, x, y, self._env, captures, size, ground)
            for name, values in zip(("aerial", "aerial_class", "ground", "ground_depth", "ground_class"), views, strict=True):
                arrays[name][part] = values.numpy()
            return len(x)

        threads = torch.get_num_threads()
        with workers(threads) as pool:
            begun: deque[Future[int]] = deque()
            for start in range(0, n, _CHUNK):
                # Chance is drawn here, in order, so that it does not depend on which thread is faster.
                part = slice(start, min(start + _CHUNK, n))
                number = part.stop - start
                captures = environment.draw_captures(self._env, number, self._rng)
                ground = render.draw_chance(number, self._env, size, self._generator)
                aerial = self._tiles.draw_chance(number, self._generator)
                begun.append(pool.submit(render_part, part, captures, ground, aerial))
                if len(begun) > threads:
                    drawn(begun.popleft().result())
            for one in begun:
                drawn(one.result())
        arrays["position"] = np.stack([site.x + site.corner[0], site.y + site.corner[1]], 1)
        if site.to_lonlat is not None:
            longitude, latitude = site.to_lonlat(site.x, site.y)
            arrays["location"] = np.stack([latitude, longitude], 1)
        return arrays
