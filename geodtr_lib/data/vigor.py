"""VIGOR in its owners' layout, or the sibling one (Zhu et al., CVPR 2021).

``` text
<City>/panorama/<id>,<lat>,<lng>,.jpg      or  ground/<City>/...       2048 x 1024, north in the centre column
<City>/satellite/satellite_<lat>_<lng>.png or  satellite/<City>/...    640 x 640, north up
splits/<City>/satellite_list.txt, same_area_balanced_train.txt, same_area_balanced_test.txt, pano_label_balanced.txt
splits__corrected/<City>/same_area_balanced_train__corrected.txt, ...  optional, by the authors of SliceMatch
```

A query has one positive tile (its camera is near the tile's centre) and three semi-positives (it is in the picture).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geodtr_lib.data.folders import Tree, find_root
from geodtr_lib.data.images import Size
from geodtr_lib.data.pairs import ImageFileDataset, PairTable
from geodtr_lib.data.screening import first_of, screen
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
from geodtr_lib.lookup import exists, is_folder

CITIES = ("NewYork", "Seattle", "SanFrancisco", "Chicago")
# Area -> cities of train and of test. The order of the cities fixes the indices of the references.
PROTOCOLS: dict[str, dict[str, tuple[str, ...]]] = {
    "same": {"train": CITIES, "test": CITIES},
    "cross": {"train": CITIES[:2], "test": CITIES[2:]},
    "cross-reversed": {"train": CITIES[2:], "test": CITIES[:2]},
}
LABELS = ("released", "corrected")
LAYOUT = (
    "ground", "satellite", *CITIES,
    *(folder for city in CITIES for folder in (f"{city}/panorama", f"{city}/satellite", f"ground/{city}", f"satellite/{city}")),
)  # fmt: skip


class VigorDataset(ImageFileDataset):
    """VIGOR. ``labels`` says which labels are used; ``offsets`` are theirs, N x 4 x 2 pixels."""

    labels: str
    query_location: np.ndarray
    reference_location: np.ndarray

    def metre_error(self, retrieved: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
        """How far the places found are from the true ones.

        Args:
            retrieved: N references, the best match of each query.
            offset: N x 2 predicted offsets from those tiles in pixels; None = the tiles' centres.

        Returns:
            N distances in metres.
        """
        tiles = self.reference_location[np.asarray(retrieved)]  # N x 2
        found = tiles if offset is None else location_from_offset(tiles, np.asarray(offset), metres_per_pixel(self.labels, tiles[:, 0]))
        return distance_metres(self.query_location, found)


def find_vigor(root: str | Path | None, labels: str = "released") -> Path:
    """The folder that holds the label folders, given it or its parent."""
    return find_root(root, ("VIGOR", "vigor"), label_folder(labels), "vigor")


def label_folder(labels: str) -> str:
    """``splits`` or ``splits__corrected``."""
    if labels not in LABELS:
        raise ConfigError(f"labels: {labels!r} is not possible; allowed: {', '.join(LABELS)}")
    return {"released": "splits", "corrected": "splits__corrected"}[labels]


def cities_of(area: str, split: str) -> tuple[tuple[str, ...], str]:
    """The cities of an area and split, and the name of their label file.

    ``same`` and lists of cities use the same-area split of each city, so that training and test panoramas differ;
    ``cross`` and ``cross-reversed`` use all panoramas of a city.

    Raises:
        ConfigError: unknown area or split.
    """
    if split not in ("train", "test"):
        raise ConfigError(f"split: {split!r} is not known; allowed: train, test")
    if area in PROTOCOLS:
        file = f"same_area_balanced_{split}.txt" if area == "same" else "pano_label_balanced.txt"
        return PROTOCOLS[area][split], file
    cities = tuple(city.strip() for city in area.split("+"))
    if not set(cities) <= set(CITIES) or len(set(cities)) != len(cities):
        allowed = f"{', '.join(PROTOCOLS)}, or cities joined by '+': {', '.join(CITIES)}"
        raise ConfigError(f"area: {area!r} is not known; allowed for vigor: {allowed}")
    return cities, f"same_area_balanced_{split}.txt"


def vigor_table(tree: Tree, cities: Sequence[str], file: str, labels: str = "released") -> tuple[PairTable, list[str]]:
    """Queries and references of some cities, and the label rows left out because they name tiles that are not listed.

    Raises:
        DatasetError: a missing or faulty label file.
    """
    ground: list[str] = []
    aerial: list[str] = []
    pano_names: list[str] = []
    tile_names: list[str] = []
    absent: list[str] = []
    positives, offsets = [], []
    for city in cities:
        tiles = read_tiles(list_path(tree, city, labels))
        rows = read_labels(_label_path(tree, city, file, labels), tiles)
        usable = (rows.tiles >= 0).all(axis=1)
        panoramas = [rows.panoramas[row] for row in np.flatnonzero(usable)]
        positives.append(rows.tiles[usable] + len(aerial))
        offsets.append(rows.offsets[usable])
        absent += rows.absent
        panorama_folder = _image_folder(tree, f"{city}/panorama", f"ground/{city}")
        tile_folder = _image_folder(tree, f"{city}/satellite", f"satellite/{city}")
        ground += [f"{panorama_folder}/{name}" for name in panoramas]
        aerial += [f"{tile_folder}/{name}" for name in tiles]
        pano_names += panoramas
        tile_names += tiles
    tiles_of_query = np.concatenate(positives)  # N x 4
    table = PairTable(
        ground=ground,
        aerial=aerial,
        positive=tiles_of_query[:, 0],
        semi_positive=tiles_of_query[:, 1:],
        query_ids=pano_names,
        reference_ids=tile_names,
        query={"location": panorama_locations(pano_names), "offsets": np.concatenate(offsets)},
        reference={"location": tile_locations(tile_names)},
    )
    return table, absent


def _require_cities(tree: Tree, cities: Sequence[str], title: str, labels: str) -> None:
    """Say which cities are there before thousands of images are called missing.

    Raises:
        DatasetError: a city without labels, or without any image.
    """

    def is_there(city: str) -> bool:
        listed = is_folder(Path(tree.root) / label_folder(labels) / city)
        folders = (f"{city}/panorama", f"ground/{city}", f"{city}/satellite", f"satellite/{city}")
        return listed and any(tree.names(folder) for folder in folders)

    if absent := [city for city in cities if not is_there(city)]:
        there = [city for city in CITIES if city not in absent and is_there(city)]
        advice = f"pass train_area={'+'.join(there)!r} for what is there" if there else "give VIGOR's own folder as data_root"
        found = f"labels and images of {', '.join(there) or 'no city'}"
        raise DatasetError(f"{title} needs {', '.join(absent)}, and {tree.root} holds {found}; fetch the others, or {advice}")


def _image_folder(tree: Tree, owners: str, sibling: str) -> str:
    return owners if tree.names(owners) or not tree.names(sibling) else sibling


def list_path(tree: Tree, city: str, labels: str) -> Path:
    """The corrected labels come with or without the list of tiles, which they do not change."""
    beside = Path(tree.root) / label_folder(labels) / city / "satellite_list.txt"
    return beside if exists(beside) else Path(tree.root) / "splits" / city / "satellite_list.txt"


def _label_path(tree: Tree, city: str, file: str, labels: str) -> Path:
    corrected = file.replace(".txt", "__corrected.txt")
    return Path(tree.root) / label_folder(labels) / city / (corrected if labels == "corrected" else file)


def open_vigor(
    root: str | Path | None,
    area: str | None = None,
    split: str = "train",
    *,
    ground_size: Size = (320, 640),
    aerial_size: Size | None = None,
    tile_size: int = 0,
    polar: bool = False,
    labels: str = "released",
    skip_missing: bool = False,
    workers: int = 0,
) -> VigorDataset:
    """Open VIGOR.

    Args:
        root: the folder that holds the cities and ``splits``, or its parent.
        area: ``same``, ``cross``, ``cross-reversed``, or cities joined by ``+``.
        split: ``train`` or ``test``.
        ground_size: (height, width) of panoramas.
        aerial_size: (height, width) of tiles; None = ``ground_size`` with ``polar``, else 320 x 320.
        tile_size: with ``polar``, side of the square tiles to be unrolled by the training step; 0 = the owners' 640.
        polar: tiles are meant for the polar transform (the paper does not use it here).
        labels: ``released``, or ``corrected`` by the authors of SliceMatch.
        skip_missing: leave out what is missing, with a warning, instead of refusing.
        workers: threads; 0 = one per core.

    Raises:
        ConfigError: unknown area, split or labels.
        DatasetError: missing or faulty data, or labels naming tiles that are not in ``satellite_list.txt``.
    """
    area = area or "same"
    cities, file = cities_of(area, split)
    tree = Tree(find_vigor(root, labels), LAYOUT)
    if not skip_missing:
        _require_cities(tree, cities, f"vigor {area} {split}", labels)
    table, absent = vigor_table(tree, cities, file, labels)
    if absent:
        found = f"vigor {area} {split}: label rows naming tiles absent from satellite_list.txt: {len(absent):,} ({first_of(absent)})"
        if not skip_missing:
            raise DatasetError(f"{found}; fetch the labels again, or set skip_missing=True to go on without them")
        warnings.warn(f"{found}; skipped {len(absent):,} queries", stacklevel=2)
    table, skipped = screen(table, tree, f"vigor {area} {split}", one_to_one=False, skip_missing=skip_missing, workers=workers)
    dataset = VigorDataset(
        table, tree, name="vigor", area=area, split=split, ground_size=ground_size,
        aerial_size=aerial_size or (ground_size if polar else (320, 320)), tile_size=tile_size, polar=polar, workers=workers,
        skipped=skipped + len(absent),
    )  # fmt: skip
    dataset.labels = labels
    return dataset
