"""Which of a table's files can be used: there, and whole. The rest is refused or skipped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from geodtr_lib.data.folders import Tree
from geodtr_lib.data.images import FileCheck, check_whole, for_each
from geodtr_lib.data.pairs import PairTable
from geodtr_lib.errors import DatasetError

MISSING = "missing"  # the fault of a file that is not there
LISTS_ALL = "python -m geodtr_lib.data.verification NAME ROOT --write FILE"
_SHOWN = 5


class Checked(Protocol):
    """What a check says of a file; ``fault`` is empty when there is none."""

    @property
    def fault(self) -> str: ...


def screen(table: PairTable, tree: Tree, title: str, *, one_to_one: bool, skip_missing: bool, workers: int = 0) -> tuple[PairTable, int]:
    """Check that every file is there and whole, and refuse or skip those that are not.

    Args:
        title: what is being opened, for messages.
        one_to_one: a pair goes as a whole when either of its images does.
        skip_missing: leave faulty entries out, and warn how many.

    Returns:
        The usable table, with the sizes of its files as ``query["bytes"]`` and ``reference["bytes"]``, and the number of
        queries left out.

    Raises:
        DatasetError: faults without ``skip_missing``, or nothing left.
    """
    total = len(table.ground)
    if not total:
        raise DatasetError(f"{title}: its split is empty; fetch the split file again")
    ground, aerial = check_files(tree, table.ground, workers), check_files(tree, table.aerial, workers)
    table = replace(
        table,
        query={**table.query, "bytes": np.array([check.size for check in ground])},
        reference={**table.reference, "bytes": np.array([check.size for check in aerial])},
    )
    faults = fault_lines([*table.ground, *table.aerial], [*ground, *aerial])
    if not faults:
        return table, 0
    found = f"{title} in {tree.root}: {summary(faults, len(ground) + len(aerial))}"
    if not skip_missing:
        raise DatasetError(f"{found}; fetch them again, or set skip_missing=True to go on without them ({LISTS_ALL} lists all)")
    good_ground, good_aerial = (np.array([not check.fault for check in checks]) for checks in (ground, aerial))
    kept = table.keep_pairs(good_ground & good_aerial) if one_to_one else table.keep(good_ground, good_aerial)
    skipped = total - len(kept.ground)
    if not len(kept.ground):
        raise DatasetError(f"{found}; nothing is left to open")
    warnings.warn(f"{found}; skipped {skipped:,} of {total:,} queries", stacklevel=3)
    return kept, skipped


def check_files(tree: Tree, names: Sequence[str], workers: int = 0) -> list[FileCheck]:
    """Are these files (relative to the root) there and whole? Presence comes from directory listings."""

    def check(name: str) -> FileCheck:
        return check_whole(tree.path(name)) if tree.holds(name) else FileCheck(-1, MISSING)

    for folder in {os.path.dirname(name) for name in names}:
        tree.names(folder)  # listed once here, not by every thread
    return for_each(check, names, workers)


def fault_lines(names: Sequence[str], checks: Sequence[Checked]) -> list[str]:
    """``name (fault)`` of every file at fault."""
    return [f"{name} ({check.fault})" for name, check in zip(names, checks, strict=True) if check.fault]


def summary(faults: Sequence[str], total: int) -> str:
    """The number of faulty images and the first of them."""
    return f"{len(faults):,} of {total:,} images are missing or unreadable: {first_of(faults)}"


def first_of(lines: Sequence[str]) -> str:
    """The first five of many, and how many more there are."""
    more = f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
    return ", ".join(lines[:_SHOWN]) + more
