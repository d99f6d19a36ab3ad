"""Photos of one's own: read whatever they hold, refused in one line, placed where they look."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from permissions import unreadable
from PIL import Image

from geodtr_lib.data import photos
from geodtr_lib.data.photos import mean_colour, panorama_canvas, photo_canvas, read_photo, vertical_fov
from geodtr_lib.data.render import VERTICAL_FOV
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.geometry import azimuth_to_column

SIZE = (32, 128)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def stripes(width: int = 200, height: int = 100) -> Image.Image:
    """Red on the left half, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    found = read_photo(encoded(stripes().convert(mode), kind))
    assert found.mode == "RGB"
    assert found.size == (200, 100)


def test_sixteen_bits_keep_their_high_byte() -> None:
    grey = Image.fromarray(np.full((20, 40), 0x8123, np.uint16))
    assert np.asarray(read_photo(encoded(grey))).flatten().tolist() == [0x81] * 2400


def test_a_phone_s_portrait_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned clockwise: rows of the file are columns of the picture
    found = read_photo(encoded(stripes(200, 100), "JPEG", exif=exif))
    assert found.size == (100, 200)
    assert np.asarray(found)[10, 50, 0] > 150  # red was left and is on top
    assert np.asarray(found)[190, 50, 2] > 150


def test_a_huge_jpeg_is_decoded_smaller_and_a_huge_png_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Image.new("RGB", (3000, 1500), (10, 200, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600_000)
    monkeypatch.setattr(photos, "KEPT_WIDTH", 512)
    found = read_photo(encoded(large, "JPEG"))
    assert found.width <= 512
    assert abs(np.asarray(found).astype(int) - (10, 200, 30)).max() < 4
    for content in (encoded(large), encoded(large, "JPEG", progressive=True)):
        with pytest.raises(DatasetError, match="huge is too large to be decoded whole; scale it down, or save it as a baseline JPEG"):
            read_photo(content, "huge")


def test_what_is_no_photo_is_told_in_one_line(tmp_path: Path) -> None:
    whole = encoded(stripes(), "JPEG")
    cases = {
        "cut.jpg": (whole[: len(whole) // 2], "cannot be decoded"),
        "text.jpg": (b"hello", "is no image that can be read; allowed: JPEG, PNG, TIFF, WEBP, BMP"),
        "empty.png": (b"", "is no image that can be read"),
        "float.tif": (encoded(Image.fromarray(np.zeros((4, 8), np.float32)), "TIFF"), "floating-point pixels"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image"),  # Pillow would run ghostscript on it
    }
    for name, (content, told) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError) as caught:
            read_photo(tmp_path / name)
        assert name in str(caught.value)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="does not exist"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(DatasetError, match="is a folder"):
        read_photo(tmp_path)


def test_a_damaged_sixteen_bit_tiff_is_one_line_whatever_is_damaged() -> None:
    """On damaged tags Pillow raises whatever it stumbles over, KeyError and TypeError among others."""
    content = encoded(Image.fromarray(np.arange(200, dtype=np.uint16).reshape(10, 20)), "TIFF")
    tags = 10  # behind the header and their number
    told = []
    for place in range(tags, tags + 12 * 9):
        for value in (0, 1, 2, 255):
            try:
                read_photo(content[:place] + bytes([value]) + content[place + 1 :], "scan.tif")
            except DatasetError as error:
                told.append(str(error))
    assert "scan.tif cannot be decoded (KeyError: 262); it is cut short or damaged, copy it again" in told
    assert any("(TypeError: " in line for line in told)
    assert all("scan.tif" in line and "\n" not in line for line in told)


def test_a_photo_may_be_named_from_home_and_one_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stripes().save(tmp_path / "own.png")
    assert read_photo("~/own.png").size == stripes().size
    told = r"own\.png cannot be read: permission denied; change its permissions"
    with unreadable(tmp_path / "own.png"), pytest.raises(DatasetError, match=told):
        read_photo(tmp_path / "own.png")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"RIFF"]))
