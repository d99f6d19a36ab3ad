"""The rasters of a procedural city, rows by rows: what stands and lies at each pixel, and its colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geodtr_lib.data.city_lots import Blocks, Lots, Paint
from geodtr_lib.data.city_plan import Plan
from geodtr_lib.data.pixel_lists import select, take
from geodtr_lib.data.world import BARE, GRASS, HEDGE, MARKING, PAVEMENT, PLAZA, ROAD, ROOF, SURFACE_RGB, WATER

GARDEN, KERBSIDE = 1, 2  # where trees may stand
_NOWHERE = 99.0  # metres to a street that is not there
_KERBSIDE = 0.5, 2.2  # metres from the carriageway


@dataclass(frozen=True)
class Raster:
    """Rasters of H x W as in :class:`geodtr_lib.data.world.World`, and ``ground``: where trees may stand."""

    terrain: np.ndarray
    solid: np.ndarray
    eaves: np.ndarray
    building: np.ndarray  # int32: 1 + position of the lot in ``Lots``, 0 where no house stands
    label: np.ndarray
    rgb: np.ndarray
    ground: np.ndarray

    @classmethod
    def empty(cls, pixels: int) -> Raster:
        """Rasters of pixels x pixels to be filled."""
        shape = pixels, pixels
        terrain, solid, eaves = (np.empty(shape, np.float32) for _ in range(3))
        label, ground = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        return cls(terrain, solid, eaves, np.empty(shape, np.int32), label, np.empty((*shape, 3), np.uint8), ground)


def draw_rows(raster: Raster, rows: slice, plan: Plan, b: Blocks, lots: Lots, paint: Paint, x: np.ndarray, y: np.ndarray) -> None:
    """Fill these rows, at x (1 x W) and y (R x 1) metres, except what is stamped afterwards (crowns, vehicles)."""
    raster.terrain[rows] = plan.terrain(x, y)
    u, v = (c.reshape(-1) for c in plan.street_coordinates(x, y))
    iu, iv = (plan.block(family, c) for family, c in enumerate((u, v)))
    block = (iu - b.first[0]) * b.shape[1] + (iv - b.first[1])
    # Distances to the four axes around, and into the block's interior, metres.
    distance = u - take(plan.u, iu), take(plan.u, iu + 1) - u, v - take(plan.v, iv), take(plan.v, iv + 1) - v
    p, q = distance[0] - take(b.inset_u, block), distance[2] - take(b.inset_v, block)
    p_behind, q_behind = take(b.length, block) - p, take(b.breadth, block) - q
    margin = np.minimum(np.minimum(p, p_behind), np.minimum(q, q_behind))
    interior = margin > 0
    lot = (_sides if plan.style.plan == "perimeter" else _rows)(b, lots, block, p, q, p_behind, q_behind)

    tone = 1 + 0.05 * plan.tone(x, y).reshape(-1)
    tone += 0.10 * (_grain(plan, x, y) - 0.5)
    here = [part[rows].reshape(-1) for part in (raster.solid, raster.eaves, raster.building, raster.label, raster.ground)]
    solid, eaves, building, label, ground = here
    for part in here:
        part[:] = 0
    colour = np.empty((3, len(u)), np.float32)

    at = np.flatnonzero(~interior)
    of_street = (take(of_all, at) for of_all in (iu, iv, block, lot, u, v, *distance))
    label[at], kerb, painted = _streets(plan, b, paint, *of_street)
    ground[at] = _beside(kerb)
    _lay(colour, tone, at, painted)

    at = np.flatnonzero(interior)
    of_block = [take(of_all, at) for of_all in (block, lot, p, q, p_behind, q_behind)]
    solid[at], eaves[at], building[at], label[at], ground[at], plant, painted = _interiors(plan, b, lots, paint, *of_block)
    _lay(colour, tone, at, painted)
    near = np.flatnonzero(interior & (margin < _KERBSIDE[1]) & (ground == 0))
    edges, _ = _edges(b, take(block, near), [take(d, near) for d in distance])
    ground[near] = _beside(np.minimum(np.minimum(edges[0], edges[1]), np.minimum(edges[2], edges[3])))
    tone[take(at, plant)] *= 1.18
    colour *= tone
    np.clip(colour, 0, 255, out=colour)
    raster.rgb[rows] = colour.astype(np.uint8).reshape(3, len(y), -1).transpose(1, 2, 0)


def _edges(b: Blocks, block: np.ndarray, distance: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Distances from the four carriageways' edges, by those from their axes, and the carriageways' half widths; metres."""
    half = [take(side, block) for side in b.half]
    nowhere = np.full(len(block), _NOWHERE, np.float32)
    return [select(w > 0, d - w, nowhere) for d, w in zip(distance, half, strict=True)], half


