"""Repeated CVUSA pairs, found by hash of the decoded pixels (the paper's Sec. IV-A and Fig. 6).

The paper hashes the pixels of every aerial and of every ground image and removes repeated pairs from training; they stay
in evaluation. Its cleaned list keeps 34,769 of 35,532 training rows. It is not said which of several equal pairs stays;
here a row goes when its aerial *or* its ground pixels equal those of an earlier row, so that no image is seen twice.
Where the aerial images are read from offline polar maps, those are hashed: equal tiles have equal maps.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodtr_lib.data.folders import Tree
from geodtr_lib.data.images import UnreadableImage, for_each, read_rgb
from geodtr_lib.data.pairs import PairTable
from geodtr_lib.data.screening import fault_lines, summary
from geodtr_lib.errors import DatasetError, RunError
from geodtr_lib.files import digest, write_json
from geodtr_lib.paths import cache_folder


@dataclass(frozen=True)
class PixelHash:
    """The ``value`` (32 hex digits) of an image's pixels, or a ``fault`` when it cannot be decoded."""

    value: str = ""
    fault: str = ""


def pixel_hash(path: str) -> PixelHash:
    """Hash an image's size and RGB pixels: equal for equal images in different files and formats."""
    try:
        image = read_rgb(path)
    except UnreadableImage as error:
        return PixelHash(fault=error.reason)
    return PixelHash(hashlib.blake2b(image.tobytes(), digest_size=16, salt=repr(image.size).encode()[:16]).hexdigest())


def hash_images(tree: Tree, names: Sequence[str], *, workers: int = 0, progress: bool = True, label: str = "") -> list[PixelHash]:
    """Pixel hash of each file."""
    return for_each(pixel_hash, [tree.path(name) for name in names], workers, progress, label)


def repeated_rows(ground: Sequence[PixelHash], aerial: Sequence[PixelHash]) -> np.ndarray:
    """N booleans: rows whose ground or aerial pixels occurred in an earlier row. An unreadable image equals nothing."""
    repeated = np.zeros(len(ground), bool)
    for hashes in (ground, aerial):
        seen: set[str] = set()
        for row, pixels in enumerate(hashes):
            if not pixels.fault:
                repeated[row] |= pixels.value in seen
                seen.add(pixels.value)
    return repeated


def remove_repeats(
    table: PairTable, tree: Tree, title: str, *, skip_missing: bool = False, workers: int = 0, progress: bool = True
) -> tuple[PairTable, int]:
    """The screened, one-to-one table without repeated pairs, and how many went.

    The first call decodes every image (minutes); the answer is cached under the root, the file names and the file sizes.

    Raises:
        DatasetError: an image is damaged in a way that only decoding shows (left out with a warning with ``skip_missing``).
    """
    key = digest([tree.real_root, list(table.ground), list(table.aerial), table.query["bytes"].tolist(), table.reference["bytes"].tolist()])
    cache = cache_folder() / f"repeats-{key}.json"
    repeated = _cached_rows(cache, len(table.ground))
    damaged = np.zeros(len(table.ground), bool)
    if repeated is None:
        label = f"{title}: looking for repeated pairs"
        ground = hash_images(tree, table.ground, workers=workers, progress=progress, label=label + " (ground)")
        aerial = hash_images(tree, table.aerial, workers=workers, progress=progress, label=label + " (aerial)")
        damaged = np.array([bool(pair[0].fault or pair[1].fault) for pair in zip(ground, aerial, strict=True)])
        repeated = repeated_rows(ground, aerial) & ~damaged
        faults = fault_lines([*table.ground, *table.aerial], [*ground, *aerial])
        if not faults:
            _keep_rows(cache, title, tree, repeated)
        elif skip_missing:
            warnings.warn(
                f"{title} in {tree.root}: {summary(faults, 2 * len(ground))}; skipped {damaged.sum():,} more queries", stacklevel=3
            )
        else:
            found = f"{title} in {tree.root}: {summary(faults, 2 * len(ground))}"
            raise DatasetError(f"{found}; fetch them again, or set skip_missing=True to go on without them")
    return table.keep_pairs(~(repeated | damaged)), int(repeated.sum())


def _cached_rows(cache: Path, count: int) -> np.ndarray | None:
    try:
        rows = json.loads(cache.read_bytes())["repeated_rows"]
        repeated = np.zeros(count, bool)
        repeated[np.array(rows, dtype=int)] = True
        return repeated
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None  # none yet, or not one of ours: find them again


def _keep_rows(cache: Path, title: str, tree: Tree, repeated: np.ndarray) -> None:
    try:
        write_json(cache, {"data": title, "root": tree.root, "repeated_rows": np.flatnonzero(repeated).tolist()})
    except RunError as error:  # a read-only home is no reason not to train
        warnings.warn(f"the list of repeated pairs is not kept: {error}", stacklevel=4)
