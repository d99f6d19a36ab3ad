"""What the geometric layout descriptors hold, as numbers: do the views align, how concentrated are they, what do they follow."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import Indices, PairDataset
from geodtr_lib.data.inputs import prepare_aerial, prepare_ground
from geodtr_lib.geometry import polar_transform


def describe_pairs(
    model: nn.Module, dataset: PairDataset, queries: Indices, config: RunConfig, batch_size: int = 128
) -> tuple[Tensor, Tensor]:
    """Descriptors of some queries and of their references, in evaluation mode.

    Args:
        model: has ``describe_ground`` and ``describe_aerial``; its training mode is restored afterwards.
        dataset: where the pairs are.
        queries: n query indices.
        config: sizes, field of view, polar and normalisation of the run; panoramas look north.
        batch_size: pairs at a time.

    Returns:
        ground: n x K x h x w, float32, on the CPU; of the columns that are seen where ``fov`` is less than 360.
        aerial: n x K x h' x w'.
    """
    chosen = torch.as_tensor(queries).long()
    references = torch.as_tensor(dataset.positive)[chosen]
    describe: Any = model
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    ground, aerial = [], []
    try:
        with torch.inference_mode():
            for rows, tiles in zip(chosen.split(batch_size), references.split(batch_size), strict=True):
                panoramas = prepare_ground(dataset.ground(rows).to(device), config.ground_size, config.normalisation, config.fov)
                ground.append(describe.describe_ground(panoramas).descriptors.float().cpu())
                images = dataset.aerial(tiles).to(device)
                images = prepare_aerial(images, config.aerial_size, config.polar, dataset.aerial_is_polar, config.normalisation)
                aerial.append(describe.describe_aerial(images).descriptors.float().cpu())
    finally:
        model.train(was_training)
    return torch.cat(ground), torch.cat(aerial)


def unroll_descriptors(maps: Tensor, size: tuple[int, int], side: int, ground_size: tuple[int, int]) -> Tensor:
    """Descriptors of square tiles in the shape of a panorama's, by the polar transform (Figure 7b).

    They are enlarged to the tile's pixels, unrolled as the tile is, and averaged over the pixels of each position. On their own few
    positions the polar transform, whose centre is the pixel S/2, would be off by half a position, and would not see the outermost ones.

    Args:
        maps: n x K x s x s.
        size: (h, w) of the result, that of the panorama's descriptors.
        side: S of the tile in pixels.
        ground_size: (H, W) of the panorama in pixels.

    Returns:
        n x K x h x w.
    """
    parts = []
    for part in maps.split(64):
        enlarged = F.interpolate(part, (side, side), mode="bilinear", align_corners=False)  # n x K x S x S
        parts.append(F.interpolate(polar_transform(enlarged, ground_size), size, mode="area"))
    return torch.cat(parts)


class Alignment(NamedTuple):
    """Correlations of ground with aerial descriptors over positions, of each pair and descriptor; n x K.

    ``matched`` is of a place with itself, ``shuffled`` with another place. What all places share (a descriptor's usual shape) shows in
    both; only their difference speaks for the place.
    """

    matched: Tensor
    shuffled: Tensor


def alignment(ground: Tensor, aerial: Tensor, generator: torch.Generator) -> Alignment:
    """Do the descriptors of the two views align (the paper's Figure 7)?

    Args:
        ground: n x K x h x w, n at least 2.
        aerial: n x K x h' x w' in the panorama's shape (unroll those of square tiles first); resized when h' x w' differs.
        generator: picks the other places: every pair meets one that is not its own.
    """
    n = len(ground)
    if n < 2:
        raise ValueError("alignment needs at least two pairs: one is compared with another")
    if aerial.shape[-2:] != ground.shape[-2:]:
        aerial = F.interpolate(aerial, ground.shape[-2:], mode="bilinear", align_corners=False)
    return Alignment(correlation(ground, aerial), correlation(ground, aerial[other_places(n, generator)]))


def other_places(n: int, generator: torch.Generator) -> Tensor:
    """For each of n places the index of another one, drawn so that each is met once; n at least 2."""
    if n < 2:
        raise ValueError("there is no other place than the only one")
    order = torch.randperm(n, generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # a ring through all places, so never one's own
    return other


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation over the last two dimensions, ... x H x W; NaN for a constant map."""
    first, second = (maps.double().flatten(-2) - maps.double().mean((-2, -1))[..., None] for maps in (first, second))
    scale = first.norm(dim=-1) * second.norm(dim=-1)
    product = (first * second).sum(-1)
    return torch.where(scale > 1e-12, product / scale, torch.nan)


class Concentration(NamedTuple):
    """How concentrated descriptors are; n x K each, in [0, 1]."""

    entropy: Tensor
    """Entropy of the deviations as a distribution over positions, over that of a uniform one."""
    active_area: Tensor
    """Share of positions whose deviation is at least half of the largest."""


def concentration(maps: Tensor) -> Concentration:
    """Entropy and active area of descriptors, n x K x h x w, of any range.

    Measured on each map's absolute deviation from its median, so that descriptors in [-1, 1] and in [0, 1] compare. A constant map deviates
    nowhere: it counts as spread over everything.
    """
    values = maps.double().flatten(2)  # n x K x hw
    deviation = (values - values.median(-1, keepdim=True).values).abs()
    total = deviation.sum(-1, keepdim=True)
    share = torch.where(total > 1e-12, deviation / total, 1 / values.shape[-1])
    entropy = torch.special.entr(share).sum(-1) / torch.log(torch.tensor(float(values.shape[-1])))
    active = (share >= share.amax(-1, keepdim=True) / 2).double().mean(-1)
    return Concentration(entropy, active)


def between_images(maps: Tensor) -> Tensor:
    """How much of a descriptor hangs on the image: the share of its variance that is between images at a position.

    0 is a fixed map of positions, the same for every image: the layout extractor is then a learnt pooling. 1 has no usual shape.

    Args:
        maps: n x K x h x w, n at least 2.

    Returns:
        K shares in [0, 1]; 0 for a descriptor that is constant.
    """
    values = maps.double().flatten(2)  # n x K x hw
    whole = values.var((0, 2), correction=0)
    share = values.var(0, correction=0).mean(-1) / whole.clamp(min=1e-24)
    return torch.where(whole > 1e-12, share, 0.0)


def truth_correlation(maps: Tensor, truth: Tensor) -> Tensor:
    """Correlation of descriptors with known maps over positions.

    Args:
        maps: n x K x h x w.
        truth: n x T x H x W, finite, such as :func:`nearness` and :func:`class_maps`; averaged down to h x w.

    Returns:
        n x K x T; NaN where a truth map is constant (a class that is not in the picture).
    """
    coarse = F.interpolate(truth.float(), maps.shape[-2:], mode="area")  # n x T x h x w
    return correlation(maps[:, :, None], coarse[:, None])


def nearness(depth: Tensor) -> Tensor:
    """Inverse depth in 1/m of n x H x W metres: n x 1 x H x W. The sky, infinitely far, is 0; nothing counts as nearer than 1 m."""
    return depth.float().clamp(min=1).reciprocal()[:, None]


def class_maps(labels: Tensor, n_classes: int) -> Tensor:
    """Where each class is, n x T x H x W of 0 and 1, from n x H x W class numbers."""
    return F.one_hot(labels.long(), n_classes).permute(0, 3, 1, 2).float()
