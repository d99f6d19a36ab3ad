"""Draw a world from above (aerial tiles) and from the street (panoramas), with the truth of every pixel.

A panorama is a ray march over the height field, all columns of many cameras at once: log-spaced ranges, the running maximum of the
elevation's tangent along each ray, and a binary search of the pixel rows in it. No loop over pixels or columns.

Conventions: aerial tiles have north up; the panorama's left edge is south, its middle north, azimuth grows to the right (clockwise) by
``360 / W`` degrees per column, and the rows are evenly spaced in elevation with the horizon in the middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from geodtr_lib.data.environment import SKY_RGB, Captures, Environment, develop
from geodtr_lib.data.world import (
    CAR,
    CAR_HEIGHT,
    GRASS,
    HEDGE,
    SKY,
    TREE,
    WALL,
    WATER,
    World,
    cast_shadows,
    stamp_cars,
    wall_directions,
)  # fmt: skip

VERTICAL_FOV = 360 * 122 / 671  # degrees, that of the CVUSA panoramas
CAMERA_HEIGHT = 2.5  # metres, a street-view car's mast
NEAREST, FARTHEST = 1.5, 200.0  # metres, the ranges marched
N_RANGES = 88
REFINEMENTS = 3  # bisections of the hit range, each halves its error
NEAR_CROWNS = 52  # ranges below this index see crowns as near ones
_BELOW_ALL = -1.0e4


@dataclass(frozen=True)
class StreetScene:
    """A world as the panorama renderer reads it: flat tensors of H*W pixels."""

    world: World
    top: Tensor  # float32, metres above datum, vehicles included
    terrain: Tensor
    eaves: Tensor
    building: Tensor  # int32
    surface: Tensor  # int32: red | green << 8 | blue << 16 | class << 24
    wall_direction: Tensor  # uint8, 0-255 for 0-360 degrees
    crown_top: Tensor  # float32, metres above datum; far below where there is no crown
    crown_base: Tensor
    crown_rgb: Tensor  # int32, packed as ``surface``
    facades: dict[str, Tensor]


@dataclass(frozen=True)
class Orthophoto:
    """A world as the aerial camera took it: one flight, one light."""

    world: World
    rgb: np.ndarray  # uint8 H x W x 3
    label: np.ndarray  # uint8 H x W


def _pack(rgb: np.ndarray, label: np.ndarray | int) -> Tensor:
    flat = rgb.reshape(-1, 3).astype(np.int32)
    packed = flat[:, 0] | flat[:, 1] << 8 | flat[:, 2] << 16 | np.asarray(label, np.int32).reshape(-1) << 24
    return torch.from_numpy(np.ascontiguousarray(packed))


def _unpack(packed: Tensor) -> Tensor:
    """Colours of packed pixels, float32, ... x 3."""
    return torch.stack((packed & 255, packed >> 8 & 255, packed >> 16 & 255), dim=-1).float()


def street_scene(world: World, rng: np.random.Generator, cars: float = 0.35) -> StreetScene:
    """Prepare a world for panoramas: vehicles drawn on part of their places, rasters flattened."""
    solid, label, rgb = world.solid.copy().reshape(-1), world.label.copy().reshape(-1), world.rgb.copy().reshape(-1, 3)
    covered, colour = stamp_cars(world, cars, rng)
    solid[covered], label[covered], rgb[covered] = CAR_HEIGHT, CAR, colour
    crown = world.canopy_top > 0
    crown_top = np.where(crown, world.terrain + world.canopy_top, _BELOW_ALL).astype(np.float32)
    facades = world.facades
    return StreetScene(
        world=world,
        top=torch.from_numpy(world.terrain.reshape(-1) + solid),
        terrain=torch.from_numpy(world.terrain.reshape(-1)),
        eaves=torch.from_numpy(world.eaves.reshape(-1)),
        building=torch.from_numpy(world.building.reshape(-1)),
        surface=_pack(rgb, label),
        wall_direction=torch.from_numpy(wall_directions(world.building).reshape(-1)),
        crown_top=torch.from_numpy(crown_top.reshape(-1)),
        crown_base=torch.from_numpy((world.terrain + world.canopy_base).reshape(-1)),
        crown_rgb=_pack(world.canopy_rgb, TREE),
        facades={name: torch.from_numpy(np.asarray(getattr(facades, name), np.float32)) for name in facades.__dataclass_fields__},
    )


@torch.inference_mode()
def panoramas(
    scene: StreetScene,
    x: np.ndarray,
    y: np.ndarray,
    env: Environment,
    captures: Captures,
    size: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Panoramas from N places.

    Args:
        x, y: N positions, metres.
        captures: N rows of light and season.
        size: (H, W) in pixels.
        generator: of the sensor noise.

    Returns:
        Colours (uint8, N x 3 x H x W), depth along the ray (float16, metres, inf for sky, N x H x W), class (uint8, N x H x W).
    """
    height, width = size
    world = scene.world
    raster_height, raster_width = world.shape
    n = len(x)
    # Ray directions per column, slopes per row.
    azimuth = torch.deg2rad((torch.arange(width) + 0.5 - width / 2) * (360.0 / width))
    slope = torch.tan(torch.deg2rad((height / 2 - (torch.arange(height) + 0.5)) * (VERTICAL_FOV / height)))
    east, north = torch.sin(azimuth), torch.cos(azimuth)
    ranges = torch.logspace(math.log10(NEAREST), math.log10(FARTHEST), N_RANGES)
    column0 = torch.as_tensor(np.asarray(x) / world.resolution, dtype=torch.float32)
    row0 = torch.as_tensor(raster_height - np.asarray(y) / world.resolution, dtype=torch.float32)

    def flat_index(distance: Tensor, towards_east: Tensor, towards_north: Tensor, row_start: Tensor, column_start: Tensor) -> Tensor:
        pixels = distance / world.resolution
        column = (column_start + pixels * towards_east).clamp_(0, raster_width - 1).int()
        row = (row_start - pixels * towards_north).clamp_(0, raster_height - 1).int()
        return row.mul_(raster_width).add_(column)

    shape_n = (n, 1, 1)
    index = flat_index(ranges, east[:, None], north[:, None], row0.view(shape_n), column0.view(shape_n))  # N x W x R
    here = flat_index(torch.zeros(n), torch.zeros(n), torch.zeros(n), row0, column0)
    eye = scene.terrain[here] + CAMERA_HEIGHT  # N
    slopes = ((scene.top[index] - eye.view(shape_n)) / ranges).cummax(dim=-1).values  # N x W x R
    rows = slope.expand(n, width, height).contiguous()
    hit = torch.searchsorted(slopes, rows)  # N x W x H, first range whose running maximum reaches the row's slope
    sky = hit == N_RANGES
    hit = hit.clamp_(max=N_RANGES - 1)
    far = ranges[hit]
    near = torch.where(hit > 0, ranges[(hit - 1).clamp_(min=0)], torch.full((), 0.5))

    east_h, north_h = east[:, None], north[:, None]
    row_h, column_h, eye_h = row0.view(shape_n), column0.view(shape_n), eye.view(shape_n)
    for _ in range(REFINEMENTS):
        middle = (near + far) * 0.5
        above = scene.top[flat_index(middle, east_h, north_h, row_h, column_h)] - eye_h >= middle * slope
        far = torch.where(above, middle, far)
        near = torch.where(above, near, middle)
    distance = far  # N x W x H, horizontal
    pixel = flat_index(distance, east_h, north_h, row_h, column_h)

    packed = scene.surface[pixel]
    colour = _unpack(packed)  # N x W x H x 3
    label = (packed >> 24).to(torch.uint8)
    building = scene.building[pixel]
    above_ground = eye_h + distance * slope - scene.terrain[pixel]
    # The ray was still outside at ``near``: a wall is what it met if it was below the eaves there.
    wall = (building > 0) & (above_ground - (distance - near) * slope < scene.eaves[pixel] - 0.2)

    # Light: direct sun by the surface's direction, the rest from the whole sky. Standing surfaces see half the sky.
    sun = torch.as_tensor(np.deg2rad(captures.sun_azimuth), dtype=torch.float32).view(shape_n)
    altitude = torch.as_tensor(np.deg2rad(captures.sun_altitude), dtype=torch.float32).view(shape_n)
    direct = torch.as_tensor(captures.direct, dtype=torch.float32).view(shape_n)
    light = ((1 - direct) + direct * 1.3 * torch.sin(altitude)).expand_as(distance).clone()

    # Walls: only at the pixels that show one.
    at = wall.nonzero(as_tuple=True)
    if len(at[0]):
        which, column, _ = at
        direction = scene.wall_direction[pixel[at]].float() * (math.pi / 128)
        towards_sun = torch.cos(direction - sun[which, 0, 0]).clamp_(min=0) * torch.cos(altitude[which, 0, 0])
        light[at] = 0.85 * (1 - direct[which, 0, 0]) + direct[which, 0, 0] * (0.25 + 1.1 * towards_sun)
        reach = distance[at]
        # Metres along the wall: the position's part across the wall's direction.
        along = (column0[which] * world.resolution + reach * east[column]) * torch.cos(direction) - (
            -row0[which] * world.resolution + reach * north[column]
        ) * torch.sin(direction)
        colour[at] = _facade(scene, building[at].long(), along, above_ground[at], reach * (2 * math.pi / width))
        label[at] = WALL

    # Crowns: the nearest one whose span holds the row; near and far ranges apart, since rays pass under the near ones.
    crown_rows = rows
    for start, stop in ((0, NEAR_CROWNS), (NEAR_CROWNS, N_RANGES)):
        part = index[..., start:stop]
        tops = scene.crown_top[part].sub_(eye.view(shape_n)).div_(ranges[start:stop]).cummax(dim=-1).values
        crown = torch.searchsorted(tops, crown_rows)
        found = crown < stop - start
        crown = crown.clamp_(max=stop - start - 1)
        reach = ranges[start:stop][crown]
        found &= (reach < distance) | sky
        at = found.nonzero(as_tuple=True)
        if len(at[0]) == 0:
            continue
        crown_pixel = part.gather(-1, crown)[at]
        reach_at, row_slope = reach[at], slope[at[2]]
        inside = scene.crown_base[crown_pixel] - eye[at[0]] <= reach_at * row_slope
        at, crown_pixel, reach_at = tuple(index_[inside] for index_ in at), crown_pixel[inside], reach_at[inside]
        colour[at] = _unpack(scene.crown_rgb[crown_pixel])
        label[at] = TREE
        light[at] = ((1 - direct) + direct * 1.1)[at[0], 0, 0] * 0.9
        distance[at] = reach_at
        sky[at] = False

    tint = torch.as_tensor(captures.tint, dtype=torch.float32).view(n, 1, 1, 3)
    green = (label == GRASS) | (label == HEDGE) | (label == TREE)
    colour = torch.where(green.unsqueeze(-1), colour * tint, colour)
    if env.snow:
        lying = ~wall & (label != CAR) & (label != TREE) & (label != WATER)
        colour = torch.where(lying.unsqueeze(-1), colour + (235 - colour) * env.snow, colour)
    colour = colour * light.unsqueeze(-1)

    # Air: contrast falls with distance towards the horizon's colour.
    zenith, horizon = (torch.tensor(rgb) for rgb in SKY_RGB[env.sky])
    haze = torch.as_tensor(captures.haze, dtype=torch.float32).view(shape_n)
    clear = torch.exp(-distance / haze).unsqueeze(-1)
    colour = colour * clear + horizon * (1 - clear)
    sky_colour = _sky(zenith, horizon, azimuth, height, generator, n, clouds=env.sky == "day")
    colour = torch.where(sky.unsqueeze(-1), sky_colour, colour)
    label[sky] = SKY
    depth = (distance * torch.sqrt(1 + slope**2)).masked_fill(sky, math.inf)

    colour = torch.from_numpy(develop(colour.numpy(), captures))
    if env.noise:
        colour += torch.randn(n, width, height, 1, generator=generator) * env.noise
    image = colour.clamp_(0, 255).to(torch.uint8).permute(0, 3, 2, 1).contiguous()  # N x W x H x 3 -> N x 3 x H x W
    return image, depth.transpose(1, 2).half().contiguous(), label.transpose(1, 2).contiguous()


