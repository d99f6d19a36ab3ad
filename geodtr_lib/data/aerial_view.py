"""Draw a world from above: the orthophoto of one flight, and tiles cut out of it, with the class of every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.data.environment import Captures, Environment, develop
from geodtr_lib.data.parallel import for_row_blocks
from geodtr_lib.data.world import CAR, GRASS, HEDGE, TREE, WATER, World, cast_shadows, pack, stamp_cars

_STEEP = 1.8  # metres per metre; a height field that rises faster is a wall

TileChance = tuple[Tensor, Tensor | None]  # what is random in N tiles: brightness, the sensor's noise


@dataclass(frozen=True)
class Orthophoto:
    """A world as the aerial camera took it: one flight, one light."""

    world: World
    rgb: np.ndarray  # uint8 H x W x 3
    label: np.ndarray  # uint8 H x W


def orthophoto(world: World, env: Environment, flight: Captures, rng: np.random.Generator, cars: float = 0.35) -> Orthophoto:
    """Photograph a world from above: light on slopes, cast shadows, crowns, vehicles of another moment than the panoramas'.

    Args:
        flight: one row of light and season, of ``env``.
        rng: of the vehicles.
    """
    azimuth, altitude, direct = float(flight.sun_azimuth[0]), float(flight.sun_altitude[0]), float(flight.direct[0])
    direct = max(direct, 0.35) if env.sky == "day" else direct  # survey flights choose clear days
    height, width = world.shape
    photo, label = world.rgb.copy(), world.label.copy()
    covered, colour = stamp_cars(world, cars, rng)
    photo.reshape(-1, 3)[covered], label.reshape(-1)[covered] = colour, CAR
    sun_e, sun_n, sun_u = (
        math.sin(math.radians(azimuth)) * math.cos(math.radians(altitude)),
        math.cos(math.radians(azimuth)) * math.cos(math.radians(altitude)),
        math.sin(math.radians(altitude)),
    )
    top = np.maximum(world.solid, world.canopy_top)
    top += world.terrain
    shadow = cast_shadows(top, world.resolution, azimuth, altitude)
    del top
    tint = flight.tint[0].astype(np.float32)

    def photograph(rows: slice) -> None:
        planes = np.ascontiguousarray(photo[rows].transpose(2, 0, 1))
        here = label[rows]
        crown = np.flatnonzero((world.canopy_top[rows] > world.solid[rows]) & (world.canopy_top[rows] > 0))
        planes.reshape(3, -1)[:, crown], here.reshape(-1)[crown] = world.canopy_rgb[rows].reshape(-1, 3)[crown].T, TREE
        green = np.flatnonzero((here == GRASS) | (here == HEDGE) | (here == TREE))
        for plane, factor in zip(planes.reshape(3, -1), tint, strict=True):
            plane[green] = np.minimum(plane[green] * factor, 255)
        if env.snow:
            lying = (here != CAR) & (here != TREE) & (here != WATER)
            planes[:, lying] = planes[:, lying] + (235 - planes[:, lying].astype(np.float32)) * np.float32(env.snow)
        light = (1 - direct) + direct * 1.5 * np.clip(_facing(world, rows, sun_e, sun_n, sun_u), 0, 1) * ~shadow[rows]
        lit = planes[:, None] * light
        develop(lit, flight)
        np.clip(lit, 0, 255, out=lit)
        photo[rows] = lit[:, 0].astype(np.uint8).transpose(1, 2, 0)

    for_row_blocks(photograph, height, width)
    return Orthophoto(world, photo, label)


def _facing(world: World, rows: slice, sun_e: float, sun_n: float, sun_u: float) -> np.ndarray:
    """Cosine between the sun and the surface's normal. Slopes of roofs and ground only: at walls the height jumps, a jump is no slope."""
    first, last = max(rows.start - 1, 0), min(rows.stop + 1, world.shape[0])
    ground = world.terrain[first:last] + world.solid[first:last]
    south, east = (slope[rows.start - first : rows.stop - first] for slope in np.gradient(ground, world.resolution))
    flat = (np.abs(south) <= _STEEP) & (np.abs(east) <= _STEEP)
    south, east = south * flat, east * flat
    facing: np.ndarray = (-east * sun_e + south * sun_n + sun_u) / np.sqrt(1 + south**2 + east**2)
    return facing


