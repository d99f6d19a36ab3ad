"""A city as rasters: what the renderer needs to draw it from above and from the street.

Both embedded data sets end here: ``city`` writes these rasters from formulas, ``osm`` from OpenStreetMap polygons.
Row 0 is north, column 0 is west. Positions are metres east (x) and north (y) of the south-west corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from geodtr_lib.data.parallel import for_row_blocks

# Classes of the truth maps, shared by both views.
CLASSES = (
    "sky", "bare", "grass", "road", "marking", "pavement", "roof", "wall", "tree", "hedge", "car", "water", "rail", "plaza",
)  # fmt: skip
SKY, BARE, GRASS, ROAD, MARKING, PAVEMENT, ROOF, WALL, TREE, HEDGE, CAR, WATER, RAIL, PLAZA = range(len(CLASSES))
SURFACE_CLASSES = (BARE, GRASS, ROAD, MARKING, PAVEMENT, WATER, RAIL, PLAZA)

# Surface colours before light (albedo, 0-255); a style may replace them.
SURFACE_RGB: dict[int, tuple[int, int, int]] = {
    BARE: (150, 132, 104), GRASS: (96, 124, 62), ROAD: (84, 86, 90), MARKING: (214, 212, 202), PAVEMENT: (152, 148, 142),
    HEDGE: (62, 92, 48), WATER: (62, 88, 108), RAIL: (118, 106, 98), PLAZA: (168, 160, 148), TREE: (70, 100, 50),
}  # fmt: skip


@dataclass(frozen=True)
class Facades:
    """Per-building looks, indexed by building number; number 0 is 'no building'.

    Attributes:
        wall_rgb, window_rgb: B x 3, 0-255.
        floor_height, bay_width: metres.
        window_height, window_width: parts of the floor and of the bay, 0-1 (0 = blank wall).
        shop: the ground floor is a shop front.
    """

    wall_rgb: np.ndarray
    window_rgb: np.ndarray
    floor_height: np.ndarray
    bay_width: np.ndarray
    window_height: np.ndarray
    window_width: np.ndarray
    shop: np.ndarray

    def __len__(self) -> int:
        return len(self.floor_height)


@dataclass(frozen=True)
class World:
    """Rasters of H x W pixels, ``resolution`` metres each.

    Attributes:
        terrain: float32, bare ground above datum, metres.
        solid: float32, height of buildings, hedges and walls above the terrain, metres; 0 elsewhere.
        eaves: float32, height above the terrain where the wall ends and the roof begins, metres.
        building: int32, building number of each pixel, 0 = none.
        label: uint8, class of the surface seen from above without trees and cars.
        rgb: uint8 H x W x 3, colour of that surface before light.
        canopy_top, canopy_base: float32, tree crowns, metres above the terrain; top 0 = no crown.
        canopy_rgb: uint8 H x W x 3.
        facades: looks of the buildings' walls.
        streets: S x 3, points where a camera may stand (x, y in metres) and the street's direction there (degrees clockwise from
            north).
    """

    resolution: float
    terrain: np.ndarray
    solid: np.ndarray
    eaves: np.ndarray
    building: np.ndarray
    label: np.ndarray
    rgb: np.ndarray
    canopy_top: np.ndarray
    canopy_base: np.ndarray
    canopy_rgb: np.ndarray
    facades: Facades
    streets: np.ndarray
    # Where vehicles may be drawn: x, y, direction; each capture draws its own subset (the two views are taken at other times).
    parking: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        return self.terrain.shape[0], self.terrain.shape[1]

    @property
    def size(self) -> tuple[float, float]:
        """Extent east and north, metres."""
        return self.shape[1] * self.resolution, self.shape[0] * self.resolution

    def pixel(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column (integers, clipped to the raster) of positions in metres."""
        height, width = self.shape
        row = np.clip((height - y / self.resolution).astype(np.int64), 0, height - 1)
        column = np.clip((x / self.resolution).astype(np.int64), 0, width - 1)
        return row, column


