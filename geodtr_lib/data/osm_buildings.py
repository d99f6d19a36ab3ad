"""What the map leaves open about buildings is drawn: heights after the mapped neighbours, roofs by the width of the house, colours by kind.

One broad European style serves every town, so that any extract works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from scipy.spatial import cKDTree

from geodtr_lib.data.city_styles import FLAT, SLATE, TILES, Palette
from geodtr_lib.data.osm_features import Building
from geodtr_lib.data.osm_styles import COPPER, ROOF_MATERIALS, STYLES, TOWN_HOUSE, WALL_MATERIALS, BuildingStyle
from geodtr_lib.data.world import Facades

_SHED_AREA, _SMALL_AREA = 40.0, 100.0  # square metres; up to these, buildings of unknown height have one and at most three storeys
_ROOF_STOREY, _PLINTH = 2.6, 0.4  # metres


@dataclass(frozen=True)
class Houses:
    """Buildings with nothing left open: arrays of N rows, lengths in metres.

    Attributes:
        wall_height: from the ground to the roof's foot; NaN where ``height`` is known and the roof's rise is taken off it.
        height: of the roof's top; NaN where it follows from the rise.
        roof_shape: a name of :data:`geodtr_lib.data.osm_features.ROOF_SHAPES`.
        rise: of the roof; NaN where ``slope`` (metres per metre from the edge) gives it.
        roof_rgb: N x 3, 0-255.
        facades: N + 1 rows, for building numbers from 1.
    """

    wall_height: np.ndarray
    height: np.ndarray
    roof_shape: list[str]
    rise: np.ndarray
    slope: np.ndarray
    roof_rgb: np.ndarray
    facades: Facades


def draw_houses(buildings: Sequence[Building], rng: np.random.Generator) -> Houses:
    """Decide height, roof and colours of every building; whatever the map gives is kept."""
    n = len(buildings)
    polygons = np.array([b.polygon for b in buildings], object)
    area, centre = shapely.area(polygons), shapely.get_coordinates(shapely.centroid(polygons))
    envelope = shapely.oriented_envelope(polygons)
    short = np.array([min(_sides(box)) for box in envelope])
    boxed = area / np.maximum(shapely.area(envelope), 1e-6)
    styles = [STYLES.get(b.kind, TOWN_HOUSE) for b in buildings]
    owner = _owners(buildings, polygons)

    # Drawn for all, known or not: a tag more in one building does not change the others.
    storey = np.array([rng.uniform(*style.storey) for style in styles])
    levels = _levels(buildings, styles, area, centre, owner, rng)
    pitched = rng.random(n) < np.array([style.pitched for style in styles]) * np.clip(1.5 - short / 28, 0.1, 1.0)
    mansard, slope = rng.random(n) < 0.15, rng.uniform(0.35, 0.9, n)
    tiled = rng.random(n) < rng.uniform(0.3, 0.7)  # how common tiles are differs between towns
    pick, tone = rng.random((2, n)), rng.uniform(0.88, 1.1, (2, n))

    wall_height, height, rise = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    shapes, wall_rgb, roof_rgb = [], np.zeros((n, 3)), np.zeros((n, 3))
    for i, b in enumerate(buildings):
        j = owner[i]
        outline = buildings[j]
        if b.height is not None:
            height[i] = b.height
        elif b.levels is None and outline.height is not None:
            height[i] = outline.height
        else:
            wall_height[i] = levels[i] * storey[j] + _PLINTH
        shapes.append(_roof_shape(b, bool(pitched[i]), bool(mansard[i]), float(boxed[i]), levels[i]))
        if b.roof_height is not None:
            rise[i] = b.roof_height
        elif b.roof_levels:
            rise[i] = _ROOF_STOREY * b.roof_levels
        walls = WALL_MATERIALS.get(b.wall_material) or WALL_MATERIALS.get(outline.wall_material) or styles[j].walls
        wall_rgb[i] = b.wall_rgb or outline.wall_rgb or _shade(walls, pick[0, j], tone[0, j])
        usual = FLAT if shapes[i] == "flat" else TILES if tiled[j] else SLATE + SLATE + COPPER
        roof_rgb[i] = b.roof_rgb or _shade(ROOF_MATERIALS.get(b.roof_material, usual), pick[1, i], tone[1, i])
    houses = Houses(wall_height, height, shapes, rise, slope, roof_rgb, _facades(buildings, styles, owner, storey, levels, wall_rgb, rng))
    return _outlines_below_parts(houses, owner)


def _sides(box: shapely.Geometry) -> tuple[float, float]:
    """Lengths of an oriented envelope's two sides; both 0 for a degenerate one."""
    corner = shapely.get_coordinates(box)
    if len(corner) < 4:
        return 0.0, 0.0
    return float(np.hypot(*(corner[1] - corner[0]))), float(np.hypot(*(corner[2] - corner[1])))


def _shade(palette: Palette, part: float, tone: float) -> np.ndarray:
    """A colour of the palette, by a number in [0, 1), made lighter or darker."""
    return np.clip(np.array(palette[int(part * len(palette))]) * tone, 0, 255)


