"""Pairs whose images lie in files: which files they are, and the data set that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from geodtr_lib.data.base import Indices, PairDataset
from geodtr_lib.data.folders import Tree
from geodtr_lib.data.images import ReadImage, Size, for_each, image_size, read_batch, read_rgb, read_square
from geodtr_lib.errors import ConfigError
from geodtr_lib.files import digest

POLAR_MAPS = ("auto", "offline", "computed")


@dataclass(frozen=True)
class PairTable:
    """What makes up a data set before any image is read.

    Attributes:
        ground: N file names relative to the root, one per query.
        aerial: M file names, one per reference.
        positive: N indices of references.
        semi_positive: N x 3 indices of references, or None.
        query_ids, reference_ids: N and M names.
        query: arrays of N rows that belong to the queries (``location``, ``position``, ``offsets``).
        reference: arrays of M rows that belong to the references.
    """

    ground: Sequence[str]
    aerial: Sequence[str]
    positive: np.ndarray
    query_ids: Sequence[str]
    reference_ids: Sequence[str]
    semi_positive: np.ndarray | None = None
    query: dict[str, np.ndarray] = field(default_factory=dict)
    reference: dict[str, np.ndarray] = field(default_factory=dict)

    def keep(self, query: np.ndarray, reference: np.ndarray) -> PairTable:
        """The queries (N booleans) and references (M booleans) that stay, with indices renumbered.

        A query whose positive or semi-positive goes is dropped with it.
        """
        query = query & reference[self.positive]
        if self.semi_positive is not None:
            query = query & reference[self.semi_positive].all(axis=1)  # N x 3 -> N
        number = np.cumsum(reference) - 1
        return replace(
            self,
            ground=_where(self.ground, query),
            aerial=_where(self.aerial, reference),
            positive=number[self.positive[query]],
            semi_positive=None if self.semi_positive is None else number[self.semi_positive[query]],
            query_ids=_where(self.query_ids, query),
            reference_ids=_where(self.reference_ids, reference),
            query={key: rows[query] for key, rows in self.query.items()},
            reference={key: rows[reference] for key, rows in self.reference.items()},
        )

    def keep_pairs(self, rows: np.ndarray) -> PairTable:
        """For one-to-one tables (row i's reference is i): the pairs that stay (N booleans)."""
        return self.keep(rows, rows)


def _where(names: Sequence[str], mask: np.ndarray) -> list[str]:
    return [names[index] for index in np.flatnonzero(mask).tolist()]


def choose_polar_maps(tree: Tree, tiles: Sequence[str], maps: Sequence[str], size: Size, polar_maps: str) -> bool:
    """Read aerial images from offline polar maps instead of tiles?

    Args:
        tiles, maps: M file names each, relative to the root.
        size: (height, width) that the model takes.
        polar_maps: ``auto`` takes the maps when there is one for every tile and all have the model's size (maps of
            another size were made for another method, with other pixel values), ``offline`` insists on them, ``computed``
            leaves them alone.

    Raises:
        ConfigError: another value of ``polar_maps``.
    """
    if polar_maps not in POLAR_MAPS:
        raise ConfigError(f"polar_maps: {polar_maps!r} is not possible; allowed: {', '.join(POLAR_MAPS)}")
    if polar_maps != "auto":
        return polar_maps == "offline"
    present = [name for name in maps if tree.holds(name)]
    if not present or not all(tree.holds(polar) or not tree.holds(tile) for polar, tile in zip(maps, tiles, strict=True)):
        return False
    sizes = set(for_each(image_size, [tree.path(name) for name in present]))
    return sizes - {(0, 0)} == {size}  # one that cannot be read is named by the check of files


class ImageFileDataset(PairDataset):
    """Pairs read from files.

    Args:
        ground_size: (height, width) of panoramas.
        aerial_size: (height, width) of aerial images, except tiles that are to be unrolled by the training step.
        tile_size: with ``polar``, side of the square tiles that are given; 0 = the files' own.
        polar: the aerial images are meant for the polar transform: polar maps, or square tiles for it.
        aerial_is_polar: the aerial files are polar maps.
        read_ground: decodes one panorama.
        skipped: queries left out because of faulty files.
        repeats_removed: pairs left out because they repeat earlier ones.

    Attributes:
        offsets: N x 4 x 2 pixels (VIGOR) or None.
        tile_size: side that tiles are brought to before the training step unrolls them; 0 = the files' own, or they are not unrolled.
    """

    def __init__(
        self,
        table: PairTable,
        tree: Tree,
        *,
        name: str,
        area: str,
        split: str,
        ground_size: Size,
        aerial_size: Size,
        tile_size: int = 0,
        polar: bool = False,
        aerial_is_polar: bool = False,
        workers: int = 0,
        read_ground: ReadImage = read_rgb,
        skipped: int = 0,
        repeats_removed: int = 0,
    ) -> None:
        self.name, self.area, self.split = name, area, split
        self.positive, self.semi_positive = table.positive, table.semi_positive
        self.query_ids, self.reference_ids = table.query_ids, table.reference_ids
        self.query_location, self.reference_location = table.query.get("location"), table.reference.get("location")
        self.query_position, self.reference_position = table.query.get("position"), table.reference.get("position")
        self.offsets = table.query.get("offsets")
        self.aerial_is_polar = aerial_is_polar
        self.skipped, self.repeats_removed = skipped, repeats_removed
        self._ground_paths = [tree.path(file) for file in table.ground]
        self._aerial_paths = [tree.path(file) for file in table.aerial]
        self._ground_size, self._read_ground, self._workers = ground_size, read_ground, workers
        self._aerial_size: Size | None = aerial_size
        self._read_aerial: ReadImage = read_rgb
        self.tile_size = 0
        if polar and not aerial_is_polar:  # the training step unrolls; it wants the most detailed square there is
            self._aerial_size, self._read_aerial = (tile_size, tile_size) if tile_size else None, read_square
            self.tile_size = tile_size
        bytes_of_files = [rows["bytes"].tolist() for rows in (table.query, table.reference)]
        self.hash = digest([name, split, list(table.ground), list(table.aerial), bytes_of_files, table.positive.tolist()])

    def ground(self, indices: Indices) -> Tensor:
        paths = [self._ground_paths[index] for index in np.asarray(indices).tolist()]
        return read_batch(paths, self._ground_size, self._read_ground, self._workers)

    def aerial(self, indices: Indices) -> Tensor:
        paths = [self._aerial_paths[index] for index in np.asarray(indices).tolist()]
        return read_batch(paths, self._aerial_size, self._read_aerial, self._workers)

    def __repr__(self) -> str:
        notes = {"skipped": self.skipped, "repeats removed": self.repeats_removed}
        return super().__repr__()[:-1] + "".join(f", {count:,} {note}" for note, count in notes.items() if count) + ">"
