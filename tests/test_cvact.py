"""CVACT in its owners' layout: the sets of ACT_data.mat, where images are taken from, and how panoramas are processed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from miniature import make_cvact, save_act_data
from PIL import Image

from geodtr_lib.config import resolve_config
from geodtr_lib.data import open_dataset, open_for
from geodtr_lib.data.act_mat import read_act_data
from geodtr_lib.data.cvact import PANORAMA, find_cvact, open_cvact, read_raw_panorama
from geodtr_lib.data.images import area_resize
from geodtr_lib.errors import ConfigError, DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_cvact(tmp_path / "ACT", 6, 3, 5)


def test_each_set_has_its_rows_and_its_folder(root: Path) -> None:
    data = read_act_data(root / "ACT_data.mat")
    for area, split, rows in (("cvact", "train", range(6)), ("cvact", "test", range(6, 9)), ("cvact_test", "test", range(6, 11))):
        opened = open_dataset("cvact", root, area, split)
        assert list(opened.query_ids) == list(opened.reference_ids) == [data.pano_ids[row] for row in rows]
        assert opened.positive.tolist() == list(range(len(rows)))
        assert opened.query_position is not None
        assert np.array_equal(opened.query_position, data.utm[list(rows)])
        assert np.array_equal(opened.reference_position, opened.query_position)
        assert opened.ground([1]).shape == (1, 3, 122, 671)
        assert opened.aerial([1, 0]).shape == (2, 3, 96, 96)  # native, for the training step to unroll
    with pytest.raises(ConfigError, match="'cvact_test' 'train' is not known; allowed for cvact: cvact train, cvact test, cvact_test test"):
        open_cvact(root, "cvact_test", "train")


def test_without_polar_tiles_are_resized(root: Path) -> None:
    assert open_cvact(root, polar=False).aerial([0]).shape == (1, 3, 256, 256)
    assert open_cvact(root, polar=False, aerial_size=(20, 30), ground_size=(16, 64)).aerial([0]).shape == (1, 3, 20, 30)


@pytest.mark.parametrize("val_in", ["ANU_data_small", "ANU_data_test"])
def test_validation_images_are_found_in_either_folder(tmp_path: Path, val_in: str) -> None:
    root = make_cvact(tmp_path, 4, 3, 5, val_in=val_in)
    shutil.rmtree(root / ("ANU_data_test" if val_in == "ANU_data_small" else "ANU_data_small"))
    assert len(open_cvact(root, "cvact", "test")) == 3


def test_validation_prefers_the_first_folder_image_by_image(root: Path) -> None:
    first, second = open_cvact(root, split="test").query_ids[:2]
    for folder, red in (("ANU_data_small", 10), ("ANU_data_test", 200)):
        for name in (first, second):
            Image.new("RGB", (96, 96), (red, 0, 0)).save(root / folder / "satview_polish" / f"{name}_satView_polish.jpg")
    (root / "ANU_data_small/satview_polish" / f"{second}_satView_polish.jpg").unlink()
    tiles = open_cvact(root, split="test").aerial([0, 1])
    assert tiles[0, 0].float().mean() < 20
    assert tiles[1, 0].float().mean() > 190


def test_raw_panoramas_are_cropped_to_the_middle_half_of_rows(tmp_path: Path) -> None:
    rows = np.zeros((832, 1664, 3), np.uint8)
    rows[208:624] = (10, 120, 230)
    Image.fromarray(rows).save(tmp_path / "id_grdView.png")
    image = np.asarray(read_raw_panorama(str(tmp_path / "id_grdView.png")))
    assert image.shape == (122, 671, 3)
    assert (image == (10, 120, 230)).all()


def test_the_mean_survives_the_area_average(tmp_path: Path) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (416, 1664, 3), dtype=np.uint8)
    shrunk = np.asarray(area_resize(Image.fromarray(crop), PANORAMA))
    assert np.allclose(shrunk.mean((0, 1)), crop.mean((0, 1)), atol=0.02)
    assert shrunk.std() < crop.std() / 2  # averaged, not picked


def test_processed_panoramas_are_preferred_when_they_have_our_size(root: Path) -> None:
    raw = open_cvact(root).ground(range(6))
    ids = open_cvact(root).query_ids
    folder = root / "ANU_data_small" / "streetview_processed"
    folder.mkdir()
    Image.new("RGB", (671, 122), (7, 8, 9)).save(folder / f"{ids[2]}_grdView.png")
    data = open_cvact(root)
    assert data.ground([2])[0, :, 50, 50].tolist() == [7, 8, 9]
    assert (data.ground([1]) == raw[1]).all()
    (folder / ".DS_Store").write_bytes(b"of a Mac's file browser")
    assert (open_cvact(root).ground([2]) == data.ground([2])).all()
    Image.new("RGB", (616, 112), (7, 8, 9)).save(folder / f"{ids[2]}_grdView.png")  # another method's
    assert (open_cvact(root).ground([2]) == raw[2]).all()


def test_offline_polar_maps_are_taken_when_complete(root: Path) -> None:
    ids = open_cvact(root).query_ids
    (root / "ANU_data_small/polarmap").mkdir()
    for name in ids:
        Image.new("RGB", (671, 122), (1, 2, 3)).save(root / f"ANU_data_small/polarmap/{name}_satView_polish.png")
    data = open_cvact(root)
    assert data.aerial_is_polar
    assert data.aerial([0, 5]).shape == (2, 3, 122, 671)
    assert not open_cvact(root, split="test").aerial_is_polar


@pytest.mark.parametrize("place", ["", "lists/", "a/b/"])
def test_act_data_lies_anywhere_below_the_root(root: Path, place: str) -> None:
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / "ACT_data.mat").rename(root / place / "ACT_data.mat")
    assert len(open_cvact(root)) == 6
    assert len(open_cvact(root.parent)) == 6  # the images lie deeper too


def test_act_data_beside_or_among_the_images(root: Path) -> None:
    (root / "ACT_data.mat").rename(root / "ANU_data_small/ACT_data.mat")
    assert len(open_cvact(root)) == len(open_cvact(root / "ANU_data_small")) == 6


def test_act_data_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    whole = open_cvact(root)
    (tmp_path / "lists").mkdir()
    (root / "ACT_data.mat").rename(tmp_path / "lists" / "ACT_data.mat")
    with pytest.raises(DatasetError, match=r"no ACT_data\.mat at or below .*: put it there, or pass its path as option mat"):
        open_cvact(root)
    for path in (tmp_path / "lists", tmp_path / "lists" / "ACT_data.mat"):
        assert open_dataset("cvact", root, mat=str(path)).hash == whole.hash
    config = resolve_config("smoke", dataset="cvact", data_root=str(root), options={"mat": str(tmp_path / "lists")})
    assert len(open_for(config, "cvact", "train")) == 6
    with pytest.raises(DatasetError, match=r"mat: .*nowhere does not exist; give the path of CVACT's ACT_data\.mat"):
        open_cvact(root, mat=tmp_path / "nowhere")
    (root / "ACT_data.mat").symlink_to(tmp_path / "lists" / "ACT_data.mat")
    assert open_cvact(root).hash == whole.hash


def test_image_folders_may_be_links_to_another_disk(root: Path, tmp_path: Path) -> None:
    whole = open_cvact(root)
    (root / "ACT_data.mat").rename(root / "ANU_data_small/ACT_data.mat")
    (root / "ANU_data_small").rename(tmp_path / "disk")
    (root / "ANU_data_small").symlink_to(tmp_path / "disk")
    assert open_cvact(root).hash == whole.hash
    (tmp_path / "disk/streetview").rename(tmp_path / "panoramas")
    (tmp_path / "disk/streetview").symlink_to(tmp_path / "panoramas")
    assert open_cvact(root).hash == whole.hash


def test_a_home_folder_may_be_short(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(open_dataset("cvact", "~/ACT")) == 6
    assert find_cvact("~/ACT", "~/ACT/ACT_data.mat") == (root, root / "ACT_data.mat")


def test_folders_of_images_are_not_searched_for_act_data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "ACT_data.mat").rename(root / "ANU_data_test/ACT_data.mat")
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))
    assert find_cvact(root) == (root, root / "ANU_data_test/ACT_data.mat")
    assert listed == ["ACT", "ANU_data_small"]


def test_what_is_not_there_is_one_clear_line(root: Path, tmp_path: Path) -> None:
    for folder in ("ANU_data_small", "ANU_data_test"):
        (root / folder).rename(tmp_path / folder)
    with pytest.raises(DatasetError, match="neither ANU_data_small nor ANU_data_test at or below"):
        open_cvact(root)
    (root / "ACT_data.mat").unlink()
    with pytest.raises(DatasetError, match=r"no ACT_data\.mat at or below"):
        open_cvact(root)
    with pytest.raises(DatasetError, match=r"'.*nowhere' is not a folder"):
        open_cvact(root / "nowhere")


def test_listed_ids_without_images_are_refused_or_skipped(root: Path) -> None:
    ids = open_cvact(root, "cvact_test", "test").query_ids
    (root / f"ANU_data_test/streetview/{ids[2]}_grdView.jpg").unlink()
    with pytest.raises(DatasetError, match=rf"1 of 10 images .* ANU_data_test/streetview/{ids[2]}_grdView\.jpg \(missing\)"):
        open_cvact(root, "cvact_test", "test")
    with pytest.warns(UserWarning, match="skipped 1 of 5 queries"):
        data = open_cvact(root, "cvact_test", "test", skip_missing=True)
    assert (len(data), data.n_references, data.skipped) == (4, 4, 1)
    assert data.query_position is not None
    assert data.query_position.shape == (4, 2)


def test_ids_as_cells_and_as_a_matrix_of_characters_are_the_same(tmp_path: Path) -> None:
    names = ["abc-_1", "x" * 22, "q"]
    utm = np.arange(6.0).reshape(3, 2)
    save_act_data(tmp_path / "matrix.mat", names, utm, 1, 1)
    content: dict[str, Any] = scipy.io.loadmat(tmp_path / "matrix.mat")
    cells = np.empty((3, 1), object)
    cells[:, 0] = names
    others = {key: content[key] for key in ("utm", "trainSet", "valSet", "valSetAll")}
    scipy.io.savemat(tmp_path / "cells.mat", {**others, "panoIds": cells})
    for name in ("matrix", "cells"):
        data = read_act_data(tmp_path / f"{name}.mat")
        assert data.pano_ids == names
        assert np.array_equal(data.utm, utm)
        assert {key: rows.tolist() for key, rows in data.indices.items()} == {"trainSet": [0], "valSet": [1], "valSetAll": [1, 2]}


def write_mat73(path: Path, names: list[str], utm: np.ndarray, cells: bool) -> None:
    """What MATLAB's -v7.3 writes: HDF5 behind a 512-byte header, every matrix by columns, characters as 16-bit codes."""
    h5py = pytest.importorskip("h5py", reason="MATLAB 7.3 files need h5py")
    with h5py.File(path, "w", userblock_size=512) as mat:
        if cells:
            parts = mat.create_group("#refs#")
            for number, name in enumerate(names):
                parts[str(number)] = np.array([ord(letter) for letter in name], np.uint16)[:, None]
            mat["panoIds"] = np.array([[parts[str(number)].ref for number in range(len(names))]], dtype=h5py.ref_dtype)
        else:
            width = max(map(len, names))
            mat["panoIds"] = np.array([[ord(letter) for letter in name.ljust(width)] for name in names], np.uint16).T
        mat["utm"] = utm.T
        for group, field, values in (("trainSet", "trainInd", [1, 2]), ("valSet", "valInd", [3]), ("valSetAll", "valInd", [3, 4])):
            mat[f"{group}/{field}"] = np.array([values], np.float64)
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("cells", [False, True])
def test_matlab_73_files_read_the_same(tmp_path: Path, cells: bool) -> None:
    names, utm = ["abc", "de_f-", "g", "hh"], np.arange(8.0).reshape(4, 2)
    write_mat73(tmp_path / "ACT_data.mat", names, utm, cells)
    data = read_act_data(tmp_path / "ACT_data.mat")
    assert data.pano_ids == names
    assert np.array_equal(data.utm, utm)
    assert {key: rows.tolist() for key, rows in data.indices.items()} == {"trainSet": [0, 1], "valSet": [2], "valSetAll": [2, 3]}