def _owners(buildings: Sequence[Building], polygons: np.ndarray) -> np.ndarray:
    """For each part the number of the outline that it lies in; every other building owns itself."""
    owner = np.arange(len(buildings))
    parts = np.array([i for i, b in enumerate(buildings) if b.part], np.int64)
    outlines = np.array([i for i, b in enumerate(buildings) if not b.part], np.int64)
    if len(parts) and len(outlines):
        inner, found = shapely.STRtree(polygons[outlines]).query(shapely.point_on_surface(polygons[parts]), predicate="within")
        owner[parts[inner]] = outlines[found]
    return owner


def _levels(
    buildings: Sequence[Building], styles: Sequence[BuildingStyle], area: np.ndarray, centre: np.ndarray, owner: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Storeys below the roof: mapped, or of the outline, or as one of the five nearest mapped neighbours, or drawn by kind."""
    n = len(buildings)
    drawn = np.array([rng.integers(style.levels[0], style.levels[1] + 1) for style in styles], float)
    known = [i for i, b in enumerate(buildings) if not b.part and b.levels is not None and styles[i].as_neighbours and area[i] > 100]
    chosen = rng.integers(5, size=n)
    if len(known) >= 5:
        near = cKDTree(centre[known]).query(centre, k=5)[1][np.arange(n), chosen]
        neighbour = np.array([buildings[known[i]].levels for i in near], float)
        follows = np.array([style.as_neighbours for style in styles])
        drawn = np.where(follows, np.maximum(neighbour, 1), drawn)
    drawn = np.where(area < _SHED_AREA, 1, np.where(area < _SMALL_AREA, np.minimum(drawn, 3), drawn))
    own = np.array([b.levels if b.levels is not None else -1 for b in buildings], float)
    own = np.where(own < 0, own[owner], own)
    return np.where(own < 0, drawn[owner], own)


def _roof_shape(b: Building, pitched: bool, mansard: bool, boxed: float, levels: float) -> str:
    if b.roof_shape is not None:
        return b.roof_shape
    if b.part or b.roof_levels == 0 or b.kind in ("roof", "carport") or (not b.roof_levels and not b.roof_height and not pitched):
        return "flat"
    if levels >= 4 and mansard:
        return "mansard"
    return "gabled" if boxed > 0.85 else "hipped"


def _facades(
    buildings: Sequence[Building], styles: Sequence[BuildingStyle], owner: np.ndarray, storey: np.ndarray, levels: np.ndarray,
    wall_rgb: np.ndarray, rng: np.random.Generator,
) -> Facades:  # fmt: skip
    n = len(buildings)
    curtain = rng.random(n) < np.array([style.curtain for style in styles])
    curtain |= np.array([b.wall_material in ("glass", "mirror") for b in buildings])
    shop = (rng.random(n) < np.array([style.shops for style in styles])) & (levels >= 2)
    width = np.array([rng.uniform(*style.windows) for style in styles])
    windows = rng.uniform(30, 90, (n, 1)) * np.array([0.9, 1.0, 1.12])
    bay, part = rng.uniform(2.0, 3.4, n), rng.uniform(0.42, 0.6, n)
    height = np.array([b.height if b.height is not None else np.nan for b in buildings])
    measured = height / np.maximum(levels, 1)  # storeys as high as the map says, where it says both
    floor = np.where([b.levels is not None for b in buildings], np.where((measured > 2.3) & (measured < 6), measured, storey), storey)
    blank = width < 0.05

    def table(values: np.ndarray) -> np.ndarray:
        """Rows by building number: number 0 is no building, parts look as their outline does."""
        return np.concatenate([np.zeros_like(values[:1]), values[owner]]).astype(np.float32)

    facades = Facades(
        wall_rgb=table(wall_rgb),
        window_rgb=table(windows),
        floor_height=table(floor),
        bay_width=table(bay),
        window_height=table(np.where(curtain, 0.86, np.where(blank, 0, part))),
        window_width=table(np.where(curtain, 0.9, width)),
        shop=table(shop),
    )
    facades.wall_rgb[1:] = wall_rgb  # a part may have a colour of its own
    facades.floor_height[0] = facades.bay_width[0] = 3.0  # never divide by zero
    return facades


def _outlines_below_parts(houses: Houses, owner: np.ndarray) -> Houses:
    """Lower outlines to their lowest part: an outline's height is that of its highest part (Simple 3D Buildings)."""
    top = np.where(np.isnan(houses.height), houses.wall_height, houses.height)
    lowest = np.full(len(top), np.inf)
    parts = np.flatnonzero(owner != np.arange(len(owner)))
    np.minimum.at(lowest, owner[parts], top[parts])
    lowered = lowest < np.inf
    shapes = ["flat" if low else shape for low, shape in zip(lowered, houses.roof_shape, strict=True)]
    height = np.where(lowered, np.minimum(lowest, top), houses.height)
    return replace(houses, height=height, wall_height=np.where(lowered, np.nan, houses.wall_height), roof_shape=shapes)
