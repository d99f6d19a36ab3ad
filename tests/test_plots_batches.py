"""Figures of batches, of look-alikes and of costs show what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from geodtr_lib import plots
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.plots.batches import most_alike
from geodtr_lib.sampling import make_views, policy_named


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
    with pytest.raises(ValueError, match="no two places whose tiles of 99 m do not overlap"):
        most_alike(places(), apart=99.0)


def test_tiles_that_overlap_at_a_corner_are_no_look_alikes() -> None:
    data = places(3)  # the second and the third are equal
    data.query_position = np.array([[0.0, 0.0], [100.0, 100.0], [160.0, 160.0]])  # 60 m to the east and 60 m to the north, 85 m away
    assert set(most_alike(data, apart=72.0)[:2]) == {0, 1}
    assert set(most_alike(data, apart=60.0)[:2]) == {1, 2}


def test_look_alikes_are_shown_with_both_views() -> None:
    figure = plots.look_alikes([places(), places()], apart=25.0)
    assert len(figure.axes) == 2 * 4
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == ["here: places 0 and 4 of 5; their tiles at 16 × 16 pixels differ by 3 of 255 on average"] * 2


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


def shown(axes: list[Axes]) -> np.ndarray:
    """The pictures behind some axes, N x H x W x 3."""
    return np.stack([np.asarray(part.images[0].get_array()) for part in axes])


def test_twins_of_the_variants_differ_in_one_thing_only() -> None:
    data = places()
    colours = plots.twin_views(data, [0, 3], {"": "sameL+S"}, seed=1)
    layout = plots.twin_views(data, [0, 3], {"": "L+sameS"}, seed=1)
    for offset in (0, 1):  # tiles, panoramas
        first, second = (shown(colours.axes[4 * view + offset : 4 * view + 4 : 2]) for view in (0, 1))
        assert not np.allclose(first, second, atol=0.02), "other colours"
        first, second = (shown(layout.axes[4 * view + offset : 4 * view + 4 : 2]) for view in (0, 1))
        assert not np.allclose(first, second, atol=0.02), "another layout"
        np.testing.assert_allclose(np.sort(first.reshape(2, -1)), np.sort(second.reshape(2, -1)), atol=1e-5, err_msg="the same colours")


@pytest.mark.parametrize("sampling", ["LS", "L+S", "L+sameS", "sameL+S", "L+S3"])
@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_a_batch_is_drawn_as_training_makes_it(sampling: str, strength: str) -> None:
    data, queries = places(), [0, 3]
    figure = plots.twin_views(data, queries, {"": sampling}, seed=2, strength=strength)
    sizes = {"aerial_size": (32, 32), "ground_size": (16, 64)}
    made = make_views(
        data.aerial(queries), data.ground(queries), policy_named(sampling), torch.Generator().manual_seed(2), **sizes, polar=False,
        strength=strength, normalisation="half",
    )  # fmt: skip
    for offset, views in enumerate(made):
        pixels = views.movedim(1, -1).numpy() / 2 + 0.5
        np.testing.assert_allclose(shown(figure.axes[offset::2]), pixels.clip(0, 1), atol=1e-5)


def test_costs_have_a_bar_per_model_and_quartiles_where_they_are_known() -> None:
    costs = pd.DataFrame({"model": ["a", "b"], "pair_ms": [2.0, 4.0], "bytes": [8, 4]})
    costs = costs.assign(pair_ms_low=[1.0, 3.0], pair_ms_high=[3.0, 9.0])
    times, sizes = plots.cost_bars(costs, {"pair_ms": "ms", "bytes": "bytes"}).axes
    assert [bar.get_width() for bar in times.patches] == [2.0, 4.0]
    assert [label.get_text() for label in times.get_yticklabels()] == ["a", "b"]
    assert len({bar.get_facecolor() for axes in (times, sizes) for bar in axes.patches}) == 1, "a colour would mean something"
    segments = times.collections[0].get_segments()
    assert sorted(tuple(segment[:, 0]) for segment in segments) == [(1.0, 3.0), (3.0, 9.0)]
    assert not sizes.collections


def test_hard_panels_need_no_spread() -> None:
    kinds = {"original": np.zeros(4), "flip": np.linspace(0, 1, 4)}
    (axes,) = plots.distance_panels([[("one", kinds)]]).axes
    assert len(axes.lines) == 1, "distances that are all equal have no density"


def test_distances_of_one_protocol_are_drawn_on_one_scale() -> None:
    narrow, wide = ({"original": spread * np.linspace(-1, 1, 50) + 1} for spread in (0.1, 0.4))
    axes = plots.distance_panels([[("a", narrow), ("b", wide)], [("c", wide), ("d", narrow)]]).axes
    assert axes[0].get_ylim() == axes[2].get_ylim()
    assert axes[1].get_ylim() == axes[3].get_ylim()
    assert axes[0].get_title() == "a (50 pairs of a kind)"


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
