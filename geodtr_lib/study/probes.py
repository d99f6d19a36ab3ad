"""What is measured on a run's trained weights: do descriptors align, how concentrated are they, what do they follow, are hard samples far.

One row of numbers per test area; the weights themselves need not be kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import PairDataset
from geodtr_lib.evaluation.descriptors import (
    alignment,
    between_images,
    class_maps,
    concentration,
    describe_pairs,
    nearness,
    other_places,
    truth_correlation,
    unroll_descriptors,
)
from geodtr_lib.evaluation.hard_samples import HARD_LAYOUTS, pair_distances, separation
from geodtr_lib.geometry import crop_field_of_view, polar_transform
from geodtr_lib.sampling import generator_for

PLACES = 200
"""Places of a test area that are measured, as many as the paper's Figure 10 has."""
# The embedded data's classes, in groups that are in most pictures.
CLASS_GROUPS: dict[str, tuple[str, ...]] = {
    "sky": ("sky",),
    "building": ("roof", "wall"),
    "street": ("road", "marking", "pavement", "plaza", "rail"),
    "green": ("grass", "tree", "hedge"),
}


def chosen_places(dataset: PairDataset, seed: int, places: int = PLACES) -> Tensor:
    """Query indices of the places that are measured: random, and the same for every run on the same data."""
    return torch.randperm(len(dataset), generator=generator_for(seed, "probes", dataset.area))[:places].sort().values


