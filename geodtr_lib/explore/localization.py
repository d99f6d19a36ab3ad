"""Where was this panorama taken? A gallery of an area's tiles, asked with panoramas that the model has not seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geodtr_lib import data, paths
from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import PairDataset
from geodtr_lib.data.inputs import fit_ground, prepare_ground
from geodtr_lib.data.osm_map import StreetMap, street_map
from geodtr_lib.data.scenes import StreetTiles, street_tiles_hash
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.evaluation import embed
from geodtr_lib.evaluation.embeddings import Encoder
from geodtr_lib.evaluation.metres import error_table, metres_apart
from geodtr_lib.gallery import Candidates, build_gallery, read_gallery, save_gallery
from geodtr_lib.geometry import crop_field_of_view, heading_shifts
from geodtr_lib.lookup import expanded
from geodtr_lib.study.trained import Trained, narrowed, target_config
from geodtr_lib.training import protocol_of

Tiles = Literal["streets", "places"]


@dataclass(frozen=True)
class Located:
    """One panorama and where it could be.

    Attributes:
        candidates: the k nearest tiles; rows of one query.
        truth: latitude and longitude in degrees, or None.
        metres: k, from the truth to each candidate; NaN where the truth is unknown.
    """

    candidates: Candidates
    truth: np.ndarray | None
    metres: np.ndarray


class Localizer:
    """A trained run with a gallery of one OpenStreetMap area.

    Args:
        trained: the model.
        area: area of ``osm``.
        given: values that evaluation can choose, such as ``n_test`` (queries) and ``data_root``.
        tiles: ``streets`` (tiles all along the streets, every ``spacing`` metres) or ``places`` (those of the test queries themselves).
        spacing: metres between neighbouring tiles along the streets.
        path: file of the gallery; read where it exists, written where it does not; empty = in the run's folder, or among the runs for a
            run that ships with the library, and made again where it is of other tiles (another extract, seed or size).
        progress: show bars.

    Raises:
        CheckpointError: the file's gallery was made with another model.
        DatasetError: an area without latitude and longitude, or the named file holds other tiles.
    """

    def __init__(
        self, trained: Trained, area: str, given: dict[str, Any] | None = None, *, tiles: Tiles = "streets", spacing: float = 10.0,
        path: str | Path = "", progress: bool = False,
    ) -> None:  # fmt: skip
        self.trained, self.area = trained, area
        self.config: RunConfig = target_config(trained, {**(given or {}), "dataset": "osm"}, area)
        self.model = trained.model.to(self.config.device)
        self.queries: PairDataset = data.open_for(self.config, area, "test")
        if self.queries.query_location is None:
            raise DatasetError(f"{self.queries!r} has no latitude and longitude")
        if tiles not in ("streets", "places"):
            raise ConfigError(f"tiles: {tiles!r} is not known; allowed: streets, places")
        kind = f"{tiles}-{spacing:g}m" if tiles == "streets" else tiles
        self.path = expanded(path) if path else gallery_path(trained, area, kind)
        wanted = street_tiles_hash(self.config, area, spacing) if tiles == "streets" else self.queries.hash
        found = read_gallery(self.path, self.model) if os.path.isfile(self.path) else None
        if found is not None and found.info.data != wanted and path:
            raise DatasetError(f"{self.path} holds other tiles (extract, spacing, seed or size differ); remove it, or give another path")
        if found is not None and found.info.data == wanted:
            self.gallery = found
        else:
            references = StreetTiles(self.config, area, spacing) if tiles == "streets" else self.queries
            self.gallery = build_gallery(self.model, references, self.config, trained.trained_on, progress)
            save_gallery(self.gallery, self.path)
        # Unknown headings come from `data_seed`, which has done its work: the places are there.
        self.headings = heading_shifts(len(self.queries), self.config.seed) if self.config.heading == "random" else None
        self._encoder = narrowed(trained, self.config).to(self.config.device)
        self.embedding = embed(
            self._encoder, self.queries, "ground", self.config.ground_size, normalisation=self.config.normalisation, fov=self.config.fov,
            shift=self.headings, batch_size=self.config.eval_batch_size, progress=progress,
        )  # fmt: skip

    @property
    def protocol(self) -> str:
        """``same`` or ``cross``: was the model trained in this area?"""
        return protocol_of(self.trained.config, f"osm:{self.area}", "test")

    @cached_property
    def map(self) -> StreetMap:
        """The area's streets and buildings."""
        return street_map(self.area, data.osm_root(self.area, self.config.data_root))

    def panorama(self, query: int) -> Tensor:
        """What is seen of a held-out panorama, uint8 3 x H x round(W fov / 360), turned as it is asked with.

        Raises:
            ConfigError: no such query.
        """
        whole = fit_ground(self.queries.ground([self._known(query)]), self.config.ground_size)
        return crop_field_of_view(whole, self.config.fov, 0.0 if self.headings is None else self.headings[[query]])[0]

    def locate(self, query: int | Tensor, k: int = 5, heading: float = 0.0) -> Located:
        """Where a query could have been taken.

        Args:
            query: number of a held-out panorama, or a picture of one's own on a panorama's canvas, uint8 3 x H x W.
            k: candidates.
            heading: of one's own picture, degrees: the middle of what a model of limited view is given of the canvas. A model of whole
                panoramas is given the whole canvas, north in the middle.

        Raises:
            ConfigError: no such query.
        """
        if isinstance(query, Tensor):
            config = self.config
            turned = torch.tensor([heading if config.fov < 360 else 0.0])
            with torch.inference_mode():
                given = prepare_ground(query[None], config.ground_size, config.normalisation, config.fov, turned)
                embedding = cast(Encoder, self._encoder).encode_ground(given.to(config.device)).float().cpu()
            nearest = _first(self.gallery.search(embedding, k))
            return Located(nearest, None, np.full(len(nearest.index), np.nan))  # a gallery may have fewer
        query = self._known(query)
        found = _first(self.gallery.search(self.embedding[query][None], k))
        truth = np.asarray(self.queries.query_location)[query]
        return Located(found, truth, metres_apart(found.location, truth))

    def _known(self, query: int) -> int:
        if not 0 <= query < len(self.queries):
            raise ConfigError(f"there is no query {query}; there are {len(self.queries)}, counted from 0")
        return query

    @cached_property
    def distances(self) -> np.ndarray:
        """Metres from each query to every tile, N x M."""
        return metres_apart(np.asarray(self.queries.query_location)[:, None], self.gallery.location[None])

    @cached_property
    def errors(self) -> np.ndarray:
        """Metres from each query to the tile that it found first, N."""
        first = self.gallery.search(self.embedding, 1).index[:, 0]
        return np.asarray(self.distances[np.arange(len(first)), first])

    def table(self) -> pd.DataFrame:
        """Errors in metres with intervals, chance and the best possible; see :func:`geodtr_lib.evaluation.metres.error_table`."""
        return error_table(self.errors, self.distances).assign(area=self.area, protocol=self.protocol, gallery=len(self.gallery))


