"""From decoded images to the size and range that a model takes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from geodtr_lib.errors import ConfigError
from geodtr_lib.geometry import crop_field_of_view, polar_transform

# Per-channel mean and standard deviation, RGB: GeoDTR+ and GeoDTR.
NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def fit_ground(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Panoramas, uint8 B x 3 x h x w, resized to B x 3 x H x W (bilinear, antialiased, aspect not kept: as released)."""
    return images if images.shape[-2:] == tuple(size) else resize(images, list(size), antialias=True)


def fit_aerial(images: Tensor, size: tuple[int, int], polar: bool, is_polar: bool = False) -> Tensor:
    """Aerial tiles, uint8 B x 3 x S x S, unrolled (``polar``) or resized to B x 3 x H x W.

    Args:
        images: the decoded tiles.
        size: (H, W).
        polar: the model takes unrolled tiles.
        is_polar: these images already are unrolled (offline polar maps).

    Raises:
        ConfigError: unrolled images for a model that takes square tiles.
    """
    if is_polar and not polar:
        raise ConfigError("polar: False is not possible with aerial images that were unrolled offline; give the square tiles")
    if polar and not is_polar:
        return polar_transform(images, size)
    return fit_ground(images, size)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def normalise(images: Tensor, how: str) -> Tensor:
    """Float images in [0, 1], B x 3 x H x W, minus the mean, over the standard deviation of ``imagenet`` or ``half``.

    Raises:
        ConfigError: an unknown normalisation.
    """
    if how not in NORMALISATIONS:
        raise ConfigError(f"normalisation: {how!r} is not known; allowed: {', '.join(NORMALISATIONS)}")
    mean, deviation = _mean_and_deviation(how, images.dtype, images.device)
    return (images - mean).div_(deviation)


@lru_cache(maxsize=16)  # made at every step, each would wait for all that a GPU still computes
def _mean_and_deviation(how: str, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of a normalisation: 3 x 1 x 1 each."""
    with torch.inference_mode(False):  # a cached tensor made in inference mode would break a later backward pass
        mean, deviation = (torch.tensor(values, dtype=dtype, device=device)[:, None, None] for values in NORMALISATIONS[how])
    return mean, deviation


def prepare_aerial(images: Tensor, size: tuple[int, int], polar: bool, is_polar: bool = False, normalisation: str = "imagenet") -> Tensor:
    """Decoded tiles as a model takes them: :func:`fit_aerial` and :func:`normalise`. B x 3 x H x W float32."""
    return normalise(to_unit_range(fit_aerial(images, size, polar, is_polar)), normalisation)


def prepare_ground(
    images: Tensor, size: tuple[int, int], normalisation: str = "imagenet", fov: float = 360.0, shift: Tensor | None = None
) -> Tensor:
    """Decoded panoramas as a model takes them.

    Args:
        images: uint8, B x 3 x h x w, north in the centre column.
        size: (H, W) before cropping to ``fov``.
        normalisation: ``imagenet`` or ``half``.
        fov: field of view in degrees.
        shift: B headings in degrees that the panoramas are turned to; None = north.

    Returns:
        B x 3 x H x round(W fov / 360) float32.
    """
    images = fit_ground(images, size)
    if fov < 360 or shift is not None:
        images = crop_field_of_view(images, fov, 0.0 if shift is None else shift)
    return normalise(to_unit_range(images), normalisation)
