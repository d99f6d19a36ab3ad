"""Semantic augmentation: the release's distributions, drawn per image and applied to a whole batch at once on its device.

Order as released: colour jitter, grayscale, posterise, blur. Parameters are drawn on the CPU, so they do not depend on the device.
Each image is equal to what torchvision's functions give for the same parameters (on float images in [0, 1]).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geodtr_lib.errors import ConfigError
from geodtr_lib.geometry import part_length

GRAY = (0.2989, 0.587, 0.114)  # ITU-R 601, the digits that torchvision uses
LEVELS = 16  # 4 bits
BLUR_TAPS = 5


@dataclass(frozen=True)
class Strength:
    """How far the draws go. ``posterize`` and ``gray`` are probabilities; ``jitter`` bounds the three factors around 1."""

    jitter: float
    gray: float
    posterize: float
    blur: tuple[float, float] | None  # range of the Gaussian's sigma in pixels; always applied


STRENGTHS: dict[str, Strength] = {
    "strong": Strength(jitter=0.3, gray=0.2, posterize=0.2, blur=(0.1, 5.0)),
    "weak": Strength(jitter=0.1, gray=0.1, posterize=0.0, blur=None),
}

BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class SemanticParameters:
    """One draw per image.

    Attributes:
        factors: B x 3, of brightness, contrast and saturation.
        order: B x 3, which of the three comes first, second and third.
        gray: B bools.
        posterize: B bools.
        sigma: B, of the vertical blur in pixels; None = no blur.
    """

    factors: Tensor
    order: Tensor
    gray: Tensor
    posterize: Tensor
    sigma: Tensor | None

    def __getitem__(self, part: slice | Tensor) -> SemanticParameters:
        """Those of some images."""
        sigma = None if self.sigma is None else self.sigma[part]
        return SemanticParameters(self.factors[part], self.order[part], self.gray[part], self.posterize[part], sigma)

    def to(self, device: torch.device) -> SemanticParameters:
        """The same on a device. A copy that blocks would wait for all that the device still computes."""

        def there(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True)

        sigma = None if self.sigma is None else there(self.sigma)
        return SemanticParameters(there(self.factors), there(self.order), there(self.gray), there(self.posterize), sigma)


def draw_semantic(n: int, strength: str, generator: torch.Generator) -> SemanticParameters:
    """Parameters for n images.

    Args:
        n: number of images.
        strength: ``strong`` or ``weak``, the release's two settings.
        generator: a CPU generator.

    Raises:
        ConfigError: an unknown strength.
    """
    if strength not in STRENGTHS:
        raise ConfigError(f"semantic: {strength!r} is not known; allowed: {', '.join(STRENGTHS)}")
    setting = STRENGTHS[strength]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    factors = 1 + setting.jitter * (2 * uniform(n, 3) - 1)
    order = uniform(n, 3).argsort(dim=1)  # uniform over the six orders
    gray = uniform(n) < setting.gray
    posterize = uniform(n) < setting.posterize
    sigma = setting.blur[0] + (setting.blur[1] - setting.blur[0]) * uniform(n) if setting.blur else None
    return SemanticParameters(factors, order, gray, posterize, sigma)


def apply_semantic(images: Tensor, parameters: SemanticParameters) -> Tensor:
    """Augment B x 3 x H x W float images in [0, 1] by their parameters; the result is new, of the same shape and range.

    Raises:
        ValueError: images with fewer rows than the blur reaches (3).
    """
    length = part_length(images, images.shape[-2] * images.shape[-1])
    if len(images) > length:
        parts = [slice(start, start + length) for start in range(0, len(images), length)]
        return torch.cat([apply_semantic(images[part], parameters[part]) for part in parts])
    here = parameters.to(images.device)
    images = _jitter(images, here.factors, here.order)
    images = torch.where(_per_image(here.gray), _gray(images), images)
    images = torch.where(_per_image(here.posterize), _posterize(images), images)
    return images if here.sigma is None else _blur_vertically(images, here.sigma)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _gray(images: Tensor) -> Tensor:
    """B x 3 x H x W to B x 1 x H x W."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def _jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast and saturation, in each image's own order.

    All three pull towards something: ``f x + (1 - f) anchor``, the anchor being black, the image's mean gray, or the gray image. So one
    expression serves whichever comes next in each image.
    """
    for step in range(3):
        kind = order[:, step]
        factor = factors.gather(1, order[:, step : step + 1])[:, 0].to(images.dtype)
        gray = _gray(images)  # B x 1 x H x W
        mean = gray.mean(dim=(1, 2, 3)) * (1 - factor) * (kind == CONTRAST)
        anchor = gray.mul_(_per_image((1 - factor) * (kind == SATURATION))).add_(_per_image(mean))
        images = (images * _per_image(factor)).add_(anchor).clamp_(0, 1)
    return images


def _posterize(images: Tensor) -> Tensor:
    return (images * LEVELS).floor_().clamp_(max=LEVELS - 1).div_(LEVELS)


def _blur_vertically(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian over 5 rows, reflected at the edges. The release's kernel is 1 wide and 5 high, whatever its text says."""
    if images.shape[-2] <= BLUR_TAPS // 2:
        raise ValueError(f"images of {images.shape[-2]} rows are too low for the blur of {BLUR_TAPS} rows")
    distance = torch.arange(BLUR_TAPS // 2 + 1, device=images.device)
    weight = torch.exp(-(distance**2) / (2 * sigma[:, None] ** 2))  # B x 3: for distances of 0, 1 and 2 rows
    weight = (weight / (2 * weight.sum(dim=1, keepdim=True) - 1)).to(images.dtype)  # the centre's weight is 1 before this
    padded = F.pad(images, (0, 0, 2, 2), mode="reflect")  # B x 3 x (H + 4) x W
    rows = [padded[..., i : i + images.shape[-2], :] for i in range(BLUR_TAPS)]
    near = (rows[1] + rows[3]).mul_(_per_image(weight[:, 1]))
    far = (rows[0] + rows[4]).mul_(_per_image(weight[:, 2]))
    return near.add_(far).addcmul_(rows[2], _per_image(weight[:, 0]))