def _facade(scene: StreetScene, building: Tensor, along: Tensor, above_ground: Tensor, footprint: Tensor) -> Tensor:
    """Colours of wall points (P x 3): plaster, windows in bays and floors, shop fronts.

    Args:
        building: P building numbers.
        along: metres along the wall.
        above_ground: metres.
        footprint: width of a pixel on the wall, metres; the pattern fades into its mean where a pixel spans a bay.
    """
    look = {name: table[building] for name, table in scene.facades.items()}
    floor_height, bay_width = look["floor_height"], look["bay_width"]
    part_w, part_h = look["window_width"], look["window_height"]
    bay = along / bay_width
    storey = above_ground / floor_height
    ground_floor = (storey < 1) & (look["shop"] > 0)
    part_w = torch.where(ground_floor, torch.full_like(part_w, 0.85), part_w)
    part_h = torch.where(ground_floor, torch.full_like(part_h, 0.75), part_h)
    in_bay = ((bay - bay.floor()) - 0.5).abs() < part_w / 2
    in_floor = ((storey - storey.floor()) - 0.55).abs() < part_h / 2
    window = (in_bay & in_floor).float()
    fade = (footprint / bay_width * 1.6).clamp(0, 1)
    window = window * (1 - fade) + part_w * part_h * fade
    # Panes differ: some lit, some curtained.
    pane = torch.frac((bay.floor() * 12.9898 + storey.floor() * 78.233).sin().abs() * 43758.5453)
    glass = look["window_rgb"] * (0.75 + 0.5 * pane * (1 - fade)).unsqueeze(-1)
    return look["wall_rgb"] * (1 - window).unsqueeze(-1) + glass * window.unsqueeze(-1)


