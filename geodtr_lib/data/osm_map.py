"""An OpenStreetMap extract as the lines and outlines of a street map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely

from geodtr_lib.data.osm_projection import Projection
from geodtr_lib.data.osm_reader import read_extract
from geodtr_lib.data.osm_streets import road_class
from geodtr_lib.data.osm_surfaces import MATERIALS
from geodtr_lib.data.osm_world import resolve_extract
from geodtr_lib.data.world import GRASS, WATER

CREDIT = "© OpenStreetMap contributors"  # what the licence of the data (ODbL) asks to be shown


@dataclass(frozen=True, eq=False)  # one that was read is itself: what is drawn of it is kept
class StreetMap:
    """What a map draws, in metres east and north of the area's south-west corner.

    Attributes:
        size: extent east and north, metres.
        projection: between latitude and longitude and these metres.
        buildings, green, water: outlines, P x 2 each.
        streets, paths: axes of streets and of ways for people, P x 2 each.
    """

    size: tuple[float, float]
    projection: Projection
    buildings: Sequence[np.ndarray]
    green: Sequence[np.ndarray]
    water: Sequence[np.ndarray]
    streets: Sequence[np.ndarray]
    paths: Sequence[np.ndarray]

    def metres(self, location: np.ndarray) -> np.ndarray:
        """Metres east and north, ... x 2, of latitudes and longitudes in degrees, ... x 2."""
        location = np.asarray(location, dtype=np.float64)
        return np.stack(self.projection.to_metres(location[..., 1], location[..., 0]), -1)


@lru_cache(maxsize=4)
def street_map(area: str, root: str = "") -> StreetMap:
    """Read an area as a map; a second call for the same is immediate.

    Args:
        area, root: see :func:`geodtr_lib.data.osm_world.resolve_extract`.

    Raises:
        DatasetError: no such area, or a file that cannot be read.
    """
    return map_of(resolve_extract(root, area))


def map_of(path: str | Path) -> StreetMap:
    """Read an extract as a map.

    Raises:
        DatasetError: see :func:`geodtr_lib.data.osm_reader.read_extract`.
    """
    extract = read_extract(path)
    surfaces = sorted(extract.surfaces, key=lambda surface: -float(surface.polygon.area))
    labels = {name: material.label for name, material in MATERIALS.items()}
    drawn = [(road, kind) for road in extract.roads if (kind := road_class(road.kind)) is not None]
    return StreetMap(
        size=extract.size,
        projection=extract.projection,
        buildings=_outlines([building.polygon for building in extract.buildings if not building.part]),
        green=_outlines([surface.polygon for surface in surfaces if labels[surface.kind] == GRASS]),
        water=_outlines([surface.polygon for surface in surfaces if labels[surface.kind] == WATER]),
        streets=[np.asarray(road.line.coords) for road, kind in drawn if kind.street],
        paths=[np.asarray(road.line.coords) for road, kind in drawn if not kind.street],
    )


def _outlines(polygons: Sequence[shapely.Polygon]) -> list[np.ndarray]:
    """Outer rings. A courtyard is left out: at the scale of a map the block is what is recognised."""
    return [np.asarray(polygon.exterior.coords)[:, :2] for polygon in polygons]