def _beside(kerb: np.ndarray) -> np.ndarray:
    """``KERBSIDE`` where trees stand along the street, by the distance from the carriageway in metres."""
    return ((kerb > _KERBSIDE[0]) & (kerb < _KERBSIDE[1])).view(np.uint8) * np.uint8(KERBSIDE)


def _lay(colour: np.ndarray, tone: np.ndarray, at: np.ndarray, painted: list[np.ndarray]) -> None:
    """Write colours and brightness (four planes of the pixels ``at``) into the planes of all."""
    for plane, values in zip(colour, painted, strict=False):
        plane[at] = values
    tone[at] *= painted[3]


def _grain(plan: Plan, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One number per square metre, for each pixel."""
    (columns, column), (rows, row) = (np.unique(np.floor(metres).astype(np.int64), return_inverse=True) for metres in (x, y))
    metres = plan.hash(31, columns, rows[:, None])
    grain: np.ndarray = metres[:, column.reshape(-1)][row.reshape(-1)].reshape(-1)
    return grain


def _rows(b: Blocks, lots: Lots, block: np.ndarray, p: np.ndarray, q: np.ndarray, p_behind: np.ndarray, q_behind: np.ndarray) -> np.ndarray:
    """Lots that lie in one or two rows along the streets of the first family; pavement belongs to the nearest."""
    row = np.floor(q * take(b.rows / b.breadth, block)).astype(np.int64)
    np.minimum(row, take(b.rows.astype(np.int64) - 1, block), out=row)
    count = b.count[:, 0]
    column = np.floor(p * take(count / b.length, block)).astype(np.int64)
    np.clip(column, 0, take(count.astype(np.int64) - 1, block), out=column)
    lot: np.ndarray = (block * 4 + np.maximum(row, -2) + 2) * lots.columns + column
    return lot


def _sides(
    b: Blocks, lots: Lots, block: np.ndarray, p: np.ndarray, q: np.ndarray, p_behind: np.ndarray, q_behind: np.ndarray
) -> np.ndarray:
    """Lots of closed blocks, on the nearest of the four sides: south, north, west, east."""
    by_u = np.minimum(p, p_behind) < np.minimum(q, q_behind)
    side = block * 4 + np.where(by_u, 2 + (p_behind < p), q_behind < q)
    per_metre = b.count / np.stack([b.length, b.length, b.breadth, b.breadth], 1)
    column = np.floor(select(by_u, q, p) * take(per_metre.reshape(-1), side)).astype(np.int64)
    np.clip(column, 0, take(b.count.astype(np.int64).reshape(-1) - 1, side), out=column)
    lot: np.ndarray = side * lots.columns + column
    return lot


def _houses(lots: Lots, lot: np.ndarray, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Houses that stand alone or in rows: footprints, distance to the nearest edge and to the nearest long edge (for gables), metres."""
    along = p - take(lots.corner, lot)
    inwards = take(lots.street, lot) + take(lots.inwards, lot) * q  # from the street
    left, front = along - take(lots.left, lot), inwards - take(lots.front, lot)
    beside, deep = np.minimum(left, take(lots.right, lot) - along), np.minimum(front, take(lots.back, lot) - inwards)
    edge = np.minimum(beside, deep)
    footprint = edge > 0
    # A cut corner makes an L.
    at = np.flatnonzero(footprint & take(lots.cut, lot))
    own = take(lot, at)
    wide, long = take(lots.right - lots.left, own), take(lots.back - lots.front, own)
    part = take(left, at) / np.maximum(wide, 1)
    part = select(take(lots.mirrored, own), 1 - part, part)
    footprint[at] = ~((part > take(lots.cut_p, own)) & (take(front, at) > long * take(lots.cut_q, own)))
    return footprint, edge, select(take(lots.long_front, lot), deep, beside)


def _closed_block(
    b: Blocks, lots: Lots, lot: np.ndarray, block: np.ndarray, p: np.ndarray, q: np.ndarray, p_behind: np.ndarray, q_behind: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Houses wall to wall around a court; returns as :func:`_houses`."""
    by_u, by_v = np.minimum(p, p_behind), np.minimum(q, q_behind)
    inward, depth, width = np.minimum(by_u, by_v), take(b.depth, block), take(lots.width, lot)
    across = np.minimum(inward, depth - inward)
    along = select(by_u < by_v, q, p) - take(lots.corner, lot)
    beside = np.minimum(along, width - along)
    # Some lots reach further into the court.
    wing = take(lots.wing, lot) & (inward < depth * 1.7) & (np.abs(beside) > width * 0.2)
    footprint = (across > 0) | wing
    edge = select(across > 0, across, np.ones_like(across))
    return footprint, edge, edge


def _streets(
    plan: Plan, b: Blocks, paint: Paint, iu: np.ndarray, iv: np.ndarray, block: np.ndarray, lot: np.ndarray, u: np.ndarray, v: np.ndarray,
    west: np.ndarray, east: np.ndarray, south: np.ndarray, north: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:  # fmt: skip
    """Class, distance from the nearest carriageway's edge (metres, negative on it) and paint of pixels outside blocks."""
    edges, half = _edges(b, block, [west, east, south, north])
    by_u, by_v = np.minimum(edges[0], edges[1]), np.minimum(edges[2], edges[3])
    kerb = np.minimum(by_u, by_v)
    street = np.where(by_v < by_u, 1000 + iv + (edges[3] < edges[2]), iu + (edges[1] < edges[0]))  # that carriageway's number
    label = np.full(len(u), PAVEMENT, np.uint8)
    painted = [take(plane, street) for plane in paint.pavement[:3]]
    painted.append(take(paint.soft, lot))

    def lay(at: np.ndarray, table: np.ndarray) -> None:
        own = take(street, at)
        for plane, of_street in zip(painted, table, strict=True):
            plane[at] = take(of_street, own)

    road = np.flatnonzero(kerb < 0)
    label[road] = ROAD
    axes, widths = ([take(c, road) for c in of_four] for of_four in ((west, east, south, north), half))
    marks = _markings(take(u, road), take(v, road), axes, widths)
    marked = road[marks]
    label[marked] = MARKING
    lay(road, paint.road)
    on_lane = take(kerb, road)
    lay(road[(on_lane > -1.7) & (on_lane < -0.25) & take(paint.lanes, take(street, road)) & ~marks], paint.lane)
    for plane, value in zip(painted, (*SURFACE_RGB[MARKING], 1), strict=True):
        plane[marked] = value
    return label, kerb, painted


def _markings(u: np.ndarray, v: np.ndarray, distance: list[np.ndarray], half: list[np.ndarray]) -> np.ndarray:
    """Dashed axes of streets wide enough for two lanes, zebra crossings before junctions."""
    west, east, south, north = distance
    marks = np.zeros(u.shape, bool)
    dash_u, dash_v = (_part(along, 7) < 0.55 for along in (u, v))
    other_u, other_v = np.minimum(south, north), np.minimum(west, east)
    cross_u, cross_v = np.maximum(half[2], half[3]), np.maximum(half[0], half[1])
    for d, w, other, dash, cross in (
        (west, half[0], other_u, dash_v, cross_u), (east, half[1], other_u, dash_v, cross_u),
        (south, half[2], other_v, dash_u, cross_v), (north, half[3], other_v, dash_u, cross_v),
    ):  # fmt: skip
        marks |= (w > 2.6) & (d < 0.3) & dash & (other > cross + 5)
        marks |= (w > 3.2) & (d < w) & (cross > 3.2) & (other > cross + 0.8) & (other < cross + 3.6) & (_part(d, 1.1) < 0.5)
    return marks


def _interiors(
    plan: Plan, b: Blocks, lots: Lots, paint: Paint, block: np.ndarray, lot: np.ndarray, p: np.ndarray, q: np.ndarray,
    p_behind: np.ndarray, q_behind: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:  # fmt: skip
    """What stands and lies inside blocks.

    Returns heights and eaves (metres), building, class, where trees may stand, the list of pixels around lift houses, and paint.
    """
    s, h = plan.style, plan.hash
    park, square = take(b.park, block), take(b.square, block)
    built = ~(park | square)
    if s.plan == "perimeter":
        footprint, edge, across = _closed_block(b, lots, lot, block, p, q, p_behind, q_behind)
    else:
        footprint, edge, across = _houses(lots, lot, p, q)
    footprint &= built & take(lots.built, lot)
    open_ = built & ~footprint
    plant = np.flatnonzero((edge > 4) & take(lots.plant, lot))

    label = np.full(len(p), s.ground, np.uint8)
    label[~built | take(lots.garden, lot)] = GRASS
    at = np.flatnonzero(square)
    label[at] = PLAZA
    at = at[take(b.car_park, take(block, at))]
    label[at] = ROAD
    label[at[(_part(take(p, at), 2.5) < 0.1) & (_part(take(q, at), 16.0) < 0.62)]] = MARKING
    at = np.flatnonzero(park)
    own = take(block, at)
    length, breadth = take(b.length, own), take(b.breadth, own)
    off_p, off_q = take(p, at) / length - 0.5, take(q, at) / breadth - 0.5
    label[at[np.abs(np.abs(off_p) - np.abs(off_q)) * np.minimum(length, breadth) < 1.4]] = BARE  # paths
    label[at[take(b.pond, own) & ((off_p / 0.3) ** 2 + (off_q / 0.28) ** 2 < 1)]] = WATER
    # A drive or path from the street to the house.
    at = np.flatnonzero(open_ & (across < -0.5))
    own = take(lot, at)
    drive = np.abs(take(lots.drive, own) - _part(take(p, at), s.lot[0])) < 0.12
    label[at[drive]] = np.where(take(lots.paved_drive, own[drive]), PAVEMENT, BARE)

    solid, eaves, building = np.zeros(len(p), np.float32), np.zeros(len(p), np.float32), np.zeros(len(p), np.int32)
    height = take(lots.hedge, lot)
    at = np.flatnonzero(open_ & (height > 0) & (np.minimum(np.minimum(p, p_behind), np.minimum(q, q_behind)) < 0.9))
    gap = h(13, take(lots.number, take(lot, at)), np.floor(take(p, at) / 5), np.floor(take(q, at) / 5)) <= 0.12
    at = at[~gap]
    label[at], solid[at] = HEDGE, take(height, at)

    at = np.flatnonzero(footprint)
    own = take(lot, at)
    wall = take(lots.eaves, own)
    # On flat roofs: a parapet's rim stays level, a lift house or plant room rises in the middle.
    rise = np.minimum(take(lots.slope, own) * select(take(lots.hip, own), take(edge, at), take(across, at)), 7.0)
    rise[take(lots.plant, own) & (take(edge, at) > 4)] = 2.6
    solid[at], eaves[at], building[at], label[at] = wall + rise, wall, own + 1, ROOF
    trees = (open_ | park) & (label != WATER)
    place = take(paint.start, label) + take(paint.per_lot, label) * lot + take(paint.per_block, label) * block
    painted = [take(plane, place) for plane in paint.table]
    return solid, eaves, building, label, trees.view(np.uint8) * np.uint8(GARDEN), plant, painted


def _part(p: np.ndarray, width: float) -> np.ndarray:
    """Where in a period of ``width`` metres, 0-1."""
    part: np.ndarray = p / width
    part -= np.floor(part)
    return part
