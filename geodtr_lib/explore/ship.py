"""The tiny trained runs that ship with the library: how they were made, and made small."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodtr_lib.checkpoints import load_tensors, save_tensors
from geodtr_lib.explore.runs import shipped_folder
from geodtr_lib.files import read_json, write_json
from geodtr_lib.paths import runs_folder

SHIPPED: dict[str, dict[str, Any]] = {
    "helsinki-chsg": dict(dataset="osm", train_area="helsinki", sampling="L+S", n_desc=4),
    "helsinki-raw": dict(dataset="osm", train_area="helsinki", sampling="raw", n_desc=4),
}
"""What each was trained with; everything else is the preset's."""


def ship(into: str | Path = "", preset: str = "small", seed: int = 0) -> list[Path]:
    """Train every run of :data:`SHIPPED` (or read it back where it is finished) and write it small.

    Args:
        into: folder of the small runs; empty = the package's own.
        preset: size of the training.
        seed: of the training.

    Returns:
        Their folders.
    """
    from geodtr_lib.training import run  # late: this is the one place here that trains

    into = Path(into) if into else shipped_folder()
    made = []
    for name, values in SHIPPED.items():
        metrics = run({"preset": preset, "seed": seed, "run_dir": str(runs_folder() / f"shipped-{preset}-{name}"), **values})
        made.append(pack(metrics["config"]["run_dir"], into / name))
    return made


def pack(run_dir: str | Path, into: str | Path) -> Path:
    """Copy a finished run without what resuming needs, its weight matrices in half precision, its folders forgotten.

    One-dimensional tensors stay as they are: the variances of batch norms may lie outside half precision's range.

    Raises:
        RunError, CheckpointError: the run is not finished, or the folder cannot be written.
    """
    run_dir, into = Path(run_dir), Path(into)
    metrics = read_json(run_dir / "metrics.json")
    tensors, _ = load_tensors(run_dir / "model.safetensors")
    save_tensors(into / "model.safetensors", {name: _halved(value) for name, value in tensors.items()}, {"format": "pt"})
    metrics["config"] = _without_folders(metrics["config"])
    write_json(into / "metrics.json", metrics)
    write_json(into / "config.json", _without_folders(read_json(run_dir / "config.json")))
    return into


def _halved(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.ndim > 1 and value.dtype == torch.float32 else value


def _without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "run_dir": "", "data_root": "", "test_roots": {}}
