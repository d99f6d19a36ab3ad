"""Models by name. A model takes ``(aerial, ground)`` images and gives :class:`~geodtr_lib.models.geodtr.Embeddings`.

The configuration's values are used as they stand. The paper's settings: GeoDTR+ ``backbone="convnext_tiny", gle="v2", ffn_width=512``;
GeoDTR ``backbone="resnet34", gle="v1", ffn_width=2048``.
"""

from __future__ import annotations

from collections.abc import Callable

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import ConfigError
from geodtr_lib.geometry import field_of_view_width
from geodtr_lib.models.geodtr import GeoDTR

__all__ = ["MODELS", "GeoDTR", "build_model"]


def _geodtr(config: RunConfig) -> GeoDTR:
    return GeoDTR(
        backbone=config.backbone,
        gle=config.gle,
        n_desc=config.n_desc,
        aerial_size=config.aerial_size,
        ground_size=(config.ground_size[0], field_of_view_width(config.ground_size[1], config.fov)),
        pretrained=config.pretrained,
        activation=config.activation,
        bottleneck=config.bottleneck,
        heads=config.heads,
        layers=config.layers,
        ffn_width=config.ffn_width,
        dropout=config.dropout,
        frozen_stride=config.frozen_stride,
    )


MODELS: dict[str, Callable[[RunConfig], GeoDTR]] = {"geodtr": _geodtr}


def build_model(config: RunConfig) -> GeoDTR:
    """The model that ``config.model`` names, built from the configuration.

    Raises:
        ConfigError: an unknown model or backbone, or an impossible value.
        CheckpointError: pretrained weights that cannot be had.
    """
    if config.model not in MODELS:
        raise ConfigError(f"model: {config.model!r} is not known; allowed: {', '.join(MODELS)}")
    return MODELS[config.model](config)
