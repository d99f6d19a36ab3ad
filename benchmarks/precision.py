"""Recall and training time in bf16 against float32, at the `small` preset.

    python benchmarks/precision.py --seeds 0 1 2 --runs-dir runs/precision --json benchmarks/results/precision.json

Each seed has a city of its own, not the one that the README reports. Runs that are finished in the folder are read back.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pandas as pd
from measuring import arguments, finish

from geodtr_lib import training
from geodtr_lib.config import resolve_config
from geodtr_lib.study.results import paired_difference

FIRST_DATA_SEED = 1  # 0 is reported


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/precision"))
    chosen = parser.parse_args()
    recalls, seconds = [], {}
    for seed in chosen.seeds:
        for precision in ("fp32", "bf16"):
            folder = str(chosen.runs_dir / f"{precision}-{seed}")
            config = resolve_config(
                "small", seed=seed, data_seed=seed + FIRST_DATA_SEED, precision=precision, device=chosen.device, run_dir=folder
            )
            metrics = training.run(config)
            seconds[seed, precision] = metrics["train"]["seconds"]
            recalls += [
                {"seed": seed, "train_area": config.train_area, "area": area, "precision": precision, **found}
                for area, found in metrics["evaluation"].items()
            ]
    rows = []
    for _, gain in paired_difference(pd.DataFrame(recalls), "precision", "fp32", within="protocol").iterrows():
        named = f"R@1 in bf16 minus in float32, {gain['protocol']}-area, points"
        rows.append({"figure": f"{named}: mean of {gain['n']:.0f} seeds", "value": 100 * gain["mean"]})
        rows.append({"figure": f"{named}: lower end of its 95 % interval", "value": 100 * gain["low"], "bound": "<= 0"})
        rows.append({"figure": f"{named}: upper end", "value": 100 * gain["high"], "bound": ">= 0"})
    faster = statistics.median(seconds[seed, "fp32"] / seconds[seed, "bf16"] for seed in chosen.seeds)
    rows.append({"figure": "training in bf16, times as fast as in float32", "value": faster})
    settings = {"preset": "small", "seeds": " ".join(map(str, chosen.seeds)), "backbone": config.backbone, "device": chosen.device}
    finish("precision", settings, rows, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
