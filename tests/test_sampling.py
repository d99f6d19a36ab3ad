from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from geodtr_lib.data.inputs import fit_aerial, fit_ground, normalise, to_unit_range
from geodtr_lib.errors import ConfigError
from geodtr_lib.geometry import apply_layout, crop_field_of_view, layout_aerial, polar_transform
from geodtr_lib.sampling import POLICIES, draw_layouts, epoch_batches, generator_for, make_views, one_to_one, policy_named

SIZES = dict(aerial_size=(12, 48), ground_size=(12, 48), polar=True)


def pairs(n: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(n)
    draw = [torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, generator=random) for size in ((side, side), (12, 48))]
    return draw[0], draw[1]


# Streams


def test_streams_are_reproducible_and_their_own() -> None:
    def numbers(*keys: int | str) -> list[float]:
        return torch.rand(4, generator=generator_for(*keys)).tolist()

    assert numbers(1, "views", 2) == numbers(1, "views", 2)
    streams = [
        numbers(1, "views", 2),
        numbers(2, "views", 2),
        numbers(1, "views", 3),
        numbers(1, "other", 2),
        numbers(1, 2),
        numbers(1, "2"),
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)


# Layouts


def test_the_two_layouts_of_chsg_are_uniform_over_the_56_ordered_pairs() -> None:
    n = 60_000
    flip, turns = draw_layouts(POLICIES["L+S"], n, generator_for(0))
    number = flip.long() * 4 + turns  # 2 x n
    counts = torch.bincount(number[0] * 8 + number[1], minlength=64).view(8, 8)
    assert counts.diagonal().sum() == 0
    assert chisquare(counts[~torch.eye(8, dtype=torch.bool)].numpy()).pvalue > 1e-3


def test_where_heading_is_unknown_a_twin_is_mirrored_since_a_turned_one_is_the_same_place() -> None:
    flip, turns = draw_layouts(POLICIES["L+S"], 20_000, generator_for(0), heading="random")
    assert (flip[0] != flip[1]).all()
    counts = torch.bincount((flip[0].long() * 4 + turns[0]) * 4 + turns[1], minlength=32)
    assert chisquare(counts.numpy()).pvalue > 1e-3
    first, _ = draw_layouts(POLICIES["L+S"], 50, generator_for(3))
    assert torch.equal(first[0], draw_layouts(POLICIES["L+S"], 50, generator_for(3), heading="random")[0][0]), "the first view is as it was"


def test_one_layout_is_uniform_over_the_eight() -> None:
    flip, turns = draw_layouts(POLICIES["LS"], 20_000, generator_for(0))
    assert flip.shape == turns.shape == (1, 20_000)
    assert chisquare(torch.bincount(flip[0].long() * 4 + turns[0], minlength=8).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "views", "different"),
    [("raw", 1, None), ("S", 1, None), ("L+S", 2, True), ("L+sameS", 2, True), ("L2", 2, True), ("sameL+S", 2, False), ("S2", 2, False)],
)
def test_layouts_of_the_policies(name: str, views: int, different: bool | None) -> None:
    flip, turns = draw_layouts(POLICIES[name], 500, generator_for(1))
    assert flip.shape == turns.shape == (views, 500)
    if name in ("raw", "S", "S2"):
        assert not flip.any()
        assert not turns.any()
    else:
        assert len(torch.unique(flip * 4 + turns)) == 8
    if different is not None:
        assert (((flip[0] != flip[1]) | (turns[0] != turns[1])) == different).all()


# Views


@pytest.mark.parametrize("name", POLICIES)
def test_shapes_of_the_views(name: str) -> None:
    aerial, ground = make_views(*pairs(), POLICIES[name], generator_for(0), **SIZES)
    assert aerial.shape == ground.shape == (3 * POLICIES[name].views, 3, 12, 48)
    assert aerial.dtype == ground.dtype == torch.float32


def test_raw_is_the_unrolled_tile_and_the_panorama_normalised() -> None:
    tiles, panoramas = pairs()
    aerial, ground = make_views(tiles, panoramas, POLICIES["raw"], generator_for(0), **SIZES)
    assert torch.equal(aerial, normalise(polar_transform(tiles, (12, 48)).float() / 255, "imagenet"))
    assert torch.equal(ground, normalise(panoramas.float() / 255, "imagenet"))


