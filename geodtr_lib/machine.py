"""Where to compute, and in what precision, where a configuration leaves it to the machine."""

from __future__ import annotations

import torch

from geodtr_lib.errors import ConfigError, first_line


def choose_device(name: str) -> torch.device:
    """The device for a configuration's ``device``; 'auto' takes CUDA or the CPU. MPS, on which nothing here has been run, is named.

    Raises:
        ConfigError: a device that torch does not know or this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"device: {name!r} is not available here ({first_line(error)}); allowed: auto, cpu, cuda, cuda:N, mps") from None
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """'fp32' or 'bf16'; 'auto' takes bf16 where the hardware multiplies it natively."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16" if native else "fp32"
    return "fp32"
