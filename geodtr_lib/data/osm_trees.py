"""Trees of an extract: those on the map, and those that stand in its parks, gardens and yards without being mapped."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from geodtr_lib.data.city_styles import FOLIAGE
from geodtr_lib.data.osm_reader import Extract
from geodtr_lib.data.osm_streets import along
from geodtr_lib.data.osm_surfaces import MATERIALS
from geodtr_lib.data.world import stamp_crowns

_ROW_SPACING = 7.0  # metres between the trees of a row
_CELL = 6.0  # metres; at most one unmapped tree per cell of this size
_MAPPED_REACH = 12.0  # metres around a mapped tree in which none is added: who maps one maps its neighbours
_HEIGHT, _WIDTH = (6.0, 14.0), (0.22, 0.36)  # metres; radius of the crown as a part of the height


def mapped_trees(extract: Extract) -> np.ndarray:
    """Single trees and rows: x, y, height, radius of the crown in metres, NaN where the map does not say; T x 4."""
    single = [(t.x, t.y, t.height or np.nan, t.crown / 2 if t.crown else np.nan) for t in extract.trees]
    rows = [line for line in extract.lines if line.kind == "tree_row"]
    line, x, y, _, _ = along(np.array([row.line for row in rows], object), _ROW_SPACING)
    height = np.array([row.height or np.nan for row in rows])[line]
    return np.concatenate([np.reshape(single, (-1, 4)), np.stack([x, y, height, np.full(len(x), np.nan)], 1)])


def unmapped_trees(material: np.ndarray, mapped: np.ndarray, resolution: float, rng: np.random.Generator) -> np.ndarray:
    """Trees drawn by what grows on the ground (``Material.trees``), in the rows of :func:`mapped_trees`."""
    height, width = material.shape
    n_rows, n_columns = (int(pixels * resolution / _CELL) for pixels in (height, width))
    cell = np.stack(np.meshgrid(np.arange(n_columns), np.arange(n_rows)), -1).reshape(-1, 2)
    x, y = ((cell + rng.random(cell.shape)) * _CELL).T
    row, column = (height - y / resolution).astype(np.int64), (x / resolution).astype(np.int64)
    density = np.array([m.trees for m in MATERIALS.values()])[material[np.clip(row, 0, height - 1), column]]
    chosen = rng.random(len(x)) < density * _CELL**2
    if len(mapped):
        chosen &= cKDTree(mapped[:, :2]).query(np.stack([x, y], 1), distance_upper_bound=_MAPPED_REACH)[0] > _MAPPED_REACH
    open_ = np.full(int(chosen.sum()), np.nan)
    return np.stack([x[chosen], y[chosen], open_, open_], 1)


def crowns(trees: np.ndarray, solid: np.ndarray, resolution: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasters ``canopy_top``, ``canopy_base`` and ``canopy_rgb`` of a world; they end at buildings.

    Args:
        trees: T x 4, see :func:`mapped_trees`; sizes that are NaN are drawn.
        solid: H x W heights of buildings and barriers, metres.
    """
    n = len(trees)
    drawn_height, drawn_part = rng.uniform(*_HEIGHT, n), rng.uniform(*_WIDTH, n)
    palette = np.array(FOLIAGE, np.float64)
    rgb = palette[rng.integers(len(palette), size=n)] * rng.uniform(0.8, 1.2, (n, 1))
    x, y, height, radius = trees.T
    height = np.where(np.isnan(height), np.where(np.isnan(radius), drawn_height, radius / drawn_part), height)
    radius = np.where(np.isnan(radius), np.clip(height * drawn_part, 0.8, 6.0), radius)
    shape = (solid.shape[0], solid.shape[1])
    top, base, colour = stamp_crowns(shape, resolution, x, y, radius, height, np.minimum(height * 0.35, 2.8) + 0.3 * (height > 3), rgb)
    top[solid > base] = 0
    return top, base, colour