@pytest.mark.parametrize("polar", [False, True])
def test_layout_only_moves_both_views_together(polar: bool) -> None:
    tiles, panoramas = pairs(40)
    size = (12, 48) if polar else (32, 32)
    seen = make_views(tiles, panoramas, POLICIES["L2"], generator_for(5), aerial_size=size, ground_size=(12, 48), polar=polar)
    flip, turns = draw_layouts(POLICIES["L2"], 40, generator_for(5))
    prepared = fit_aerial(tiles, size, polar).repeat(2, 1, 1, 1), panoramas.repeat(2, 1, 1, 1)
    expected = apply_layout(*prepared, flip.flatten(), turns.flatten(), polar)
    for view, images in zip(seen, expected, strict=True):
        assert torch.equal(view, normalise(to_unit_range(images), "imagenet"))


def test_twins_share_a_place_and_nothing_else_is_mixed() -> None:
    """Views of constant images stay constant whatever the layout, so the row order shows."""
    tiles = torch.arange(40, 140, 20, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 32, 32)
    aerial, ground = make_views(tiles, tiles[..., :12, :1].expand(5, 3, 12, 48), POLICIES["L2"], generator_for(0), **SIZES)
    for view in (aerial, ground):
        assert torch.allclose(view[:5].mean((1, 2, 3)), view[5:].mean((1, 2, 3)), atol=0.03)
        assert (view[:5].mean((1, 2, 3)).diff() > 0.1).all()


def test_same_semantics_and_same_layouts() -> None:
    tiles, panoramas = pairs(30)
    aerial, ground = make_views(tiles, panoramas, POLICIES["L+sameS"], generator_for(2), **SIZES)
    for view in (aerial, ground):  # a layout moves pixels and changes none
        assert torch.equal(view[:30].flatten(1).sort().values, view[30:].flatten(1).sort().values)
        assert not any(torch.equal(first, second) for first, second in zip(view[:30], view[30:], strict=True))
    aerial, ground = make_views(tiles, panoramas, POLICIES["sameL+S"], generator_for(2), **SIZES)
    flip, turns = draw_layouts(POLICIES["sameL+S"], 30, generator_for(2))
    upright = layout_aerial(aerial[:30].clone(), False, 0, polar=True)
    plain = normalise(to_unit_range(polar_transform(tiles, (12, 48))), "imagenet")
    for twin in (upright, aerial[30:]):  # each twin still looks like its own layout of the plain tile
        likeness = [
            torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(twin, layout_of(plain, flip, turns), strict=True)
        ]
        assert min(likeness) > 0.15
    assert not torch.allclose(aerial[:30], aerial[30:], atol=0.1)


def layout_of(images: Tensor, flip: Tensor, turns: Tensor) -> Tensor:
    return layout_aerial(images, flip[0], turns[0], polar=True)


def test_aerial_and_ground_draw_their_semantics_apart() -> None:
    tiles = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    aerial, ground = make_views(
        tiles, tiles[..., :12, :].repeat(1, 1, 1, 2), POLICIES["S"], generator_for(0), **{**SIZES, "ground_size": (12, 64)}
    )
    both = torch.stack([aerial[:, 0, 5, 5], ground[:, 0, 5, 5]])
    assert both.std(1).min() > 0.1
    assert torch.corrcoef(both)[0, 1].abs() < 0.4


def test_views_depend_on_the_generator_alone() -> None:
    def views(seed: int) -> Tensor:
        return torch.cat(make_views(*pairs(), POLICIES["L+S"], generator_for(seed), heading="random", **SIZES))

    torch.manual_seed(0)
    first = views(7)
    torch.manual_seed(1)
    assert torch.equal(first, views(7))
    assert not torch.equal(first, views(8))


def test_field_of_view_and_heading_in_training() -> None:
    tiles, panoramas = pairs(8)
    options = dict(**SIZES, fov=90.0)
    _, north = make_views(tiles, panoramas, POLICIES["raw"], generator_for(0), **options)
    assert torch.equal(north, crop_field_of_view(normalise(to_unit_range(panoramas), "imagenet"), 90))
    _, turned = make_views(tiles, panoramas, POLICIES["raw"], generator_for(0), heading="random", **options)
    assert turned.shape == (8, 3, 12, 12)
    assert not torch.equal(north, turned)


def test_images_of_another_size_are_resized_with_antialiasing() -> None:
    tiles, _ = pairs(side=64)
    flat = torch.full((2, 3, 50, 90), 77, dtype=torch.uint8)
    assert torch.equal(fit_ground(flat, (12, 48)), flat[..., :12, :48])
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    reduced = fit_aerial(checks.to(torch.uint8).expand(1, 3, 64, 64), (16, 16), polar=False)
    assert (reduced.int() - 127).abs().max() < 20  # without antialiasing it would be black or white
    unrolled = polar_transform(tiles, (12, 48))
    assert torch.equal(fit_aerial(unrolled, (12, 48), polar=True, is_polar=True), unrolled)
    with pytest.raises(ConfigError, match="unrolled offline"):
        fit_aerial(unrolled, (12, 48), polar=False, is_polar=True)


