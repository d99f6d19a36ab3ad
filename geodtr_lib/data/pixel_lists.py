"""Fast selections from flat arrays: work on a list of pixels costs less than on all of them under a mask."""

from __future__ import annotations

import numpy as np


def take(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """``table[index]`` for indices that are known to lie within, several times as fast."""
    taken: np.ndarray = table.take(index, mode="clip")
    return taken


def split(at: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Quotient and remainder of pixel numbers."""
    quotient = at // size
    return quotient, at - quotient * size


def select(mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``np.where(mask, a, b)`` of float32 by bits, since a branch per pixel is mispredicted half the time."""
    bits = -mask.astype(np.int32)
    chosen: np.ndarray = (a.view(np.int32) ^ b.view(np.int32)) & bits ^ b.view(np.int32)
    return chosen.view(np.float32)


def rounded_once(function: np.ufunc, argument: np.ndarray) -> np.ndarray:
    """A function of float32 values by way of float64: the same on every machine, wherever in an array a value stands."""
    value: np.ndarray = function(argument, dtype=np.float64).astype(np.float32)
    return value
