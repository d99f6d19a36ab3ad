"""How long a slider of explore.ipynb and localize.ipynb waits: median milliseconds from a control's new value to the new picture.

    python benchmarks/explore.py [RUN_FOLDER]

The browser's own part (a few kilobytes over a local socket) is measured by tests/test_jupyterlab.py, which leaves what it found in
build/jupyterlab/response.txt.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from geodtr_lib import explore
from geodtr_lib.study.trained import open_trained
from geodtr_lib.widgets import Explorer, Locator


def waits(control: Any, values: Iterable[Any]) -> str:
    found = []
    for value in values:
        began = time.perf_counter()
        control.value = value
        found.append(1000 * (time.perf_counter() - began))
    return f"{statistics.median(found):6.0f} ms (largest {max(found):.0f}, n = {len(found)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", nargs="?", default="", help="folder of a run; default: the run that ships with the library")
    run, second = explore.choose_pair(parser.parse_args().run_dir)
    print(f"{run.label}: {run.config.backbone}, {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    panel = Explorer(explore.find_runs(), run, None)
    panel.light.value = "night"  # the area's worlds are drawn once
    panel.light.value = ""
    changes: dict[str, Callable[[], str]] = {
        "another panorama": lambda: waits(panel.place, range(20, 40)),
        "turned": lambda: waits(panel.heading, range(-90, 100, 10)),
        "field of view": lambda: waits(panel.fov, range(350, 150, -20)),
        "descriptor": lambda: waits(panel.descriptor, [1, 2, 3, 4] * 3),
        "light": lambda: waits(panel.light, ["overcast", "night", "rain", "low_sun"]),
        "haze": lambda: waits(panel.haze, [400.0, 100.0, 50.0, 25.0]),
    }
    for name, measure in changes.items():
        print(f"  one run, {name:20s}{measure()}")
    if second is not None:
        panel.compared.value = second
        print(f"  two runs, {'another panorama':19s}{waits(panel.place, range(40, 60))}")
        print(f"  two runs, {'turned':19s}{waits(panel.heading, range(-90, 100, 10))}")
    locator = Locator([explore.Localizer(open_trained(run.folder), "helsinki")])
    print(f"  map, {'another panorama':24s}{waits(locator.query, range(20, 40))}")


if __name__ == "__main__":
    main()