def test_normalisations() -> None:
    images = torch.rand(2, 3, 4, 5)
    assert torch.allclose(normalise(images, "half"), images * 2 - 1, atol=1e-6)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(normalise(mean[:, None, None].expand(1, 3, 2, 2), "imagenet"), torch.zeros(1, 3, 2, 2))
    assert torch.allclose(normalise((mean + deviation)[:, None, None].expand(1, 3, 2, 2), "imagenet"), torch.ones(1, 3, 2, 2))
    with pytest.raises(ConfigError, match="allowed: imagenet, half"):
        normalise(images, "none")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'CHSG' is not known; allowed: raw, L, S, LS, L\+S"):
        policy_named("CHSG")


# Places


def test_an_epoch_of_one_to_one_pairs_is_a_permutation() -> None:
    batches = epoch_batches(np.arange(103), None, 10, seed=1, epoch=0)
    assert sorted(np.concatenate([queries for queries, _ in batches])) == list(range(103))
    assert [len(queries) for queries, _ in batches] == [10] * 10 + [3]
    assert all(np.array_equal(queries, references) for queries, references in batches)


def test_a_last_batch_of_one_pair_is_left_out() -> None:
    batches = epoch_batches(np.arange(21), None, 10, seed=1, epoch=0)
    assert [len(queries) for queries, _ in batches] == [10, 10]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate([queries for queries, _ in epoch_batches(np.arange(50), None, 8, seed, epoch)]).tolist()

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def many_to_one(n: int = 600, references: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Queries with overlapping tiles, as VIGOR's: the semi-positives are the positive's neighbours."""
    positive = np.random.default_rng(0).integers(0, references, n)
    return positive, (positive[:, None] + np.array([1, 20, 21])) % references


def clashes(batch: np.ndarray, positive: np.ndarray, semi_positive: np.ndarray) -> int:
    cover = np.column_stack([positive, semi_positive])
    return sum(positive[other] in cover[query] for query in batch for other in batch if other != query) + len(batch) - len(set(batch))


def test_no_reference_in_a_batch_covers_another_query() -> None:
    positive, semi_positive = many_to_one()
    batches = epoch_batches(positive, semi_positive, 16, seed=0, epoch=0)
    assert sum(clashes(queries, positive, semi_positive) for queries, _ in batches) == 0
    assert all(len(set(references)) == len(references) for _, references in batches)
    assert all(np.array_equal(positive[queries], references) for queries, references in batches)


def test_an_epoch_visits_each_covered_reference_twice_with_any_of_its_queries() -> None:
    positive, semi_positive = many_to_one()
    visited = np.concatenate([references for _, references in epoch_batches(positive, semi_positive, 16, seed=0, epoch=0)])
    counts = np.bincount(visited, minlength=300)[np.unique(positive)]
    assert counts.max() == 2
    assert counts.mean() > 1.98  # a last batch of one is left out
    queries = {int(q) for epoch in range(12) for batch, _ in epoch_batches(positive, semi_positive, 16, 0, epoch) for q in batch}
    assert len(queries) > 590  # each of the 600 is drawn sooner or later


def test_as_released_lets_tiles_overlap() -> None:
    positive, semi_positive = many_to_one()
    batches = epoch_batches(positive, semi_positive, 16, seed=0, epoch=0, as_released=True)
    assert sum(clashes(queries, positive, semi_positive) for queries, _ in batches) > 0
    assert np.array_equal(
        np.bincount(np.concatenate([r for _, r in batches]), minlength=300)[np.unique(positive)], [2] * len(np.unique(positive))
    )


def test_queries_that_all_overlap_make_no_batch() -> None:
    assert epoch_batches(np.zeros(5, dtype=int), None, 4, seed=0, epoch=0) == []


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size: 1 is not possible"):
        epoch_batches(np.arange(5), None, 1, seed=0, epoch=0)


def test_one_to_one_is_one_query_to_a_reference_and_no_semi_positives() -> None:
    assert one_to_one([2, 0, 5], None)
    assert not one_to_one([2, 0, 2], None)
    assert not one_to_one([2, 0, 5], np.array([[1, 3, 4]] * 3))
