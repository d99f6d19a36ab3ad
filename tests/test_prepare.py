"""The offline images: the same pixels as on the fly, in the release's places, made once, whole and again when cut short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import make_cvact, make_cvusa
from PIL import Image

from geodtr_lib.data import prepare
from geodtr_lib.data.cvact import open_cvact
from geodtr_lib.data.cvusa import open_cvusa
from geodtr_lib.data.prepare import Prepared, polar_map, prepare_cvact, prepare_cvusa
from geodtr_lib.errors import DatasetError, RunError
from geodtr_lib.geometry import polar_transform

REFERENCE = Path(__file__).parent / "reference" / "polar_small.npz"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path / "cache"))


def test_a_polar_map_is_the_releases_to_the_bit(tmp_path: Path) -> None:
    reference = np.load(REFERENCE)
    Image.fromarray(reference["image"]).save(tmp_path / "tile.png")
    assert np.array_equal(np.asarray(polar_map(str(tmp_path / "tile.png"), (12, 64))), reference["polar"])


def test_cvusa_maps_are_what_the_training_step_computes(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 6, 3)
    before = open_cvusa(root, polar_maps="computed", progress=False)
    assert prepare_cvusa(root, progress=False) == Prepared(written=9, kept=0)
    assert sorted(path.stem for path in (root / "polarmap/19").iterdir()) == sorted(path.stem for path in (root / "bingmap/19").iterdir())
    after = open_cvusa(root, progress=False)
    assert after.aerial_is_polar
    assert not before.aerial_is_polar
    assert torch.equal(after.aerial(range(6)), polar_transform(before.aerial(range(6)), (122, 671)))


def test_cvact_maps_and_panoramas_are_what_is_computed_on_the_fly(tmp_path: Path) -> None:
    root = make_cvact(tmp_path, 4, 2, 3)
    subsets = [("cvact", "train"), ("cvact", "test"), ("cvact_test", "test")]
    before = [open_cvact(root, *subset) for subset in subsets]
    ground = [data.ground(range(len(data))) for data in before]
    aerial = [polar_transform(data.aerial(range(len(data))), (122, 671)) for data in before]
    # 4 + 2 validation places in the small folder, 3 test places in the other; two images each
    assert prepare_cvact(root, progress=False) == Prepared(written=18, kept=0)
    for subset, expected_ground, expected_aerial in zip(subsets, ground, aerial, strict=True):
        after = open_cvact(root, *subset)
        assert after.aerial_is_polar
        assert torch.equal(after.ground(range(len(after))), expected_ground)
        assert torch.equal(after.aerial(range(len(after))), expected_aerial)
    for path in (root / "ANU_data_small/streetview", root / "ANU_data_test/streetview"):
        for file in path.iterdir():
            file.unlink()  # what is prepared is enough
    assert torch.equal(open_cvact(root, "cvact_test", "test").ground(range(3)), ground[2])


def test_whole_files_are_kept_and_files_cut_short_are_made_again(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 6, 3)
    prepare_cvusa(root, progress=False)
    first, second, *others = sorted((root / "polarmap/19").iterdir())
    whole = first.read_bytes()
    first.write_bytes(whole[:-100])
    second.unlink()
    stamps = [path.stat().st_mtime_ns for path in others]
    assert prepare_cvusa(root, progress=False) == Prepared(written=2, kept=7)
    assert first.read_bytes() == whole
    assert [path.stat().st_mtime_ns for path in others] == stamps


def test_maps_of_another_size_are_made_again(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 4, 2)
    prepare_cvusa(root, size=(12, 64), progress=False)
    assert prepare_cvusa(root, size=(16, 48), progress=False) == Prepared(written=6, kept=0)
    assert {Image.open(path).size for path in (root / "polarmap/19").iterdir()} == {(48, 16)}
    assert prepare_cvusa(root, size=(16, 48), progress=False) == Prepared(written=0, kept=6)
    act = make_cvact(tmp_path / "act", 2, 1, 1)
    prepare_cvact(act, size=(12, 64), progress=False)
    maps = len(list(act.glob("ANU_data_*/polarmap/*")))
    done = prepare_cvact(act, size=(16, 48), progress=False)
    assert (done.written, done.kept) == (maps, maps)  # processed panoramas have one size, and stay
    (act / "ACT_data.mat").rename(tmp_path / "ACT_data.mat")
    assert prepare.main(["cvact", str(act), "--size", "16", "48", "--mat", str(tmp_path / "ACT_data.mat")]) == 0


@pytest.mark.parametrize("size", [(0, 0), (122, 0), (-3, 671)])
def test_an_impossible_size_is_one_clear_line(tmp_path: Path, size: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    make_cvusa(tmp_path, 2, 1)
    for name in ("cvusa", "cvact"):
        assert prepare.main([name, str(tmp_path), "--size", *map(str, size)]) == 1
        told = capsys.readouterr().err
        assert told == f"size: {size[0]} x {size[1]} is not possible; give a height and a width of at least 1 pixel\n"


def test_unreadable_tiles_are_named_after_all_others_are_made(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 6, 3)
    broken, missing, oblong, *_ = tiles = sorted((root / "bingmap/19").iterdir())
    broken.write_bytes(broken.read_bytes()[:-300])
    missing.unlink()
    Image.new("RGB", (30, 20)).save(oblong)
    with pytest.raises(DatasetError, match="3 of 9 images cannot be made, the others are: ") as caught:
        prepare_cvusa(root, progress=False)
    assert all(path.name in str(caught.value) for path in (broken, missing, oblong))
    assert "is 30 x 20, the polar transform needs a square" in str(caught.value)
    assert len(list((root / "polarmap/19").iterdir())) == len(tiles) - 3


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 2, 1)
    (root / "polarmap").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"cannot write .*polarmap/19/"):
        prepare_cvusa(root, progress=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_cvusa(tmp_path, 2, 1)
    assert prepare.main(["cvusa", str(root), "--size", "12", "64", "--workers", "1"]) == 0
    assert capsys.readouterr().out == "cvusa: 3 images written, 0 were there already\n"
    assert {Image.open(path).size for path in (root / "polarmap/19").iterdir()} == {(64, 12)}
    assert prepare.main(["cvact", str(root)]) == 1
    assert capsys.readouterr().err.startswith("cvact: no ACT_data.mat at or below")


def test_the_command_runs_as_a_module() -> None:
    result = subprocess.run([sys.executable, "-m", "geodtr_lib.data.prepare", "vigor", "."], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "invalid choice: 'vigor'" in result.stderr
