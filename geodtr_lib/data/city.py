"""Procedural cities: five styles of street plan, building, green and colour, each an endless family of cities by seed.

A city is a plane without end, of which districts are rasterised as worlds. It is written as a formula of position, evaluated per pixel in
blocks of rows: a warped, irregular street grid with missing segments, blocks divided into lots, a building per lot, gardens, parks,
squares. What is drawn once per street, block, lot or building comes from a hash of its number and the seed; nothing loops over pixels.
"""

from __future__ import annotations

import numpy as np

from geodtr_lib.data.city_ground import GARDEN, KERBSIDE, Raster, draw_rows
from geodtr_lib.data.city_lots import blocks, lots, paint
from geodtr_lib.data.city_plan import DISTRICT_PITCH, DISTRICTS, MARGIN, Hash, Plan, street_points
from geodtr_lib.data.city_styles import FOLIAGE, GLASS, STYLES, Style, style
from geodtr_lib.data.parallel import for_row_blocks
from geodtr_lib.data.world import Facades, World, stamp_crowns

__all__ = ["DISTRICTS", "DISTRICT_PITCH", "MARGIN", "STYLES", "city_world", "style"]


def city_world(name: str, seed: int, side: float = 1000.0, resolution: float = 0.5, district: int = 0) -> World:
    """One district of a city, as a world.

    Args:
        name: style.
        seed: of everything drawn; cities of other seeds share nothing but the style.
        side: metres, the square in which cameras stand, 1000 at most; the raster is ``MARGIN`` larger on each side.
        district: which part of the city, 0 to 63 (rows of 8); the street plan goes on from one to the next, but they share no ground.
        resolution: metres per pixel.

    Raises:
        DatasetError: unknown style.
    """
    s = style(name)
    extent = side + 2 * MARGIN
    pixels = round(extent / resolution)
    plan = Plan(s, seed, district)
    x = ((np.arange(pixels, dtype=np.float32) + 0.5) * resolution)[None, :]
    y = (extent - (np.arange(pixels, dtype=np.float32) + 0.5) * resolution)[:, None]
    block_table = blocks(plan, plan.bounds(extent))
    lot_table = lots(plan, block_table)
    tables = block_table, lot_table, paint(plan, block_table, lot_table)
    raster = Raster.empty(pixels)
    for_row_blocks(lambda rows: draw_rows(raster, rows, plan, *tables, x, y[rows]), pixels, pixels)

    # Buildings are numbered from 1 in the order of their lots.
    there = np.zeros(len(lot_table.number) + 1, bool)
    for_row_blocks(lambda rows: there.__setitem__(raster.building[rows].reshape(-1), True), pixels, pixels)
    there[0] = False
    number = np.cumsum(there, dtype=np.int32) * there

    def renumber(rows: slice) -> None:
        raster.building[rows] = np.take(number, raster.building[rows], mode="clip")

    for_row_blocks(renumber, pixels, pixels)
    facades = _facades(s, [seed, 2, district], int(number.max()))
    top, base, crown_rgb = _trees(s, [seed, 3, district], raster, resolution, extent)
    places, parking = street_points(plan, s, [seed, 4, district], extent)
    return World(
        resolution=resolution, terrain=raster.terrain, solid=raster.solid, eaves=raster.eaves, building=raster.building,
        label=raster.label, rgb=raster.rgb, canopy_top=top, canopy_base=base, canopy_rgb=crown_rgb,
        facades=facades, streets=places, parking=parking,
    )  # fmt: skip


def _facades(s: Style, seed: list[int], count: int) -> Facades:
    rng = np.random.default_rng(seed)
    n = count + 1
    palette = np.array(s.walls, np.float32)
    walls = palette[rng.integers(len(palette), size=n)] * rng.uniform(0.85, 1.12, (n, 1)) + rng.normal(0, 5, (n, 3))
    curtain = rng.random(n) < s.glass_wall
    glass = np.array(GLASS, np.float32)
    windows = np.where(curtain[:, None], glass[rng.integers(len(glass), size=n)], rng.uniform(30, 90, (n, 1)) * np.array([0.9, 1.0, 1.12]))
    ribbon = rng.random(n) < 0.2
    return Facades(
        wall_rgb=np.clip(walls, 0, 255).astype(np.float32),
        window_rgb=np.clip(windows, 0, 255).astype(np.float32),
        floor_height=rng.uniform(*s.floor_height, n).astype(np.float32),
        bay_width=rng.uniform(*s.bay, n).astype(np.float32),
        window_height=np.where(curtain, 0.86, rng.uniform(0.4, 0.6, n)).astype(np.float32),
        window_width=np.where(curtain, 0.9, np.where(ribbon, 1.0, rng.uniform(*s.windows, n))).astype(np.float32),
        shop=(rng.random(n) < s.shops).astype(np.float32),
    )


def _trees(s: Style, seed: list[int], raster: Raster, resolution: float, extent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crowns in gardens and parks, and along the kerbs."""
    rng = np.random.default_rng(seed)
    pixels = len(raster.label)
    cell = 7.0
    n = int(extent / cell)
    grid = (np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) + rng.random((n * n, 2))) * cell
    row = np.clip(pixels - grid[:, 1] / resolution, 0, pixels - 1).astype(np.int64)
    column = np.clip(grid[:, 0] / resolution, 0, pixels - 1).astype(np.int64)
    interior, kerbside = (raster.ground[row, column] == kind for kind in (GARDEN, KERBSIDE))
    chance = np.where(interior, s.garden_trees * cell * cell / 100, 0)
    chance = np.where(kerbside, s.street_trees * 2, chance)
    grove = np.sin(grid[:, 0] / 37 + seed[0]) * np.cos(grid[:, 1] / 29 - seed[0])  # gardens differ in how green they are
    keep = rng.random(len(grid)) < chance * np.clip(1 + 0.8 * grove, 0.1, None)
    x, y = grid[keep].T
    height = rng.uniform(*s.tree_height, keep.sum())
    radius = height * rng.uniform(0.22, 0.36, keep.sum())
    # No crown through a house: the crown ends before the wall, and its own place is free.
    free = raster.solid[row[keep], column[keep]] == 0
    x, y, height, radius = x[free], y[free], height[free], radius[free]
    palette = np.array(FOLIAGE, np.float32)
    # Neighbouring trees are mostly of one kind.
    local = (Hash(seed[0])(60, np.array(seed[2]), np.floor(x / 55), np.floor(y / 55)) * len(palette)).astype(np.int64)
    kind = np.where(rng.random(len(x)) < 0.7, local, rng.integers(len(palette), size=len(x)))
    rgb = palette[kind] * rng.uniform(0.85, 1.15, (len(x), 1))
    top, base, colour = stamp_crowns((pixels, pixels), resolution, x, y, radius, height, np.minimum(height * 0.35, 2.8) + 0.3, rgb)

    def clear_roofs(rows: slice) -> None:
        top[rows] *= raster.solid[rows] <= top[rows] * 0.6

    for_row_blocks(clear_roofs, pixels, pixels)
    return top, base, colour
