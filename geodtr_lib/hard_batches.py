"""Batches of neighbours: places that a model is likely to confuse meet in one batch (Sample4Geo, ICCV 2023, Section 3.3).

Who is whose neighbour is a table of references for each query, by position on the ground (before anything is learnt) or by similarity of
the embeddings. Of a pool as long as the batch, the nearer quarter comes along for certain and a quarter is drawn from the rest, so that
a batch of B is made of about two such groups. Everything is a function of the table, the seed and the epoch.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.sampling import Batch, seed_for


def position_neighbours(query: np.ndarray, reference: np.ndarray, cover: np.ndarray, k: int) -> np.ndarray:
    """The nearest references of each query on the ground, nearest first, without those that cover it.

    Args:
        query, reference: N x 2 and M x 2 metres, or N x 3 and M x 3 of :func:`on_sphere`.
        cover: N x P references that are no negatives of each query.
        k: how many.

    Returns:
        N x k references; -1 where there are fewer.
    """
    _, index = cKDTree(reference).query(query, k=min(len(reference), k + cover.shape[1]))
    return _without(np.asarray(index).reshape(len(query), -1), cover, k)


def on_sphere(location: np.ndarray) -> np.ndarray:
    """Latitudes and longitudes in degrees, N x 2, as points of the unit sphere, N x 3: nearer there is nearer on the ground."""
    latitude, longitude = np.deg2rad(np.asarray(location, dtype=np.float64)).T
    return np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1)


def similarity_neighbours(
    query: Tensor, reference: Tensor, cover: np.ndarray, k: int, similarity: Callable[[Tensor, Tensor], Tensor], block: int = 1024
) -> np.ndarray:
    """The most similar references of each query, most similar first, without those that cover it.

    Args:
        query, reference: N x D and M x D embeddings.
        cover: N x P references that are no negatives of each query.
        k: how many.
        similarity: of references and queries, M x B; a model's own.
        block: queries at a time.

    Returns:
        N x k references; -1 where there are fewer.
    """
    wanted = min(len(reference), k + cover.shape[1])
    found = [similarity(reference, rows).T.topk(wanted, dim=1).indices for rows in query.split(block)]
    return _without(torch.cat(found).cpu().numpy(), cover, k)


def _without(index: np.ndarray, cover: np.ndarray, k: int) -> np.ndarray:
    """Rows of ``index`` without the entries of ``cover``, k of each; -1 behind the last."""
    own = (index[:, :, None] == cover[:, None, :]).any(2)
    order = np.argsort(own, axis=1, kind="stable")[:, :k]  # those that stay, in their order
    kept = np.where(np.take_along_axis(own, order, 1), -1, np.take_along_axis(index, order, 1))
    return np.pad(kept, ((0, 0), (0, k - kept.shape[1])), constant_values=-1)


def neighbour_batches(
    epoch_items: np.ndarray, neighbours: np.ndarray, cover: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[Batch]:
    """The batches of one epoch, as (query indices, reference indices), with neighbours together.

    Args:
        epoch_items: the epoch's queries in their drawn order; each comes once for each time that it is listed.
        neighbours: N x k references of each query, nearest first, -1 = none.
        cover: N x P references that show each query, its positive first. No reference in a batch covers another item's query.
        batch_size: pairs per batch, at least 2. A last batch of one pair is left out.
        seed, epoch: of the run.

    Raises:
        ConfigError: a batch size below 2.
    """
    if batch_size < 2:
        raise ConfigError(f"batch_size: {batch_size} is not possible; a batch needs at least 2 pairs")
    random = np.random.default_rng(seed_for(seed, "neighbours", epoch))
    by_reference: dict[int, list[int]] = defaultdict(list)  # items of the epoch, by their positive
    for item in reversed(range(len(epoch_items))):
        by_reference[int(cover[epoch_items[item], 0])].append(item)
    used = np.zeros(len(epoch_items), dtype=bool)
    queue = deque(range(len(epoch_items)))
    batches: list[np.ndarray] = []
    while queue:
        batch = _Batch(batch_size, cover)
        waiting: list[int] = []
        while queue and not batch.full:
            item = queue.popleft()
            if used[item]:
                continue
            query = int(epoch_items[item])
            if not batch.add(query):
                waiting.append(item)
                continue
            used[item] = True
            for reference in _company(neighbours[query], batch_size, random):
                candidates = by_reference[reference]
                while candidates and used[candidates[-1]]:
                    candidates.pop()
                if candidates and batch.add(int(epoch_items[candidates[-1]])):
                    used[candidates.pop()] = True
        queue.extendleft(reversed(waiting))
        if batch.queries:
            batches.append(np.array(batch.queries, dtype=np.int64))
    return [(batch, cover[batch, 0]) for batch in batches if len(batch) > 1]


class _Batch:
    """A batch that is being filled."""

    def __init__(self, size: int, cover: np.ndarray) -> None:
        self.size, self.cover = size, cover
        self.queries: list[int] = []
        self._references: set[int] = set()  # positives of the batch
        self._covering: set[int] = set()  # its positives and semi-positives

    @property
    def full(self) -> bool:
        return len(self.queries) >= self.size

    def add(self, query: int) -> bool:
        """Take a query in, unless the batch is full or one of its tiles shows another's place."""
        tiles = self.cover[query].tolist()
        if self.full or tiles[0] in self._covering or not self._references.isdisjoint(tiles):
            return False
        self.queries.append(query)
        self._references.add(tiles[0])
        self._covering.update(tiles)
        return True


def _company(neighbours: np.ndarray, batch_size: int, random: np.random.Generator) -> list[int]:
    """Half a batch of neighbours: the nearest quarter, and as many drawn from the rest of a pool as long as the batch."""
    pool = neighbours[:batch_size]
    pool = pool[pool >= 0]
    near = max(1, batch_size // 4)
    drawn = random.permutation(pool[near:])[:near]
    return [int(reference) for reference in np.concatenate([pool[:near], drawn])]


def covers_of(positive: np.ndarray, semi_positive: np.ndarray | None) -> np.ndarray:
    """The references that show each query, N x 1 or N x 4, its positive first."""
    positive = np.asarray(positive, dtype=np.int64)[:, None]
    return positive if semi_positive is None else np.column_stack([positive, semi_positive])


def ground_neighbours(
    cover: np.ndarray,
    k: int,
    query_position: np.ndarray | None,
    reference_position: np.ndarray | None,
    query_location: np.ndarray | None,
    reference_location: np.ndarray | None,
) -> np.ndarray:
    """:func:`position_neighbours` by metres where a data set has them, else by latitude and longitude.

    Raises:
        DatasetError: the data set has neither.
    """
    if query_position is not None and reference_position is not None:
        return position_neighbours(query_position, reference_position, cover, k)
    if query_location is not None and reference_location is not None:
        return position_neighbours(on_sphere(query_location), on_sphere(reference_location), cover, k)
    raise DatasetError("batches: near places cannot be found in a data set without positions; choose 'similar' or 'random'")
