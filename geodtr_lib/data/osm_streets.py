"""Roads of an extract: widths, pavements, lane marks and crossings, where a camera may stand and where vehicles are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from geodtr_lib.data.osm_features import Road
from geodtr_lib.data.osm_surfaces import MATERIAL_INDEX
from geodtr_lib.data.polygon_fill import fill, paint

PARKING_LANE = 2.1  # metres
_CAR_SPACING = 6.0  # metres from car to car at the kerb
_DRIVING_SPACING = 50.0


@dataclass(frozen=True)
class RoadClass:
    """What the map leaves out of a road of this class. Widths in metres."""

    lane: float  # width of a lane; of the whole way where ``lanes`` is 0
    lanes: int
    pavement: tuple[float, float] = (0.0, 0.0)  # beside it, drawn
    marked: bool = False
    kerb_parking: float = 0.0  # probability on each side
    street: bool = True  # a camera may drive or be carried here
    material: str = "asphalt"


ROAD_CLASSES: dict[str, RoadClass] = {
    "motorway": RoadClass(3.75, 2, marked=True),
    "trunk": RoadClass(3.5, 2, (1.5, 3.0), marked=True),
    "primary": RoadClass(3.3, 2, (2.5, 4.5), marked=True, kerb_parking=0.1),
    "secondary": RoadClass(3.2, 2, (2.5, 4.5), marked=True, kerb_parking=0.2),
    "tertiary": RoadClass(3.1, 2, (2.0, 4.0), marked=True, kerb_parking=0.5),
    "unclassified": RoadClass(2.9, 2, (1.8, 3.5), kerb_parking=0.5),
    "residential": RoadClass(2.8, 2, (1.8, 3.5), kerb_parking=0.7),
    "road": RoadClass(2.8, 2, (1.5, 3.0)),
    "living_street": RoadClass(5.0, 0, (1.0, 2.0), kerb_parking=0.4, material="paving"),
    "pedestrian": RoadClass(6.0, 0, (0.0, 2.0), material="paving"),
    "busway": RoadClass(3.5, 1),
    "service": RoadClass(3.6, 0),
    "track": RoadClass(2.8, 0, street=False, material="gravel"),
    "cycleway": RoadClass(2.2, 0, street=False, material="path"),
    "footway": RoadClass(2.0, 0, street=False, material="pavement"),
    "steps": RoadClass(2.0, 0, street=False, material="pavement"),
    "path": RoadClass(1.6, 0, street=False, material="path"),
    "bridleway": RoadClass(2.0, 0, street=False, material="gravel"),
    "platform": RoadClass(3.0, 0, street=False, material="pavement"),
}
_SURFACE_MATERIALS = (
    ({"sett", "cobblestone", "unhewn_cobblestone"}, {"asphalt": "cobbles", "pavement": "path", "paving": "cobbles"}),
    ({"paving_stones", "bricks", "concrete:plates"}, {"asphalt": "paving"}),
    ({"unpaved", "gravel", "fine_gravel", "compacted", "pebblestone"}, {"asphalt": "gravel", "pavement": "gravel", "path": "gravel"}),
    ({"ground", "dirt", "earth", "grass", "sand"}, {"asphalt": "gravel", "pavement": "bare", "path": "bare"}),
)  # fmt: skip


def road_class(kind: str) -> RoadClass | None:
    """The class of a ``highway`` value, or None for what is not drawn (construction, corridors, race tracks)."""
    if kind.endswith("_link"):
        main = ROAD_CLASSES.get(kind.removesuffix("_link"))
        return main and RoadClass(main.lane, 1, main.pavement, street=main.street)
    return ROAD_CLASSES.get(kind)


@dataclass(frozen=True)
class Streets:
    """Roads that are drawn, with nothing left open: N rows, metres."""

    roads: list[Road]
    classes: list[RoadClass]
    lines: np.ndarray
    width: np.ndarray  # kerb to kerb
    lanes: np.ndarray  # number of marked lanes; 0 = one undivided way
    lane_width: np.ndarray
    parking: np.ndarray  # N x 2, 1 where cars stand at the right and left kerb
    pavement: np.ndarray  # width on each side

    def where(self, wanted: Iterable[bool]) -> np.ndarray:
        """Row numbers of a condition per road."""
        return np.flatnonzero(np.fromiter(wanted, bool, len(self.roads)))


def draw_streets(roads: Sequence[Road], rng: np.random.Generator) -> Streets:
    """Decide every width; what is drawn is the same along a street, which the map cuts into many ways."""
    known = [(road, kind) for road in roads if (kind := road_class(road.kind)) is not None]
    kept, classes = [road for road, _ in known], [kind for _, kind in known]
    _, street = np.unique([road.name or road.osm_id for road in kept], return_inverse=True)
    draw = rng.random((4, int(street.max(initial=0)) + 1))[:, street]
    lanes = np.array([0 if not c.lanes else round(r.lanes) if r.lanes else max(1, c.lanes // (2 if r.oneway else 1)) for r, c in known])
    lane_width = np.array([c.lane for c in classes]) * (0.95 + 0.15 * draw[0])
    width = lane_width * np.maximum(lanes, 1)
    parking = draw[1:3] < np.array([c.kerb_parking for c in classes])
    parking[1] = np.where([c.marked for c in classes], parking[0], parking[1])  # the line between the lanes stays on the axis
    width += PARKING_LANE * parking.sum(0)
    measured = np.array([r.width or np.nan for r in kept])
    # A mapped width is the whole carriageway; it has room for parked cars only beside two lanes of driving.
    parking &= np.isnan(measured) | (measured > 5.2 + PARKING_LANE * parking.sum(0))
    width = np.where(np.isnan(measured), width, measured)
    lane_width = np.minimum(lane_width, (width - PARKING_LANE * parking.sum(0)) / np.maximum(lanes, 1))
    low, high = np.array([c.pavement for c in classes]).reshape(-1, 2).T
    lines = np.array([road.line for road in kept], object)
    return Streets(kept, classes, lines, width, lanes, lane_width, parking.T.astype(int), low + (high - low) * draw[3])


def along(lines: np.ndarray, spacing: float, inset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Evenly spaced points on lines, about ``spacing`` metres apart and ``inset`` metres from the ends.

    Returns:
        line number, x, y (metres), and the unit vector east, north of the line's direction there; P values each.
    """
    length = shapely.length(lines) - 2 * inset
    count = np.where(length > 0, np.maximum(1, np.round(length / spacing)), 0).astype(np.int64)
    line = np.repeat(np.arange(len(lines)), count)
    step = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)
    distance = inset + (step + 0.5) * length[line] / np.maximum(count[line], 1)
    x, y = _positions(lines[line], distance)
    x0, y0 = _positions(lines[line], np.maximum(distance - 0.5, 0))
    x1, y1 = _positions(lines[line], distance + 0.5)  # beyond the end means the end
    norm = np.maximum(np.hypot(x1 - x0, y1 - y0), 1e-9)
    return line, x, y, (x1 - x0) / norm, (y1 - y0) / norm


