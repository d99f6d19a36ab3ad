"""Sampling: which places make a batch, which layouts they get, and the views made of them (LS and CHSG).

A policy says how many views a pair gets and how these differ. Contrastive hard sample generation (CHSG) gives two views of every pair
under two different layouts, so that each is a hard negative of the other in the batch.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.data.augment import apply_semantic, draw_semantic
from geodtr_lib.data.inputs import fit_aerial, fit_ground, normalise, to_unit_range
from geodtr_lib.errors import ConfigError
from geodtr_lib.geometry import apply_layout, compose_layouts, crop_field_of_view
from geodtr_lib.shares import Share


@dataclass(frozen=True)
class Policy:
    """How the views of a pair are made.

    Attributes:
        views: how many times the pair enters the batch: 1, 2 in the paper, at most 8.
        layout: ``none``; ``each`` view its own (several views: always different ones); ``same`` for all views.
        semantic: augmentation ``none``; ``each`` view its own draw; ``same`` for all views.
    """

    views: int
    layout: Literal["none", "each", "same"]
    semantic: Literal["none", "each", "same"]


POLICIES: dict[str, Policy] = {
    "raw": Policy(1, "none", "none"),
    "L": Policy(1, "each", "none"),
    "S": Policy(1, "none", "each"),
    "LS": Policy(1, "each", "each"),
    "L+S": Policy(2, "each", "each"),  # CHSG
    "L+sameS": Policy(2, "each", "same"),
    "sameL+S": Policy(2, "same", "each"),
    # The paper's text may also mean these by "L only" and "S only"; its code cannot make them.
    "L2": Policy(2, "each", "none"),
    "S2": Policy(2, "none", "each"),
    # CHSG with more twins than the paper has.
    "L+S3": Policy(3, "each", "each"),
    "L+S4": Policy(4, "each", "each"),
}


def policy_named(name: str) -> Policy:
    """The policy of this exact name.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in POLICIES:
        raise ConfigError(f"sampling: {name!r} is not known; allowed: {', '.join(POLICIES)}")
    return POLICIES[name]


