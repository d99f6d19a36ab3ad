"""What a finished run finds and looks at, on a few places: the pictures of ``ablation.ipynb``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib import evaluation, geometry, plots
from geodtr_lib.data import inputs
from geodtr_lib.data.base import PairDataset
from geodtr_lib.evaluation.descriptors import describe_pairs
from geodtr_lib.models.geodtr import GeoDTR
from geodtr_lib.study.trained import open_trained


def retrievals(run_dir: str | Path, test: PairDataset, n: int = 5, shown: int = 5, progress: bool = False) -> tuple[Figure, Tensor]:
    """The nearest tiles of ``n`` queries that stand evenly in the data set, computed as the run's own evaluation was.

    Args:
        run_dir: folder of a finished run.
        test: its test places, or another data set that it can take.
        n: queries that are shown.
        shown: tiles of each.
        progress: show bars.

    Returns:
        The picture, and the ranks of all queries (N, 1 is first).
    """
    trained = open_trained(run_dir)
    config, model = trained.config, trained.model.to(trained.config.device)
    embeddings = evaluation.embed_dataset(model, test, config, progress=progress)
    ranks = 1 + evaluation.rank_of(embeddings, test.positive, config.ties, config.device)
    chosen = (np.arange(n) * len(test)) // n
    few = evaluation.Embeddings(embeddings.query[chosen], embeddings.reference, similarity=embeddings.similarity)
    nearest = evaluation.nearest_references(few, shown, config.device)[1]  # n x shown
    positive = np.asarray(test.positive)[chosen]
    tiles = test.aerial(nearest.flatten()).unflatten(0, nearest.shape)  # n x shown x 3 x S x S
    right = nearest == torch.as_tensor(positive)[:, None]
    return plots.top_retrievals(test.ground(chosen), tiles, right, test.aerial(positive), ranks[chosen]), ranks


def descriptors_of(run_dir: str | Path, test: PairDataset, index: int = 0) -> Figure | None:
    """The descriptors of one pair, laid over the images that the model was given; None for a method without descriptors."""
    trained = open_trained(run_dir)
    config, model = trained.config, trained.model
    if not isinstance(model, GeoDTR):
        return None
    ground_maps, aerial_maps = describe_pairs(model, test, [index], config)
    aerial = inputs.fit_aerial(test.aerial(np.asarray(test.positive)[[index]]), config.aerial_size, config.polar, test.aerial_is_polar)
    ground = geometry.crop_field_of_view(inputs.fit_ground(test.ground([index]), config.ground_size), config.fov)
    return plots.descriptor_maps(aerial[0], ground[0], aerial_maps[0], ground_maps[0])
