"""CVACT in its owners' layout (Liu and Li, CVPR 2019).

``` text
ACT_data.mat      panoIds, utm (N x 2 metres), trainSet.trainInd, valSet.valInd, valSetAll.valInd (indices from 1); anywhere below the root,
                  or where ``mat`` says
ANU_data_small/streetview/<id>_grdView.jpg              832 x 1664 panorama, north in the centre column
ANU_data_small/satview_polish/<id>_satView_polish.jpg   1200 x 1200 aerial, north up
ANU_data_small/streetview_processed/<id>_grdView.png    optional, made by geodtr_lib.data.prepare: middle half, 122 x 671
ANU_data_small/polarmap/<id>_satView_polish.png         optional, made by geodtr_lib.data.prepare
ANU_data_test/...                                       the same folders
```

Training images are in ``ANU_data_small`` and test images in ``ANU_data_test``. Published code reads the 8,884 validation
images from either; each is taken from the first of the two that holds it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from geodtr_lib.data.act_mat import ActData, read_act_data
from geodtr_lib.data.folders import Tree, safe_name
from geodtr_lib.data.images import Size, area_resize, image_size, read_rgb
from geodtr_lib.data.pairs import ImageFileDataset, PairTable, choose_polar_maps
from geodtr_lib.data.screening import screen
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.lookup import expanded, is_file, is_folder

AREAS = ("cvact", "cvact_test")
MAT = "ACT_data.mat"
SMALL, TEST = "ANU_data_small", "ANU_data_test"
PROCESSED = "streetview_processed"
IMAGE_FOLDERS = ("streetview", "satview_polish", PROCESSED, "polarmap")
LAYOUT = (SMALL, TEST, *(f"{folder}/{kind}" for folder in (SMALL, TEST) for kind in IMAGE_FOLDERS))
PANORAMA = (122, 671)  # height and width of processed panoramas, as released
# (area, split) -> the index list in ACT_data.mat, and the image folders in order of preference.
SUBSETS = {
    ("cvact", "train"): ("trainSet", (SMALL,)),
    ("cvact", "test"): ("valSet", (SMALL, TEST)),
    ("cvact_test", "test"): ("valSetAll", (TEST,)),
}


def find_cvact(root: str | Path | None, mat_path: str | Path = "") -> tuple[Path, Path]:
    """The folder that holds ``ANU_data_small`` or ``ANU_data_test``, and the path of ``ACT_data.mat``.

    Args:
        root: the images lie at or below it.
        mat_path: the file, or the folder that holds it; empty = it lies at or below ``root``, too.

    Raises:
        DatasetError: either is not found.
    """
    top = expanded(root) if root else None
    if top is None or not is_folder(top):
        wanted = f"the folder that holds {MAT}, {SMALL} and {TEST}"
        raise DatasetError(f"cvact needs data_root, {wanted}; {str(root or '')!r} is not a folder")
    top = top if top.name not in (SMALL, TEST) else top.parent
    mat: Path | None = None
    images: Path | None = None
    if mat_path:
        mat = expanded(mat_path)
        mat = mat / MAT if is_folder(mat) else mat
        if not is_file(mat):
            raise DatasetError(f"mat: {mat} does not exist; give the path of CVACT's {MAT}")
    queue = [top]
    for folder in queue:  # breadth first: what is near is found before other data sets below the same root are searched
        if mat is None and is_file(folder / MAT):
            mat = folder / MAT
        if images is None and (is_folder(folder / SMALL) or is_folder(folder / TEST)):
            images = folder
        if mat and images:
            break
        with suppress(OSError), os.scandir(folder) as entries:
            # Links are not followed, since they may lead anywhere, but for the two whose names are known.
            below = [entry for entry in entries if entry.is_dir(follow_symlinks=entry.name in (SMALL, TEST))]
            below = [entry for entry in below if entry.name not in IMAGE_FOLDERS]
            queue += [Path(entry.path) for entry in sorted(below, key=lambda entry: entry.name)]
    if mat is None:
        raise DatasetError(f"cvact: no {MAT} at or below {top}; it comes with the data set: put it there, or pass its path as option mat")
    if images is None:
        raise DatasetError(f"cvact: neither {SMALL} nor {TEST} at or below {top}; give the folder that holds them as data_root")
    return images, mat


def read_raw_panorama(path: str) -> Image.Image:
    """A panorama as the release prepares it: the middle half of the rows (208 to 624 of 832), area-averaged to 122 x 671."""
    image = read_rgb(path)
    return area_resize(image.crop((0, image.height // 4, image.width, image.height // 4 * 3)), PANORAMA)


def read_panorama(path: str) -> Image.Image:
    """A processed panorama as it is, or an owners' one processed on the fly. Both give the same pixels."""
    return read_rgb(path) if os.path.basename(os.path.dirname(path)) == PROCESSED else read_raw_panorama(path)


