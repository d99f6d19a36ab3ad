"""Photographed places in a folder: tables at fault, and orthophotos that are decoded smaller than they lie there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geodtr_lib.data import photos
from geodtr_lib.data.photographed import open_photographed
from geodtr_lib.errors import ConfigError, DatasetError

HEADER = "Grd_ID,Compass_angle,Latitude,Longitude"
SIZE = (16, 64)


def make(folder: Path, *rows: str, side: int = 200) -> Path:
    """Two places: ``a`` and ``b``; the orthophotos are a fine chequer with a red square of 40 m in the middle of 100 m."""
    folder.mkdir(exist_ok=True)
    (folder / "samples.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[side * 3 // 10 : side * 7 // 10, side * 3 // 10 : side * 7 // 10, 0] = 255
    for name in ("a", "b"):
        Image.new("RGB", (160, 120), (90, 90, 90)).save(folder / f"{name}_ground.jpg")
        Image.fromarray(pixels).save(folder / f"{name}_sat.jpg", quality=95)
    return folder


@pytest.mark.parametrize("file", ["jpg", "png"])
def test_large_orthophotos_keep_their_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """What is decoded at half the size has pixels of twice the metres."""
    make(tmp_path, "a,0,60,24", "b,0,60,24", side=1000)
    if file == "png":  # a file's content counts, not its name
        for name in ("a", "b"):
            Image.open(tmp_path / f"{name}_sat.jpg").save(tmp_path / f"{name}_sat.jpg", format="PNG")
    values = dict(metres_per_pixel=0.1, tile_metres=50.0)
    whole = open_photographed(tmp_path, SIZE, 50, **values)
    monkeypatch.setattr(photos, "KEPT_WIDTH", 400)
    small = open_photographed(tmp_path, SIZE, 50, **values)
    for tiles in (whole.aerial([0, 1]), small.aerial([0, 1])):
        red = tiles[:, 0] > 127  # 40 of 50 m
        assert red.float().mean() == pytest.approx(0.64, abs=0.03)
    assert (whole.aerial([0]).float() - small.aerial([0]).float()).abs().mean() < 6
    assert whole.hash != small.hash
    assert open_photographed(tmp_path, SIZE, 0, **values).aerial([0]).shape == (1, 3, 500, 500)
    with pytest.raises(DatasetError, match=r"a_sat\.jpg shows 100 m; a tile needs 120 m"):
        open_photographed(tmp_path, SIZE, 50, metres_per_pixel=0.1, tile_metres=120.0)


FAULTY_ROWS = {
    "a,north,60,24": r"row 2 \(a\): Compass_angle 'north' is not possible; give degrees",
    "a,,60,24": r"row 2 \(a\): Compass_angle 'nan' is not possible",
    "a,inf,60,24": r"row 2 \(a\): Compass_angle 'inf' is not possible",
    "a,0,N60.1,24": r"row 2 \(a\): Latitude 'N60\.1' is not possible; give degrees from -90 to 90",
    "a,0,91,24": r"row 2 \(a\): Latitude '91' is not possible",
    "a,0,60,181": r"row 2 \(a\): Longitude '181' is not possible; give degrees from -180 to 180",
}


@pytest.mark.parametrize("row", FAULTY_ROWS)
def test_a_faulty_value_is_named_by_file_and_row(tmp_path: Path, row: str) -> None:
    make(tmp_path, "b,10,60,24", row)
    with pytest.raises(DatasetError, match=rf"samples\.csv, {FAULTY_ROWS[row]}") as caught:
        open_photographed(tmp_path, SIZE, 24)
    assert "\n" not in str(caught.value)


def test_a_table_without_rows_and_a_scale_of_nothing_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DatasetError, match=r"samples\.csv has no rows; give one for each place"):
        open_photographed(tmp_path, SIZE, 24)
    make(tmp_path, "a,0,60,24")
    for name in ("metres_per_pixel", "tile_metres"):
        for value in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ConfigError, match=f"{name}: .* is not possible; give metres, more than 0"):
                open_photographed(tmp_path, SIZE, 24, **{name: value})
    assert torch.is_tensor(open_photographed(tmp_path, SIZE, 24).aerial([0]))
