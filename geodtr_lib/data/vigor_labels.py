"""VIGOR's label files and the geometry of their offsets (Zhu et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyproj import Geod

from geodtr_lib.data.folders import read_lines, safe_name
from geodtr_lib.errors import DatasetError

_FIELDS = 13
_TILES = slice(1, _FIELDS, 3)
_ELLIPSOID = Geod(ellps="WGS84")
_RELEASED_METRES_PER_PIXEL = 0.114


@dataclass(frozen=True)
class Labels:
    """One label file.

    Attributes:
        panoramas: N names.
        tiles: N x 4 indices into the list of tiles, positive first, then the semi-positives; -1 for a tile not in it.
        offsets: N x 4 x 2 pixels: how far each tile's centre lies north and east of the panorama.
        absent: one entry per row that names tiles not in the list: file, line and the first such tile.
    """

    panoramas: list[str]
    tiles: np.ndarray
    offsets: np.ndarray
    absent: list[str]


def read_tiles(path: str | Path) -> list[str]:
    """Names in a ``satellite_list.txt``, in order: the order fixes the indices of the references."""
    names = [safe_name(line.strip(), f"{path}, line {number}") for number, line in read_lines(path)]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{path} names {repeated} twice; fetch it again")
    return names


def read_labels(path: str | Path, tiles: Sequence[str]) -> Labels:
    """Read rows of 13 fields: panorama, then four times (tile, offset in latitude, offset in longitude).

    Args:
        path: e.g. ``same_area_balanced_train.txt``, or its ``__corrected`` version.
        tiles: the city's tiles.

    Raises:
        DatasetError: wrong number of fields, or an offset that is not a number; names the line.
    """
    lines = read_lines(path)
    where = [f"{path}, line {number}" for number, _ in lines]
    rows = [line.split() for _, line in lines]
    for row, place in zip(rows, where, strict=True):
        if len(row) != _FIELDS:
            raise DatasetError(f"{place}: {len(row)} fields, expected 13 (panorama, then 4 x tile and two offsets); fetch it again")
    index = {name: number for number, name in enumerate(tiles)}
    numbers = np.array([[index.get(name.removeprefix("./"), -1) for name in row[_TILES]] for row in rows])  # N x 4
    offsets = [row[column : column + 2] for row in rows for column in (2, 5, 8, 11)]
    faulty = np.flatnonzero((numbers < 0).any(axis=1)).tolist()
    absent = [f"{where[row]}: {rows[row][1 + 3 * int(np.argmin(numbers[row]))]}" for row in faulty]
    return Labels(
        panoramas=[safe_name(row[0], place) for row, place in zip(rows, where, strict=True)],
        tiles=numbers,
        offsets=_numbers(offsets, where, per_line=4).reshape(-1, 4, 2),
        absent=absent,
    )


def tile_locations(names: Sequence[str]) -> np.ndarray:
    """M x 2 latitude and longitude of tile centres, from ``satellite_<lat>_<lng>.png``."""
    return _degrees(names, [name.removesuffix(".png").split("_")[1:] for name in names], "satellite_<latitude>_<longitude>.png")


def panorama_locations(names: Sequence[str]) -> np.ndarray:
    """N x 2 latitude and longitude of panoramas, from ``<id>,<lat>,<lng>,.jpg``."""
    return _degrees(names, [name.split(",")[-3:-1] for name in names], "<id>,<latitude>,<longitude>,.jpg")


def _degrees(names: Sequence[str], fields: Sequence[Sequence[str]], form: str) -> np.ndarray:
    for name, values in zip(names, fields, strict=True):
        if len(values) != 2:
            raise DatasetError(f"{name} is not named {form}, so its place is unknown; rename or remove it")
    try:
        return np.array(fields, dtype=np.float64).reshape(-1, 2)
    except ValueError as error:
        raise DatasetError(f"a name is not of the form {form} ({error}); rename or remove it") from None


def _numbers(fields: Sequence[Sequence[str]], lines: Sequence[str], per_line: int) -> np.ndarray:
    try:
        return np.array(fields, dtype=np.float64)
    except ValueError:
        place = next(place for place, values in enumerate(fields) if not all(_is_number(value) for value in values))
        raise DatasetError(f"{lines[place // per_line]}: offsets {' '.join(fields[place])} are not numbers; fetch it again") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def metres_per_pixel(labels: str, latitude: np.ndarray) -> np.ndarray:
    """Size of a label pixel in metres, one per latitude (degrees).

    The released labels were made with 0.114 m everywhere. The corrected ones follow the imagery, Web Mercator at zoom 20: a pixel
    is 360 / (256 * 2^20) degrees of longitude, 0.1009 m in Seattle.
    """
    if labels == "released":
        return np.full(np.shape(latitude), _RELEASED_METRES_PER_PIXEL)
    angle = np.radians(latitude)
    parallel = _ELLIPSOID.a / np.sqrt(1 - _ELLIPSOID.es * np.sin(angle) ** 2) * np.cos(angle)  # radius of the circle of latitude
    return np.asarray(2 * np.pi * parallel / (256 * 2**20))


def location_from_offset(tile_location: np.ndarray, offset: np.ndarray, metres: np.ndarray) -> np.ndarray:
    """Where a panorama is: the tile's centre minus the offset.

    Args:
        tile_location: N x 2 latitude and longitude in degrees.
        offset: N x 2 pixels, as in :class:`Labels`.
        metres: N metres per pixel.

    Returns:
        N x 2 latitude and longitude in degrees.
    """
    north, east = -(offset * metres[:, None]).T
    latitude, longitude = tile_location.T
    longitude, latitude, _ = _ELLIPSOID.fwd(longitude, latitude, np.degrees(np.arctan2(east, north)), np.hypot(east, north))
    return np.column_stack([latitude, longitude])


def distance_metres(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """N distances on the ellipsoid between places, N x 2 latitude and longitude in degrees each."""
    return np.asarray(_ELLIPSOID.inv(first[:, 1], first[:, 0], second[:, 1], second[:, 0])[2])
