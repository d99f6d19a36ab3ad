"""Depthwise convolutions with quick bf16 gradients: equal to torch's and timm's in everything but rounding."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.models.depthwise import DepthwiseConv2d, quicken_depthwise

CONVOLUTIONS = {
    "ConvNeXt": lambda: nn.Conv2d(8, 8, 7, padding=3, groups=8),
    "strided": lambda: nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False),
    "TensorFlow's padding": lambda: Conv2dSame(8, 8, 5, stride=2, groups=8, bias=False),
    "stride along one side": lambda: nn.Conv2d(8, 8, 3, stride=(1, 2), padding=1, groups=8),
    "stride that leaves a rest": lambda: nn.Conv2d(8, 8, (2, 3), stride=3, padding=(1, 0), groups=8),
    "wide padding": lambda: nn.Conv2d(8, 8, 3, padding=(4, 1), groups=8),
}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = CONVOLUTIONS[name]()
    return plain, DepthwiseConv2d.like(copy.deepcopy(plain))


def gradients(module: nn.Module, images: torch.Tensor, autocast: bool) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = module(images)
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    (found.float() * weights).sum().backward()
    return [found.detach(), images.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(11, 18), (6, 7), (2, 8)])
def test_float32_is_the_same_to_the_bit(name: str, size: tuple[int, int]) -> None:
    plain, quick = pair(name)
    images = torch.randn(3, 8, *size)
    for expected, found in zip(gradients(plain, images, False), gradients(quick, images, False), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(20, 31), (11, 18), (3, 8)])  # the gradients of small and of large maps take different ways
@pytest.mark.parametrize("channels_last", [False, True])
def test_under_autocast_the_gradients_are_those_of_float32_but_for_rounding(name: str, size: tuple[int, int], channels_last: bool) -> None:
    plain, quick = pair(name)
    images = torch.randn(3, 8, *size)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    exact = gradients(plain, images, False)
    rounded = gradients(quick, images, True)
    assert rounded[0].dtype == torch.bfloat16
    for expected, found in zip(exact, rounded, strict=True):
        assert (found.float() - expected).norm() < 0.01 * expected.norm()
    assert all(parameter.grad.dtype == torch.float32 for parameter in quick.parameters())


def test_second_use_adds_to_the_gradient_and_frozen_weights_have_none() -> None:
    _, quick = pair("ConvNeXt")
    images = torch.randn(2, 8, 9, 9)
    once = gradients(quick, images, True)[2].clone()
    twice = gradients(quick, images, True)[2]
    assert torch.allclose(twice, 2 * once, rtol=0.02)
    quick.requires_grad_(False)
    quick.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        quick(images.requires_grad_()).float().sum().backward()
    assert images.grad is not None
    assert quick.weight.grad is None


def test_a_network_keeps_its_names_and_parameters() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=2)))
    before = dict(net.state_dict(keep_vars=True))
    quicken_depthwise(net)
    after = dict(net.state_dict(keep_vars=True))
    assert list(after) == list(before)
    assert all(after[key] is before[key] for key in before)
    assert [isinstance(module, DepthwiseConv2d) for module in (net[0], net[1][0], net[1][1])] == [False, True, False]


@pytest.mark.parametrize(("name", "count"), [("convnext_tiny", 15), ("efficientnet_lite0_small", 11), ("resnet34", 0)])
def test_every_depthwise_convolution_of_a_trunk_is_replaced(name: str, count: int) -> None:
    modules = [module for module in build_backbone(name).modules() if isinstance(module, nn.Conv2d)]
    assert sum(isinstance(module, DepthwiseConv2d) for module in modules) == count
    assert all(isinstance(module, DepthwiseConv2d) for module in modules if module.groups > 1)
