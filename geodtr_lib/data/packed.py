"""A packed cache: every image of a data set decoded and resized once, as memory-mapped uint8 arrays.

Later epochs, runs and evaluations of the same images then read bytes instead of decoding files. The folder's name is a hash of what
the images are (files by name and size, tiles' and model's sizes, polar); it gets that name only when every image is in it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from geodtr_lib import paths
from geodtr_lib.data.base import Indices, PairDataset
from geodtr_lib.data.inputs import fit_aerial, fit_ground
from geodtr_lib.errors import DatasetError, RunError
from geodtr_lib.files import digest, file_digest, read_json, write_json
from geodtr_lib.lookup import is_file

Size = tuple[int, int]
_SCHEMA = 1
_BATCH = 64  # images decoded at a time


class PackedDataset(PairDataset):
    """A data set whose images lie in the cache, at the model's sizes (unrolled where the model takes unrolled tiles).

    Args:
        source: the data set that was packed; everything but the images comes from it.
        folder: of the arrays.
        polar: the aerial images were unrolled.
    """

    def __init__(self, source: PairDataset, folder: Path, polar: bool) -> None:
        self.source = source
        self.name, self.area, self.split = source.name, source.area, source.split
        self.positive, self.semi_positive = source.positive, source.semi_positive
        self.query_ids, self.reference_ids = source.query_ids, source.reference_ids
        self.query_location, self.reference_location = source.query_location, source.reference_location
        self.query_position, self.reference_position = source.query_position, source.reference_position
        self.offsets = getattr(source, "offsets", None)
        self.hash, self.aerial_is_polar = source.hash, polar
        self._ground, self._aerial = (_open(folder, view) for view in ("ground", "aerial"))

    def ground(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self._ground[np.asarray(indices)])

    def aerial(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self._aerial[np.asarray(indices)])


def pack(source: PairDataset, ground_size: Size, aerial_size: Size, polar: bool, progress: bool = True) -> PackedDataset:
    """Open the packed images of a data set; make them first where they are not there.

    The values are those that a training step would make of the files: panoramas resized, tiles resized or, with ``polar``, unrolled.

    Args:
        source: the data set.
        ground_size, aerial_size: (height, width) that the model takes, the former before cropping to a field of view.
        polar: the model takes unrolled tiles.
        progress: show a bar.

    Raises:
        DatasetError: an image that cannot be read, or a cache file that was cut short.
        RunError: the cache does not fit on the disk, or cannot be written.
    """
    key: dict[str, object] = {
        "schema": _SCHEMA,
        "data": source.hash,
        "ground_size": list(ground_size),
        "aerial_size": list(aerial_size),
        "polar": polar,
        "polar_files": source.aerial_is_polar,
    }
    if tile_size := getattr(source, "tile_size", 0):  # tiles of another size unroll to other pixels
        key["tile_size"] = tile_size
    folder = paths.cache_folder() / "packed" / f"{source.name}-{source.split}-{digest(key)}"
    if not is_file(folder / "manifest.json"):
        _build(source, folder, key, ground_size, aerial_size, polar, progress)
    return PackedDataset(source, folder, polar)


def packed_bytes(source: PairDataset, ground_size: Size, aerial_size: Size) -> int:
    """How many bytes the packed images take."""
    return 3 * (len(source) * ground_size[0] * ground_size[1] + source.n_references * aerial_size[0] * aerial_size[1])


def _build(source: PairDataset, folder: Path, key: dict[str, object], ground: Size, aerial: Size, polar: bool, progress: bool) -> None:
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        needed, free = packed_bytes(source, ground, aerial), shutil.disk_usage(folder.parent).free
        if needed > free:
            raise RunError(
                f"{folder.parent} has {free / 1e9:.1f} GB free, the packed images of {source!r} take {needed / 1e9:.1f} GB; "
                "free space, set GEODTR_CACHE to another folder, or leave packed=False"
            )
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        content = {}
        for view, size, n in (("ground", ground, len(source)), ("aerial", aerial, source.n_references)):
            path = temporary / f"{view}.npy"
            array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, 3, *size))
            _reserve(path)
            title = f"packing {view} {source.area} {source.split}"
            with tqdm(total=n, desc=title, unit=" images", disable=not progress, leave=True) as bar:
                for start in range(0, n, _BATCH):
                    rows = range(start, min(start + _BATCH, n))
                    images = (
                        fit_ground(source.ground(rows), size)
                        if view == "ground"
                        else fit_aerial(source.aerial(rows), size, polar, source.aerial_is_polar)
                    )
                    array[start : rows.stop] = images.numpy()
                    bar.update(len(rows))
            array.flush()
            content[view] = {"bytes": path.stat().st_size, "content": file_digest(path)}
        write_json(temporary / "manifest.json", {**key, "files": content})
        try:
            temporary.rename(folder)
            temporary = None
        except OSError:
            if not (folder / "manifest.json").is_file():  # else another process was faster, with the same content
                raise
    except OSError as error:
        raise RunError(
            f"cannot write packed images to {folder.parent}: {error.strerror or error}; free space or set GEODTR_CACHE to another folder"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _reserve(path: Path) -> None:
    """Claim a file's blocks now: a disk that fills up under mapped memory would kill the process instead of raising an error."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _open(folder: Path, view: str) -> np.ndarray:
    path = folder / f"{view}.npy"
    try:
        expected = read_json(folder / "manifest.json")["files"][view]["bytes"]
    except (KeyError, TypeError):
        raise DatasetError(f"cache file {folder / 'manifest.json'} is damaged; remove the folder {folder} and run again") from None
    found = path.stat().st_size if path.is_file() else 0
    if found != expected:
        raise DatasetError(f"cache file {path} is cut short ({found:,} of {expected:,} bytes); remove the folder {folder} and run again")
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