def _averaged(photo: Orthophoto, box: int) -> np.ndarray:
    """The photograph's pixels, packed; colours are the means of box x box pixels around (an even box reaches further north and west)."""
    height, width = photo.label.shape
    before, after = box // 2, (box - 1) // 2
    packed = np.empty(height * width, np.int32)

    def of_rows(rows: slice) -> None:
        near = np.clip(np.arange(rows.start - before, rows.stop + after), 0, height - 1)  # rows beyond the edge repeat it
        rgb = photo.rgb[near[0] : near[-1] + 1][near - near[0]]
        if box > 1:
            rgb = np.pad(_mean_of(rgb, box), ((0, 0), (before, after), (0, 0)), mode="edge")
            rgb = _mean_of(rgb.swapaxes(0, 1), box).swapaxes(0, 1)
        packed[rows.start * width : rows.stop * width] = pack(np.ascontiguousarray(rgb), photo.label[rows])

    for_row_blocks(of_rows, height, width)
    return packed


def _mean_of(rows: np.ndarray, box: int) -> np.ndarray:
    """Means of ``box`` consecutive entries along the first axis, rounded down; uint8."""
    n = len(rows) - box + 1
    total = rows[:n].astype(np.uint16)
    for shift in range(1, box):
        total += rows[shift : shift + n]
    total //= np.uint16(box)
    return total.astype(np.uint8)


class TileSampler:
    """Cuts tiles of ``side`` x ``side`` pixels, north up, out of an orthophoto.

    Args:
        tile_metres: side of a tile on the ground.
    """

    def __init__(self, photo: Orthophoto, env: Environment, tile_metres: float, side: int) -> None:
        resolution = photo.world.resolution
        box = max(1, round(tile_metres / side / resolution))  # averages what falls on one pixel
        self._packed = _averaged(photo, box)
        self._shape, self._resolution, self._noise = photo.world.shape, resolution, env.noise
        self._offset = (((torch.arange(side) + 0.5) / side - 0.5) * (tile_metres / resolution)).numpy()

    def draw_chance(self, n: int, generator: torch.Generator) -> TileChance:
        """Draw what is random in n tiles: brightness (n), and the sensor's noise (n x S x S) where there is any."""
        side = len(self._offset)
        brightness = torch.randn(n, 1, 1, 1, generator=generator).view(n)
        return brightness, torch.randn(n, side, side, generator=generator) if self._noise else None

    def __call__(self, x: np.ndarray, y: np.ndarray, chance: torch.Generator | TileChance) -> tuple[Tensor, Tensor]:
        """Tiles centred on N places (metres): colours (uint8, N x 3 x S x S) and class (uint8, N x S x S).

        ``chance`` is what :meth:`draw_chance` drew, or the generator from which to draw it.
        """
        height, width = self._shape
        n, side = len(x), len(self._offset)
        brightness, noise = self.draw_chance(n, chance) if isinstance(chance, torch.Generator) else chance
        column = (np.asarray(x) / self._resolution).astype(np.float32)[:, None] + self._offset
        row = (height - np.asarray(y) / self._resolution).astype(np.float32)[:, None] + self._offset
        column, row = np.clip(column, 0, width - 1).astype(np.int64), np.clip(row, 0, height - 1).astype(np.int64)
        image, label = np.empty((n, 3, side, side), np.uint8), np.empty((n, side, side), np.uint8)
        factor = (1 + 0.05 * brightness).numpy()
        for i in range(n):
            tile = np.take(self._packed, row[i, :, None] * width + column[i], mode="clip")  # S x S
            for channel in range(3):
                plane = (tile >> 8 * channel & 255).astype(np.float32) * factor[i]
                if noise is not None:
                    plane += noise[i].numpy() * np.float32(self._noise)
                image[i, channel] = np.clip(plane, 0, 255)
            label[i] = tile >> 24
        return torch.from_numpy(image), torch.from_numpy(label)