def _positions(lines: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = shapely.line_interpolate_point(lines, distance)
    return shapely.get_x(points), shapely.get_y(points)


def paint_roads(material: np.ndarray, streets: Streets, resolution: float) -> None:
    """Pavements, then ways for people, then carriageways, into the raster of materials, in place."""
    beside = np.flatnonzero(streets.pavement > 0)
    kerbs = shapely.buffer(streets.lines[beside], streets.width[beside] / 2 + streets.pavement[beside], quad_segs=3)
    paint(material, kerbs, resolution, MATERIAL_INDEX["pavement"])
    looks = [_material(road.surface, kind.material) for road, kind in zip(streets.roads, streets.classes, strict=True)]
    ways = shapely.buffer(streets.lines, streets.width / 2, quad_segs=3)
    for vehicles in (False, True):
        for name in sorted(set(looks)):
            chosen = streets.where(look == name and kind.street == vehicles for look, kind in zip(looks, streets.classes, strict=True))
            paint(material, ways[chosen], resolution, MATERIAL_INDEX[name])


def _material(surface: str, usual: str) -> str:
    for surfaces, replaced in _SURFACE_MATERIALS:
        if surface in surfaces:
            return replaced.get(usual, usual)
    return usual


def paint_marks(material: np.ndarray, streets: Streets, crossings: Sequence[tuple[float, float]], resolution: float) -> None:
    """Dashes between lanes and zebra crossings, on carriageways only, in place. A mark is at least a pixel wide."""
    mark = max(0.15, resolution)
    marked = streets.where(kind.marked and lanes >= 2 for kind, lanes in zip(streets.classes, streets.lanes, strict=True))
    line, x, y, east, north = along(streets.lines[marked], 9.0)
    road = marked[line]
    gaps = streets.lanes[road] - 1
    dash = np.repeat(np.arange(len(road)), gaps)
    gap = np.arange(len(dash)) - np.repeat(np.cumsum(gaps) - gaps, gaps) + 1
    aside = _lane_edge(streets, road[dash], gap)
    shapes = [_strokes(x[dash] + aside * north[dash], y[dash] - aside * east[dash], east[dash], north[dash], 3.0, mark)]

    drivable = streets.where(kind.street and kind.material == "asphalt" for kind in streets.classes)
    if len(crossings) and len(drivable):
        points = shapely.points(np.array(crossings))
        crossing, nearest = shapely.STRtree(streets.lines[drivable]).query_nearest(points, max_distance=1.0, all_matches=False)
        road = drivable[nearest]
        place = shapely.line_locate_point(streets.lines[road], points[crossing])
        x0, y0 = _positions(streets.lines[road], np.maximum(place - 1, 0))
        x1, y1 = _positions(streets.lines[road], place + 1)
        norm = np.maximum(np.hypot(x1 - x0, y1 - y0), 1e-9)
        east, north = (x1 - x0) / norm, (y1 - y0) / norm
        period = 2 * max(0.5, resolution)
        count = np.maximum((streets.width[road] / period).astype(np.int64), 1)
        stripe = np.repeat(np.arange(len(road)), count)
        aside = (np.arange(len(stripe)) - np.repeat(np.cumsum(count) - count, count) + 0.5 - count[stripe] / 2) * period
        x, y = shapely.get_x(points)[crossing][stripe], shapely.get_y(points)[crossing][stripe]
        shapes.append(_strokes(x + aside * north[stripe], y - aside * east[stripe], east[stripe], north[stripe], 3.0, period / 2))
    window, mask = fill(np.concatenate(shapes), (material.shape[0], material.shape[1]), resolution)
    carriageway = np.isin(material[window], [MATERIAL_INDEX["asphalt"], MATERIAL_INDEX["cobbles"]])
    material[window][mask & carriageway] = MATERIAL_INDEX["marking"]


def _lane_edge(streets: Streets, road: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Metres to the right of the axis of the ``edge``-th boundary of lanes, counted from the left."""
    right, left = streets.parking[road].T * PARKING_LANE
    return np.asarray((left - right) / 2 + (edge - streets.lanes[road] / 2) * streets.lane_width[road])


def _strokes(x: np.ndarray, y: np.ndarray, east: np.ndarray, north: np.ndarray, length: float, width: float) -> np.ndarray:
    """Rectangles centred on points, ``length`` metres along the direction and ``width`` across."""
    a, b = length / 2, width / 2
    corners = [(-a, -b), (a, -b), (a, b), (-a, b)]
    ring = np.stack([np.stack([x + s * east + t * north, y + s * north - t * east], -1) for s, t in corners], 1)  # P x 4 x 2
    return np.asarray(shapely.polygons(ring)) if len(ring) else np.array([], object)


def street_points(streets: Streets, spacing: float = 2.0) -> np.ndarray:
    """Points on the axes of streets in the open: x, y (metres), direction (degrees clockwise from north); P x 3.

    Seedless on purpose: every drawing of a town has its cameras in the same places.
    """
    outside = streets.where(kind.street and not road.covered for road, kind in zip(streets.roads, streets.classes, strict=True))
    _, x, y, east, north = along(streets.lines[outside], spacing)
    return np.stack([x, y, np.rad2deg(np.arctan2(east, north)) % 360], 1)


def vehicle_points(streets: Streets) -> np.ndarray:
    """Where vehicles may be: at kerbs with parking, and now and then in a lane (traffic on the right); P x 3 as street points."""
    rows = []
    for side, sign in ((0, 1), (1, -1)):
        parked = np.flatnonzero(streets.parking[:, side])
        line, x, y, east, north = along(streets.lines[parked], _CAR_SPACING, inset=7.0)  # keeps junctions free
        kerb = sign * (streets.width[parked][line] - PARKING_LANE) / 2
        rows.append((x + kerb * north, y - kerb * east, east, north))
    driven = streets.where(kind.street and kind.lanes > 0 for kind in streets.classes)
    line, x, y, east, north = along(streets.lines[driven], _DRIVING_SPACING)
    road = driven[line]
    lanes = np.maximum(streets.lanes[road], 1)
    point = np.repeat(np.arange(len(road)), lanes)
    lane = np.arange(len(point)) - np.repeat(np.cumsum(lanes) - lanes, lanes)
    aside = _lane_edge(streets, road[point], lane + 0.5)
    oneway = np.array([r.oneway for r in streets.roads], bool)[road[point]]
    heading = np.where(oneway | (lane >= lanes[point] / 2), 1, -1)  # lanes left of the middle come towards
    rows.append((x[point] + aside * north[point], y[point] - aside * east[point], heading * east[point], heading * north[point]))
    x, y, east, north = (np.concatenate(column) for column in zip(*rows, strict=True))
    return np.stack([x, y, np.rad2deg(np.arctan2(east, north)) % 360], 1)
