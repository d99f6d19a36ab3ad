"""Approximate search by FAISS, and what it misses of the exact one.

FAISS is optional: ``pip install 'geodtr-lib[faiss]'``. Its indices visit a part of the gallery only, so a search takes less than a matrix
product and may miss neighbours. What it finds is ordered here by the exact similarity.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation.nearest import top_k
from geodtr_lib.evaluation.products import BLOCK
from geodtr_lib.evaluation.ranking import Ties, before_bound, ranks
from geodtr_lib.evaluation.similarity import Array, as_index, largest_similarity, rows_of, similarity

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class HNSW:
    """A graph of near neighbours (Malkov and Yashunin 2018).

    Attributes:
        neighbours: links per item and level.
        construction: candidates looked at when an item is linked.
        search: candidates kept during a search; more find more and take longer.
    """

    neighbours: int = 32
    construction: int = 200
    search: int = 128


@dataclass(frozen=True)
class IVF:
    """Cells around k-means centres (Sivic and Zisserman 2003), some of which are searched.

    Attributes:
        lists: cells; at most the gallery's size.
        probes: cells that are searched; all of them = exact.
        seed: of the k-means.
    """

    lists: int = 256
    probes: int = 16
    seed: int = 0


class ApproximateIndex:
    """A gallery, indexed.

    Built on one thread and with fixed seeds, so that the same gallery gives the same index.

    Args:
        gallery: M x D; FAISS keeps a copy in float32.
        method: :class:`HNSW` or :class:`IVF`, with its parameters.

    Raises:
        ConfigError: FAISS is not installed, or parameters that the gallery does not allow.
        GeoDTRError: embeddings that are not finite.
    """

    def __init__(self, gallery: Array, method: HNSW | IVF) -> None:
        faiss = _faiss()
        size, dimension = len(gallery), gallery.shape[-1]
        for name, value in vars(method).items():
            if value < 1 and name != "seed":
                raise ConfigError(f"{name}: {value} is not allowed; allowed: 1 and more")
        if isinstance(method, IVF) and (method.lists > size or method.probes > method.lists):
            allowed = f"probes <= lists <= {size}, the references"
            raise ConfigError(f"lists, probes: {method.lists}, {method.probes} do not fit; allowed: {allowed}")
        self.gallery, self.method = gallery, method
        largest_similarity(gallery[:0], gallery)  # all finite
        with _one_thread(faiss):
            if isinstance(method, HNSW):
                self._index: Any = faiss.IndexHNSWFlat(dimension, method.neighbours, faiss.METRIC_INNER_PRODUCT)
                self._index.hnsw.efConstruction = method.construction
                self._index.hnsw.efSearch = method.search
            else:
                self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, method.lists, faiss.METRIC_INNER_PRODUCT)
                self._index.cp.seed = method.seed
                self._index.cp.min_points_per_centroid = 1  # FAISS prints a warning for galleries that it thinks small
                self._index.nprobe = method.probes
                self._index.train(rows_of(gallery, slice(None), _CPU).float().numpy())
            for start in range(0, size, BLOCK):
                self._index.add(rows_of(gallery, slice(start, start + BLOCK), _CPU).float().contiguous().numpy())

    def search(self, query: Array, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest items that the index finds, nearest first by exact similarity, the lower index first on ties.

        Args:
            query: N x D.
            k: at most M are returned.

        Returns:
            similarities: N x k, float64, on the CPU; ``-inf`` where fewer were found.
            indices: N x k; -1 where fewer were found.
        """
        k = min(k, len(self.gallery))
        indices = torch.empty(len(query), k, dtype=torch.int64)
        for start in range(0, len(query), BLOCK):
            rows = rows_of(query, slice(start, start + BLOCK), _CPU).float().contiguous().numpy()
            indices[start : start + BLOCK] = torch.from_numpy(self._index.search(rows, k)[1])
        indices = indices.sort(dim=1).values
        found = similarity(query, self.gallery, indices.clamp(min=0)).cpu().masked_fill_(indices < 0, -torch.inf)
        found, order = found.sort(dim=1, descending=True, stable=True)
        return found, indices.gather(1, order)


def compare_with_exact(
    index: ApproximateIndex, query: Array, positive: Array, k: int = 10, ties: Ties = "against"
) -> dict[str, float | int]:
    """What an approximate search of k items finds, beside the exact one.

    Args:
        index: of the gallery.
        query: N x D.
        positive: N indices into the gallery.
        k: items that are searched for; at least 10, for R@10.
        ties: as in :func:`geodtr_lib.evaluation.ranks`. A positive that the search does not return counts as not found.

    Returns:
        ``neighbour_recall``: share of the exact k nearest among the k that were found; ``r1 r5 r10`` of the approximate search and
        ``exact_r1 exact_r5 exact_r10``, as fractions; ``k n_query n_gallery``.

    Raises:
        ConfigError: unknown ``ties``.
        ValueError: k below 10, no queries, or what does not fit.
    """
    if k < 10 or not len(query):
        raise ValueError(f"k = {k} and {len(query)} queries: R@10 needs at least ten items for a query, and at least one query")
    gallery, positive = index.gallery, as_index(positive)
    exact = ranks(query, gallery, positive, ties)
    nearest = top_k(query, gallery, k)[1]
    similarities, found = index.search(query, k)
    shared = torch.stack([(found == column[:, None]).any(1) for column in nearest.T], dim=1)  # N x k
    threshold = similarity(query, gallery, positive[:, None]).cpu()
    bound = before_bound(threshold, largest_similarity(query, gallery), query.shape[-1], ties)
    itself = found == positive[:, None]
    rank = ((similarities > bound) & ~itself).sum(1).masked_fill_(~itself.any(1), len(gallery) + k)
    recalls: dict[str, float | int] = {f"r{n}": float((rank < n).double().mean()) for n in (1, 5, 10)}
    recalls |= {f"exact_r{n}": float((exact < n).double().mean()) for n in (1, 5, 10)}
    share = float(shared.double().mean())
    return {"neighbour_recall": share, **recalls, "k": k, "n_query": len(query), "n_gallery": len(gallery)}


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError("approximate search needs FAISS, which is not installed: pip install 'geodtr-lib[faiss]'") from error


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
