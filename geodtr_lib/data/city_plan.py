"""The street plan of a procedural city: a warped, irregular grid with missing segments, and where vehicles and cameras may stand on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from geodtr_lib.data.city_styles import Style
from geodtr_lib.data.world import CAR_LENGTH

DISTRICT_PITCH = 1400.0  # metres between the corners of neighbouring districts: they share no ground
DISTRICTS = 64
REACH = 16_000.0  # metres around the origin for which the street plan is drawn
MARGIN = 140.0  # metres of city around the square in which cameras stand, so that streets go on in view


class Hash:
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
            angle = np.float32(a) * x + np.float32(b) * y
            angle += np.float32(p)
            total += np.sin(angle, out=angle)
        total /= np.float32(len(kx) ** 0.5)
        return total

    return wave


def _lines(bounds: tuple[float, float], extent: float, rng: np.random.Generator) -> np.ndarray:
    """Irregularly spaced street axes that cover -extent..extent."""
    steps = rng.uniform(*bounds, int(2 * extent / bounds[0]) + 2)
    return (np.cumsum(steps) - extent).astype(np.float32)


class Plan:
    """The street plan of one city: warp, axes, widths, missing segments. Positions are relative to the district's corner."""

    def __init__(self, s: Style, seed: int, district: int) -> None:
        self.corner = tuple(np.float32(DISTRICT_PITCH * part) for part in (district % 8, district // 8))  # metres east and north
        rng = np.random.default_rng([seed, 1])
        self.style, self.hash = s, Hash(seed)
        self.turn = rng.uniform(0, np.pi / 2)
        self.warp_u, self.warp_v = (_waves(rng, (310.0, 190.0, 430.0)) for _ in range(2))
        self.hill = _waves(rng, (520.0, 370.0, 810.0))
        self.tone = _waves(rng, (23.0, 11.0, 37.0, 5.3))
        self.u, self.v = _lines(s.block_u, REACH, rng), _lines(s.block_v, REACH, rng)
        self._bins = self._bin(self.u), self._bin(self.v)
        self.half_u, self.half_v = (self._widths(len(lines), rng) for lines in (self.u, self.v))
        # present[k, j]: the segment of axis k between the cross axes j and j + 1
        self.present_u = rng.random((len(self.u), len(self.v))) >= s.missing
        self.present_v = rng.random((len(self.v), len(self.u))) >= s.missing
        self.present_u[:: s.avenue_every] = True  # avenues run through
        self.present_v[:: s.avenue_every] = True

    def block(self, family: int, place: np.ndarray) -> np.ndarray:
        """Number of the last axis of a family (0 or 1) before each street coordinate, looked up in bins that hold one axis at most."""
        lines, (low, step, before) = (self.u, self.v)[family], self._bins[family]
        first = np.take(before, ((place - np.float32(low)) * np.float32(1 / step)).astype(np.int64), mode="clip")
        first -= np.take(lines, first, mode="clip") >= place
        return first

    @staticmethod
    def _bin(lines: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Start and width of bins, and how many axes lie before each; they count from a little ahead of it, to be safe from rounding."""
        step = float(np.diff(lines).min()) / 2
        low = float(lines[0]) - step
        bins = low + step * np.arange(int((float(lines[-1]) - low) / step) + 2)
        return low, step, np.searchsorted(lines, bins - step / 10)

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

    def bounds(self, extent: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Street coordinates (low and high of each) between which a square of ``extent`` metres lies."""
        c, s = float(np.cos(self.turn)), float(np.sin(self.turn))
        x, y = ([float(low), float(low) + extent] for low in self.corner)
        reach = 1 + self.style.warp * 3**0.5 * (abs(c) + abs(s))  # three waves of amplitude 3 ** -0.5; a metre for rounding
        u, v = ([c * a + s * b for a in x for b in y], [c * b - s * a for a in x for b in y])
        return (min(u) - reach, max(u) + reach), (min(v) - reach, max(v) + reach)

    def terrain(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.float32(self.style.hills) * (1.6 + self.hill(x + self.corner[0], y + self.corner[1]))


def street_points(plan: Plan, s: Style, seed: list[int], extent: float) -> tuple[np.ndarray, np.ndarray]:
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


def _from_street_coordinates(plan: Plan, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert the warp by fixed-point iteration; it is a contraction, since the warp bends slowly."""
    c, s = np.float32(np.cos(plan.turn)), np.float32(np.sin(plan.turn))
    xw, yw = c * u - s * v, s * u + c * v
    x, y = xw, yw
    for _ in range(12):
        x, y = xw - plan.style.warp * plan.warp_u(x, y), yw - plan.style.warp * plan.warp_v(x, y)
    return x - plan.corner[0], y - plan.corner[1]
