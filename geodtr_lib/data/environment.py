"""Light, season and weather under which a world is seen. Each view draws its own: the two images are never taken together.

An environment is called by its name, ``fog``, or by a name and a strength from 0 to 1, ``fog:0.5``. With a strength only what makes the
change is changed, and as far as the strength says; everything else, such as a city's own light and season, stays. At 0 every pixel is as
without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from geodtr_lib.errors import ConfigError


@dataclass(frozen=True)
class Environment:
    """Ranges from which a capture is drawn.

    Attributes:
        sun_altitude: degrees above the horizon (low, high).
        sun_azimuth: degrees clockwise from north (low, high).
        direct: share of direct sunlight, 0 (overcast) - 1 (low, high).
        exposure: overall brightness factor (low, high).
        warmth: white balance, red up and blue down by this share (low, high); negative is cold.
        saturation: factor on the distance from grey (low, high).
        haze: visibility in metres (low, high); the distance at which contrast falls to 1/e.
        vegetation: weights of the seasons' foliage tints (spring, summer, autumn, winter).
        noise: standard deviation of sensor noise in grey levels, 0-255.
        snow: share of horizontal surfaces that are white, 0-1.
        sky: 'day', 'grey' or 'night', or 'day>night:0.3' for 0.3 of the way.
        season: 'spring', 'summer', 'autumn' or 'winter', to which foliage is tinted as far as ``season_share`` says.
        season_share: 0-1.
    """

    sun_altitude: tuple[float, float] = (25.0, 65.0)
    sun_azimuth: tuple[float, float] = (90.0, 270.0)  # the sun stands in the south; see SOUTHERN_SUN
    direct: tuple[float, float] = (0.1, 0.75)
    exposure: tuple[float, float] = (0.85, 1.15)
    warmth: tuple[float, float] = (-0.06, 0.06)
    saturation: tuple[float, float] = (0.9, 1.1)
    haze: tuple[float, float] = (150.0, 900.0)
    vegetation: tuple[float, float, float, float] = (0.3, 0.5, 0.15, 0.05)
    noise: float = 3.0
    snow: float = 0.0
    sky: str = "day"
    season: str = "summer"
    season_share: float = 0.0


SOUTHERN_SUN = (-90.0, 90.0)
"""``sun_azimuth`` south of the equator, where the sun stands in the north."""

ENVIRONMENTS: dict[str, Environment] = {
    "clear": Environment(),
    "overcast": Environment(direct=(0.0, 0.05), sky="grey"),
    "low_sun": Environment(sun_altitude=(6.0, 14.0), direct=(0.7, 0.9)),
    "night": Environment(direct=(0.0, 0.0), exposure=(0.15, 0.3), noise=10.0, sky="night"),
    "fog": Environment(direct=(0.0, 0.0), haze=(15.0, 40.0), sky="grey"),
    "rain": Environment(direct=(0.0, 0.05), exposure=(0.6, 0.8), haze=(80.0, 200.0), noise=6.0, sky="grey"),
    "snow": Environment(direct=(0.0, 0.3), vegetation=(0.0, 0.0, 0.0, 1.0), snow=0.85, sky="grey"),
    "autumn": Environment(vegetation=(0.0, 0.0, 1.0, 0.0)),
    "winter": Environment(vegetation=(0.0, 0.0, 0.0, 1.0)),
    "spring": Environment(vegetation=(1.0, 0.0, 0.0, 0.0)),
    "sensor_noise": Environment(noise=50.0),
}

SEASONS = ("spring", "summer", "autumn", "winter")

# Foliage and grass tints of spring, summer, autumn, winter: factors on the colour before light.
SEASON_TINT = np.array([(1.05, 1.15, 0.85), (0.95, 1.0, 0.9), (1.3, 1.0, 0.72), (1.15, 1.0, 0.95)], np.float32)

Sky = tuple[tuple[float, float, float], tuple[float, float, float]]


class _Skies(dict[str, Sky]):
    """Colours of skies by name, and of those between two: 'day>night:0.3'."""

    def __missing__(self, name: str) -> Sky:
        if ">" not in name:
            raise KeyError(name)
        between, _, share = name.partition(":")
        start, _, end = between.partition(">")
        (zenith, horizon), (other_zenith, other_horizon) = self[start], self[end]
        part = float(share)
        return _mixed(zenith, other_zenith, part), _mixed(horizon, other_horizon, part)


SKY_RGB: dict[str, Sky] = _Skies({  # zenith, horizon
    "day": ((96, 142, 206), (196, 212, 228)),
    "grey": ((158, 164, 172), (200, 203, 206)),
    "night": ((18, 22, 40), (56, 52, 60)),
})  # fmt: skip


def _mixed(first: Any, second: Any, share: float) -> Any:
    return tuple((1 - share) * a + share * b for a, b in zip(first, second, strict=True))


def environment(name: str, climate: Environment | None = None) -> Environment:
    """An environment by name, or by name and strength (``fog:0.5``).

    Args:
        name: of ``ENVIRONMENTS``, with or without ``:strength``.
        climate: what a strength starts from; None = ``clear``. A name without a strength is what the table says, whatever the climate,
            but for the side of the sky that the sun stands on, which is a place's own.

    Raises:
        ConfigError: unknown name, or a strength outside 0 to 1.
    """
    head, separator, text = name.partition(":")
    if head not in ENVIRONMENTS:
        allowed = f"{', '.join(ENVIRONMENTS)}, each also with a strength from 0 to 1, as fog:0.5"
        raise ConfigError(f"environment: {head!r} is not known; allowed: {allowed}")
    if not separator:
        return ENVIRONMENTS[head] if climate is None else replace(ENVIRONMENTS[head], sun_azimuth=climate.sun_azimuth)
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= 1:
        raise ConfigError(f"environment: {name!r} has the strength {text!r}; allowed: a number from 0 to 1")
    return weakened(ENVIRONMENTS[head], strength, climate or Environment())


def weakened(target: Environment, strength: float, climate: Environment) -> Environment:
    """The way from a climate to an environment, as far as ``strength`` (0-1) says, in what the environment changes of ``clear``.

    Every range keeps a width, so that all strengths draw the same numbers of the same generator.
    """
    if strength == 0:
        return climate
    plain = Environment()
    changes: dict[str, Any] = {}
    for item in fields(Environment):
        start, end = getattr(climate, item.name), getattr(target, item.name)
        if end == getattr(plain, item.name):
            continue
        if item.name == "vegetation":
            changes["season"], changes["season_share"] = SEASONS[int(np.argmax(end))], strength
        elif item.name == "sky":
            changes["sky"] = f"{start}>{end}:{strength:g}"
        elif item.name == "haze":  # drawn by its logarithm
            changes["haze"] = tuple(math.exp(value) for value in _mixed([math.log(v) for v in start], [math.log(v) for v in end], strength))
        elif isinstance(end, tuple):
            low, high = _mixed(start, end, strength)
            changes[item.name] = (low, max(high, low + 1e-9))
        else:
            changes[item.name] = (1 - strength) * start + strength * end
    return replace(climate, **changes)


@dataclass(frozen=True)
class Captures:
    """What was drawn for N images: arrays of N rows."""

    sun_azimuth: np.ndarray  # degrees clockwise from north
    sun_altitude: np.ndarray  # degrees
    direct: np.ndarray  # 0-1
    exposure: np.ndarray
    haze: np.ndarray  # metres
    tint: np.ndarray  # N x 3, factors on foliage and grass
    warmth: np.ndarray
    saturation: np.ndarray


def draw_campaign(env: Environment, rng: np.random.Generator) -> Environment:
    """One survey of a world: a street-view car drives it in one season, within some hours, with one camera.

    What an environment ranges over narrows to a part of it, so images of one campaign look alike and those of another differ.
    """

    def part_of(bounds: tuple[float, float], share: float) -> tuple[float, float]:
        width = (bounds[1] - bounds[0]) * share
        low = rng.uniform(bounds[0], bounds[1] - width) if bounds[1] > bounds[0] else bounds[0]
        return float(low), float(low + width)

    season = rng.choice(4, p=np.asarray(env.vegetation) / np.sum(env.vegetation))
    return replace(
        env,
        sun_altitude=part_of(env.sun_altitude, 0.4),
        sun_azimuth=part_of(env.sun_azimuth, 0.5),
        direct=part_of(env.direct, 0.5),
        exposure=part_of(env.exposure, 0.4),
        haze=part_of(env.haze, 0.4),
        warmth=part_of(env.warmth, 0.25),
        saturation=part_of(env.saturation, 0.25),
        vegetation=(float(season == 0), float(season == 1), float(season == 2), float(season == 3)),
    )


def draw_captures(env: Environment, n: int, rng: np.random.Generator) -> Captures:
    """Draw the light and season of N images."""
    weights = np.asarray(env.vegetation) / np.sum(env.vegetation)
    season = rng.choice(4, size=n, p=weights)
    foliage = SEASON_TINT[season]
    if env.season_share:
        foliage = (1 - env.season_share) * foliage + env.season_share * SEASON_TINT[SEASONS.index(env.season)]
    tint = foliage * rng.uniform(0.96, 1.04, (n, 3)).astype(np.float32)
    return Captures(
        sun_azimuth=rng.uniform(*env.sun_azimuth, n),
        sun_altitude=rng.uniform(*env.sun_altitude, n),
        direct=rng.uniform(*env.direct, n),
        exposure=rng.uniform(*env.exposure, n),
        haze=np.exp(rng.uniform(np.log(env.haze[0]), np.log(env.haze[1]), n)),
        tint=tint,
        warmth=rng.uniform(*env.warmth, n),
        saturation=rng.uniform(*env.saturation, n),
    )


def develop(planes: np.ndarray, captures: Captures, part: slice = slice(None)) -> None:
    """Exposure, white balance and saturation of the camera, in place.

    Args:
        planes: 3 x N x ..., float32, 0-255: red, green and blue of N images.
        part: which of the captures took them.
    """
    shape = (-1, *[1] * (planes.ndim - 2))
    warmth, exposure, saturation = (values[part].reshape(shape) for values in (captures.warmth, captures.exposure, captures.saturation))
    grey = (planes[0] + planes[1] + planes[2]) / np.float32(3)
    saturation = saturation.astype(np.float32)
    for plane, balance in zip(planes, (exposure * (1 + warmth), exposure, exposure * (1 - warmth)), strict=True):
        plane -= grey
        plane *= saturation
        plane += grey
        plane *= balance.astype(np.float32)
