"""The authors' checkpoints: their names for our tensors, and the settings that tensors tell.

GeoDTR+ and GeoDTR are written in torchvision's modules, ours in timm's: the tensors are the same (ConvNeXt's layer scale but for its
shape), their names are not. ``grd`` and ``sat`` are the ground and the aerial branch.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geodtr_lib.errors import CheckpointError
from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.models.base import Size
from geodtr_lib.models.geodtr import GeoDTR

# The authors' word for a backbone, and the prefix of its keys.
BACKBONES: dict[str, tuple[str, str]] = {"convnext_tiny": ("convnext", "net."), "resnet34": ("resnet", "layers.")}
# Image sizes of CVUSA and CVACT (panorama or polar, tile) and of VIGOR (panorama, tile); their numbers of positions all differ.
IMAGE_SIZES: tuple[Size, ...] = ((122, 671), (256, 256), (320, 640), (320, 320))

_SIDE = {"aerial_branch": "sat", "ground_branch": "grd"}
_CONVNEXT_BLOCK = {"gamma": "layer_scale", "conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}
_LAYOUT_EXTRACTOR = {
    "v1": {
        "index_weight": "tr_module.pos_encoder.linear",
        "position": "tr_module.pos_encoder.embedding_parameter",
        "transformer": "tr_module.transformer_encoder",
    },
    "v2": {
        "bottleneck.w1": "w1",
        "bottleneck.b1": "b1",
        "bottleneck.w2": "w2",
        "bottleneck.b2": "b2",
        "position": "pe.pe",
        "transformer": "transformer_encoder",
    },
}
_PREFIX = {"v1": "ge", "v2": "GLE"}


def released_name(key: str, gle: str) -> str:
    """The authors' name of one of our tensors."""
    branch, part, rest = key.split(".", 2)
    if part == "backbone":
        return f"backbone_{_SIDE[branch]}.{_backbone_name(rest.removeprefix('net.'))}"
    for ours, theirs in _LAYOUT_EXTRACTOR[gle].items():
        if rest == ours or rest.startswith(f"{ours}."):
            rest = theirs + rest[len(ours) :]
            break
    return f"{_PREFIX[gle]}_{_SIDE[branch]}.{rest}"


def _backbone_name(key: str) -> str:
    if match := re.fullmatch(r"stem_(\d)\.(.+)", key):
        return f"net.0.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"stages_(\d)\.downsample\.(.+)", key):
        return f"net.{2 * int(match[1])}.{match[2]}"
    if match := re.fullmatch(r"stages_(\d)\.blocks\.(\d+)\.(gamma|conv_dw|norm|mlp\.fc1|mlp\.fc2)(.*)", key):
        return f"net.{2 * int(match[1]) + 1}.{match[2]}.{_CONVNEXT_BLOCK[match[3]]}{match[4]}"
    if match := re.fullmatch(r"layer(\d)\.(.+)", key):
        return f"layers.{int(match[1]) + 2}.{match[2]}"  # 2 is the ReLU
    return re.sub(r"^bn1\.", "layers.1.", re.sub(r"^conv1\.", "layers.0.", key))


def to_released(model: GeoDTR) -> dict[str, Tensor]:
    """The model's tensors under the authors' names and shapes.

    A model without bottleneck gets one at its initial bias, because their GeoDTR+ always holds those tensors.

    Raises:
        CheckpointError: a model that the authors' code cannot build.
    """
    if model.backbone not in BACKBONES:
        raise CheckpointError(f"the released code knows no backbone {model.backbone!r}; it has {', '.join(BACKBONES)}")
    own = "sigmoid" if model.gle == "v2" else "hardtanh"
    if model.activation != own:
        raise CheckpointError(f"the released {model.gle} does not know activation={model.activation!r}; train with activation={own!r}")
    state = {}
    for key, value in model.state_dict().items():
        state[released_name(key, model.gle)] = value[:, None, None] if key.endswith(".gamma") else value
    for side, branch in (("grd", model.ground_branch), ("sat", model.aerial_branch)):
        extractor = branch.layout_extractor
        positions = extractor.height * extractor.width
        if model.gle == "v2":
            for name, value in _unused_bottleneck(model.n_desc, positions).items():
                state.setdefault(f"GLE_{side}.{name}", value)
        elif positions % 2 or positions // 2 % model.heads:
            raise CheckpointError(f"the released v1 needs an even number of positions, its half divisible by the heads, not {positions}")
    return state


def _unused_bottleneck(n_desc: int, positions: int) -> dict[str, Tensor]:
    hidden = positions // 2
    weights = {"w1": torch.zeros(n_desc, positions, hidden), "w2": torch.zeros(n_desc, hidden, positions)}
    return {**weights, "b1": torch.full((1, n_desc, hidden), 0.1), "b2": torch.full((1, n_desc, positions), 0.1)}


