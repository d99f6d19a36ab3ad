"""VIGOR in its owners' layout: areas, label files (a real one too), offsets, and what happens when the data are at fault."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from miniature import make_vigor
from PIL import Image

from geodtr_lib.data import open_dataset
from geodtr_lib.data.vigor import CITIES, cities_of, open_vigor
from geodtr_lib.data.vigor_labels import (
    distance_metres,
    location_from_offset,
    metres_per_pixel,
    panorama_locations,
    read_labels,
    read_tiles,
    tile_locations,
)
from geodtr_lib.errors import ConfigError, DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_vigor(tmp_path / "VIGOR", 5, 4, grid=3)


AREAS = {
    ("same", "train"): (CITIES, 5),
    ("same", "test"): (CITIES, 4),
    ("cross", "train"): (("NewYork", "Seattle"), 9),
    ("cross", "test"): (("SanFrancisco", "Chicago"), 9),
    ("cross-reversed", "train"): (("SanFrancisco", "Chicago"), 9),
    ("cross-reversed", "test"): (("NewYork", "Seattle"), 9),
    ("Seattle", "train"): (("Seattle",), 5),
    ("Chicago+NewYork", "test"): (("Chicago", "NewYork"), 4),
}


@pytest.mark.parametrize(("area", "split"), AREAS)
def test_areas_have_their_cities_in_order_and_their_panoramas(root: Path, area: str, split: str) -> None:
    cities, per_city = AREAS[area, split]
    data = open_vigor(root, area, split)
    assert (data.area, len(data), data.n_references) == (area, per_city * len(cities), 9 * len(cities))
    assert [name.split("-")[0] for name in data.query_ids] == [city for city in cities for _ in range(per_city)]
    listed = [name for city in cities for name in (root / "splits" / city / "satellite_list.txt").read_text().split()]
    assert list(data.reference_ids) == listed


def test_indices_and_offsets_are_those_of_the_label_rows(root: Path) -> None:
    data = open_vigor(root, "cross", "test")
    assert data.semi_positive is not None
    assert data.offsets is not None
    assert (data.semi_positive.shape, data.offsets.shape) == ((18, 3), (18, 4, 2))
    rows = [line.split() for city in CITIES[2:] for line in (root / "splits" / city / "pano_label_balanced.txt").read_text().splitlines()]
    for query, row in enumerate(rows):
        tiles = [data.positive[query], *data.semi_positive[query]]
        assert data.query_ids[query] == row[0]
        assert [data.reference_ids[tile] for tile in tiles] == row[1::3]
        assert data.offsets[query].tolist() == [[float(row[place]), float(row[place + 1])] for place in (2, 5, 8, 11)]


def test_images_are_those_named_at_the_sizes_asked_for(root: Path) -> None:
    data = open_dataset("vigor", root, "Seattle", "test")
    assert data.ground([0, 1]).shape == (2, 3, 320, 640)
    assert data.aerial([0]).shape == (1, 3, 320, 320)
    native = open_vigor(root, "Seattle", "test", ground_size=(32, 64), aerial_size=(64, 64))
    name = native.reference_ids[7]
    assert np.array_equal(native.aerial([7])[0].permute(1, 2, 0), np.asarray(Image.open(root / "Seattle/satellite" / name)))
    panorama = np.asarray(Image.open(root / "Seattle/panorama" / native.query_ids[3]))
    assert np.array_equal(native.ground([3])[0].permute(1, 2, 0), panorama)
    assert open_vigor(root, "Seattle", "test", polar=True).aerial([0]).shape == (1, 3, 64, 64)


def test_the_sibling_layout_gives_the_same_data(tmp_path: Path) -> None:
    owners, sibling = (open_vigor(make_vigor(tmp_path / str(kind), 3, 2, grid=2, sibling=kind), "same", "train") for kind in (False, True))
    assert list(owners.query_ids) == list(sibling.query_ids)
    assert torch.equal(owners.ground([1, 8]), sibling.ground([1, 8]))
    assert torch.equal(owners.aerial([1, 8]), sibling.aerial([1, 8]))


def test_the_folder_is_found_from_its_parent(root: Path) -> None:
    assert len(open_vigor(root.parent)) == 20


def test_corrected_labels_are_used_when_asked_for_and_reported(root: Path) -> None:
    path = root / "splits__corrected/Seattle/same_area_balanced_train__corrected.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:2]) + "\n")
    assert (len(open_vigor(root, "Seattle")), open_vigor(root, "Seattle").labels) == (5, "released")
    corrected = open_vigor(root, "Seattle", labels="corrected")
    assert (len(corrected), corrected.labels) == (2, "corrected")
    (root / "splits__corrected/Seattle/satellite_list.txt").unlink()  # then the released list serves
    assert list(open_vigor(root, "Seattle", labels="corrected").reference_ids) == list(corrected.reference_ids)
    with pytest.raises(ConfigError, match="labels: 'new' is not possible; allowed: released, corrected"):
        open_vigor(root, labels="new")


def test_unknown_areas_and_splits_list_what_is_allowed() -> None:
    for area in ("Boston", "Seattle+Boston", "Seattle+Seattle", "all"):
        with pytest.raises(ConfigError, match=r"is not known; allowed for vigor: same, cross, cross-reversed, or cities .*Seattle"):
            cities_of(area, "train")
    with pytest.raises(ConfigError, match="split: 'val' is not known; allowed: train, test"):
        cities_of("same", "val")


def test_the_positive_is_near_and_offsets_lead_back_to_the_panorama(root: Path) -> None:
    data = open_vigor(root, "same", "train", labels="corrected")
    assert data.offsets is not None
    for place in range(4):
        tiles = data.positive if place == 0 else data.semi_positive[:, place - 1]
        found = location_from_offset(
            data.reference_location[tiles], data.offsets[:, place], metres_per_pixel("corrected", data.reference_location[tiles, 0])
        )
        assert distance_metres(found, data.query_location).max() < 0.15  # a pixel, and six decimals in the names
    assert data.metre_error(data.positive, data.offsets[:, 0]).max() < 0.15
    centres = data.metre_error(data.positive)
    assert (centres <= data.metre_error(data.semi_positive[:, 2])).all()
    assert 1 < centres.mean() < 30


def test_metre_error_uses_the_pixel_size_of_the_labels(root: Path) -> None:
    offset = np.array([[100.0, 0.0]] * 5)
    for labels, metres in (("released", 0.114), ("corrected", 0.10087)):
        data = open_vigor(root, "Seattle", labels=labels)
        moved = location_from_offset(data.reference_location[data.positive], offset, np.full(5, metres))
        expected = distance_metres(moved, data.query_location)
        assert np.allclose(data.metre_error(data.positive, offset), expected, atol=0.01)


def test_pixel_sizes_are_those_published_for_the_cities() -> None:
    published = {
        "NewYork": (40.7128, 0.113248),
        "Seattle": (47.6062, 0.100817),
        "SanFrancisco": (37.7749, 0.118141),
        "Chicago": (41.8781, 0.111262),
    }
    for latitude, metres in published.values():
        assert metres_per_pixel("corrected", np.array([latitude]))[0] == pytest.approx(metres, rel=2e-3)
    assert metres_per_pixel("released", np.array([10.0, 60.0])).tolist() == [0.114, 0.114]


@given(st.floats(-70, 70), st.floats(-179, 179), st.floats(-600, 600), st.floats(-600, 600))
def test_a_location_lies_at_the_offsets_distance_and_opposite_to_it(latitude: float, longitude: float, north: float, east: float) -> None:
    centre = np.array([[latitude, longitude]])
    place = location_from_offset(centre, np.array([[north, east]]), np.array([0.1]))
    assert distance_metres(centre, place)[0] == pytest.approx(np.hypot(north, east) * 0.1, abs=1e-6)
    moved_north, moved_east = (place - centre)[0] * (111_132, 111_320 * np.cos(np.radians(latitude)))  # metres, to 1%
    assert moved_north == pytest.approx(-north * 0.1, rel=0.01, abs=1e-3)
    assert moved_east == pytest.approx(-east * 0.1, rel=0.01, abs=1e-3)


def test_a_label_row_in_the_owners_format(tmp_path: Path) -> None:
    tiles = [f"satellite_47.{number}_-122.{number}.png" for number in range(5)]
    row = "EPdy_ww-T,47.582113,-122.314680,.jpg {3} 156.0 40.0 {0} -205.0 43.0 {4} 153.0 -323.0 {1} -209.0 -320.0"
    (tmp_path / "l.txt").write_text(row.format(*tiles))
    labels = read_labels(tmp_path / "l.txt", tiles)
    assert labels.panoramas == ["EPdy_ww-T,47.582113,-122.314680,.jpg"]
    assert labels.tiles.tolist() == [[3, 0, 4, 1]]
    assert labels.offsets.tolist() == [[[156, 40], [-205, 43], [153, -323], [-209, -320]]]
    assert panorama_locations(labels.panoramas).tolist() == [[47.582113, -122.31468]]
    assert tile_locations(tiles[:1]).tolist() == [[47.0, -122.0]]


@pytest.mark.parametrize(("split", "rows"), [("train", 11_876), ("test", 11_875)])
def test_real_label_files_are_read_whole_and_their_geometry_holds(shared: Path, split: str, rows: int) -> None:
    folder = shared / "data" / "vigor_labels" / "Seattle"
    tiles = read_tiles(folder / "satellite_list.txt")
    labels = read_labels(folder / f"same_area_balanced_{split}__corrected.txt", tiles)
    assert (len(tiles), len(labels.panoramas), labels.tiles.shape, labels.offsets.shape) == (20_776, rows, (rows, 4), (rows, 4, 2))
    assert not labels.absent
    assert (labels.tiles >= 0).all()
    panoramas, centres = panorama_locations(labels.panoramas), tile_locations(tiles)
    for place in range(4):
        centre = centres[labels.tiles[:, place]]
        found = location_from_offset(centre, labels.offsets[:, place], metres_per_pixel("corrected", centre[:, 0]))
        error = distance_metres(found, panoramas)
        assert np.median(error) < 0.4  # four pixels in 300; the pixel size the labels were made with is not published
        assert error.max() < 0.6


FAULTS = {
    "a b c": "line 2: 3 fields, expected 13",
    "../p,1,2,.jpg {0} 1 2 {0} 1 2 {0} 1 2 {0} 1 2": "line 2: .* is not a file name below the data root",
    "p,1,2,.jpg {0} 1 2 {0} 1 2 {0} one 2 {0} 1 2": "line 2: offsets one 2 are not numbers",
    "p,1,2,.jpg {0} 1 2 satellite_1_2.png 1 2 {0} 1 2 {0} 1 2": r"label rows naming tiles absent .*: 1 \(.* line 2: satellite_1_2\.png\)",
    "p.jpg {0} 1 2 {0} 1 2 {0} 1 2 {0} 1 2": r"p\.jpg is not named <id>,<latitude>,<longitude>,\.jpg",
    "p,x,2,.jpg {0} 1 2 {0} 1 2 {0} 1 2 {0} 1 2": r"not of the form <id>,<latitude>,<longitude>,\.jpg .*'x'",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_faulty_label_row_is_named_by_file_and_line(root: Path, line: str) -> None:
    path = root / "splits/Seattle/same_area_balanced_train.txt"
    lines = path.read_text().splitlines()
    lines[1] = line.format((root / "splits/Seattle/satellite_list.txt").read_text().split()[0])
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=FAULTS[line]):
        open_vigor(root)


def test_rows_naming_absent_tiles_are_skipped_when_told(root: Path) -> None:
    path = root / "splits/Seattle/satellite_list.txt"
    used = (root / "splits/Seattle/same_area_balanced_train.txt").read_text().split()[7]
    path.write_text(path.read_text().replace(f"{used}\n", ""))
    with pytest.raises(DatasetError, match=r"label rows naming tiles absent from satellite_list\.txt: .* set skip_missing=True"):
        open_vigor(root, "Seattle")
    with pytest.warns(UserWarning, match=r"absent from satellite_list\.txt.*; skipped \d queries"):
        data = open_vigor(root, "Seattle", skip_missing=True)
    assert (data.n_references, len(data) + data.skipped) == (8, 5)
    assert data.skipped >= 1


def test_missing_images_are_refused_or_skipped_with_indices_renumbered(root: Path) -> None:
    whole = open_vigor(root, "Seattle+Chicago", "test", aerial_size=(64, 64))
    gone = int(whole.positive[0])
    (root / "Seattle/satellite" / whole.reference_ids[gone]).unlink()
    (root / "Chicago/panorama" / whole.query_ids[7]).unlink()
    with pytest.raises(DatasetError, match="2 of 26 images are missing or unreadable"):
        open_vigor(root, "Seattle+Chicago", "test")
    with pytest.warns(UserWarning, match=r"skipped \d of 8 queries"):
        data = open_vigor(root, "Seattle+Chicago", "test", aerial_size=(64, 64), skip_missing=True)
    assert data.semi_positive is not None
    assert whole.semi_positive is not None
    names_gone = [gone in (positive, *semi) for positive, semi in zip(whole.positive, whole.semi_positive, strict=True)]
    kept = [query for query in range(8) if query != 7 and not names_gone[query]]
    assert list(data.query_ids) == [whole.query_ids[query] for query in kept]
    assert (data.n_references, data.skipped) == (17, 8 - len(kept))
    for row, query in enumerate(kept):
        old, new = [whole.positive[query], *whole.semi_positive[query]], [data.positive[row], *data.semi_positive[row]]
        assert [whole.reference_ids[tile] for tile in old] == [data.reference_ids[tile] for tile in new]
        assert torch.equal(whole.aerial(old), data.aerial(new))
        assert np.array_equal(whole.query_location[query], data.query_location[row])


def test_blank_lines_and_a_leading_dot_and_slash_are_no_fault(root: Path) -> None:
    plain = open_vigor(root, "Seattle")
    for name in ("satellite_list", "same_area_balanced_train"):
        path = root / f"splits/Seattle/{name}.txt"
        first, *others = path.read_text().splitlines()
        first = " ".join(f"./{field}" if field.endswith((".png", ".jpg")) else field for field in first.split())
        path.write_text("\n".join(["", first, " ", *others]))
    data = open_vigor(root, "Seattle")
    assert (data.hash, list(data.reference_ids)) == (plain.hash, list(plain.reference_ids))
    path.write_text(path.read_text() + "\n\na b c\n")
    with pytest.raises(DatasetError, match="line 9: 3 fields, expected 13"):
        open_vigor(root, "Seattle")
    path = root / "splits/Seattle/satellite_list.txt"
    path.write_text(path.read_text() + f"\n./{plain.reference_ids[4]}\n")
    with pytest.raises(DatasetError, match=r"satellite_list\.txt names satellite_.* twice"):
        open_vigor(root, "Seattle")


@pytest.mark.parametrize("gone", ["labels", "images", "both"])
def test_cities_that_are_not_there_are_named_with_what_to_pass(root: Path, gone: str) -> None:
    for city in ("NewYork", "Chicago", "SanFrancisco"):
        for folder in [f"splits/{city}"] * (gone != "images") + [city] * (gone != "labels"):
            shutil.rmtree(root / folder)
    with pytest.raises(DatasetError, match="same train needs NewYork, SanFrancisco, Chicago, and .* of Seattle; .* train_area='Seattle'"):
        open_vigor(root)
    with pytest.raises(DatasetError, match="vigor cross test needs SanFrancisco, Chicago, and .* train_area='Seattle'"):
        open_vigor(root, "cross", "test")
    assert len(open_vigor(root, "Seattle")) == 5
    shutil.rmtree(root / "Seattle")
    with pytest.raises(DatasetError, match="holds labels and images of no city; .* give VIGOR's own folder as data_root"):
        open_vigor(root)


def test_cities_may_be_links_to_another_disk(root: Path, tmp_path: Path) -> None:
    whole = open_vigor(root, "Seattle")
    (root / "Seattle").rename(tmp_path / "disk")
    (root / "Seattle").symlink_to(tmp_path / "disk")
    assert open_vigor(root, "Seattle").hash == whole.hash


def test_a_list_that_names_a_tile_twice_is_an_error(root: Path) -> None:
    path = root / "splits/Seattle/satellite_list.txt"
    path.write_text(path.read_text() + path.read_text().split()[0])
    with pytest.raises(DatasetError, match=r"satellite_list\.txt names satellite_.* twice"):
        open_vigor(root, "Seattle")
