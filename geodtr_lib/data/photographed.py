"""Real places in a folder: an orthophoto and a street photo of each, with position and compass angle in one table.

This is the layout of small cross-view samples such as CVH3D's: ``samples.csv`` with the columns ``Grd_ID``, ``Compass_angle``
(degrees clockwise from north), ``Latitude`` and ``Longitude``, and for each row ``<Grd_ID>_ground.jpg`` and ``<Grd_ID>_sat.jpg`` (north up,
the camera at its centre).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.data.images import Size, resize
from geodtr_lib.data.photos import photo_canvas, read_photo
from geodtr_lib.data.render import VERTICAL_FOV
from geodtr_lib.data.site_views import TILE_METRES
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.files import digest, file_digest
from geodtr_lib.lookup import expanded

TABLE = "samples.csv"
COLUMNS = ("Grd_ID", "Compass_angle", "Latitude", "Longitude")
_LIMITS = {"Compass_angle": np.inf, "Latitude": 90.0, "Longitude": 180.0}  # degrees, of the absolute value


def open_photographed(
    folder: str | Path,
    ground_size: Size,
    tile_size: int,
    *,
    fov: float = 90.0,
    metres_per_pixel: float = 0.5,
    tile_metres: float = TILE_METRES,
    normalisation: str = "imagenet",
    vertical: float = VERTICAL_FOV,
) -> ArrayDataset:
    """Open a folder of photographed places.

    Args:
        folder: holds the table and the photos; they are read, never copied.
        ground_size: (H, W) of the canvas that each street photo is placed on, see :func:`geodtr_lib.data.photos.photo_canvas`.
        tile_size: side of the tiles in pixels; 0 = as they are cut.
        fov: field of view of the street photos in degrees from left to right, which the table does not tell.
        metres_per_pixel: of the orthophotos as they lie in the folder.
        tile_metres: side on the ground of what is cut from the middle of each orthophoto: what the model's training tiles show.
        normalisation: of the model, for the colour of what a photo did not see.
        vertical: degrees from the canvas's top to its bottom row, see :func:`geodtr_lib.data.photos.vertical_fov`.

    Raises:
        DatasetError: no table, one without rows or with a value that is no number, a column or file that is missing, or an orthophoto that
            is too small.
        ConfigError: a field of view that a photo cannot have, or a scale that is not positive.
    """
    for option, value in (("metres_per_pixel", metres_per_pixel), ("tile_metres", tile_metres)):
        if not 0 < value < np.inf:
            raise ConfigError(f"{option}: {value:g} is not possible; give metres, more than 0")
    folder = expanded(folder)
    table = read_samples(folder)
    ground, aerial, shrunk = [], [], False
    for name, angle in zip(table["Grd_ID"], table["Compass_angle"].tolist(), strict=True):
        photo = read_photo(folder / f"{name}_ground.jpg")
        ground.append(photo_canvas(photo, ground_size, fov, angle, normalisation, vertical).numpy())
        tile = read_photo(folder / f"{name}_sat.jpg")
        # A large one is decoded smaller: its pixels are then larger on the ground.
        scale = metres_per_pixel * tile.info["longer_side"] / max(tile.size)
        shrunk |= scale != metres_per_pixel
        side, native = (max(1, round(tile_metres / metres)) for metres in (scale, metres_per_pixel))
        if min(tile.size) < side:
            seen = min(tile.size) * scale
            raise DatasetError(f"{folder / f'{name}_sat.jpg'} shows {seen:g} m; a tile needs {tile_metres:g} m")
        left, top = (tile.width - side) // 2, (tile.height - side) // 2
        cut = resize(tile.crop((left, top, left + side, top + side)), (tile_size or native, tile_size or native))
        aerial.append(np.asarray(cut).transpose(2, 0, 1))  # S x S x 3 -> 3 x S x S
    options = [list(ground_size), tile_size, fov, metres_per_pixel, tile_metres, normalisation, vertical, *["shrunk"] * shrunk]
    files = [file_digest(path) for path in sorted(folder.glob("*.jpg"))]
    dataset = ArrayDataset(
        "photographed", folder.name, "test", np.stack(aerial), np.stack(ground), digest([files, options]),
        location=table[["Latitude", "Longitude"]].to_numpy(),
    )  # fmt: skip
    dataset.query_ids = dataset.reference_ids = list(table["Grd_ID"])
    return dataset


def read_samples(folder: str | Path) -> pd.DataFrame:
    """The table of a folder of photographed places: ``COLUMNS``, a row for each place, numbers in degrees.

    Raises:
        DatasetError: no table, one without rows or with a value that is no number, or a column that is missing.
    """
    folder = expanded(folder)
    try:
        table = pd.read_csv(folder / TABLE, dtype={"Grd_ID": str})
    except FileNotFoundError:
        raise DatasetError(f"{folder / TABLE} does not exist; give the folder that holds it and the photos") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{folder / TABLE} is not readable as a table ({error})") from None
    if missing := [name for name in COLUMNS if name not in table]:
        raise DatasetError(f"{folder / TABLE} has no column {missing[0]!r}; needed: {', '.join(COLUMNS)}")
    if unsafe := [name for name in table["Grd_ID"] if Path(str(name)).name != str(name)]:
        raise DatasetError(f"{folder / TABLE}: {unsafe[0]!r} is no name of a photo in the folder")
    if not len(table):
        raise DatasetError(f"{folder / TABLE} has no rows; give one for each place: {', '.join(COLUMNS)}")
    return table.assign(**{column: _degrees(folder / TABLE, table, column) for column in _LIMITS})


def _degrees(path: Path, table: pd.DataFrame, column: str) -> np.ndarray:
    """A column's N numbers.

    Raises:
        DatasetError: one is none, or out of bounds; names the row, from 1.
    """
    values: np.ndarray = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    good = np.isfinite(values) & (np.abs(values) <= _LIMITS[column])
    if not good.all():
        row = int(np.argmin(good))
        shown = table[column].iloc[row]
        allowed = "degrees" if np.isinf(_LIMITS[column]) else f"degrees from -{_LIMITS[column]:g} to {_LIMITS[column]:g}"
        raise DatasetError(f"{path}, row {row + 1} ({table['Grd_ID'].iloc[row]}): {column} {str(shown)!r} is not possible; give {allowed}")
    return values
