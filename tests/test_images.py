"""Decoding, resizing and the checks of files and names that every real data set goes through."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import Resize

from geodtr_lib.data import images
from geodtr_lib.data.folders import Tree, find_root, read_lines, safe_name
from geodtr_lib.errors import DatasetError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 128), (122, 671), (200, 100)])
def test_resize_is_torchvisions_on_pil_images(size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(150, 320))
    assert np.array_equal(np.asarray(images.resize(image, size)), np.asarray(Resize(size)(image)))


def naive_area_mean(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Weigh every source pixel by the part of it that lies in the target pixel, one pixel at a time."""
    out = np.zeros((height, width, 3))
    step_y, step_x = pixels.shape[0] / height, pixels.shape[1] / width
    for i in range(height):
        for j in range(width):
            total = 0.0
            for y in range(math.floor(i * step_y), min(math.ceil((i + 1) * step_y), pixels.shape[0])):
                for x in range(math.floor(j * step_x), min(math.ceil((j + 1) * step_x), pixels.shape[1])):
                    covered_y = min(y + 1, (i + 1) * step_y) - max(y, i * step_y)
                    covered_x = min(x + 1, (j + 1) * step_x) - max(x, j * step_x)
                    out[i, j] += pixels[y, x] * covered_y * covered_x
                    total += covered_y * covered_x
            out[i, j] /= total
    return out


@pytest.mark.parametrize(("source", "target"), [((26, 40), (7, 16)), ((13, 11), (12, 10)), ((12, 20), (12, 4)), ((9, 9), (1, 1))])
def test_area_resize_equals_the_naive_double_loop(source: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = noise(*source)
    difference = np.asarray(images.area_resize(Image.fromarray(pixels), target)) - naive_area_mean(pixels, *target)
    assert np.abs(difference).max() <= 0.5 + 1e-4  # rounded to nearest


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_area_resize_keeps_a_constant_image(height: int, width: int, target_height: int, target_width: int, value: int) -> None:
    constant = Image.fromarray(np.full((height, width, 3), value, np.uint8))
    resized = np.asarray(images.area_resize(constant, (target_height, target_width)))
    assert resized.shape == (target_height, target_width, 3)
    assert (resized == value).all()


COLOUR, LUMINANCE = (200, 60, 120), (109, 109, 109)  # 0.299 R + 0.587 G + 0.114 B
CONVERSIONS = {
    "palette.png": (lambda rgb: rgb.quantize(256), COLOUR),
    "grey.png": (lambda rgb: rgb.convert("L"), LUMINANCE),
    "alpha.png": (lambda rgb: rgb.convert("RGBA"), COLOUR),
    "grey_alpha.png": (lambda rgb: rgb.convert("LA"), LUMINANCE),
    "bilevel.png": (lambda rgb: rgb.convert("L").point(lambda value: 255 * (value > 100), "1"), (255, 255, 255)),
    "sixteen_bit.png": (lambda rgb: Image.fromarray(np.full((rgb.height, rgb.width), 51_234, np.uint16)), (200, 200, 200)),  # 51,234 >> 8
    "cmyk.jpg": (lambda rgb: rgb.convert("CMYK"), COLOUR),
    "grey.jpg": (lambda rgb: rgb.convert("L"), LUMINANCE),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, name: str) -> None:
    make, expected = CONVERSIONS[name]
    make(Image.new("RGB", (12, 8), COLOUR)).save(tmp_path / name)
    read = images.read_rgb(str(tmp_path / name))
    assert (read.mode, read.size) == ("RGB", (12, 8))
    assert np.abs(np.asarray(read).astype(int) - expected).max() <= 2


def test_a_batch_is_rgb_bytes_in_the_order_asked_for_and_each_file_is_read_once(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(noise(10, 20, number)).save(paths[-1])
    reads: list[str] = []

    def read(path: str) -> Image.Image:
        reads.append(path)
        return images.read_rgb(path)

    batch = images.read_batch([paths[2], paths[0], paths[2]], None, read, workers=2)
    assert (batch.shape, batch.dtype) == ((3, 3, 10, 20), torch.uint8)
    assert batch.is_contiguous()
    assert sorted(reads) == [paths[0], paths[2]]
    for image, seed in zip(batch, (2, 0, 2), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), noise(10, 20, seed))
    one_by_one = torch.cat([images.read_batch([path], (8, 16)) for path in paths])
    assert torch.equal(images.read_batch(paths, (8, 16), workers=3), one_by_one)


def test_different_native_sizes_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    for number in (8, 9):
        Image.fromarray(noise(number, number)).save(tmp_path / f"{number}.png")
    with pytest.raises(DatasetError, match=r"9\.png is 9 x 9 pixels, others are 8 x 8; set tile_size"):
        images.read_batch([str(tmp_path / "8.png"), str(tmp_path / "9.png")], None)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_file_cut_short_is_found_and_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(64, 64)).save(path)
    assert images.check_whole(str(path)) == images.FileCheck(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-500])
    assert "truncated" in images.check_whole(str(path)).fault
    with pytest.raises(DatasetError, match=rf"cut\.{suffix} cannot be decoded .*truncated"):
        images.read_batch([str(path)], (8, 8))


