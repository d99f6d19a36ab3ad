"""CVUSA in its owners' layout: pairs, sizes, polar maps, repeated pairs, and what happens when the data are at fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import make_cvusa
from PIL import Image
from torchvision.transforms import Resize

from geodtr_lib.data import open_dataset, repeats
from geodtr_lib.data.cvusa import LOCATIONS, open_cvusa, polar_map_name
from geodtr_lib.data.pairs import ImageFileDataset
from geodtr_lib.errors import ConfigError, DatasetError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_cvusa(tmp_path, 10, 6)


def open_quietly(root: Path, split: str = "train", **options: object) -> ImageFileDataset:
    return open_cvusa(root, split=split, progress=False, **options)  # type: ignore[arg-type]


def pixels(path: Path, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Resize(size)(Image.open(path).convert("RGB"))).transpose(2, 0, 1)


def test_pairs_are_the_rows_of_the_split_files_resized_as_torchvision_does(root: Path) -> None:
    for split, file, count in (("train", "train-19zl.csv", 10), ("test", "val-19zl.csv", 6)):
        rows = [line.split(",") for line in (root / "splits" / file).read_text().split()]
        data = open_quietly(root, split, ground_size=(24, 96), aerial_size=(40, 50), polar=False)
        assert (len(data), data.n_references, data.skipped) == (count, count, 0)
        assert data.positive.tolist() == list(range(count))
        assert [f"streetview/panos/{name}.jpg" for name in data.query_ids] == [row[1] for row in rows]
        ground, aerial = data.ground([3, 1]), data.aerial(torch.tensor([3, 1]))
        assert (ground.shape, aerial.shape, ground.dtype) == ((2, 3, 24, 96), (2, 3, 40, 50), torch.uint8)
        for image, tile, row in zip(ground, aerial, (rows[3], rows[1]), strict=True):
            assert np.array_equal(image, pixels(root / row[1], (24, 96)))
            assert np.array_equal(tile, pixels(root / row[0], (40, 50)))


def test_the_paper_sizes_are_the_default(root: Path) -> None:
    data = open_dataset("cvusa", root, polar=False, progress=False)
    assert data.ground([0]).shape == (1, 3, 122, 671)
    assert data.aerial([0]).shape == (1, 3, 256, 256)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_the_folder_is_found_from_its_parents(root: Path, levels: int) -> None:
    folder = [root, root.parent, root.parent.parent][levels]
    assert len(open_quietly(folder)) == 10


def test_with_polar_the_native_tile_is_given_for_the_training_step(root: Path) -> None:
    data = open_quietly(root, ground_size=(24, 96))
    assert not data.aerial_is_polar
    assert np.array_equal(data.aerial([2])[0], pixels(root / f"bingmap/19/{data.reference_ids[2]}.jpg", (96, 96)))
    assert open_quietly(root, tile_size=32).aerial([0, 1]).shape == (2, 3, 32, 32)


def test_offline_polar_maps_are_taken_when_complete_and_of_the_models_size(root: Path) -> None:
    names = [path.stem for path in sorted((root / "bingmap/19").iterdir())]
    (root / "polarmap/19").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.new("RGB", (96, 24), (number, 0, 0)).save(root / f"polarmap/19/{name}.png")
    data = open_quietly(root, ground_size=(24, 96))
    assert data.aerial_is_polar
    assert data.aerial([4]).shape == (1, 3, 24, 96)
    assert data.aerial([4])[0, 0, 0, 0] == names.index(data.reference_ids[4])
    assert not open_quietly(root, ground_size=(24, 96), polar_maps="computed").aerial_is_polar
    assert not open_quietly(root, ground_size=(24, 96), polar=False).aerial_is_polar
    assert not open_quietly(root, ground_size=(32, 96)).aerial_is_polar  # made for another size
    assert open_quietly(root, ground_size=(32, 96), polar_maps="offline").aerial([0]).shape == (1, 3, 32, 96)
    (root / f"polarmap/19/{data.reference_ids[4]}.png").unlink()
    assert not open_quietly(root, ground_size=(24, 96)).aerial_is_polar  # one is missing
    with pytest.raises(DatasetError, match=f"polarmap/19/{data.reference_ids[4]}.png \\(missing\\)"):
        open_quietly(root, ground_size=(24, 96), polar_maps="offline")
    with pytest.raises(ConfigError, match="polar_maps: 'always' is not possible; allowed: auto, offline, computed"):
        open_quietly(root, polar_maps="always")


def test_polar_map_names_follow_the_release() -> None:
    assert polar_map_name("bingmap/19/0041073.jpg") == "polarmap/19/0041073.png"


def test_repeated_pairs_leave_training_and_stay_in_evaluation(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 10, 6, repeats=3)
    (root / "splits/val-19zl.csv").write_text((root / "splits/train-19zl.csv").read_text())
    train = open_quietly(root)
    assert (len(train), train.repeats_removed) == (7, 3)
    assert "3 repeats removed" in repr(train)
    assert len(set(train.query_ids) & set(open_quietly(root, keep_repeats=True).query_ids[:7])) == 7  # the first of each stays
    assert len(open_quietly(root, keep_repeats=True)) == len(open_quietly(root, "test")) == 10
    assert train.hash != open_quietly(root, keep_repeats=True).hash
    rows = train.ground(range(7)).flatten(1)
    assert all(not torch.equal(rows[i], rows[j]) for i in range(7) for j in range(i))


def test_one_repeated_view_is_enough_and_a_row_counts_once() -> None:
    def repeated(ground: str, aerial: str) -> list[bool]:
        hashes = [
            [repeats.PixelHash(letter) if letter != "?" else repeats.PixelHash(fault="cut") for letter in view] for view in (ground, aerial)
        ]
        return list(repeats.repeated_rows(*hashes))

    assert repeated("abac", "wxyz") == [False, False, True, False]
    assert repeated("abcd", "xxyx") == [False, True, False, True]
    assert repeated("aab", "xxx") == [False, True, True]
    assert repeated("??", "xy") == [False, False]


def test_equal_pixels_in_another_format_are_a_repeat_and_another_shape_is_not(tmp_path: Path) -> None:
    image = Image.effect_noise((8, 4), 50)
    image.save(tmp_path / "a.png")
    image.convert("RGB").save(tmp_path / "b.bmp")
    Image.frombytes("L", (4, 8), image.tobytes()).save(tmp_path / "c.png")
    a, b, c = (repeats.pixel_hash(str(tmp_path / name)) for name in ("a.png", "b.bmp", "c.png"))
    assert a == b != c


def test_repeats_are_looked_for_once_and_again_when_files_or_cache_change(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_cvusa(tmp_path, 10, 6, repeats=2)
    decoded: list[str] = []
    pixel_hash = repeats.pixel_hash
    monkeypatch.setattr(repeats, "pixel_hash", lambda path: decoded.append(path) or pixel_hash(path))
    assert [len(open_quietly(root)), len(decoded)] == [8, 20]
    assert [len(open_quietly(root)), len(decoded)] == [8, 20]
    (kept,) = cache.glob("repeats-*.json")
    assert len(json.loads(kept.read_text())["repeated_rows"]) == 2
    for broken in (kept.read_bytes()[:-20], b'{"repeated_rows": [999]}', b"[]"):
        decoded.clear()
        kept.write_bytes(broken)
        assert [len(open_quietly(root)), len(decoded)] == [8, 20]
    decoded.clear()
    last = (root / "splits/train-19zl.csv").read_text().split()[-1].split(",")
    for name in last[:2]:
        Image.effect_noise((40, 40), 80).save(root / name)
    assert [len(open_quietly(root)), len(decoded)] == [9, 20]


def test_a_cache_that_cannot_be_written_is_a_warning(root: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="the list of repeated pairs is not kept: cannot write"):
        assert len(open_quietly(root)) == 10


def test_locations_come_by_image_number(root: Path) -> None:
    data = open_quietly(root)
    table = np.loadtxt(root / "split_locations/all.csv", delimiter=",")
    assert data.query_location is not None
    assert data.reference_location is not None
    rows = table[[int(name) - 1 for name in data.query_ids]]
    assert np.array_equal(data.query_location, rows[:, 2:4])
    assert np.array_equal(data.reference_location, rows[:, 0:2])
    (root / "split_locations/all.csv").write_text("35.0,-90.0,35.0,-90.0\n")
    with pytest.raises(DatasetError, match=r"all\.csv does not give four numbers for every image number"):
        open_quietly(root)
    (root / "split_locations/all.csv").unlink()
    assert open_quietly(root).query_location is None


def test_the_hash_follows_the_content(root: Path) -> None:
    first = open_quietly(root).hash
    assert open_quietly(root.parent).hash == first  # not the way it was found
    Image.effect_noise((50, 50), 60).save(next((root / "streetview/panos").iterdir()))
    assert (open_quietly(root).hash, open_quietly(root, "test").hash) != (first, first)
    assert open_quietly(root, "test").hash != open_quietly(root).hash


def test_missing_and_truncated_images_are_refused_or_skipped_and_counted(root: Path) -> None:
    ids = open_quietly(root, "test").query_ids
    (root / f"bingmap/19/{ids[1]}.jpg").unlink()
    cut = root / f"streetview/panos/{ids[4]}.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    expected = (
        f"2 of 12 images are missing or unreadable: streetview/panos/{ids[4]}.jpg .*truncated.*, bingmap/19/{ids[1]}.jpg .missing.; fetch"
    )
    with pytest.raises(DatasetError, match=expected) as caught:
        open_quietly(root, "test")
    assert "skip_missing=True" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="skipped 2 of 6 queries"):
        data = open_quietly(root, "test", skip_missing=True)
    assert (len(data), data.n_references, data.skipped) == (4, 4, 2)
    assert list(data.query_ids) == list(data.reference_ids) == [ids[0], ids[2], ids[3], ids[5]]
    assert data.positive.tolist() == [0, 1, 2, 3]
    assert data.ground(range(4)).shape[0] == 4
    assert "2 skipped" in repr(data)


def test_many_faults_show_the_first_five_and_the_total(root: Path) -> None:
    for path in (root / "streetview/panos").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"10 of 20 images .* and 5 more; ") as caught:
        open_quietly(root)
    assert str(caught.value).count("(missing)") == 5
    with pytest.raises(DatasetError, match="nothing is left to open"):
        open_quietly(root, skip_missing=True)


def test_damage_that_only_decoding_shows_is_refused_or_skipped(root: Path) -> None:
    name = open_quietly(root).query_ids[3]
    path = root / f"streetview/panos/{name}.jpg"
    path.write_bytes(path.read_bytes()[:2] + bytes(500) + b"\xff\xd9")  # looks whole from both ends
    with pytest.raises(DatasetError, match=rf"1 of 20 images .*{name}\.jpg \(not an image\); fetch"):
        open_quietly(root)
    with pytest.warns(UserWarning, match=rf"{name}\.jpg \(not an image\); skipped 1 more queries"):
        assert len(open_quietly(root, skip_missing=True)) == 9


@pytest.mark.parametrize(
    "line",
    [
        "bingmap/19/1.jpg",
        "bingmap/19/1.jpg,streetview/panos/1.jpg,a.png,b",
        "streetview/panos/1.jpg,bingmap/19/1.jpg,a.png",
        "bingmap/19/1.jpg,,x",
    ],
)
def test_a_row_with_wrong_fields_is_named_by_file_and_line(root: Path, line: str) -> None:
    path = root / "splits/train-19zl.csv"
    lines = path.read_text().split("\n")
    lines[2] = line
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=r"train-19zl\.csv, line 3: .* is not of the form bingmap/"):
        open_quietly(root)


@pytest.mark.parametrize("name", ["bingmap/../../../secret.jpg", "bingmap/19/../../../../1.jpg"])
def test_rows_cannot_lead_out_of_the_root(root: Path, name: str) -> None:
    path = root / "splits/train-19zl.csv"
    path.write_text(f"{name},streetview/panos/1.jpg,a.png\n" + path.read_text())
    with pytest.raises(DatasetError, match=r"train-19zl\.csv, line 1: .* is not a file name below the data root"):
        open_quietly(root)


def test_folders_of_the_layout_may_be_links_to_another_disk(root: Path, tmp_path: Path) -> None:
    whole = open_quietly(root)
    (root / "bingmap").rename(tmp_path / "elsewhere")
    (root / "bingmap").symlink_to(tmp_path / "elsewhere")
    (root / "streetview/panos").rename(tmp_path / "panos")
    (root / "streetview/panos").symlink_to(tmp_path / "panos")
    linked = open_quietly(root)
    assert linked.hash == whole.hash
    assert torch.equal(linked.ground([2]), whole.ground([2]))
    secret = tmp_path / "secret.jpg"
    Image.new("RGB", (96, 96)).save(secret)
    (tmp_path / "elsewhere/19" / secret.name).symlink_to(secret)
    with pytest.raises(DatasetError, match=r"bingmap/19/secret\.jpg leads to .*secret\.jpg, outside the data root"):
        open_quietly(root)


def test_blank_lines_and_a_leading_dot_and_slash_are_no_fault(root: Path) -> None:
    plain = open_quietly(root)
    path = root / "splits/train-19zl.csv"
    first, second, *others = path.read_text().split()
    first = ",".join(f"./{name}" for name in first.split(","))
    path.write_text("\n".join(["", first, "", second, " ", *others, ""]))
    assert open_quietly(root).hash == plain.hash
    path.write_text("\n\n" + path.read_text() + "one,two\n")
    with pytest.raises(DatasetError, match=r"train-19zl\.csv, line 16: 'one,two' is not of the form"):
        open_quietly(root)


def test_a_home_folder_may_be_short(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(open_dataset("cvusa", "~/dataset", progress=False)) == 10


FAULTY_PLACES = {
    "nan": (np.nan, -90, 35, -90),
    "swapped": (-90.5, 35, -90.5, 35),
    "beyond the date line": (35, 190, 35, 190),
    "far apart": (35, -90, 35.01, -90),  # 1.1 km
    "infinite": (35, -90, 35, np.inf),
}


@pytest.mark.parametrize("fault", FAULTY_PLACES)
def test_locations_that_cannot_be_are_named_by_row(root: Path, fault: str) -> None:
    path = root / LOCATIONS
    table = np.loadtxt(path, delimiter=",")
    row = int(open_quietly(root).query_ids[3])
    table[row - 1] = FAULTY_PLACES[fault]
    np.savetxt(path, table, delimiter=",", fmt="%.7f")
    with pytest.raises(DatasetError, match=rf"all\.csv, row {row}: .* are not latitude and longitude of the tile and of the panorama"):
        open_quietly(root)
    np.savetxt(path, np.full_like(table, np.nan), delimiter=",")
    with pytest.raises(DatasetError, match=r"all\.csv, row \d+: nan, nan, nan, nan are not"):
        open_quietly(root)


@pytest.mark.parametrize("tile_size", [0, 48])
def test_oblong_tiles_are_not_unrolled(root: Path, tile_size: int) -> None:
    for path in (root / "bingmap/19").iterdir():
        Image.open(path).resize((96, 80)).save(path)
    assert open_quietly(root, polar=False).aerial([0]).shape == (1, 3, 256, 256)
    with pytest.raises(DatasetError, match=r"bingmap/19/.*\.jpg is 96 x 80, the polar transform needs a square"):
        open_quietly(root, tile_size=tile_size).aerial([0])


def test_polar_maps_of_several_sizes_are_left_alone(root: Path) -> None:
    """A folder that was half made anew, with the first map of the model's size."""
    names = open_quietly(root).reference_ids
    (root / "polarmap/19").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.new("RGB", (671, 122) if number else (616, 112)).save(root / f"polarmap/19/{name}.png")
    Image.new("RGB", (671, 122)).save(root / f"polarmap/19/{names[0]}.png")
    assert open_quietly(root).aerial_is_polar
    Image.new("RGB", (616, 112)).save(root / f"polarmap/19/{names[-1]}.png")
    assert not open_quietly(root).aerial_is_polar


def test_empty_splits_and_unknown_names_are_one_clear_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split: 'val' is not known; allowed: train, test"):
        open_quietly(root, "val")
    with pytest.raises(ConfigError, match="area: 'Seattle' is not known; allowed for cvusa: cvusa"):
        open_cvusa(root, "Seattle")
    (root / "splits/train-19zl.csv").write_text("\n")
    with pytest.raises(DatasetError, match=r"train-19zl\.csv is empty"):
        open_quietly(root)
    with pytest.raises(DatasetError, match=r"no splits/train-19zl\.csv in "):
        open_quietly(tmp_path / "nothing")
