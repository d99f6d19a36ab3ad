"""Tiles that show a place off their centre: VIGOR's semi-positives, and neighbours' tiles where places lie close together.

Offsets are those of a tile's centre, north and east of the camera, in halves of the tile's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.spatial import cKDTree

from geodtr_lib.data.base import PairDataset
from geodtr_lib.data.site_views import TILE_METRES
from geodtr_lib.errors import DatasetError

CANDIDATES = 3  # as many as VIGOR has semi-positives
_VIGOR_HALF = 320.0  # pixels of the owners' tiles


@dataclass(frozen=True)
class CoveringTiles:
    """For each query the tiles that show it.

    Attributes:
        reference: N x 4; the positive first, then others, or the positive again where there are fewer.
        offset: N x 4 x 2.
    """

    reference: np.ndarray
    offset: np.ndarray

    def draw(self, queries: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One other tile for each of B queries: references B, and offsets B x 2 x 2 of the positive and of that tile."""
        which = random.integers(1, self.reference.shape[1], len(queries))
        offset = np.stack([self.offset[queries, 0], self.offset[queries, which]], axis=1)
        return self.reference[queries, which], offset.astype(np.float32)


def covering_tiles(data: PairDataset, tile_metres: float = TILE_METRES) -> CoveringTiles:
    """The tiles that show each place of a data set: its labels' semi-positives, or the nearest neighbours' tiles.

    Args:
        data: VIGOR, or a data set with positions in metres.
        tile_metres: side of a tile, where there are positions.

    Raises:
        DatasetError: a data set that has neither, or where no other tile shows a place.
    """
    offsets: Any = getattr(data, "offsets", None)
    if data.semi_positive is not None and offsets is not None:
        return CoveringTiles(np.column_stack([data.positive, data.semi_positive]), np.asarray(offsets) / _VIGOR_HALF)
    if data.query_position is None or data.reference_position is None:
        raise DatasetError(
            f"{data.name} {data.area} has no tile that shows a place off its centre; set overlap_weight and offset_weight to 0"
        )
    query, reference = (np.asarray(cast(Any, position))[:, :2] for position in (data.query_position, data.reference_position))
    wanted = min(len(reference), CANDIDATES + 1)
    distance, index = cKDTree(reference).query(query, k=wanted, p=np.inf)
    index, distance = (found.reshape(len(query), -1) for found in (index, distance))
    positive = np.asarray(data.positive)[:, None]
    shows = (distance < tile_metres / 2) & (index != positive)
    order = np.argsort(~shows, axis=1, kind="stable")[:, :CANDIDATES]
    others = np.where(np.take_along_axis(shows, order, 1), np.take_along_axis(index, order, 1), positive)
    if not shows.any():
        raise DatasetError(f"{data.name} {data.area}: no tile shows a place off its centre; set overlap_weight and offset_weight to 0")
    tiles = np.column_stack([positive, others])
    east_north = (reference[tiles] - query[:, None]) / (tile_metres / 2)  # N x 4 x 2
    return CoveringTiles(tiles, east_north[..., ::-1].copy())


def turn_offset(offset: np.ndarray, flip: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Offsets after the tiles were given another layout.

    Args:
        offset: ... x 2, north and east.
        flip: ..., mirrored east and west first.
        turns: ..., quarter turns counter-clockwise: what was east is north.
    """
    north, east = offset[..., 0], np.where(flip, -offset[..., 1], offset[..., 1])
    turned = np.stack([np.stack(pair, axis=-1) for pair in ((north, east), (east, -north), (-north, -east), (-east, north))], axis=-2)
    found: np.ndarray = np.take_along_axis(turned, (turns % 4)[..., None, None], axis=-2)[..., 0, :]
    return found
