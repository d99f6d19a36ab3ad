"""Localization in metres: how far the tile that is found lies from where the panorama was taken, with intervals and the level of chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyproj import Geod
from scipy import stats

from geodtr_lib.evaluation.protocols import recall_interval

RADII = (10.0, 25.0, 50.0)  # metres
QUANTILES = (0.5, 0.9)
_EARTH = Geod(ellps="WGS84")


def metres_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Geodesic distances in metres on WGS84 between positions of latitude and longitude in degrees, ... x 2 each, broadcast."""
    first, second = np.broadcast_arrays(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    _, _, metres = _EARTH.inv(first[..., 1], first[..., 0], second[..., 1], second[..., 0])
    return np.asarray(metres)


def quantile_interval(values: np.ndarray, quantile: float, level: float = 0.95) -> tuple[float, float, float]:
    """A quantile of a sample and its interval, which assumes nothing of the distribution.

    The interval runs between the order statistics whose ranks enclose the quantile with probability ``level`` (binomial). Where the
    sample is too small for one end, that end is the smallest or the largest value.

    Args:
        values: n numbers.
        quantile: in (0, 1).

    Returns:
        The quantile, low, high.

    Raises:
        ValueError: no values, or a quantile that is not between 0 and 1.
    """
    if not len(values) or not 0 < quantile < 1:
        raise ValueError(f"a quantile {quantile} of {len(values)} values has no interval")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    low, high = stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], len(ordered), quantile)
    return (
        float(np.quantile(ordered, quantile)),
        float(ordered[max(0, int(low) - 1)]),
        float(ordered[min(len(ordered) - 1, int(high))]),
    )


def error_table(
    errors: np.ndarray, distances: np.ndarray, radii: Sequence[float] = RADII, quantiles: Sequence[float] = QUANTILES
) -> pd.DataFrame:
    """Errors in metres as quantiles and as recalls within radii, each with its 95 % interval, with chance and the best possible beside.

    Args:
        errors: N, metres from each query to the reference that it found.
        distances: N x M, metres from each query to every reference.
        radii: of the recalls, metres.
        quantiles: in (0, 1).

    Returns:
        One row per measure: ``measure``, ``unit`` (m, or % as a fraction), ``value``, ``low``, ``high``, ``chance`` (of a reference taken
        at random), ``best`` (of the nearest reference, which no method can beat) and ``n``. Recalls have Wilson's intervals, quantiles
        those of :func:`quantile_interval`.

    Raises:
        ValueError: shapes that do not fit, or no queries.
    """
    if distances.ndim != 2 or len(errors) != len(distances) or not distances.size:
        raise ValueError(f"errors {list(np.shape(errors))} and distances {list(np.shape(distances))} do not fit")
    nearest, n = distances.min(1), len(errors)
    rows = []
    for quantile in quantiles:
        value, low, high = quantile_interval(errors, quantile)
        name = "median error" if quantile == 0.5 else f"{100 * quantile:g} % of errors within"
        chance, best = (float(np.quantile(some, quantile)) for some in (distances, nearest))
        rows.append({"measure": name, "unit": "m", "value": value, "low": low, "high": high, "chance": chance, "best": best, "n": n})
    for radius in radii:
        value, chance, best = (float(np.mean(some <= radius)) for some in (errors, distances, nearest))
        low, high = recall_interval(value, n)
        row = {"measure": f"found within {radius:g} m", "unit": "%", "value": value, "low": low, "high": high}
        rows.append({**row, "chance": chance, "best": best, "n": n})
    return pd.DataFrame(rows)
