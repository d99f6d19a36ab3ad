"""How far the hard samples of a place are from it (Figure 10): distances by kind of pair, and how well they tell the kinds apart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Tensor, nn

from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import Indices, PairDataset
from geodtr_lib.data.inputs import fit_ground, prepare_aerial, prepare_ground
from geodtr_lib.evaluation.descriptors import other_places
from geodtr_lib.geometry import layout_ground

# What is done to the panorama while the tile stays as it is: (flip, quarter turns).
HARD_LAYOUTS: dict[str, tuple[bool, int]] = {"flip": (True, 0), "rot90": (False, 1), "rot180": (False, 2), "rot270": (False, 3)}
KINDS = ("original", "unmatched", *HARD_LAYOUTS)


def pair_distances(
    model: nn.Module, dataset: PairDataset, queries: Indices, config: RunConfig, generator: torch.Generator, batch_size: int = 128
) -> dict[str, Tensor]:
    """Squared distances of the embeddings of each kind of pair, in [0, 4], for some places of a data set.

    Args:
        model: has ``encode_ground`` and ``encode_aerial``; its training mode is restored afterwards.
        dataset: where the places are.
        queries: n query indices, n at least 2.
        config: sizes, field of view, polar and normalisation of the run; panoramas look north, and are turned before they are narrowed.
        generator: picks the other place of each unmatched pair.
        batch_size: images at a time.

    Returns:
        By the names of ``KINDS``, n distances each: row i is always of the same place's tile. ``unmatched`` pairs it with the panorama
        of another place; the hard samples with its own one, mirrored or turned, which the layout alone tells from the original.
    """
    chosen = torch.as_tensor(queries).long()
    references = torch.as_tensor(dataset.positive)[chosen]
    encoder: Any = model
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    tiles: list[Tensor] = []
    panoramas: dict[str, list[Tensor]] = {kind: [] for kind in ("original", *HARD_LAYOUTS)}
    try:
        with torch.inference_mode():
            for rows, theirs in zip(chosen.split(batch_size), references.split(batch_size), strict=True):
                images = prepare_aerial(
                    dataset.aerial(theirs).to(device), config.aerial_size, config.polar, dataset.aerial_is_polar, config.normalisation
                )
                tiles.append(encoder.encode_aerial(images).double().cpu())
                whole = fit_ground(dataset.ground(rows).to(device), config.ground_size)
                for kind, found in panoramas.items():
                    turned = whole if kind == "original" else layout_ground(whole, *HARD_LAYOUTS[kind])
                    ground = prepare_ground(turned, config.ground_size, config.normalisation, config.fov)
                    found.append(encoder.encode_ground(ground).double().cpu())
    finally:
        model.train(was_training)
    aerial = torch.cat(tiles)  # n x D
    embedded = {kind: torch.cat(parts) for kind, parts in panoramas.items()}
    embedded["unmatched"] = embedded["original"][other_places(len(aerial), generator)]
    return {kind: (aerial - embedded[kind]).square().sum(1) for kind in KINDS}


class Separation(NamedTuple):
    """Area under the curve of telling two kinds of pairs apart by their distance: 0.5 is chance, 1 is always; 95 % interval."""

    auc: float
    low: float
    high: float


def separation(original: Tensor, hard: Tensor) -> Separation:
    """Probability that a hard sample is farther than an original pair; a tie counts half.

    The interval knows that row i of both is of one place (Obuchowski's variance of clustered AUCs, Biometrics 1997), and nothing of
    another training.

    Args:
        original, hard: n distances each, n at least 2.

    Raises:
        ValueError: numbers of distances that differ or are too few.
    """
    n = len(original)
    if n != len(hard) or n < 2:
        raise ValueError(f"separation needs as many original as hard distances, at least 2, not {n} and {len(hard)}")
    closer = (hard[:, None] > original[None]).double() + 0.5 * (hard[:, None] == original[None]).double()  # n hard x n original
    auc = closer.mean()
    # How far each place moves the area, by its hard sample and by its original pair.
    influence = (closer.mean(1) - auc) + (closer.mean(0) - auc)
    half = stats.norm.ppf(0.975) * math.sqrt(float(influence.square().sum()) / (n * (n - 1)))
    return Separation(float(auc), max(0.0, float(auc) - half), min(1.0, float(auc) + half))
