"""Writes the offline images of the release: polar maps of CVUSA and CVACT, processed panoramas of CVACT.

``python -m geodtr_lib.data.prepare cvusa ROOT`` or ``cvact ROOT``. It may be stopped and started again: whole files are kept, unless
they have another size than the one asked for.
Nothing needs this; the data sets compute the same pixels on the fly. It saves the decoding of the big originals.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from geodtr_lib.data import cvact, cvusa
from geodtr_lib.data.cvact import PANORAMA, PROCESSED, SMALL, TEST, find_cvact, read_raw_panorama
from geodtr_lib.data.cvusa import SPLIT_FILES, find_cvusa, polar_map_name, read_split
from geodtr_lib.data.folders import Tree
from geodtr_lib.data.images import Size, check_whole, for_each, image_size, read_rgb
from geodtr_lib.data.screening import first_of
from geodtr_lib.errors import ConfigError, DatasetError, GeoDTRError
from geodtr_lib.files import whole_file
from geodtr_lib.geometry import polar_transform

POLAR_MAP = (122, 671)  # height and width, as released
MakeImage = Callable[[str], Image.Image]


@dataclass(frozen=True)
class Prepared:
    """How many images were ``written`` now, and how many were ``kept`` from before."""

    written: int
    kept: int


def polar_map(path: str, size: Size = POLAR_MAP) -> Image.Image:
    """The polar transform of a tile, truncated to 8 bits as released (method of SAFA, Shi et al., NeurIPS 2019)."""
    tile = torch.from_numpy(np.array(read_rgb(path))).permute(2, 0, 1)[None]  # S x S x 3 -> 1 x 3 x S x S
    if tile.shape[2] != tile.shape[3]:
        raise DatasetError(f"{path} is {tile.shape[3]} x {tile.shape[2]}, the polar transform needs a square; fetch it again")
    polar = polar_transform(tile, size)  # 1 x 3 x H x W
    return Image.fromarray(polar[0].permute(1, 2, 0).to(torch.uint8).numpy())


def prepare_cvusa(root: str | Path | None, *, size: Size = POLAR_MAP, workers: int = 0, progress: bool = True) -> Prepared:
    """Write ``polarmap/19/<id>.png`` for every tile of both splits.

    Args:
        root: the ``dataset`` folder or a parent of it.
        size: (height, width) of the maps.
        workers: threads; 0 = one per core.
        progress: show a bar.

    Raises:
        ConfigError: an impossible size.
        DatasetError: no data set there, or tiles that cannot be read (after all others are done).
        RunError: the files cannot be written.
    """
    _require_size(size)
    tree = Tree(find_cvusa(root), cvusa.LAYOUT)
    tiles = dict.fromkeys(name for split in SPLIT_FILES for name in read_split(Path(tree.root), split).aerial)
    jobs = [(name, polar_map_name(name)) for name in tiles]
    return _write_all(tree, jobs, partial(polar_map, size=size), size, workers, progress, "cvusa polar maps")


def prepare_cvact(
    root: str | Path | None, *, mat: str | Path = "", size: Size = POLAR_MAP, workers: int = 0, progress: bool = True
) -> Prepared:
    """Write polar maps and processed panoramas for all images of ``ANU_data_small`` and ``ANU_data_test``; see :func:`prepare_cvusa`.

    ``mat`` is the path of ``ACT_data.mat`` where it does not lie at or below ``root``.
    """
    _require_size(size)
    tree = Tree(find_cvact(root, mat)[0], cvact.LAYOUT)
    written = kept = 0
    for folder in (SMALL, TEST):
        kinds: list[tuple[str, str, MakeImage, Size]] = [
            ("satview_polish", "polarmap", partial(polar_map, size=size), size),
            ("streetview", PROCESSED, read_raw_panorama, PANORAMA),
        ]
        for source, target, make, of_size in kinds:
            names = sorted(name for name in tree.names(f"{folder}/{source}") if name.endswith(".jpg"))
            jobs = [(f"{folder}/{source}/{name}", f"{folder}/{target}/{Path(name).stem}.png") for name in names]
            done = _write_all(tree, jobs, make, of_size, workers, progress, f"{folder} {target}")
            written, kept = written + done.written, kept + done.kept
    return Prepared(written, kept)


def _require_size(size: Size) -> None:
    if min(size) < 1:
        raise ConfigError(f"size: {size[0]} x {size[1]} is not possible; give a height and a width of at least 1 pixel")


def _write_all(
    tree: Tree, jobs: Sequence[tuple[str, str]], make: MakeImage, size: Size, workers: int, progress: bool, label: str
) -> Prepared:
    def write(job: tuple[str, str]) -> str | DatasetError:
        source, target = job
        if tree.holds(target) and image_size(tree.path(target)) == size and not check_whole(tree.path(target)).fault:
            return "kept"
        if not tree.holds(source):
            return DatasetError(f"{tree.path(source)} does not exist")
        try:
            image = make(tree.path(source))
        except DatasetError as error:
            return error
        with whole_file(tree.path(target)) as temporary:
            image.save(temporary, format="PNG")
        return "written"

    for folder in {os.path.dirname(name) for job in jobs for name in job}:
        tree.names(folder)  # listed once here, not by every thread
    results = for_each(write, jobs, workers, progress, label)
    errors = [str(value) for value in results if isinstance(value, DatasetError)]
    if errors:
        raise DatasetError(f"{label}: {len(errors):,} of {len(jobs):,} images cannot be made, the others are: {first_of(errors)}")
    return Prepared(results.count("written"), results.count("kept"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m geodtr_lib.data.prepare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=("cvusa", "cvact"), help="data set")
    parser.add_argument("root", help="its folder, in the owners' layout")
    parser.add_argument("--size", type=int, nargs=2, default=POLAR_MAP, metavar=("H", "W"), help="size of polar maps (default: 122 671)")
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one per core)")
    parser.add_argument("--mat", default="", help="cvact: path of ACT_data.mat (default: searched for at and below ROOT)")
    options = parser.parse_args(arguments)
    prepare = prepare_cvusa if options.name == "cvusa" else partial(prepare_cvact, mat=options.mat)
    try:
        done = prepare(options.root, size=tuple(options.size), workers=options.workers)
    except GeoDTRError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{options.name}: {done.written:,} images written, {done.kept:,} were there already\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
