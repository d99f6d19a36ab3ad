"""Procedural cities and the cache of rendered data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from geodtr_lib import paths
from geodtr_lib.data import JoinedDataset, embedded, open_dataset, parallel
from geodtr_lib.data.city import MARGIN, STYLES, city_world
from geodtr_lib.data.city_plan import Plan
from geodtr_lib.data.site_views import TILE_METRES
from geodtr_lib.data.world import CAR, GRASS, HEDGE, MARKING, ROAD, ROOF, SKY, SURFACE_CLASSES, TREE, WALL
from geodtr_lib.errors import ConfigError, DatasetError, RunError

SMALL = dict(n=40, ground_size=(16, 64), tile_size=24, progress=False)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path_factory.getbasetemp() / "city-cache"))


@pytest.mark.parametrize("name", sorted(STYLES))
def test_a_world_is_whole(name: str) -> None:
    made = city_world(name, seed=3, side=120.0)
    built = made.building > 0
    assert 0.02 < built.mean() < 0.7
    assert ((made.label == ROOF) == built).all()
    assert (made.solid[built] >= made.eaves[built] - 1e-4).all()
    assert (made.eaves[built] > 2).all()
    assert (made.eaves[~built] == 0).all()
    assert made.building.max() < len(made.facades)
    assert (made.solid[np.isin(made.label, SURFACE_CLASSES)] == 0).all()
    assert 0.05 < (np.isin(made.label, (ROAD, MARKING))).mean() < 0.6
    # Cameras stand on streets, inside the margin, not in houses.
    row, column = made.pixel(made.streets[:, 0], made.streets[:, 1])
    assert np.isin(made.label[row, column], (ROAD, MARKING)).mean() > 0.97
    assert (made.streets[:, :2] > MARGIN).all()
    assert (made.solid[row, column] == 0).all()


def test_streets_run_along_their_direction() -> None:
    made = city_world("suburb", seed=1, side=200.0)
    angle = np.deg2rad(made.streets[:, 2])
    row, column = made.pixel(made.streets[:, 0] + 4 * np.sin(angle), made.streets[:, 1] + 4 * np.cos(angle))
    assert np.isin(made.label[row, column], (ROAD, MARKING)).mean() > 0.95


def test_a_seed_makes_the_same_world_and_another_seed_another() -> None:
    first, again, other = (city_world("midrise", seed, side=60.0) for seed in (1, 1, 2))
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.solid, again.solid)
    assert not np.array_equal(first.solid, other.solid)


def test_styles_differ_as_their_names_say() -> None:
    made = {name: city_world(name, 7, side=300.0) for name in STYLES}
    height = {name: np.median(w.eaves[w.building > 0]) for name, w in made.items()}
    green = {name: (np.isin(w.label, (GRASS, HEDGE)) | (w.canopy_top > 0)).mean() for name, w in made.items()}
    assert height["highrise"] > 1.5 * height["midrise"] > 1.5 * height["suburb"]
    assert green["suburb"] > 1.5 * max(green["midrise"], green["highrise"], green["oldtown"])


def test_thinning_keeps_distance_and_is_maximal() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (800, 2))
    kept = embedded.thin(points, 6.0, np.random.default_rng(1))
    distance, _ = cKDTree(points[kept]).query(points[kept], k=2)
    assert distance[:, 1].min() >= 6.0
    assert cKDTree(points[kept]).query(points)[0].max() <= 6.0
    assert not np.array_equal(np.sort(kept), kept)  # random order, so that the first n are spread over the area


def test_blocks_for_testing_share_no_tile_with_training() -> None:
    points = np.random.default_rng(0).uniform(0, 1500, (4000, 2))
    train, test = embedded.split_by_blocks(points, 72.0, seed=0)
    assert not (train & test).any()
    assert 0.2 < test.mean() < 0.4
    assert train.mean() > 0.25
    apart = np.abs(points[train][:, None] - points[test][None]).max(-1)  # tiles overlap when both offsets are below a tile's side
    assert apart.min() >= 72.0


def test_places_have_truth_of_both_views() -> None:
    data = open_dataset("city", area="oldtown", split="test", **SMALL)
    assert (len(data), data.n_references) == (40, 40)
    assert tuple(data.ground([0, 5]).shape) == (2, 3, 16, 64)
    assert tuple(data.aerial(np.array([3])).shape) == (1, 3, 24, 24)
    depth, ground, aerial = (np.asarray(data.truth[key]) for key in ("ground_depth", "ground_class", "aerial_class"))
    assert np.isinf(depth[ground == SKY]).all()
    assert {WALL, SKY, ROAD} <= set(np.unique(ground))
    assert {ROOF, ROAD} <= set(np.unique(aerial))
    assert WALL not in aerial  # never seen from above
    assert np.isin(ground, (WALL, TREE, CAR)).any()
    # The pixel under the camera is street in both views.
    assert np.isin(aerial[:, 11:13, 11:13], (ROAD, MARKING, TREE)).mean() > 0.9


def test_districts_are_parts_of_one_city_without_common_ground() -> None:
    first, again, neighbour = (city_world("midrise", 5, side=100.0, district=district) for district in (0, 0, 1))
    assert np.array_equal(first.label, again.label)
    assert not np.array_equal(first.label, neighbour.label)
    # The streets' directions, modulo quarter turns, are those of one plan.
    common = [np.angle(np.exp(4j * np.deg2rad(made.streets[:, 2])).mean()) for made in (first, neighbour)]
    assert abs(np.angle(np.exp(1j * (common[0] - common[1])))) < 0.8
    train, test = (open_dataset("city", area="midrise", split=split, **SMALL) for split in ("train", "test"))
    assert np.abs(train.query_position[:, None] - test.query_position[None]).max(-1).min() > TILE_METRES


def test_train_and_test_are_other_places() -> None:
    train, test = (open_dataset("city", area="midrise", split=split, **SMALL) for split in ("train", "test"))
    assert train.hash != test.hash
    images = {bytes(row) for row in np.asarray(train.aerial_array).reshape(40, -1)}
    assert not images & {bytes(row) for row in np.asarray(test.aerial_array).reshape(40, -1)}


def test_the_cache_is_used_and_equal_to_a_new_rendering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = open_dataset("city", area="midrise", split="test", **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(embedded.city, "city_world", lambda *_: pytest.fail("rendered again"))
        assert open_dataset("city", area="midrise", split="test", **SMALL).hash == first.hash
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path))
    assert open_dataset("city", area="midrise", split="test", **SMALL).hash == first.hash


@pytest.fixture
def torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_threads")
def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hashes = set()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        monkeypatch.setenv("GEODTR_CACHE", str(tmp_path / str(threads)))
        # 150 places are three parts, of which several are drawn at once.
        hashes.add(open_dataset("city", area="suburb", split="train", **{**SMALL, "n": 150}).hash)
        assert torch.get_num_threads() == threads
    assert len(hashes) == 1


@pytest.mark.parametrize("name", sorted(STYLES))
def test_blocks_of_rows_leave_no_seam(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = city_world(name, seed=4, side=60.0)
    monkeypatch.setattr(parallel, "_BLOCK_PIXELS", 5 * 680)
    parts = city_world(name, seed=4, side=60.0)
    for raster in ("terrain", "solid", "eaves", "building", "label", "rgb", "canopy_top", "canopy_base", "canopy_rgb"):
        assert np.array_equal(getattr(whole, raster), getattr(parts, raster))


def test_axes_are_found_as_by_a_search() -> None:
    for style in STYLES.values():
        plan = Plan(style, seed=1, district=0)
        rng = np.random.default_rng(0)
        for family, lines in enumerate((plan.u, plan.v)):
            place = rng.uniform(-15_000, 15_000, 20_000).astype(np.float32)
            beside = (lines[10:-10, None] + np.array([-1e-2, 0, 1e-2], np.float32)).ravel()
            place = np.concatenate([place, beside[np.abs(beside) < 15_000]])
            assert np.array_equal(plan.block(family, place), np.searchsorted(lines, place) - 1)


def test_street_coordinates_stay_within_their_bounds() -> None:
    extent = 300.0
    metres = np.linspace(0, extent, 100, dtype=np.float32)
    for style in STYLES.values():
        for seed in range(5):
            plan = Plan(style, seed, district=seed)
            for (low, high), found in zip(plan.bounds(extent), plan.street_coordinates(metres[None, :], metres[:, None]), strict=True):
                assert low < found.min() < found.max() < high


def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path))
    open_dataset("city", area="midrise", split="test", **SMALL)
    return next(path for path in (tmp_path / "city").iterdir())


def test_a_cache_file_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached(tmp_path, monkeypatch)
    os.truncate(folder / "ground.npy", 1000)
    with pytest.raises(DatasetError, match=r"ground.npy is cut short \(1,000 of .* bytes\); remove the folder"):
        open_dataset("city", area="midrise", split="test", **SMALL)


def test_a_half_written_cache_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path))
    render_site = embedded._render

    def fails(*arguments: object) -> dict[str, np.ndarray]:
        render_site(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_render", fails)
        with pytest.raises(KeyboardInterrupt):
            open_dataset("city", area="midrise", split="test", **SMALL)
    assert not [path for path in (tmp_path / "city").iterdir() if not path.name.startswith(".")]
    assert len(open_dataset("city", area="midrise", split="test", **SMALL)) == 40


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded.np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(RunError, match="No space left on device; free space or set GEODTR_CACHE"):
        open_dataset("city", area="midrise", split="test", **SMALL)
    assert not list((tmp_path / "city").iterdir())


def test_arrays_that_grow_on_the_disk_are_what_numpy_saves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = {"tiles": rng.integers(0, 255, (1234, 3, 4, 4), np.uint8), "depth": rng.random((1234, 5)).astype(np.float16)}
    whole["x"] = rng.random(1234)
    growing = embedded._GrowingArrays(tmp_path)
    for part in (slice(7), slice(7, 7), slice(7, 99), slice(99, None)):
        growing.append({name: rows[part] for name, rows in whole.items()})
    for name, rows in whole.items():
        np.save(tmp_path / "saved.npy", rows)
        assert growing.paths[name].read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_the_manifest_names_what_was_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads((cached(tmp_path, monkeypatch) / "manifest.json").read_text())
    assert manifest["key"]["area"] == "midrise"
    assert manifest["key"]["rendering"]["tile_size"] == 24


def test_joined_areas_are_one_gallery() -> None:
    joined = open_dataset("city", area="midrise+oldtown", split="test", **SMALL)
    assert isinstance(joined, JoinedDataset)
    assert (len(joined), joined.n_references, joined.area) == (40, 40, "midrise+oldtown")
    parts = [open_dataset("city", area=area, split="test", **{**SMALL, "n": 20}) for area in ("midrise", "oldtown")]
    assert np.array_equal(
        joined.ground([0, 39, 20]).numpy(), np.stack([parts[0].ground([0])[0], parts[1].ground([19])[0], parts[1].ground([0])[0]])
    )
    assert joined.truth["ground_class"][39].shape == (16, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (dict(name="city", area="atlantis"), DatasetError, "'atlantis' is not known; allowed: midrise"),
        (dict(name="city", area="midrise", split="val"), DatasetError, "no split 'val'; allowed: train, test"),
        (dict(name="cities"), ConfigError, "'cities' is not known; allowed: city, osm"),
        (dict(name="city", n=0), ConfigError, "no end"),
        (dict(name="city", colour="red"), ConfigError, "colour"),
        (dict(name="city", environment="dusk"), ConfigError, "'dusk' is not known"),
        (dict(name="cvusa"), DatasetError, "pass data_root"),
    ],
)
def test_mistakes_are_named(arguments: dict, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        open_dataset(**arguments)
    assert "\n" not in str(caught.value)


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEODTR_CACHE", str(tmp_path / "a"))
    assert paths.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("GEODTR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_folder() == tmp_path / "geodtr_lib"
