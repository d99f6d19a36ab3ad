"""Draw a world from the street: panoramas with the depth and class of every pixel.

A panorama is a ray march over the height field, all columns of several cameras at once: log-spaced ranges, the running maximum of the
elevation's tangent along each ray, and a binary search of the pixel rows in it. No loop over pixels or columns.

Cameras are drawn in parts small enough that what is known of their pixels stays in the processor's cache; colours are kept as one plane
per channel, and masks are turned into lists of pixels before anything is computed for them. What is random is drawn before, so the
pictures do not depend on the parts nor on who draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.data.environment import Captures, Environment, develop
from geodtr_lib.data.pixel_lists import select, split, take
from geodtr_lib.data.street_scene import N_RANGES, Camera, Part, StreetScene
from geodtr_lib.data.street_shading import finish, shade_surfaces
from geodtr_lib.data.world import TREE

REFINEMENTS = 3  # bisections of the hit range, each halves its error
NEAR_CROWNS = 52  # ranges below this index see crowns as near ones
_PART_PIXELS = 65_536  # of the cameras that are drawn at once


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
    # Clouds are drawn under every sky, so that what comes after, the tiles' chance too, is as on a clear day.
    waves = torch.rand(4, 3, n, 1, 1, generator=generator).view(4, 3, n)
    cover = torch.rand(n, 1, 1, generator=generator).view(n)
    noise = torch.randn(n, size[1], size[0], generator=generator) if env.noise else None
    return Chance(waves, cover, noise) if env.sky == "day" else Chance(None, None, noise)


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
    camera = Camera(scene, size)
    cameras = max(1, _PART_PIXELS // (height * width))
    for start in range(0, n, cameras):
        some = slice(start, min(start + cameras, n))
        part = Part(camera, x, y, captures, some)
        waves, cover, noise = (None if drawn is None else drawn.numpy() for drawn in (chance.waves, chance.cover, chance.noise))
        _draw(part)
        finish(part, env, None if waves is None else waves[..., some], None if cover is None else cover[some])
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


def _draw(part: Part) -> None:
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
    shade_surfaces(part, take(at, open_), take(near, open_), take(pixel, open_))
    part.label[covered], part.light[covered] = TREE, lit
    for channel, plane in enumerate(part.colour):
        plane[covered] = take(scene.world.canopy_rgb.reshape(-1), place * 3 + channel)


def _refine(part: Part, at: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _crowns(part: Part, index: np.ndarray, crown: np.ndarray, rows: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
