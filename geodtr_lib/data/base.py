"""What every data set gives: queries (ground panoramas), references (aerial tiles) and which belongs to which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.errors import DatasetError

Indices = Sequence[int] | np.ndarray | Tensor


class PairDataset(ABC):
    """Ground queries and aerial references of one area and split.

    Attributes:
        name: data set, e.g. ``city`` or ``cvusa``.
        area: area within it, e.g. ``oldtown``, ``helsinki``, ``Seattle+Chicago``.
        split: ``train`` or ``test`` (the owners' val and test where they differ).
        positive: N integers, the reference of each query.
        semi_positive: N x 3 integers (VIGOR) or None.
        query_ids, reference_ids: names of the items (file names or place numbers).
        query_location, reference_location: N x 2 and M x 2 latitude and longitude in degrees, or None.
        query_position, reference_position: N x 2 and M x 2 metres east and north in a local or UTM frame, or None.
        hash: 16 hex digits that identify the content.
        aerial_is_polar: the aerial images are already unrolled to panorama shape (offline polar maps).

    Images are uint8, RGB. Aerial tiles have north up; panoramas have north in the centre column.
    """

    name: str
    area: str
    split: str
    positive: np.ndarray
    semi_positive: np.ndarray | None = None
    query_ids: Sequence[str]
    reference_ids: Sequence[str]
    query_location: np.ndarray | None = None
    reference_location: np.ndarray | None = None
    query_position: np.ndarray | None = None
    reference_position: np.ndarray | None = None
    hash: str
    aerial_is_polar: bool = False

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.positive)

    @property
    def n_references(self) -> int:
        """Number of references."""
        return len(self.reference_ids)

    @abstractmethod
    def ground(self, indices: Indices) -> Tensor:
        """Panoramas of these queries, uint8, B x 3 x H x W."""

    @abstractmethod
    def aerial(self, indices: Indices) -> Tensor:
        """Tiles of these references, uint8, B x 3 x S x S (B x 3 x H x W when ``aerial_is_polar``)."""

    def __repr__(self) -> str:
        return f"<{self.name} {self.area} {self.split}: {len(self):,} queries, {self.n_references:,} references>"


class ArrayDataset(PairDataset):
    """A data set whose images lie in (memory-mapped) arrays; one reference per query.

    Args:
        aerial: uint8, N x 3 x S x S.
        ground: uint8, N x 3 x H x W.
        truth: optional arrays of N rows: ``ground_depth`` (metres), ``ground_class``, ``aerial_class``.
    """

    def __init__(
        self,
        name: str,
        area: str,
        split: str,
        aerial: np.ndarray,
        ground: np.ndarray,
        content_hash: str,
        position: np.ndarray | None = None,
        location: np.ndarray | None = None,
        truth: dict[str, np.ndarray] | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        if len(aerial) != len(ground):
            raise DatasetError(f"{name} {area} {split}: {len(aerial)} aerial tiles but {len(ground)} panoramas")
        self.name, self.area, self.split, self.hash = name, area, split, content_hash
        self.aerial_array, self.ground_array = aerial, ground
        self.positive = np.arange(len(ground))
        self.query_ids = self.reference_ids = [f"{area}-{split}-{i:05d}" for i in range(len(ground))]
        self.query_position = self.reference_position = position
        self.query_location = self.reference_location = location
        self.truth = truth or {}
        self.class_names = tuple(class_names)

    def ground(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self.ground_array[np.asarray(indices)])

    def aerial(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self.aerial_array[np.asarray(indices)])


@dataclass(repr=False)
class VerifyReport:
    """What ``verify`` found.

    ``problems`` is empty when the files that the lists name are all well, ``unexpected`` when the lists are as long as the owners', too.

    Attributes:
        counts, expected: numbers found, and those of the owners.
        problems: one line of each kind of fault, with the first files and what to do.
        details: all that the lines are about, by kind.
        faulty: every image that is missing or cannot be read, relative to ``root``.
    """

    name: str
    root: str
    counts: dict[str, int]
    expected: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    faulty: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def unexpected(self) -> list[str]:
        """Counts that differ from the owners', and parts that are not there: one line each."""
        differ = [(key, self.counts.get(key, 0), expected) for key, expected in self.expected.items() if not key.startswith("repeated")]
        return [f"{key}: {count:,} instead of {expected:,}" for key, count, expected in differ if count != expected]

    def __str__(self) -> str:
        lines = [f"{self.name} at {self.root}"]
        for key, count in self.counts.items():
            expected = self.expected.get(key)
            lines.append(f"  {key}: {count:,}" + (f" (expected {expected:,})" if expected is not None and expected != count else ""))
        lines += [f"  problem: {line}" for line in self.problems] or ["  no problem found"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)  # the details of a whole data set fill a notebook


class VerifyError(DatasetError):
    """Data that ``verify`` found at fault; ``report`` says all of it."""

    def __init__(self, message: str, report: VerifyReport) -> None:
        super().__init__(message)
        self.report = report