def _sky(zenith: Tensor, horizon: Tensor, azimuth: Tensor, height: int, generator: torch.Generator, n: int, clouds: bool) -> Tensor:
    """Sky colours, N x W x H x 3: a gradient, and by day some smooth clouds that differ per image."""
    up = (1 - 2 * (torch.arange(height) + 0.5) / height).clamp(0, 1)  # 1 at the top row, 0 from the horizon down
    base = horizon + (zenith - horizon) * up[:, None] ** 0.7  # H x 3
    if not clouds:
        return base.expand(n, len(azimuth), height, 3)
    draw = torch.rand(4, 3, n, 1, 1, generator=generator)
    field = torch.zeros(n, len(azimuth), height)
    for wave in range(4):
        phase, amount, tilt = draw[wave]
        field += amount * torch.cos((wave + 1) * azimuth[None, :, None] + 2 * math.pi * phase + (6 * tilt + 2 * wave) * up)
    cover = torch.rand(n, 1, 1, generator=generator)
    density = (0.5 + 0.5 * field + cover - 0.5).clamp(0, 1).unsqueeze(-1) * 0.7
    return base * (1 - density) + 228.0 * density


def orthophoto(world: World, env: Environment, flight: Captures, rng: np.random.Generator, cars: float = 0.35) -> Orthophoto:
    """Photograph a world from above: light on slopes, cast shadows, crowns, vehicles of another moment than the panoramas'.

    Args:
        flight: one row of light and season, of ``env``.
        rng: of the vehicles.
    """
    azimuth, altitude, direct = float(flight.sun_azimuth[0]), float(flight.sun_altitude[0]), float(flight.direct[0])
    direct = max(direct, 0.35) if env.sky == "day" else direct  # survey flights choose clear days
    rgb = world.rgb.reshape(-1, 3).copy()
    label = world.label.reshape(-1).copy()
    covered, colour = stamp_cars(world, cars, rng)
    rgb[covered], label[covered] = colour, CAR
    crown = (world.canopy_top > world.solid).reshape(-1) & (world.canopy_top.reshape(-1) > 0)
    rgb[crown], label[crown] = world.canopy_rgb.reshape(-1, 3)[crown], TREE
    green = np.isin(label, (GRASS, HEDGE, TREE))
    rgb[green] = np.clip(rgb[green] * flight.tint[0], 0, 255)
    if env.snow:
        lying = ~np.isin(label, (CAR, TREE, WATER))
        rgb[lying] = rgb[lying] + (235 - rgb[lying].astype(np.float32)) * env.snow

    top = world.terrain + np.maximum(world.solid, world.canopy_top)
    shadow = cast_shadows(top, world.resolution, azimuth, altitude)
    # Roof slopes only: at walls the height field jumps, and a jump is no slope.
    south, east = np.gradient(world.terrain + world.solid, world.resolution)
    steep = (np.abs(south) > 1.8) | (np.abs(east) > 1.8)
    south, east = np.where(steep, 0, south), np.where(steep, 0, east)
    sun_e, sun_n, sun_u = (
        math.sin(math.radians(azimuth)) * math.cos(math.radians(altitude)),
        math.cos(math.radians(azimuth)) * math.cos(math.radians(altitude)),
        math.sin(math.radians(altitude)),
    )
    facing = (-east * sun_e + south * sun_n + sun_u) / np.sqrt(1 + south**2 + east**2)
    light = (1 - direct) + direct * 1.5 * np.clip(facing, 0, 1) * ~shadow
    photo = np.empty((*world.shape, 3), np.uint8)
    for rows in np.array_split(np.arange(world.shape[0]), max(1, world.shape[0] // 256)):  # in parts: a large town has 10^8 values
        lit = rgb.reshape(*world.shape, 3)[rows] * light[rows, :, None]
        photo[rows] = np.clip(develop(lit[None], flight)[0], 0, 255)
    return Orthophoto(world, photo, label.reshape(world.shape))


class TileSampler:
    """Cuts tiles of ``side`` x ``side`` pixels, north up, out of an orthophoto.

    Args:
        tile_metres: side of a tile on the ground.
    """

    def __init__(self, photo: Orthophoto, env: Environment, tile_metres: float, side: int) -> None:
        resolution = photo.world.resolution
        box = max(1, round(tile_metres / side / resolution))  # averages what falls on one pixel
        smooth = ndimage.uniform_filter(photo.rgb, (box, box, 1), mode="nearest") if box > 1 else photo.rgb
        self._packed = _pack(smooth, photo.label)
        self._shape, self._resolution, self._noise = photo.world.shape, resolution, env.noise
        self._offset = ((torch.arange(side) + 0.5) / side - 0.5) * (tile_metres / resolution)

    @torch.inference_mode()
    def __call__(self, x: np.ndarray, y: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tiles centred on N places (metres): colours (uint8, N x 3 x S x S) and class (uint8, N x S x S)."""
        height, width = self._shape
        column = torch.as_tensor(np.asarray(x) / self._resolution, dtype=torch.float32)[:, None] + self._offset
        row = torch.as_tensor(height - np.asarray(y) / self._resolution, dtype=torch.float32)[:, None] + self._offset
        column, row = column.clamp_(0, width - 1).int(), row.clamp_(0, height - 1).int()
        tile = self._packed[row[:, :, None] * width + column[:, None, :]]  # N x S x S
        colour = _unpack(tile) * (1 + 0.05 * torch.randn(len(tile), 1, 1, 1, generator=generator))
        if self._noise:
            colour += torch.randn(*tile.shape, 1, generator=generator) * self._noise
        return colour.clamp_(0, 255).to(torch.uint8).permute(0, 3, 1, 2).contiguous(), (tile >> 24).to(torch.uint8)


__all__ = ["Orthophoto", "StreetScene", "TileSampler", "orthophoto", "panoramas", "street_scene"]