def generator_for(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator of its own for each seed and keys (such as a purpose, an epoch, a step): independent and reproducible streams."""
    return torch.Generator().manual_seed(seed_for(seed, *keys))


def seed_for(seed: int, *keys: int | str) -> int:
    """A seed in [0, 2^63) made of a seed and keys, for generators of other devices and libraries."""
    return int.from_bytes(hashlib.sha256(repr((int(seed), *keys)).encode()).digest()[:8], "little") >> 1


def draw_layouts(policy: Policy, n: int, generator: torch.Generator, heading: str = "north") -> tuple[Tensor, Tensor]:
    """Layouts for n pairs.

    The second view's layout is the first's followed by one of the seven that change something, as released; so the ordered pair is uniform
    over the 56 pairs of different layouts. More than two views have layouts that are all different, uniformly too. A panorama that may
    look anywhere fits a tile and the turned tile alike, so that only a mirrored twin is a negative: with ``heading`` random the second
    view's layout is the first's followed by one of the four that mirror.

    Returns:
        flip: V x n bools, V = ``policy.views``.
        turns: V x n integers, 0 to 3.
    """
    if policy.layout == "none":
        return torch.zeros(policy.views, n, dtype=torch.bool), torch.zeros(policy.views, n, dtype=torch.int64)
    flip, turns = _layout_numbered(torch.randint(8, (n,), generator=generator))
    if policy.views == 1:
        return flip[None], turns[None]
    if policy.layout == "same":
        return flip.repeat(policy.views, 1), turns.repeat(policy.views, 1)
    if policy.views > 2:
        return _layout_numbered(torch.rand(n, 8, generator=generator).argsort(dim=1)[:, : policy.views].T)
    change = _layout_numbered(torch.randint(4 if heading == "random" else 1, 8, (n,), generator=generator))
    other_flip, other_turns = compose_layouts(flip, turns, *change)
    return torch.stack([flip, other_flip]), torch.stack([turns, other_turns])


def _layout_numbered(number: Tensor) -> tuple[Tensor, Tensor]:
    """Flip and turns of the layouts by their number in ``geometry.LAYOUTS``."""
    return number >= 4, number % 4


def make_views(
    aerial: Tensor,
    ground: Tensor,
    policy: Policy,
    generator: torch.Generator,
    *,
    aerial_size: tuple[int, int],
    ground_size: tuple[int, int],
    polar: bool,
    aerial_is_polar: bool = False,
    strength: str = "strong",
    normalisation: str = "imagenet",
    fov: float = 360.0,
    heading: str = "north",
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Make the training views of a batch of pairs, on the images' device.

    Order as released: polar transform or resize, semantic augmentation, normalisation, layout; then heading and field of view.

    Args:
        aerial: uint8, B x 3 x S x S (B x 3 x h x w when ``aerial_is_polar``).
        ground: uint8, B x 3 x h x w, whole panoramas with north in the centre.
        policy: of ``POLICIES``.
        generator: a CPU generator; every draw comes from it, so the draws are the same on all devices.
        aerial_size, ground_size: (H, W) that the model takes, the latter before cropping to ``fov``.
        polar: the model takes unrolled tiles.
        aerial_is_polar: these tiles already are unrolled.
        strength: of the semantic augmentation.
        normalisation: ``imagenet`` or ``half``.
        fov: field of view of the panorama in degrees.
        heading: ``north``, or ``random`` (each view looks to a direction of its own).
        share: which pairs of a larger batch these are: they get the draws that they would get in it. None = the whole batch.

    Returns:
        aerial: VB x 3 x H x W float32, view after view: rows i and i + B come from the same pair.
        ground: VB x 3 x H x round(W fov / 360) float32.
    """
    share = share or Share.whole(len(aerial))
    flip, turns = (drawn[:, share.rows] for drawn in draw_layouts(policy, share.total, generator, heading))  # V x B
    views = [
        normalise(augmented_views(images, policy, strength, generator, share), normalisation)
        for images in (fit_aerial(aerial, aerial_size, polar, aerial_is_polar), fit_ground(ground, ground_size))
    ]
    if policy.layout != "none":
        views = list(apply_layout(views[0], views[1], flip.flatten(), turns.flatten(), polar))
    if heading == "random" or fov < 360:
        turned = heading == "random"
        shift = torch.rand(policy.views * share.total, generator=generator)[share.views(policy.views)] * 360 if turned else 0.0
        views[1] = crop_field_of_view(views[1], fov, shift)
    return views[0], views[1]


def augmented_views(images: Tensor, policy: Policy, strength: str, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """One side of a batch in all its views, with the semantic augmentation that the policy asks for, before any layout.

    Args:
        images: uint8, B x 3 x H x W.
        policy, strength, generator, share: as of :func:`make_views`.

    Returns:
        Float, VB x 3 x H x W in [0, 1], view after view.
    """
    share, floats = share or Share.whole(len(images)), to_unit_range(images)
    if policy.semantic == "each":
        drawn = draw_semantic(policy.views * share.total, strength, generator)[share.views(policy.views)]
        return apply_semantic(floats.repeat(policy.views, 1, 1, 1), drawn)
    if policy.semantic == "same":
        floats = apply_semantic(floats, draw_semantic(share.total, strength, generator)[share.rows])
    return floats.repeat(policy.views, 1, 1, 1) if policy.views > 1 else floats


Batch = tuple[np.ndarray, np.ndarray]


def epoch_batches(
    positive: Sequence[int] | np.ndarray,
    semi_positive: np.ndarray | None,
    batch_size: int,
    seed: int,
    epoch: int,
    as_released: bool = False,
) -> list[Batch]:
    """The batches of one epoch, as (query indices, reference indices); the same for the same seed and epoch.

    With one query per reference, each pair comes once. Where references have several queries (VIGOR), an epoch has twice as many items as
    covered references, each with a query drawn from its positives.

    Args:
        positive: N references, one per query.
        semi_positive: N x 3 references that also cover each query, or None.
        batch_size: pairs per batch, at least 2. A last batch of one pair has no negative and is left out.
        seed: of the run.
        epoch: index of the epoch.
        as_released: plain shuffling, where a tile that covers a query can be its negative. Otherwise no reference in a batch is a positive
            or semi-positive of another item's query; an item that clashes waits for a later batch.

    Raises:
        ConfigError: a batch size below 2.
    """
    if batch_size < 2:
        raise ConfigError(f"batch_size: {batch_size} is not possible; a batch needs at least 2 pairs")
    positive = np.asarray(positive, dtype=np.int64)
    random = np.random.default_rng(seed_for(seed, "batches", epoch))
    covered, count = np.unique(positive, return_counts=True)
    if alone := one_to_one(positive, semi_positive):
        queries = random.permutation(len(positive))
    else:
        by_reference = np.argsort(positive, kind="stable")  # queries of covered[0], then of covered[1], ...
        first = np.cumsum(count) - count
        items = random.permutation(np.tile(np.arange(len(covered)), 2))
        queries = by_reference[first[items] + random.integers(0, count[items])]
    if alone or as_released:
        batches = [queries[start : start + batch_size] for start in range(0, len(queries), batch_size)]
    else:
        batches = _without_overlap(queries, positive, semi_positive, batch_size)
    return [(batch, positive[batch]) for batch in batches if len(batch) > 1]


def one_to_one(positive: Sequence[int] | np.ndarray, semi_positive: np.ndarray | None) -> bool:
    """Every query has a reference that no other query shares: then each epoch has as many batches as any other.

    Args:
        positive, semi_positive: as of :func:`epoch_batches`.
    """
    return semi_positive is None and len(np.unique(positive)) == len(positive)


def _without_overlap(queries: np.ndarray, positive: np.ndarray, semi_positive: np.ndarray | None, batch_size: int) -> list[np.ndarray]:
    """Fill batches in order; a query that overlaps the batch is first in line for the next one."""
    covers = positive[:, None] if semi_positive is None else np.column_stack([positive, semi_positive])
    queue = deque(queries.tolist())
    batches: list[np.ndarray] = []
    while queue:
        batch: list[int] = []
        waiting: list[int] = []
        references: set[int] = set()  # positives of the batch
        covering: set[int] = set()  # its positives and semi-positives
        while queue and len(batch) < batch_size:
            query = queue.popleft()
            cover = covers[query].tolist()
            if cover[0] in covering or not references.isdisjoint(cover):
                waiting.append(query)
                continue
            batch.append(query)
            references.add(cover[0])
            covering.update(cover)
        queue.extendleft(reversed(waiting))
        batches.append(np.array(batch, dtype=np.int64))
    return batches
