"""Figures of batches, of look-alikes and of costs show what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from geodtr_lib import plots
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.plots.batches import most_alike


def places(n: int = 5) -> ArrayDataset:
    """Random places 10 m apart on a line; the last one looks like the first, the second exactly like the third."""
    rng = np.random.default_rng(0)
    aerial = rng.integers(0, 256, (n, 3, 32, 32), np.uint8)
    aerial[-1] = np.clip(aerial[0].astype(int) + 3, 0, 255)
    aerial[2] = aerial[1]
    position = np.stack([10.0 * np.arange(n), np.zeros(n)], 1)
    return ArrayDataset("city", "here", "train", aerial, rng.integers(0, 256, (n, 3, 16, 64), np.uint8), "hash", position=position)


def test_the_most_alike_are_found_among_places_that_do_not_overlap() -> None:
    first, second, difference = most_alike(places(), apart=25.0)
    assert {first, second} == {0, 4}
    assert 2 < difference <= 3
    assert set(most_alike(places(), apart=5.0)[:2]) == {1, 2}
    assert most_alike(places(), apart=5.0)[2] == 0
    with pytest.raises(ValueError, match="no two places 99 m apart"):
        most_alike(places(), apart=99.0)


def test_look_alikes_are_shown_with_both_views() -> None:
    figure = plots.look_alikes([places(), places()], apart=25.0)
    assert len(figure.axes) == 2 * 4
    assert figure.axes[1].get_title().startswith("here, mean difference 3 of 255: place")


def test_a_batch_of_chsg_has_every_place_twice_and_one_of_ls_once() -> None:
    data = places()
    once = plots.twin_views(data, [0, 3], {"raw": "raw"})
    assert len(once.axes) == 2 * 2
    shown = np.asarray(once.axes[2].images[0].get_array())
    np.testing.assert_allclose(shown, data.aerial([3])[0].movedim(0, -1).numpy() / 255, atol=1e-6)
    twins = plots.twin_views(data, [0, 3], {"LS": "LS", "CHSG": "L2"}, seed=1)
    assert len(twins.axes) == 2 * 2 + 2 * 4
    first, second = (np.asarray(twins.axes[4 + 4 * view].images[0].get_array()) for view in (0, 1))
    assert not np.allclose(first, second), "twins never have the same layout"
    assert np.allclose(np.sort(first.ravel()), np.sort(second.ravel()), atol=1e-6), "and the same content"


def test_costs_have_a_bar_per_model_and_quartiles_where_they_are_known() -> None:
    costs = pd.DataFrame({"model": ["a", "b"], "pair_ms": [2.0, 4.0], "bytes": [8, 4]})
    costs = costs.assign(pair_ms_low=[1.0, 3.0], pair_ms_high=[3.0, 9.0])
    times, sizes = plots.cost_bars(costs, {"pair_ms": "ms", "bytes": "bytes"}).axes
    assert [bar.get_width() for bar in times.patches] == [2.0, 4.0]
    assert [label.get_text() for label in times.get_yticklabels()] == ["a", "b"]
    segments = times.collections[0].get_segments()
    assert sorted(tuple(segment[:, 0]) for segment in segments) == [(1.0, 3.0), (3.0, 9.0)]
    assert not sizes.collections


def test_hard_panels_need_no_spread() -> None:
    kinds = {"original": np.zeros(4), "flip": np.linspace(0, 1, 4)}
    (axes,) = plots.distance_panels([[("one", kinds)]]).axes
    assert len(axes.lines) == 1, "distances that are all equal have no density"


def test_descriptor_columns_share_a_scale_where_it_has_one_name() -> None:
    image, maps = torch.rand(3, 16, 64), torch.rand(4, 2, 8)
    figure = plots.descriptor_columns([("a", image, maps), ("b", image, 2 * maps)], [0, 2], ["x", "y"])
    overlays = [axes.images[1].norm for axes in figure.axes if len(axes.images) == 2]
    assert len(overlays) == 4
    assert overlays[0] is overlays[1] is not overlays[2]


def test_scales_that_turn_out_equal_are_one_bar_and_others_stand_in_the_order_of_their_columns() -> None:
    image, maps = torch.rand(3, 16, 64), torch.rand(4, 2, 8)

    def bars(second: torch.Tensor) -> list[str]:
        figure = plots.descriptor_columns([("a", image, maps), ("b", image, second)], [0, 2], ["GLE v1", "GLE v2"])
        figure.draw_without_rendering()  # lays it out
        named = [axes for axes in figure.axes if not axes.images and axes.get_ylabel()]
        return [axes.get_ylabel() for axes in sorted(named, key=lambda axes: axes.get_position().x0)]

    assert bars(maps) == ["descriptor value"]
    assert bars(2 * maps) == ["GLE v1", "GLE v2"]
