"""The ground of an extract as a raster of materials: water, green, squares, roads, rails, and what lies between where the map is silent."""

from __future__ import annotations

import numpy as np
import shapely
from scipy import ndimage

from geodtr_lib.data.osm_reader import Extract
from geodtr_lib.data.osm_streets import Streets, paint_marks, paint_roads
from geodtr_lib.data.osm_surfaces import MATERIAL_INDEX, MATERIALS
from geodtr_lib.data.polygon_fill import fill, paint

# Metres, where the map does not say.
_WATERWAYS = {"river": 12.0, "canal": 8.0, "stream": 2.0, "ditch": 1.0, "drain": 1.0}
_PIER = 3.0
_BALLAST = {"rail": 5.2, "light_rail": 5.2, "narrow_gauge": 4.2, "preserved": 5.2}  # beds of neighbouring tracks touch
_GAUGE = 1.435
# Height and width.
_BARRIERS = {"hedge": (1.5, 1.0), "wall": (2.0, 0.6), "fence": (1.2, 0.5), "retaining_wall": (1.0, 0.6), "city_wall": (6.0, 1.5)}
_SCRUB = 0.8
_CLEARANCE = 3.6  # around street axes, free of hedges, walls and scrub
# Open ground: a quarter is town when so much of it is built on; what its yards and gaps then are.
_TOWN, _QUARTER = 0.18, 100
_TOWN_GROUND = (("court", 0.4), ("yard", 0.25), ("grass", 0.2), ("garden", 0.15))
_LAND_GROUND = (("grass", 0.55), ("garden", 0.25), ("meadow", 0.2))
_STRIP = 5.0  # metres; narrower ground in a town, such as that between a pavement and a front, is paved


def ground_materials(extract: Extract, streets: Streets, built: np.ndarray, resolution: float, rng: np.random.Generator) -> np.ndarray:
    """Positions in ``MATERIALS`` of every pixel, uint8 H x W.

    Args:
        built: boolean H x W, where buildings stand; they are not drawn here.
        resolution: metres per pixel.
    """
    material = np.zeros(built.shape, np.uint8)
    # Large first: a lawn on a square, a pond in a park, a pier in the sea.
    for surface in sorted(extract.surfaces, key=lambda surface: -float(surface.polygon.area)):
        paint(material, [surface.polygon], resolution, MATERIAL_INDEX[surface.kind])
    for widths, name in ((_WATERWAYS, "water"), ({"pier": _PIER}, "pier"), (_BALLAST, "ballast")):
        lines = [line for line in extract.lines if line.kind in widths]
        bands = shapely.buffer([line.line for line in lines], [(line.width or widths[line.kind]) / 2 for line in lines])
        paint(material, bands, resolution, MATERIAL_INDEX[name])
    paint_roads(material, streets, resolution)
    tracks = [line.line for line in extract.lines if line.kind in _BALLAST or line.kind == "tram"]
    rails = [shapely.offset_curve(tracks, side * _GAUGE / 2) for side in (-1, 1)]
    paint(material, shapely.buffer(np.concatenate(rails), resolution / 2), resolution, MATERIAL_INDEX["steel"])
    paint_marks(material, streets, extract.crossings, resolution)
    _fill_open(material, built, resolution, rng)
    return material


def _fill_open(material: np.ndarray, built: np.ndarray, resolution: float, rng: np.random.Generator) -> None:
    """Draw what each connected piece of unmapped ground is: paved or green yards in town, green elsewhere."""
    step = max(1, round(1 / resolution))  # a metre is fine enough to tell pieces apart
    metres = step * resolution
    houses = built[::step, ::step]
    density = ndimage.uniform_filter(houses.astype(np.float32), round(_QUARTER / metres), mode="nearest")
    open_ = ((material[::step, ::step] == 0) & ~houses).view(np.uint8)
    across = max(1, round(_STRIP / metres))
    wide = ndimage.maximum_filter(ndimage.minimum_filter(open_, across), across)  # an opening: what a square of this size fits in
    piece, n = ndimage.label((open_ > 0) & ((wide > 0) | (density < _TOWN)))
    flat = piece.ravel()
    town = np.bincount(flat, density.ravel(), minlength=n + 1) / np.maximum(np.bincount(flat, minlength=n + 1), 1) > _TOWN
    draw = rng.random(n + 1)
    choice = np.where(town, _drawn(_TOWN_GROUND, draw), _drawn(_LAND_GROUND, draw)).astype(np.uint8)
    choice[0] = MATERIAL_INDEX["pavement"]
    looks = choice[piece].repeat(step, axis=0).repeat(step, axis=1)[: material.shape[0], : material.shape[1]]
    np.copyto(material, looks, where=material == 0)


