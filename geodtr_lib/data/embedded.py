"""The embedded data sets: places chosen on a world's streets, rendered from both views, cached by the hash of what made them."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from geodtr_lib import lookup, paths
from geodtr_lib.data import city, environment
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.data.parallel import workers
from geodtr_lib.data.site_views import Rendering, Site, SiteViews
from geodtr_lib.data.world import CLASSES, World
from geodtr_lib.errors import ConfigError, DatasetError, RunError
from geodtr_lib.files import digest, file_digest, read_json, write_json

if TYPE_CHECKING:
    from geodtr_lib.data.osm_projection import Projection

TRAIN_SPACING, TEST_SPACING = 8.0, 16.0  # metres between places; the test gallery is sparser, so that a place is one answer
TEST_SHARE, BLOCK = 0.28, 180.0  # osm: share of square blocks (metres) kept for testing
OSM_TRAIN_SPACING, OSM_TEST_SPACING = 4.0, 8.0  # a real centre is small
CITY_SIDE = 1000.0  # metres, the largest world; few places come from a smaller one of the same density
PLACES_PER_KM2 = {"train": 1600, "test": 600}
_SCHEMA = 1


def thin(points: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of a random maximal subset of points (N x 2, metres) that are pairwise at least ``spacing`` apart, in random order."""
    n = len(points)
    rank = rng.permutation(n)
    pairs = cKDTree(points).query_pairs(spacing, output_type="ndarray")
    alive, kept = np.ones(n, bool), np.zeros(n, bool)
    while alive.any():
        # A point whose rank is lower than all living neighbours' is kept; its neighbours go.
        pairs = pairs[alive[pairs].all(1)]
        beaten = np.zeros(n, bool)
        lower = rank[pairs[:, 0]] < rank[pairs[:, 1]]
        beaten[np.where(lower, pairs[:, 1], pairs[:, 0])] = True
        winners = alive & ~beaten
        kept |= winners
        alive &= ~winners
        gone = np.concatenate([pairs[winners[pairs[:, 0]], 1], pairs[winners[pairs[:, 1]], 0]])
        alive[gone] = False
    index = np.flatnonzero(kept)
    return index[np.argsort(rank[index])]


def _standing_room(candidate: World) -> np.ndarray:
    """Street points with nothing solid within about two metres."""
    blocked = ndimage.maximum_filter((candidate.solid > 0).view(np.uint8), max(3, round(4 / candidate.resolution)))
    row, column = candidate.pixel(candidate.streets[:, 0], candidate.streets[:, 1])
    return candidate.streets[blocked[row, column] == 0, :2].astype(np.float64)


def _area_seed(area: str, seed: int) -> int:
    """What training and test places of an area have in common: its city, its campaign and its flight."""
    return int(np.random.SeedSequence([seed, zlib.crc32(area.encode())]).generate_state(1)[0] % 2**31)


