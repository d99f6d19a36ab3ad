"""Small CVUSA, CVACT and VIGOR trees with the owners' names and file formats, made of procedural images in a second.

Every place is a patch of a plain of coloured blocks. The aerial tile shows it from above, north up; the panorama shows the same
colours by azimuth, north in the centre column, distance growing from the bottom row to the top row. So the two match in
content, and a model can learn them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from pyproj import Geod

CITIES = {"NewYork": (40.70, -74.0), "Seattle": (47.58, -122.32), "SanFrancisco": (37.77, -122.42), "Chicago": (41.88, -87.63)}
_EARTH = Geod(ellps="WGS84")
_VIGOR_PIXELS = 640  # offsets are in pixels of a 640 x 640 tile, whatever the size of the miniature's images
Colour = Callable[[np.ndarray, np.ndarray], np.ndarray]


def plain(rng: np.random.Generator, blocks: int = 64) -> Colour:
    """A repeating plain of coloured unit blocks: (east, north) -> RGB, 0 to 255."""
    colours = rng.integers(20, 235, (blocks, blocks, 3))
    return lambda east, north: colours[np.floor(north).astype(int) % blocks, np.floor(east).astype(int) % blocks]


def tile(colour: Colour, east: float, north: float, half: float, side: int) -> Image.Image:
    """A square ``2 half`` wide seen from above, north up, ``side`` pixels."""
    along = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(east + half * along, north - half * along)
    return Image.fromarray(colour(x, y).astype(np.uint8))


def panorama(colour: Colour, east: float, north: float, reach: float, size: tuple[int, int], middle_half: bool = False) -> Image.Image:
    """The surroundings by azimuth: column W/2 looks north, 3W/4 east; the bottom row is here, the top row ``reach`` away.

    With ``middle_half`` that view fills the middle half of the rows, as in CVACT; above is sky and below is the car.
    """
    height, width = size
    azimuth = (np.arange(width) / width - 0.5) * 2 * np.pi
    row = np.arange(height) / height
    depth = (1 - (2 * row - 0.5 if middle_half else row)) * reach
    distance = np.clip(depth, 0, reach)[:, None]
    pixels = colour(east + distance * np.sin(azimuth), north + distance * np.cos(azimuth))
    if middle_half:
        pixels = np.where((depth > reach)[:, None, None], (150, 190, 230), pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 92} if path.suffix == ".jpg" else {}))


def make_cvusa(
    folder: Path,
    n_train: int = 16,
    n_test: int = 8,
    *,
    seed: int = 0,
    tile_side: int = 96,
    panorama_size: tuple[int, int] = (32, 176),
    repeats: int = 0,
    locations: bool = True,
) -> Path:
    """``CVUSA/dataset`` below ``folder``; gives the ``dataset`` folder.

    The last ``repeats`` training rows have the images of the first ones, under their own names.
    """
    rng = np.random.default_rng(seed)
    root = folder / "CVUSA" / "dataset"
    colour = plain(rng)
    places = rng.uniform(0, 64, (n_train + n_test, 2))
    for repeat in range(repeats):
        places[n_train - 1 - repeat] = places[repeat]
    names = [f"{number + 1:07d}" for number in rng.permutation(n_train + n_test)]
    rows = []
    for name, (east, north) in zip(names, places, strict=True):
        row = (f"bingmap/19/{name}.jpg", f"streetview/panos/{name}.jpg", f"streetview/annotations/{name}.png")
        _save(tile(colour, east, north, 5, tile_side), root / row[0])
        _save(panorama(colour, east, north, 5, panorama_size), root / row[1])
        rows.append(",".join(row) + "\n")
    (root / "splits").mkdir(parents=True)
    (root / "splits" / "train-19zl.csv").write_text("".join(rows[:n_train]))
    (root / "splits" / "val-19zl.csv").write_text("".join(rows[n_train:]))
    if locations:
        table = np.column_stack([35 + places[:, 1] * 1e-4, -90 + places[:, 0] * 1e-4] * 2)[np.argsort(names)]
        (root / "split_locations").mkdir()
        np.savetxt(root / "split_locations" / "all.csv", table, delimiter=",", fmt="%.7f")
    return root


def make_cvact(
    folder: Path,
    n_train: int = 16,
    n_val: int = 8,
    n_test: int = 12,
    *,
    seed: int = 0,
    tile_side: int = 96,
    panorama_size: tuple[int, int] = (64, 128),
    val_in: str = "ANU_data_small",
) -> Path:
    """``ACT_data.mat`` and both image folders in ``folder``; gives ``folder``.

    The validation places are the first ``n_val`` of the ``n_test`` test places (valSetAll), as in the owners' lists; besides
    ``ANU_data_test``, which holds all test places, their images are in ``val_in``.
    """
    rng = np.random.default_rng(seed)
    colour = plain(rng)
    total = n_train + n_test
    places = rng.uniform(0, 64, (total, 2))
    alphabet = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"))
    names = ["".join(letters) for letters in alphabet[rng.integers(0, 64, (total, 22))]]
    for number, (name, (east, north)) in enumerate(zip(names, places, strict=True)):
        inside = ["ANU_data_small"] if number < n_train else ["ANU_data_test"]
        if n_train <= number < n_train + n_val:
            inside = [val_in] if val_in == "ANU_data_test" else [val_in, "ANU_data_test"]
        for place in inside:
            _save(tile(colour, east, north, 5, tile_side), folder / place / "satview_polish" / f"{name}_satView_polish.jpg")
            _save(panorama(colour, east, north, 5, panorama_size, middle_half=True), folder / place / "streetview" / f"{name}_grdView.jpg")
    save_act_data(folder / "ACT_data.mat", names, 690_000 + places * 10, n_train, n_val)
    return folder


def save_act_data(path: Path, names: list[str], utm: np.ndarray, n_train: int, n_val: int) -> None:
    """``ACT_data.mat`` in the MATLAB 5 format: a matrix of characters, a matrix, and three structures of indices from 1."""
    numbers = np.arange(1, len(names) + 1, dtype=np.float64)[:, None]
    scipy.io.savemat(
        path,
        {
            "panoIds": np.array(names),
            "utm": utm,
            "trainSet": {"trainInd": numbers[:n_train]},
            "valSet": {"valInd": numbers[n_train : n_train + n_val]},
            "valSetAll": {"valInd": numbers[n_train:]},
        },
    )


def make_vigor(
    folder: Path,
    n_train: int = 12,
    n_test: int = 8,
    *,
    cities: tuple[str, ...] = tuple(CITIES),
    grid: int = 4,
    seed: int = 0,
    tile_side: int = 64,
    panorama_size: tuple[int, int] = (32, 64),
    sibling: bool = False,
) -> Path:
    """Cities, ``splits`` and ``splits__corrected`` in ``folder``; gives ``folder``.

    Args:
        n_train, n_test: panoramas per city.
        grid: tiles per side of a city; neighbours overlap as the owners' do (363 of 640 pixels apart).
        sibling: ``ground/<City>`` and ``satellite/<City>`` instead of ``<City>/panorama`` and ``<City>/satellite``.
    """
    for number, city in enumerate(cities):
        rng = np.random.default_rng([seed, number])
        _make_city(folder, city, rng, n_train, n_test, grid, tile_side, panorama_size, sibling)
    return folder


def _make_city(
    folder: Path, city: str, rng: np.random.Generator, n_train: int, n_test: int, grid: int, tile_side: int, panorama_size: tuple[int, int],
    sibling: bool,
) -> None:  # fmt: skip
    colour = plain(rng)
    latitude, longitude = CITIES[city]
    metres = _EARTH.inv(longitude, latitude, longitude + 360 / 2**28, latitude)[2]  # a pixel of Web Mercator at zoom 20
    block = _VIGOR_PIXELS * metres / 10  # a tile is ten blocks wide
    spacing = 363 * metres
    centres = np.stack(np.meshgrid(np.arange(grid), np.arange(grid)), -1).reshape(-1, 2) * spacing  # east and north in metres

    def degrees(east: float, north: float) -> tuple[float, float]:
        place = _EARTH.fwd(longitude, latitude, np.degrees(np.arctan2(east, north)), np.hypot(east, north))
        return place[1], place[0]

    tiles = ["satellite_{}_{}.png".format(*degrees(*centre)) for centre in centres]
    tile_folder, panorama_folder = (f"satellite/{city}", f"ground/{city}") if sibling else (f"{city}/satellite", f"{city}/panorama")
    for name, (east, north) in zip(tiles, centres, strict=True):
        _save(tile(colour, east / block, north / block, 5, tile_side), folder / tile_folder / name)
    rows = []
    for number in range(n_train + n_test):
        east, north = rng.uniform(0, (grid - 1) * spacing, 2)
        name = "{}-{:04d},{:.6f},{:.6f},.jpg".format(city, number, *degrees(east, north))
        _save(panorama(colour, east / block, north / block, 5, panorama_size), folder / panorama_folder / name)
        near = np.argsort(np.abs(centres - (east, north)).max(axis=1))[:4]
        near = near[np.argsort(np.hypot(*(centres[near] - (east, north)).T))]  # the positive is the nearest
        offsets = np.round((centres[near] - (east, north)) / metres)[:, ::-1]  # north, east
        fields = [f"{tiles[index]} {north_offset} {east_offset}" for index, (north_offset, east_offset) in zip(near, offsets, strict=True)]
        rows.append(" ".join([name, *fields]))
    lists = {"same_area_balanced_train": rows[:n_train], "same_area_balanced_test": rows[n_train:], "pano_label_balanced": rows}
    for splits, suffix in (("splits", ""), ("splits__corrected", "__corrected")):
        (folder / splits / city).mkdir(parents=True)
        (folder / splits / city / "satellite_list.txt").write_text("\n".join(tiles) + "\n")
        for name, lines in lists.items():
            (folder / splits / city / f"{name}{suffix}.txt").write_text("\n".join(lines) + "\n")