def test_what_is_no_image_or_empty_is_a_fault_and_padding_is_not(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("<html>login required</html>")
    (tmp_path / "empty.png").touch()
    Image.fromarray(noise(16, 16)).save(tmp_path / "padded.jpg")
    with open(tmp_path / "padded.jpg", "ab") as stream:
        stream.write(bytes(1000))
    assert images.check_whole(str(tmp_path / "text.jpg")).fault == "not an image"
    assert images.check_whole(str(tmp_path / "empty.png")).fault == "empty file"
    assert not images.check_whole(str(tmp_path / "padded.jpg")).fault
    assert images.check_whole(str(tmp_path / "none.jpg")).size == -1


def test_the_first_error_of_many_threads_ends_the_work() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        if item == 3:
            raise DatasetError("three")
        return item

    with pytest.raises(DatasetError, match="three"):
        images.for_each(work, range(100_000), workers=2)
    assert len(started) < 100_000
    assert images.for_each(lambda item: item * item, range(50), workers=4) == [item * item for item in range(50)]


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "a/../../b.jpg", "", "  ", "a\0b", "..\\b.jpg", "\\\\host\\b.jpg"])
def test_names_that_leave_the_root_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match=r"^list\.txt, line 3: .* is not a file name below the data root"):
        safe_name(name, "list.txt, line 3")


@pytest.mark.parametrize("name", ["a.jpg", "a/b/c.png", "..a/b..c.jpg", "id,47.5,-122.3,.jpg"])
def test_plain_names_pass(name: str) -> None:
    assert safe_name(name, "list.txt") == name


def test_a_tree_lists_each_folder_once_and_keeps_inside_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    (outside / "x.jpg").touch()
    (root / "a" / "1.jpg").touch()
    (root / "a" / "inside.jpg").symlink_to(root / "a" / "1.jpg")
    (root / "a" / "dangling.jpg").symlink_to(root / "a" / "nothing.jpg")
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    tree = Tree(root)
    assert [tree.holds(f"a/{name}.jpg") for name in ("1", "inside", "dangling", "2")] == [True, True, False, False]
    assert not tree.holds("b/1.jpg")
    assert tree.first(["a/3.jpg", "a/1.jpg"]) == "a/1.jpg"
    assert listed.count(str(root / "a")) == 1

    (root / "linked").symlink_to(outside)
    with pytest.raises(DatasetError, match="outside the data root"):
        Tree(root).holds("linked/x.jpg")
    (root / "a" / "leads_out.jpg").symlink_to(outside / "x.jpg")
    with pytest.raises(DatasetError, match=r"leads_out\.jpg leads to .*outside the data root"):
        Tree(root).holds("a/1.jpg")
    (tmp_path / "alias").symlink_to(root / "a")  # the root itself may be a link
    (root / "a" / "leads_out.jpg").unlink()
    assert Tree(tmp_path / "alias").holds("1.jpg")


def test_folders_of_the_layout_may_lie_elsewhere(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    for folder in (root / "tiles", disk / "19", disk / "20", tmp_path / "outside"):
        folder.mkdir(parents=True)
    (disk / "19" / "1.jpg").touch()
    (tmp_path / "outside" / "x.jpg").touch()
    (root / "tiles" / "19").symlink_to(disk / "19")
    tree = Tree(root, ("tiles", "tiles/19"))
    assert tree.holds("tiles/19/1.jpg")
    (disk / "19" / "leads_out.jpg").symlink_to(tmp_path / "outside" / "x.jpg")
    (disk / "19" / "more").symlink_to(tmp_path / "outside")
    (root / "tiles" / "20").symlink_to(disk / "20")  # no folder of the layout
    for name in ("tiles/19/1.jpg", "tiles/19/more/x.jpg", "tiles/20/1.jpg"):
        with pytest.raises(DatasetError, match="outside the data root .*; copy it there; only whole folders of the data set's layout"):
            Tree(root, ("tiles", "tiles/19")).holds(name)


def test_a_leading_dot_and_slash_is_no_other_name() -> None:
    assert safe_name("./a/b.jpg", "list.txt") == "a/b.jpg"
    for name in ("./", ".//etc/passwd", "./../x"):
        with pytest.raises(DatasetError, match="is not a file name below the data root"):
            safe_name(name, "list.txt")


def test_only_square_tiles_can_be_unrolled(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "oblong.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "square.png")
    assert images.read_square(str(tmp_path / "square.png")).size == (40, 40)
    with pytest.raises(DatasetError, match=r"oblong\.png is 40 x 30, the polar transform needs a square; .* polar=False"):
        images.read_square(str(tmp_path / "oblong.png"))


def test_a_root_that_is_not_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no splits/x\.csv in .*; give the folder"):
        find_root(tmp_path, ("below",), "splits/x.csv", "cvusa")
    with pytest.raises(DatasetError, match="needs data_root"):
        find_root("", (), "splits", "vigor")
    with pytest.raises(DatasetError, match="is not a folder"):
        Tree(tmp_path / "none")


def test_text_files_must_exist_and_hold_text(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with pytest.raises(DatasetError, match="does not exist"):
        read_lines(path)
    path.write_text("\n\n")
    with pytest.raises(DatasetError, match="is empty"):
        read_lines(path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DatasetError, match="not readable as text"):
        read_lines(path)
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n")  # saved by a Windows editor
    assert read_lines(path) == [(1, "one"), (2, "two")]
    path.write_text("one\n\n  \ntwo\n")
    assert read_lines(path) == [(1, "one"), (4, "two")]  # numbers are the file's own
