"""Images from files: decoded to RGB, resized, checked for wholeness, many at a time.

Threads are enough: Pillow decodes, resizes and compresses without holding Python's interpreter lock.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm.auto import tqdm

from geodtr_lib.errors import DatasetError

Size = tuple[int, int]
ReadImage = Callable[[str], Image.Image]
Item = TypeVar("Item")
Result = TypeVar("Result")

# What Pillow's decoders raise on bytes that are not the image they claim to be.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
# The last bytes of a whole file; JPEGs may carry padding after the end marker.
_ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}
_TAIL = 32


class UnreadableImage(DatasetError):
    """An image file that cannot be decoded. ``reason`` says why, without naming the file."""

    def __init__(self, path: str, error: Exception) -> None:
        self.reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        super().__init__(f"{path} cannot be decoded ({self.reason}); fetch it again, or remove it and set skip_missing=True")


def thread_count(workers: int) -> int:
    """``workers``, or one per core when it is 0."""
    return workers or os.cpu_count() or 1


def read_rgb(path: str) -> Image.Image:
    """Decode a file to 8-bit RGB, whatever it holds: palette, grey, 16-bit grey (its high byte), alpha (dropped), CMYK.

    Raises:
        DatasetError: missing.
        UnreadableImage: truncated, or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255 instead of scaling it
                return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist; fetch it again, or set skip_missing=True") from None
    except _DECODE_ERRORS as error:
        raise UnreadableImage(path, error) from None


def read_square(path: str) -> Image.Image:
    """Decode a tile for the polar transform, as :func:`read_rgb`.

    Raises:
        DatasetError: it is not square: its middle is not where the camera stands, or its sides have two scales.
    """
    image = read_rgb(path)
    if image.width != image.height:
        found = f"{path} is {image.width} x {image.height}"
        raise DatasetError(f"{found}, the polar transform needs a square; fetch it again, or set polar=False")
    return image


def image_size(path: str) -> Size:
    """(height, width) from a file's header, or (0, 0) when it is not an image."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except _DECODE_ERRORS:
        return 0, 0


def resize(image: Image.Image, size: Size) -> Image.Image:
    """Bilinear with antialiasing to (height, width), aspect not preserved: torchvision's ``Resize`` on a PIL image."""
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def area_resize(image: Image.Image, size: Size) -> Image.Image:
    """Shrink to (height, width) by exact area averages, rounded to nearest: OpenCV's ``INTER_AREA``.

    Pillow's BOX filter is no substitute: it takes or leaves whole source pixels, where INTER_AREA weighs the fraction
    covered. Exact halves may round the other way (one value in 100,000 of a CVACT panorama, by one). When either side grows,
    INTER_AREA stops being an average, and this is :func:`resize`.
    """
    height, width = size
    if height > image.height or width > image.width:
        return resize(image, size)
    pixels = _area_means(np.asarray(image), height)  # h x W x 3
    pixels = _area_means(pixels.transpose(1, 0, 2), width).transpose(1, 0, 2)  # h x w x 3
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _area_means(values: np.ndarray, parts: int) -> np.ndarray:
    """Means of ``parts`` equal, fractional stretches of the first axis: N x ... -> parts x ..., float32."""
    rows = len(values)
    edges = np.arange(parts + 1) * (rows / parts)
    first = edges.astype(int)[:-1]  # the row that each stretch begins in
    fraction = (edges[:-1] - first).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    before = fraction * values[first]  # what of that row belongs to the stretch before
    total = np.add.reduceat(values, first, axis=0, dtype=np.float32) - before
    total[:-1] += before[1:]
    return np.asarray(total * np.float32(parts / rows))


def read_batch(paths: Sequence[str], size: Size | None, read: ReadImage = read_rgb, workers: int = 0) -> Tensor:
    """Read images in parallel, each file once even where it is named twice.

    Args:
        paths: B file names.
        size: (height, width), or None to keep the files' own size, which then must be one.

    Returns:
        uint8, B x 3 x H x W.

    Raises:
        DatasetError: a file is missing or unreadable, or sizes differ with ``size=None``; names the file.
    """
    distinct = {path: index for index, path in enumerate(dict.fromkeys(paths))}
    if not distinct:
        return torch.zeros(0, 3, *(size or (0, 0)), dtype=torch.uint8)

    def load(path: str) -> np.ndarray:
        image = read(path)
        return np.asarray(image if size is None else resize(image, size))  # H x W x 3

    arrays = for_each(load, list(distinct), workers)
    for path, array in zip(distinct, arrays, strict=True):
        if array.shape != arrays[0].shape:
            expected = "{1} x {0}".format(*arrays[0].shape)
            found = "{1} x {0}".format(*array.shape)
            raise DatasetError(f"{path} is {found} pixels, others are {expected}; set tile_size to bring all to one size")
    batch = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()  # B' x H x W x 3 -> B' x 3 x H x W
    return batch if len(distinct) == len(paths) else batch[torch.tensor([distinct[path] for path in paths])]


def for_each(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0, progress: bool = False, label: str = ""
) -> list[Result]:
    """``[function(item) for item in items]`` on a thread pool, with a progress bar. The first exception ends it."""
    results: list[Result] = []
    with tqdm(total=len(items), desc=label, disable=not progress, leave=True) as bar:
        for done in _in_order(function, items, workers):
            results += done
            bar.update(len(done))
    return results


def _in_order(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[list[Result]]:
    """Results in stretches: many short tasks would spend their time in the pool's bookkeeping."""
    threads = min(thread_count(workers), len(items))
    length = max(1, min(64, len(items) // (8 * max(threads, 1))))
    stretches = [items[start : start + length] for start in range(0, len(items), length)]

    def work(stretch: Sequence[Item]) -> list[Result]:
        return [function(item) for item in stretch]

    if threads <= 1:
        yield from map(work, stretches)
        return
    # A pool per call costs a millisecond, and leaves nothing behind that a fork or a pickle could trip over.
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(work, stretches)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class FileCheck:
    """One file: its ``size`` in bytes (-1 when it cannot be read), and ``fault``, empty when it looks whole."""

    size: int
    fault: str = ""


def check_whole(path: str) -> FileCheck:
    """Is this a whole JPEG or PNG? Looks at the first and last bytes only and decodes just the suspects.

    Finds files cut short by a broken download or a full disk without decoding the whole data set; damage in the middle
    of a file shows when it is decoded.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(2)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL))
            tail = stream.read()
    except OSError as error:
        return FileCheck(-1, error.strerror or str(error))
    if not size:
        return FileCheck(0, "empty file")
    if head in _ENDINGS and _ENDINGS[head] in tail:
        return FileCheck(size)
    return FileCheck(size, decode_fault(path))


def decode_fault(path: str) -> str:
    """Why a file cannot be decoded, or an empty string."""
    try:
        read_rgb(path)
    except UnreadableImage as error:
        return error.reason
    return ""
