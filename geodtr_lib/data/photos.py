"""Photographs of one's own as queries: read within bounds whatever they hold, and placed where they look on a panorama's canvas.

A canvas has the panorama's conventions: north in the middle column, azimuth to the right, the horizon in the middle row, and
:func:`vertical_fov` degrees from its top to its bottom row. What the camera did not see is the mean colour, which is 0 after normalisation.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError
from torch import Tensor

from geodtr_lib.data.images import Size
from geodtr_lib.data.inputs import NORMALISATIONS
from geodtr_lib.data.render import VERTICAL_FOV
from geodtr_lib.errors import ConfigError, DatasetError, first_line

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")  # none of them runs a program to be decoded, as EPS would
KEPT_WIDTH = 4096  # pixels that are kept of a photo's longer side; a canvas is far smaller
WIDEST = 150.0  # degrees; a flat picture of a wider view is stretched beyond use at its edges
_SUPERSAMPLING = 4
_VERTICAL_FOVS = {"cvact": 90.0, "vigor": 180.0}  # the middle half of a sphere, and a whole one


def vertical_fov(dataset: str) -> float:
    """Degrees from the top to the bottom row of a data set's panoramas; those of CVUSA and of the rendered ones by default."""
    return _VERTICAL_FOVS.get(dataset, VERTICAL_FOV)


def read_photo(source: str | Path | bytes, name: str = "") -> Image.Image:
    """Decode a photograph to 8-bit RGB, upright, its longer side at most ``KEPT_WIDTH`` pixels.

    A JPEG is decoded at a half to an eighth of its size where that is enough, so that a panorama of hundreds of megabytes needs no more
    memory than a small one. Grey, palette, 16-bit (its high byte), alpha (dropped) and CMYK become RGB; EXIF's orientation is applied.
    ``info["longer_side"]`` of the result are the pixels that the file has, which tell the scale of what is decoded smaller.

    Args:
        source: a file (``~`` is the home folder), or its content.
        name: what errors call it; by default the file's name.

    Raises:
        DatasetError: missing, not to be read, damaged, of an unknown format, or too large to be decoded whole; one line with what to do.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "the photo")
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else open(Path(source).expanduser(), "rb")  # noqa: SIM115
        with opened as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image, longer_side = _opened(stream, name)
            image.load()
            upright = _upright_rgb(image, name)
            upright.info["longer_side"] = longer_side
            return upright
    except FileNotFoundError:
        raise DatasetError(f"{name} does not exist; give the path of a photo") from None
    except IsADirectoryError:
        raise DatasetError(f"{name} is a folder; give the path of a photo in it") from None
    except PermissionError:
        raise DatasetError(f"{name} cannot be read: permission denied; change its permissions, or copy it to a folder of yours") from None
    except UnidentifiedImageError:
        raise DatasetError(f"{name} is no image that can be read; allowed: {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError):
        raise DatasetError(f"{name} is too large to be decoded whole; scale it down, or save it as a baseline JPEG") from None
    except DatasetError:
        raise
    except Exception as error:  # on damaged bytes Pillow's decoders raise whatever they stumble over
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DatasetError(f"{name} cannot be decoded ({reason}); it is cut short or damaged, copy it again") from None


def _opened(stream: BinaryIO, name: str) -> tuple[Image.Image, int]:
    """The image with its header read, and the pixels of its longer side in the file.

    A JPEG passes by Pillow's limit of pixels, which does not know that it is decoded smaller.
    """
    start = stream.read(3)
    stream.seek(0)
    if start != b"\xff\xd8\xff":
        whole = Image.open(stream, formats=FORMATS)
        return whole, max(whole.size)
    image = JpegImagePlugin.JpegImageFile(stream)
    longer_side = max(image.size)
    if not (image.info.get("progressive") or image.info.get("progression")):  # which libjpeg would hold whole, however small the result
        image.draft(None, (KEPT_WIDTH, max(1, KEPT_WIDTH * image.height // image.width)))
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(name)
    return image, longer_side


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise DatasetError(f"{name} holds floating-point pixels of unknown range; save it with 8 bits per colour")
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255 instead of scaling it
        exif = image.getexif()
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        image.getexif().update(exif)
    upright = ImageOps.exif_transpose(image)
    upright = (upright or image).convert("RGB")
    upright.thumbnail((KEPT_WIDTH, KEPT_WIDTH), Image.Resampling.BILINEAR)
    return upright


def mean_colour(normalisation: str = "imagenet") -> np.ndarray:
    """The colour (3, uint8) that a normalisation takes to 0, as nearly as 8 bits allow.

    Raises:
        ConfigError: an unknown normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ConfigError(f"normalisation: {normalisation!r} is not known; allowed: {', '.join(NORMALISATIONS)}")
    return np.round(255 * np.array(NORMALISATIONS[normalisation][0])).astype(np.uint8)


