"""Where to compute, and in what precision, where a configuration leaves it to the machine; and what a result says of where it was made."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from geodtr_lib import __version__, paths
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


def versions(device: torch.device | str = "auto") -> dict[str, str]:
    """Versions of what determines the numbers, and the machine, where ``device`` (as in a configuration) computes."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "timm", "numpy", "scipy", "pillow")
    found = {"geodtr_lib": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}
    return {**found, "commit": code_commit(), "machine": name_of(device)}


def name_of(device: torch.device | str = "auto") -> str:
    """What the results' rows say of where they were made: the GPU or processor that computes, the system, the threads of this process."""
    where = None if str(device) == "auto" else torch.device(device)
    on_gpu = torch.cuda.is_available() and (where is None or where.type == "cuda")
    return f"{torch.cuda.get_device_name(where) if on_gpu else _processor()}, {platform.system()}, {torch.get_num_threads()} threads"


@cache  # the table of processors is long where there are many, and the status of a grid asks for every run
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def code_commit() -> str:
    """The checkout's commit, with '-dirty' when the library differs from it; empty outside a checkout.

    Recorded tables lie in the same checkout and change with every run, which is no change of what runs.
    """
    git = ["git", "-C", str(paths.PACKAGE)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
