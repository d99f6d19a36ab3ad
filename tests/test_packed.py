"""The packed cache: the same pixels as the files give, made once, whole or not at all."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import make_cvusa
from PIL import Image

from geodtr_lib import training
from geodtr_lib.config import resolve_config
from geodtr_lib.data import open_for, packed
from geodtr_lib.data.inputs import fit_aerial
from geodtr_lib.data.packed import PackedDataset, pack, packed_bytes
from geodtr_lib.errors import DatasetError, RunError

SIZE = (16, 64)
PACKED: dict = dict(dataset="cvusa", ground_size=SIZE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_cvusa(tmp_path, 10, 6)


def source(root: Path, split: str = "train", **values: object):
    return open_for(resolve_config("smoke", dataset="cvusa", data_root=str(root), ground_size=SIZE, tile_size=0, **values), "cvusa", split)


@pytest.mark.parametrize("polar", [True, False])
def test_packed_images_are_those_of_the_files(root: Path, polar: bool) -> None:
    plain = source(root, polar=polar, aerial_size=SIZE if polar else (32, 32))
    fast = pack(plain, SIZE, SIZE if polar else (32, 32), polar, progress=False)
    rows = [7, 0, 7, 3]
    assert torch.equal(fast.ground(rows), plain.ground(rows))
    expected = fit_aerial(plain.aerial(rows), SIZE, polar=True) if polar else plain.aerial(rows)
    assert torch.equal(fast.aerial(rows), expected)
    assert fast.aerial_is_polar is polar
    assert (fast.hash, len(fast), fast.query_ids) == (plain.hash, len(plain), plain.query_ids)


def test_the_cache_is_made_once_and_follows_the_sizes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = source(root)
    pack(plain, SIZE, SIZE, True, progress=False)
    monkeypatch.setattr(type(plain), "ground", lambda *_: pytest.fail("the files were read again"))
    pack(plain, SIZE, SIZE, True, progress=False)
    monkeypatch.undo()


def test_tiles_of_another_size_are_other_pixels(root: Path) -> None:
    """Tiles are brought to ``tile_size`` before they are unrolled; without it the cache keeps the name that it had."""
    native, small = (source(root), open_for(resolve_config("smoke", **PACKED, data_root=str(root), tile_size=24), "cvusa", "train"))
    fast, again = pack(native, SIZE, SIZE, True, progress=False), pack(small, SIZE, SIZE, True, progress=False)
    for data, packed_data in ((native, fast), (small, again)):
        assert torch.equal(packed_data.aerial([3, 5]), fit_aerial(data.aerial([3, 5]), SIZE, polar=True))
    assert not torch.equal(fast.aerial([3, 5]), again.aerial([3, 5]))
    values = {name: getattr(small, name) for name in ("hash", "aerial_is_polar", "tile_size")}
    assert values == {"hash": native.hash, "aerial_is_polar": False, "tile_size": 24}


def test_a_run_on_packed_images_has_the_same_numbers(root: Path, tmp_path: Path) -> None:
    values = dict(preset="smoke", dataset="cvusa", data_root=str(root), ground_size=SIZE, tile_size=0, batch_size=4)
    first = training.run({**values, "run_dir": str(tmp_path / "files")}, progress=False)
    second = training.run({**values, "run_dir": str(tmp_path / "packed"), "packed": True}, progress=False)
    assert first["evaluation"] == second["evaluation"]
    assert first["train"]["loss"] == second["train"]["loss"]
    # `packed` says how images are read, not what is computed: a run may go on with the other way.
    assert training.run({**values, "run_dir": str(tmp_path / "files"), "packed": True}, progress=False)["evaluation"] == first["evaluation"]


def test_an_unreadable_image_leaves_no_cache_behind(root: Path, cache: Path) -> None:
    plain = source(root)
    picture = next((root / "streetview" / "panos").glob("*.jpg"))
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(DatasetError, match=picture.name):
        pack(plain, SIZE, SIZE, True, progress=False)
    assert list((cache / "packed").iterdir()) == []


def test_a_cache_that_does_not_fit_is_refused_before_anything_is_decoded(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = source(root)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 100, 100))
    monkeypatch.setattr(type(plain), "ground", lambda *_: pytest.fail("decoded"))
    with pytest.raises(RunError, match=r"GB free.*packed=False"):
        pack(plain, SIZE, SIZE, True, progress=False)
    assert list((cache / "packed").iterdir()) == []


def test_a_cache_file_that_was_cut_short_is_named(root: Path, cache: Path) -> None:
    plain = source(root)
    pack(plain, SIZE, SIZE, True, progress=False)
    file = next((cache / "packed").glob("*/aerial.npy"))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"aerial\.npy is cut short"):
        pack(plain, SIZE, SIZE, True, progress=False)


def test_bytes_are_those_of_the_arrays(root: Path, cache: Path) -> None:
    plain = source(root)
    pack(plain, SIZE, SIZE, True, progress=False)
    arrays = [np.load(path, mmap_mode="r") for path in (cache / "packed").glob("*/*.npy")]
    assert sum(array.nbytes for array in arrays) == packed_bytes(plain, SIZE, SIZE)


def test_images_of_changed_files_are_packed_again(root: Path, cache: Path) -> None:
    pack(source(root), SIZE, SIZE, True, progress=False)
    picture = next((root / "streetview" / "panos").glob("*.jpg"))
    Image.new("RGB", (1232, 224), (200, 10, 10)).save(picture, quality=99)
    again = source(root)
    fast = pack(again, SIZE, SIZE, True, progress=False)
    assert isinstance(fast, PackedDataset)
    index = again.query_ids.index(picture.stem) if picture.stem in again.query_ids else 0
    assert torch.equal(fast.ground([index]), again.ground([index]))
    assert len(list((cache / "packed").iterdir())) == 2
