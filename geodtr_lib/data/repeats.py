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
from pathlib import Path

import numpy as np

from geodtr_lib.data.folders import Tree
from geodtr_lib.data.images import for_each, read_rgb
from geodtr_lib.data.pairs import PairTable
from geodtr_lib.errors import DatasetError, RunError
from geodtr_lib.files import digest, write_json
from geodtr_lib.paths import cache_folder


def pixel_hash(path: str) -> str:
    """Hash (32 hex digits) of an image's size and RGB pixels: equal for equal images in different files and formats.

    Raises:
        DatasetError: the file cannot be decoded.
    """
    image = read_rgb(path)
    return hashlib.blake2b(image.tobytes(), digest_size=16, salt=repr(image.size).encode()[:16]).hexdigest()


def repeated_rows(ground: Sequence[str | DatasetError], aerial: Sequence[str | DatasetError]) -> np.ndarray:
    """N booleans: rows whose ground or aerial hash occurred in an earlier row. An unreadable image equals nothing."""
    repeated = np.zeros(len(ground), bool)
    for hashes in (ground, aerial):
        seen: set[str] = set()
        for row, value in enumerate(hashes):
            if isinstance(value, str):
                repeated[row] |= value in seen
                seen.add(value)
    return repeated


def hash_images(tree: Tree, names: Sequence[str], *, workers: int = 0, progress: bool = True, label: str = "") -> list[str | DatasetError]:
    """Pixel hash of each file, or the error that says why it cannot be decoded."""

    def hash_or_error(name: str) -> str | DatasetError:
        try:
            return pixel_hash(tree.path(name))
        except DatasetError as error:
            return error

    return for_each(hash_or_error, names, workers, progress, label)


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
        errors = [value for value in [*ground, *aerial] if isinstance(value, DatasetError)]
        if errors and not skip_missing:
            raise errors[0]
        damaged = np.array([any(isinstance(value, DatasetError) for value in pair) for pair in zip(ground, aerial, strict=True)])
        repeated = repeated_rows(ground, aerial)
        if errors:
            warnings.warn(f"{title}: skipped {damaged.sum():,} more queries with damaged images, first {errors[0]}", stacklevel=3)
        else:
            _keep_rows(cache, title, tree, repeated)
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
