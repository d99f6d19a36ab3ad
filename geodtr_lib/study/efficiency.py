"""Table VII measured: what each model costs on this machine, as rows of ``results/efficiency.csv``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geodtr_lib.config import RunConfig, default_preset, resolve_config
from geodtr_lib.evaluation.cost import embedding_length, latency, multiply_adds, search_latency
from geodtr_lib.files import digest
from geodtr_lib.machine import code_commit, versions
from geodtr_lib.models import build_model
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.study.commands import GEODTR
from geodtr_lib.study.records import EFFICIENCY, Records
from geodtr_lib.training import resolve_machine

# Names of the rows and what makes them; the sizes come from the preset.
MODELS: dict[str, dict[str, Any]] = {
    "GeoDTR": {key: value for key, value in GEODTR.items() if key != "sampling"},
    "GeoDTR+": {"n_desc": 8},
    "GeoDTR+, 6 descriptors": {"n_desc": 6},
    "GeoDTR+, 4 descriptors": {"n_desc": 4},
    "GeoDTR+, 2 descriptors": {"n_desc": 2},
}
BATCH = 32
GALLERY = 8884
"""References of the gallery that is searched: CVUSA's and CVACT's."""


def measure_efficiency(
    preset: str = "paper",
    models: Mapping[str, Mapping[str, Any]] = MODELS,
    *,
    batch: int = BATCH,
    seconds: float = 2.0,
    gallery: int = GALLERY,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure models as they are built, with random weights, which cost what trained ones do.

    Args:
        preset: whose image sizes, trunk and layout extractor are taken.
        models: name of each row, and the values that differ from the preset.
        batch: pairs at a time of the second latency.
        seconds: of each measurement.
        gallery: references that are searched.
        device: where; ``auto`` as in training.
        say: is told one line per model.

    Returns:
        One row per model: its configuration, ``parameters``, ``backbone_parameters``, ``multiply_adds`` (per pair), ``pair_ms`` and
        ``batch_ms`` (median; ``_low`` and ``_high`` are quartiles), ``dimension``, ``embedding_bytes``, ``gallery``, ``gallery_bytes``,
        ``search_ms`` (per query), versions and machine.
    """
    rows = []
    for name, values in models.items():
        # The paper measures at CVUSA's size; no data are opened.
        of_paper = {"dataset": "cvusa"} if (preset or default_preset()) == "paper" else {}
        config = resolve_machine(resolve_config(preset, **{"pretrained": False, "device": device, **of_paper, **values}))
        model: Any = build_model(config).to(config.device).eval()
        sizes = (config.aerial_size, config.ground_size)
        parameters = count_parameters(model)
        dimension = embedding_length(model, config.aerial_size)
        pair = latency(model, *sizes, 1, seconds)
        many = latency(model, *sizes, batch, seconds)
        search = search_latency(dimension, gallery, device=config.device, seconds=seconds / 2)
        rows.append({
            "model": name,
            **_configuration(config),
            "parameters": parameters.whole,
            "backbone_parameters": parameters.backbones,
            "multiply_adds": multiply_adds(model, *sizes),
            "pair_ms": pair.median,
            "pair_ms_low": pair.low,
            "pair_ms_high": pair.high,
            "batch": batch,
            "batch_ms": many.median,
            "batch_ms_low": many.low,
            "batch_ms_high": many.high,
            "dimension": dimension,
            "embedding_bytes": 4 * dimension,
            "gallery": gallery,
            "gallery_bytes": 4 * dimension * gallery,
            "search_ms": search.median,
            "search_ms_low": search.low,
            "search_ms_high": search.high,
            **{f"version_{key}": value for key, value in versions(config.device).items()},
            "version_commit": code_commit(),
        })  # fmt: skip
        if say is not None:
            say(f"{name}: {pair.median:.0f} ms a pair, {many.median:.0f} ms for {batch}; {search.median:.2f} ms to search {gallery:,}")
    return rows


def record_efficiency(rows: Sequence[Mapping[str, Any]], records: Records) -> Path:
    """Add measured rows to ``efficiency.csv``, in place of those of the same model on the same machine; gives its path."""
    for row in rows:
        records.add(digest([row["model"], row["preset"], row["version_machine"]]), {EFFICIENCY: [row]})
    return records.folder / EFFICIENCY


def _configuration(config: RunConfig) -> dict[str, Any]:
    return {
        "preset": config.preset,
        "backbone": config.backbone,
        "gle": config.gle,
        "n_desc": config.n_desc,
        "aerial_size": "x".join(map(str, config.aerial_size)),
        "ground_size": "x".join(map(str, config.ground_size)),
    }