def test_any_bytes_are_a_photo_or_one_line(content: bytes, start: bytes) -> None:
    try:
        found, told = read_photo(start + content).mode, ""
    except DatasetError as error:
        found, told = "", str(error)
    assert found == "RGB" or (told and "\n" not in told)


def test_a_full_sphere_is_cut_to_the_canvas() -> None:
    """A row of a full sphere lands where its elevation is on the canvas."""
    elevation = np.linspace(90, -90, 721)[:-1] - 0.125
    sphere = np.repeat(np.repeat(((elevation + 90) / 180 * 255).astype(np.uint8)[:, None], 1440, 1)[..., None], 3, 2)
    for name, span in (("city", VERTICAL_FOV), ("cvact", 90.0), ("vigor", 180.0)):
        canvas = panorama_canvas(Image.fromarray(sphere), SIZE, vertical=vertical_fov(name)).float()
        expected = ((0.5 - (torch.arange(32) + 0.5) / 32) * span + 90) / 180 * 255
        assert (canvas[0, :, 5] - expected).abs().max() < 2


def test_a_narrow_band_leaves_rows_unseen() -> None:
    canvas = panorama_canvas(Image.new("RGB", (1440, 120), (255, 0, 0)), SIZE)  # 30 degrees high
    seen = (canvas[0] == 255).all(1)
    assert seen.sum() == round(32 * 30 / VERTICAL_FOV)
    assert canvas[:, 0, 0].tolist() == mean_colour().tolist()


@pytest.mark.parametrize("heading", [-90.0, 0.0, 45.0, 170.0])
def test_a_panorama_and_a_photo_look_where_they_are_said_to_look(heading: float) -> None:
    column = int(azimuth_to_column(heading, 128))
    pixels = np.zeros((200, 400, 3), np.uint8)
    pixels[:, 184:216] = 255  # wider than a column of the canvas
    image = Image.fromarray(pixels)
    for canvas in (panorama_canvas(image, SIZE, heading), photo_canvas(image, SIZE, 60.0, heading)):
        bright = (canvas[0, 16] > 200).nonzero()[:, 0]
        off = (bright - column + 64) % 128 - 64
        assert len(off) >= 1
        assert abs(float(off.float().mean()) + 0.5) <= 1  # a column's middle is half a column to the right of its edge


@pytest.mark.parametrize("fov", [30.0, 60.0, 90.0, 120.0])
def test_a_photo_covers_its_field_of_view_and_no_more(fov: float) -> None:
    canvas = photo_canvas(Image.new("RGB", (800, 600), (255, 0, 0)), SIZE, fov)
    seen = (canvas[0] == 255)[16]  # at the horizon
    assert abs(int(seen.sum()) - 128 * fov / 360) <= 1


def test_straight_lines_of_a_photo_bend_as_perspective_says() -> None:
    """The photo's upper edge, seen at azimuth a, stands at elevation atan(h / f cos a)."""
    canvas = photo_canvas(Image.new("RGB", (800, 400), (255, 0, 0)), (256, 1024), 90.0)
    focal = 400.0
    for azimuth in (0.0, 20.0, 40.0):
        column = int(azimuth_to_column(azimuth, 1024))
        top = int((canvas[0, :, column] == 255).int().argmax())
        elevation = np.degrees(np.arctan(200 / focal * np.cos(np.radians(azimuth))))
        assert abs((0.5 - top / 256) * VERTICAL_FOV - elevation) < 0.6


def test_what_cannot_be_placed_is_told() -> None:
    with pytest.raises(DatasetError, match="phone has 300 x 400 pixels; a panorama of the whole horizon is at least twice as wide"):
        panorama_canvas(Image.new("RGB", (300, 400)), SIZE, name="phone")
    for fov in (0.0, 180.0, 360.0):
        with pytest.raises(ConfigError, match="field of view .* is not possible for a photo; allowed: 1 to 150"):
            photo_canvas(stripes(), SIZE, fov)
    with pytest.raises(ConfigError, match="normalisation: 'mine' is not known"):
        photo_canvas(stripes(), SIZE, 60, normalisation="mine")