def from_released(state: Mapping[str, Tensor], model: GeoDTR) -> dict[str, Tensor]:
    """The authors' tensors under our names and shapes; ``state`` has the keys of ``to_released(model)``.

    A model without bottleneck has no place for the tensors ``w1 b1 w2 b2`` that each released GeoDTR+ branch holds: they are dropped.
    """
    named = {key: state[released_name(key, model.gle)] for key in model.state_dict()}
    return {key: value.flatten() if key.endswith(".gamma") else value for key, value in named.items()}


def infer_settings(state: Mapping[str, Tensor], parameters: Mapping[str, Any], source: str, **given: Any) -> dict[str, Any]:
    """Arguments of :class:`GeoDTR` from released tensors, and from the parameter file what tensors do not tell.

    Heads (4 without a parameter file) and whether the bottleneck is used (yes without one) come from the parameter file. Image sizes are
    those of the paper's data sets that have as many positions, unless ``parameters`` or ``given`` name them.

    Args:
        state: tensors by the authors' names, without ``module.``.
        parameters: content of the parameter file; keys that are not about the model are ignored.
        source: file, for messages.
        given: arguments of :class:`GeoDTR` that are known better; None = not known.

    Raises:
        CheckpointError: tensors of no GeoDTR, parameters that contradict them, or an image size that cannot be told.
    """
    told = {name.lower(): value for name, value in parameters.items()}
    gle = next((version for version, prefix in _PREFIX.items() if _has(state, f"{prefix}_grd.")), None)
    backbone = next((name for name, (_, prefix) in BACKBONES.items() if _has(state, f"backbone_grd.{prefix}")), None)
    if gle is None or backbone is None:
        keys = ", ".join(list(state)[:5])
        raise CheckpointError(f"{source} is no released GeoDTR: it needs keys backbone_grd.* and GLE_grd.* or ge_grd.*, and has {keys}")
    prefix = f"{_PREFIX[gle]}_grd."
    encoder = f"{prefix}{_LAYOUT_EXTRACTOR[gle]['transformer']}.layers."
    settings: dict[str, Any] = {
        "gle": gle,
        "backbone": backbone,
        "n_desc": _length(state, *((f"{prefix}pointwise.bias", 0) if gle == "v2" else (f"{prefix}w1", 1)), source),
        "layers": len({key.removeprefix(encoder).split(".")[0] for key in state if key.startswith(encoder)}),
        "ffn_width": _length(state, f"{encoder}0.linear1.bias", 0, source),
        "heads": _told_heads(told.get("tr_heads", 4), source),
        "bottleneck": bool(told.get("bottleneck", True)),
    }
    if gle == "v2" and (other := [name for name in ("normalize", "orthogonalize") if told.get(name)]):
        raise CheckpointError(f"{source} was trained with {other[0]}, which replaces the sigmoid; such models cannot be loaded")
    # A parameter file of another checkpoint would also have the wrong heads.
    expected = {"descriptors": settings["n_desc"]}
    if gle == "v2":
        expected |= {"tr_layers": settings["layers"], "tr_dim": settings["ffn_width"], "backbone": BACKBONES[backbone][0]}
    for name, value in expected.items():
        if str(told.get(name, value)).lower() != str(value):
            raise CheckpointError(f"{source}: the parameter file says {name}={told[name]!r} but the tensors have {value!r}")
    settings |= {key: value for key, value in given.items() if value is not None}
    for view, side in (("aerial", "sat"), ("ground", "grd")):
        if f"{view}_size" not in settings:
            positions = _length(state, *((f"GLE_{side}.pe.pe", 1) if gle == "v2" else (f"ge_{side}.w1", 0)), source)
            own = told.get(view)
            size = _told_size(view, own, source) if isinstance(own, list) else _sizes_by_positions(backbone).get(positions)
            if size is None:
                raise CheckpointError(f"{source}: no known image size gives {positions} positions; give {view}_size=(height, width)")
            settings[f"{view}_size"] = size
    return settings


def _told_heads(value: Any, source: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,3}", str(value)):
        raise CheckpointError(f"{source}: the parameter file says tr_heads={value!r}; it must be a whole number of at least 1")
    return int(value)


def _told_size(view: str, value: list[Any], source: str) -> Size:
    if len(value) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in value):
        raise CheckpointError(f"{source}: the parameter file says {view}={value!r}; it must be [height, width] in pixels")
    return value[0], value[1]


def _has(state: Mapping[str, Tensor], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)


def _length(state: Mapping[str, Tensor], key: str, axis: int, source: str) -> int:
    if key not in state or state[key].ndim <= axis:
        raise CheckpointError(f"{source} lacks the key {key}, or its shape is wrong")
    return state[key].shape[axis]


@functools.cache
def _sizes_by_positions(backbone: str) -> dict[int, Size]:
    """Image size by number of feature positions."""
    with torch.device("meta"):
        trunk = build_backbone(backbone)
    return {math.prod(trunk.feature_size(size)): size for size in IMAGE_SIZES}
