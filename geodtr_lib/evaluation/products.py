"""Matrix products in a short dtype, and by how much they may be off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation.similarity import Array, norms, rounding_norms, rows_of

Screening = Literal["fp32", "half"]
BLOCK = 4096  # rows of query and of gallery in one product


@dataclass(frozen=True)
class Screen:
    """A dtype to multiply in, and by how much its product may be off for each query (N, float64, on the device that computes)."""

    dtype: torch.dtype
    slack: Tensor

    def of(self, rows: slice | Tensor) -> Screen:
        """The screen of some of the queries."""
        return replace(self, slack=self.slack[rows])


class Workspace:
    """Memory that the products of one size after another are written into; fresh pages would cost as much as counting does."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Contiguous memory of a shape; what was taken before under this name and dtype is overwritten."""
        size = shape[0] * shape[1]
        kept = self._kept.get((name, dtype))
        if kept is None or len(kept) < size:
            kept = self._kept[name, dtype] = torch.empty(size, dtype=dtype, device=device)
        return kept[:size].view(shape)


def screens_for(query: Array, gallery: Array, largest: Tensor, device: torch.device, screening: Screening) -> list[Screen]:
    """The dtypes to multiply in, one after the other: what the first leaves open goes to the next. The last is float64.

    float32: rounding errors of a product add up like a random walk (Higham and Mary 2019): 8 sqrt(D) units are out of reach for D terms.
    Half precision (bfloat16, on CUDA float16 where it holds the values): ``q.g`` and the product of the rounded embeddings differ by
    ``q.(g - g') + (q - q').g'``, at most ``|q| |g - g'| + |q - q'| |g'|``, whose lengths are measured; the sum, in float32, adds less than
    D units. float64: D units each way.

    Raises:
        ConfigError: unknown ``screening``.
    """
    if screening not in get_args(Screening):
        raise ConfigError(f"screening: {screening!r} is not known; allowed: {', '.join(get_args(Screening))}")
    dimension = query.shape[-1]
    screens = [Screen(torch.float64, largest.to(device) * dimension * 2.0**-52)]
    wide = any(str(embeddings.dtype).endswith("float64") for embeddings in (query, gallery))
    if wide or device.type not in ("cpu", "cuda") or bool((largest > 1e37).any()):  # beyond: float32 could overflow
        return screens
    whole = _float32_is_whole(device)
    if whole:
        screens.insert(0, Screen(torch.float32, largest.to(device) * (8 * dimension**0.5 + 4) * 2.0**-24))
    # Products in TF32 and the like are of no use: what they round is not known, so what half precision rounds takes their place.
    if (screening == "half" or not whole) and (device.type == "cpu" or hasattr(torch.ops.aten.mm, "dtype")):
        length, reach = norms(query, "query"), norms(gallery, "gallery").max()
        dtype = torch.float16 if device.type == "cuda" and max(length.max(), reach) < 6e4 else torch.bfloat16
        lost, lost_reach = rounding_norms(query, dtype), rounding_norms(gallery, dtype).max()
        slack = length * lost_reach + lost * (reach + lost_reach) + largest * dimension * 2.0**-23
        if slack.isfinite().all():
            screens.insert(0, Screen(dtype, slack.to(device)))
    return screens


def multiply(rows: Tensor, items: Tensor, dtype: torch.dtype, memory: Workspace) -> Tensor:
    """``rows @ items.T``, B x G, multiplied in a dtype. On CUDA the product of halves is float32."""
    rows, items = rows.to(dtype), items.to(dtype)
    if dtype.itemsize == 2 and rows.device.type == "cuda":
        return torch.mm(rows, items.T, out_dtype=torch.float32)
    return torch.mm(rows, items.T, out=memory.take("product", (len(rows), len(items)), dtype, rows.device))


def limits_of(bound: Tensor, slack: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """B values each: a product below the first is below the bound, one above the second is above it.

    The limits are rounded as the product's elements are. Rounding keeps order, so an element beyond a limit was beyond it before.
    """
    return (bound - slack).to(dtype), (bound + slack).to(dtype)


def rows_in(embeddings: Array, dtype: torch.dtype, device: torch.device) -> Tensor:
    """All rows in another dtype on a device, converted block by block."""
    found = torch.empty(embeddings.shape, dtype=dtype, device=device)
    for start in range(0, len(embeddings), BLOCK):
        found[start : start + BLOCK] = rows_of(embeddings, slice(start, start + BLOCK), device)
    return found


def _float32_is_whole(device: torch.device) -> bool:
    """Whether float32 products are computed in float32, neither in TF32 nor in bfloat16."""
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
        return device.type != "cuda" or not torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # torch refuses to say when the older and the newer switch were both used
        return False