def pair_table(tree: Tree, data: ActData, area: str, split: str) -> tuple[PairTable, list[str]]:
    """File names of one subset, and the names its polar maps would have.

    Images that exist nowhere keep the name they should have, so that the check of files can report them.

    Raises:
        ConfigError: unknown area or split.
    """
    if (area, split) not in SUBSETS:
        allowed = ", ".join(f"{known} {part}" for known, part in SUBSETS)
        raise ConfigError(f"area and split: {area!r} {split!r} is not known; allowed for cvact: {allowed}")
    subset, folders = SUBSETS[area, split]
    rows = data.indices[subset]
    ids = [safe_name(data.pano_ids[row], f"{data.path}, panoIds {row + 1}") for row in rows]
    processed = _usable_processed_folders(tree, folders)
    ground, aerial, maps = [], [], []
    for name in ids:
        candidates = [file for folder in folders for file in ground_names(folder, name, folder in processed)]
        ground.append(tree.first(candidates) or f"{folders[0]}/streetview/{name}_grdView.jpg")
        tiles = [f"{folder}/satview_polish/{name}_satView_polish.jpg" for folder in folders]
        polar = [f"{folder}/polarmap/{name}_satView_polish.png" for folder in folders]
        aerial.append(tree.first(tiles) or tiles[0])
        maps.append(tree.first(polar) or polar[0])
    position = data.utm[rows]
    table = PairTable(
        ground=ground,
        aerial=aerial,
        positive=np.arange(len(ids)),
        query_ids=ids,
        reference_ids=ids,
        query={"position": position},
        reference={"position": position},
    )
    return table, maps


def ground_names(folder: str, name: str, processed: bool) -> list[str]:
    """Where a panorama may be, processed first."""
    return [f"{folder}/{PROCESSED}/{name}_grdView.png"] * processed + [f"{folder}/streetview/{name}_grdView.jpg"]


def _usable_processed_folders(tree: Tree, folders: tuple[str, ...]) -> list[str]:
    """Folders whose processed panoramas have our size; those of another size were made for another method."""
    found = {folder: tree.names(f"{folder}/{PROCESSED}") for folder in folders}
    # The first that is a panorama's: other programs leave files of their own, such as .DS_Store.
    names = {folder: min((name for name in found[folder] if name.endswith("_grdView.png")), default=None) for folder in folders}
    return [folder for folder, name in names.items() if name and image_size(tree.path(f"{folder}/{PROCESSED}/{name}")) == PANORAMA]


def open_cvact(
    root: str | Path | None,
    area: str | None = None,
    split: str = "train",
    *,
    ground_size: Size = PANORAMA,
    aerial_size: Size | None = None,
    tile_size: int = 0,
    polar: bool = True,
    polar_maps: str = "auto",
    mat: str | Path = "",
    skip_missing: bool = False,
    workers: int = 0,
) -> ImageFileDataset:
    """Open CVACT.

    Args:
        root: a folder at or above the image folders.
        area: ``cvact`` (train, and test = the 8,884 validation pairs) or ``cvact_test`` (test = the 92,802 pairs).
        split: ``train`` or ``test``.
        ground_size: (height, width) of panoramas. They are processed to 122 x 671 first, whether offline or on the fly.
        aerial_size: (height, width) of aerial images; None = ``ground_size`` with ``polar``, else 256 x 256.
        tile_size: side of square tiles to be unrolled by the training step; 0 = the owners' 1200.
        polar: polar maps, or tiles meant for the polar transform, instead of tiles at ``aerial_size``.
        polar_maps: ``auto``, ``offline`` or ``computed``; see :func:`geodtr_lib.data.pairs.choose_polar_maps`.
        mat: path of ``ACT_data.mat``; empty = it is searched for at and below ``root``.
        skip_missing: leave out pairs with missing or unreadable images, with a warning, instead of refusing.
        workers: threads; 0 = one per core.

    The UTM positions are ``query_position`` and ``reference_position`` (metres), for matching within 5 m.

    Raises:
        ConfigError: unknown area, split or ``polar_maps``.
        DatasetError: missing or faulty data.
    """
    area = area or AREAS[0]
    images, act_data = find_cvact(root, mat)
    tree = Tree(images, LAYOUT)
    table, maps = pair_table(tree, read_act_data(act_data), area, split)
    aerial_size = aerial_size or (ground_size if polar else (256, 256))
    if offline := polar and choose_polar_maps(tree, table.aerial, maps, aerial_size, polar_maps):
        table = replace(table, aerial=maps)
    table, skipped = screen(table, tree, f"{area} {split}", one_to_one=True, skip_missing=skip_missing, workers=workers)
    return ImageFileDataset(
        table, tree, name="cvact", area=area, split=split, ground_size=ground_size, aerial_size=aerial_size, tile_size=tile_size,
        polar=polar, aerial_is_polar=offline, workers=workers, read_ground=read_panorama, skipped=skipped,
    )  # fmt: skip