def compare_areas(localizers: Sequence[Localizer]) -> pd.DataFrame:
    """The tables of several areas as text to read: one row per measure, one block of columns per area."""
    columns = {}
    for localizer in localizers:
        table = localizer.table()
        heading = f"{localizer.area}, {localizer.protocol}-area (n = {int(table['n'].iloc[0])}, {len(localizer.gallery):,} tiles)"
        scale = np.where(table["unit"] == "%", 100, 1)
        for name in ("value", "chance", "best"):
            numbers = table[name].to_numpy() * scale
            cells = [f"{number:.1f} {unit}" for number, unit in zip(numbers, table["unit"], strict=True)]
            if name == "value":
                ends = zip(table["low"].to_numpy() * scale, table["high"].to_numpy() * scale, strict=True)
                cells = [f"{cell} [{low:.1f}, {high:.1f}]" for cell, (low, high) in zip(cells, ends, strict=True)]
            columns[heading, "measured [95 %]" if name == "value" else name] = cells
    return pd.DataFrame(columns, index=list(localizers[0].table()["measure"]))


def gallery_path(trained: Trained, area: str, kind: str) -> Path:
    """Where a run's gallery of an area is kept: beside the run, or among the runs for one that ships with the library."""
    folder = trained.folder
    if folder.resolve().is_relative_to(paths.PACKAGE):
        folder = paths.runs_folder() / f"galleries-{folder.name}"
    return folder / f"gallery-{area}-{kind}.parquet"


def _first(candidates: Candidates) -> Candidates:
    return Candidates(candidates.index[0], candidates.distance[0], candidates.location[0])