def test_matlab_73_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # scipy knows the format by these bytes, so no HDF5 library is needed here.
    (tmp_path / "ACT_data.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(1000))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DatasetError, match=r"is a MATLAB 7\.3 file, which needs h5py; pip install h5py"):
        read_act_data(tmp_path / "ACT_data.mat")


@pytest.mark.parametrize("gone", ["panoIds", "utm", "trainSet", "valSet", "valSetAll"])
def test_missing_variables_are_named(root: Path, gone: str) -> None:
    content = scipy.io.loadmat(root / "ACT_data.mat")
    scipy.io.savemat(root / "ACT_data.mat", {key: value for key, value in content.items() if key != gone and not key.startswith("_")})
    with pytest.raises(DatasetError, match=rf"ACT_data\.mat lacks {gone}.*not CVACT's ACT_data\.mat"):
        open_cvact(root)


def test_other_faults_of_act_data_are_one_clear_line(root: Path) -> None:
    path = root / "ACT_data.mat"
    whole = path.read_bytes()
    for broken in (b"", b"no matlab", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(DatasetError, match=r"ACT_data\.mat is not a readable MATLAB"):
            open_cvact(root)
    content = {"panoIds": np.array(["a", "b"]), "utm": np.zeros((2, 2)), "valSet": {"valInd": [1]}, "valSetAll": {"valInd": [1]}}
    for values, message in (([0, 1], "found 0 to 1"), ([1, 3], "found 1 to 3"), ([], "found none")):
        scipy.io.savemat(path, {**content, "trainSet": {"trainInd": values}})
        with pytest.raises(DatasetError, match=rf"trainSet\.trainInd must hold numbers from 1 to 2, {message}"):
            open_cvact(root)
    scipy.io.savemat(path, {**content, "trainSet": {"valInd": [1]}})
    with pytest.raises(DatasetError, match=r"lacks trainSet\.trainInd"):
        open_cvact(root)
    scipy.io.savemat(path, {**content, "trainSet": {"trainInd": [1]}, "utm": np.zeros((3, 2))})
    with pytest.raises(DatasetError, match=r"utm has shape \(3, 2\), expected \(2, 2\)"):
        open_cvact(root)
    scipy.io.savemat(path, {**content, "trainSet": {"trainInd": [2]}, "utm": np.array([[0, 0], [5, np.nan]])})
    with pytest.raises(DatasetError, match=r"utm of row 2 is no position \(\[5\.0, nan\]\); fetch the file again"):
        open_cvact(root)
    scipy.io.savemat(path, {**content, "trainSet": {"trainInd": [1]}, "panoIds": np.array(["../../../etc/passwd", "b"])})
    with pytest.raises(DatasetError, match=r"panoIds 1: .* is not a file name below the data root"):
        open_cvact(root)
