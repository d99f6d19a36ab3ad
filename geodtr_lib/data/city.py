"""Procedural cities: five styles of street plan, building, green and colour, each an endless family of cities by seed.

A city is a plane without end, of which districts are rasterised as worlds. It is written as a formula of position, evaluated per pixel in
blocks of rows: a warped, irregular street grid with missing segments, blocks divided into lots, a building per lot, gardens, parks,
squares. What is drawn once per street, block, lot or building comes from a hash of its number and the seed, so nothing is stored and
nothing loops over pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from geodtr_lib.data.environment import Environment
from geodtr_lib.data.world import (
    BARE,
    CAR_LENGTH,
    CLASSES,
    GRASS,
    HEDGE,
    MARKING,
    PAVEMENT,
    PLAZA,
    ROAD,
    ROOF,
    SURFACE_RGB,
    WATER,
    Facades,
    World,
    stamp_crowns,
)  # fmt: skip
from geodtr_lib.errors import DatasetError

Palette = tuple[tuple[int, int, int], ...]

BRICK: Palette = ((150, 84, 66), (128, 66, 54), (170, 108, 82), (112, 72, 62), (184, 142, 112))
PASTEL: Palette = ((226, 206, 150), (232, 190, 160), (206, 214, 196), (214, 196, 204), (238, 228, 206), (188, 200, 210), (204, 150, 116))
CONCRETE: Palette = ((168, 166, 160), (142, 144, 148), (190, 186, 176), (120, 124, 130), (204, 202, 198))
GLASS: Palette = ((96, 122, 146), (74, 96, 116), (130, 150, 160), (60, 72, 86), (112, 140, 138))
WOOD: Palette = ((214, 208, 196), (178, 146, 110), (150, 168, 176), (196, 190, 150), (170, 96, 76), (122, 134, 112), (232, 230, 224))
METAL: Palette = ((176, 180, 184), (132, 146, 160), (196, 190, 172), (110, 126, 118), (158, 116, 92))
TILES: Palette = ((172, 92, 64), (150, 74, 54), (188, 116, 84), (132, 84, 66), (110, 96, 88))
SLATE: Palette = ((92, 94, 100), (116, 112, 108), (76, 78, 84), (134, 126, 118), (104, 82, 74))
FLAT: Palette = ((150, 148, 142), (122, 122, 122), (178, 174, 166), (96, 98, 100), (196, 192, 184), (136, 120, 106))
FOLIAGE: Palette = (
    (66, 98, 48), (84, 112, 56), (52, 84, 48), (100, 120, 60), (72, 92, 66), (92, 104, 44), (128, 92, 60), (140, 134, 62), (124, 146, 72),
)  # fmt: skip
# What streets, pavements, lawns and yards are made of; a street or a lot has one each.
ASPHALTS: Palette = ((84, 86, 90), (66, 67, 70), (112, 112, 114), (98, 91, 85), (128, 125, 120))
PAVINGS: Palette = ((152, 148, 142), (178, 166, 146), (160, 118, 98), (126, 124, 122), (192, 186, 178), (138, 128, 112))
LAWNS: Palette = ((96, 124, 62), (78, 110, 52), (122, 132, 72), (112, 116, 84), (90, 138, 72))
YARDS: Palette = ((150, 132, 104), (172, 156, 130), (132, 112, 92), (148, 140, 130))
CYCLE_LANES: Palette = ((150, 82, 70), (84, 122, 88))


@dataclass(frozen=True)
class Style:
    """What distinguishes one kind of city. Lengths in metres, ranges as (low, high), probabilities 0-1."""

    block_u: tuple[float, float]
    block_v: tuple[float, float]
    warp: float  # amplitude of the streets' bending
    missing: float  # probability that a street segment is absent
    road: tuple[float, float]  # half width of the carriageway
    avenue_every: int
    pavement: tuple[float, float]
    lot: tuple[float, float]  # lot width
    plan: str  # 'lots' (houses), 'perimeter' (closed blocks), 'towers', 'sheds'
    setback: tuple[float, float]
    side: tuple[float, float]  # gap to the neighbour
    depth: tuple[float, float]
    floors: tuple[int, int]
    floor_height: tuple[float, float]
    pitched: float  # probability of a pitched roof
    walls: Palette
    roofs: Palette
    flat_roofs: Palette
    windows: tuple[float, float]  # part of the bay
    bay: tuple[float, float]
    glass_wall: float  # probability of a curtain wall
    shops: float
    empty: float  # probability of an empty lot
    park: float  # probability of a park block
    square: float  # probability of a square or car park
    water: float
    hedges: float
    ground: int  # class between buildings
    street_trees: float  # probability per place along the kerb
    garden_trees: float  # trees per 100 m2 of open ground inside blocks
    tree_height: tuple[float, float]
    hills: float  # amplitude of the terrain
    kerb_parking: float
    climate: Environment  # clear days as they are here, seen by the cameras used here


STYLES: dict[str, Style] = {
    "midrise": Style(
        block_u=(70, 120), block_v=(55, 90), warp=6, missing=0.10, road=(3.5, 6), avenue_every=4, pavement=(2.5, 4.5), lot=(14, 30),
        plan="lots", setback=(0, 5), side=(0, 3), depth=(12, 22), floors=(3, 7), floor_height=(3.0, 3.6), pitched=0.25,
        walls=BRICK + CONCRETE[:2] + PASTEL[:3], roofs=TILES[:2] + SLATE, flat_roofs=FLAT, windows=(0.35, 0.6), bay=(2.2, 3.6),
        glass_wall=0.05, shops=0.4, empty=0.10, park=0.06, square=0.07, water=0.01, hedges=0.15,
        ground=PAVEMENT, street_trees=0.35, garden_trees=0.35,
        tree_height=(6, 12), hills=4, kerb_parking=0.6,
        climate=Environment(sun_altitude=(30, 60), direct=(0.2, 0.7), haze=(300, 900)),
    ),
    "suburb": Style(
        block_u=(110, 190), block_v=(60, 90), warp=26, missing=0.22, road=(2.8, 4), avenue_every=6, pavement=(1.2, 2.2), lot=(16, 28),
        plan="lots", setback=(5, 11), side=(2.5, 6), depth=(8, 14), floors=(1, 2), floor_height=(2.7, 3.1), pitched=0.92,
        walls=WOOD, roofs=SLATE + TILES, flat_roofs=FLAT, windows=(0.25, 0.45), bay=(2.6, 4.2), glass_wall=0.0,
        shops=0.0, empty=0.08, park=0.07, square=0.01, water=0.02, hedges=0.55, ground=GRASS, street_trees=0.25, garden_trees=0.9,
        tree_height=(5, 14), hills=10, kerb_parking=0.2,
        climate=Environment(
            sun_altitude=(35, 70), direct=(0.3, 0.8), haze=(400, 1200), warmth=(0, 0.1),
            saturation=(1, 1.3), vegetation=(0.2, 0.7, 0.1, 0),
        ),
    ),
    "highrise": Style(
        block_u=(95, 150), block_v=(85, 130), warp=2, missing=0.06, road=(6, 10), avenue_every=3, pavement=(4, 7), lot=(34, 55),
        plan="towers", setback=(2, 8), side=(3, 10), depth=(24, 38), floors=(8, 34), floor_height=(3.2, 3.9), pitched=0.0,
        walls=CONCRETE + GLASS[:3], roofs=SLATE, flat_roofs=FLAT, windows=(0.5, 0.85), bay=(1.6, 3.2), glass_wall=0.45,
        shops=0.7, empty=0.10, park=0.05, square=0.12, water=0.02, hedges=0.05, ground=PLAZA, street_trees=0.4, garden_trees=0.25,
        tree_height=(5, 10), hills=2, kerb_parking=0.35,
        climate=Environment(sun_altitude=(18, 45), direct=(0, 0.5), haze=(120, 350), warmth=(-0.14, -0.02), saturation=(0.65, 0.95)),
    ),
    "oldtown": Style(
        block_u=(38, 75), block_v=(34, 62), warp=15, missing=0.18, road=(1.8, 3.4), avenue_every=5, pavement=(0.8, 1.8), lot=(6, 15),
        plan="perimeter", setback=(0, 0), side=(0, 0), depth=(9, 13), floors=(2, 5), floor_height=(2.8, 3.5), pitched=0.95,
        walls=PASTEL, roofs=TILES, flat_roofs=FLAT, windows=(0.3, 0.45), bay=(1.8, 2.8), glass_wall=0.0,
        shops=0.5, empty=0.05, park=0.03, square=0.08, water=0.01, hedges=0.05, ground=PAVEMENT, street_trees=0.05, garden_trees=0.5,
        tree_height=(4, 9), hills=9, kerb_parking=0.15,
        climate=Environment(
            sun_altitude=(45, 78), direct=(0.5, 0.9), exposure=(1, 1.3), warmth=(0.04, 0.16),
            vegetation=(0.1, 0.4, 0.5, 0),
        ),
    ),
    "industrial": Style(
        block_u=(130, 230), block_v=(110, 170), warp=9, missing=0.15, road=(4, 6.5), avenue_every=5, pavement=(0.8, 2), lot=(45, 95),
        plan="sheds", setback=(8, 20), side=(5, 14), depth=(28, 55), floors=(1, 3), floor_height=(3.6, 5.0), pitched=0.3,
        walls=METAL + CONCRETE[:2] + BRICK[:2], roofs=METAL + SLATE[:2], flat_roofs=FLAT + METAL[:2], windows=(0.15, 0.5), bay=(3.5, 7),
        glass_wall=0.05, shops=0.1, empty=0.15, park=0.03, square=0.12, water=0.04, hedges=0.25,
        ground=BARE, street_trees=0.12, garden_trees=0.15,
        tree_height=(5, 11), hills=2, kerb_parking=0.25,
        climate=Environment(
            sun_altitude=(15, 50), direct=(0, 0.35), exposure=(0.7, 1), haze=(150, 500), saturation=(0.5, 0.85),
            vegetation=(0.2, 0.2, 0.3, 0.3),
        ),
    ),
}  # fmt: skip

DISTRICT_PITCH = 1400.0  # metres between the corners of neighbouring districts: they share no ground
DISTRICTS = 64
REACH = 16_000.0  # metres around the origin for which the street plan is drawn
MARGIN = 140.0  # metres of city around the square in which cameras stand, so that streets go on in view


def style(name: str) -> Style:
    """A style by name.

    Raises:
        DatasetError: unknown name.
    """
    if name not in STYLES:
        raise DatasetError(f"city area {name!r} is not known; allowed: {', '.join(STYLES)}")
    return STYLES[name]


class _Hash:
    """Uniform numbers in [0, 1) from integers: the same number for the same keys and seed, for arrays of any shape."""

    def __init__(self, seed: int) -> None:
        self.seed = np.uint32((seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF)

    def __call__(self, salt: int, *keys: np.ndarray) -> np.ndarray:
        value = np.full(
            np.broadcast_shapes(*(np.shape(key) for key in keys)), self.seed ^ np.uint32(salt * 0x85EBCA6B & 0xFFFFFFFF), np.uint32
        )
        for key in keys:
            value ^= np.asarray(key).astype(np.uint32)
            value *= np.uint32(0x7FEB352D)
            value ^= value >> np.uint32(15)
            value *= np.uint32(0x846CA68B)
            value ^= value >> np.uint32(16)
        return value.astype(np.float32) * np.float32(2.0**-32)

    def between(self, bounds: tuple[float, float], salt: int, *keys: np.ndarray) -> np.ndarray:
        return bounds[0] + (bounds[1] - bounds[0]) * self(salt, *keys)


def _waves(rng: np.random.Generator, wavelengths: tuple[float, ...]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A smooth random function of position, about -1 to 1: a sum of plane waves."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, len(wavelengths)))
    kx, ky = (2 * np.pi / np.array(wavelengths) * f(angle) for f in (np.cos, np.sin))

    def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
        for a, b, p in zip(kx, ky, phase, strict=True):
            total += np.sin(np.float32(a) * x + np.float32(b) * y + np.float32(p))
        return total / np.float32(len(kx) ** 0.5)

    return wave


def _lines(bounds: tuple[float, float], extent: float, rng: np.random.Generator) -> np.ndarray:
    """Irregularly spaced street axes that cover -extent..extent."""
    steps = rng.uniform(*bounds, int(2 * extent / bounds[0]) + 2)
    return (np.cumsum(steps) - extent).astype(np.float32)


class _Plan:
    """The street plan of one city: warp, axes, widths, missing segments. Positions are relative to the district's corner."""

    def __init__(self, s: Style, seed: int, district: int) -> None:
        self.corner = tuple(np.float32(DISTRICT_PITCH * part) for part in (district % 8, district // 8))  # metres east and north
        rng = np.random.default_rng([seed, 1])
        self.style, self.hash = s, _Hash(seed)
        self.turn = rng.uniform(0, np.pi / 2)
        self.warp_u, self.warp_v = (_waves(rng, (310.0, 190.0, 430.0)) for _ in range(2))
        self.hill = _waves(rng, (520.0, 370.0, 810.0))
        self.tone = _waves(rng, (23.0, 11.0, 37.0, 5.3))
        self.u, self.v = _lines(s.block_u, REACH, rng), _lines(s.block_v, REACH, rng)
        self.half_u, self.half_v = (self._widths(len(lines), rng) for lines in (self.u, self.v))
        # present[k, j]: the segment of axis k between the cross axes j and j + 1
        self.present_u = rng.random((len(self.u), len(self.v))) >= s.missing
        self.present_v = rng.random((len(self.v), len(self.u))) >= s.missing
        self.present_u[:: s.avenue_every] = True  # avenues run through
        self.present_v[:: s.avenue_every] = True

    def _widths(self, n: int, rng: np.random.Generator) -> np.ndarray:
        half = rng.uniform(*self.style.road, n).astype(np.float32)
        half[:: self.style.avenue_every] = self.style.road[1] * 1.25
        return half

    def street_coordinates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        amplitude = np.float32(self.style.warp)
        x, y = x + self.corner[0], y + self.corner[1]
        xw, yw = x + amplitude * self.warp_u(x, y), y + amplitude * self.warp_v(x, y)
        c, s = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return c * xw + s * yw, c * yw - s * xw

    def terrain(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.float32(self.style.hills) * (1.6 + self.hill(x + self.corner[0], y + self.corner[1]))


def _draw(plan: _Plan, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """All rasters at these positions (any broadcastable shapes), except what is stamped afterwards (crowns, vehicles)."""
    s, h = plan.style, plan.hash
    u, v = plan.street_coordinates(x, y)
    iu = np.clip(np.searchsorted(plan.u, u) - 1, 0, len(plan.u) - 2)
    iv = np.clip(np.searchsorted(plan.v, v) - 1, 0, len(plan.v) - 2)
    # Distances to the four axes around, and the half widths of the streets there (0 = no street).
    west, east = u - plan.u[iu], plan.u[iu + 1] - u
    south, north = v - plan.v[iv], plan.v[iv + 1] - v
    w_west, w_east = plan.half_u[iu] * plan.present_u[iu, iv], plan.half_u[iu + 1] * plan.present_u[iu + 1, iv]
    w_south, w_north = plan.half_v[iv] * plan.present_v[iv, iu], plan.half_v[iv + 1] * plan.present_v[iv + 1, iu]
    walk = h.between(s.pavement, 2, iu, iv)
    edges = np.stack([
        np.where(w > 0, d - w, 99).astype(np.float32) for d, w in ((west, w_west), (east, w_east), (south, w_south), (north, w_north))
    ])  # fmt: skip
    kerb, nearest = edges.min(0), edges.argmin(0)  # metres from the nearest carriageway's edge, negative on it
    street = np.where(nearest < 2, iu + nearest, 1000 + iv + nearest - 2)  # that carriageway's number
    # A block's interior starts behind the pavement.
    i_west, i_east, i_south, i_north = (np.where(w > 0, w + walk, 0.6) for w in (w_west, w_east, w_south, w_north))
    p, q = west - i_west, south - i_south
    length, breadth = west + east - i_west - i_east, south + north - i_south - i_north
    interior = (np.minimum(p, length - p) > 0) & (np.minimum(q, breadth - q) > 0)

    kind = h(3, iu, iv)
    park = interior & (kind < s.park)
    square = interior & (kind >= s.park) & (kind < s.park + s.square)
    pond = park & (h(4, iu, iv) < 0.3 + s.water) & (((p / length - 0.5) / 0.3) ** 2 + ((q / breadth - 0.5) / 0.28) ** 2 < 1)
    built = interior & ~park & ~square

    lot, footprint, edge, across = _buildings(s, h, iu, iv, p, q, length, breadth)
    footprint &= built & (h(5, lot) >= s.empty)
    floors = np.floor(h.between((s.floors[0], s.floors[1] + 1), 6, lot))
    if s.plan == "towers":  # few are tall
        floors = np.floor(s.floors[0] + (s.floors[1] - s.floors[0]) * h(6, lot) ** 2.2)
    if s.plan == "lots" and s.pitched < 0.5:  # neighbours of a block are of similar height
        floors = np.clip(
            np.floor(h.between((s.floors[0], s.floors[1] + 1), 30, iu, iv) + h.between((-1.5, 1.5), 6, lot)), s.floors[0], s.floors[1] + 1
        )
    eaves = floors * h.between(s.floor_height, 7, lot) + 0.4
    pitched = h(8, lot) < s.pitched
    hip = h(9, lot) < 0.35
    slope = h.between((0.45, 1.1), 10, lot)
    rise = np.where(pitched, slope * np.where(hip, edge, across), 0)
    # On flat roofs: a parapet's rim stays level, a lift house or plant room rises in the middle.
    plant = ~pitched & (edge > 4) & (h(11, lot) < 0.6)
    rise = np.where(plant, 2.6, np.minimum(rise, 7.0))
    building_height = np.where(footprint, eaves + rise, 0).astype(np.float32)

    hedge = (
        built & ~footprint & (h(12, lot) < s.hedges)
        & (np.minimum(np.minimum(p, length - p), np.minimum(q, breadth - q)) < 0.9) & (h(13, lot, np.floor(p / 5), np.floor(q / 5)) > 0.12)
    )  # fmt: skip
    solid = np.where(hedge, h.between((0.9, 1.9), 14, lot), building_height).astype(np.float32)

    carriageway = kerb < 0
    label = np.full(u.shape, s.ground, np.uint8)
    label[~interior] = PAVEMENT
    label[interior & ~built] = GRASS
    garden = built & (h(15, lot) < (0.85 if s.ground == GRASS else 0.35))
    label[garden] = GRASS
    car_park = square & (h(16, iu, iv) >= 0.5)
    label[square] = PLAZA
    label[car_park] = ROAD
    label[car_park & (_part(p, 2.5) < 0.1) & (_part(q, 16.0) < 0.62)] = MARKING
    path = park & (np.abs(np.abs(p / length - 0.5) - np.abs(q / breadth - 0.5)) * np.minimum(length, breadth) < 1.4)
    label[path] = BARE
    label[pond] = WATER
    # A drive or path from the street to the house.
    drive = built & ~footprint & (across < -0.5) & (h(17, lot) < 0.5) & (np.abs(h.between((0.2, 0.8), 18, lot) - _part(p, s.lot[0])) < 0.12)
    label[drive] = np.where(h(19, lot) < 0.5, PAVEMENT, BARE)[drive]
    label[carriageway] = ROAD
    label[_markings(plan, u, v, (west, east, south, north), (w_west, w_east, w_south, w_north)) & carriageway] = MARKING
    label[hedge] = HEDGE
    label[footprint] = ROOF

    cycle_lane = carriageway & (label == ROAD) & (kerb > -1.7) & (kerb < -0.25) & (h(37, street) < 0.25)
    rgb = _surface_colours(s, h, plan, label, lot, np.where(interior, iu * 1024 + iv, -street), x, y, pitched, plant, cycle_lane)
    return {
        "terrain": plan.terrain(x, y).astype(np.float32), "solid": solid, "eaves": np.where(footprint, eaves, 0).astype(np.float32),
        "lot": np.where(footprint, lot, -1).astype(np.int64), "label": label, "rgb": rgb,
        "interior": (built & ~footprint & (label != WATER)) | park & ~pond, "kerb": kerb.astype(np.float32),
    }  # fmt: skip


def _part(p: np.ndarray, width: float) -> np.ndarray:
    return p / width - np.floor(p / width)


def _buildings(
    s: Style, h: _Hash, iu: np.ndarray, iv: np.ndarray, p: np.ndarray, q: np.ndarray, length: np.ndarray, breadth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lots and footprints inside a block whose interior is (0..length) x (0..breadth).

    Returns lot numbers, footprint masks, distance to the footprint's nearest edge and to the nearest long edge (for gables), metres.
    """
    if s.plan == "perimeter":
        sides = np.stack([q, breadth - q, p, length - p])  # distance to south, north, west, east front
        side = sides.argmin(0)
        inward = np.take_along_axis(sides, side[None], 0)[0]
        along = np.where(side < 2, p, q)
        total = np.where(side < 2, length, breadth)
        count = np.maximum(1, np.round(total / h.between(s.lot, 20, iu, iv, side)))
        number = np.clip(np.floor(along / total * count), 0, count - 1)
        lot = ((iu * 1024 + iv) * 4 + side) * 64 + number.astype(np.int64)
        depth = np.minimum(h.between(s.depth, 21, iu, iv), np.minimum(length, breadth) * 0.42)
        across = np.minimum(inward, depth - inward)
        width = total / count
        beside = np.minimum(along - number * width, (number + 1) * width - along)
        # Some lots reach further into the court.
        wing = (h(22, lot) < 0.3) & (inward < depth * 1.7) & (np.abs(beside) > width * 0.2)
        footprint = (across > 0) | (wing & (inward > 0))
        return lot, footprint, np.where(across > 0, across, 1.0), np.where(across > 0, across, 1.0)
    rows = np.where(breadth > 2.2 * s.depth[0] + 2 * s.setback[0], 2, 1)
    row = np.minimum(np.floor(q / breadth * rows), rows - 1)
    count = np.maximum(1, np.round(length / h.between(s.lot, 20, iu, iv)))
    # Lot boundaries shift a little, each its own way.
    width = length / count
    column = np.clip(np.floor(p / width), 0, count - 1)
    lot = ((iu * 1024 + iv) * 4 + row.astype(np.int64)) * 64 + column.astype(np.int64)
    lp = p - column * width
    lq = np.where(row == 0, q, breadth - q)  # from the street inwards
    reach = breadth / rows
    left, right = h.between(s.side, 21, lot), width - h.between(s.side, 22, lot)
    front = h.between(s.setback, 23, lot)
    back = np.minimum(front + h.between(s.depth, 24, lot), reach - 0.5)
    long = h(25, lot) < 0.25  # a narrower house
    right = np.where(long & (right - left > 12), left + (right - left) * 0.7, right)
    a, b = np.minimum(lp - left, right - lp), np.minimum(lq - front, back - lq)
    # A cut corner makes an L.
    cut_p, cut_q = h.between((0.4, 0.75), 26, lot), h.between((0.4, 0.75), 27, lot)
    shape = h(28, lot)
    along_p = (lp - left) / np.maximum(right - left, 1)
    along_p = np.where(h(29, lot) < 0.5, along_p, 1 - along_p)
    cut = (shape < 0.45) & (along_p > cut_p) & ((lq - front) > (back - front) * cut_q)
    edge = np.minimum(a, b)
    across = np.where((right - left) > (back - front), b, a)
    return lot, (edge > 0) & ~cut, edge, across


def _markings(plan: _Plan, u: np.ndarray, v: np.ndarray, distance: tuple[np.ndarray, ...], half: tuple[np.ndarray, ...]) -> np.ndarray:
    """Dashed axes of streets wide enough for two lanes, zebra crossings before junctions."""
    west, east, south, north = distance
    marks = np.zeros(u.shape, bool)
    for d, w, other, along in (
        (west, half[0], np.minimum(south, north), v), (east, half[1], np.minimum(south, north), v),
        (south, half[2], np.minimum(west, east), u), (north, half[3], np.minimum(west, east), u),
    ):  # fmt: skip
        wide = w > 2.6
        dash = (along / 7 - np.floor(along / 7)) < 0.55
        cross = np.maximum(half[2], half[3]) if along is v else np.maximum(half[0], half[1])
        marks |= wide & (d < 0.3) & dash & (other > cross + 5)
        zebra = (d / 1.1 - np.floor(d / 1.1)) < 0.5
        marks |= (w > 3.2) & (d < w) & (cross > 3.2) & (other > cross + 0.8) & (other < cross + 3.6) & zebra
    return marks


def _surface_colours(
    s: Style, h: _Hash, plan: _Plan, label: np.ndarray, lot: np.ndarray, owner: np.ndarray,
    x: np.ndarray, y: np.ndarray, pitched: np.ndarray, plant: np.ndarray, cycle_lane: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Colours before light. ``owner`` is the number of the block, or minus that of the street, whose surface it is."""
    table = np.zeros((len(CLASSES), 3), np.float32)
    for key, surface in SURFACE_RGB.items():
        table[key] = surface
    rgb = table[label]
    tone = 1 + 0.05 * plan.tone(x, y)
    tone += 0.10 * (h(31, np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)) - 0.5)  # grain of about a metre
    soft = np.isin(label, (GRASS, BARE, PAVEMENT))
    tone *= np.where(label == ROAD, 0.85 + 0.3 * h(32, owner), np.where(soft, 0.85 + 0.3 * h(33, lot), 1))
    yard = np.where(owner >= 0, lot, owner)  # inside blocks each lot has its own paving, outside each street
    materials = ((ROAD, ASPHALTS, owner), (PAVEMENT, PAVINGS, yard), (PLAZA, PAVINGS, owner), (GRASS, LAWNS, lot), (BARE, YARDS, lot))
    for material, palette, number in materials:
        here = label == material
        colours = np.array(palette, np.float32)
        rgb[here] = colours[(h(40 + material, number[here]) * len(colours)).astype(np.int64)]
    rgb[cycle_lane] = np.array(CYCLE_LANES, np.float32)[(h(38, owner[cycle_lane]) * len(CYCLE_LANES)).astype(np.int64)]
    on_roof = label == ROOF
    if on_roof.any():
        number, sloped = lot[on_roof], pitched[on_roof]
        roofs, flats = np.array(s.roofs, np.float32), np.array(s.flat_roofs, np.float32)
        colour = np.where(
            sloped[:, None],
            roofs[(h(34, number) * len(roofs)).astype(np.int64)],
            flats[(h(35, number) * len(flats)).astype(np.int64)],
        )
        rgb[on_roof] = colour * (0.85 + 0.3 * h(36, number))[:, None]
        tone[plant] *= 1.18
    painted: np.ndarray = np.clip(rgb * tone[..., None], 0, 255).astype(np.uint8)
    return painted


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
    plan = _Plan(s, seed, district)
    x = ((np.arange(pixels, dtype=np.float32) + 0.5) * resolution)[None, :]
    y = (extent - (np.arange(pixels, dtype=np.float32) + 0.5) * resolution)[:, None]
    rows = [slice(start, min(start + 96, pixels)) for start in range(0, pixels, 96)]
    with ThreadPoolExecutor(2) as pool:  # numpy releases the lock; blocks of rows stay in the cache
        parts = list(pool.map(lambda part: _draw(plan, x, y[part]), rows))
    raster = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    lots, building = np.unique(raster["lot"], return_inverse=True)
    building = building.reshape(raster["lot"].shape).astype(np.int32)
    if lots[0] >= 0:
        building += 1
    facades = _facades(s, [seed, 2, district], int(building.max()))
    top, base, crown_rgb = _trees(s, [seed, 3, district], raster, resolution, extent)
    streets, parking = _street_points(plan, s, [seed, 4, district], extent)
    return World(
        resolution=resolution, terrain=raster["terrain"], solid=raster["solid"], eaves=raster["eaves"], building=building,
        label=raster["label"], rgb=raster["rgb"], canopy_top=top, canopy_base=base, canopy_rgb=crown_rgb,
        facades=facades, streets=streets, parking=parking,
    )  # fmt: skip


def _trees(
    s: Style, seed: list[int], raster: dict[str, np.ndarray], resolution: float, extent: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crowns in gardens and parks, and along the kerbs."""
    rng = np.random.default_rng(seed)
    pixels = raster["label"].shape[0]
    cell = 7.0
    n = int(extent / cell)
    grid = (np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) + rng.random((n * n, 2))) * cell
    row = np.clip(pixels - grid[:, 1] / resolution, 0, pixels - 1).astype(np.int64)
    column = np.clip(grid[:, 0] / resolution, 0, pixels - 1).astype(np.int64)
    kerb, interior = raster["kerb"][row, column], raster["interior"][row, column]
    chance = np.where(interior, s.garden_trees * cell * cell / 100, 0)
    chance = np.where((kerb > 0.5) & (kerb < 2.2) & ~interior, s.street_trees * 2, chance)
    grove = np.sin(grid[:, 0] / 37 + seed[0]) * np.cos(grid[:, 1] / 29 - seed[0])  # gardens differ in how green they are
    keep = rng.random(len(grid)) < chance * np.clip(1 + 0.8 * grove, 0.1, None)
    x, y = grid[keep].T
    height = rng.uniform(*s.tree_height, keep.sum())
    radius = height * rng.uniform(0.22, 0.36, keep.sum())
    # No crown through a house: the crown ends before the wall, and its own place is free.
    free = raster["solid"][row[keep], column[keep]] == 0
    x, y, height, radius = x[free], y[free], height[free], radius[free]
    palette = np.array(FOLIAGE, np.float32)
    # Neighbouring trees are mostly of one kind.
    local = (_Hash(seed[0])(60, np.array(seed[2]), np.floor(x / 55), np.floor(y / 55)) * len(palette)).astype(np.int64)
    kind = np.where(rng.random(len(x)) < 0.7, local, rng.integers(len(palette), size=len(x)))
    rgb = palette[kind] * rng.uniform(0.85, 1.15, (len(x), 1))
    top, base, colour = stamp_crowns((pixels, pixels), resolution, x, y, radius, height, np.minimum(height * 0.35, 2.8) + 0.3, rgb)
    overhang = raster["solid"] > top * 0.6  # crowns do not cover roofs
    top[overhang] = 0
    return top, base, colour


def _street_points(plan: _Plan, s: Style, seed: list[int], extent: float) -> tuple[np.ndarray, np.ndarray]:
    """Points on street axes every two metres inside the margin, and places of vehicles at the kerbs and in the lanes."""
    rng = np.random.default_rng(seed)
    points, parked = [], []
    step = 2.0
    side_of = np.linspace(0, extent, 40, dtype=np.float32)
    bounds = [(float(c.min()) - 10, float(c.max()) + 10) for c in plan.street_coordinates(side_of[None, :], side_of[:, None])]
    for axis, (lines, half, present, cross) in enumerate(
        ((plan.u, plan.half_u, plan.present_u, plan.v), (plan.v, plan.half_v, plan.present_v, plan.u))
    ):
        (low, high), (start, end) = bounds[axis], bounds[1 - axis]
        along = np.arange(start, end, step, dtype=np.float32)
        k, t = np.meshgrid(np.flatnonzero((lines > low) & (lines < high)), along, indexing="ij")
        there = present[k, np.clip(np.searchsorted(cross, t) - 1, 0, len(cross) - 2)]
        k, t = k[there], t[there]
        fixed = lines[k]
        locate = partial(_from_street_coordinates, plan)
        x, y = locate(fixed, t) if axis == 0 else locate(t, fixed)
        ahead = locate(fixed, t + 1) if axis == 0 else locate(t + 1, fixed)
        direction = np.rad2deg(np.arctan2(ahead[0] - x, ahead[1] - y)) % 360
        points.append(np.stack([x, y, direction], 1))
        side = rng.choice([-1.0, 1.0], len(x))
        kerbside = rng.random(len(x)) < s.kerb_parking * step / (CAR_LENGTH + 1.5) * 1.6
        offset = np.where(kerbside, half[k] - 1.1, half[k] * 0.45) * side
        use = (kerbside | (rng.random(len(x)) < 0.02)) & (half[k] > 2.4)
        angle = np.deg2rad(direction)
        parked.append(np.stack([x + offset * np.cos(angle), y - offset * np.sin(angle), direction], 1)[use])
    streets, parking = np.concatenate(points), np.concatenate(parked)
    inside = ((streets[:, :2] > MARGIN) & (streets[:, :2] < extent - MARGIN)).all(1)
    on_map = ((parking[:, :2] > 5) & (parking[:, :2] < extent - 5)).all(1)
    return streets[inside].astype(np.float32), parking[on_map].astype(np.float32)


def _from_street_coordinates(plan: _Plan, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert the warp by fixed-point iteration; it is a contraction, since the warp bends slowly."""
    c, s = np.float32(np.cos(plan.turn)), np.float32(np.sin(plan.turn))
    xw, yw = c * u - s * v, s * u + c * v
    x, y = xw, yw
    for _ in range(12):
        x, y = xw - plan.style.warp * plan.warp_u(x, y), yw - plan.style.warp * plan.warp_v(x, y)
    return x - plan.corner[0], y - plan.corner[1]