def panorama_canvas(
    image: Image.Image, size: Size, heading: float = 0.0, normalisation: str = "imagenet", name: str = "the photo",
    vertical: float = VERTICAL_FOV,
) -> Tensor:  # fmt: skip
    """An equirectangular panorama of the whole horizon on a canvas.

    Its height tells how much it sees: pixels are as wide as they are high in degrees, and the horizon is in the middle. A full sphere
    (2 : 1) is cut to the canvas's span; a narrower band leaves rows above and below unseen.

    Args:
        image: RGB.
        size: (H, W).
        heading: azimuth in degrees that its middle column looks to.
        normalisation: of the model, for the colour of what is unseen.
        name: what errors call it.
        vertical: degrees from the canvas's top to its bottom row, see :func:`vertical_fov`.

    Returns:
        uint8, 3 x H x W.

    Raises:
        DatasetError: a picture that is not at least about twice as wide as high: it is no whole horizon.
    """
    if image.width < 1.9 * image.height:
        raise DatasetError(
            f"{name} has {image.width} x {image.height} pixels; a panorama of the whole horizon is at least twice as wide as high: "
            "give its field of view to use it as a photo"
        )
    height, width = size
    seen = 360 * image.height / image.width  # degrees from its top to its bottom row
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = mean_colour(normalisation)
    part = min(1.0, vertical / seen)  # of its height
    rows = max(1, round(height * min(1.0, seen / vertical)))
    box = (0, image.height * (1 - part) / 2, image.width, image.height * (1 + part) / 2)
    top = (height - rows) // 2
    canvas[top : top + rows] = np.asarray(image.resize((width, rows), Image.Resampling.BILINEAR, box=box))
    return _as_tensor(np.roll(canvas, round(heading / 360 * width), axis=1))


def photo_canvas(
    image: Image.Image, size: Size, fov: float, heading: float = 0.0, normalisation: str = "imagenet", vertical: float = VERTICAL_FOV
) -> Tensor:
    """An ordinary (flat, level) photo where it looks on a canvas; the horizon runs through its middle.

    Args:
        image: RGB.
        size: (H, W).
        fov: degrees from its left to its right edge, up to ``WIDEST``.
        heading: azimuth in degrees that its middle looks to.
        normalisation: of the model, for the colour of what is unseen.
        vertical: degrees from the canvas's top to its bottom row, see :func:`vertical_fov`.

    Returns:
        uint8, 3 x H x W.

    Raises:
        ConfigError: a field of view that a flat photo cannot have.
    """
    if not 1 <= fov <= WIDEST:
        raise ConfigError(f"field of view {fov:g} is not possible for a photo; allowed: 1 to {WIDEST:g} degrees, or a whole panorama")
    fine = [_SUPERSAMPLING * side for side in size]
    height, width = fine
    # Shrunk by area first, so that the nearest pixel of it is an average of what falls on a pixel of the fine canvas.
    across = max(1, min(image.width, round(2 * np.tan(np.deg2rad(fov) / 2) * width / (2 * np.pi))))
    small = np.asarray(image.resize((across, max(1, round(across * image.height / image.width))), Image.Resampling.BILINEAR))
    focal = small.shape[1] / 2 / np.tan(np.deg2rad(fov) / 2)  # pixels
    azimuth = np.deg2rad(((np.arange(width) + 0.5) / width - 0.5) * 360 - heading)  # of the columns, from where the photo looks
    elevation = np.deg2rad((0.5 - (np.arange(height) + 0.5) / height) * vertical)
    ahead = np.cos(azimuth)  # 1 x W when broadcast
    safe = np.where(ahead > 0.05, ahead, 1.0)
    x = np.broadcast_to(small.shape[1] / 2 + focal * np.sin(azimuth) / safe, fine)  # H x W
    y = small.shape[0] / 2 - focal * np.tan(elevation)[:, None] / safe
    seen = (ahead > 0.05) & (x >= 0) & (x < small.shape[1]) & (y >= 0) & (y < small.shape[0])
    column, row = (np.clip(value, 0, limit - 1).astype(np.int64) for value, limit in ((x, small.shape[1]), (y, small.shape[0])))
    colour = small[row, column] * seen[..., None].astype(np.float64)  # H x W x 3
    blocks = (size[0], _SUPERSAMPLING, size[1], _SUPERSAMPLING)
    share = seen.reshape(blocks).mean((1, 3))
    mean = colour.reshape(*blocks, 3).mean((1, 3)) / np.maximum(share, 1e-9)[..., None]
    return _as_tensor(np.where(share[..., None] >= 0.5, mean.round(), mean_colour(normalisation)).astype(np.uint8))


def _as_tensor(canvas: np.ndarray) -> Tensor:
    """H x W x 3 to 3 x H x W."""
    return torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))
