"""What is drawn once per block, lot or street of a procedural city, as tables: pixels look it up instead of drawing it again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geodtr_lib.data.city_plan import Plan
from geodtr_lib.data.city_styles import (
    ASPHALTS,
    CYCLE_LANES,
    LAWNS,
    PAVINGS,
    YARDS,
    Palette,
)
from geodtr_lib.data.world import BARE, CLASSES, GRASS, HEDGE, MARKING, PAVEMENT, PLAZA, ROAD, ROOF, SURFACE_RGB, WATER

ROWS = 4  # of lots in a block: two rows, or four sides; rows count from -2, since the pavement before a row has numbers too


@dataclass(frozen=True)
class Blocks:
    """Blocks between consecutive axes of the plan: arrays of B, of a grid of ``shape`` from axis ``first`` on.

    Attributes:
        half: 4 x B, half widths of the streets west, east, south and north, metres; 0 where there is none.
        inset_u, inset_v: metres from the western and the southern axis to the block's interior.
        length, breadth: of the interior, metres.
        rows: of lots, where they lie in rows.
        count: B x 4 lots in each row, or on each side of a closed block.
        depth: of a closed block's houses, metres.
    """

    first: tuple[int, int]
    shape: tuple[int, int]
    half: np.ndarray
    inset_u: np.ndarray
    inset_v: np.ndarray
    length: np.ndarray
    breadth: np.ndarray
    rows: np.ndarray
    count: np.ndarray
    depth: np.ndarray
    park: np.ndarray
    square: np.ndarray
    pond: np.ndarray
    car_park: np.ndarray


@dataclass(frozen=True)
class Lots:
    """Lots: arrays of B * 4 rows * ``columns``. Metres.

    Attributes:
        number: the same for a lot in every raster.
        corner, width: where the lot starts and how wide it is, along its street.
        inwards: 1 where the distance from the street grows northwards, -1 southwards; ``street`` is where it starts.
        left, right, front, back: of the house, from the lot's corner at the street.
        long_front: the house's long edges are its front and back.
        cut: an L, whose missing corner starts at the parts ``cut_p`` and ``cut_q``, ``mirrored`` or not.
        wing: the house reaches further into the court.
        built: not left empty.
        slope: of the roof, 0 = flat; ``hip``: falls to all sides; ``plant``: a flat roof with a lift house.
        hedge: its height, 0 = none.
        drive: where along the street, as a part; far from all places where there is none.
    """

    columns: int
    number: np.ndarray
    corner: np.ndarray
    width: np.ndarray
    inwards: np.ndarray
    street: np.ndarray
    left: np.ndarray
    right: np.ndarray
    front: np.ndarray
    back: np.ndarray
    long_front: np.ndarray
    cut: np.ndarray
    cut_p: np.ndarray
    cut_q: np.ndarray
    mirrored: np.ndarray
    wing: np.ndarray
    built: np.ndarray
    eaves: np.ndarray
    slope: np.ndarray
    hip: np.ndarray
    plant: np.ndarray
    hedge: np.ndarray
    garden: np.ndarray
    drive: np.ndarray
    paved_drive: np.ndarray


@dataclass(frozen=True)
class Paint:
    """Colours before light (0-255) and brightness of all surfaces, red, green, blue and brightness: 4 x K, and where in it each lies.

    Attributes:
        start: by class, of what lies inside blocks; ``per_lot`` and ``per_block`` say what is counted from there.
        pavement, road, lane: by street number, 4 x S; a street of the second family has its axis's number + 1000.
        lanes: which streets have a cycle lane.
        soft: brightness of soft ground, by lot.
    """

    table: np.ndarray
    start: np.ndarray
    per_lot: np.ndarray
    per_block: np.ndarray
    pavement: np.ndarray
    road: np.ndarray
    lane: np.ndarray
    lanes: np.ndarray
    soft: np.ndarray


def _choose(palette: Palette, share: np.ndarray, brightness: np.ndarray | float = 1.0) -> np.ndarray:
    """Colours by shares 0-1, and their brightness; 4 x K."""
    colours = np.array(palette, np.float32)[(share * len(palette)).astype(np.int64)].T
    return np.concatenate([colours, np.broadcast_to(np.float32(brightness), (1, len(share)))])


def blocks(plan: Plan, bounds: tuple[tuple[float, float], tuple[float, float]]) -> Blocks:
    """The blocks that a raster may show, whose street coordinates lie within ``bounds`` (low and high of each, metres)."""
    s, h = plan.style, plan.hash
    (first_u, last_u), (first_v, last_v) = (
        tuple(int(np.clip(np.searchsorted(axis, value) - 1, 0, len(axis) - 2)) for value in bound)
        for axis, bound in zip((plan.u, plan.v), bounds, strict=True)
    )
    shape = last_u - first_u + 1, last_v - first_v + 1
    iu, iv = (index.reshape(-1) for index in np.mgrid[first_u : last_u + 1, first_v : last_v + 1])
    half = np.stack([
        plan.half_u[iu] * plan.present_u[iu, iv], plan.half_u[iu + 1] * plan.present_u[iu + 1, iv],
        plan.half_v[iv] * plan.present_v[iv, iu], plan.half_v[iv + 1] * plan.present_v[iv + 1, iu],
    ])  # fmt: skip
    # A block's interior starts behind the pavement.
    inset = np.where(half > 0, half + h.between(s.pavement, 2, iu, iv), np.float32(0.6))
    length = plan.u[iu + 1] - plan.u[iu] - inset[0] - inset[1]
    breadth = plan.v[iv + 1] - plan.v[iv] - inset[2] - inset[3]
    if s.plan == "perimeter":
        side = np.arange(ROWS)
        total = np.where(side < 2, length[:, None], breadth[:, None])
        count = np.maximum(1, np.round(total / h.between(s.lot, 20, iu[:, None], iv[:, None], side)))
    else:
        count = np.maximum(1, np.round(length / h.between(s.lot, 20, iu, iv)))[:, None].repeat(ROWS, 1)
    kind = h(3, iu, iv)
    return Blocks(
        first=(first_u, first_v), shape=shape, half=half, inset_u=inset[0], inset_v=inset[2],
        length=length, breadth=breadth,
        rows=np.where(breadth > 2.2 * s.depth[0] + 2 * s.setback[0], 2, 1).astype(np.float32), count=count,
        depth=np.minimum(h.between(s.depth, 21, iu, iv), np.minimum(length, breadth) * 0.42),
        park=kind < s.park, square=(kind >= s.park) & (kind < s.park + s.square), pond=h(4, iu, iv) < 0.3 + s.water,
        car_park=h(16, iu, iv) >= 0.5,
    )  # fmt: skip


def lots(plan: Plan, b: Blocks) -> Lots:
    """The lots of these blocks."""
    s, h = plan.style, plan.hash
    columns = int(b.count.max())
    block, row, column = (index.reshape(-1) for index in np.mgrid[: len(b.length), :ROWS, :columns])
    iu, iv = b.first[0] + block // b.shape[1], b.first[1] + block % b.shape[1]
    closed = s.plan == "perimeter"
    lot = ((iu * 1024 + iv) * 4 + (row if closed else row - 2)) * 64 + column
    width = np.where(closed & (row >= 2), b.breadth[block], b.length[block]) / b.count[block, row]
    left, right = h.between(s.side, 21, lot), width - h.between(s.side, 22, lot)
    front = h.between(s.setback, 23, lot)
    back = np.minimum(front + h.between(s.depth, 24, lot), b.breadth[block] / b.rows[block] - 0.5)
    narrow = (h(25, lot) < 0.25) & (right - left > 12)
    right = np.where(narrow, left + (right - left) * 0.7, right).astype(np.float32)

    floors = np.floor(h.between((s.floors[0], s.floors[1] + 1), 6, lot))
    if s.plan == "towers":  # few are tall
        floors = np.floor(s.floors[0] + (s.floors[1] - s.floors[0]) * h(6, lot) ** 2.2)
    if s.plan == "lots" and s.pitched < 0.5:  # neighbours of a block are of similar height
        storeys = h.between((s.floors[0], s.floors[1] + 1), 30, iu, iv) + h.between((-1.5, 1.5), 6, lot)
        floors = np.clip(np.floor(storeys), s.floors[0], s.floors[1] + 1)
    pitched = h(8, lot) < s.pitched
    return Lots(
        columns=columns, number=lot, corner=column.astype(np.float32) * width, width=width,
        inwards=np.where(row == 2, 1, -1).astype(np.float32), street=np.where(row == 2, 0, b.breadth[block]).astype(np.float32),
        left=left, right=right, front=front, back=back, long_front=(right - left) > (back - front),
        cut=h(28, lot) < 0.45, cut_p=h.between((0.4, 0.75), 26, lot), cut_q=h.between((0.4, 0.75), 27, lot), mirrored=h(29, lot) >= 0.5,
        wing=h(22, lot) < 0.3, built=h(5, lot) >= s.empty, eaves=floors * h.between(s.floor_height, 7, lot) + 0.4,
        slope=np.where(pitched, h.between((0.45, 1.1), 10, lot), 0).astype(np.float32), hip=h(9, lot) < 0.35,
        plant=~pitched & (h(11, lot) < 0.6), hedge=np.where(h(12, lot) < s.hedges, h.between((0.9, 1.9), 14, lot), 0).astype(np.float32),
        garden=h(15, lot) < (0.85 if s.ground == GRASS else 0.35),
        drive=np.where(h(17, lot) < 0.5, h.between((0.2, 0.8), 18, lot), 99).astype(np.float32), paved_drive=h(19, lot) < 0.5,
    )  # fmt: skip


def paint(plan: Plan, b: Blocks, lot: Lots) -> Paint:
    """What the surfaces of these blocks and lots, and of all streets, are painted with."""
    s, h, number = plan.style, plan.hash, lot.number
    soft = 0.85 + 0.3 * h(33, number)
    roof = np.where(lot.slope > 0, _choose(s.roofs, h(34, number)), _choose(s.flat_roofs, h(35, number)))
    roof[:3] *= 0.85 + 0.3 * h(36, number)
    block = (b.first[0] + np.arange(b.shape[0])[:, None]) * 1024 + b.first[1] + np.arange(b.shape[1])
    block = block.reshape(-1)
    parts: dict[int, np.ndarray] = {
        GRASS: _choose(LAWNS, h(40 + GRASS, number), soft), PAVEMENT: _choose(PAVINGS, h(40 + PAVEMENT, number), soft),
        BARE: _choose(YARDS, h(40 + BARE, number), soft), ROOF: roof, PLAZA: _choose(PAVINGS, h(40 + PLAZA, block)),
        ROAD: _choose(ASPHALTS, h(40 + ROAD, block), 0.85 + 0.3 * h(32, block)),
        **{kind: np.array([[*SURFACE_RGB[kind], 1]], np.float32).T for kind in (MARKING, WATER, HEDGE)},
    }  # fmt: skip
    start, per_lot, per_block = (np.zeros(len(CLASSES), np.int64) for _ in range(3))
    start[list(parts)] = np.cumsum([0, *(part.shape[1] for part in parts.values())])[:-1]
    per_lot[[GRASS, PAVEMENT, BARE, ROOF]], per_block[[PLAZA, ROAD]] = 1, 1
    street = -np.arange(1000 + len(plan.v) + 2)
    tone = 0.85 + 0.3 * h(32, street)
    return Paint(
        table=np.concatenate(list(parts.values()), 1), start=start, per_lot=per_lot, per_block=per_block,
        pavement=_choose(PAVINGS, h(40 + PAVEMENT, street)), road=_choose(ASPHALTS, h(40 + ROAD, street), tone),
        lane=_choose(CYCLE_LANES, h(38, street), tone), lanes=h(37, -street) < 0.25, soft=soft,
    )  # fmt: skip
