"""Galleries: round trips, exact search, and one line for a file that will not do."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from permissions import unreadable
from torch import nn
from torch.nn import functional as F

from geodtr_lib.config import resolve_config
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.errors import CheckpointError, ConfigError, DatasetError
from geodtr_lib.gallery import Gallery, GalleryInfo, build_gallery, model_hash, read_gallery, save_gallery
from geodtr_lib.models import build_model


class Means(nn.Module):
    """Embeds an aerial image by the means of its quarters."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def encode_aerial(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(F.adaptive_avg_pool2d(images, 2).flatten(1) + self.bias, dim=1)


@pytest.fixture
def gallery() -> Gallery:
    generator = torch.Generator().manual_seed(0)
    embedding = F.normalize(torch.randn(40, 12, generator=generator), dim=1)
    location = np.random.default_rng(0).uniform((60, 24), (61, 25), (40, 2))
    info = GalleryInfo(model_hash(Means()), "data", "osm", "town", "osm:town")
    return Gallery(embedding, [f"tile-{i}" for i in range(40)], location, info)


def test_a_gallery_comes_back_as_it_was(gallery: Gallery, tmp_path: Path) -> None:
    found = read_gallery(save_gallery(gallery, tmp_path / "g.parquet"), Means())
    assert torch.equal(found.embedding, gallery.embedding)
    assert np.array_equal(found.location, gallery.location)
    assert list(found.ids) == list(gallery.ids)
    assert found.info == gallery.info
    assert repr(found) == "<gallery of osm town: 40 tiles, 12 numbers each>"


def test_any_tool_reads_the_file(gallery: Gallery, tmp_path: Path) -> None:
    table = pd.read_parquet(save_gallery(gallery, tmp_path / "g.parquet"))
    assert list(table.columns) == ["id", "latitude", "longitude", "embedding"]
    assert np.allclose(np.stack(table["embedding"].to_list()), gallery.embedding.numpy())
    stored = json.loads(pq.read_schema(tmp_path / "g.parquet").metadata[b"geodtr_gallery"])
    assert stored == asdict(gallery.info)
    assert stored["schema"] == 1


def test_search_is_the_naive_search(gallery: Gallery) -> None:
    query = F.normalize(torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    found = gallery.search(query, 4)
    naive = torch.cdist(query.double(), gallery.embedding.double()) ** 2
    nearest = naive.argsort(1)[:, :4]
    assert found.index.tolist() == nearest.tolist()
    assert np.allclose(found.distance, naive.gather(1, nearest).numpy(), atol=1e-6)
    assert np.array_equal(found.location, gallery.location[nearest.numpy()])
    own = gallery.search(gallery.embedding, 1)
    assert own.index[:, 0].tolist() == list(range(40))
    assert own.distance.max() < 1e-6
    with pytest.raises(CheckpointError, match="holds 12 numbers per tile, the query 5"):
        gallery.search(torch.zeros(1, 5))


def test_a_gallery_of_another_model_is_refused_in_one_line(gallery: Gallery, tmp_path: Path) -> None:
    path = save_gallery(gallery, tmp_path / "g.parquet")
    with pytest.raises(CheckpointError) as caught:
        read_gallery(path, Means(1.0))
    assert str(caught.value) == (
        f"{path} was made with model {model_hash(Means())}, not with {model_hash(Means(1.0))}; build it again with this model"
    )


def test_the_hash_is_of_the_weights_not_of_the_file() -> None:
    assert model_hash(Means()) == model_hash(Means())
    assert model_hash(Means()) != model_hash(Means(1e-6))
    assert model_hash(Means(0.5).half()) == model_hash(Means(0.5)), "half precision that loses nothing is the same model"


def test_files_that_will_not_do_are_told_in_one_line(gallery: Gallery, tmp_path: Path) -> None:
    path = save_gallery(gallery, tmp_path / "g.parquet")
    whole, table = path.read_bytes(), pq.read_table(path)
    nan = replace(gallery, embedding=gallery.embedding * float("nan"))
    later = replace(gallery, info=replace(gallery.info, schema=9))
    wrong = table.set_column(3, "embedding", pa.array([[1.0]] * 40))
    empty = pa.array([None, *table["embedding"].to_pylist()[1:]], table.schema.field("embedding").type)
    cases = {
        "hole": (written(table.set_column(3, "embedding", empty), tmp_path), "not lists of one length of float32"),
        "cut": (whole[: len(whole) // 2], "is damaged or no Parquet file"),
        "text": (b"hello", "is damaged or no Parquet file"),
        "other": (written(pa.table({"a": [1]}), tmp_path), "is no gallery: its metadata do not say which model made it"),
        "column": (written(table.drop_columns(["latitude"]), tmp_path), "has no column 'latitude'"),
        "kind": (written(wrong, tmp_path), "not lists of one length of float32"),
        "nan": (save_gallery(nan, tmp_path / "x").read_bytes(), "holds values that are not finite"),
        "later": (save_gallery(later, tmp_path / "x").read_bytes(), "has version 9 of a gallery's layout, this library knows 1"),
    }
    for name, (content, told) in cases.items():
        (tmp_path / f"{name}.parquet").write_bytes(content)
        with pytest.raises(DatasetError) as caught:
            read_gallery(tmp_path / f"{name}.parquet")
        assert f"{name}.parquet" in str(caught.value)
        assert told in str(caught.value)
    with pytest.raises(DatasetError, match="does not exist; build the gallery first"):
        read_gallery(tmp_path / "none.parquet")


def test_a_gallery_may_be_named_from_home_and_one_that_may_not_be_read_is_told(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_gallery(gallery, "~/g.parquet") == tmp_path / "g.parquet"
    assert torch.equal(read_gallery("~/g.parquet").embedding, gallery.embedding)
    with unreadable(tmp_path / "g.parquet"), pytest.raises(DatasetError, match=r"g\.parquet cannot be read: permission denied; change its"):
        read_gallery(tmp_path / "g.parquet")


def written(table: pa.Table, folder: Path) -> bytes:
    pq.write_table(table, folder / "w")
    return (folder / "w").read_bytes()


def test_a_model_with_a_similarity_of_its_own_has_no_gallery() -> None:
    config = resolve_config("smoke", model="dsm", n_desc=2)
    images = np.zeros((2, 3, 16, 64), np.uint8)
    tiles = ArrayDataset("osm", "town", "test", images, images, "hash", location=np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="model: 'dsm' compares by more than an inner product"):
        build_gallery(build_model(config), tiles, config)


def test_building_needs_latitude_and_longitude_and_only_the_aerial_branch() -> None:
    rng = np.random.default_rng(0)
    aerial, ground = rng.integers(0, 255, (9, 3, 16, 16), np.uint8), rng.integers(0, 255, (9, 3, 16, 64), np.uint8)
    location = rng.uniform(0, 1, (9, 2))
    config = resolve_config("smoke", eval_batch_size=4)
    found = build_gallery(Means(), ArrayDataset("osm", "town", "test", aerial, ground, "hash", location=location), config, "osm:town")
    assert found.embedding.shape == (9, 12)
    assert found.info == GalleryInfo(model_hash(Means()), "hash", "osm", "town", "osm:town")
    with pytest.raises(DatasetError, match="has no latitude and longitude"):
        build_gallery(Means(), ArrayDataset("city", "midrise", "test", aerial, ground, "hash"), config)