def pack(rgb: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Colours (uint8, ... x 3) and classes of P pixels as P int32: red | green << 8 | blue << 16 | class << 24."""
    packed = np.empty((label.size, 4), np.uint8)
    packed[:, :3] = rgb.reshape(-1, 3)
    packed[:, 3] = label.reshape(-1)
    flat: np.ndarray = packed.view("<i4").reshape(-1)
    return flat


def stamp_crowns(
    shape: tuple[int, int],
    resolution: float,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    top: np.ndarray,
    base: np.ndarray,
    rgb: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasters of tree crowns: domes of ``radius`` metres between ``base`` and ``top`` metres above the ground.

    Returns ``canopy_top``, ``canopy_base`` (float32 H x W) and ``canopy_rgb`` (uint8 H x W x 3); the highest crown wins where they overlap.
    """
    height, width = shape
    canopy_top = np.zeros(height * width, np.float32)
    canopy_base = np.zeros(height * width, np.float32)
    canopy_rgb = np.zeros((height * width, 3), np.uint8)
    order = np.argsort(top, kind="stable")  # later (higher) crowns overwrite; crowns of like height are of like size
    for part in np.array_split(order, max(1, len(order) // 128)):
        reach = int(np.ceil(radius[part].max(initial=0.0) / resolution)) + 1
        row0, column0 = height - y[part] / resolution, x[part] / resolution
        offset = np.arange(-reach, reach + 1)
        rows, columns = (np.floor(middle).astype(np.int64)[:, None] + offset for middle in (row0, column0))  # T x K
        down, right = rows + 0.5 - row0[:, None], columns + 0.5 - column0[:, None]
        near = (down**2)[:, :, None] + (right**2)[:, None] < ((1 + 1e-6) * (radius[part] / resolution) ** 2)[:, None, None]  # T x K x K
        near &= ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
        which, i, j = np.nonzero(near)
        distance = np.hypot(down[which, i], right[which, j]) * resolution / radius[part][which]
        inside = np.flatnonzero(distance < 1)
        which, i, j = which[inside], i[inside], j[inside]
        flat = rows[which, i] * width + columns[which, j]
        tree = part[which]
        dome = np.sqrt(1 - distance[inside] ** 2)
        canopy_top[flat] = base[tree] + (top[tree] - base[tree]) * (0.35 + 0.65 * dome)
        canopy_base[flat] = base[tree]
        canopy_rgb[flat] = np.clip(rgb[tree] * (0.75 + 0.35 * dome[:, None]), 0, 255)
    return canopy_top.reshape(shape), canopy_base.reshape(shape), canopy_rgb.reshape(height, width, 3)


CAR_LENGTH, CAR_WIDTH, CAR_HEIGHT = 4.4, 1.9, 1.5  # metres
_CAR_RGB = np.array(
    [(200, 200, 202), (40, 42, 46), (120, 124, 130), (160, 30, 34), (36, 62, 120), (226, 226, 222), (86, 92, 82), (190, 160, 60)]
)


def stamp_cars(world: World, occupancy: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw vehicles on part of the parking and driving positions.

    Returns the flat pixel indices covered and their colours (P x 3 uint8).
    """
    spots = world.parking[rng.random(len(world.parking)) < occupancy]
    colours = _CAR_RGB[rng.integers(len(_CAR_RGB), size=len(spots))]
    step = world.resolution / 2  # finer than a pixel, so that turned cars have no holes
    along, across = np.meshgrid(np.arange(-CAR_LENGTH / 2, CAR_LENGTH / 2, step), np.arange(-CAR_WIDTH / 2, CAR_WIDTH / 2, step))
    angle = np.deg2rad(spots[:, 2, None])
    x = spots[:, 0, None] + along.ravel() * np.sin(angle) + across.ravel() * np.cos(angle)
    y = spots[:, 1, None] + along.ravel() * np.cos(angle) - across.ravel() * np.sin(angle)
    row, column = world.pixel(x, y)
    flat = (row * world.shape[1] + column).ravel()
    rgb = np.repeat(colours, along.size, axis=0)
    free = np.isin(world.label.ravel()[flat], SURFACE_CLASSES) & (world.label.ravel()[flat] != WATER)
    return flat[free], rgb[free].astype(np.uint8)


def _outwards() -> np.ndarray:
    """Directions, 0-255 for 0-360 degrees clockwise from north, down gradients of -100..100 east x -100..100 north; 201 x 201."""
    east, north = np.mgrid[-100:101, -100:101].astype(np.float32)
    table: np.ndarray = np.round(np.arctan2(-east, -north) * (128 / np.pi)).astype(np.int16).astype(np.uint8)
    table[100, 100] = 0  # deep inside
    return table


def wall_directions(building: np.ndarray) -> np.ndarray:
    """Outward direction of the nearest wall at each building pixel, as 0-255 for 0-360 degrees clockwise from north.

    It is down the (Sobel) gradient of the number of building pixels in the 5 x 5 around.
    """
    height, width = building.shape
    table = _outwards()
    direction = np.empty(building.shape, np.uint8)

    def of_rows(rows: slice) -> None:
        near = np.clip(np.arange(rows.start - 3, rows.stop + 3), 0, height - 1)  # rows beyond the edge repeat it
        mask = np.pad((building[near[0] : near[-1] + 1] > 0).view(np.int8)[near - near[0]], ((0, 0), (2, 2)), mode="edge")
        across = mask[:, :-4] + mask[:, 1:-3] + mask[:, 2:-2] + mask[:, 3:-1] + mask[:, 4:]
        box = across[:-4] + across[1:-3] + across[2:-2] + across[3:-1] + across[4:]  # up to 25; one row more on each side
        if rows.start == 0:
            box[0] = box[1]
        if rows.stop == height:
            box[-1] = box[-2]
        box = np.pad(box, ((0, 0), (1, 1)), mode="edge")
        down, along = box[:-2] + 2 * box[1:-1] + box[2:], box[2:] - box[:-2]
        east, south = down[:, 2:] - down[:, :-2], along[:, :-2] + 2 * along[:, 1:-1] + along[:, 2:]
        index = (east.astype(np.int32) + 100) * 201 + (100 - south.astype(np.int32))
        np.take(table, index, out=direction[rows], mode="clip")

    for_row_blocks(of_rows, height, width)
    return direction


def cast_shadows(top: np.ndarray, resolution: float, sun_azimuth: float, sun_altitude: float) -> np.ndarray:
    """Boolean H x W: pixels of a height field (metres) that the sun does not reach.

    Args:
        sun_azimuth: degrees clockwise from north.
        sun_altitude: degrees above the horizon, 5-90.
    """
    height, width = top.shape
    reach = min(float(top.max() - top.min()) / np.tan(np.deg2rad(sun_altitude)), 250.0) / resolution  # pixels
    # Steps grow with the distance: a long shadow's far edge needs no finer sampling than a metre or two.
    steps = [1.0]
    while steps[-1] < reach:
        steps.append(steps[-1] + max(1.0, 0.06 * steps[-1]))
    rise = np.tan(np.deg2rad(sun_altitude)) * resolution
    shadow = np.zeros(top.shape, bool)

    def of_rows(rows: slice) -> None:
        rise_between = np.empty((rows.stop - rows.start, width), np.float32)
        hidden = np.empty(rise_between.shape, bool)
        for step in steps:
            drow = round(-step * float(np.cos(np.deg2rad(sun_azimuth))))  # towards the sun; rows grow southwards
            dcolumn = round(step * float(np.sin(np.deg2rad(sun_azimuth))))
            first, last = max(rows.start, -drow), min(rows.stop, height - drow)
            left, right = max(0, -dcolumn), width - max(0, dcolumn)
            if first >= last or left >= right:
                continue
            here, part = (slice(first, last), slice(left, right)), (slice(last - first), slice(right - left))
            np.subtract(top[first + drow : last + drow, left + dcolumn : right + dcolumn], top[here], out=rise_between[part])
            np.greater(rise_between[part], _at_most(step * rise), out=hidden[part])
            np.logical_or(shadow[here], hidden[part], out=shadow[here])

    for_row_blocks(of_rows, height, width)
    return shadow


def _at_most(value: float) -> np.float32:
    """The greatest float32 that is not above a number: what exceeds the one exceeds the other."""
    near = np.float32(value)
    return near if float(near) <= value else np.nextafter(near, np.float32(-np.inf))
