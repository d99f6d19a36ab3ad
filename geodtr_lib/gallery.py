"""Galleries of geo-tagged tiles: embedded once, kept in a Parquet file that any tool reads, searched by panoramas.

A file has one row per tile: ``id`` (text), ``latitude`` and ``longitude`` (degrees, WGS84) and ``embedding`` (a list of D float32 of
unit length). Its schema's metadata holds, under ``geodtr_gallery``, JSON with the fields of :class:`GalleryInfo`: above all the hash of the
model, because embeddings of two models have nothing to do with each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import PairDataset
from geodtr_lib.errors import CheckpointError, ConfigError, DatasetError, first_line
from geodtr_lib.evaluation import embed, own_similarity, top_k
from geodtr_lib.files import whole_file

SCHEMA = 1
_KEY = b"geodtr_gallery"
_COLUMNS = ("id", "latitude", "longitude", "embedding")


def model_hash(model: nn.Module) -> str:
    """16 hex digits that identify a model's weights: names, shapes and values as float32, wherever and in whatever file they lie."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery was made of.

    Attributes:
        model: :func:`model_hash` of the model.
        data: hash of the tiles' data set.
        dataset, area: where the tiles lie.
        trained_on: ``dataset:area`` that the model was trained on; empty where unknown.
        schema: version of the file's layout.
    """

    model: str
    data: str
    dataset: str
    area: str
    trained_on: str = ""
    schema: int = SCHEMA


@dataclass(frozen=True)
class Candidates:
    """The k nearest tiles of N queries, nearest first; N x k each, ``location`` N x k x 2 (latitude, longitude in degrees).

    ``distance`` is the squared L2 distance of the embeddings, in [0, 4].
    """

    index: np.ndarray
    distance: np.ndarray
    location: np.ndarray


@dataclass(frozen=True)
class Gallery:
    """Embedded tiles with their places.

    Attributes:
        embedding: M x D float32, unit length.
        ids: M names.
        location: M x 2, latitude and longitude in degrees.
        info: what it was made of.
    """

    embedding: Tensor
    ids: Sequence[str]
    location: np.ndarray
    info: GalleryInfo

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<gallery of {self.info.dataset} {self.info.area}: {len(self):,} tiles, {self.embedding.shape[1]} numbers each>"

    def require(self, model: nn.Module, name: str = "the gallery") -> None:
        """Check that this model made the gallery.

        Raises:
            CheckpointError: another model did; its embeddings cannot be compared with this one's.
        """
        if (given := model_hash(model)) != self.info.model:
            raise CheckpointError(f"{name} was made with model {self.info.model}, not with {given}; build it again with this model")

    def search(self, query: Tensor, k: int = 5) -> Candidates:
        """The k nearest tiles of embeddings N x D, exactly.

        Raises:
            CheckpointError: embeddings of another length.
        """
        if query.shape[-1] != self.embedding.shape[-1]:
            raise CheckpointError(f"the gallery holds {self.embedding.shape[-1]} numbers per tile, the query {query.shape[-1]}")
        similarity, index = top_k(query, self.embedding, k)
        return Candidates(index.numpy(), (2 - 2 * similarity).clamp(0, 4).numpy(), self.location[index.numpy()])


def build_gallery(model: nn.Module, tiles: PairDataset, config: RunConfig, trained_on: str = "", progress: bool = False) -> Gallery:
    """Embed the references of a data set.

    Args:
        model: has ``encode_aerial``; the other branch does not run.
        tiles: its references have latitude and longitude.
        config: of the model.
        trained_on: ``dataset:area``, for the record.
        progress: show a bar.

    Raises:
        ConfigError: a model whose similarity is more than an inner product, which is all that a gallery is searched by.
        DatasetError: references without latitude and longitude.
    """
    if own_similarity(model) is not None:
        raise ConfigError(f"model: {config.model!r} compares by more than an inner product, which is all that a gallery is searched by")
    if tiles.reference_location is None:
        raise DatasetError(f"{tiles!r} has no latitude and longitude; a gallery to look places up in needs them (dataset=osm has)")
    embedding = embed(
        model, tiles, "aerial", config.aerial_size, polar=config.polar, normalisation=config.normalisation,
        batch_size=config.eval_batch_size, progress=progress,
    )  # fmt: skip
    info = GalleryInfo(model_hash(model), tiles.hash, tiles.name, tiles.area, trained_on)
    return Gallery(embedding, list(tiles.reference_ids), np.asarray(tiles.reference_location, np.float64), info)


def save_gallery(gallery: Gallery, path: str | Path) -> Path:
    """Write a gallery as Parquet, whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path).expanduser()
    values = pa.array(gallery.embedding.float().cpu().numpy().reshape(-1))
    columns = {
        "id": pa.array([str(name) for name in gallery.ids]),
        "latitude": pa.array(gallery.location[:, 0]),
        "longitude": pa.array(gallery.location[:, 1]),
        "embedding": pa.FixedSizeListArray.from_arrays(values, gallery.embedding.shape[1]),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(asdict(gallery.info)).encode()})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)
    return path


def read_gallery(path: str | Path, model: nn.Module | None = None) -> Gallery:
    """Read a gallery. Nothing in the file can run code.

    Args:
        path: a file of :func:`save_gallery`; ``~`` is the home folder.
        model: check that this model made it.

    Raises:
        DatasetError: missing, not to be read, damaged, no gallery, or one of a later version.
        CheckpointError: it was made with another model.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path).expanduser()
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist; build the gallery first") from None
    except PermissionError:
        raise DatasetError(f"{path} cannot be read: permission denied; change its permissions, or give another path") from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is damaged or no Parquet file ({first_line(error)[:120]}); build the gallery again") from None
    info = _info(path, table.schema.metadata or {})
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise DatasetError(f"{path} has no column {missing[0]!r}; build the gallery again")
    column = table["embedding"].combine_chunks()
    kind = table.schema.field("embedding").type
    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type)) or column.null_count + column.flatten().null_count:
        raise DatasetError(f"{path}: the column 'embedding' is {kind}, not lists of one length of float32; build the gallery again")
    embedding = torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), kind.list_size).copy())
    location = np.stack([table[name].to_numpy() for name in ("latitude", "longitude")], 1).astype(np.float64)
    if not len(table) or not np.isfinite(location).all() or not embedding.isfinite().all():
        raise DatasetError(f"{path} is empty or holds values that are not finite; build the gallery again")
    gallery = Gallery(embedding, table["id"].to_pylist(), location, info)
    if model is not None:
        gallery.require(model, str(path))
    return gallery


def _info(path: Path, metadata: dict[bytes, bytes]) -> GalleryInfo:
    try:
        found: dict[str, Any] = json.loads(metadata[_KEY])
        schema = int(found["schema"])
        if schema > SCHEMA:
            raise DatasetError(f"{path} has version {schema} of a gallery's layout, this library knows {SCHEMA}; build it again, or update")
        return GalleryInfo(**{field.name: found[field.name] for field in fields(GalleryInfo)})
    except (KeyError, TypeError, ValueError):
        raise DatasetError(f"{path} is no gallery: its metadata do not say which model made it") from None
