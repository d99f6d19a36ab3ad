"""Models by name. A model takes ``(aerial, ground)`` images and gives unit embeddings of both (:mod:`geodtr_lib.models.base`).

The configuration's values are used as they stand. The paper's settings: GeoDTR+ ``backbone="convnext_tiny", gle="v2", ffn_width=512``;
GeoDTR ``backbone="resnet34", gle="v1", ffn_width=2048``. The other methods (:mod:`geodtr_lib.models.baselines`) stand on any backbone too;
``n_desc`` counts SAFA's and VIGOR's maps, and CVM-Net's embedding has ``n_desc`` values for each channel of the backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import ConfigError
from geodtr_lib.geometry import field_of_view_width
from geodtr_lib.models.backbones import Backbone
from geodtr_lib.models.base import CrossViewModel
from geodtr_lib.models.baselines.cvft import Cvft
from geodtr_lib.models.baselines.cvm_net import CvmNet
from geodtr_lib.models.baselines.dsm import Dsm
from geodtr_lib.models.baselines.l2ltr import L2ltr
from geodtr_lib.models.baselines.liu_li import LiuLi
from geodtr_lib.models.baselines.safa import Safa
from geodtr_lib.models.baselines.sample4geo import Sample4Geo
from geodtr_lib.models.baselines.tokens import patch_side
from geodtr_lib.models.baselines.transgeo import TransGeo
from geodtr_lib.models.baselines.vigor import Vigor
from geodtr_lib.models.geodtr import GeoDTR

__all__ = ["MODELS", "CrossViewModel", "GeoDTR", "build_model"]


def _common(config: RunConfig) -> dict[str, Any]:
    """What every model is built with."""
    return dict(
        backbone=config.backbone,
        aerial_size=config.aerial_size,
        ground_size=(config.ground_size[0], field_of_view_width(config.ground_size[1], config.fov)),
        pretrained=config.pretrained,
    )


def _transformer(config: RunConfig) -> dict[str, Any]:
    return dict(heads=config.heads, layers=config.layers, ffn_width=config.ffn_width, dropout=config.dropout)


def _geodtr(config: RunConfig) -> GeoDTR:
    return GeoDTR(
        **_common(config),
        **_transformer(config),
        gle=config.gle,
        n_desc=config.n_desc,
        activation=config.activation,
        bottleneck=config.bottleneck,
        share_backbone=config.share_backbone,
        gle_start=config.gle_start,
    )


def _cvm_net(config: RunConfig, variant: str) -> CvmNet:
    return CvmNet(**_common(config), variant=variant, per_channel=config.n_desc)


def _tokens(config: RunConfig, plain: int) -> dict[str, Any]:
    """Options of the transformers on tokens. Where no width is given, plain patches have ``plain`` and a trunk's tokens its channels."""
    width = config.token_width or (plain if patch_side(config.backbone) else 0)
    return {**_common(config), **_transformer(config), "width": width}


MODELS: dict[str, Callable[[RunConfig], CrossViewModel]] = {
    "geodtr": _geodtr,
    "cvm_net": lambda config: _cvm_net(config, "I"),
    "cvm_net_ii": lambda config: _cvm_net(config, "II"),
    "liu_li": lambda config: LiuLi(**_common(config), polar=config.polar, fov=config.fov),
    "cvft": lambda config: Cvft(**_common(config)),
    "safa": lambda config: Safa(**_common(config), maps=config.n_desc),
    "safa_mean": lambda config: Safa(**_common(config), maps=config.n_desc, reduce="mean"),
    "dsm": lambda config: Dsm(**_common(config)),
    "l2ltr": lambda config: L2ltr(**_tokens(config, 768)),
    "transgeo": lambda config: TransGeo(**_tokens(config, 384)),
    "transgeo_zoom": lambda config: TransGeo(**_tokens(config, 384), zoom=1.25, keep=0.64),
    "vigor": lambda config: Vigor(**_common(config), maps=config.n_desc),
    "sample4geo": lambda config: Sample4Geo(**_common(config)),
}

NEEDS_HEADING, _NEEDS_POLAR = frozenset({"liu_li"}), frozenset({"dsm"})


def build_model(config: RunConfig) -> CrossViewModel:
    """The model that ``config.model`` names, built from the configuration.

    Raises:
        ConfigError: an unknown model or backbone, an impossible value, or data that the method cannot take.
        CheckpointError: pretrained weights that cannot be had.
    """
    if config.model not in MODELS:
        raise ConfigError(f"model: {config.model!r} is not known; allowed: {', '.join(MODELS)}")
    if config.model in NEEDS_HEADING and config.heading == "random":
        raise ConfigError(f"heading: 'random' is not possible with model {config.model!r}, which is told where the panorama looks")
    if config.model in _NEEDS_POLAR and not config.polar:
        raise ConfigError(f"polar: False is not possible with model {config.model!r}, which compares along the azimuth of unrolled tiles")
    if config.share_backbone and config.model != "geodtr":
        raise ConfigError(f"share_backbone: True is an option of model 'geodtr'; {config.model!r} is built as its paper says")
    model = MODELS[config.model](config)
    trunks = [module for module in model.modules() if isinstance(module, Backbone)]
    if not trunks and config.pretrained and config.model != "transgeo":  # which takes DeiT's weights
        raise ConfigError(f"pretrained: there are no weights of {config.backbone!r} for {config.model!r}; give pretrained=False")
    if config.frozen_stride:
        if not trunks:
            raise ConfigError(f"frozen_stride: {config.backbone!r} has no levels to freeze; give frozen_stride=0")
        for trunk in trunks:
            trunk.freeze(config.frozen_stride)
    if config.learn_temperature:
        model.temper(config.temperature)
    return model