def probe(model: nn.Module, dataset: PairDataset, config: RunConfig, places: int = PLACES) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure a trained model on one area.

    Args:
        model: has ``describe_*`` and ``encode_*``.
        dataset: test pairs.
        config: of the run.
        places: how many of them.

    Returns:
        row: ``places``; ``alignment_matched`` and ``alignment_shuffled`` (mean correlation of ground with unrolled aerial descriptors, of
            a place with itself and with another); ``entropy_*`` and ``active_area_*`` of both views (:func:`concentration`, means);
            ``between_images_*`` of both views (:func:`between_images`, mean);
            where the truth is known ``follows_<view>_<what>`` and ``follows_<view>_<what>_shuffled`` (see :func:`truth_following`);
            ``auc_<kind>``, ``auc_<kind>_low``, ``auc_<kind>_high`` of each hard kind and of unmatched pairs against the originals.
        distances: a row per kind of pair: ``kind``, ``n``, ``mean`` and ``distances``, sorted, three decimals, joined by spaces.
    """
    chosen = chosen_places(dataset, config.data_seed, places)
    generator = generator_for(config.data_seed, "other places", dataset.area)
    ground, aerial = describe_pairs(model, dataset, chosen, config, config.eval_batch_size)
    height, width = _size(ground)
    whole = height, round(width * 360 / config.fov)
    unrolled = aerial if config.polar else unroll_descriptors(aerial, whole, config.aerial_size[0], config.ground_size)
    unrolled = crop_field_of_view(unrolled, config.fov)  # what the panorama shows too
    row: dict[str, float] = {"places": len(chosen)}
    aligned = alignment(ground, unrolled, generator)
    row |= {f"alignment_{name}": float(value.nanmean()) for name, value in aligned._asdict().items()}
    for view, maps in (("ground", ground), ("aerial", aerial)):
        row |= {f"{name}_{view}": float(value.mean()) for name, value in concentration(maps)._asdict().items()}
        row[f"between_images_{view}"] = float(between_images(maps).mean())
    other = other_places(len(chosen), generator)
    for view, maps in (("ground", ground), ("aerial", unrolled)):
        for what, truth in truths(dataset, chosen, view, config.ground_size).items():
            seen = crop_field_of_view(truth, config.fov)
            row[f"follows_{view}_{what}"], row[f"follows_{view}_{what}_shuffled"] = truth_following(maps, seen, other)
    distances = pair_distances(model, dataset, chosen, config, generator, config.eval_batch_size)
    for kind in ("unmatched", *HARD_LAYOUTS):
        found = separation(distances["original"], distances[kind])
        row |= {f"auc_{kind}": found.auc, f"auc_{kind}_low": found.low, f"auc_{kind}_high": found.high}
    return row, [
        {
            "kind": kind,
            "n": len(values),
            "mean": float(values.mean()),
            "distances": " ".join(f"{value:.3f}" for value in values.sort().values.tolist()),
        }
        for kind, values in distances.items()
    ]


def truth_following(maps: Tensor, truth: Tensor, other: Tensor) -> tuple[float, float]:
    """How closely the best descriptor follows a known map.

    Args:
        maps: n x K x h x w.
        truth: n x 1 x H x W.
        other: n indices of other places.

    Returns:
        The largest of the K absolute mean correlations over places, and the same descriptor's with the truth of another place: what it
        follows of the picture that all places share. NaN where the truth is constant in every picture.
    """
    matched = truth_correlation(maps, truth)[..., 0].nanmean(0)  # K
    if bool(matched.isnan().all()):
        return float("nan"), float("nan")
    best = int(matched.abs().nan_to_num(-1.0).argmax())
    shuffled = truth_correlation(maps[:, best : best + 1], truth[other]).nanmean()
    return float(matched[best].abs()), float(shuffled * matched[best].sign())


def truths(dataset: PairDataset, queries: Tensor, view: str, size: tuple[int, int]) -> dict[str, Tensor]:
    """Known maps of some places, n x 1 x H x W each: ``nearness`` (ground only) and each group of classes; {} where none are known.

    Aerial maps are unrolled to ``size``, in whose shape descriptors are compared.
    """
    truth: Mapping[str, np.ndarray] = getattr(dataset, "truth", {})
    if f"{view}_class" not in truth:
        return {}
    found: dict[str, Tensor] = {}
    rows = queries if view == "ground" else torch.as_tensor(dataset.positive)[queries]
    if view == "ground":
        found["nearness"] = nearness(torch.from_numpy(np.asarray(truth["ground_depth"][rows.numpy()]).astype(np.float32)))
    names: tuple[str, ...] = getattr(dataset, "class_names", ())
    classes = class_maps(torch.from_numpy(np.asarray(truth[f"{view}_class"][rows.numpy()])), len(names))  # n x T x H x W
    for group, members in CLASS_GROUPS.items():
        if view == "aerial" and group == "sky":
            continue
        maps = classes[:, [names.index(member) for member in members]].sum(1, keepdim=True)
        found[group] = polar_transform(maps, size) if view == "aerial" else maps
    return found


def example_maps(model: nn.Module, datasets: Mapping[str, PairDataset], config: RunConfig, per_area: int = 2) -> bytes:
    """Descriptors of a few pairs with their images, as the bytes of an ``.npz``: what Figures 7 and 8 are drawn from.

    Returns:
        ``area`` (n), ``query`` (n), ``aerial`` uint8 n x 3 x S x S, ``ground`` uint8 n x 3 x H x W (the columns that are seen),
        ``aerial_descriptors`` and ``ground_descriptors`` float16 n x K x h x w (those of square tiles not unrolled), ``polar``.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for area, dataset in datasets.items():
        chosen = chosen_places(dataset, config.data_seed, per_area)
        ground, aerial = describe_pairs(model, dataset, chosen, config, config.eval_batch_size)
        tiles = dataset.aerial(torch.as_tensor(dataset.positive)[chosen])
        for name, values in {
            "area": np.array([area] * len(chosen)),
            "query": chosen.numpy(),
            "aerial": tiles.numpy(),
            "ground": crop_field_of_view(dataset.ground(chosen), config.fov).numpy(),
            "aerial_descriptors": aerial.numpy().astype(np.float16),
            "ground_descriptors": ground.numpy().astype(np.float16),
        }.items():
            parts.setdefault(name, []).append(values)
    arrays: dict[str, Any] = {name: np.concatenate(values) for name, values in parts.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, polar=np.array(config.polar), **arrays)
    return buffer.getvalue()


def _size(maps: Tensor) -> tuple[int, int]:
    return int(maps.shape[-2]), int(maps.shape[-1])
