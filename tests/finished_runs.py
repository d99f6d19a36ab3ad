"""What a finished run leaves in its folder, without the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geodtr_lib.config import RunConfig


def finish(config: RunConfig, recalls: dict[str, dict[str, float]] | None = None) -> dict[str, Any]:
    """Write what a finished run leaves."""
    measured = recalls or {"midrise": {"r1": 0.5}}
    metrics = {
        "config": config.to_dict() | {"device": "cpu", "precision": "fp32"},
        "versions": {"torch": "2.14"},
        "data": {"hash": "ab", "n_train": 64, "n_test": {"midrise": 64}},
        "train": {"epochs": 1, "seconds": 2.0, "pairs_per_second": 32.0, "loss": [2.0, 1.5], "triplet_loss": [1.0, 0.5]},
        "evaluation_seconds": 0.5,
        "evaluation": {
            area: {"protocol": "same" if area == "midrise" else "cross", "n_query": 64, "n_gallery": 64, **values}
            for area, values in measured.items()
        },
    }
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return metrics
