"""Batches of neighbours: tables against brute force, and what a batch holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.hard_batches import (
    covers_of,
    ground_neighbours,
    neighbour_batches,
    on_sphere,
    position_neighbours,
    similarity_neighbours,
)

N, SIZE = 60, 8


def inner(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return reference @ query.T


def line(n: int = N) -> np.ndarray:
    """Places along a road, in shuffled order."""
    return np.column_stack([np.random.default_rng(0).permutation(n) * 10.0, np.zeros(n)])


def test_neighbours_on_the_ground_are_those_of_brute_force() -> None:
    random = np.random.default_rng(1)
    query, reference = random.random((20, 2)), random.random((30, 2))
    cover = random.integers(0, 30, (20, 4))
    found = position_neighbours(query, reference, cover, 6)
    for q in range(20):
        order = [r for r in np.argsort(((reference - query[q]) ** 2).sum(1)) if r not in cover[q]]
        assert found[q].tolist() == order[:6]


def test_similar_neighbours_are_those_of_brute_force_and_run_out() -> None:
    query, reference = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    cover = np.arange(9)[:, None]
    found = similarity_neighbours(query, reference, cover, 4, inner, block=2)
    for q in range(9):
        order = [r for r in (reference @ query[q]).argsort(descending=True).tolist() if r != q]
        assert found[q].tolist() == order[:4]
    assert (similarity_neighbours(query, reference, cover, 12, inner)[:, 8:] == -1).all()


def test_latitude_and_longitude_are_taken_as_degrees() -> None:
    """In Helsinki a degree of longitude is half as long as one of latitude."""
    location = np.array([[60.0, 25.0], [60.0, 25.015], [60.01, 25.0], [60.0, -179.99]])
    cover = np.arange(4)[:, None]
    found = ground_neighbours(cover, 2, None, None, location, location)
    assert found[0].tolist() == [1, 2]
    across = on_sphere(np.array([[0.0, 179.9], [0.0, -179.9]]))
    assert np.linalg.norm(across[0] - across[1]) == pytest.approx(np.deg2rad(0.2), rel=1e-4)
    with pytest.raises(DatasetError, match="without positions; choose 'similar'"):
        ground_neighbours(cover, 2, None, None, None, None)


def test_an_epoch_has_every_place_once_and_neighbours_together() -> None:
    place, cover = line(), np.arange(N)[:, None]
    table = position_neighbours(place, place, cover, SIZE)
    items = np.random.default_rng(5).permutation(N)
    batches = neighbour_batches(items, table, cover, SIZE, seed=3, epoch=1)
    queries = np.concatenate([batch for batch, _ in batches])
    assert sorted(queries.tolist()) == list(range(N))
    assert all((batch == references).all() for batch, references in batches)
    assert all(len(batch) == SIZE for batch, _ in batches[:-1])

    def spread(all_batches: list) -> float:
        return float(np.mean([np.ptp(place[batch, 0]) for batch, _ in all_batches[:4]]))

    plain = [(items[start : start + SIZE], None) for start in range(0, N, SIZE)]
    assert spread(batches) < 0.8 * spread(plain)
    assert batches[0][0][0] == items[0]
    nearest = set(table[items[0]][: SIZE // 4].tolist())
    assert nearest <= set(batches[0][0].tolist()), "the nearest quarter comes along for certain"


def test_batches_are_a_function_of_table_seed_and_epoch() -> None:
    place, cover, items = line(), np.arange(N)[:, None], np.arange(N)
    table = position_neighbours(place, place, cover, SIZE)

    def made(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch, _ in neighbour_batches(items, table, cover, SIZE, seed, epoch)]

    assert made(0, 1) == made(0, 1)
    assert len({str(made(0, 1)), str(made(0, 2)), str(made(1, 1))}) == 3


def test_no_tile_in_a_batch_shows_another_query_s_place() -> None:
    """As on VIGOR: several queries of one tile, and three semi-positives."""
    random = np.random.default_rng(2)
    positive = random.integers(0, 40, 90)
    semi = (positive[:, None] + np.array([1, 2, 3])) % 40
    cover = covers_of(positive, semi)
    table = similarity_neighbours(torch.randn(90, 4), torch.randn(40, 4), cover, SIZE, inner)
    items = random.permutation(90)
    batches = neighbour_batches(items, table, cover, SIZE, 0, 0)
    for batch, references in batches:
        for i, query in enumerate(batch):
            others = np.delete(references, i)
            assert not set(others) & set(cover[query])
    counted = np.bincount(np.concatenate([batch for batch, _ in batches]), minlength=90)
    assert counted.max() == 1
    assert counted.sum() >= 80, "only what finds no partner at the end is left out"


def test_a_batch_needs_two() -> None:
    with pytest.raises(ConfigError, match="batch_size: 1"):
        neighbour_batches(np.arange(4), np.zeros((4, 1), int), np.arange(4)[:, None], 1, 0, 0)
