"""Draw a world from the street: panoramas with the depth and class of every pixel.

A panorama is a ray march over the height field, all columns of several cameras at once: log-spaced ranges, the running maximum of the
elevation's tangent along each ray, and a binary search of the pixel rows in it. No loop over pixels or columns.

Cameras are drawn in parts small enough that what is known of their pixels stays in the processor's cache; colours are kept as one plane
per channel, and masks are turned into lists of pixels before anything is computed for them. What is random is drawn before, so the
pictures do not depend on the parts nor on who draws them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.data.environment import SKY_RGB, Captures, Environment, develop
from geodtr_lib.data.parallel import for_row_blocks
from geodtr_lib.data.pixel_lists import rounded_once, select, split, take
from geodtr_lib.data.world import (
    CAR,
    CAR_HEIGHT,
    GRASS,
    HEDGE,
    SKY,
    TREE,
    WALL,
    WATER,
    Facades,
    World,
    pack,
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
_BUILT = 128  # added to the class of a building's pixels
_PART_PIXELS = 65_536  # of the cameras that are drawn at once


@dataclass(frozen=True)
class StreetScene:
    """A world as the panorama renderer reads it: flat arrays of H*W pixels; what is read together lies together."""

    world: World
    tops: np.ndarray  # float32 H*W x 2, metres above datum: what is solid, vehicles included; crowns, far below where there is none
    surface: np.ndarray  # int32: red | green << 8 | blue << 16 | (class + 128 where a building stands) << 24
    wall_direction: np.ndarray  # uint8, 0-255 for 0-360 degrees
    facades: dict[str, np.ndarray]


@dataclass(frozen=True)
class Chance:
    """What is random in N panoramas beside their captures.

    Attributes:
        waves: 4 x 3 x N: phase, amount and tilt of each wave of the clouds, 0-1; None where the sky has none.
        cover: N, of the clouds, 0-1.
        noise: N x W x H, the sensor's, of unit variance; None where there is none.
    """

    waves: Tensor | None
    cover: Tensor | None
    noise: Tensor | None


def draw_chance(n: int, env: Environment, size: tuple[int, int], generator: torch.Generator) -> Chance:
    """Draw what is random in n panoramas of ``size`` (H, W)."""
    waves = cover = noise = None
    if env.sky == "day":
        waves = torch.rand(4, 3, n, 1, 1, generator=generator).view(4, 3, n)
        cover = torch.rand(n, 1, 1, generator=generator).view(n)
    if env.noise:
        noise = torch.randn(n, size[1], size[0], generator=generator)
    return Chance(waves, cover, noise)


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
        label = (world.building[rows] > 0).view(np.uint8) * np.uint8(_BUILT)
        surface[rows] = pack(world.rgb[rows], label | world.label[rows]).reshape(label.shape)

    for_row_blocks(prepare, height, width)
    tops.reshape(-1, 2)[covered, 0] = world.terrain.reshape(-1)[covered] + np.float32(CAR_HEIGHT)
    built = (world.building.reshape(-1)[covered] > 0).view(np.uint8) * np.uint8(_BUILT)
    surface.reshape(-1)[covered] = pack(colour, built | CAR)
    looks = {name: np.asarray(getattr(world.facades, name), np.float32) for name in Facades.__dataclass_fields__}
    return StreetScene(world, tops.reshape(-1, 2), surface.reshape(-1), wall_directions(world.building).reshape(-1), looks)


def panoramas(
    scene: StreetScene,
    x: np.ndarray,
    y: np.ndarray,
    env: Environment,
    captures: Captures,
    size: tuple[int, int],
    chance: torch.Generator | Chance,
) -> tuple[Tensor, Tensor, Tensor]:
    """Panoramas from N places.

    Args:
        x, y: N positions, metres.
        captures: N rows of light and season.
        size: (H, W) in pixels.
        chance: what :func:`draw_chance` drew, or the generator from which to draw it.

    Returns:
        Colours (uint8, N x 3 x H x W), depth along the ray (float16, metres, inf for sky, N x H x W), class (uint8, N x H x W).
    """
    height, width = size
    n = len(x)
    if isinstance(chance, torch.Generator):
        chance = draw_chance(n, env, size, chance)
    image = np.empty((n, 3, height, width), np.uint8)
    depth = np.empty((n, height, width), np.float16)
    label = np.empty((n, height, width), np.uint8)
    camera = _Camera(scene, size)
    cameras = max(1, _PART_PIXELS // (height * width))
    for start in range(0, n, cameras):
        some = slice(start, min(start + cameras, n))
        part = _Part(camera, x, y, captures, some)
        waves, cover, noise = (None if drawn is None else drawn.numpy() for drawn in (chance.waves, chance.cover, chance.noise))
        _draw(part)
        _finish(part, env, None if waves is None else waves[..., some], None if cover is None else cover[some])
        planes = part.colour.reshape(3, part.n, width, height)
        develop(planes, captures, some)
        if noise is not None:
            planes += noise[some] * np.float32(env.noise)
        np.clip(planes, 0, 255, out=planes)
        image[some] = planes.astype(np.uint8).transpose(1, 0, 3, 2)
        label[some] = part.label.reshape(part.n, width, height).transpose(0, 2, 1)
        along_ray = torch.from_numpy(part.distance.reshape(part.n, width, height) * camera.along_ray)
        torch.from_numpy(depth[some]).copy_(along_ray.half().transpose(1, 2))
    return torch.from_numpy(image), torch.from_numpy(depth), torch.from_numpy(label)


class _Camera:
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


class _Part:
    """Some cameras of one call, and what is known of each: arrays of n. Rays are numbered camera by camera, pixels ray by ray."""

    def __init__(self, camera: _Camera, x: np.ndarray, y: np.ndarray, captures: Captures, part: slice) -> None:
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


def _draw(part: _Part) -> None:
    """Trace rays and shade what they meet."""
    camera, scene = part.camera, part.camera.scene
    # The march, with the ranges first: R x n x W.
    index = camera.index(part.row[:, None] - camera.step_north[:, None], part.column[:, None] + camera.step_east[:, None])
    both = take(scene.tops.view(np.int64).reshape(-1), index).view(np.float32).reshape(*index.shape, 2)
    solid, crown = ((both[..., kind] - part.eye[:, None]) / camera.ranges[:, None, None] for kind in (0, 1))
    rows = torch.from_numpy(camera.slope).expand(part.n * camera.width, camera.height).contiguous()
    hit = _first_reaching(solid.reshape(N_RANGES, -1), rows).reshape(-1)  # one per pixel
    at = np.flatnonzero(hit < N_RANGES)
    near, pixel = _refine(part, at, take(hit, at))
    # Only what no crown hides is shaded.
    covered, place, lit = _crowns(part, index.reshape(N_RANGES, -1), crown.reshape(N_RANGES, -1), rows)
    hidden = np.zeros(len(hit), bool)
    hidden[covered] = True
    open_ = np.flatnonzero(~take(hidden, at))
    _shade_surfaces(part, take(at, open_), take(near, open_), take(pixel, open_))
    part.label[covered], part.light[covered] = TREE, lit
    for channel, plane in enumerate(part.colour):
        plane[covered] = take(scene.world.canopy_rgb.reshape(-1), place * 3 + channel)


def _refine(part: _Part, at: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bisect the range of the pixels ``at`` between the one that hit and the one before; sets their distance.

    Returns a distance just before the hit (metres), and the raster's pixel that was hit.
    """
    camera, top = part.camera, part.camera.scene.tops.reshape(-1)
    far, near = take(camera.ranges, hit), take(camera.before, hit)
    which, ray, row = part.split(at)
    column = ray - which * camera.width
    row0, column0, eye, slope = take(part.row, which), take(part.column, which), take(part.eye, which), take(camera.slope, row)
    east, north = take(camera.east, column), take(camera.north, column)

    def look_up(distance: np.ndarray) -> np.ndarray:
        pixels = distance / np.float32(camera.resolution)
        return camera.index(row0 - pixels * north, column0 + pixels * east)

    for _ in range(REFINEMENTS):
        middle = near + far
        middle *= np.float32(0.5)
        above = take(top, look_up(middle) * 2) - eye >= middle * slope
        far, near = select(above, middle, far), select(above, near, middle)
    part.distance[at] = far
    return near, look_up(far)


