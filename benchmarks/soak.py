"""Many runs in one process: what stays behind of each.

    python benchmarks/soak.py               50 runs of the smoke preset
    python benchmarks/soak.py --runs 200

After the first runs, which fill caches and pools, memory may grow by 1 MB a run at most, and the number of open files and of threads not
at all. The exit status says whether it held.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from geodtr_lib import training

WARM = 5
GROWTH_MB = 1.0  # of each run


def measure() -> dict[str, float]:
    """What this process holds."""
    gc.collect()
    process = psutil.Process()
    return {"memory MB": process.memory_info().rss / 1e6, "files": process.num_fds(), "threads": process.num_threads()}


def soak(runs: int, folder: Path, say: Callable[[str], None] = print, **changes: object) -> list[dict[str, float]]:
    """What the process holds after each run."""
    held = []
    for number in range(runs):
        config = {"preset": "smoke", "n_train": 16, "n_test": 16, "test_areas": ["midrise"], "seed": number, **changes}
        training.run({**config, "run_dir": str(folder / str(number))}, progress=False)
        held.append(measure())
        say(f"run {number + 1}: " + ", ".join(f"{value:.0f} {name}" for name, value in held[-1].items()))
    return held


def growth(held: list[dict[str, float]], warm: int = WARM) -> dict[str, float]:
    """How much more is held after the last run than after the first ``warm``, per run; memory as a straight line through all of them."""
    rest = held[warm:]
    line = statistics.linear_regression(range(len(rest)), [values["memory MB"] for values in rest])
    return {"memory MB": line.slope, **{name: rest[-1][name] - rest[0][name] for name in ("files", "threads")}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    runs = max(WARM + 2, parser.parse_args().runs)
    with tempfile.TemporaryDirectory() as folder:
        grown = growth(soak(runs, Path(folder)))
    kept = f"{grown['files']:+.0f} files and {grown['threads']:+.0f} threads in all"
    print(f"per run {grown['memory MB']:.2f} MB (bound {GROWTH_MB}); {kept}")
    return int(grown["memory MB"] > GROWTH_MB or grown["files"] > 0 or grown["threads"] > 0)


if __name__ == "__main__":
    sys.exit(main())
