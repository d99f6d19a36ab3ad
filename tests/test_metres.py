"""Localization in metres: closed forms, limits, intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod

from geodtr_lib.evaluation.metres import error_table, metres_apart, quantile_interval


def test_metres_are_those_of_the_ellipsoid() -> None:
    helsinki, monaco = np.array([60.17, 24.94]), np.array([43.74, 7.42])
    expected = Geod(ellps="WGS84").line_length([24.94, 7.42], [60.17, 43.74])
    assert metres_apart(helsinki, monaco) == pytest.approx(expected)
    assert metres_apart(helsinki, helsinki) == 0
    grid = metres_apart(np.stack([helsinki, monaco])[:, None], np.stack([helsinki, monaco])[None])
    assert grid.shape == (2, 2)
    assert grid[0, 1] == grid[1, 0] == pytest.approx(expected)


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        _, low, high = quantile_interval(rng.exponential(size=60), 0.5)
        inside += low <= np.log(2) <= high
    assert inside / 400 > 0.93


def test_an_interval_holds_its_quantile_and_shrinks_with_more_values() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 200, 2000):
        value, low, high = quantile_interval(rng.normal(size=n), 0.9)
        assert low <= value <= high
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    assert quantile_interval(np.array([7.0]), 0.5) == (7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="has no interval"):
        quantile_interval(np.array([]), 0.5)


def test_a_perfect_and_a_random_answer() -> None:
    rng = np.random.default_rng(1)
    distances = rng.uniform(0, 1000, (300, 500))
    perfect = error_table(distances.min(1), distances).set_index("measure")
    assert perfect.loc["median error", "value"] == perfect.loc["median error", "best"]
    assert perfect.loc["found within 25 m", "value"] == 1
    assert perfect.loc["found within 25 m", "high"] == 1
    random = error_table(distances[np.arange(300), rng.integers(0, 500, 300)], distances).set_index("measure")
    for measure in random.index:
        row = random.loc[measure]
        assert row["low"] <= row["chance"] <= row["high"], measure
        assert row["n"] == 300
    assert random.loc["found within 50 m", "chance"] == pytest.approx(0.05, abs=0.005)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        error_table(np.zeros(3), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="do not fit"):
        error_table(np.zeros(0), np.zeros((0, 4)))
