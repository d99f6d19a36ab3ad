"""How far a training repeats: runs that were made twice, on other machines, with the same configuration and seeds.

On one machine the same seed gives the same numbers. Another processor rounds differently, and a training amplifies that; what two such
runs differ by is what no single run can resolve.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geodtr_lib.study.records import RUNS, Records

FOLDER = "repeats"
"""Of the results: runs of the study's grid that were made again."""
_OTHERS = (FOLDER, "methods")  # GeoDTR+ is in the grid of methods too


def repeated_runs(folder: str | Path) -> pd.DataFrame:
    """Runs that are recorded twice, from different machines.

    Args:
        folder: of the recorded tables.

    Returns:
        One row per run and protocol: ``run``, ``protocol``, ``first`` and ``second``: R@1 (fractions) averaged over the test areas that
        both have; ``precision_differs`` and ``pictures_differ``, where processors draw them not quite alike.

    Raises:
        RunError: a table cannot be read.
    """
    folder, columns = Path(folder), ["run", "protocol", "first", "second", "precision_differs", "pictures_differ"]
    first = Records(folder).read(RUNS)
    again = [rows for name in _OTHERS if len(rows := Records(folder / name).read(RUNS))]
    if first.empty or not again:
        return pd.DataFrame(columns=columns)
    keep = ["run", "protocol", "area", "r1", "version_machine", "precision", "data_hash"]
    both = first[keep].merge(pd.concat(again)[keep], on=["run", "protocol", "area"], suffixes=("", "_again"))
    both = both[both["version_machine"] != both["version_machine_again"]]
    for name in ("precision", "data_hash"):
        both[f"{name}_differs"] = both[name] != both[f"{name}_again"]
    parts = both.groupby(["run", "protocol"], sort=False)
    recalls = parts[["r1", "r1_again"]].mean()
    found = recalls.join(parts[["precision_differs", "data_hash_differs"]].any()).reset_index()
    return found.set_axis(columns, axis=1)


def training_noise(repeats: pd.DataFrame) -> dict[str, float]:
    """Standard deviation of one run's R@1 (fractions) by protocol, from :func:`repeated_runs`: root of half the mean squared difference."""
    squared = (repeats["first"] - repeats["second"]).pow(2)
    return {str(name): float(np.sqrt(part.mean() / 2)) for name, part in squared.groupby(repeats["protocol"])}
