"""What the pixels of panoramas look like: surfaces and facades in their light, season, air and sky."""

from __future__ import annotations

import math

import numpy as np

from geodtr_lib.data.environment import SKY_RGB, Environment
from geodtr_lib.data.pixel_lists import rounded_once, take
from geodtr_lib.data.street_scene import BUILT, Part
from geodtr_lib.data.world import CAR, GRASS, HEDGE, SKY, TREE, WALL, WATER


def shade_surfaces(part: Part, at: np.ndarray, near: np.ndarray, pixel: np.ndarray) -> None:
    """Colour, class and light of the pixels ``at``, of which each shows the raster's ``pixel``.

    Light is direct sun by the surface's direction, the rest from the whole sky. Standing surfaces see half the sky.
    """
    camera, scene, world, direct = part.camera, part.camera.scene, part.camera.scene.world, part.direct
    packed = take(scene.surface, pixel)
    for channel, plane in enumerate(part.colour):
        plane[at] = (packed >> 8 * channel & 255).astype(np.float32)
    label = (packed >> 24).astype(np.uint8)
    part.label[at] = label & (BUILT - 1)
    sunlit = (1 - direct) + direct * np.float32(1.3) * rounded_once(np.sin, part.altitude)
    part.light[at] = take(sunlit, at // (camera.width * camera.height))

    built = np.flatnonzero(label >= BUILT)
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


def finish(part: Part, env: Environment, waves: np.ndarray | None, cover: np.ndarray | None) -> None:
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


def _sky(
    part: Part, zenith: np.ndarray, horizon: np.ndarray, waves: np.ndarray | None, cover: np.ndarray | None, at: np.ndarray
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
