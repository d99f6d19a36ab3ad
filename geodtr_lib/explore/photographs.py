"""From render to reality: a model trained on rendered pictures, tried on photographs of real places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geodtr_lib.data.photographed import open_photographed, read_samples
from geodtr_lib.data.photos import vertical_fov
from geodtr_lib.data.site_views import TILE_METRES
from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation import Embeddings, embed, embed_view, own_similarity, rank_of, recall_interval
from geodtr_lib.study.trained import Trained


def photographed_ranks(
    trained: Trained, folder: str | Path, fov: float = 90.0, *, metres_per_pixel: float = 0.5, tile_metres: float = 0.0
) -> pd.DataFrame:
    """Rank of each real place's own tile among the tiles of all.

    Args:
        trained: the model. One of limited view is given that much of the canvas, in the middle of which is the photo.
        folder: see :func:`geodtr_lib.data.photographed.open_photographed`.
        fov: field of view of the street photos, degrees.
        metres_per_pixel: of the orthophotos.
        tile_metres: side on the ground of the tiles that the model was trained on; 0 = that of the rendered ones.

    Returns:
        One row per place: ``place``, ``rank`` (1 is best, ties against it), ``n`` (tiles).

    Raises:
        ConfigError: a model of photographed tiles, and no ``tile_metres``.
    """
    config = trained.config
    if not (tile_metres or config.embedded):
        where = f"{trained.path} was trained on {config.dataset}"
        raise ConfigError(f"tile_metres: {where}; say how many metres its tiles show from side to side")
    places = open_photographed(
        folder, config.ground_size, config.tile_size, fov=fov, metres_per_pixel=metres_per_pixel, tile_metres=tile_metres or TILE_METRES,
        normalisation=config.normalisation, vertical=vertical_fov(config.dataset),
    )  # fmt: skip
    # A model of whole panoramas is given the canvas as it is, north in the middle.
    headings = torch.tensor(read_samples(folder)["Compass_angle"].to_numpy()) if config.fov < 360 else None
    query = embed(
        trained.model, places, "ground", config.ground_size, normalisation=config.normalisation, fov=config.fov, shift=headings,
        batch_size=config.eval_batch_size,
    )  # fmt: skip
    reference = embed_view(trained.model, places, "aerial", config.replace(precision="fp32"))
    rank = 1 + rank_of(Embeddings(query, reference, similarity=own_similarity(trained.model)), places.positive).numpy()
    return pd.DataFrame({"place": list(places.query_ids), "rank": rank, "n": places.n_references})


def photographed_table(
    trained: Mapping[str, Trained], folder: str | Path, views: Sequence[float] = (90.0,), **scale: float
) -> pd.DataFrame:
    """:func:`rank_summary` of several runs, for several guesses of the photos' field of view.

    Args:
        scale: ``metres_per_pixel`` and ``tile_metres`` of :func:`photographed_ranks`.

    Returns:
        One row per run and field of view: ``run``, ``fov``, ``ranks`` (text), and what :func:`rank_summary` gives.
    """
    rows = []
    for name, some in trained.items():
        for fov in views:
            table = photographed_ranks(some, folder, fov, **scale)
            ranks_of = " ".join(str(rank) for rank in table["rank"])
            rows.append({"run": name, "fov": fov, **rank_summary(table), "ranks": ranks_of})
    return pd.DataFrame(rows)


def rank_summary(table: pd.DataFrame) -> dict[str, float | int]:
    """What the ranks of :func:`photographed_ranks` say, with the level of chance.

    Returns:
        ``r1`` with ``low`` and ``high`` (Wilson's 95 %), ``chance_r1``, ``mean_rank``, ``chance_mean_rank``, ``p``: how likely ranks drawn
        at random, independently, have a mean as low or lower; ``n``.
    """
    rank, n = table["rank"].to_numpy(), int(table["n"].iloc[0])
    low, high = recall_interval(float((rank == 1).mean()), len(rank))
    # Distribution of a sum of ranks, each uniform on 1..n.
    total = np.ones(1)
    for _ in rank:
        total = np.convolve(total, np.full(n, 1 / n))
    p = float(total[: int(rank.sum()) - len(rank) + 1].sum())
    return {
        "r1": float((rank == 1).mean()), "low": low, "high": high, "chance_r1": 1 / n, "mean_rank": float(rank.mean()),
        "chance_mean_rank": (n + 1) / 2, "p": p, "n": len(rank),
    }  # fmt: skip