def _crowns(part: _Part, index: np.ndarray, crown: np.ndarray, rows: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that show a crown, the raster's pixels that they show, and their light; sets their distance.

    A pixel shows the nearest crown whose span holds it; near and far ranges apart, since rays pass under the near ones.

    Args:
        index: R x n*W, the raster's pixels along the rays.
        crown: R x n*W, slopes of the crowns' tops along the rays; overwritten.
        rows: n*W x H slopes.
    """
    camera, world = part.camera, part.camera.scene.world
    terrain, base = world.terrain.reshape(-1), world.canopy_base.reshape(-1)
    place_of = np.full(len(part.label), -1, np.int32)
    for start, stop in ((0, NEAR_CROWNS), (NEAR_CROWNS, N_RANGES)):
        tops = crown[start:stop]
        rays = np.flatnonzero(tops.max(0) >= camera.slope.min())
        if len(rays) == 0:
            continue
        first = _first_reaching(np.take(tops, rays, axis=1), rows[: len(rays)]).reshape(-1)
        found = np.flatnonzero(first < stop - start)
        ray, row = split(found, camera.height)
        ray, first = take(rays, ray), take(first, found) + start
        at, reach = ray * camera.height + row, take(camera.ranges, first)
        seen = np.flatnonzero(reach < take(part.distance, at))
        at, ray, row, first, reach = (take(of_all, seen) for of_all in (at, ray, row, first, reach))
        place = take(index.reshape(-1), first * index.shape[1] + ray)
        bottom = take(terrain, place) + take(base, place) - take(part.eye, ray // camera.width)
        inside = np.flatnonzero(bottom <= reach * take(camera.slope, row))
        at = take(at, inside)
        place_of[at], part.distance[at] = take(place, inside), take(reach, inside)
    at = np.flatnonzero(place_of >= 0)
    light = ((1 - part.direct) + part.direct * np.float32(1.1)) * np.float32(0.9)
    return at, take(place_of, at), take(light, part.split(at)[0])


def _shade_surfaces(part: _Part, at: np.ndarray, near: np.ndarray, pixel: np.ndarray) -> None:
    """Colour, class and light of the pixels ``at``, of which each shows the raster's ``pixel``.

    Light is direct sun by the surface's direction, the rest from the whole sky. Standing surfaces see half the sky.
    """
    camera, scene, world, direct = part.camera, part.camera.scene, part.camera.scene.world, part.direct
    packed = take(scene.surface, pixel)
    for channel, plane in enumerate(part.colour):
        plane[at] = (packed >> 8 * channel & 255).astype(np.float32)
    label = (packed >> 24).astype(np.uint8)
    part.label[at] = label & (_BUILT - 1)
    sunlit = (1 - direct) + direct * np.float32(1.3) * rounded_once(np.sin, part.altitude)
    part.light[at] = take(sunlit, at // (camera.width * camera.height))

    built = np.flatnonzero(label >= _BUILT)
    at, near, pixel = take(at, built), take(near, built), take(pixel, built)
    which, ray, row = part.split(at)
    reach, slope = take(part.distance, at), take(camera.slope, row)
    above_ground = take(part.eye, which) + reach * slope - take(world.terrain.reshape(-1), pixel)
    # The ray was still outside at ``near``: a wall is what it met if it was below the eaves there.
    wall = np.flatnonzero(above_ground - (reach - near) * slope < take(world.eaves.reshape(-1), pixel) - np.float32(0.2))
    if len(wall) == 0:
        return
    at, pixel, which, ray, reach, above_ground = (take(of_all, wall) for of_all in (at, pixel, which, ray, reach, above_ground))
    facing = take(scene.wall_direction, pixel).astype(np.int64)
    towards_sun = (
        np.maximum(rounded_once(np.cos, camera.direction - part.sun[:, None]), 0) * rounded_once(np.cos, part.altitude)[:, None]
    )  # n x 256
    lit = (np.float32(0.85) * (1 - direct))[:, None] + direct[:, None] * (np.float32(0.25) + np.float32(1.1) * towards_sun)
    part.light[at] = take(lit.reshape(-1), which * 256 + facing)
    # Metres along the wall: the position's part across the wall's direction.
    metre, column = np.float32(world.resolution), ray - which * camera.width
    along = (take(part.column * metre, which) + reach * take(camera.east, column)) * take(camera.cosine, facing) - (
        take(-part.row * metre, which) + reach * take(camera.north, column)
    ) * take(camera.sine, facing)
    number, footprint = take(world.building.reshape(-1), pixel), reach * np.float32(2 * math.pi / camera.width)
    for plane, values in zip(part.colour, _facade(scene.facades, number, along, above_ground, footprint), strict=True):
        plane[at] = values
    part.label[at], part.wall[at] = WALL, True


def _finish(part: _Part, env: Environment, waves: np.ndarray | None, cover: np.ndarray | None) -> None:
    """Season, snow, light, air and sky."""
    camera, colour, label = part.camera, part.colour, part.label
    at = np.flatnonzero((label == GRASS) | (label == HEDGE) | (label == TREE))
    which = at // (camera.width * camera.height)
    for plane, tint in zip(colour, part.tint.T, strict=True):
        plane[at] = take(plane, at) * take(np.ascontiguousarray(tint), which)
    if env.snow:
        at = np.flatnonzero(~part.wall & (label != CAR) & (label != TREE) & (label != WATER))
        for plane in colour:
            white = take(plane, at)
            plane[at] = white + (235 - white) * np.float32(env.snow)
    colour *= part.light
    # Air: contrast falls with distance towards the horizon's colour.
    zenith, horizon = (np.array(rgb, np.float32) for rgb in SKY_RGB[env.sky])
    clear = rounded_once(np.exp, part.distance.reshape(part.n, -1) / -part.haze[:, None]).reshape(-1)
    colour *= clear
    np.subtract(1, clear, out=clear)
    for plane, far_off in zip(colour, horizon, strict=True):
        plane += far_off * clear
    at = np.flatnonzero(label == SKY)
    for plane, values in zip(colour, _sky(part, zenith, horizon, waves, cover, at), strict=True):
        plane[at] = values


def _first_reaching(heights: np.ndarray, rows: Tensor) -> np.ndarray:
    """Number of the first range at which each ray has reached each row's slope, or the number of ranges; P x H int32.

    Args:
        heights: R x P slopes along P rays; overwritten by their running maximum.
        rows: P x H slopes.
    """
    for before, here in pairwise(heights):
        np.maximum(before, here, out=here)
    found: np.ndarray = torch.searchsorted(torch.from_numpy(heights).T.contiguous(), rows, out_int32=True).numpy()
    return found


def _facade(
    looks: dict[str, np.ndarray], building: np.ndarray, along: np.ndarray, above_ground: np.ndarray, footprint: np.ndarray
) -> list[np.ndarray]:
    """Colours of P wall points, a plane per channel: plaster, windows in bays and floors, shop fronts.

    Args:
        looks: what :class:`geodtr_lib.data.world.Facades` holds.
        building: P building numbers.
        along: metres along the wall.
        above_ground: metres.
        footprint: width of a pixel on the wall, metres; the pattern fades into its mean where a pixel spans a bay.
    """
    look = {name: take(looks[name], building) for name in looks if looks[name].ndim == 1}
    bay_width, part_w, part_h = look["bay_width"], look["window_width"], look["window_height"]
    bay = along / bay_width
    storey = above_ground / look["floor_height"]
    shop = np.flatnonzero((storey < 1) & (look["shop"] > 0))
    part_w[shop], part_h[shop] = 0.85, 0.75
    bay_number, floor_number = np.floor(bay), np.floor(storey)
    in_bay = np.abs((bay - bay_number) - np.float32(0.5)) < part_w / 2
    in_floor = np.abs((storey - floor_number) - np.float32(0.55)) < part_h / 2
    fade = np.clip(footprint / bay_width * np.float32(1.6), 0, 1)
    window = (in_bay & in_floor) * (1 - fade) + part_w * part_h * fade
    # Panes differ: some lit, some curtained.
    pane = np.abs(rounded_once(np.sin, bay_number * np.float32(12.9898) + floor_number * np.float32(78.233))) * np.float32(43758.5453)
    pane -= np.floor(pane)
    glass = np.float32(0.75) + np.float32(0.5) * pane * (1 - fade)
    glass *= window
    np.subtract(1, window, out=window)
    channels = (np.ascontiguousarray(looks[name].T) for name in ("wall_rgb", "window_rgb"))
    return [take(plaster, building) * window + take(pane_rgb, building) * glass for plaster, pane_rgb in zip(*channels, strict=True)]


def _sky(
    part: _Part, zenith: np.ndarray, horizon: np.ndarray, waves: np.ndarray | None, cover: np.ndarray | None, at: np.ndarray
) -> list[np.ndarray]:
    """Colours of the pixels ``at``, a plane per channel: a gradient, and by day some smooth clouds that differ per image."""
    camera = part.camera
    _, ray, row = part.split(at)
    up = (1 - 2 * (np.arange(camera.height, dtype=np.float32) + np.float32(0.5)) / np.float32(camera.height)).clip(0, 1)  # 1 at the top
    base = [take(below + (above - below) * up ** np.float32(0.7), row) for above, below in zip(zenith, horizon, strict=True)]
    if waves is None or cover is None:
        return base
    rows = min(int((up > 0).sum()) + 1, camera.height)  # those below the horizon look alike
    field = np.zeros((part.n, rows, camera.width), np.float32)
    for wave in range(4):
        phase, amount, tilt = waves[wave].astype(np.float64)[..., None]  # each n x 1
        # The cosine of a sum, from those of a column's and of a row's part.
        column, image = (wave + 1) * camera.azimuth.astype(np.float64), 2 * np.pi * phase + (6 * tilt + 2 * wave) * up[:rows]
        field += (amount * np.cos(image)).astype(np.float32)[..., None] * np.cos(column).astype(np.float32)
        field -= (amount * np.sin(image)).astype(np.float32)[..., None] * np.sin(column).astype(np.float32)
    density = np.float32(0.5) + np.float32(0.5) * field + cover[:, None, None] - np.float32(0.5)
    density = np.clip(density, 0, 1, out=density).transpose(0, 2, 1) * np.float32(0.7)
    density = take(density.reshape(-1), ray * rows + np.minimum(row, rows - 1))
    clear = 1 - density
    density *= np.float32(228.0)
    return [gradient * clear + density for gradient in base]
