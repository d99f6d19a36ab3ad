"""Real towns from OpenStreetMap: extracts that ship with the library or the user's own, drawn as a world.

The ground is flat, since OpenStreetMap has no terrain. What the map lacks is drawn from the seed; where cameras may stand and what is
solid around them does not depend on it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from geodtr_lib.data.osm_buildings import draw_houses
from geodtr_lib.data.osm_ground import ground_colours, ground_materials, raise_barriers
from geodtr_lib.data.osm_projection import Projection
from geodtr_lib.data.osm_reader import Extract, read_extract
from geodtr_lib.data.osm_roofs import raise_houses
from geodtr_lib.data.osm_streets import draw_streets, street_points, vehicle_points
from geodtr_lib.data.osm_surfaces import MATERIAL_INDEX, MATERIALS
from geodtr_lib.data.osm_trees import crowns, mapped_trees, unmapped_trees
from geodtr_lib.data.world import MARKING, PLAZA, ROAD, World
from geodtr_lib.errors import DatasetError
from geodtr_lib.lookup import town_maps

_FOLDER = Path(__file__).resolve().parent / "osm_extracts"
EMBEDDED: dict[str, Path] = {"helsinki": _FOLDER / "helsinki.osm.pbf", "monaco": _FOLDER / "monaco.osm.pbf"}

EDGE = 40.0  # metres at the raster's edge without cameras: a tile has ground on all sides
_TRUNK = 1.5  # metres around a trunk without cameras
_MAX_PIXELS = 80e6  # a world takes up to 40 bytes per pixel


def resolve_extract(root: str, area: str) -> Path:
    """The extract of an area.

    Args:
        root: empty for those that ship with the library, else a map (:data:`geodtr_lib.lookup.MAP_SUFFIXES`) or a folder of maps.
        area: ``helsinki``, ``monaco``, or the file's name without its ending.

    Raises:
        DatasetError: no such area; the message says which there are.
    """
    if not root:
        if area in EMBEDDED:
            return EMBEDDED[area]
        raise DatasetError(f"osm area {area!r} is not known; allowed: {', '.join(EMBEDDED)}, or pass data_root with an extract of your own")
    found = town_maps(root)
    if area not in found:
        raise DatasetError(f"osm area {area!r} is not in {root}; there: {', '.join(found)}")
    return found[area]


def osm_world(source: str | Path, seed: int, resolution: float = 0.5) -> tuple[World, Projection]:
    """Read an extract and draw it as a world.

    Args:
        source: path of an extract, or the name of one that ships with the library.
        seed: of all that the map lacks.
        resolution: metres per pixel.

    Raises:
        DatasetError: see :func:`geodtr_lib.data.osm_reader.read_extract`; also an extract too large for one raster.
    """
    extract = read_extract(EMBEDDED.get(str(source), Path(source)))
    return build_world(extract, seed, resolution), extract.projection


def build_world(extract: Extract, seed: int, resolution: float = 0.5) -> World:
    """Draw an extract as a world of ``ceil(size / resolution)`` pixels.

    Raises:
        DatasetError: the extract is too large for one raster.
    """
    width, height = (int(np.ceil(metres / resolution)) for metres in extract.size)
    if width * height > _MAX_PIXELS:
        east, north = (metres / 1000 for metres in extract.size)
        raise DatasetError(
            f"{extract.path} spans {east:.1f} x {north:.1f} km, too large at {resolution:g} m per pixel; "
            "cut a smaller extract (osmium extract --bbox) or take larger pixels"
        )
    shape = height, width
    house_rng, street_rng, ground_rng, tree_rng, colour_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5))

    streets = draw_streets(extract.roads, street_rng)
    houses = draw_houses(extract.buildings, house_rng)
    solid, eaves, number = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    raise_houses(extract.buildings, houses, solid, eaves, number, resolution)
    material = ground_materials(extract, streets, number > 0, resolution, ground_rng)
    raise_barriers(extract, streets, material, solid, resolution)
    material[number > 0] = MATERIAL_INDEX["roof"]
    mapped = mapped_trees(extract)
    trees = np.concatenate([mapped, unmapped_trees(material, mapped, resolution, tree_rng)])
    canopy_top, canopy_base, canopy_rgb = crowns(trees, solid, resolution, tree_rng)
    world = World(
        resolution=resolution,
        terrain=np.zeros(shape, np.float32),
        solid=solid,
        eaves=eaves,
        building=number,
        label=np.array([m.label for m in MATERIALS.values()], np.uint8)[material],
        rgb=ground_colours(material, number, houses.roof_rgb, resolution, colour_rng),
        canopy_top=canopy_top,
        canopy_base=canopy_base,
        canopy_rgb=canopy_rgb,
        facades=houses.facades,
        streets=street_points(streets),
    )
    return replace(world, streets=_cameras(world, mapped), parking=_vehicles(world, vehicle_points(streets)))


def _cameras(world: World, mapped: np.ndarray) -> np.ndarray:
    """Street points in the open, away from the raster's edge and from mapped trunks."""
    points = world.streets
    row, column = world.pixel(points[:, 0], points[:, 1])
    inside = ((points[:, :2] > EDGE) & (points[:, :2] < np.array(world.size) - EDGE)).all(1)
    free = inside & (world.building[row, column] == 0)
    if len(mapped):
        free &= cKDTree(mapped[:, :2]).query(points[:, :2], distance_upper_bound=_TRUNK)[0] > _TRUNK
    return np.asarray(points[free], np.float32)


def _vehicles(world: World, points: np.ndarray) -> np.ndarray:
    """Vehicle positions within the raster that lie on a carriageway."""
    inside = ((points[:, :2] > 0) & (points[:, :2] < np.array(world.size))).all(1)
    row, column = world.pixel(points[:, 0], points[:, 1])
    return np.asarray(points[inside & np.isin(world.label[row, column], (ROAD, MARKING, PLAZA))], np.float32)
