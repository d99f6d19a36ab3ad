"""Embeddings of a data set, one branch at a time, and the evaluation of a model on it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import PairDataset
from geodtr_lib.data.inputs import prepare_aerial, prepare_ground
from geodtr_lib.distributed import ALONE, Ranks
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.evaluation.matched import Similarity, matched_metrics, matched_ranks, matched_top_k, right_references
from geodtr_lib.evaluation.protocols import PROTOCOLS, recall_within, retrieval_metrics
from geodtr_lib.evaluation.ranking import Array, Ties, ranks, top_k
from geodtr_lib.geometry import heading_shifts
from geodtr_lib.machine import choose_precision
from geodtr_lib.models.base import CrossViewModel

View = Literal["ground", "aerial"]


class Encoder(Protocol):
    """What evaluation needs of a model."""

    def encode_aerial(self, images: Tensor) -> Tensor: ...

    def encode_ground(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of one data set.

    Attributes:
        query: N x D float32, of the panoramas.
        reference: M x D float32, of the aerial tiles.
        shift: N headings in degrees that the panoramas were turned to, or None when all look north.
        similarity: of references and queries, M x B, where the model's is more than an inner product; else None.
    """

    query: Tensor
    reference: Tensor
    shift: Tensor | None = None
    similarity: Similarity | None = None


