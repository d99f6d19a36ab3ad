"""Depthwise convolutions whose bf16 gradients are fast on a CPU.

oneDNN has fast bf16 kernels for the forward pass of a depthwise convolution, but not for its gradients: those of the weights take 2 to 10
times as long as in float32, those of the input of a strided one 10 to 50 times. Both gradients are depthwise convolutions themselves, and
under bf16 autocast on a CPU they are computed as such, by the fast forward kernel:

- that of the input: the output's gradient, spread out by the stride, with the kernel turned by 180 degrees;
- that of the weights: each channel of each image with the output's gradient as its kernel, summed over the images. This is for small maps;
  where the output is larger than ``LARGEST_KERNEL``, oneDNN's own gradient in float32 is faster.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST_KERNEL = 64
"""Pixels of an output map up to which the gradient of the weights is computed with that map as the kernel."""
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
        of_x = _of_input(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    """The gradient of x, B x C x H x W, from that of the output, B x C x h x w."""
    kernel, size = weight.shape[2:], x.shape[2:]
    outside = [side - 1 - pad for side, pad in zip(kernel, padding, strict=True)]
    if min(outside) < 0:  # zeros that no pixel of x reaches
        return _by_onednn(gradient, x, weight, stride, padding, (True, False, False))[0].to(x.dtype)
    if max(stride) > 1:
        height, width = (length + side - 1 - 2 * out for length, side, out in zip(size, kernel, outside, strict=True))
        spread = gradient.new_zeros(len(x), height, width, x.shape[1])  # B x H' x W' x C, as channels-last memory lies
        spread[:, :: stride[0], :: stride[1]][:, : gradient.shape[2], : gradient.shape[3]] = gradient.permute(0, 2, 3, 1)
        gradient = spread.permute(0, 3, 1, 2)
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, outside, 1, len(weight))


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    """The gradient of the weights, C x 1 x k x k, from that of the output, B x C x h x w."""
    (batch, channels, height, width), output, kernel = x.shape, gradient.shape[2:], weight.shape[2:]
    if output.numel() > LARGEST_KERNEL:
        return _by_onednn(gradient, x, weight, stride, padding, (False, True, False))[1].to(weight.dtype)
    images = x.permute(2, 3, 0, 1).reshape(1, height, width, batch * channels).permute(0, 3, 1, 2)  # 1 x BC x H x W
    kernels = gradient.permute(2, 3, 0, 1).reshape(*output, batch * channels).permute(2, 0, 1)[:, None]  # BC x 1 x h x w
    found = F.conv2d(images, kernels, None, 1, padding, stride, batch * channels)[0]  # BC x k x k, or more where the stride leaves a rest
    found = found[:, : kernel[0], : kernel[1]].reshape(batch, channels, *kernel)
    return found.sum(0, dtype=torch.float32).to(weight.dtype)[:, None]  # C x 1 x k x k


def _by_onednn(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair, mask: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias in float32, as far as the mask asks for them."""
    wide = [tensor.float() for tensor in (gradient, x, weight)]
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        *wide, None, stride, padding, (1, 1), False, (0, 0), len(weight), mask
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
