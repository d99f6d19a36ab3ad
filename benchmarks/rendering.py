"""Pairs per second of rendering the embedded cities: aerial tiles of 64 x 64 pixels, panoramas of 32 x 128, and the truth of both.

    python benchmarks/rendering.py [--repeat 3] [--places 4000] [--data city/midrise osm/monaco] [--json rendering.json]

Two figures per data set, medians of several repetitions: drawing the pairs of a world that is ready, and end to end, from the city's
style or the map's extract to the cache on disk (building the worlds included). Each data set runs in a process of its own, whose peak
memory is reported. Pairs per second are of wall clock; "ms of core" is the processor's time per pair, all cores together, which other
work on the machine lengthens less: N free cores draw about N / (ms of core) thousand pairs per second. "world s" is what the first world
and the preparation of its views took.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = ("city/midrise", "city/suburb", "city/highrise", "city/oldtown", "city/industrial", "osm/helsinki", "osm/monaco")


def drawing(name: str, area: str, split: str, n: int, repeat: int) -> dict[str, float]:
    """Pairs per second from a world that is ready and processor time per pair; seconds of the world and of preparing its views."""
    from geodtr_lib.data.embedded import sites
    from geodtr_lib.data.site_views import Rendering, SiteViews

    began = time.perf_counter()
    site = next(sites(name, area, split, n))
    world_seconds = time.perf_counter() - began
    began = time.perf_counter()
    view = SiteViews(site, Rendering())
    views_seconds = time.perf_counter() - began
    wall, processor = [], []
    for _ in range(repeat):
        began, busy = time.perf_counter(), time.process_time()
        pairs = len(view.draw()["ground"])
        wall.append(pairs / (time.perf_counter() - began))
        processor.append(1000 * (time.process_time() - busy) / pairs)
    return {"draw": statistics.median(wall), "draw_ms": statistics.median(processor), "world": world_seconds, "views": views_seconds}


def end_to_end(name: str, area: str, split: str, n: int, repeat: int) -> dict[str, float]:
    """Pairs per second of wall clock and of processor time, with an empty cache."""
    from geodtr_lib.data import open_dataset

    wall, processor = [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["GEODTR_CACHE"] = folder
            began, busy = time.perf_counter(), time.process_time()
            pairs = len(open_dataset(name, area=area, split=split, n=n, progress=False))
            wall.append(pairs / (time.perf_counter() - began))
            processor.append(1000 * (time.process_time() - busy) / pairs)
    return {"pairs": pairs, "wall": statistics.median(wall), "processor_ms": statistics.median(processor)}


def measure(chosen: argparse.Namespace) -> dict[str, object]:
    name, area = chosen.data[0].split("/")
    split, n = ("train", chosen.places) if chosen.split == "train" else ("test", chosen.test_places)
    ready = drawing(name, area, split, n, chosen.repeat)
    whole = end_to_end(name, area, split, n, chosen.repeat)
    return {
        "data": f"{name}/{area}",
        "split": split,
        "pairs": whole["pairs"],
        "draw_pairs_per_s": ready["draw"],
        "draw_processor_ms_per_pair": ready["draw_ms"],
        "end_to_end_pairs_per_s": whole["wall"],
        "end_to_end_processor_ms_per_pair": whole["processor_ms"],
        "world_s": ready["world"],
        "views_s": ready["views"],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, of which the median is told")
    parser.add_argument("--places", type=int, default=4000, help="of a training split")
    parser.add_argument("--test-places", type=int, default=500, help="of a test split")
    parser.add_argument("--data", nargs="+", default=DATA, metavar="NAME/AREA", help="data sets (default: all that are embedded)")
    parser.add_argument("--split", nargs="+", default=("train", "test"), choices=("train", "test"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # this process measures
    chosen = parser.parse_args()
    if chosen.one:
        chosen.split = chosen.split[0]
        print(json.dumps(measure(chosen)))
        return 0

    from geodtr_lib.machine import versions

    machine = versions()
    names = f"torch {machine['torch']}, numpy {machine['numpy']}; commit {machine['commit']}"
    print(f"{machine['machine']}; {names}; medians of {chosen.repeat}")
    columns = ("pairs/s", "ms of core", "pairs/s", "ms of core", "world s", "peak GB")
    print(f"{'':30} {'from a ready world':>21} {'end to end':>21}")
    print(f"{'data':16} {'split':6} {'pairs':>6} " + " ".join(f"{column:>10}" for column in columns))
    found = []
    for data in chosen.data:
        for split in chosen.split:
            command = [
                sys.executable, __file__, "--one", "--data", data, "--split", split, "--repeat", str(chosen.repeat),
                "--places", str(chosen.places), "--test-places", str(chosen.test_places),
            ]  # fmt: skip
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if ran.returncode:
                return ran.returncode
            row = json.loads(ran.stdout.splitlines()[-1])
            print(
                f"{data:16} {split:6} {row['pairs']:6,} {row['draw_pairs_per_s']:10,.0f} {row['draw_processor_ms_per_pair']:10.2f}"
                f" {row['end_to_end_pairs_per_s']:10,.0f} {row['end_to_end_processor_ms_per_pair']:10.2f}"
                f" {row['world_s'] + row['views_s']:10.1f} {row['peak_gb']:10.2f}",
                flush=True,
            )
            named = f"{data} {split}, {row['pairs']:,} pairs"
            found.append({"figure": f"{named}: drawn, pairs/s", "value": row["draw_pairs_per_s"], "bound": ">= 1000"})
            found.append({"figure": f"{named}: with worlds and writing, pairs/s", "value": row["end_to_end_pairs_per_s"]})
            found.append({"figure": f"{named}: peak memory, GB", "value": row["peak_gb"]})
    if chosen.json:
        from measuring import store

        store("rendering", {"repeat": chosen.repeat}, found, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
