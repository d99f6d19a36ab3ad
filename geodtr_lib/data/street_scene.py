"""What panoramas are drawn from: a world laid out for rays, the cameras of a call, and what is known of their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from geodtr_lib.data.environment import Captures
from geodtr_lib.data.parallel import for_row_blocks
from geodtr_lib.data.pixel_lists import rounded_once, split, take
from geodtr_lib.data.world import CAR, CAR_HEIGHT, SKY, Facades, World, pack, stamp_cars, wall_directions

VERTICAL_FOV = 360 * 122 / 671  # degrees, that of the CVUSA panoramas
CAMERA_HEIGHT = 2.5  # metres, a street-view car's mast
NEAREST, FARTHEST = 1.5, 200.0  # metres, the ranges marched
N_RANGES = 88
BUILT = 128  # added to the class of a building's pixels
_BELOW_ALL = -1.0e4


@dataclass(frozen=True)
class StreetScene:
    """A world as the panorama renderer reads it: flat arrays of H*W pixels; what is read together lies together."""

    world: World
    tops: np.ndarray  # float32 H*W x 2, metres above datum: what is solid, vehicles included; crowns, far below where there is none
    surface: np.ndarray  # int32: red | green << 8 | blue << 16 | (class + 128 where a building stands) << 24
    wall_direction: np.ndarray  # uint8, 0-255 for 0-360 degrees
    facades: dict[str, np.ndarray]


def street_scene(world: World, rng: np.random.Generator, cars: float = 0.35) -> StreetScene:
    """Prepare a world for panoramas: vehicles drawn on part of their places, rasters flattened."""
    covered, colour = stamp_cars(world, cars, rng)
    height, width = world.shape
    tops, surface = np.empty((height, width, 2), np.float32), np.empty((height, width), np.int32)

    def prepare(rows: slice) -> None:
        terrain, canopy = world.terrain[rows], world.canopy_top[rows]
        np.add(terrain, world.solid[rows], out=tops[rows, :, 0])
        crown = canopy + terrain
        crown[canopy <= 0] = _BELOW_ALL
        tops[rows, :, 1] = crown
        label = (world.building[rows] > 0).view(np.uint8) * np.uint8(BUILT)
        surface[rows] = pack(world.rgb[rows], label | world.label[rows]).reshape(label.shape)

    for_row_blocks(prepare, height, width)
    tops.reshape(-1, 2)[covered, 0] = world.terrain.reshape(-1)[covered] + np.float32(CAR_HEIGHT)
    built = (world.building.reshape(-1)[covered] > 0).view(np.uint8) * np.uint8(BUILT)
    surface.reshape(-1)[covered] = pack(colour, built | CAR)
    looks = {name: np.asarray(getattr(world.facades, name), np.float32) for name in Facades.__dataclass_fields__}
    return StreetScene(world, tops.reshape(-1, 2), surface.reshape(-1), wall_directions(world.building).reshape(-1), looks)


class Camera:
    """What all panoramas of a size have in common: directions of the columns, slopes of the rows, ranges, and the raster they look at."""

    def __init__(self, scene: StreetScene, size: tuple[int, int]) -> None:
        self.height, self.width = size
        self.scene, self.resolution = scene, scene.world.resolution
        self.rows, self.columns = scene.world.shape
        azimuth = torch.deg2rad((torch.arange(self.width) + 0.5 - self.width / 2) * (360.0 / self.width))
        slope = torch.tan(torch.deg2rad((self.height / 2 - (torch.arange(self.height) + 0.5)) * (VERTICAL_FOV / self.height)))
        ranges = torch.logspace(math.log10(NEAREST), math.log10(FARTHEST), N_RANGES)
        self.azimuth = azimuth.numpy()
        self.east, self.north = torch.sin(azimuth).numpy(), torch.cos(azimuth).numpy()
        self.slope, self.ranges = slope.numpy(), ranges.numpy()
        self.along_ray = torch.sqrt(1 + slope**2).numpy()  # distance along the ray per horizontal distance
        pixels = (self.ranges / np.float32(self.resolution))[:, None]  # R x 1
        self.step_east, self.step_north = (pixels * part for part in (self.east, self.north))  # R x W
        self.before = np.concatenate([[np.float32(0.5)], self.ranges[:-1]])  # the range before each
        self.direction = np.arange(256, dtype=np.float32) * np.float32(math.pi / 128)
        self.cosine, self.sine = rounded_once(np.cos, self.direction), rounded_once(np.sin, self.direction)

    def index(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Flat pixel numbers of positions in pixels, clipped to the raster; overwrites them."""
        np.clip(column, 0, self.columns - 1, out=column)
        np.clip(row, 0, self.rows - 1, out=row)
        flat = row.astype(np.int32)
        flat *= self.columns
        flat += column.astype(np.int32)
        return flat


class Part:
    """Some cameras of one call, and what is known of each: arrays of n. Rays are numbered camera by camera, pixels ray by ray."""

    def __init__(self, camera: Camera, x: np.ndarray, y: np.ndarray, captures: Captures, part: slice) -> None:
        world = camera.scene.world
        self.camera, self.n = camera, len(x[part])
        self.column = (np.asarray(x[part]) / world.resolution).astype(np.float32)
        self.row = (camera.rows - np.asarray(y[part]) / world.resolution).astype(np.float32)
        here = camera.index(self.row.copy(), self.column.copy())
        self.eye = take(world.terrain.reshape(-1), here) + np.float32(CAMERA_HEIGHT)  # metres above datum
        self.sun = np.deg2rad(captures.sun_azimuth[part]).astype(np.float32)
        self.altitude = np.deg2rad(captures.sun_altitude[part]).astype(np.float32)
        self.direct = captures.direct[part].astype(np.float32)
        self.tint, self.haze = captures.tint[part].astype(np.float32), captures.haze[part].astype(np.float32)
        pixels = self.n * camera.width * camera.height
        self.distance = np.full(pixels, np.inf, np.float32)  # horizontal, metres
        self.label = np.full(pixels, SKY, np.uint8)
        self.colour = np.zeros((3, pixels), np.float32)
        self.light = np.ones(pixels, np.float32)
        self.wall = np.zeros(pixels, bool)

    def split(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Camera, ray and row of pixels."""
        ray, row = split(at, self.camera.height)
        return ray // self.camera.width, ray, row
