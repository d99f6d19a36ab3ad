"""Frozen levels of a trunk: they take part in the forward pass and in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geodtr_lib.checkpoints import load_checkpoint, save_model
from geodtr_lib.config import resolve_config
from geodtr_lib.errors import ConfigError
from geodtr_lib.models import build_model
from geodtr_lib.models.backbones import build_backbone


@pytest.mark.parametrize(
    ("name", "stride", "frozen", "trained"),
    [
        ("efficientnet_lite0_small", 2, {"conv_stem", "bn1", "blocks.0"}, {"blocks.1", "blocks.4"}),
        ("efficientnet_lite0_small", 4, {"conv_stem", "bn1", "blocks.0", "blocks.1"}, {"blocks.2"}),
        ("resnet18_small", 4, {"conv1", "bn1", "layer1"}, {"layer2"}),
        ("convnext_tiny", 8, {"stem_0", "stages_0", "stages_1"}, {"stages_2"}),
    ],
)
def test_levels_up_to_the_stride_are_frozen_and_no_others(name: str, stride: int, frozen: set[str], trained: set[str]) -> None:
    trunk = build_backbone(name)
    trunk.freeze(stride)
    trunk.train()
    for part in frozen:
        module = trunk.net.get_submodule(part)
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert not module.training
    for part in trained:
        module = trunk.net.get_submodule(part)
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert module.training


def test_a_training_pass_leaves_frozen_levels_as_they_are_and_reaches_all_others() -> None:
    trunk = build_backbone("efficientnet_lite0_small")
    trunk.freeze(2)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk.train()
    trunk(torch.randn(4, 3, 32, 64)).square().sum().backward()
    torch.optim.SGD([parameter for parameter in trunk.parameters() if parameter.requires_grad], 0.1).step()
    same = {key for key, value in trunk.state_dict().items() if torch.equal(value, before[key])}
    expected = {key for key in before if key.startswith(("net.conv_stem", "net.bn1", "net.blocks.0."))}
    assert same == expected


def test_the_forward_pass_in_evaluation_is_that_of_the_free_trunk() -> None:
    torch.manual_seed(0)
    trunk = build_backbone("resnet18_small").eval()
    images = torch.randn(2, 3, 32, 64)
    free = trunk(images)
    trunk.freeze(4)
    assert torch.equal(trunk(images), free)


def test_what_cannot_be_frozen_says_what_can() -> None:
    with pytest.raises(ConfigError, match="frozen_stride: 3 is no level of backbone 'resnet18_small'; allowed: 0, 2, 4, 8"):
        build_backbone("resnet18_small").freeze(3)
    with pytest.raises(ConfigError, match="frozen_stride: 4 needs pretrained=True"):
        resolve_config("smoke", frozen_stride=4)


def test_a_model_with_frozen_levels_is_stored_and_loaded(tmp_path: Path) -> None:
    config = resolve_config("small")
    assert config.frozen_stride
    model = build_model(config).eval()
    save_model(tmp_path, model, config.to_dict())
    loaded = load_checkpoint(tmp_path)
    images = torch.randn(2, 3, *config.ground_size)
    assert torch.equal(loaded.encode_ground(images), model.encode_ground(images))


def test_a_trunk_without_weights_is_not_frozen_by_a_preset() -> None:
    assert resolve_config("small", backbone="resnet18_small").frozen_stride == 0
    assert resolve_config("small", pretrained=False).frozen_stride == 0