def _city_sites(area: str, split: str, n: int, seed: int, resolution: float) -> Iterator[Site]:
    city.style(area)  # an unknown area is an error before anything is built
    if n == 0:
        raise ConfigError(f"n_{split}: 0 (all places) is not possible for city, which has no end; give a number")
    side = min(CITY_SIDE, max(160.0, 1000.0 * (n / PLACES_PER_KM2[split]) ** 0.5))
    # One city per area and data seed: training and test places lie in other districts of it.
    city_seed = _area_seed(area, seed)
    district = 1 if split == "test" else 0
    while n > 0:
        if district >= city.DISTRICTS:
            raise ConfigError(f"n_{split}: city {area} has {n} places fewer than asked for; take several areas joined by '+'")
        candidate = city.city_world(area, city_seed, side, resolution, district)
        world_seed = city_seed + district
        points = _standing_room(candidate)
        chosen = points[thin(points, TRAIN_SPACING if split == "train" else TEST_SPACING, np.random.default_rng(world_seed))[:n]]
        corner = (district % 8 * city.DISTRICT_PITCH, district // 8 * city.DISTRICT_PITCH)
        yield Site(candidate, world_seed, city_seed, chosen[:, 0], chosen[:, 1], city.style(area).climate, corner)
        n -= len(chosen)
        district += 2


def split_by_blocks(points: np.ndarray, tile_metres: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint train and test parts of one area (boolean masks of N x 2 points in metres).

    Square blocks are drawn for testing; a training point keeps so far from every test point that their tiles do not overlap.
    """
    block = np.floor(points / BLOCK).astype(np.int64)
    keys, which = np.unique(block, axis=0, return_inverse=True)
    rng = np.random.default_rng([seed, 77])
    order = rng.permutation(len(keys))
    size = np.bincount(which.ravel(), minlength=len(keys))[order]
    drawn = order[: int(np.searchsorted(np.cumsum(size), TEST_SHARE * len(points))) + 1]
    test = np.isin(which.ravel(), drawn)
    if not test.any() or test.all():
        return ~test, test
    distance, _ = cKDTree(points[test]).query(points, p=np.inf)
    return ~test & (distance >= tile_metres), test


def _osm_sites(area: str, split: str, n: int, seed: int, root: str, rendering: Rendering) -> Iterator[Site]:
    from geodtr_lib.data.osm_world import osm_world, resolve_extract

    path = resolve_extract(root, area)
    # What OpenStreetMap lacks is drawn twice for training: neighbours then differ in colour as other towns would.
    draws = 2 if split == "train" else 1
    part: np.ndarray | None = None
    for draw in range(draws):
        appearance = int(np.random.SeedSequence([seed, split == "test", draw, 5]).generate_state(1)[0] % 2**31)
        candidate, projection = osm_world(path, appearance, rendering.resolution)
        if part is None:
            points = _standing_room(candidate)
            train, test = split_by_blocks(points, rendering.tile_metres, seed)
            points = points[train if split == "train" else test]
            if len(points) < 2:
                raise DatasetError(f"{path}: only {len(points)} {split} places on its streets; the extract is too small, take a larger one")
            order = thin(points, OSM_TRAIN_SPACING if split == "train" else OSM_TEST_SPACING, np.random.default_rng(appearance))
            part = points[order[: n or None]]
        chosen = part[draw::draws]
        survey = _area_seed(area, seed)
        yield Site(candidate, appearance, survey, chosen[:, 0], chosen[:, 1], climate_at(projection), to_lonlat=projection.to_lonlat)


def climate_at(projection: Projection) -> environment.Environment:
    """Clear days at the extract's latitude: how high the sun stands around noon between midwinter and midsummer, and on which side."""
    latitude = float(projection.to_lonlat(np.zeros(1), np.zeros(1))[1][0])
    low, high = 90 - abs(latitude) - 23.4, 90 - abs(latitude) + 23.4
    clear = environment.Environment(sun_altitude=(max(8.0, low + 8), float(np.clip(high - 4, 15, 85))))
    return replace(clear, sun_azimuth=environment.SOUTHERN_SUN) if latitude < 0 else clear


def sites(name: str, area: str, split: str, n: int, seed: int = 0, root: str = "", rendering: Rendering | None = None) -> Iterator[Site]:
    """The worlds of ``city`` or ``osm`` in which n places are rendered, one by one; arguments and errors as of :func:`open_embedded`."""
    rendering = rendering or Rendering()
    if name == "city":
        return _city_sites(area, split, n, seed, rendering.resolution)
    return _osm_sites(area, split, n, seed, root, rendering)


def _code(name: str) -> str:
    """Hash of the source that draws: a change of it makes other data, so it is part of the cache's key."""
    parts = [thin, _standing_room, *([_city_sites] if name == "city" else [split_by_blocks, _osm_sites, climate_at])]
    here = Path(__file__).parent
    common = ("aerial_view.py", "environment.py", "pixel_lists.py", "site_views.py", "street_*.py", "world.py")
    own = ("city*.py",) if name == "city" else ("osm_*.py", "polygon_fill.py", "city_styles.py")
    files = [path for pattern in (*common, *own) for path in sorted(here.glob(pattern))]
    sources = [*(inspect.getsource(part) for part in parts), *(path.read_text() for path in files)]
    return digest(
        [*sources, PLACES_PER_KM2, CITY_SIDE, TRAIN_SPACING, TEST_SPACING, OSM_TRAIN_SPACING, OSM_TEST_SPACING, TEST_SHARE, BLOCK]
    )


def open_embedded(
    name: str, area: str, split: str, n: int, seed: int = 0, root: str = "", rendering: Rendering | None = None, progress: bool = True
) -> ArrayDataset:
    """Open, or render and cache, one area of ``city`` or ``osm``.

    Args:
        area: one area (no '+').
        split: 'train' or 'test'; disjoint worlds (city) or disjoint blocks whose tiles do not overlap (osm).
        n: places; 0 = all (osm).
        root: osm only, see :func:`geodtr_lib.data.osm_world.resolve_extract`.

    Raises:
        DatasetError: unknown area or split, unreadable extract, a cache file cut short.
        RunError: the cache cannot be written.
    """
    rendering = rendering or Rendering()
    for drawn in (rendering.ground_environment, rendering.aerial_environment):
        environment.environment(drawn)  # an unknown name is an error before anything is built
    if split not in ("train", "test"):
        raise DatasetError(f"{name} has no split {split!r}; allowed: train, test")
    key = cache_key(name, area, split, n, seed, root, rendering)
    folder = paths.cache_folder() / name / f"{area}-{split}-{digest(key)}"
    if not lookup.is_file(folder / "manifest.json"):
        _build(folder, key, sites(name, area, split, n, seed, root, rendering), rendering, progress)
    return _open(folder, name, area, split)


def cache_key(name: str, area: str, split: str, n: int, seed: int, root: str, rendering: Rendering) -> dict[str, Any]:
    """Everything that decides what is drawn: the values, the source code and, for osm, the content of the map's file.

    Raises:
        DatasetError: unknown area, or no readable extract.
    """
    key = {"name": name, "area": area, "split": split, "n": n, "seed": seed, "rendering": asdict(rendering), "code": _code(name)}
    if name == "osm":
        from geodtr_lib.data.osm_world import resolve_extract

        key["extract"] = file_digest(resolve_extract(root, area))
    else:
        city.style(area)
    return key


def _open(folder: Path, name: str, area: str, split: str) -> ArrayDataset:
    manifest = read_json(folder / "manifest.json")
    arrays = {}
    for key, size in manifest["bytes"].items():
        path = folder / f"{key}.npy"
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise DatasetError(f"cache file {path} is cut short ({found:,} of {size:,} bytes); remove the folder {folder} and run again")
        arrays[key] = np.load(path, mmap_mode="r", allow_pickle=False)
    return ArrayDataset(
        name, area, split, arrays["aerial"], arrays["ground"], manifest["content"],
        position=np.asarray(arrays["position"]),
        location=np.asarray(arrays["location"]) if "location" in arrays else None,
        truth={key: arrays[key] for key in ("ground_depth", "ground_class", "aerial_class")},
        class_names=CLASSES,
    )  # fmt: skip


def _build(folder: Path, key: dict[str, Any], sites: Iterator[Site], rendering: Rendering, progress: bool) -> None:
    """Render all sites into a temporary folder, then rename it: a half-written cache has no name under which it could be read."""
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        rows = _GrowingArrays(temporary)
        bar = tqdm(
            desc=f"rendering {key['name']} {key['area']} {key['split']}",
            unit=" places",
            total=key["n"] or None,
            disable=not progress,
            leave=True,
        )
        with workers(1, torch.get_num_threads()) as ahead:
            following: Future[Site | None] = ahead.submit(next, sites, None)
            while (site := following.result()) is not None:
                if key["name"] == "city":  # the next world is drawn while this one is rendered; two whole towns would fill the memory
                    following = ahead.submit(next, sites, None)
                rows.append(_render(site, rendering, bar))
                if key["name"] != "city":
                    del site
                    following = ahead.submit(next, sites, None)
        bar.close()

        sizes = {name: path.stat().st_size for name, path in rows.paths.items()}
        with workers(torch.get_num_threads()) as pool:
            content = list(pool.map(file_digest, rows.paths.values()))
        write_json(
            temporary / "manifest.json", {"schema": _SCHEMA, "key": json.loads(json.dumps(key)), "bytes": sizes, "content": digest(content)}
        )
        try:
            temporary.rename(folder)
            temporary = None
        except OSError:
            if not (folder / "manifest.json").is_file():  # else another process was faster, with the same content
                raise
    except OSError as error:
        raise RunError(
            f"cannot write the data cache {folder.parent}: {error.strerror or error}; free space or set GEODTR_CACHE to another folder"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


class _GrowingArrays:
    """Arrays that are written as their rows come, ``<name>.npy`` in a folder: the paper's 35,532 places would fill 27 GB of memory.

    The files are to the byte what ``np.save`` makes of the whole arrays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}
        self._lengths: dict[str, int] = {}

    def append(self, part: dict[str, np.ndarray]) -> None:
        """Write the rows of each array, the same arrays at each call."""
        for name, rows in part.items():
            path = self.paths.setdefault(name, self.folder / f"{name}.npy")
            length = self._lengths[name] = self._lengths.get(name, 0) + len(rows)
            with open(path, "r+b" if path.is_file() else "wb") as stream:
                # numpy leaves room in a header for the first axis to grow, so that the longer one takes the place of the shorter.
                header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": (length, *rows.shape[1:])}
                np.lib.format.write_array_header_1_0(stream, header)
                stream.seek(0, os.SEEK_END)
                stream.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)


def _render(site: Site, rendering: Rendering, bar: Any) -> dict[str, np.ndarray]:
    return SiteViews(site, rendering).draw(bar.update)