def embed(
    model: nn.Module,
    dataset: PairDataset,
    view: View,
    size: tuple[int, int],
    *,
    polar: bool = True,
    normalisation: str = "imagenet",
    fov: float = 360.0,
    shift: Tensor | None = None,
    batch_size: int = 128,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    progress: bool = False,
    rows: range | None = None,
) -> Tensor:
    """Embed all panoramas, or all aerial tiles, in evaluation mode; the other branch is not run.

    Args:
        model: has ``encode_ground`` and ``encode_aerial``; its training mode is restored afterwards.
        dataset: what to embed.
        view: ``ground`` (N queries) or ``aerial`` (M references).
        size: (H, W) that this branch takes; for the ground before cropping to ``fov``.
        polar: the model takes unrolled tiles.
        normalisation: ``imagenet`` or ``half``.
        fov: field of view of the panoramas in degrees.
        shift: heading of each panorama in degrees (N), see :func:`geodtr_lib.geometry.heading_shifts`; None = north.
        batch_size: images at a time.
        device: where to compute; None = where the model is.
        precision: ``fp32``, or ``bf16`` (autocast).
        progress: show a bar.
        rows: embed only these; None = all.

    Returns:
        N x D or M x D, float32, on the CPU.

    Raises:
        ConfigError: an unknown view or normalisation.
        DatasetError: an image that cannot be read, or no images.
    """
    if view not in ("ground", "aerial"):
        raise ConfigError(f"view: {view!r} is not known; allowed: ground, aerial")
    device = torch.device(device) if device is not None else next(model.parameters()).device
    encoder = cast(Encoder, model)
    encode = encoder.encode_ground if view == "ground" else encoder.encode_aerial
    was_training = model.training
    model.eval()
    rows = range(_count(dataset, view)) if rows is None else rows
    n = len(rows)
    found: Tensor | None = None
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            batches = tqdm(_batches(dataset, view, batch_size, rows), f"{view} {dataset.area}", -(-n // batch_size), disable=not progress)
            for start, images in batches:
                images = images.to(device, non_blocking=True)
                if view == "aerial":
                    images = prepare_aerial(images, size, polar, dataset.aerial_is_polar, normalisation)
                else:
                    headings = None if shift is None else shift[start : start + len(images)]
                    images = prepare_ground(images, size, normalisation, fov, headings)
                embedded = encode(images).float().cpu()
                if found is None:
                    with torch.inference_mode(False):  # the caller may train something on them
                        found = torch.empty(n, embedded.shape[1])  # filled in place: a list and its concatenation need the memory twice
                found[start - rows.start : start - rows.start + len(embedded)] = embedded
    finally:
        model.train(was_training)
    if found is None:
        raise DatasetError(f"{dataset!r} has nothing to embed")
    return found


def embed_view(
    model: nn.Module,
    dataset: PairDataset,
    view: View,
    config: RunConfig,
    device: torch.device | str | None = None,
    progress: bool = False,
    rows: range | None = None,
) -> Tensor:
    """One view of a data set as the configuration says, ``auto`` precision as in training; the rest as of :func:`embed`."""
    ground = view == "ground"
    where = torch.device(device) if device is not None else next(model.parameters()).device
    return embed(
        model, dataset, view, config.ground_size if ground else config.aerial_size, polar=config.polar, normalisation=config.normalisation,
        fov=config.fov, shift=_headings(dataset, config) if ground else None, batch_size=config.eval_batch_size, device=where,
        precision=choose_precision(config.precision, where), progress=progress, rows=rows,
    )  # fmt: skip


def _headings(dataset: PairDataset, config: RunConfig) -> Tensor | None:
    return heading_shifts(len(dataset), config.data_seed) if config.heading == "random" else None


def embed_dataset(
    model: nn.Module,
    dataset: PairDataset,
    config: RunConfig,
    device: torch.device | str | None = None,
    progress: bool = False,
    ranks: Ranks = ALONE,
) -> Embeddings:
    """Both views of a data set as the configuration says. Unknown headings come from ``data_seed``, so all models meet the same ones.

    With several ``ranks`` all of them make this call: each embeds its share, and all get the whole.
    """

    def embedded(view: View, n: int) -> Tensor:
        if ranks.size == 1:
            return embed_view(model, dataset, view, config, device, progress)
        # A process without rows embeds one all the same: the others need to know nothing of it, and it learns the width.
        sizes, share = ranks.sizes(n), ranks.share(n)
        rows = embed_view(model, dataset, view, config, device, progress, share if len(share) else range(1))[: len(share)]
        where = torch.device(device) if device is not None else next(model.parameters()).device
        return ranks.gather(rows.to(where), sizes).cpu()

    query, reference = embedded("ground", len(dataset)), embedded("aerial", dataset.n_references)
    shift = _headings(dataset, config)
    return Embeddings(query, reference, shift, own_similarity(model))


def own_similarity(model: nn.Module) -> Similarity | None:
    """A model's similarity where its class has one of its own."""
    inner = getattr(model, "model", model)  # of a limited view
    plain = not isinstance(inner, CrossViewModel) or type(inner).similarity is CrossViewModel.similarity
    return None if plain else cast(CrossViewModel, inner).similarity


def nearest_references(embeddings: Embeddings, k: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The k nearest references of each query under the model's similarity: similarities and indices, N x k, on the CPU."""
    query = embeddings.query.to(device)
    if embeddings.similarity is None:
        return top_k(query, embeddings.reference, k)
    return matched_top_k(query, embeddings.reference.to(device), k, embeddings.similarity)


def rank_of(embeddings: Embeddings, positive: Array, ties: Ties = "against", device: torch.device | str = "cpu") -> Tensor:
    """How many references come before each query's positive under the model's similarity: N integers, on the CPU; 0 is the best rank."""
    query = embeddings.query.to(device)
    if embeddings.similarity is None:
        return ranks(query, embeddings.reference, positive, ties)
    right = list(np.asarray(positive)[:, None])
    return matched_ranks(query, embeddings.reference.to(device), right, embeddings.similarity, ties)


def evaluate(
    model: nn.Module,
    dataset: PairDataset,
    config: RunConfig,
    device: torch.device | str | None = None,
    progress: bool = False,
    protocol: str = "",
) -> dict[str, float | int]:
    """Recalls of a model on a data set.

    Args:
        model: has ``encode_ground`` and ``encode_aerial``.
        dataset: of any area, also of another data set than the model was trained on.
        config: of the run: sizes, normalisation, polar, field of view, heading, ties.
        device: where to compute; None = where the model is.
        progress: show bars.
        protocol: ``cvusa``, ``vigor`` or ``within_5m``; empty = the data set's own.

    Returns:
        See :func:`geodtr_lib.evaluation.retrieval_metrics`.

    Raises:
        ConfigError: an unknown protocol.
        DatasetError: ``within_5m`` on a data set without positions.
    """
    device = torch.device(device) if device is not None else next(model.parameters()).device
    return score(embed_dataset(model, dataset, config, device, progress), dataset, config.ties, protocol, device)


def score(
    embeddings: Embeddings,
    dataset: PairDataset,
    ties: Ties = "against",
    protocol: str = "",
    device: torch.device | str | None = None,
) -> dict[str, float | int]:
    """Recalls of embeddings that are there already; see :func:`evaluate`. The gallery goes to ``device`` block by block."""
    query = embeddings.query.to(device)
    protocol = choose_protocol(protocol, dataset)
    if embeddings.similarity is not None:
        right, semi = right_references(dataset, protocol)
        rule = protocol if protocol in PROTOCOLS else "cvusa"
        return matched_metrics(query, embeddings.reference.to(device), right, embeddings.similarity, rule, ties, semi)
    if protocol == "within_5m":
        query_position, reference_position = cast("tuple[np.ndarray, np.ndarray]", (dataset.query_position, dataset.reference_position))
        return recall_within(query, embeddings.reference, query_position, reference_position, ties=ties)
    return retrieval_metrics(query, embeddings.reference, dataset.positive, protocol, dataset.semi_positive, ties)


def choose_protocol(protocol: str, dataset: PairDataset) -> str:
    """``protocol``, or the data set's own when empty.

    Raises:
        ConfigError: an unknown protocol.
        DatasetError: ``within_5m`` on a data set without positions.
    """
    protocol = protocol or ("vigor" if dataset.name == "vigor" else "cvusa")
    if protocol not in (*PROTOCOLS, "within_5m"):
        raise ConfigError(f"protocol: {protocol!r} is not known; allowed: {', '.join(PROTOCOLS)}, within_5m")
    if protocol == "within_5m" and (dataset.query_position is None or dataset.reference_position is None):
        raise DatasetError(f"{dataset.name} {dataset.area} has no positions in metres, which the protocol within_5m needs")
    return protocol


def _count(dataset: PairDataset, view: View) -> int:
    return len(dataset) if view == "ground" else dataset.n_references


def _batches(dataset: PairDataset, view: View, batch_size: int, rows: range) -> Iterator[tuple[int, Tensor]]:
    """First index and images of each batch; the next batch is read while this one is computed."""
    read = dataset.ground if view == "ground" else dataset.aerial
    starts, n = range(rows.start, rows.stop, batch_size), rows.stop
    with ThreadPoolExecutor(1) as reader:
        upcoming = None
        for start in starts:
            current = upcoming or reader.submit(read, range(start, min(start + batch_size, n)))
            following = start + batch_size
            upcoming = reader.submit(read, range(following, min(following + batch_size, n))) if following < n else None
            yield start, current.result()
