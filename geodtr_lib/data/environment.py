"""Light, season and weather under which a world is seen. Each view draws its own: the two images are never taken together."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        sky: 'day', 'grey' or 'night'.
    """

    sun_altitude: tuple[float, float] = (25.0, 65.0)
    sun_azimuth: tuple[float, float] = (90.0, 270.0)  # northern hemisphere: the sun stands in the south
    direct: tuple[float, float] = (0.1, 0.75)
    exposure: tuple[float, float] = (0.85, 1.15)
    warmth: tuple[float, float] = (-0.06, 0.06)
    saturation: tuple[float, float] = (0.9, 1.1)
    haze: tuple[float, float] = (150.0, 900.0)
    vegetation: tuple[float, float, float, float] = (0.3, 0.5, 0.15, 0.05)
    noise: float = 3.0
    snow: float = 0.0
    sky: str = "day"


ENVIRONMENTS: dict[str, Environment] = {
    "clear": Environment(),
    "overcast": Environment(direct=(0.0, 0.05), sky="grey"),
    "low_sun": Environment(sun_altitude=(6.0, 14.0), direct=(0.7, 0.9)),
    "night": Environment(direct=(0.0, 0.0), exposure=(0.15, 0.3), noise=10.0, sky="night"),
    "fog": Environment(direct=(0.0, 0.0), haze=(15.0, 40.0), sky="grey"),
    "rain": Environment(direct=(0.0, 0.05), exposure=(0.6, 0.8), haze=(80.0, 200.0), noise=6.0, sky="grey"),
    "snow": Environment(direct=(0.0, 0.3), vegetation=(0.0, 0.0, 0.0, 1.0), snow=0.85, sky="grey"),
    "autumn": Environment(vegetation=(0.0, 0.0, 1.0, 0.0)),
}

# Foliage and grass tints of spring, summer, autumn, winter: factors on the colour before light.
SEASON_TINT = np.array([(1.05, 1.15, 0.85), (0.95, 1.0, 0.9), (1.3, 1.0, 0.72), (1.15, 1.0, 0.95)], np.float32)

SKY_RGB: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {  # zenith, horizon
    "day": ((96, 142, 206), (196, 212, 228)),
    "grey": ((158, 164, 172), (200, 203, 206)),
    "night": ((18, 22, 40), (56, 52, 60)),
}


def environment(name: str) -> Environment:
    """An environment by name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in ENVIRONMENTS:
        raise ConfigError(f"environment: {name!r} is not known; allowed: {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]


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
    tint = SEASON_TINT[season] * rng.uniform(0.96, 1.04, (n, 3)).astype(np.float32)
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
