"""Similarities of single pairs in float64, and the lengths by which rounding errors are measured."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.errors import GeoDTRError

Array = Tensor | np.ndarray
PIECE = 32_768  # numbers that torch leaves to one core: in small work the cores cost more by waiting for each other than they save
PAIRS = 1024  # single similarities that another device computes at a time


def similarity(query: Array, gallery: Array, candidates: Array) -> Tensor:
    """Similarity of each query to its own candidates.

    Args:
        query: N x D.
        gallery: M x D.
        candidates: N x P indices into the gallery.

    Returns:
        N x P, float64, on the device that computes.

    Raises:
        ValueError: shapes that do not fit, or an index outside the gallery.
    """
    index = as_index(candidates)
    if len(index) != len(query) or query.shape[-1] != gallery.shape[-1]:
        raise ValueError(f"queries {list(query.shape)}, gallery {list(gallery.shape)} and candidates {list(index.shape)} do not fit")
    if len(index) and not (index.min() >= 0 and index.max() < len(gallery)):
        raise ValueError(f"candidates are from {index.min()} to {index.max()}, but the gallery has {len(gallery)} items")
    owner = torch.arange(len(index)).repeat_interleave(index.shape[1])
    return pair_similarity(query, gallery, owner, index.flatten()).view(index.shape)


def pair_similarity(query: Array, gallery: Array, owner: Tensor, reference: Tensor) -> Tensor:
    """Similarity of single pairs: query ``owner[i]`` and gallery item ``reference[i]``.

    A pair's value depends on its two embeddings only, not on the other pairs.

    Args:
        query: N x D.
        gallery: M x D.
        owner: P indices into the queries.
        reference: P indices into the gallery.

    Returns:
        P, float64, on the device that computes.
    """
    device = device_for(query)
    found = torch.empty(len(owner), dtype=torch.float64, device=device)
    step = max(1, PIECE // max(1, query.shape[-1])) if device.type == "cpu" else PAIRS
    for start in range(0, len(owner), step):
        part = slice(start, start + step)
        rows = rows_of(query, owner[part], device).double()  # P x D
        found[part] = rows.mul_(rows_of(gallery, reference[part], device)).sum(1)  # products of two float32 are exact in float64
    return found


def largest_similarity(query: Array, gallery: Array) -> Tensor:
    """``|q| max |g|``, which no similarity of a query exceeds and by which rounding errors are measured: N values, float64, on the CPU.

    Raises:
        GeoDTRError: embeddings that are not finite.
    """
    return norms(query, "query") * norms(gallery, "gallery").max()


def norms(embeddings: Array, what: str) -> Tensor:
    """Length of each embedding, float64, on the CPU.

    Raises:
        GeoDTRError: embeddings that are not finite.
    """
    found = _lengths(embeddings, None)
    require_finite(found, f"{what} embeddings")
    return found


def require_finite(values: Tensor, what: str) -> None:
    """Refuse numbers that stand for so many embeddings or queries (``what``, in the plural) and are not all finite.

    Raises:
        GeoDTRError: says how many are not.
    """
    if bad := int((~values.isfinite()).sum()):
        # Comparisons with NaN are all false: such a query would count as found.
        raise GeoDTRError(f"{bad} of {len(values)} {what} are not finite; the model diverged (lower lr) or its weights are damaged")


def rounding_norms(embeddings: Array, dtype: torch.dtype) -> Tensor:
    """Length of what each embedding loses when it is rounded to a dtype, float64, on the CPU."""
    return _lengths(embeddings, dtype)


def _lengths(embeddings: Array, lost_to: torch.dtype | None) -> Tensor:
    device = device_for(embeddings)
    found = torch.empty(len(embeddings), dtype=torch.float64, device=device)  # in place: small pieces between large ones fragment the heap
    step = max(1, (PIECE if device.type == "cpu" else 1024 * PIECE) // max(1, embeddings.shape[-1]))
    for start in range(0, len(embeddings), step):
        rows = rows_of(embeddings, slice(start, start + step), device)
        exact = rows.double()
        found[start : start + step] = (exact if lost_to is None else exact - rows.to(lost_to).double()).norm(dim=1)
    return found.cpu()


def device_for(query: Array) -> torch.device:
    """Where similarities of these queries are computed: where they are, or the CPU for arrays and for MPS, which has no float64."""
    return query.device if isinstance(query, Tensor) and query.device.type != "mps" else torch.device("cpu")


def resident(gallery: Array, device: torch.device) -> Array:
    """The gallery on the device that computes, when it takes at most a quarter of the memory free there; else as it is, to go by blocks."""
    if device.type != "cuda" or (isinstance(gallery, Tensor) and gallery.device == device):
        return gallery
    size = gallery.nbytes if isinstance(gallery, np.ndarray) else gallery.numel() * gallery.element_size()
    return rows_of(gallery, slice(None), device) if 4 * size <= torch.cuda.mem_get_info(device)[0] else gallery


def rows_of(embeddings: Array, rows: slice | Tensor, device: torch.device) -> Tensor:
    """These rows in their own dtype on a device. What goes to a GPU goes from pinned memory, and nobody waits for it."""
    if isinstance(embeddings, np.ndarray):
        picked = torch.from_numpy(np.array(embeddings[rows if isinstance(rows, slice) else rows.cpu().numpy()]))
    elif isinstance(rows, slice):
        picked = embeddings.detach()[rows]
    else:
        picked = embeddings.detach().index_select(0, rows.to(embeddings.device))
    if device.type == "cuda" and picked.device.type == "cpu":
        return picked.pin_memory().to(device, non_blocking=True)
    return picked.to(device)


def as_index(values: Array) -> Tensor:
    """Indices as int64 on the CPU."""
    return torch.as_tensor(values).long().cpu()
