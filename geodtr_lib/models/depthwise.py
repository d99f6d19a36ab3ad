"""Depthwise convolutions whose bf16 gradients are fast on a CPU.

oneDNN has fast bf16 kernels for the forward pass of a depthwise convolution, but not for its gradients: those of the weights take 2 to 10
times as long as in float32, those of the input of a strided one 10 to 50 times. Under bf16 autocast on a CPU these are computed in
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

_Pair = tuple[int, int]


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution without bias of bf16 tensors, x B x C x H x W and weight C x 1 x k x k."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        wide = [tensor.float() for tensor in (gradient, x, weight)]
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            narrow = wide if max(ctx.stride) > 1 else [gradient, x, weight]
            of_x = _gradients(ctx, narrow, (True, False, False))[0].to(x.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = _gradients(ctx, wide, (False, True, False))[1].to(weight.dtype)
        return of_x, of_weight, None, None


def _gradients(ctx: Any, tensors: list[Tensor], mask: tuple[bool, bool, bool]) -> tuple[Tensor, Tensor, Tensor]:
    groups = len(tensors[2])
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        *tensors, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), groups, mask
    )
    return found


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise ``nn.Conv2d`` or timm's ``Conv2dSame`` (``same``: padded as TensorFlow does); only its gradients round otherwise."""

    same: bool

    @classmethod
    def like(cls, module: nn.Conv2d) -> DepthwiseConv2d:
        """A module with the same settings and the same parameters, not copies."""
        made = cls(
            module.in_channels, module.out_channels, _pair(module.kernel_size), _pair(module.stride),
            padding=0 if isinstance(module, Conv2dSame) else _pair(module.padding), groups=module.groups, bias=False, device="meta",
        )  # fmt: skip
        made.same, made.weight, made.bias = isinstance(module, Conv2dSame), module.weight, module.bias
        return made

    def forward(self, input: Tensor) -> Tensor:
        if self.same:
            input = pad_same(input, list(_pair(self.kernel_size)), list(_pair(self.stride)))
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        found: Tensor = _Depthwise.apply(input.to(dtype), self.weight.to(dtype), _pair(self.stride), _pair(self.padding))
        return found if self.bias is None else found + self.bias.to(dtype)[:, None, None]


def quicken_depthwise(net: nn.Module) -> None:
    """Put :class:`DepthwiseConv2d` in the place of every depthwise convolution of a network; names and parameters stay."""
    for name, module in list(net.named_modules()):
        if not isinstance(module, nn.Conv2d) or isinstance(module, DepthwiseConv2d):
            continue
        plain = _pair(module.dilation) == (1, 1) and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        if plain and module.groups == module.in_channels == module.out_channels > 1:
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, DepthwiseConv2d.like(module))


def _pair(values: Any) -> _Pair:
    first, second = values
    return int(first), int(second)
