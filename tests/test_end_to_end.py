"""Data sets in their owners' layouts, from verify to the last recall, by the commands that the real ones take."""

from __future__ import annotations

import pytest

from geodtr_lib.config import resolve_config
from geodtr_lib.training import protocol_of
from geodtr_lib.training import test_areas_of as areas_evaluated


@pytest.mark.parametrize(
    ("dataset", "train_area", "area", "expected"),
    [
        ("cvusa", "", "cvusa", "same"),
        ("cvusa", "", "cvact:cvact", "cross"),
        ("cvact", "", "cvact", "same"),
        ("cvact", "", "cvact_test", "same"),  # the paper's Table I: another part of the same city
        ("cvact", "", "cvusa:cvusa", "cross"),
        ("vigor", "same", "same", "same"),
        ("vigor", "same", "Chicago", "same"),
        ("vigor", "cross", "cross", "cross"),
        ("vigor", "cross-reversed", "cross-reversed", "cross"),
        ("vigor", "cross", "cross-reversed", "same"),  # its test cities are the training cities
        ("vigor", "cross", "same", "same"),  # two of its four cities were seen
        ("vigor", "Seattle", "Chicago+NewYork", "cross"),
    ],
)
def test_an_area_is_cross_only_where_nothing_of_it_was_seen(dataset: str, train_area: str, area: str, expected: str) -> None:
    assert protocol_of(resolve_config("smoke", dataset=dataset, train_area=train_area), area) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (dict(dataset="cvusa"), ("cvusa",)),
        (dict(dataset="cvact"), ("cvact",)),
        (dict(dataset="cvusa", test_areas=["cvusa", "cvact:cvact"]), ("cvusa", "cvact:cvact")),
        (dict(dataset="vigor"), ("same",)),
        (dict(dataset="vigor", train_area="cross"), ("cross",)),
    ],
)
def test_the_areas_evaluated_are_those_of_the_protocol(values: dict, expected: tuple[str, ...]) -> None:
    assert areas_evaluated(resolve_config("smoke", **values)) == expected