def _drawn(weights: tuple[tuple[str, float], ...], draw: np.ndarray) -> np.ndarray:
    edges = np.cumsum([weight for _, weight in weights])[:-1]
    return np.array([MATERIAL_INDEX[name] for name, _ in weights])[np.searchsorted(edges, draw)]


def raise_barriers(extract: Extract, streets: Streets, material: np.ndarray, solid: np.ndarray, resolution: float) -> None:
    """Write hedges, walls, fences and scrub into the rasters of materials and heights (metres), in place.

    Buildings win, and streets stay free: maps draw barriers through gates. Neither depends on the seed.
    """
    shape = (solid.shape[0], solid.shape[1])
    axes = streets.lines[streets.where(kind.street for kind in streets.classes)]
    barred = solid > 0
    window, near = fill(shapely.buffer(axes, _CLEARANCE), shape, resolution)
    barred[window] |= near
    for line in extract.lines:
        if line.kind not in _BARRIERS:
            continue
        height, width = _BARRIERS[line.kind]
        window, mask = fill([shapely.buffer(line.line, max(line.width or width, resolution) / 2)], shape, resolution)
        mask &= ~barred[window]
        material[window][mask] = MATERIAL_INDEX["hedge" if line.kind == "hedge" else "wall"]
        solid[window][mask] = line.height or height
    for name, height in (("scrub", _SCRUB), ("hedge", _BARRIERS["hedge"][0])):
        solid[(material == MATERIAL_INDEX[name]) & ~barred & (solid == 0)] = height


def ground_colours(
    material: np.ndarray, number: np.ndarray, roof_rgb: np.ndarray, resolution: float, rng: np.random.Generator
) -> np.ndarray:
    """Colours of the surface seen from above before light, uint8 H x W x 3: materials and roofs, with patches and grain.

    Args:
        number: building numbers, 0 = none.
        roof_rgb: N x 3 colours of buildings 1 to N.
    """
    height, width = material.shape
    table = np.array([m.rgb for m in MATERIALS.values()], np.float32)
    roofs = np.concatenate([np.zeros((1, 3)), roof_rgb]).astype(np.float32)
    # Patches: plane waves, whose sums over rows and columns are products of tables, so that one matrix product makes a block.
    wavelength = np.array([61.0, 43.0, 27.0, 19.0, 13.0, 7.0])
    angle = (np.arange(6) * 5 + rng.uniform(0, 6)) * np.pi / 6  # every direction once
    phase = rng.uniform(0, 2 * np.pi, 6)
    east = np.outer(np.arange(width) * resolution, 2 * np.pi / wavelength * np.cos(angle))  # W x 6
    south = np.outer(np.arange(height) * resolution, 2 * np.pi / wavelength * np.sin(angle)) + phase
    columns = np.concatenate([np.sin(east), np.cos(east)], 1).T.astype(np.float32)
    rows = np.concatenate([np.cos(south), np.sin(south)], 1).astype(np.float32) * np.float32(0.02)
    rgb = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, 128):  # blocks stay in the cache and bound the memory
        part = slice(start, start + 128)
        tone = 1 + rows[part] @ columns
        tone += rng.integers(-10, 11, tone.shape, dtype=np.int8) * np.float32(0.006)
        colour = table[material[part]]
        on_roof = number[part] > 0
        colour[on_roof] = roofs[number[part][on_roof]]
        rgb[part] = np.clip(colour * tone[..., None], 0, 255)
    return rgb
