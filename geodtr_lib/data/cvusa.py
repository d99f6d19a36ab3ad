"""CVUSA in its owners' layout (Workman et al., ICCV 2015; the split of Zhai et al., CVPR 2017).

``` text
dataset/splits/train-19zl.csv   35,532 rows      dataset/splits/val-19zl.csv   8,884 rows      (no header)
    bingmap/19/0041073.jpg,streetview/panos/0041073.jpg,streetview/annotations/0041073.png
dataset/bingmap/19/<id>.jpg          750 x 750 aerial, north up
dataset/streetview/panos/<id>.jpg    224 x 1232 panorama, north in the centre column
dataset/polarmap/19/<id>.png         optional, made by geodtr_lib.data.prepare
dataset/split_locations/all.csv      optional: row id - 1 = aerial latitude, longitude, ground latitude, longitude
```
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from geodtr_lib.data.folders import Tree, find_root, read_lines, safe_name
from geodtr_lib.data.images import Size
from geodtr_lib.data.pairs import ImageFileDataset, PairTable, choose_polar_maps
from geodtr_lib.data.repeats import remove_repeats
from geodtr_lib.data.screening import screen
from geodtr_lib.data.vigor_labels import distance_metres
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.lookup import exists

AREAS = ("cvusa",)
SPLIT_FILES = {"train": "splits/train-19zl.csv", "test": "splits/val-19zl.csv"}
LOCATIONS = "split_locations/all.csv"
LAYOUT = ("bingmap", "bingmap/19", "streetview", "streetview/panos", "polarmap", "polarmap/19")
_APART = 1000.0  # metres between a tile's centre and its panorama: a tile is about 200 m wide


def find_cvusa(root: str | Path | None) -> Path:
    """The ``dataset`` folder, given that folder or one of its parents."""
    return find_root(root, ("dataset", "CVUSA/dataset", "CVUSA", "cvusa/dataset"), SPLIT_FILES["train"], "cvusa")


def polar_map_name(tile: str) -> str:
    """Where the release looks for the polar map of a tile: ``bingmap/19/1.jpg`` -> ``polarmap/19/1.png``."""
    return str(PurePosixPath(tile.replace("bingmap", "polarmap", 1)).with_suffix(".png"))


def read_split(root: Path, split: str) -> PairTable:
    """File names of ``train`` or ``test``, with locations when the optional file is there.

    Raises:
        ConfigError: unknown split.
        DatasetError: a missing or empty split file, or a row that is not ``aerial,ground[,annotation]``.
    """
    if split not in SPLIT_FILES:
        raise ConfigError(f"split: {split!r} is not known; allowed: {', '.join(SPLIT_FILES)}")
    path = root / SPLIT_FILES[split]
    aerial, ground = [], []
    for number, line in read_lines(path):
        fields = [value.strip().removeprefix("./") for value in line.split(",")]
        where = f"{path}, line {number}"
        if len(fields) not in (2, 3) or not fields[0].startswith("bingmap/") or not fields[1].startswith("streetview/"):
            form = "bingmap/...jpg,streetview/...jpg[,annotation]"
            raise DatasetError(f"{where}: {line!r} is not of the form {form}; correct it or fetch the file again")
        aerial.append(safe_name(fields[0], where))
        ground.append(safe_name(fields[1], where))
    locations = _read_locations(root / LOCATIONS, ground)
    return PairTable(
        ground=ground,
        aerial=aerial,
        positive=np.arange(len(ground)),
        query_ids=[PurePosixPath(name).stem for name in ground],
        reference_ids=[PurePosixPath(name).stem for name in aerial],
        query={} if locations is None else {"location": locations[:, 2:4]},
        reference={} if locations is None else {"location": locations[:, 0:2]},
    )


def _read_locations(path: Path, ground: list[str]) -> np.ndarray | None:
    """N x 4 degrees (aerial latitude and longitude, ground latitude and longitude), or None without the file.

    Raises:
        DatasetError: not four numbers for every image, no places on Earth, or a tile far from its panorama.
    """
    if not exists(path):
        return None
    try:
        table = np.loadtxt(path, delimiter=",", usecols=(0, 1, 2, 3), ndmin=2)
        rows = np.array([int(PurePosixPath(name).stem) for name in ground]) - 1
        if rows.min() < 0:
            raise IndexError("image number below 1")
        places = np.asarray(table[rows])
    except (OSError, ValueError, IndexError) as error:
        raise DatasetError(f"{path} does not give four numbers for every image number ({error}); fetch it again or remove it") from None
    on_earth = (np.abs(places) <= (90, 180, 90, 180)).all(1)  # False for what is no number, too
    near = np.zeros(len(places), bool)
    near[on_earth] = distance_metres(places[on_earth, :2], places[on_earth, 2:]) <= _APART
    if not near.all():
        first = int(np.argmin(near))
        found = ", ".join(f"{value:g}" for value in places[first])
        wanted = f"latitude and longitude of the tile and of the panorama, less than {_APART:g} m apart"
        raise DatasetError(f"{path}, row {rows[first] + 1}: {found} are not {wanted}; fetch it again or remove it")
    return places


def open_cvusa(
    root: str | Path | None,
    area: str | None = None,
    split: str = "train",
    *,
    ground_size: Size = (122, 671),
    aerial_size: Size | None = None,
    tile_size: int = 0,
    polar: bool = True,
    polar_maps: str = "auto",
    keep_repeats: bool = False,
    skip_missing: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> ImageFileDataset:
    """Open CVUSA.

    Args:
        root: the ``dataset`` folder or a parent of it.
        area: ``cvusa``.
        split: ``train`` (repeated pairs removed, the paper's protocol) or ``test`` (the owners' val, repeats kept).
        ground_size: (height, width) of panoramas.
        aerial_size: (height, width) of aerial images; None = ``ground_size`` with ``polar``, else 256 x 256.
        tile_size: side of square tiles to be unrolled by the training step; 0 = the owners' 750.
        polar: polar maps, or tiles meant for the polar transform, instead of tiles at ``aerial_size``.
        polar_maps: ``auto``, ``offline`` or ``computed``; see :func:`geodtr_lib.data.pairs.choose_polar_maps`.
        keep_repeats: train on all rows.
        skip_missing: leave out pairs with missing or unreadable images, with a warning, instead of refusing.
        workers: threads; 0 = one per core.
        progress: show a bar while repeated pairs are looked for.

    Raises:
        ConfigError: unknown area, split or ``polar_maps``.
        DatasetError: missing or faulty data.
    """
    if (area or AREAS[0]) not in AREAS:
        raise ConfigError(f"area: {area!r} is not known; allowed for cvusa: {', '.join(AREAS)}")
    title = f"cvusa {split}"
    folder = find_cvusa(root)
    tree = Tree(folder, LAYOUT)
    table = read_split(folder, split)
    aerial_size = aerial_size or (ground_size if polar else (256, 256))
    maps = [polar_map_name(name) for name in table.aerial]
    if offline := polar and choose_polar_maps(tree, table.aerial, maps, aerial_size, polar_maps):
        table = replace(table, aerial=maps)
    table, skipped = screen(table, tree, title, one_to_one=True, skip_missing=skip_missing, workers=workers)
    repeats = 0
    if split == "train" and not keep_repeats:
        table, repeats = remove_repeats(table, tree, title, skip_missing=skip_missing, workers=workers, progress=progress)
    return ImageFileDataset(
        table, tree, name="cvusa", area=AREAS[0], split=split, ground_size=ground_size, aerial_size=aerial_size, tile_size=tile_size,
        polar=polar, aerial_is_polar=offline, workers=workers, skipped=skipped, repeats_removed=repeats,
    )  # fmt: skip
